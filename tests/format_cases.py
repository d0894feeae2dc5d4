"""A run whose pairs are of every kind that a format must say or leave out, for tests and for `benchmarks.formats`.

    several turns, a system prompt, tools and what they gave back, reasoning, other scripts, a loop that was cut, an answer at
    the cap, an answer without a word, one that was chosen and later rejected, a prompt without a pair

Each prompt's id begins with its number twice, so that the first half of them is the test split at a share of one half.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from factory.run import RunFolder
from schemas.chat import Message, Role
from schemas.manifest import Provenance, RunManifest
from schemas.recipe import Recipe
from schemas.rows import Cause, Constraint, Loop, Pair, Prompt, Rollout
from schemas.tables import Table
from tests.samples import a_rollout

TOOLS = '[{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]'
CALL = "<|tool_call_start|>[weather()]<|tool_call_end|>"


@dataclass(frozen=True)
class Case:
    """One prompt, its pair, and how the chosen answer ended."""

    pair: Pair
    prompt: Prompt
    finish_reason: str = "stop"


def _turns(*contents: str, system: str | None = None) -> tuple[Message, ...]:
    asked = [Message(Role.USER if place % 2 == 0 else Role.ASSISTANT, text) for place, text in enumerate(contents)]
    return (*([Message(Role.SYSTEM, system)] if system else []), *asked)


def _case(number: int, messages: tuple[Message, ...], chosen: str, rejected: str, **more: object) -> Case:
    prompt_id = f"{number * 16:02x}" * 16
    known = {"tools", "answer", "constraints", "language"}
    prompt = Prompt(prompt_id, "file", messages)
    prompt = replace(prompt, **{name: value for name, value in more.items() if name in known})  # type: ignore[arg-type]  # fields by name
    pair = Pair(
        prompt_id=prompt_id,
        messages=messages,
        chosen=chosen,
        rejected=rejected,
        chosen_id=f"{prompt_id}:0:t0",
        rejected_id=f"{prompt_id}:0:greedy",
        chosen_score=1.0,
        rejected_score=-1.0,
        margin=2.0,
        agreement=1.0,
        cause=Cause.JURY,
        prompt_token_ids=(100 + number, 11),
        chosen_token_ids=(20, 21, 2),
        rejected_token_ids=(30, 31, 2),
        rejected_trimmed=False,
        rejected_ended=True,
    )
    own = {name: value for name, value in more.items() if name not in known | {"finish_reason"}}
    pair = replace(pair, **own)  # type: ignore[arg-type]  # fields by name
    return Case(pair, prompt, str(more.get("finish_reason", "stop")))


_LOOP = {
    "cause": Cause.LOOP, "rejected_score": None, "margin": None, "agreement": None, "rejected_trimmed": True,
    "rejected_ended": False,
}  # fmt: skip

CASES = (
    _case(0, _turns("What is 6 x 7?"), "6 x 7 = 42.", "It is 41.", answer="42"),
    _case(
        1,
        _turns("Hello", "Hi! How can I help?", "Name a river.", system="Be brief."),
        "The Rhine flows north.",
        "Rivers?",
    ),
    _case(
        2,
        (*_turns("Weather?", CALL), Message(Role.TOOL, '{"sky": "blue"}')),
        "The sky is blue.",
        CALL,
        tools=TOOLS,
    ),
    _case(
        3,
        _turns("Think first."),
        "<think>\nWhy not?\n</think>\n\nBecause it is so.",
        "<think>\nNo.\n</think>\nNo reason.",
    ),
    _case(
        4,
        _turns("Sag etwas über die Alpen, auf Chinesisch: 阿尔卑斯山?"),
        "Die Alpen: 阿尔卑斯山 🏔️ “hoch”.",
        "\nAlpen\u2028Alpen\tAlpen\n",
        language="de",
    ),
    _case(
        8,
        _turns("Count."),
        "One, two, three, done.",
        "One, one, one,",
        rejected_token_ids=(40, 41, 40, 41, 40, 41),
        chosen_token_ids=(40, 42, 40, 41, 43, 2),
        **_LOOP,
    ),
    _case(9, _turns("Go on for ever."), "It goes on and on", "No, I will not.", finish_reason="length"),
    _case(10, _turns("Say nothing."), " \n", "There is nothing to say.", rejected_token_ids=None),
    _case(
        11,
        (Message(Role.USER, "Two things."), Message(Role.USER, "And a third.")),
        "Here are all three things.",
        "Here are two things.",
        constraints=(Constraint("punctuation:no_comma", "{}"),),
    ),
    _case(12, _turns("Yes or no?"), "user", "No, it is not so."),
    _case(
        13,
        _turns("Call the weather.", system="Use <tool_call> marks."),
        "A <tool_call> it is.",
        "There is no such tool.",
    ),
)
ALONE = Prompt("ee" * 16, "file", _turns("Nobody's pair."), answer="7")


def a_recipe(share: float = 0.5, **export: object) -> Recipe:
    document = {
        "name": "formats",
        "prompts": {"sources": [{"path": "prompts.jsonl"}]},
        "policy": {"model": "org/model"},
        "jury": {"judges": [{"judge": "clarity"}]},
        "export": {"test_share": share, **export},
    }
    return Recipe.model_validate(document)


def a_manifest() -> RunManifest:
    time = datetime(2026, 1, 1, tzinfo=UTC)
    return RunManifest(
        name="formats", created=time, updated=time, identity={}, prompts=len(CASES), shards=1, pairs=len(CASES), dropped={},
        provenance=Provenance(models={"policy": "sha256:0123"}, rubrics={}, sources={}, detector="1"), seconds={},
    )  # fmt: skip


def rollouts_of(case: Case) -> list[Rollout]:
    """The pair's two answers, as the tables have them."""
    pair, looped = case.pair, case.pair.cause is Cause.LOOP
    chosen = replace(
        a_rollout(pair.prompt_id, "t0", pair.chosen),
        rollout_id=pair.chosen_id,
        finish_reason=case.finish_reason,
        prompt_token_ids=pair.prompt_token_ids,
        token_ids=pair.chosen_token_ids,
    )
    rejected = replace(
        a_rollout(pair.prompt_id, "greedy", pair.rejected),
        rollout_id=pair.rejected_id,
        finish_reason="stop" if pair.rejected_ended else "repetition",
        prompt_token_ids=pair.prompt_token_ids,
        token_ids=pair.rejected_token_ids,
        loop=Loop.HARD if looped else Loop.CLEAN,
        loop_onset_token=2 if looped else None,
    )
    return [chosen, rejected]


def a_run(root: Path, cases: tuple[Case, ...] = CASES) -> RunFolder:
    """A second round holds the first prompt once more, with its two answers the other way round."""
    run = RunFolder(root)
    run.write_part(Table.PROMPTS, 0, [*(case.prompt for case in cases), ALONE])
    run.write_part(Table.PAIRS, 0, [case.pair for case in cases])
    run.write_part(Table.ROLLOUTS, 0, [rollout for case in cases for rollout in rollouts_of(case)])
    return run
