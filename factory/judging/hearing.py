"""The stage that hears the jury: sends the judges' questions for a shard and reads what came back.

Nothing is decided here but whom a cascade still asks about. The replies lie in the shard's journal, and the verdicts are
read from there once more when all judges were heard, so that a kill between two judges costs no reply.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

from factory.client.asking import Desk, together
from factory.client.breaker import Breaker
from factory.engine import Engine
from factory.judging.aggregation import Weights
from factory.judging.canaries import canary_rows, drawn, original, reasked_rows, twins
from factory.judging.candidates import candidates, skipped_verdicts
from factory.judging.cascade import contenders, waves
from factory.jury import listened_to, needs_requeue
from judges.base import Judge, Question, no_score
from schemas.chat import Completion, Request
from schemas.recipe import Jury, Pairing
from schemas.rows import Canary, Confirmation, Loop, Prompt, Reasked, Rollout, Verdict, VerdictStatus

R = TypeVar("R", Rollout, Verdict, Confirmation)
AGAIN = ":again"  # ends the id of the one request that is asked a second time


@dataclass(frozen=True, slots=True)
class Seat:
    """A judge and the engine that answers for it."""

    judge: Judge
    engine: Engine
    breaker: Breaker = field(default_factory=Breaker)


@dataclass(frozen=True)
class Case:
    """A prompt with its rollouts, in slot order, and what the verifiers said of them."""

    prompt: Prompt
    rollouts: tuple[Rollout, ...]
    checks: tuple[Verdict, ...] = ()

    @cached_property
    def judged(self) -> tuple[Rollout, ...]:
        return candidates(self.rollouts).judged

    def among(self, about: Collection[str]) -> list[Rollout]:
        """The judged rollouts with these ids."""
        return [rollout for rollout in self.judged if rollout.rollout_id in about]


@dataclass(frozen=True, slots=True)
class Court:
    """All that decides who is asked what: the whole jury, and what is known of it so far.

    `heard` are the judges that the whole run has heard already, and `sigmas` how widely those score that tell answers
    apart: a cascade goes on from them. `lots` are the least lots of the run for canaries and for what is asked again.
    `stopped` names judges whose replies were too bad, with the ids of the requests that had been sent in vain by then.
    """

    judges: Mapping[str, Judge]
    jury: Jury
    pairing: Pairing = field(default_factory=Pairing)
    weights: Weights = field(default_factory=dict)
    heard: Collection[str] = ()
    sigmas: Mapping[str, float] = field(default_factory=dict)
    lots: Mapping[str, float] = field(default_factory=dict)
    stopped: Mapping[str, Collection[str]] = field(default_factory=dict)

    def watched(self, case: Case) -> Rollout | None:
        """The answer that gets twins, where the prompt is drawn for canaries."""
        share, least = self.jury.trust.canaries, self.lots.get("canaries", 0.0)
        return original(case.rollouts) if drawn(case.prompt.prompt_id, share, least, "canaries") else None

    def asked_twice(self, case: Case) -> bool:
        share, least = self.jury.trust.reasked, self.lots.get("reasked", 0.0)
        return drawn(case.prompt.prompt_id, share, least, "reasked")


def cases(prompts: Sequence[Prompt], rollouts: Sequence[Rollout], checks: Sequence[Verdict] = ()) -> tuple[Case, ...]:
    """Joined by prompt_id, never by position."""
    answers: dict[str, list[Rollout]] = {prompt.prompt_id: [] for prompt in prompts}
    for rollout in rollouts:
        answers[rollout.prompt_id].append(rollout)
    checked = by_prompt(checks)
    return tuple(
        Case(prompt, tuple(answers[prompt.prompt_id]), checked.get(prompt.prompt_id, ())) for prompt in prompts
    )


def answer_counts(answered: Sequence[Case]) -> dict[str, float]:
    """Notes of the record of rollouts."""
    return {
        "hard_loops": sum(one.loop is Loop.HARD for case in answered for one in case.rollouts),
        "to_judge": sum(len(case.judged) for case in answered),
    }


def by_prompt(rows: Iterable[R]) -> dict[str, tuple[R, ...]]:
    """The rows of each prompt that has any, in their order."""
    found: dict[str, list[R]] = {}
    for row in rows:
        found.setdefault(row.prompt_id, []).append(row)
    return {prompt_id: tuple(own) for prompt_id, own in found.items()}


def questions(
    case: Case, judges: Sequence[Judge], court: Court, kept: Mapping[str, Completion]
) -> list[tuple[Judge, Question]]:
    """What is asked about one prompt. Loops and duplicate texts are not in it, nor whom a cascade has settled."""
    asked = asked_about(case, court, kept)
    found: dict[str, tuple[Judge, Question]] = {}
    for judge in judges:
        own = case.among(asked.get(judge.name, ()))
        for question in (*judge.ask(case.prompt, own), *_extra(case, judge, own, court)):
            found.setdefault(question.request.request_id, (judge, question))
    return list(found.values())


def _extra(case: Case, judge: Judge, own: Sequence[Rollout], court: Court) -> list[Question]:
    """What is asked to watch the judge, not to make a pair."""
    extra: list[Question] = []
    if (watched := court.watched(case)) is not None:
        for twin in twins(watched).values():
            extra += judge.ask(case.prompt, (watched, twin))
    if court.asked_twice(case):
        extra += judge.again().ask(case.prompt, own)
    return extra


def asked_about(case: Case, court: Court, kept: Mapping[str, Completion]) -> dict[str, frozenset[str]]:
    """The rollout_ids that each seat is asked about, for the seats that it can be known of already."""
    if court.jury.cascade is None:
        return dict.fromkeys(court.judges, frozenset(rollout.rollout_id for rollout in case.judged))
    asked: dict[str, frozenset[str]] = {}
    verdicts, heard = list(case.checks), 0
    for wave in waves(court.jury):
        if any(seat not in court.heard for seat in asked):
            break
        about = contenders(case.rollouts, verdicts, heard, court.jury, court.pairing, court.sigmas, court.weights)
        for seat in wave:
            asked[seat] = about
            verdicts += _verdicts(case, court.judges[seat], about, kept, court)
        heard += len(wave)
    return asked


async def hear(heard: Sequence[Case], seats: Sequence[Seat], court: Court, desk: Desk) -> None:
    """Ask these judges about a shard, prompt by prompt, so that the prefix cache serves what the calls share."""
    by_name = {seat.judge.name: seat for seat in seats}
    judges = [seat.judge for seat in seats]
    kept = desk.journal.kept
    asked = [
        (by_name[judge.name], question) for case in heard for judge, question in questions(case, judges, court, kept)
    ]
    desk.expect(len(asked))
    await _put_all(asked, desk)


async def hear_again(heard: Sequence[Case], seats: Sequence[Seat], court: Court, desk: Desk) -> None:
    """Ask these seats once more what is worth it; the whole jury was heard already."""
    by_name = {seat.judge.name: seat for seat in seats}
    asked = [
        (by_name[judge.name], question)
        for case in heard
        for judge, question in questions_again(case, court, desk.journal.kept)
        if judge.name in by_name
    ]
    desk.expect(len(asked))
    await _put_all(asked, desk)


async def _put_all(asked: Sequence[tuple[Seat, Question]], desk: Desk) -> None:
    """No more of them under way than the engines take twice over, so that a judge that is stopped is not asked on."""
    gates = {id(seat.engine): asyncio.Semaphore(2 * seat.engine.capacity) for seat, _ in asked}

    async def put(seat: Seat, question: Question) -> None:
        async with gates[id(seat.engine)]:
            if seat.breaker.tripped:
                desk.skip()
                return
            known = question.request.request_id in desk.journal.kept
            reply = await desk.ask(seat.engine, question.request)
            if desk.halted is not None:
                return
            status = VerdictStatus.FAILED if reply is None else seat.judge.worth(reply)
            if not known and seat.breaker.note(question.request.request_id, status):
                desk.say(f"warning: {seat.judge.name} is stopped: {seat.breaker.why()}; the run goes on without it")

    async with desk.batch(len(asked)):
        await together([put(*one) for one in asked])


def questions_again(case: Case, court: Court, kept: Mapping[str, Completion]) -> list[tuple[Judge, Question]]:
    """Replies that cannot be read or did not come, where a prompt is short of its quorum without them.

    The whole jury is looked at: where the others make the quorum, nothing is asked again.
    """
    verdicts = judged_verdicts(case, court, kept)
    if not needs_requeue(case.rollouts, verdicts, court.jury, court.weights):
        return []
    listened = listened_to(court.jury, court.weights)
    bad = {(verdict.judge, verdict.rollout_id) for verdict in verdicts if verdict.status in _WORTH_ASKING_AGAIN}
    asked = asked_about(case, court, kept)
    found = []
    for judge in (court.judges[seat] for seat in listened):
        own = case.among(asked.get(judge.name, ()))
        for question in judge.ask(case.prompt, own):
            if any((judge.name, about) in bad for about in question.about):
                found.append((judge, replace(question, request=_second(question.request))))
    return found


_WORTH_ASKING_AGAIN = frozenset({VerdictStatus.UNREADABLE, VerdictStatus.FAILED})


def _second(request: Request) -> Request:
    return replace(request, request_id=request.request_id + AGAIN)


def judged_verdicts(case: Case, court: Court, kept: Mapping[str, Completion]) -> list[Verdict]:
    """One verdict for each candidate and judge, read from the replies that there are; a second reply replaces the first."""
    asked = asked_about(case, court, kept)
    return [
        verdict
        for judge in court.judges.values()
        for verdict in _verdicts(case, judge, asked.get(judge.name, frozenset()), kept, court)
    ]


def _verdicts(
    case: Case, judge: Judge, about: Collection[str], kept: Mapping[str, Completion], court: Court
) -> list[Verdict]:
    own = case.among(about)
    replies: dict[str, Completion] = {}
    unsent: set[str] = set()  # rollouts that the judge was stopped before
    for question in judge.ask(case.prompt, own):
        asked = question.request.request_id
        reply = kept.get(asked + AGAIN) or kept.get(asked)
        if reply is not None:
            replies[asked] = reply
        elif judge.name in court.stopped and asked not in court.stopped[judge.name]:
            unsent.update(question.about)
    verdicts = [
        replace(one, status=VerdictStatus.STOPPED)
        if one.rollout_id in unsent and one.status is VerdictStatus.FAILED
        else one
        for one in judge.read(case.prompt, own, replies)
    ]
    spared = [rollout for rollout in case.judged if rollout.rollout_id not in about]
    return [*verdicts, *(no_score(rollout, judge.name, VerdictStatus.NOT_ASKED) for rollout in spared)]


def all_verdicts(case: Case, court: Court, kept: Mapping[str, Completion]) -> list[Verdict]:
    """The judges' verdicts, and a row for each rollout that was not judged."""
    return [*judged_verdicts(case, court, kept), *skipped_verdicts(case.rollouts, list(court.judges))]


def watched_rows(case: Case, court: Court, kept: Mapping[str, Completion]) -> tuple[list[Canary], list[Reasked]]:
    """What was asked to watch the judges."""
    judges = list(court.judges.values())
    watched = court.watched(case)
    canaries = [] if watched is None else canary_rows(case.prompt, watched, judges, kept)
    if not court.asked_twice(case):
        return canaries, []
    asked = asked_about(case, court, kept)
    reasked: list[Reasked] = []
    for judge in judges:
        about = asked.get(judge.name, frozenset())
        first = _verdicts(case, judge, about, kept, court)
        second = _verdicts(case, judge.again(), about, kept, court)
        reasked += [row for row in reasked_rows(first, second) if row.status is not VerdictStatus.NOT_ASKED]
    return canaries, reasked
