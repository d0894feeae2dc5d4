"""What the benchmark of the pure part makes and counts."""

from benchmarks.jury_speed import SHARD, SLOTS, Load, decided, made, pooled, texts
from factory.judging.spreads import PooledSpread
from schemas.recipe import JudgeRef, Jury, Pairing

LOAD = Load(SHARD + 40, 2, Jury(judges=[JudgeRef(judge="helpfulness", name=f"judge-{n}") for n in range(3)]), Pairing())


def test_made_rows_are_the_same_whenever_they_are_made() -> None:
    answers = texts()
    (first, *_), again = made(0, LOAD, answers), made(0, LOAD, answers)[0]
    assert first == again
    prompt, rollouts, verdicts = first
    assert [one.slot for one in rollouts] == list(SLOTS)
    assert {one.rollout_id for one in verdicts} == {one.rollout_id for one in rollouts}
    assert len({(one.rollout_id, one.judge) for one in verdicts}) == len(SLOTS) * 3
    assert {one.prompt_id for one in verdicts} == {prompt.prompt_id}


def test_processes_share_the_prompts_and_every_prompt_becomes_a_row() -> None:
    starts = sorted(first for worker in range(2) for first in LOAD.shards(worker))
    assert starts == [0, SHARD]
    spread = PooledSpread()
    for worker in range(2):
        spread.merge(pooled(worker, LOAD)[0])
    sigmas = spread.sigmas()
    assert sigmas.keys() == set(LOAD.jury.seats)
    outcomes = [decided(worker, LOAD, sigmas).outcomes for worker in range(2)]
    assert [one.total() for one in outcomes] == [SHARD, 40]
    assert any(name.startswith("pair: jury") for name in outcomes[0])
