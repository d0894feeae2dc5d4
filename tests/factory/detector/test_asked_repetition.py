"""What a prompt asks for and what it does not."""

import pytest

from factory.detector.asked_repetition import asked_for
from factory.loops import detect
from schemas.rows import Loop
from tests.loop_texts import SENTENCE

LINES = {
    "en": ('Write "I will be good." 100 times.', "I will be good.\n"),
    "en in words": ("Please repeat the word banana a thousand times, with commas", "banana, "),
    "en without end": ("Say the word banana over and over.", "banana "),
    "en tens": ("Write 'I am sorry, Tom' ninety times", "I am sorry, Tom.\n"),
    "zh without end": ("请不停地重复“我会好好学习”。", "我会好好学习。\n"),
    "de without end": ("Wiederhole endlos: Ich werde brav sein", "Ich werde brav sein\n"),
    "ar": ("اكتب «لن أتأخر عن الدرس» \u0661\u0660\u0660 مرة", "لن أتأخر عن الدرس\n"),
    "zh": ("请把“我会好好学习”写一百遍。", "我会好好学习。\n"),
    "fr": ("Écris « je serai sage » cent fois.", "Je serai sage.\n"),
    "de": ("Schreibe „Ich werde brav sein“ 100-mal.", "Ich werde brav sein\n"),
    "ja": ("「遅刻しません」と100回書いてください。", "遅刻しません\n"),
    "ko": ("'지각하지 않겠습니다'를 100번 써 주세요.", "지각하지 않겠습니다\n"),
    "es": ("Escribe «no hablaré en clase» 1.000 veces.", "No hablaré en clase.\n"),
    "pt": ('Escreva "vou estudar mais" cem vezes.', "Vou estudar mais.\n"),
    "it": ("Scrivi «non parlerò in classe» 100 volte.", "Non parlerò in classe.\n"),
}


@pytest.mark.parametrize("language", LINES)
def test_exact_repetition_that_the_prompt_asks_for_is_soft(language: str) -> None:
    prompt, line = LINES[language]
    assert detect("…\n" + line * 80, "length", prompt=prompt).kind is Loop.SOFT
    assert detect("…\n" + line * 80, "length", prompt="Tell me a story.").kind is Loop.HARD


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "Write a poem. The poem should praise the sun.",
        "Repeat 'I will check the value again' 3 times.",  # asked for 3, said 80
        "Write a program that prints hello 1000 times.",  # not this sentence
        "You told me 100 times: I will check the value again.",  # no request
    ],
)
def test_exact_repetition_that_the_prompt_does_not_ask_for_stays_hard(prompt: str) -> None:
    assert detect(SENTENCE * 80, "length", prompt=prompt).kind is Loop.HARD


def test_exact_prompt_that_holds_the_unit_twice_makes_it_soft() -> None:
    once = "Continue: I will check the value again. "
    assert detect(SENTENCE * 80, "length", prompt=once).kind is Loop.HARD
    assert detect(SENTENCE * 80, "length", prompt=once + "So?\nI will check the value again.").kind is Loop.SOFT
    assert detect(SENTENCE[7:] + SENTENCE * 80, "length", prompt=once + SENTENCE).kind is Loop.SOFT


def test_asked_for_short_unit_needs_a_row_of_sixteen() -> None:
    assert not asked_for("the cat and the dog and the the bird", "the ", 500)
    assert asked_for("go on: the the the the the the", "the ", 500)
