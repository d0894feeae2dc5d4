"""One run that is killed again and again until it is done, and everything that a kill must not leave behind.

The rule that its reader must not break: what is counted is counted outside of the run: requests by the server that got them
(by the fuse, where the server is the run's own and dies with it), processes by a mark in their environment and by whose
children they were, rows by reading the tables of the finished folder.
"""

import os
import random
import subprocess
import sys
import time
import uuid
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path

import psutil

from benchmarks.asked import arrived
from benchmarks.kill_points import Event
from factory import store
from factory.files import is_temporary
from factory.run import RunFolder
from schemas.rows import TrustFigure

MARK = "PREFACTORY_KILLS"
GRACE = 15.0  # seconds that what a killed process has started may take to see it
SETTLE = 0.2  # seconds in which the server reads what a dead process has sent
LOOK = 0.2  # seconds between two looks at the family of a living one
LONGEST = 300.0  # seconds for one process; more is a hang


@contextmanager
def serving(log: Path, seconds: float, without: Sequence[str]) -> Iterator[str]:
    """The server's address. What arrives there stands in `log`."""
    command = [sys.executable, "-m", "benchmarks.kill_server", str(log), str(seconds), *without]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


@dataclass(frozen=True, slots=True)
class Kill:
    where: str  # the event before it
    at: float  # on the monotonic clock, when all that the process sent has arrived and before the next one starts
    under_way: int  # questions that were begun and had no answer in a journal
    orphans: int
    seconds: float  # until the last process was gone


@dataclass
class Life:
    """What a run went through."""

    kills: list[Kill] = field(default_factory=list)
    code: int = 0
    said: str = ""
    requests: int = 0
    left: list[str] = field(default_factory=list)  # temporary files, journals, and what lies in its own temp folder
    arrived: list[tuple[float, str]] = field(default_factory=list)

    def counts(self) -> Counter[str]:
        return Counter(digest for _, digest in self.arrived)

    def repeated(self, undisturbed: Mapping[str, int]) -> Counter[str]:
        """The questions that came more often than in a run in which nothing happened."""
        return Counter({digest: n - undisturbed.get(digest, 0) for digest, n in self.counts().items()}) & self.counts()

    def beyond(self, undisturbed: Mapping[str, int], window: int) -> int:
        """Of those, the ones that no kill explains: each kill explains what was under way then, `window` at most.

        A question is explained by a kill of the very process that sent it.
        """
        room = [min(window, kill.under_way) for kill in self.kills]
        extra = self.repeated(undisturbed)
        sent = {digest: self._killed_senders(digest, extra[digest], undisturbed.get(digest, 0)) for digest in extra}
        unexplained = 0
        for digest in sorted(extra, key=lambda one: sent[one].total() - extra[one]):  # those without a choice first
            for _ in range(extra[digest]):
                kill = max(sent[digest].elements(), key=lambda one: room[one], default=None)
                if kill is None or room[kill] == 0:
                    unexplained += 1
                    continue
                room[kill] -= 1
                sent[digest][kill] -= 1
        return unexplained

    def _killed_senders(self, digest: str, extra: int, wanted: int) -> Counter[int]:
        """How often each killed process sent a question in vain, by the number of the kill.

        Of a question that is asked once the last sending was the good one. One that is asked again when its reply cannot be
        read leaves open which were: all are in it.
        """
        kills = [kill.at for kill in self.kills]
        numbers = [bisect(kills, at) for at, own in self.arrived if own == digest]
        return Counter(number for number in (numbers[:extra] if wanted == 1 else numbers) if number < len(kills))


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a run is killed: its folder, its recipe, how it is run."""

    root: Path
    recipe: Path
    words: tuple[str, ...]
    log: Path  # a line for each question that arrived
    bytecode: Path  # where every process of the bench finds it

    @property
    def note(self) -> Path:
        """What the fuse says."""
        return self.root / "note"


@dataclass(frozen=True, slots=True)
class Point:
    """When a process is killed: `seconds` after the `count`-th event."""

    kind: Event
    count: int
    seconds: float


NEVER = Point(Event.NONE, 1, 0.0)


def drawn(chance: random.Random, most: int, events: tuple[int, int]) -> Iterator[Point]:
    """`most` points. `events`: files and answers of an undisturbed run."""
    for _ in range(most):
        kind = chance.choice((Event.FILE, Event.FILE, Event.ANSWER))
        whole = events[0] if kind is Event.FILE else events[1]
        count = chance.randint(1, max(2, whole // 3))
        yield Point(kind, count, chance.choice((0.0, 0.002, 0.02)))


def live(scene: Scene, points: Iterable[Point], killed: Callable[[], None] = lambda: None) -> Life:
    """Start, kill, start again, until it is done. `killed` is called when all that a kill left has had time to go."""
    life = Life()
    for point in chain(points, repeat(NEVER)):
        mark = uuid.uuid4().hex
        scene.note.unlink(missing_ok=True)
        ended = _start(scene, point, mark)
        life.code, life.said = ended.code, ended.said
        if ended.code != -9:
            break
        where, under_way = scene.note.read_text().splitlines()
        began = time.monotonic()
        orphans = _orphans(mark, ended.family)
        time.sleep(SETTLE)
        life.kills.append(Kill(where, time.monotonic(), int(under_way), orphans, time.monotonic() - began))
        killed()
    life.left = _left(scene)
    life.arrived = arrived(scene.log)
    life.requests = len(life.arrived)
    return life


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended, what it said, and who came of it."""

    code: int
    said: str
    family: frozenset[psutil.Process]


def _start(scene: Scene, point: Point, mark: str) -> Ended:
    (scene.root / "tmp").mkdir(exist_ok=True)
    fuse = [point.kind.value, str(point.count), str(point.seconds), str(scene.note), f"{scene.root}/runs"]
    command = [sys.executable, "-m", "benchmarks.kill_points", *fuse, "run", str(scene.recipe), *scene.words]
    said = scene.root / "said"
    with (
        said.open("w") as sink,
        subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=sink, env=_environment(scene) | {MARK: mark}
        ) as process,
    ):
        family = _watched(process)
    return Ended(process.returncode, said.read_text(errors="replace"), family)


def _watched(process: "subprocess.Popen[bytes]") -> frozenset[psutil.Process]:
    """All that came of a process until its end. A mark is no proof of them: vLLM's workers overwrite their environment."""
    family: set[psutil.Process] = set()
    deadline = time.monotonic() + LONGEST
    while process.poll() is None:
        if time.monotonic() > deadline:
            process.kill()
            raise TimeoutError(f"{process.args!r} is not done after {LONGEST:g} s")
        with suppress(psutil.NoSuchProcess):
            family |= set(psutil.Process(process.pid).children(recursive=True))
        with suppress(subprocess.TimeoutExpired):
            process.wait(LOOK)
    return frozenset(family)


def _environment(scene: Scene) -> dict[str, str]:
    """Temporary files go where they are seen, and bytecode beside, so that a start takes no longer than a user's."""
    own = {"TMPDIR": str(scene.root / "tmp"), "PYTHONPYCACHEPREFIX": str(scene.bytecode)}
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | own


def _orphans(mark: str, family: Iterable[psutil.Process]) -> int:
    """Processes of a dead one that are still there after a while."""
    deadline = time.monotonic() + GRACE
    while (alive := {*marked(mark), *living(family)}) and time.monotonic() < deadline:
        time.sleep(0.1)
    return len(alive)


def living(family: Iterable[psutil.Process]) -> list[int]:
    found = []
    for process in family:
        with suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def marked(mark: str) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def _left(scene: Scene) -> list[str]:
    """Unfinished files in the run folder, journals, and whatever lies in the folder for temporary files."""
    run = [path for path in (scene.root / "runs").rglob("*") if is_temporary(path.name) or path.suffix == ".jsonl"]
    return [str(path) for path in (*run, *(scene.root / "tmp").iterdir())]


def rows_of(root: Path) -> dict[str, list[object]]:
    """Every row of a finished run, table by table. Of what was measured, seconds are left out: they are never the same."""
    run = RunFolder(root)
    found: dict[str, list[object]] = {}
    for table, kind in store.ROW_TYPES.items():
        shards = [shard for shard in range(max(1, run.shards())) if run.part_path(table, shard).exists()]
        rows: list[object] = [row for shard in shards for row in run.read_rows(kind, shard)]  # type: ignore[type-var]  # each
        found[table.value] = [row for row in rows if not (isinstance(row, TrustFigure) and row.figure == "seconds")]
    return found


def lost_rows(made: Mapping[str, Sequence[object]], undisturbed: Mapping[str, Sequence[object]]) -> int:
    """Rows of the undisturbed run that are not there, or not the same, or in another place; and rows too many."""
    lost = 0
    for table, wanted in undisturbed.items():
        have = made.get(table, ())
        lost += abs(len(have) - len(wanted)) + sum(one != other for one, other in zip(have, wanted, strict=False))
    return lost
