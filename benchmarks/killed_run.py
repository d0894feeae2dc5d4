"""One run that is killed again and again until it is done, and everything that a kill must not leave behind.

The rule that its reader must not break: what is counted is counted outside of the run: requests by the server that got them,
processes by a mark in their environment, rows by reading the tables of the finished folder.
"""

import os
import random
import subprocess
import sys
import time
import uuid
from bisect import bisect
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.kill_points import Event
from benchmarks.kill_server import ARRIVED
from factory import store
from factory.files import is_temporary
from factory.run import RunFolder
from schemas.rows import TrustFigure

MARK = "PREFACTORY_KILLS"
GRACE = 15.0  # seconds that what a killed process has started may take to see it
SETTLE = 0.2  # seconds in which the server reads what a dead process has sent
LONGEST = 300.0  # seconds for one process; more is a hang


@dataclass(frozen=True, slots=True)
class Server:
    url: str
    log: Path

    def lines(self) -> list[tuple[str, float, str]]:
        found = []
        for line in self.log.read_text().splitlines() if self.log.exists() else ():
            letter, at, digest = line.split()
            found.append((letter, float(at), digest))
        return found


@contextmanager
def serving(log: Path, seconds: float, without: Sequence[str]) -> Iterator[Server]:
    command = [sys.executable, "-m", "benchmarks.kill_server", str(log), str(seconds), *without]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield Server(process.stdout.readline().strip(), log)
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
    """Where a run is killed: its folder, its recipe, how it is run, and from where chance comes."""

    root: Path
    recipe: Path
    words: tuple[str, ...]
    server: Server
    chance: random.Random
    bytecode: Path  # where every process of the bench finds it


def live(scene: Scene, most: int, events: tuple[int, int]) -> Life:
    """Start, kill, start again, until it is done. `most` kills; `events`: files and answers of an undisturbed run."""
    life = Life()
    while True:
        if len(life.kills) < most:
            kind = scene.chance.choice((Event.FILE, Event.FILE, Event.ANSWER))
            whole = events[0] if kind is Event.FILE else events[1]
            count = scene.chance.randint(1, max(2, whole // 3))
            seconds = scene.chance.choice((0.0, 0.002, 0.02))
        else:
            kind, count, seconds = Event.NONE, 1, 0.0
        mark, note = uuid.uuid4().hex, scene.root / "note"
        note.unlink(missing_ok=True)
        ended = _start(scene, kind, count, seconds, mark)
        life.code, life.said = ended.returncode, ended.stderr
        if ended.returncode != -9:
            break
        where, under_way = note.read_text().splitlines()
        began = time.monotonic()
        orphans = _orphans(mark)
        time.sleep(SETTLE)
        life.kills.append(Kill(where, time.monotonic(), int(under_way), orphans, time.monotonic() - began))
    life.left = _left(scene)
    life.arrived = [(at, digest) for letter, at, digest in scene.server.lines() if letter == ARRIVED]
    life.requests = len(life.arrived)
    return life


def _start(scene: Scene, kind: Event, count: int, seconds: float, mark: str) -> "subprocess.CompletedProcess[str]":
    (scene.root / "tmp").mkdir(exist_ok=True)
    fuse = [kind.value, str(count), str(seconds), str(scene.root / "note"), f"{scene.root}/runs"]
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.kill_points", *fuse, "run", str(scene.recipe), *scene.words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(scene) | {MARK: mark},
        timeout=LONGEST,
        check=False,
    )


def _environment(scene: Scene) -> dict[str, str]:
    """Temporary files go where they are seen, and bytecode beside, so that a start takes no longer than a user's."""
    own = {"TMPDIR": str(scene.root / "tmp"), "PYTHONPYCACHEPREFIX": str(scene.bytecode)}
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | own


def _orphans(mark: str) -> int:
    """Processes of a dead one that are still there after a while."""
    deadline = time.monotonic() + GRACE
    while (alive := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return len(alive)


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
