"""The stage that hears the jury: sends the judges' questions for a shard and reads what came back.

Nothing is decided here. The replies lie in the shard's journal, and the verdicts are read from there once more when all
judges were heard, so that a kill between two judges costs no reply.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from factory.asking import Desk
from factory.engine import Engine
from factory.jury import candidates, needs_requeue, skipped_verdicts
from judges.base import Judge, request_id
from schemas.chat import Completion, Request
from schemas.recipe import Jury
from schemas.rows import Prompt, Rollout, Verdict, VerdictStatus

AGAIN = ":again"  # ends the id of the one request that is asked a second time


@dataclass(frozen=True, slots=True)
class Seat:
    """A judge and the engine that answers for it."""

    judge: Judge
    engine: Engine


@dataclass(frozen=True, slots=True)
class Case:
    """A prompt with its rollouts, in slot order."""

    prompt: Prompt
    rollouts: tuple[Rollout, ...]


def cases(prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> tuple[Case, ...]:
    """Joined by prompt_id, never by position."""
    answers: dict[str, list[Rollout]] = {prompt.prompt_id: [] for prompt in prompts}
    for rollout in rollouts:
        answers[rollout.prompt_id].append(rollout)
    return tuple(Case(prompt, tuple(answers[prompt.prompt_id])) for prompt in prompts)


def questions(case: Case, judges: Sequence[Judge]) -> list[tuple[Judge, Request]]:
    """What is asked about one prompt. Loops and duplicate texts are not in it."""
    judged = candidates(case.rollouts).judged
    return [(judge, request) for judge in judges for request in judge.ask(case.prompt, judged)]


async def hear(heard: Sequence[Case], seats: Sequence[Seat], desk: Desk) -> None:
    """Ask these judges about a shard, prompt by prompt, so that the prefix cache serves what the calls share."""
    engines = {seat.judge.name: seat.engine for seat in seats}
    judges = [seat.judge for seat in seats]
    asked = [(engines[judge.name], request) for case in heard for judge, request in questions(case, judges)]
    await desk.ask_all(asked)


async def hear_again(
    heard: Sequence[Case], seats: Sequence[Seat], judges: Sequence[Judge], jury: Jury, desk: Desk
) -> None:
    """Ask these seats once more what is worth it; `judges` is the whole jury, heard already."""
    engines = {seat.judge.name: seat.engine for seat in seats}
    asked = questions_again(heard, judges, jury, desk.journal.kept)
    await desk.ask_all([(engines[judge.name], request) for judge, request in asked if judge.name in engines])


def questions_again(
    heard: Sequence[Case], judges: Sequence[Judge], jury: Jury, kept: Mapping[str, Completion]
) -> list[tuple[Judge, Request]]:
    """Replies that cannot be read or did not come, where a prompt is short of its quorum without them.

    The whole jury is looked at: where the others make the quorum, nothing is asked again.
    """
    found = []
    for case in heard:
        verdicts = judged_verdicts(case, judges, kept)
        if not needs_requeue(case.rollouts, verdicts, jury):
            continue
        bad = [verdict for verdict in verdicts if verdict.status in _WORTH_ASKING_AGAIN]
        short = {request_id(verdict.rollout_id, verdict.judge) for verdict in bad}
        for judge, request in questions(case, judges):
            if request.request_id in short:
                found.append((judge, replace(request, request_id=request.request_id + AGAIN)))
    return found


_WORTH_ASKING_AGAIN = frozenset({VerdictStatus.UNREADABLE, VerdictStatus.FAILED})


def judged_verdicts(case: Case, judges: Sequence[Judge], kept: Mapping[str, Completion]) -> list[Verdict]:
    """One verdict for each candidate and judge, read from the replies that there are; a second reply replaces the first."""
    judged = candidates(case.rollouts).judged
    verdicts: list[Verdict] = []
    for judge in judges:
        replies = {}
        for request in judge.ask(case.prompt, judged):
            reply = kept.get(request.request_id + AGAIN) or kept.get(request.request_id)
            if reply is not None:
                replies[request.request_id] = reply
        verdicts.extend(judge.read(case.prompt, judged, replies))
    return verdicts


def all_verdicts(case: Case, judges: Sequence[Judge], kept: Mapping[str, Completion]) -> list[Verdict]:
    """The judges' verdicts, and a row for each rollout that was not judged."""
    names = [judge.name for judge in judges]
    return [*judged_verdicts(case, judges, kept), *skipped_verdicts(case.rollouts, names)]
