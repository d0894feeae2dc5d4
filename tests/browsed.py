"""A run to browse: two rounds of pairs, whose texts mean harm, with a loop that the detector itself has found.

with served(a_browsed_run(tmp_path), tmp_path / "cache") as page: ...      # the pages, without a network
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from starlette.testclient import TestClient

from factory.browsing.application import application
from factory.browsing.desk import Desk
from factory.browsing.index import Index
from factory.browsing.listing import Pairs
from factory.browsing.marking import Pen
from factory.loops import detect
from factory.run import RunFolder
from schemas.chat import Message, Role
from schemas.rows import Cause, Confirmation, Loop, Pair, Rollout, Row, Scorecard, Verdict, VerdictStatus
from schemas.tables import Table
from tests.reports import HOSTILE, NULL, a_manifest, a_run
from tests.samples import a_prompt, a_rollout

UNIT = "The old yeast, dry, was the solution. "
LOOPED = "Let us see. " + UNIT * 12
SLOTS = ("greedy", "t0", "t1", "t2", "t3", "t4")
TOKEN = "token"
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def a_browsed_run(root: Path) -> Path:
    """The first round as `tests.reports.a_run` has it, the second one with 30 pairs, every third one against a loop."""
    a_run(root)
    run = RunFolder(root, 1)
    ids = [f"p{number:02d}" for number in range(30)]
    answers = {prompt_id: _answers(at, prompt_id) for at, prompt_id in enumerate(ids)}
    rows: dict[Table, list[Row]] = {
        Table.PROMPTS: [a_prompt(prompt_id, f"What about number {at}?") for at, prompt_id in enumerate(ids)],
        Table.ROLLOUTS: [one for own in answers.values() for one in own],
        Table.VERDICTS: [_verdict(one) for own in answers.values() for one in own],
        Table.SCORECARDS: [_scorecard(one) for own in answers.values() for one in own],
        Table.PAIRS: [_pair(at, prompt_id, answers[prompt_id]) for at, prompt_id in enumerate(ids)],
        Table.CONFIRMATIONS: [
            Confirmation("p01", "p01:t0", "p01:t1", "clarity", True, VerdictStatus.OK, 0.8, 0.9, f"A {NULL}"),
        ],
    }
    for table, own in rows.items():
        run.write_part(table, 0, own)
    run.write_manifest(a_manifest())
    return root


def _answers(at: int, prompt_id: str) -> list[Rollout]:
    own = [a_rollout(prompt_id, slot, f"Answer {slot} to {at}") for slot in SLOTS]
    if at % 3 == 0:
        found = detect(LOOPED, "length")
        own[0] = replace(
            own[0],
            text=LOOPED,
            finish_reason="length",
            loop=found.kind,
            loop_rule=found.rule,
            loop_onset=found.onset,
            loop_period=found.period,
            loop_repeats=found.repeats,
            loop_share=found.share,
        )
    return own


def _verdict(one: Rollout) -> Verdict:
    looped = one.loop is Loop.HARD
    status = VerdictStatus.SKIPPED_LOOP if looped else VerdictStatus.OK
    return Verdict(one.prompt_id, one.rollout_id, "clarity", status, None if looped else 5.0, reply=HOSTILE, calls=1)


def _scorecard(one: Rollout) -> Scorecard:
    looped = one.loop is Loop.HARD
    note = "hard loop" if looped else "same text as another" if one.slot == "t4" else None
    return Scorecard(
        one.prompt_id, one.rollout_id, -2 if looped else 0, None if looped else 0.5, 0.2, 1, not note, note
    )


def _pair(at: int, prompt_id: str, answers: list[Rollout]) -> Pair:
    looped = at % 3 == 0
    chosen, rejected = answers[1], answers[0 if looped else 2]
    return Pair(
        prompt_id=prompt_id,
        messages=(Message(Role.USER, f"What about number {at}?"),),
        chosen=chosen.answer,
        rejected=rejected.answer,
        chosen_id=chosen.rollout_id,
        rejected_id=rejected.rollout_id,
        chosen_score=0.5,
        rejected_score=None if looped else 0.5 - at / 10,
        margin=None if looped else at / 10,
        agreement=None if looped else 1.0 if at % 2 else 0.5,
        cause=Cause.LOOP if looped else Cause.JURY,
        prompt_token_ids=None,
        chosen_token_ids=None,
        rejected_token_ids=None,
        rejected_trimmed=False,
        rejected_ended=not looped,
    )


@dataclass(frozen=True)
class Page:
    """The page as a browser on this machine asks for it."""

    client: TestClient
    pairs: Pairs
    root: Path

    def get(self, path: str = "/", **headers: str) -> str:
        answer = self.client.get(f"/{TOKEN}{path}", headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.text


@contextmanager
def served(root: Path, cache: Path) -> Iterator[Page]:
    index = Index(root, cache)
    index.look()
    index.finish()
    pairs = Pairs(index)
    pen = Pen(RunFolder(root), "ann", lambda: AT)
    desk = Desk(pairs, pen, f"/{TOKEN}", "known")
    with TestClient(application(desk, TOKEN), base_url="http://127.0.0.1:8000", follow_redirects=False) as client:
        yield Page(client, pairs, root)
    pen.close()
    pairs.close()
