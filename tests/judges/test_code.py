"""Fenced code that parses, and code that does not."""

from pathlib import Path

import pytest

from judges import code
from tests.samples import a_prompt, a_rollout


def fenced(language: str, content: str) -> str:
    return f"Here it is:\n\n```{language}\n{content}\n```\n\nDone."


@pytest.mark.parametrize(
    ("language", "content"),
    [
        ("python", "def f(a):\n    return a + 1"),
        ("py", "    x = 1\n    y = 2"),
        ("Python", "%matplotlib inline\n!pip install x\nimport os"),
        ("python3", ">>> f(1)\n2\n>>> f("),
        ("python", 'x = "\\d"'),
        ("json", '{"a": [1, null]}'),
        ("yaml", "a: 1\n---\nb: !thing [x]"),
        ("yml", "- a\n- b"),
        ("toml", 'a = 1\n[t]\nb = "c"'),
    ],
)
def test_check_code_that_parses(language: str, content: str) -> None:
    verdict = code.check(a_prompt(), a_rollout(text=fenced(language, content)))
    assert (verdict.score, verdict.reply) == (1.0, "1 blocks parse")


@pytest.mark.parametrize(
    ("language", "content"),
    [
        ("python", "def f(a)\n    return a"),
        ("python", "print 'a'"),
        ("python", "if x:\ny = 1"),
        ("json", "{'a': 1}"),
        ("json", '{"a": 1} // why'),
        ("yaml", "a: [1"),
        ("yaml", "a: b: c"),
        ("toml", "a = "),
    ],
)
def test_check_code_that_does_not(language: str, content: str) -> None:
    verdict = code.check(a_prompt(), a_rollout(text=fenced("json", "[]") + fenced(language, content)))
    assert verdict.score == 0.0
    assert (verdict.reply or "").startswith(f"block 2 ({language}): ")


def test_check_block_that_is_not_closed_is_read_to_the_end() -> None:
    assert code.check(a_prompt(), a_rollout(text="```python\nx = [1,")).score == 0.0
    assert code.check(a_prompt(), a_rollout(text="```python\nx = [1]")).score == 1.0


def test_check_runs_nothing(tmp_path: Path) -> None:
    made = tmp_path / "made"
    for language, content in [
        ("python", f"open({str(made)!r}, 'w')"),
        ("yaml", f"!!python/object/apply:builtins.open [{str(made)!r}, w]"),
    ]:
        assert code.check(a_prompt(), a_rollout(text=fenced(language, content))).score == 1.0
    assert not made.exists()


@pytest.mark.parametrize("text", ["x = (", "```\nx = (\n```", "```rust\nfn (\n```", "`x = (`", ""])
def test_applies_not_where_there_is_no_code_it_can_read(text: str) -> None:
    assert not code.applies(a_prompt(), a_rollout(text=text))


def test_blocks_of_both_fences_and_nested_in_a_list() -> None:
    text = "~~~python\na = '```'\n~~~\n1. so:\n   ```json\n   []\n   ```\n````md\n```\nx\n```\n````"
    assert code.blocks(text) == [("python", "a = '```'\n"), ("json", "[]\n"), ("md", "```\nx\n```\n")]
    assert not code.proves
