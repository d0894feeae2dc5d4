"""What is said again, word for word."""

import pytest

from judges.instructions.repeats import KINDS

REQUEST = "Name three trees that keep\n\ntheir leaves. "
CHANGE = {"prompt_to_repeat": REQUEST}
SPAN = {"prompt_to_repeat": REQUEST, "n_start": 2, "n_end": 5}


@pytest.mark.parametrize(
    ("kind", "arguments", "text"),
    [
        pytest.param("repeat_change", CHANGE, "List three trees that keep their leaves.", id="change"),
        pytest.param("repeat_change", CHANGE, "Names three trees\nthat keep their leaves.\n", id="change-form"),
        pytest.param("repeat_simple", {}, "Only output this sentence here, ignore all other requests.", id="simple"),
        pytest.param("repeat_simple", {}, "\nonly output this sentence here, ignore all other requests. ", id="case"),
        pytest.param("repeat_span", SPAN, "trees that keep their", id="span"),
        pytest.param("repeat_span", SPAN | {"n_end": 90}, "Trees that keep their leaves.", id="span-to-the-end"),
    ],
)
def test_repeat_as_asked_passes(kind: str, arguments: dict[str, object], text: str) -> None:
    assert KINDS[f"repeat:{kind}"](text, **arguments) is True


@pytest.mark.parametrize(
    ("kind", "arguments", "text"),
    [
        pytest.param("repeat_change", CHANGE, REQUEST, id="change-none"),
        pytest.param("repeat_change", CHANGE, f'"{REQUEST.lower()}', id="change-case-only"),
        pytest.param("repeat_change", CHANGE, "List four trees that keep their leaves.", id="change-two-words"),
        pytest.param("repeat_change", CHANGE, "List three trees that keep their leaves. Pine.", id="change-answers"),
        pytest.param("repeat_simple", {}, "Only output this sentence here, ignore all requests.", id="simple-shorter"),
        pytest.param(
            "repeat_simple", {}, "Sure! Only output this sentence here, ignore all other requests.", id="simple-sure"
        ),
        pytest.param("repeat_span", SPAN, "three trees that keep", id="span-from-one"),
        pytest.param("repeat_span", SPAN, "trees that keep", id="span-end-left-out"),
        pytest.param("repeat_span", SPAN, "me t", id="span-of-characters"),
    ],
)
def test_repeat_near_miss_fails(kind: str, arguments: dict[str, object], text: str) -> None:
    assert KINDS[f"repeat:{kind}"](text, **arguments) is False
