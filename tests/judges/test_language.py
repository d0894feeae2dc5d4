"""Which answers are in the wrong language, and all those of which the verifier says nothing."""

import pytest

from judges import language
from schemas.rows import Verdict, VerdictStatus
from tests.samples import a_prompt, a_rollout

TEXTS = {
    "en": "The capital of France is Paris. It lies on the river Seine and has been the seat of government for "
    "centuries, with a short break in the middle of the last one.",
    "fr": "La capitale de la France est Paris. Elle se trouve sur la Seine et abrite le gouvernement depuis des "
    "siècles, avec une courte interruption au milieu du siècle dernier.",
    "de": "Die Hauptstadt von Frankreich ist Paris. Sie liegt an der Seine und ist seit Jahrhunderten der Sitz der "
    "Regierung, mit einer kurzen Unterbrechung in der Mitte des letzten.",
    "es": "La capital de Francia es París. Se encuentra a orillas del Sena y ha sido la sede del gobierno durante "
    "siglos, con una breve interrupción a mediados del siglo pasado.",
    "ru": "Столица Франции - Париж. Он стоит на реке Сене и уже много веков остаётся местом, где заседает "
    "правительство этой страны.",
    "zh": "法国的首都是巴黎。它位于塞纳河畔。几个世纪以来一直是政府所在地。"
    "只是在上个世纪中叶有过短暂的中断。今天那里住着两百多万人口。",
    "ja": "フランスの首都はパリです。セーヌ川のほとりにあり、何世紀にもわたって政府が置かれてきました。"
    "前世紀の半ばに短い中断がありました。",
    "hi": "फ़्रांस की राजधानी पेरिस है। यह सीन नदी के किनारे बसा है और सदियों से सरकार का केंद्र रहा है, बीच में थोड़े समय को छोड़कर।",
    "nb": "Hovedstaden i Frankrike er Paris. Byen ligger ved elven Seinen og har vært sete for regjeringen i flere "
    "hundre år, med et kort avbrudd midt i forrige århundre.",
}
CODE = """def add(a, b):
    return a + b

for i in range(10):
    print(add(i, i ** 2), [x * 2 for x in (1, 2, 3)], {"k": i}, end="")
    if i % 3 == 0 and (i != 6 or i > 8): data[i] += f(x[i][j], y) - 0.5 * z**2 + arr[-1]
"""


def checked(wanted: str | None, text: str | None) -> Verdict:
    prompt, rollout = a_prompt(language=wanted), a_rollout(text=text)
    verdict = language.check(prompt, rollout)
    if not language.applies(prompt, rollout):
        assert verdict.status is VerdictStatus.ABSTAINED
    return verdict


@pytest.mark.parametrize("wanted", TEXTS)
def test_check_every_language_passes_as_itself_and_fails_as_another(wanted: str) -> None:
    for written, text in TEXTS.items():
        verdict = checked(wanted, text)
        assert (verdict.status, verdict.score) == (VerdictStatus.OK, float(wanted == written)), (wanted, written)


def test_check_region_and_letter_case_of_the_code_do_not_matter() -> None:
    assert checked("FR-ca", TEXTS["fr"]).score == 1.0
    assert checked("zh_TW", TEXTS["zh"]).score == 1.0


def test_check_norwegian_by_its_common_code_passes() -> None:
    assert checked("no", TEXTS["nb"]).score == 1.0


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        (None, TEXTS["fr"]),
        ("", TEXTS["fr"]),
        ("en", ""),
        ("en", None),
        ("en", "Paris, bien sûr."),
        ("en", CODE),
        ("en", "Voilà:\n```python\n# le code suivant calcule la somme des valeurs de la liste\n" + CODE * 3 + "```"),
        ("en", "```\n" + TEXTS["fr"]),
        ("en", "| 1 | 2 | 3 | 4 |\n" * 40),
        ("en", "f(x, y) = g(a) * 2 + 3 - 1 / 4 == (5), " * 60),
        ("en", "Anna, Peter, Daniel, Clara, Victor, Emma, Robert, Simon, Laura, Oscar, " * 3),
        ("xx", TEXTS["fr"]),
    ],
)
def test_check_nothing_sure_to_say_abstains(wanted: str | None, text: str | None) -> None:
    verdict = checked(wanted, text)
    assert (verdict.status, verdict.score) == (VerdictStatus.ABSTAINED, None)


def test_check_prose_around_code_is_what_is_read() -> None:
    assert checked("en", TEXTS["fr"] + "\n```python\n" + CODE + "```").score == 0.0


def test_check_answer_that_quotes_another_language_at_length_does_not_fail() -> None:
    quoting = f"{TEXTS['en']}\n> {TEXTS['fr']}\n{TEXTS['en']}"
    assert checked("en", quoting).score == 1.0
    assert checked("fr", quoting).score is None
    assert checked("de", quoting).score == 0.0


def test_applies_code_without_a_fence_does_not() -> None:
    prompt = a_prompt(language="en")
    plain = "def day_name(date):\n    day = date.day()\n" + "    if day is sunday:\n        return sunday\n" * 9
    for text, expected in ((CODE * 3, False), (plain, False), (TEXTS["hi"], True), (TEXTS["zh"], True)):
        assert language.applies(prompt, a_rollout(text=text)) is expected


def test_verifier_of_language_can_only_veto() -> None:
    assert not language.proves
