"""Gathers the prompts of a run: reads the sources, drops what is there twice, mixes, and orders.

The rule that must not break: equal sources, settings and seed give the same prompts in the same order, in every process
and on every machine. A prompt's id is a hash of exactly what is stored and sent, so that it is equal everywhere. What an
earlier round took is known by that id alone: a source may grow, move or be put in another order.
"""

import hashlib
import json
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from pydantic import JsonValue

from factory.gathering.dedupe import near_duplicates, overlapping
from factory.gathering.raw_prompts import RawPrompt
from factory.gathering.sources import LINES, PARQUET, hub_dataset, read_source, source_files
from factory.progress import Progress
from factory.recipes.recipe_file import canonical_json
from judges.base import Verifier
from schemas.chat import Message, Role
from schemas.errors import SourceError, UsedUp
from schemas.recipe import NearDuplicates, Prompts, Source
from schemas.rows import Prompt

NOT_TAKEN: Mapping[str, int] = {}


@dataclass(frozen=True, slots=True)
class SourceCounts:
    """What became of a source's rows: what is read is dropped for one reason, or sampled, or left over."""

    source: str
    read: int
    duplicates: int
    near_duplicates: int
    contaminated: int
    taken: int  # by an earlier round
    sampled: int


@dataclass(frozen=True, slots=True)
class Collected:
    prompts: tuple[Prompt, ...]
    counts: tuple[SourceCounts, ...]  # in the recipe's order


def prompt_id(messages: Sequence[Message], tools: str | None) -> str:
    """32 hex digits, equal for conversations that differ in Unicode composition, line ends or outer whitespace only."""
    said: list[JsonValue] = [[message.role.value, _settled(message.content)] for message in messages]
    declared = None if tools is None else json.loads(tools)
    conversation = canonical_json([said, declared])
    return hashlib.sha256(unicodedata.normalize("NFC", conversation).encode()).hexdigest()[:32]


def normalise(raw: RawPrompt, source_name: str) -> Prompt:
    messages = tuple(Message(message.role, _settled(message.content)) for message in raw.messages)
    return Prompt(
        prompt_id=prompt_id(messages, raw.tools),
        source=source_name,
        messages=messages,
        tools=raw.tools,
        answer=raw.answer,
        constraints=raw.constraints,
        language=raw.language,
    )


def collect(
    prompts: Prompts,
    seed: int,
    progress: Progress,
    verifiers: Sequence[Verifier] = (),
    taken: Mapping[str, int] = NOT_TAKEN,
    least: int = 1,
) -> Collected:
    """The prompts of a round, shuffled by `seed`. Raises SourceError where a source is not usable or nothing is left, and
    for a prompt that one of the `verifiers` could never check: by then its answers would be paid for. `taken`: how often
    earlier rounds took which prompt; raises UsedUp where that leaves fewer than `least`.

    Of equal and of nearly equal prompts the first is kept, sources in the recipe's order, and before all what was taken
    already. With `sample`, each source gives its weight's share of what is left, and where one runs out the others fill up.
    Without, weights have no say.
    """
    names = source_names(prompts.sources)
    read: Counter[str] = Counter()
    unique: dict[str, Prompt] = {}
    for name, source in zip(names, prompts.sources, strict=True):
        for raw in read_source(source):
            read[name] += 1
            prompt = normalise(raw, name)
            _refuse_uncheckable(prompt, raw.place, verifiers)
            unique.setdefault(prompt.prompt_id, prompt)
        progress.say(f"{name}: {read[name]} prompts")
    known_first = sorted(unique.values(), key=lambda prompt: prompt.prompt_id not in taken)
    distinct = _distinct(known_first, prompts.near_duplicates)
    clean = _uncontaminated(distinct, prompts)
    if not clean:
        raise SourceError(f"of {read.total()} prompts none is left; look at `prompts.decontaminate`")
    fresh = _fresh(clean, prompts, taken, least, progress)
    weights = dict(zip(names, (source.weight for source in prompts.sources), strict=True))
    chosen = _mixed(fresh, weights, prompts, seed, taken)
    if again := sum(prompt.prompt_id in taken for prompt in chosen):
        progress.say(f"{again} of {len(chosen)} prompts were taken by an earlier round: their sources start over")
    stages = [_tally(stage) for stage in (unique.values(), distinct, clean, fresh, chosen)]
    counts = (_counts(name, read[name], *(stage[name] for stage in stages)) for name in names)
    return Collected(tuple(chosen), tuple(counts))


def _refuse_uncheckable(prompt: Prompt, place: str, verifiers: Sequence[Verifier]) -> None:
    for verifier in verifiers:
        if found := verifier.objection(prompt):
            raise SourceError(f"{place}: {found}; or leave {verifier.name} out of jury.verifiers")


def source_names(sources: Sequence[Source]) -> tuple[str, ...]:
    """The stem of the file, the folder's name or the dataset's; where one is taken, with `-2`, `-3`, …"""
    names: list[str] = []
    for source in sources:
        base = _name(source.path) if source.path else str(source.dataset)
        candidates = (base if count == 1 else f"{base}-{count}" for count in range(1, len(sources) + 1))
        names.append(next(name for name in candidates if name not in names))
    return tuple(names)


def source_digests(prompts: Prompts) -> dict[str, str]:
    """Source name -> sha256 of its content (of a hub dataset its fingerprint).

    Evaluation files that prompts are kept clear of decide the data too: they come as `decontaminate/<name>`.
    """
    named = list(zip(source_names(prompts.sources), prompts.sources, strict=True))
    if prompts.decontaminate:
        avoided = [Source(path=path) for path in prompts.decontaminate.paths]
        names = [f"decontaminate/{name}" for name in source_names(avoided)]
        named += zip(names, avoided, strict=True)
    return {name: _digest(source) for name, source in named}


def quotas(sizes: Sequence[int], weights: Sequence[float], sample: int) -> list[int]:
    """How many each source gives: its weight's share of `sample`, and what one cannot give goes to the others."""
    given = [0] * len(sizes)
    left = min(sample, sum(sizes))
    open_ = [index for index, size in enumerate(sizes) if size]
    while left:
        total = sum(Fraction(weights[index]) for index in open_)
        shares = {index: left * Fraction(weights[index]) / total for index in open_}
        spent = [index for index in open_ if shares[index] >= sizes[index]]
        for index in spent or open_:
            given[index] = sizes[index] if spent else int(shares[index])
        if not spent:  # what rounding down left over goes to the largest fractions, the first of equals first
            by_fraction = sorted(open_, key=lambda index: int(shares[index]) - shares[index])
            for index in by_fraction[: left - sum(given[index] for index in open_)]:
                given[index] += 1
            return given
        left -= sum(sizes[index] for index in spent)
        open_ = [index for index in open_ if index not in spent]
    return given


def _fresh(
    clean: list[Prompt], prompts: Prompts, taken: Mapping[str, int], least: int, progress: Progress
) -> list[Prompt]:
    """Those that this round may take. Raises UsedUp."""
    if prompts.used_up == "start_over":
        return clean
    untaken = [prompt for prompt in clean if prompt.prompt_id not in taken]
    if not untaken:
        raise UsedUp(
            f"each of {len(clean)} prompts was taken by an earlier round; add to `prompts.sources`, or set "
            "`prompts.used_up: start_over`"
        )
    if taken and len(untaken) < least:
        raise UsedUp(
            f"{len(untaken)} of {len(clean)} prompts were taken by no earlier round, and `schedule.least_prompts` wants "
            f"{least}; add to `prompts.sources`"
        )
    if taken and len(untaken) < (prompts.sample or 1):
        progress.say(f"only {len(untaken)} prompts are left that no earlier round took, and the round takes these")
    return untaken


def _mixed(
    fresh: list[Prompt], weights: dict[str, float], prompts: Prompts, seed: int, taken: Mapping[str, int]
) -> list[Prompt]:
    """The sample, in an order of its own; of each source first what was taken least.

    Both follow hashes of the prompt's id, so that a prompt more in a source changes a prompt or two in the sample.
    """
    if prompts.sample is not None:
        pools: dict[str, list[Prompt]] = {name: [] for name in weights}
        drawn = sorted(fresh, key=_draw("sample", seed))
        for prompt in sorted(drawn, key=lambda prompt: taken.get(prompt.prompt_id, 0)):
            pools[prompt.source].append(prompt)
        shares = quotas([len(pool) for pool in pools.values()], list(weights.values()), prompts.sample)
        fresh = [prompt for pool, share in zip(pools.values(), shares, strict=True) for prompt in pool[:share]]
    return sorted(fresh, key=_draw("order", seed))


def _draw(purpose: str, seed: int) -> Callable[[Prompt], bytes]:
    return lambda prompt: hashlib.sha256(f"{purpose}/{seed}/{prompt.prompt_id}".encode()).digest()


def _distinct(prompts: list[Prompt], settings: NearDuplicates | None) -> list[Prompt]:
    """Without near duplicates. Only prompts under the same instructions and tools can be near duplicates."""
    if settings is None:
        return prompts
    groups: dict[tuple[str, ...], list[Prompt]] = defaultdict(list)
    for prompt in prompts:
        system = [message.content for message in prompt.messages if message.role is Role.SYSTEM]
        groups[(prompt.tools or "", *system)].append(prompt)
    dropped: set[str] = set()
    for group in groups.values():
        near = near_duplicates([compared_text(prompt.messages) for prompt in group], settings)
        dropped |= {group[index].prompt_id for index in near}
    return [prompt for prompt in prompts if prompt.prompt_id not in dropped]


def _uncontaminated(kept: list[Prompt], prompts: Prompts) -> list[Prompt]:
    if prompts.decontaminate is None:
        return kept
    sources = [Source(path=path) for path in prompts.decontaminate.paths]
    references = (compared_text(raw.messages) for source in sources for raw in read_source(source))
    found = overlapping([compared_text(prompt.messages) for prompt in kept], references, prompts.decontaminate.ngram)
    return [prompt for index, prompt in enumerate(kept) if index not in found]


def compared_text(messages: Iterable[Message]) -> str:
    """What two conversations are compared by: a system prompt says how to answer, not what is asked."""
    return "\n".join(message.content for message in messages if message.role is not Role.SYSTEM)


def _settled(text: str) -> str:
    return unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n").strip()


def _tally(prompts: Iterable[Prompt]) -> Counter[str]:
    return Counter(prompt.source for prompt in prompts)


def _counts(name: str, read: int, unique: int, distinct: int, clean: int, fresh: int, sampled: int) -> SourceCounts:
    return SourceCounts(name, read, read - unique, unique - distinct, distinct - clean, clean - fresh, sampled)


def _name(path: Path) -> str:
    return path.stem if path.suffix.lower() in LINES | PARQUET else path.name


def _digest(source: Source) -> str:
    """Of one file its sha256; of a folder that of its files' names and sums, so that moving it changes nothing."""
    if source.path is None:
        return str(hub_dataset(source)._fingerprint)  # of the builder, its revision and the split; has no public name
    sums = {path.relative_to(source.path).as_posix(): _sha256(path) for path in source_files(source)}
    return sums["."] if "." in sums else hashlib.sha256(canonical_json(dict(sums)).encode()).hexdigest()


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from error
