"""Answers as models give them: those that must never be called a loop, and those that must.

A case is a text and what is right for it. `CLEAN` is tried as finished and as cut off by the cap: what is honest stays
honest wherever it is cut.
"""

import base64
import json
import os
import random
from pathlib import Path

import pytest

from factory.loops import detect
from schemas.rows import Loop, LoopEvidence, LoopRule
from tests.loop_texts import CLOSING, FACT, PROSE, SENTENCE, numbered

WORDS = PROSE.split(" ")
RNG = random.Random(11)
NAMES = ("Ana", "Bo", "Chloé", "Dmitri", "Esi", "Farid", "Gül", "Hana", "Ivo", "Jun")


def verses(refrain: str, lines: int = 8) -> str:
    return refrain.join(" ".join(WORDS[at : at + lines]) for at in range(0, 20 * lines, lines))


def pick(letters: str, size: int) -> str:
    return "".join(random.Random(size).choices(letters, k=size))


CLEAN = {
    "nothing": "",
    "a word": "No.",
    "prose": PROSE,
    # tables
    "multiplication table": "".join(f"{a} x {b} = {a * b}\n" for a in range(1, 13) for b in range(1, 13)),
    "markdown table": "| name | size |\n|---|---|\n" + "".join(f"| {w} | 5 |\n" for w in WORDS[:90]),
    "markdown table with an empty column": "| name | done | note |\n|---|---|---|\n"
    + "".join(f"| {w} |      |      |\n" for w in WORDS[:90]),
    "table of squares": "".join(f"| {n} | {n * n} | {n**3} |\n" for n in range(1, 80)),
    "timetable": "".join(f"{h:02}:{m:02}  Line {h % 7 + 1} to {WORDS[h + m]}\n" for h in range(6, 23) for m in (0, 20, 40)),
    "weather log": "".join(f"2024-05-{d:02} {t % 9 + 11} °C, wind {t % 5} m/s\n" for d in range(1, 31) for t in (d, 3 * d)),
    "csv of sensors": "".join(f"{n},{WORDS[n]},{n * 7 % 100},ok\n" for n in range(150)),
    "calendar": "\n".join(
        f"{WORDS[month].title()}\nMo Tu We Th Fr Sa Su\n" + "".join(
            f"{day:2}{chr(10) if (day + month * 3) % 7 == 0 else ' '}" for day in range(1, 29 + month % 4)
        )
        for month in range(12)
    ),
    # verse
    "refrain": verses("\nOh the river runs home, oh the river runs.\n"),
    "refrain of two lines": verses("\nStay, little lantern, stay,\nthe dark is not for long.\n", 14),
    "villanelle": "\n".join(
        f"{' '.join(WORDS[n * 6 : n * 6 + 6])}\n{('The tide will turn.', 'The lamp is lit.')[n % 2]}" for n in range(24)
    ),
    "laughter": PROSE[:800] + " ha" * 12 + PROSE[800:1600],
    "chorus of la": PROSE[:600] + "\nLa la la la la la la la\n" * 3 + PROSE[600:1200],
    "bottles": "".join(f"{n} bottles on the wall. Take one down, {n - 1} bottles.\n" for n in range(99, 0, -1)),
    "countdown": "".join(f"{n}... " for n in range(400, 0, -1)),
    # code
    "code": "".join(f"    if name == {word!r}:\n        return {word.upper()}\n" for word in WORDS[:80]),
    "unrolled tests": "".join(
        f"def test_{w}():\n    assert convert({w!r}) == {w[::-1]!r}\n\n" for w in WORDS[:40]
    ),
    "unrolled asserts": "".join(f"    self.assertEqual(multiply({a}, {b}), {a * b})\n" for a in range(9) for b in range(9)),
    "imports": "".join(f"from {WORDS[n]}.{WORDS[n + 1]} import {WORDS[n + 2].title()}\n" for n in range(60)),
    "getters": "".join(
        f"    public String get{w.title()}() {{\n        return this.{w};\n    }}\n\n" for w in WORDS[:40]
    ),
    "html list": "<ul>\n" + "".join(f'  <li class="item"><a href="/{w}">{w}</a></li>\n' for w in WORDS[:60]) + "</ul>",
    "json records": json.dumps([{"id": n, "name": WORDS[n], "tags": ["a", "b"]} for n in range(60)], indent=2),
    "sql inserts": "".join(f"INSERT INTO people VALUES ({n}, '{WORDS[n]}', {n * 3});\n" for n in range(70)),
    "hex dump": "".join(f"{at:08x}  {RNG.randbytes(16).hex(' ')}\n" for at in range(0, 1024, 16)),
    "assembly": "".join(f"    mov eax, [rbp-{4 * n}]\n    add eax, {n * n}\n    mov [rbp-{4 * n}], eax\n" for n in range(40)),
    "regular expression": "|".join(f"(?:{w}[a-z]*)" for w in WORDS[:120]),
    "svg": "".join(f'<circle cx="{RNG.randrange(900)}" cy="{RNG.randrange(900)}" r="4"/>\n' for _ in range(80)),
    # numbers and marks
    "identity matrix": "\n".join(" ".join("01"[a == b] for b in range(20)) for a in range(20)),
    "large identity matrix": "\n".join(" ".join("01"[a == b] for b in range(45)) for a in range(45)),
    "latex matrix": r"\begin{pmatrix}"
    + r"\\ ".join(" & ".join(str(RNG.randrange(10)) for _ in range(12)) for _ in range(30))
    + r"\end{pmatrix}",
    "numbers to a thousand": ", ".join(map(str, range(1, 1000))),
    "digits": pick("0123456789", 3000),
    "separator": PROSE[:800] + "-" * 80,
    "separators": "\n\n---\n\n".join(PROSE[at : at + 200] for at in range(0, 3000, 200)),
    "dot leaders": "".join(f"{w} {'.' * (60 - len(w))} {n}\n" for n, w in enumerate(WORDS[:50])),
    "tic-tac-toe boards": "\n\n".join(
        "\n-+-+-\n".join("|".join(RNG.choice("XO ") for _ in range(3)) for _ in range(3)) for _ in range(30)
    ),
    "base64": base64.b64encode(random.Random(1).randbytes(3000)).decode(),
    "dna": pick("ACGT", 3000),
    # lists
    "list": "".join(f"{n}. {w} {w[::-1]}\n" for n, w in enumerate(WORDS[:150])),
    "list with one beginning": "".join(f"- You can also try {WORDS[n]}, which is {WORDS[n + 200]}.\n" for n in range(80)),
    "questions and answers": "".join(
        f"Q: What is {WORDS[n]}?\nA: It is {' '.join(WORDS[n : n + 6])}.\n\n" for n in range(40)
    ),
    "dialogue": "".join(f'"{WORDS[n]} {WORDS[n + 9]}," said {NAMES[n % 10]}.\n' for n in range(90)),
    "chess": " ".join(f"{n}. {RNG.choice('NBRQK')}{RNG.choice('abcdefgh')}{RNG.randrange(1, 9)}" for n in range(1, 300)),
    "truth table": "".join(f"{a:d} {b:d} {c:d} | {(a and b) or c:d}\n" for a in (0, 1) for b in (0, 1) for c in (0, 1)),
    "quoted line, four times": PROSE[:700] + f'\n> "{SENTENCE}"\n' * 4 + PROSE[700:1500],
    # scripts
    "chinese": pick("".join(map(chr, range(0x4E00, 0x5000))), 1500),
    "chinese list": "".join(f"{n}. {pick(''.join(map(chr, range(0x4E00, 0x5000))), n + 9)}。\n" for n in range(1, 60)),
    "japanese dialogue": "".join(
        f"「{pick('あいうえおかきくけこさしすせそたちつてと', n + 5)}」と言いました。\n" for n in range(50)
    ),
    "korean": pick("가나다라마바사아자차카타파하 ", 1500),
    "arabic": pick("ابتثجحخدذرزسش ", 2500),
    "hebrew verses": "\n".join(pick("אבגדהוזחטיכלמנסעפצקרשת ", n + 30) for n in range(40)),
    "emoji": pick("😀😁😂🤣😃😄😅😆😉😊😋😎", 700),
    "emoji list": "".join(f"{pick('😀😁😂🤣😃', n + 3)} {w}\n" for n, w in enumerate(WORDS[:40])),
    "mixed line ends": "".join(w + ("\n", "\r\n", "\r")[n % 3] for n, w in enumerate(WORDS)),
}  # fmt: skip


@pytest.mark.parametrize("name", CLEAN)
@pytest.mark.parametrize("finish_reason", ["stop", "length"])
def test_detect_honest_text_is_clean(name: str, finish_reason: str) -> None:
    assert detect(CLEAN[name], finish_reason) == LoopEvidence()


DRIFT = "".join(
    f"So I will try the {('first', 'second', 'third', 'other')[n % 4]} substitution, look at the sum, and see whether it "
    f"{('converges', 'diverges')[n % 2]} nicely before I go on. Hmm, maybe that was not the right way to do it after all, "
    f"so let me think about it {('again', 'once more', 'anew')[n % 3]} with {NAMES[n % 10]}. "
    for n in range(60)
)
HARD = {  # at the cap: text, rule, prompt
    "one word": (PROSE[:900] + " the" * 600, LoopRule.EXACT),
    "a sentence": (PROSE[:900] + SENTENCE * 30, LoopRule.EXACT),
    "a long paragraph, five times": (PROSE[:500] + PROSE[1000:1700] * 5, LoopRule.EXACT),
    "line ends that are mixed but the same": (PROSE[:300] + "one line\r\nanother\rthird\n" * 30, LoopRule.EXACT),
    "two loops in a row": ("Once more! " * 90 + SENTENCE * 30, LoopRule.EXACT),
    "blanks": (PROSE[:300] + " " * 3000, LoopRule.EXACT),
    "all white space": (" \n\t" * 900, LoopRule.EXACT),
    "emoji": (PROSE[:300] + "😀" * 700, LoopRule.EXACT),
    "arabic": ("مقدمة قصيرة. " + "دعني أتحقق من القيمة مرة أخرى. " * 30, LoopRule.EXACT),
    "hebrew": ("פתיחה. " + "אני אבדוק את זה שוב. " * 30, LoopRule.EXACT),
    "chinese": ("先看条件。" + "让我再检查一遍这个问题的条件。" * 30, LoopRule.EXACT),
    "a function": ("def f(x):\n    return x + 1\n\n\n" * 40, LoopRule.EXACT),
    "a table row": ("| a | b |\n|---|---|\n" + "| 1 | none |\n" * 90, LoopRule.EXACT),
    "base64 of nothing": ("data:image/png;base64,iVBOR" + "A" * 1500, LoopRule.EXACT),
    "cut in the middle of a character": ("好" + "再来一次，" * 50 + "再\ufffd", LoopRule.EXACT),
    "numbered facts": (numbered(1, 40, FACT), LoopRule.TEMPLATE),
    "numbered steps with the number twice": (
        "".join(f"Step {n}: as in step {n}, check whether it is prime and go on.\n" for n in range(70)),
        LoopRule.TEMPLATE,
    ),
    "the case changes": (
        "".join(
            (FACT.upper(), FACT, FACT.title())[n * n % 7 % 3] + "\n" * (1 + n % 2) for n in RNG.sample(range(90), 31)
        )
        + FACT[:40],
        LoopRule.TEMPLATE,
    ),
    "a drifting paragraph": (PROSE[:900] + DRIFT, LoopRule.NEAR_DUPLICATE),
}


@pytest.mark.parametrize("name", HARD)
def test_detect_loop_until_the_cap_is_hard(name: str) -> None:
    text, rule = HARD[name]
    evidence = detect(text, "length")
    assert (evidence.kind, evidence.rule) == (Loop.HARD, rule)


@pytest.mark.parametrize("name", HARD)
def test_detect_loop_that_ended_by_itself_is_never_hard(name: str) -> None:
    assert detect(HARD[name][0], "stop").kind is not Loop.HARD


SOFT = {
    "facts that end": (numbered(3, 20, FACT) + CLOSING, "stop", ""),
    "a loop while thinking that ends": ("<think>" + SENTENCE * 100 + "</think>The value is 7.", "stop", ""),
    "a loop that was left before the cap": (SENTENCE * 60 + PROSE[:1200], "length", ""),
    "numbered facts that were left before the cap": (numbered(1, 20, FACT) + PROSE[:1200], "length", ""),
    "a hundred lines, as asked": ("I will be good.\n" * 100, "stop", 'Write "I will be good." 100 times.'),
    "a hundred lines, as asked, at the cap": ("I will be good.\n" * 80, "length", 'Write "I will be good." 100 times.'),
    "a line that the prompt holds twice": (SENTENCE * 50, "length", f"Go on with this: {SENTENCE * 2}"),
    "a song that the prompt holds": ("Row, row, row your boat.\n" * 40, "length", "Row, row, row your boat.\n" * 3),
    "numbered lines, as asked": (
        "".join(f"{n}. I must not talk in class.\n" for n in range(1, 91)),
        "length",
        "Write 'I must not talk in class.' 100 times.",
    ),
}


@pytest.mark.parametrize("name", SOFT)
def test_detect_loop_that_ends_or_is_asked_for_is_soft(name: str) -> None:
    text, finish_reason, prompt = SOFT[name]
    assert detect(text, finish_reason, prompt=prompt).kind is Loop.SOFT


def shared_cases() -> list[dict[str, str]]:
    shared = Path(os.environ.get("PREFACTORY_SHARED") or Path(__file__).parents[3] / "shared")
    path = shared / "loops" / "cases.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def test_detect_shared_cases_are_as_expected() -> None:
    cases = shared_cases()
    if not cases:
        pytest.skip("the shared cases are not here: set PREFACTORY_SHARED to the folder that holds loops/cases.jsonl")
    found = {case["id"]: detect(case["text"], case["finish_reason"], prompt=case.get("prompt", "")) for case in cases}
    wrong = {case["id"]: found[case["id"]] for case in cases if found[case["id"]].kind not in case["expected"]}
    assert not wrong
