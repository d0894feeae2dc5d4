"""IFEval's 25 kinds: what keeps each, what just misses it, and what their arguments may be."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges.instructions import layout, wording
from judges.instructions.kinds import KINDS, holds, objection_to
from schemas.rows import Constraint
from tests.samples import a_prompt

SHARED = Path(os.environ.get("PREFACTORY_SHARED", Path(__file__).parents[4] / "shared"))
IFEVAL = {**wording.KINDS, **layout.KINDS}
ENGLISH = (
    "the river rises in the hills, runs past three old mills and a wooden bridge, and ends in a wide grey lake where the "
    "boats of the village lie in the evening"
)
FRENCH = (
    "la rivière naît dans les collines, passe devant trois vieux moulins et un pont de bois, et finit dans un grand lac "
    "gris où les bateaux du village dorment le soir"
)

# id, arguments, texts that keep it, texts that miss it
CASES: tuple[tuple[str, dict[str, object], tuple[str, ...], tuple[str, ...]], ...] = (
    ("keywords:existence", {"keywords": ["moss", "boots"]}, ("Mossy Boots.", "boots and MOSS"), ("moss", "boot moss")),
    (
        "keywords:frequency",
        {"keyword": "lift", "frequency": 2, "relation": "at least"},
        ("Lift the lift.", "lift lift lift"),
        ("One lift.", "left left"),
    ),
    (
        "keywords:frequency",
        {"keyword": "lift", "frequency": 2, "relation": "less than"},
        ("One lift.", "none"),
        ("lift, lift", "Lift shoplifters"),
    ),
    (
        "keywords:forbidden_words",
        {"forbidden_words": ["cold", "ice-cream", "c++"]},
        ("The coldest scolding.", "cream of ice", "c+"),
        ("So Cold!", "An ice-cream.", "I write C++"),
    ),
    (
        "keywords:letter_frequency",
        {"letter": "z", "let_frequency": 2, "let_relation": "at least"},
        ("Zz", "puzzle"),
        ("z", "size"),
    ),
    (
        "keywords:letter_frequency",
        {"letter": "!", "let_frequency": 2.0, "let_relation": "less than"},
        ("Hi!", "Hi"),
        ("Hi!!", "!a!b!"),
    ),
    ("language:response_language", {"language": "fr"}, (FRENCH,), (ENGLISH,)),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        ("ONE and TWO.", "A BIG one"),
        ("One TWO", "oNE tWO"),
    ),
    ("change_case:english_capital", {}, (ENGLISH.upper(), "YES."), (ENGLISH.upper() + "s", FRENCH.upper(), "123")),
    ("change_case:english_lowercase", {}, (ENGLISH, "yes."), (ENGLISH + " A", FRENCH, "123")),
    ("punctuation:no_comma", {}, ("One; two.", "1.000"), ("One, two.", "一，二", "واحد، اثنان")),
    (
        "startend:end_checker",
        {"end_phrase": "See you!"},
        ("Well. See you!", '"Well. see YOU!"\n'),
        ("See you! Bye.", "See you"),
    ),
    ("startend:quotation", {}, ('"All of it."', ' "a"\n'), ('"Half" of it.', '"', "'All'")),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "at least"},
        ("One. Two.", "Dr. Ho went. He did!"),
        ("One.", "Dr. Ho went."),
    ),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "less than"},
        ("It costs 3.50 in all.",),
        ("One. Two.",),
    ),
    (
        "length_constraints:number_words",
        {"num_words": 3, "relation": "at least"},
        ("one two three", "one, two - three!"),
        ("one two", "one - two"),
    ),
    (
        "length_constraints:number_words",
        {"num_words": 3, "relation": "less than"},
        ("one two",),
        ("one two three",),
    ),
    (
        "length_constraints:number_paragraphs",
        {"num_paragraphs": 2},
        ("a\n***\nb", "*** a *** b ***"),
        ("a", "a *** b *** c", "a *** *** b"),
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "weekend"},
        ("a\n\nWeekend is near.", 'a\n\n"weekend", she said'),
        ("a\n\nThe weekend", "Weekend\n\nb", "a\n\nb\n\nweekend", "a\n\nweekends"),
    ),
    (
        "detectable_content:number_placeholders",
        {"num_placeholders": 2},
        ("[name] at [address]",),
        ("[name]", "[name at [address"),
    ),
    (
        "detectable_content:postscript",
        {"postscript_marker": "P.S."},
        ("Bye.\nP.S. one more", "bye p. s. more"),
        ("Bye. PS: more", "ps."),
    ),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, ("P.P.S more", "P. P. S. more"), ("P.S. more",)),
    (
        "detectable_format:number_bullet_lists",
        {"num_bullets": 2},
        ("* a\n* b", "Here:\n- a\n  - b"),
        ("* a", "* a\n* b\n- c", "**bold**\n* a"),
    ),
    (
        "detectable_format:constrained_response",
        {},
        ("My answer is no.", "Well: My answer is maybe."),
        ("No.", "my answer"),
    ),
    (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 2},
        ("*a* and *b c*", "**a** and *b*"),
        ("*a* b", "**a** b", "* a\n* b", "** ** *a*"),
    ),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        ("Section 1 a Section 2 b", "Section1\nSection2"),
        ("Section 1 a", "Section one Section two"),
    ),
    (
        "detectable_format:json_format",
        {},
        ('{"a": [1]}', '```json\n{"a": 1}\n```', "[]"),
        ('{"a": 1', 'Sure: {"a": 1}', "{'a': 1}"),
    ),
    ("detectable_format:title", {}, ("<<Rain>>\nIt fell.", "a << b >>"), ("<Rain>", "<< >>", "<<Rain\n>>")),
    (
        "combination:two_responses",
        {},
        ("a\n******\nb", "****** a ****** b"),
        ("a", "a ****** a", "a ****** b ****** c", "a ****** "),
    ),
    (
        "combination:repeat_prompt",
        {"prompt_to_repeat": "What grows here?"},
        ("What grows here? Moss.", "\nwhat grows HERE?"),
        ("Moss. What grows here?", "What grows there?"),
    ),
)


def kept(kind: str, arguments: dict[str, object], text: str) -> bool | None:
    return holds(Constraint(kind, json.dumps(arguments)), a_prompt(), text)


@pytest.mark.parametrize(("kind", "arguments", "text"), [(k, a, text) for k, a, keep, _ in CASES for text in keep])
def test_holds_text_that_keeps_it(kind: str, arguments: dict[str, object], text: str) -> None:
    assert kept(kind, arguments, text) is True


@pytest.mark.parametrize(("kind", "arguments", "text"), [(k, a, text) for k, a, _, miss in CASES for text in miss])
def test_holds_text_that_misses_it(kind: str, arguments: dict[str, object], text: str) -> None:
    assert kept(kind, arguments, text) is False


def test_every_kind_of_ifeval_is_there_and_has_its_case() -> None:
    assert len(IFEVAL) == 25
    assert {kind for kind, *_ in CASES} == set(IFEVAL)
    assert set(IFEVAL) <= set(KINDS)


@pytest.mark.parametrize(("kind", "arguments"), [(kind, arguments) for kind, arguments, *_ in CASES])
def test_holds_nothing_of_an_empty_text(kind: str, arguments: dict[str, object]) -> None:
    assert kept(kind, arguments, "") is False
    assert kept(kind, arguments, " \n\t") is False


@given(text=st.text(max_size=300), case=st.sampled_from(CASES))
def test_holds_any_text_gets_an_answer(text: str, case: tuple[str, dict[str, object], object, object]) -> None:
    assert kept(case[0], case[1], text) in (True, False, None)


def test_holds_language_of_three_words_cannot_be_told() -> None:
    assert kept("language:response_language", {"language": "fr"}, "Je ne sais") is None


def test_holds_sentences_are_those_of_the_prompts_language() -> None:
    three = Constraint("length_constraints:number_sentences", '{"num_sentences":3,"relation":"at least"}')
    assert holds(three, a_prompt(language="zh"), "你好。我很好！你呢？") is True
    assert holds(three, a_prompt(language="zh"), "你好。我很好！") is False


@pytest.mark.parametrize(
    ("kind", "arguments", "said"),
    [
        ("punctuation:no_coma", {}, "id: got 'punctuation:no_coma'; write 'punctuation:no_comma'"),
        ("length_constraints:number_words", {"num_words": 3}, "kwargs.relation: Field required"),
        ("length_constraints:number_words", {"num_words": 3, "relation": "over"}, "kwargs.relation: Input should be"),
        ("length_constraints:number_words", {"num_words": 2.5, "relation": "at least"}, "kwargs.num_words: Input"),
        ("length_constraints:number_words", {"num_words": -1, "relation": "at least"}, "kwargs.num_words: Input"),
        ("punctuation:no_comma", {"n": 1}, "kwargs.n: Extra inputs are not permitted"),
    ],
)
def test_objection_to_names_the_field_and_the_mend(kind: str, arguments: dict[str, object], said: str) -> None:
    assert (objection_to(Constraint(kind, json.dumps(arguments))) or "").startswith(said)


def test_objection_to_nothing_of_what_ifeval_holds() -> None:
    path = SHARED / "prompts" / "ifeval.jsonl"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    asked = [pair for row in rows for pair in zip(row["instruction_id_list"], row["kwargs"], strict=True)]
    assert len(asked) > 800
    for kind, arguments in asked:
        assert objection_to(Constraint(kind, json.dumps(arguments))) is None
