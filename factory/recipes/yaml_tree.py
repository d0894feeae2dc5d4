"""Reads a YAML file into plain values that know their lines, and writes plain values that are read back the same.

The YAML is that of the 1.2 core schema: `no` and `1:30` are text, `1e-3` is a number. The rule that must not break:
nothing is unfolded or recursed into without a bound, and every problem keeps the line that it was found in.
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from pydantic import JsonValue
from yaml.reader import ReaderError

from schemas.errors import RecipeError

MAX_BYTES = 256 * 1024
MAX_UNFOLDED = 500_000  # values and characters, once every alias has been put in place
MAX_DEPTH = 32
MAX_SAID = 40  # problems; a file with more of them is no recipe

Location = tuple[int | str, ...]

_TAG = "tag:yaml.org,2002:"
_CORE_SCHEMA = (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?[0-9]{1,19}$", list("-+0123456789")),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", list("-+.0123456789")),
    ("float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", list("-+.")),
)


class _Loader(yaml.SafeLoader):
    pass


class _Dumper(yaml.SafeDumper):
    """Resolves as the loader does, so that text which would be read as something else is quoted."""


def _text_node(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    """Quoted where it holds a line break that YAML folds but JSON does not: only double quotes escape those."""
    style = '"' if any(character in text for character in "\x85\u2028\u2029") else None
    return dumper.represent_scalar(f"{_TAG}str", text, style=style)


_Dumper.add_representer(str, _text_node)
_Loader.yaml_implicit_resolvers = {}
_Dumper.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in _CORE_SCHEMA:
    _Loader.add_implicit_resolver(_TAG + _tag, re.compile(_pattern), _first)
    _Dumper.add_implicit_resolver(_TAG + _tag, re.compile(_pattern), _first)


class Unfit(Exception):
    """A text cannot stand where it stands; the message says why, and what to write."""


def dump(values: JsonValue) -> str:
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def compose(path: Path) -> yaml.MappingNode:
    """The file's nodes. Raises RecipeError where it is too large or no YAML mapping; OSError is the caller's."""
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise RecipeError(f"{path}: larger than {MAX_BYTES // 1024} KiB; is this a recipe?")
    try:
        node = _parse(raw.decode("utf-8-sig"), path)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise RecipeError(f"{path}:{line}: byte {error.start + 1} is not UTF-8; save the file as UTF-8") from None
    if node is None:
        raise RecipeError(f"{path}: empty; a recipe starts like `name: my-run`")
    if not isinstance(node, yaml.MappingNode):
        raise RecipeError(f"{path}:{node.start_mark.line + 1}: not a mapping; a recipe starts like `name: my-run`")
    return node


def _parse(text: str, path: Path) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=_Loader)
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise RecipeError(f"{path}:{line}: holds a control character; take it out") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise RecipeError(f"{path}{place}: not YAML: {error.problem or error.context}") from None
    except RecursionError:
        raise RecipeError(f"{path}: nested deeper than {MAX_DEPTH} levels; write it flatter") from None


@dataclass(slots=True)
class Tree:
    """Turns nodes into plain values, and remembers where each stood and what is wrong with it.

    `settle` sees every text with its place and gives the text that is meant, or raises Unfit.
    """

    file: Path
    settle: Callable[[str, Location], str]
    lines: dict[Location, int] = field(default_factory=dict)
    problems: dict[Location, str] = field(default_factory=dict)  # of two at one place, the first is said
    unfolded: int = 0

    def note(self, at: Location, problem: str) -> None:
        self.problems.setdefault(at, problem)

    def report(self) -> str:
        placed = sorted(
            (self._line(at), " ".join(".".join(map(str, at)).split()), text) for at, text in self.problems.items()
        )
        said = [f"{self.file}:{line}: {name + ': ' if name else ''}{text}" for line, name, text in placed[:MAX_SAID]]
        more = [f"{self.file}: and {len(placed) - MAX_SAID} problems more"] if len(placed) > MAX_SAID else []
        return "\n".join(said + more)

    def plain(self, node: yaml.Node, at: Location = ()) -> JsonValue:
        self.lines.setdefault(at, node.start_mark.line + 1)
        self.unfolded += 1 + (len(node.value) if isinstance(node, yaml.ScalarNode) else 0)
        if self.unfolded > MAX_UNFOLDED:
            raise RecipeError(f"{self.file}: its aliases unfold to over {MAX_UNFOLDED} values; write fewer of them")
        if len(at) > MAX_DEPTH:
            raise RecipeError(f"{self.file}:{self.lines[at]}: nested deeper than {MAX_DEPTH} levels; write it flatter")
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, at)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.plain(item, (*at, index)) for index, item in enumerate(node.value)]
        try:
            return self._scalar(node, at)
        except Unfit as problem:
            self.note(at, str(problem))
            return "unfit" if node.tag == _TAG + "str" else None  # of the right type, for nothing else to be said of it

    def _line(self, at: Location) -> int:
        while at not in self.lines:
            at = at[:-1]
        return self.lines[at]

    def _mapping(self, node: yaml.MappingNode, at: Location) -> dict[str, JsonValue]:
        values: dict[str, JsonValue] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self.note(at, f"a key in line {line} is not a name")
            elif key.value in values:
                self.note((*at, key.value), f"written twice, again in line {line}; keep one")
            else:
                self.lines[(*at, key.value)] = line
                values[key.value] = self.plain(value, (*at, key.value))
        return values

    def _scalar(self, node: yaml.Node, at: Location) -> JsonValue:
        text = str(node.value)
        match node.tag.removeprefix(_TAG):
            case "null":
                return None
            case "bool" if text.lower() in ("true", "false"):
                return text.lower() == "true"
            case "int" if re.fullmatch(_CORE_SCHEMA[2][1], text):
                return int(text)
            case "float":
                return _finite(text)
            case "str":
                return self.settle(_sound(text), at)
        raise Unfit(f"the tag `{node.tag.removeprefix(_TAG)}` is not read; leave it out")


def _finite(text: str) -> float:
    try:
        number = float(text.replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise Unfit(f"got {text}; write a finite number")
    return number


def _sound(text: str) -> str:
    """Refuses what no file and no engine can take: NUL, and half of a surrogate pair."""
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise Unfit(f"got {json.dumps(text[:40])}, which holds NUL or half a character; write the character itself")
    return text
