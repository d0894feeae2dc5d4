"""Bullets, stairs, one word a line, sections with a thesis."""

import pytest

from judges.instructions.format_lines import KINDS

MARK = {"sep": "!?!?"}
SECTIONS = "# Trees\n\n## Oak\n<i>Oaks last.</i> They do.\n\n## Elm\n\n<em>Elms fall.</em>\nThey did."


@pytest.mark.parametrize(
    ("kind", "arguments", "text"),
    [
        pytest.param("list", MARK, "Trees:\n!?!? oak\n!?!?elm\n", id="list"),
        pytest.param("list", {"sep": "-"}, "- oak\n  - **elm**", id="list-dash"),
        pytest.param("sub-bullets", {}, "* oak\n  - old\n* elm\n  - ill\n  - rare", id="sub"),
        pytest.param("sub-bullets", {}, "Some **trees**:\n\n* *oak*\n\n- old\n\nThat is all.", id="sub-one"),
        pytest.param("no_bullets_bullets", {}, "Oaks last. Elms fall.\n\n* oak\n\n* elm\n", id="sentences"),
        pytest.param("no_bullets_bullets", {}, "Oaks last.\n**Elms fall.**\n* oak\n* elm\nBye.", id="sentences-lines"),
        pytest.param("newline", {}, "Oaks\n\nlast,\n  well-known!\n", id="words"),
        pytest.param("newline", {}, "Oaks\n—\nlast", id="words-dash"),
        pytest.param("line_indent", {}, "a\n b\n\n   c", id="stairs"),
        pytest.param("line_indent", {}, "  a\n\tb b\n\t\tc", id="stairs-tabs"),
        pytest.param("thesis", {}, SECTIONS, id="thesis-headings"),
        pytest.param("thesis", {}, "<p><i>Oaks last.</i> They do.</p>", id="thesis-alone"),
        pytest.param("thesis", {}, "Oak trees\n<i>Oaks last.</i> They do.\n\n**Elm**\n<i>So.</i> Yes.", id="plain"),
    ],
)
def test_lines_as_asked_pass(kind: str, arguments: dict[str, object], text: str) -> None:
    assert KINDS[f"format:{kind}"](text, **arguments) is True


@pytest.mark.parametrize(
    ("kind", "arguments", "text"),
    [
        pytest.param("list", MARK, "!?!? oak", id="list-of-one"),
        pytest.param("list", MARK, "Is it an oak!?!? Or an elm!?!? Who knows.", id="list-in-the-text"),
        pytest.param("list", MARK, "!?!? oak\n!?!? elm\n- ash", id="list-with-bullet"),
        pytest.param("list", {"sep": "-"}, "---\n- oak", id="list-rule"),
        pytest.param("sub-bullets", {}, "* oak\n  - old\n* elm", id="sub-but-last"),
        pytest.param("sub-bullets", {}, "* oak\n* elm\n  - ill", id="sub-but-first"),
        pytest.param("sub-bullets", {}, "- oak\n  - **old**", id="sub-alone"),
        pytest.param("no_bullets_bullets", {}, "Oaks last. Elms fall!\n* oak\n* elm", id="sentences-one-period"),
        pytest.param("no_bullets_bullets", {}, "Oaks last. Elms fall.\n* oak", id="sentences-one-bullet"),
        pytest.param("no_bullets_bullets", {}, "* oak\n* elm\nOaks last. Elms fall.", id="sentences-after"),
        pytest.param("newline", {}, "Oaks\nlast long", id="words-two"),
        pytest.param("newline", {}, "Oaks\nlast—long", id="words-dash-between"),
        pytest.param("line_indent", {}, "a\n b\n\n b", id="stairs-level"),
        pytest.param("line_indent", {}, "  a", id="stairs-of-one"),
        pytest.param("line_indent", {}, "a\n  b\n c", id="stairs-back"),
        pytest.param("thesis", {}, SECTIONS.replace("<em>Elms fall.</em>", "Elms fall."), id="thesis-but-second"),
        pytest.param("thesis", {}, "*Oaks last.* They do.", id="thesis-markdown"),
        pytest.param("thesis", {}, "They do. <i>Oaks last.</i> They do.", id="thesis-later"),
        pytest.param("thesis", {}, "<i>Oaks last.</i>", id="thesis-nothing-after"),
        pytest.param("thesis", {}, "<i>Oaks last. They do.", id="thesis-open"),
    ],
)
def test_lines_near_miss_fails(kind: str, arguments: dict[str, object], text: str) -> None:
    assert KINDS[f"format:{kind}"](text, **arguments) is False
