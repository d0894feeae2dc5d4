"""Rounds that a schedule makes with nobody there, on a real Prefect server and a real worker, and what kills do to them.

    python -m benchmarks.schedule            # a schedule every minute; about ten minutes
    python -m benchmarks.schedule --quick    # every twenty seconds, and no real model
    python -m benchmarks.schedule --browser chromium --shots FOLDER    # the pages too, as a browser shows them

1. A first round by schedule; the server is killed in its middle and started again.
2. The prompts' file grows; in the middle of the round that follows the worker is killed with all that it had started. No
   worker is there while schedules pass, then one is started again: the round is finished, what was missed caught up once.
3. The deployments of export and verify, each started by hand.
4. Without --quick: two rounds of the shipped model, which each run starts and stops.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from factory.looking import queries
from factory.recipes.recipe_file import read_recipe
from factory.run import run_folder
from tests.conftest import PROMPTS, RecipeWriter
from tests.fake_engine import FakeEngine, always, hang, no_faults, slowly, whenever
from tests.prefect_scene import FlowRun, Scene, prefect_scene

MINUTELY, OFTEN = "* * * * *", "* * * * * */20"
DOWN = 3.0  # seconds that the server is away
OLD, NEW = PROMPTS[7:12], [{"prompt": f"Write a sentence about the letter {letter}."} for letter in "abc"]
REAL: Mapping[str, object] = {
    "policy": {"model": "SmolLM2-135M-Instruct"},
    "rollouts": {"max_tokens": 48},
    "jury.trust": {"canaries": 0, "reasked": 0},
    "machine.shard_size": 3,
}


@dataclass(frozen=True, slots=True)
class Shown:
    """What a scene came to."""

    scene: str
    rounds: list[int]  # prompts of each
    twice: int  # prompts that more than one round took
    states: dict[str, int]
    seconds: float


def shown(name: str, root: Path, runs: Sequence[FlowRun], began: float) -> Shown:
    counts = queries.ask(root, "SELECT count(*) FROM prompts GROUP BY round ORDER BY round").rows
    ((twice,),) = queries.ask(root, "SELECT count(*) - count(DISTINCT prompt_id) FROM prompts").rows
    states = Counter(run.name for run in runs)
    rounds = [int(str(count)) for (count,) in counts]
    return Shown(name, rounds, int(str(twice)), dict(sorted(states.items())), round(time.monotonic() - began, 1))


def finished(scene: Scene, count: int) -> bool:
    return len(scene.runs("Completed")) >= count


def server_killed(scene: Scene, engine: FakeEngine, recipe: Path, cron: str) -> Shown:
    began = time.monotonic()
    engine.faults = always(slowly(1.0))
    scene.prefactory("deploy", str(recipe), "--cron", cron)
    scene.start_worker()
    scene.wait(lambda: len(engine.questions) > 20, "the first answers")
    scene.kill("server")
    time.sleep(DOWN)
    scene.start_server()
    engine.faults = no_faults
    scene.wait(lambda: finished(scene, 1), "the round in whose middle the server was killed")
    return shown("server killed in the middle of a round", root_of(recipe), scene.runs(), began)


def worker_killed(scene: Scene, engine: FakeEngine, write: RecipeWriter, missed: float) -> Shown:
    began = time.monotonic()
    engine.faults = whenever(lambda seen: "the letter" in seen.asked, hang)
    recipe = write(prompts=[*OLD, *NEW])
    scene.wait(lambda: any("the letter" in seen.asked for seen in engine.questions), "the second round")
    scene.kill("worker")
    time.sleep(missed)
    engine.faults = no_faults
    scene.start_worker()
    scene.wait(lambda: finished(scene, 2), "the worker after it")
    scene.wait(lambda: bool(scene.runs("NothingNew")), "the schedule after that")
    return shown("worker killed in the next one, and away", root_of(recipe), scene.runs(), began)


def by_hand(scene: Scene, recipe: Path) -> Shown:
    began, before = time.monotonic(), {run.id for run in scene.runs()}

    def ended() -> list[FlowRun]:
        return [run for run in scene.runs("Completed", "Failed", "Crashed") if run.id not in before]

    for count, name in enumerate(("export", "verify"), 1):
        scene.said("prefect", "deployment", "run", f"prefactory-{name}/small")
        scene.wait(partial(lambda count: len(ended()) == count, count), name)
    return shown("export and verify, started by hand", root_of(recipe), ended(), began)


def real_model(folder: Path) -> Shown:
    """With a server of its own; the model is where the user's cache has it."""
    began = time.monotonic()
    write = RecipeWriter(folder, "")
    recipe = write(REAL, OLD[:3])
    with prefect_scene(folder) as scene:
        scene.prefactory("deploy", str(recipe), "--cron", MINUTELY)
        scene.start_worker()
        scene.wait(lambda: finished(scene, 1), "the model's first round", 900)
        write(REAL, [*OLD[:3], *NEW])
        scene.wait(lambda: finished(scene, 2), "the model's second round", 900)
        return shown("the shipped model, two schedules", root_of(recipe), scene.runs(), began)


def root_of(recipe: Path) -> Path:
    return run_folder(read_recipe(recipe))


def as_recorded(root: Path) -> bool:
    return (
        subprocess.run(
            [sys.executable, "-m", "flows.cli", "verify", str(root)], capture_output=True, check=False
        ).returncode
        == 0
    )


def look(scene: Scene, browser: str, shots: Path) -> None:
    """Pictures of the pages that a person opens."""
    shots.mkdir(parents=True, exist_ok=True)
    run = scene.runs("Completed")[0].id
    tables = [one["id"] for one in scene.artifacts() if one["type"] == "table" and one["flow_run_id"] == run]
    pages = {
        "run": f"runs/flow-run/{run}",
        "figures": f"artifacts/artifact/{tables[-1]}",
        "deployments": "deployments",
    }
    for name, page in pages.items():
        subprocess.run(
            [
                *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,1600"),
                *("--virtual-time-budget=20000", f"--screenshot={shots / name}.png"),
                f"http://127.0.0.1:{scene.port}/{page}",
            ],
            capture_output=True,
            check=False,
            timeout=120,
        )


def table(found: Sequence[Shown]) -> Table:
    printed = Table(title="Rounds by schedule, with nobody there", title_justify="left", header_style="bold")
    for column in ("scene", "prompts by round", "taken twice", "flow runs by state", "seconds"):
        printed.add_column(column, justify="right" if column in ("taken twice", "seconds") else "left")
    for one in found:
        states = ", ".join(f"{name} {count}" for name, count in one.states.items())
        printed.add_row(one.scene, " + ".join(map(str, one.rounds)), str(one.twice), states, f"{one.seconds:.0f}")
    return printed


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.schedule", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="every twenty seconds, and without the real model")
    parser.add_argument("--browser", help="a Chromium, to look at the pages")
    parser.add_argument("--shots", type=Path, default=Path("runs/schedule-shots"), help="where the pictures go")
    options = parser.parse_args()
    cron, missed = (OFTEN, 45.0) if options.quick else (MINUTELY, 130.0)
    found: list[Shown] = []
    with tempfile.TemporaryDirectory(prefix="prefactory-schedule-") as name, FakeEngine() as engine:
        folder = Path(name)
        write = RecipeWriter(folder, engine.url)
        recipe = write(prompts=OLD)
        with prefect_scene(folder) as scene:
            found.append(server_killed(scene, engine, recipe, cron))
            found.append(worker_killed(scene, engine, write, missed))
            found.append(by_hand(scene, recipe))
            if options.browser:
                look(scene, options.browser, options.shots)
        whole = [root_of(recipe)]
        if not options.quick:
            (real := folder / "real").mkdir()
            found.append(real_model(real))
            whole.append(root_of(real / "recipe.yaml"))
        verified = all(as_recorded(root) for root in whole)
    console = Console()
    console.print(table(found))
    console.print(f"verify: {'all as recorded' if verified else 'not as recorded'}")
    print(json.dumps({"scenes": [asdict(one) for one in found], "verified": verified}))


if __name__ == "__main__":
    main()
