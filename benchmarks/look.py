"""How long a person waits for `prefactory browse` on a large run: until it opens, and for each filter.

    python -m benchmarks.look                      1,000,000 pairs; making the folder takes ten minutes and 9 GB
    python -m benchmarks.look --pairs 100000
    python -m benchmarks.look --quick              5,000 pairs, a minute
    python -m benchmarks.look --folder /big/disk   where the run is made, and kept for the next time; else build/look

The command runs as a user runs it, in a process of its own, and is asked over HTTP on this machine. `open` is from the start of
the process to the last byte of its first page: once with an empty cache, where the index is still being made behind that page,
and once with a full one. Every other row is the slowest of a few times in a row, so that a filter that was never asked for
counts. A text is searched for behind the page; the rows `until all is searched` say when that is through. The last line of
the output is one JSON object.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from html import unescape
from pathlib import Path

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.look_folder import run_of, write_pairs
from benchmarks.scale import prefactory

OPENS, ANSWERS = 2.0, 1.0  # seconds that are meant to be enough
QUICK = 5_000
TIMES = 3
FILTERS: Mapping[str, str] = {
    "all pairs": "",
    "cause": "cause=jury",
    "margin": "least=1&most=1.2",
    "disagreement": "disagreement=0.3",
    "loop rule": "rule=exact",
    "source": "source=prompts",
    "slot": "chosen=t1&rejected=greedy",
    "unmarked": "mark=unmarked",
    "order by margin": "order=close",
    "order by disagreement": "order=disputed",
    "order at random": "order=random&seed=7",
    "a random sample": "order=random&seed=8&sample=100",
    "a disputed sample": "order=disputed&sample=100&mark=unmarked",
    "several at once": "cause=jury&least=0.5&chosen=t1&order=disputed",
}
WORDS: Mapping[str, str] = {"text that many have": "lamp", "text that none has": "zyzzyva"}


@dataclass(frozen=True, slots=True)
class Waited:
    """For one thing. `goal`: None where there is none."""

    what: str
    seconds: float
    goal: float | None

    @property
    def held(self) -> bool:
        return self.goal is None or self.seconds <= self.goal


@contextmanager
def browsing(run: Path, cache: Path) -> Iterator[tuple[str, psutil.Process]]:
    """The address of a page of that run, and its process."""
    environment = dict(os.environ) | {"XDG_CACHE_HOME": str(cache)}
    line = prefactory("browse", run, "--no-open", "--by", "benchmark")
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate()


def asked(client: httpx.Client, address: str) -> tuple[float, str]:
    """Seconds to the last byte, and the page."""
    began = time.monotonic()
    answer = client.get(address)
    assert answer.status_code == 200, answer.text
    return time.monotonic() - began, answer.text


def opened(run: Path, cache: Path, what: str, client: httpx.Client) -> Iterator[Waited]:
    """From the process's start; then until no page says that it is still reading."""
    began = time.monotonic()
    with browsing(run, cache) as (url, _):
        _, page = asked(client, url)
        yield Waited(f"open, {what}", time.monotonic() - began, OPENS)
        while "data-unfinished" in page:
            time.sleep(0.2)
            _, page = asked(client, url)
        yield Waited(f"open, {what}: until the index is whole", time.monotonic() - began, None)


def filtered(url: str, client: httpx.Client) -> Iterator[Waited]:
    for what, query in FILTERS.items():
        yield Waited(what, max(asked(client, f"{url}?{query}")[0] for _ in range(TIMES)), ANSWERS)


def paged(url: str, client: httpx.Client) -> Iterator[Waited]:
    _, page = asked(client, f"{url}?order=disputed")
    host = re.match(r"https?://[^/]+", url)
    assert host is not None
    (following, *_) = re.findall(r'rel="next" href="([^"]+)"', page)
    yield Waited("next page", asked(client, host[0] + unescape(following))[0], ANSWERS)
    (pair, *_) = re.findall(r'class="open" href="([^"]+)"', page)
    yield Waited(
        "one pair, all answers", max(asked(client, host[0] + unescape(pair))[0] for _ in range(TIMES)), ANSWERS
    )


def searched(url: str, client: httpx.Client) -> Iterator[Waited]:
    for what, word in WORDS.items():
        began, longest, page = time.monotonic(), 0.0, "data-unfinished"
        while "data-unfinished" in page:
            waited, page = asked(client, f"{url}?text={word}")
            longest = max(longest, waited)
        yield Waited(what, longest, ANSWERS)
        yield Waited(f"{what}: until all is searched", time.monotonic() - began, None)


def marked(url: str, run: Path, client: httpx.Client) -> Iterator[Waited]:
    """And the page that comes after it, which counts the marks anew."""
    _, page = asked(client, url)
    form = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.split("</form>")[1]))
    began = time.monotonic()
    answer = client.post(f"{url}mark", data=form | {"mark": "both_bad"})
    assert answer.status_code == 303, answer.text
    yield Waited("mark", time.monotonic() - began, ANSWERS)
    yield Waited("page after a mark", asked(client, url)[0], ANSWERS)
    (run / "human.jsonl").unlink()


def measured(run: Path) -> tuple[list[Waited], int]:
    """All of it, and the most memory in MB."""
    cache = Path(tempfile.mkdtemp(prefix="prefactory-look-"))
    try:
        with httpx.Client(timeout=60) as client:
            found = [*opened(run, cache, "no cache", client), *opened(run, cache, "cached", client)]
            with browsing(run, cache) as (url, process):
                found += [
                    *filtered(url, client),
                    *paged(url, client),
                    *marked(url, run, client),
                    *searched(url, client),
                ]
                return found, peak(process)
    finally:
        shutil.rmtree(cache)


def peak(process: psutil.Process) -> int:
    """Of its memory, as the kernel has it, in MB."""
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        return int(process.memory_info().rss / 1e6)
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) // 1000


def table(pairs: int, found: list[Waited]) -> Table:
    shown = Table("what", "seconds", "goal", "held", title=f"Waiting for a page of {pairs:,} pairs")
    for one in found:
        goal = "-" if one.goal is None else f"{one.goal:.0f}"
        shown.add_row(one.what, f"{one.seconds:.2f}", goal, "" if one.goal is None else "yes" if one.held else "NO")
    return shown


def main(options: argparse.Namespace) -> None:
    console = Console(stderr=True)
    wanted = QUICK if options.quick else options.pairs
    folder, written, began = options.folder / str(wanted), 0, time.monotonic()
    for written in write_pairs(folder, wanted):
        if written * 20 // wanted > (written - 300) * 20 // wanted:
            console.print(f"{written:,} pairs are there, {time.monotonic() - began:.0f} s")
    found, memory = measured(run_of(folder))
    Console(width=120).print(table(written, found))
    load = "/".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"{os.cpu_count()} cores, load {load}; the page's process took at most {memory} MB")
    print(json.dumps({"pairs": written, "peak_mb": memory, "waited": [asdict(one) for one in found]}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.look", description="How long a page lets one wait.")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK:,} pairs")
    parser.add_argument("--pairs", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--folder", type=Path, default=Path("build/look"), help="where the run is made, and kept")
    main(parser.parse_args())
