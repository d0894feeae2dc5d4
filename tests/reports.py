"""A small run whose every figure is known, and whose texts mean harm, for tests of what is shown of a run.

a_run(tmp_path)      # four prompts of two sources, three pairs, one drop, a measured jury; no engine
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from factory.run import RunFolder
from schemas.chat import Message, Role
from schemas.manifest import Provenance, RunManifest
from schemas.rows import (
    Cause,
    Dropped,
    DropReason,
    Loop,
    LoopRule,
    Pair,
    Prompt,
    Rollout,
    Row,
    TrustFigure,
    Verdict,
    VerdictStatus,
)
from schemas.tables import Table
from tests.samples import a_prompt, a_rollout

LONG = "w" * 10_000
HOSTILE = "</p><script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'>{{ 7 * 7 }} $x^2$"
TURNED = "שלום עולם \u202egnorw\u202c مرحبا"
NULL = "before\x00after \x1b[31mred"
TEXTS = (HOSTILE, LONG, TURNED, NULL)
SOURCES = ("questions", "<b>$odd$</b>\x00 詩")
NAMES = ("a", "b", "c", "d")
CAUSES = (Cause.JURY, Cause.LOOP, Cause.VERIFIER)


def a_manifest(name: str = "known") -> RunManifest:
    time = datetime(2026, 1, 1, tzinfo=UTC)
    return RunManifest(
        name=name,
        created=time,
        updated=time,
        identity={"rollouts.max_tokens": "64", "policy.model": '"/home/somebody/runs/model"'},
        provenance=Provenance(
            models={"policy": "0123"}, rubrics={"clarity": "45"}, sources={"questions": "67"}, detector="1"
        ),
        prompts=4,
        shards=1,
        pairs=3,
        dropped={"below_margin": 1},
        seconds={"rollouts": 12.0},
    )


def a_run(root: Path, *, name: str = "known", token_ids: tuple[int, ...] | None = (1, 2)) -> Path:
    """`token_ids`: of every side of a pair."""
    rows: Mapping[Table, list[Row]] = {
        Table.PROMPTS: [_prompt(at, each) for at, each in enumerate(NAMES)],
        Table.ROLLOUTS: [rollout for at, each in enumerate(NAMES) for rollout in _answers(at, each)],
        Table.VERDICTS: [_verdict(each, judge) for each in NAMES for judge in ("clarity", "helpfulness")],
        Table.PAIRS: [_pair(at, each, token_ids) for at, each in enumerate(NAMES[:3])],
        Table.DROPPED: [Dropped("d", DropReason.BELOW_MARGIN)],
        Table.TRUST: [
            TrustFigure("judges", None, 2.0, n=2),
            TrustFigure("n_eff", None, 1.1, n=2),
            TrustFigure("alpha_centred", None, 0.7, n=8),
            TrustFigure("canaries", "clarity", 0.5, 0.2, 0.8, 10),
            TrustFigure("canaries", "helpfulness", 0.9, 0.6, 0.98, 10),
            TrustFigure("length_slope", "clarity", 0.4, n=8),
        ],
    }
    run = RunFolder(root)
    for table, own in rows.items():
        run.write_part(table, 0, own)
    run.write_manifest(a_manifest(name))
    return root


def _prompt(at: int, prompt_id: str) -> Prompt:
    asked = (Message(Role.USER, TEXTS[at]),)
    return replace(a_prompt(prompt_id), source=SOURCES[at % 2], messages=asked)


def _answers(at: int, prompt_id: str) -> list[Rollout]:
    """The greedy one of the second prompt is a loop."""
    greedy = a_rollout(prompt_id, "greedy", TEXTS[at])
    if at == 1:
        greedy = replace(greedy, loop=Loop.HARD, loop_rule=LoopRule.EXACT, finish_reason="length")
    return [greedy, a_rollout(prompt_id, "t0", TEXTS[-1 - at])]


def _pair(at: int, prompt_id: str, ids: tuple[int, ...] | None) -> Pair:
    cause = CAUSES[at]
    margin = None if cause is Cause.LOOP else 0.6 - at
    return Pair(
        prompt_id=prompt_id,
        messages=(Message(Role.USER, TEXTS[at]),),
        chosen=TEXTS[-1 - at],
        rejected=TEXTS[at],
        chosen_id=f"{prompt_id}:t0",
        rejected_id=f"{prompt_id}:greedy",
        chosen_score=1.0,
        rejected_score=None,
        margin=margin,
        agreement=None,
        cause=cause,
        prompt_token_ids=None,
        chosen_token_ids=None if ids is None else ids * 4,
        rejected_token_ids=ids,
        rejected_trimmed=False,
        rejected_ended=True,
    )


def _verdict(prompt_id: str, judge: str) -> Verdict:
    status, score = (VerdictStatus.OK, 5.0) if prompt_id != "d" else (VerdictStatus.UNREADABLE, None)
    return Verdict(prompt_id, f"{prompt_id}:t0", judge, status, score, prompt_tokens=10, completion_tokens=1, calls=1)
