"""Brackets, quotes, emoji, cases, and answers of a fixed form."""

import pytest

from judges.instructions.formats import KINDS

LETTERS = {"options": "a), b), c), d)"}
KNOW = {"options": "I know or I don't know"}
TEMPLATE = "My Answer: Yes.\nMy Conclusion: It works.\nFuture Outlook: Good."


@pytest.mark.parametrize(
    ("kind", "arguments", "text"),
    [
        pytest.param("parentheses", {}, "So (we [go {on (and [on])}]).", id="brackets-five"),
        pytest.param("parentheses", {}, "1) a :( b ((((((x)))))) and (y", id="brackets-among-strays"),
        pytest.param("quotes", {}, '"He said, \'She cried, "Go!" and left.\'"', id="quotes-straight"),
        pytest.param("quotes", {}, "'It's \"don't 'stop' now\" again'", id="quotes-apostrophes"),
        pytest.param("quotes", {}, "“He said, ‘She cried, “Go!”’”", id="quotes-curly"),
        pytest.param("quotes", {}, "\"He'd say 'tis so, 'not “it” at all'\"", id="quotes-one-never-closed"),
        pytest.param("quote_unquote", {}, '"Look" means to see; "leap" means to jump.', id="explained"),
        pytest.param("quote_unquote", {}, "He said “wait”, which means to stay.", id="explained-curly"),
        pytest.param("options", {"options": "yes/no/maybe"}, " Maybe.\n", id="option-of-slashes"),
        pytest.param("options", KNOW, "**I don’t know**", id="option-of-or"),
        pytest.param("options", {"options": "red, green, or blue"}, "blue", id="option-of-commas"),
        pytest.param("options", LETTERS, "c)\n", id="option-letter"),
        pytest.param("emoji", {}, "I ran. 🎉 I won 🏆! Yes ❤️", id="emoji"),
        pytest.param("emoji", {}, "All of us 👨‍👩‍👧. **Me too 🙂.**", id="emoji-joined"),
        pytest.param("emoji", {}, "**I ran.** 🎉 Yes ❤️", id="emoji-after-bold"),
        pytest.param("title_case", {}, "The Old Man and the Sea: A Well-known Tale", id="title-minor"),
        pytest.param("title_case", {}, "“Don't” Sell Your iPhone to NASA in 3rd Place", id="title-brands"),
        pytest.param("output_template", {}, TEMPLATE, id="template"),
        pytest.param("output_template", {}, f"**{TEMPLATE.replace(': ', ':** ').replace(chr(10), ' **')}", id="bold"),
        pytest.param("no_whitespace", {}, "Yes,they-are.", id="no-space"),
        pytest.param("no_whitespace", {}, "是的", id="no-space-in-chinese"),
    ],
)
def test_format_as_asked_passes(kind: str, arguments: dict[str, object], text: str) -> None:
    assert KINDS[f"format:{kind}"](text, **arguments) is True


@pytest.mark.parametrize(
    ("kind", "arguments", "text"),
    [
        pytest.param("parentheses", {}, "So (we [go {on (and)}]).", id="brackets-four"),
        pytest.param("parentheses", {}, "So (we [go {on (and [on]", id="brackets-open"),
        pytest.param("parentheses", {}, "So (we [go {on (and [on)}])].", id="brackets-crossed"),
        pytest.param("parentheses", {}, "(a) [b] {c} (d [e])", id="brackets-in-a-row"),
        pytest.param("quotes", {}, "\"He said, 'Go!' and left.\"", id="quotes-two"),
        pytest.param("quotes", {}, '"He said, \'She cried, "Go! and left.', id="quotes-open"),
        pytest.param("quotes", {}, "\"I'm,\" 'you're,' \"it's\"", id="quotes-in-a-row"),
        pytest.param("quote_unquote", {}, '"Look" means to see; "leap".', id="explained-but-last"),
        pytest.param("quote_unquote", {}, 'He said "wait", "stay" and more.', id="explained-but-first"),
        pytest.param("quote_unquote", {}, "There is nothing quoted.", id="no-quote"),
        pytest.param("quote_unquote", {}, '"Look means to see.', id="quote-left-open"),
        pytest.param("options", {"options": "yes/no/maybe"}, "Yes, it is.", id="option-explained"),
        pytest.param("options", KNOW, "I do not know", id="option-reworded"),
        pytest.param("options", {"options": "red, green, or blue"}, "or blue", id="option-with-or"),
        pytest.param("options", LETTERS, "c", id="option-letter-alone"),
        pytest.param("options", LETTERS, "c) Paris", id="option-letter-and-text"),
        pytest.param("emoji", {}, "I ran. I won! 🏆", id="emoji-but-first"),
        pytest.param("emoji", {}, "I ran 🎉. 🏆 I won", id="emoji-before-last"),
        pytest.param("title_case", {}, "The Old man and the Sea", id="title-one-small"),
        pytest.param("title_case", {}, "the Old Man", id="title-first-small"),
        pytest.param("title_case", {}, "THE OLD MAN", id="title-all-large"),
        pytest.param("output_template", {}, TEMPLATE.replace("My Conclusion:", "Conclusion:"), id="template-label"),
        pytest.param("output_template", {}, f"Sure! {TEMPLATE}", id="template-words-before"),
        pytest.param("output_template", {}, TEMPLATE.replace("It works.", "[conclusion]"), id="template-not-filled"),
        pytest.param("output_template", {}, TEMPLATE.replace(" Good.", ""), id="template-empty"),
        pytest.param("output_template", {}, "\n".join(reversed(TEMPLATE.splitlines())), id="template-order"),
        pytest.param("no_whitespace", {}, "Yes,they-are.\n", id="newline-at-end"),
        pytest.param("no_whitespace", {}, "Yes,\u00a0they-are.", id="no-break-space"),
    ],
)
def test_format_near_miss_fails(kind: str, arguments: dict[str, object], text: str) -> None:
    assert KINDS[f"format:{kind}"](text, **arguments) is False
