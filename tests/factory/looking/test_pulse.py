"""A run that goes on, as somebody sees it who only looks.

Watch(root).look().stages     # rollouts 48 of 78, …
"""

from dataclasses import replace
from pathlib import Path

import pytest

from factory.ledger.identity import Stage
from factory.looking.figures import Tally, figures
from factory.looking.pulse import OLD, Done, Pulse, Speed, Watch, lines_of
from factory.looking.report_figures import Rate
from factory.recipes.recipe_file import read_recipe
from factory.run import RunFolder, run_folder
from factory.serving.engines import say_live
from schemas.errors import Fixable
from schemas.manifest import ServerNow, Spent
from tests.conftest import RecipeWriter
from tests.fake_engine import FakeEngine
from tests.runs import make

SERVER = ServerNow(url="http://127.0.0.1:1/v1", state="serves", in_flight=3, places=8)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def stages(pulse: Pulse) -> dict[Stage, tuple[int, int]]:
    return {one.stage: (one.done, one.total) for one in pulse.stages}


def test_look_goes_along_with_the_stages(write_recipe: RecipeWriter) -> None:
    path = write_recipe()
    root, _ = make(path, Stage.PROMPTS)
    watch = Watch(root)
    begun = watch.look()
    make(path, Stage.ROLLOUTS)
    answered = watch.look()
    make(path, Stage.PAIRS)
    through = watch.look()

    judged = stages(through)[Stage.VERDICTS][1]
    assert stages(begun) == {Stage.ROLLOUTS: (0, 78), Stage.VERDICTS: (0, 234), Stage.PAIRS: (0, 13)}
    assert stages(answered) == {Stage.ROLLOUTS: (78, 78), Stage.VERDICTS: (0, judged), Stage.PAIRS: (0, 13)}
    assert stages(through) == {Stage.ROLLOUTS: (78, 78), Stage.VERDICTS: (judged, judged), Stage.PAIRS: (13, 13)}
    assert [one.finished for one in (begun, answered, through)] == [False, False, True]
    assert (begun.loops, begun.outcome.prompts) == (None, 0)
    whole = figures(root)
    assert (through.outcome.causes, through.outcome.dropped) == (whole.causes, whole.dropped)
    assert through.loops is not None
    assert through.loops.hits == sum(slot.hard for slot in whole.slots)
    assert through.spent.requests > 0


def test_look_counts_what_an_unfinished_shard_has_kept(write_recipe: RecipeWriter) -> None:
    root, _ = make(write_recipe(), Stage.PROMPTS)
    journal = root / "round=0" / "_journal" / f"rollouts-00001-{'0' * 16}.jsonl"
    journal.parent.mkdir(exist_ok=True)
    journal.write_text("an answer\nanother\nhalf of a th")

    assert stages(Watch(root).look())[Stage.ROLLOUTS] == (2, 78)


def test_look_reads_a_record_once(write_recipe: RecipeWriter) -> None:
    root, _ = make(write_recipe())
    watch = Watch(root)
    before = watch.look()
    for record in (root / "round=0" / "_records").glob("*.json"):
        record.unlink()

    assert stages(watch.look()) == stages(before)


def test_speed_is_over_the_last_minute(write_recipe: RecipeWriter) -> None:
    root, _ = make(write_recipe(), Stage.PROMPTS)
    clock = Clock()
    watch = Watch(root, clock)
    speeds = []
    for requests, written in ((0, 0), (100, 1000), (160, 1600)):
        RunFolder(root).spent_path.write_text(
            Spent(requests=requests, prompt_tokens=0, completion_tokens=written).model_dump_json()
        )
        speeds.append(watch.look().speed)
        clock.now += 60

    assert speeds == [None, Speed(100 / 60, 0, 1000 / 60, 0), Speed(1, 0, 10, 0)]


def test_servers_are_those_of_a_process_at_work(write_recipe: RecipeWriter) -> None:
    root, _ = make(write_recipe(), Stage.PROMPTS)
    run, clock = RunFolder(root), Clock()
    say_live(run.live_path, [SERVER])
    clock.now = run.live_path.stat().st_mtime
    found = [Watch(root, clock).look().servers]
    clock.now += OLD + 1
    found.append(Watch(root, clock).look().servers)
    run.live_path.write_text("{")
    found.append(Watch(root, clock).look().servers)

    assert found == [(SERVER,), (), ()]


def test_servers_are_said_while_a_run_is_at_work_and_not_after(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factory.serving.engines.EVERY", 0.0)
    path = write_recipe()
    root = run_folder(read_recipe(path))
    seen: list[ServerNow] = []

    class Looking:
        def say(self, line: str) -> None: ...

        def begin(self, phase: str, total: int) -> None: ...

        def advance(self, phase: str, steps: int = 1) -> None:
            seen.extend(Watch(root).look().servers)

        def expect(self, phase: str, more: int) -> None: ...

    make(path, Stage.ROLLOUTS, Looking())

    assert {one.url for one in seen} == {fake_engine.url}
    assert max(one.in_flight for one in seen) > 1
    assert all(one.in_flight <= one.places for one in seen)
    assert not RunFolder(root).live_path.exists()


def test_look_at_what_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(Fixable, match="no run there"):
        Watch(tmp_path).look()


GOING = Pulse(
    round=0,
    stages=(Done(Stage.ROLLOUTS, 50, 100), Done(Stage.VERDICTS, 0, 300), Done(Stage.PAIRS, 0, 20)),
    spent=Spent(requests=50, prompt_tokens=500, completion_tokens=5000),
    speed=Speed(requests=2, read=10, written=85, steps=2),
    loops=None,
    outcome=Tally(0, {}, {}),
    servers=(SERVER,),
)


def test_lines_say_what_is_known_and_nothing_else() -> None:
    assert lines_of(GOING) == [
        "round 0: rollouts 50 of 100, verdicts 0 of 300, pairs 0 of 20; about 3 min left",
        "50 requests and 5,500 tokens so far; 85 tokens/s written, 10 read, 2.0 requests/s",
        "in flight: http://127.0.0.1:1/v1 3 of 8",
    ]


def test_lines_say_what_it_cost_and_what_is_done_beside_the_stages() -> None:
    training = "training from round 0: step 12 of 60, since 14:03:10 (4 min)"

    first, second, third, _ = lines_of(replace(GOING, cost=0.01234, doing=(training,)))

    assert first.startswith("round 0: ")
    assert second == training
    assert third.startswith("50 requests and 5,500 tokens so far, at a cost of 0.0123; ")


def test_lines_of_what_came_of_it() -> None:
    later = replace(
        GOING,
        speed=None,
        servers=(SERVER.model_copy(update={"state": "out"}),),
        loops=Rate("so far", 1, 50),
        outcome=Tally(20, {"jury": 12}, {"below_margin": 3, "no_quorum": 1}),
    )

    assert lines_of(later) == [
        "round 0: rollouts 50 of 100, verdicts 0 of 300, pairs 0 of 20",
        "50 requests and 5,500 tokens so far",
        "in flight: http://127.0.0.1:1/v1 3 of 8 (out)",
        "hard loops 2.0% (0.4% to 10.5%) of 50 answers; 12 pairs; 4 dropped: below_margin 3, no_quorum 1",
    ]
