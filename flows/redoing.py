"""A stage of a round once more, from what is stored: no model is asked.

The rule that must not break: pairs that a round's checkpoint came from stay as they are, or it would come from nowhere. (What
`prefactory train` made of earlier pairs knows their digest, and does not go on with others.)
"""

from factory.client.gate import Gate
from factory.ledger.identity import Stage
from factory.ledger.rounds import sources_taken
from factory.opening import Opened, open_run
from factory.progress import Progress
from factory.run import RunFolder
from factory.semi_online import read_story, recipe_of
from flows.plain import PlainRunner
from flows.round import make_round
from flows.stopping import StopSignals
from schemas.errors import Fixable
from schemas.manifest import RunManifest
from schemas.recipe import Recipe


def redo(
    run: RunFolder, recipe: Recipe, stage: Stage, signals: StopSignals, progress: Progress
) -> tuple[Opened, RunManifest, int]:
    """`recipe`: the run's. The caller holds the folder's lock. Raises Fixable where something is not there."""
    if stage is Stage.PAIRS and read_story(run).rounds:
        raise Fixable(
            f"{run.root}: checkpoints were trained on its pairs; copy the recipe under another `name` to pair anew"
        )
    own = recipe_of(recipe, run)
    redone = Stage.BALANCE if stage is Stage.PAIRS else stage
    opened = open_run(own, progress, redone, round_=run.round, sources=sources_taken(run))
    if opened.work.pending(Stage.VERDICTS):
        raise Fixable(f"{run.root}: not every prompt is judged yet; `prefactory judge` goes on with it")
    found: list[tuple[RunManifest, int]] = []
    gate = Gate()  # it sends nothing

    async def work() -> None:
        runner = PlainRunner(own.machine.shards_in_flight, gate)
        found.append(await make_round(opened, runner, stage, gate=gate, offline=True))

    signals.run(work(), gate)
    return opened, *found[0]
