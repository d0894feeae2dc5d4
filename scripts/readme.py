"""Put real output into README.md and benchmarks/README.md, so that nothing there was typed by hand.

    make run 2>&1 | tee run.log; make test 2>&1 | tee test.log
    .venv/bin/python -m benchmarks.jury_replay | tee jury_replay.log
    .venv/bin/python scripts/readme.py run.log test.log jury_replay.log

A log is called as the block that it fills. `run` fills `pair`, `query` and `questions` as well; `loops` is
cut to its first tables; of every other benchmark the last line, which is JSON for scripts, is left out.
"""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # it is run as a file

from scripts.questions import QUESTIONS

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", ROOT / "benchmarks" / "README.md")
QUERY = """SELECT source, cause, count(*) AS pairs, round(avg(margin), 2) AS margin
FROM pairs JOIN prompts USING (prompt_id) GROUP BY ALL ORDER BY ALL"""


def fill(name: str, text: str) -> None:
    """In the page that has a block of this name."""
    block = f"<!-- output:{name} -->\n```\n{text.strip()}\n```\n<!-- /output:{name} -->"
    found = re.compile(rf"<!-- output:{name} -->.*?<!-- /output:{name} -->", re.DOTALL)
    pages = [page for page in PAGES if found.search(page.read_text())]
    if not pages:
        raise SystemExit(f"no page has a block `output:{name}`")
    for page in pages:
        page.write_text(found.sub(lambda _: block, page.read_text()))


def lines_of(log: str) -> list[str]:
    return [line.rstrip() for line in log.splitlines()]


def end_of_run(log: str) -> dict[str, str]:
    """What `make run` closes with: the figures, and the pair that it shows in full; and a query about that run."""
    lines = lines_of(log)

    def at(start: str) -> int:
        return next(number for number, line in enumerate(lines) if line.startswith(start))

    first, verdicts, outcome = (
        at("Rollouts at"),
        at("Verdicts"),
        next(n for n, line in enumerate(lines) if " pairs + " in line),
    )
    pair, close, look = at("╭─ prompt"), at("Time: "), at("Look: ")
    figures = [*lines[first:verdicts], *lines[outcome:pair], *lines[close : look + 2]]
    return {"run": "\n".join(figures), "pair": "\n".join(lines[pair:close]), "query": answer(), "questions": answers()}


def end_of_test(log: str) -> dict[str, str]:
    """The closing line of each of the checks."""
    closing = ("All checks passed", "files already formatted", "Success: no issues", "Contracts:", " passed")
    found = [line.strip("= ") for line in log.splitlines() if any(words in line for words in closing)]
    return {"test": "\n".join(found)}


def detectors(log: str) -> dict[str, str]:
    """How right the loop detectors are, and how fast: the first tables of the benchmark."""
    lines = lines_of(log)
    first, behind = (next(n for n, line in enumerate(lines) if line.startswith(at)) for at in ("Hard loops", "Seconds"))
    return {"loops": "\n".join(lines[first:behind])}


def answer() -> str:
    return f'$ prefactory query runs/laptop "{QUERY}"\n{asked(QUERY)}'


def answers() -> str:
    """Each of the ten questions, its query, and what the run answers."""
    return "\n".join(f"-- {one.words}\n{one.sql}\n{asked(one.sql)}" for one in QUESTIONS)


def asked(sql: str) -> str:
    command = [str(ROOT / ".venv/bin/prefactory"), "query", "runs/laptop", sql]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


READERS: dict[str, Callable[[str], dict[str, str]]] = {"run": end_of_run, "test": end_of_test, "loops": detectors}


def main() -> None:
    for path in map(Path, sys.argv[1:]):
        log = path.read_text()
        reader = READERS.get(path.stem)
        blocks = reader(log) if reader else {path.stem: "\n".join(lines_of(log)[:-1])}
        for name, text in blocks.items():
            fill(name, text)


if __name__ == "__main__":
    main()
