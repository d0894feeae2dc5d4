"""The verifier of code blocks: does every fenced block in a language that it can read parse?

It can only veto: code that parses need not be right, and an answer without code is not worse for it. Python, JSON, YAML
and TOML are read, none of it is run, and YAML's tags make no objects. A block that is not closed is read to the end.
"""

import ast
import re
import textwrap
import tomllib
import warnings
from collections.abc import Callable, Mapping

import yaml

from judges.base import check_result
from judges.json_answer import read_json
from schemas.rows import Prompt, Rollout, Verdict

name = "code"
proves = False

_SHOWN_CHARS = 120
_BLOCK = re.compile(
    r"^([ \t]*)(`{3,}|~{3,})[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:^[ \t]*\2[`~]*[ \t]*$|\Z)", re.MULTILINE | re.DOTALL
)
_SHELL_LINE = re.compile(r"^[ \t]*[%!].*$", re.MULTILINE)  # a notebook's own commands
_PROMPT_LINE = re.compile(r"^[ \t]*>>>", re.MULTILINE)  # a session, with what it printed between


def objection(prompt: Prompt) -> str | None:
    return None


def applies(prompt: Prompt, rollout: Rollout) -> bool:
    return any(language in _PARSERS for language, _ in blocks(rollout.text or ""))


def check(prompt: Prompt, rollout: Rollout) -> Verdict:
    read = [(language, code) for language, code in blocks(rollout.text or "") if language in _PARSERS]
    for number, (language, code) in enumerate(read, 1):
        try:
            _PARSERS[language](code)
        except (SyntaxError, ValueError, RecursionError, yaml.YAMLError) as error:
            why = " ".join(str(error).split())
            return check_result(rollout, name, 0.0, f"block {number} ({language}): {why}"[:_SHOWN_CHARS])
    return check_result(rollout, name, 1.0, f"{len(read)} blocks parse")


def blocks(text: str) -> list[tuple[str, str]]:
    """Language as written (lower case, "" for none) and content of every fenced block of a Markdown text, in order."""
    return [(found[3].lower(), textwrap.dedent(found[4])) for found in _BLOCK.finditer(text)]


def _python(code: str) -> None:
    """Notebook commands are left out. A session with prompts is a record, not a program, and passes."""
    if _PROMPT_LINE.search(code):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ast.parse(_SHELL_LINE.sub("", code))


def _yaml(code: str) -> None:
    for _ in yaml.compose_all(code, Loader=yaml.CSafeLoader):
        pass


_PARSERS: Mapping[str, Callable[[str], object]] = {
    "python": _python,
    "python3": _python,
    "py": _python,
    "json": read_json,
    "yaml": _yaml,
    "yml": _yaml,
    "toml": tomllib.loads,
}
