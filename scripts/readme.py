"""Put real output into README.md, so that nothing there was typed by hand.

make run 2>&1 | tee run.log; make test 2>&1 | tee test.log
make loop-peers; .venv/bin/python -m benchmarks.loops | tee loops.log
.venv/bin/python scripts/readme.py run.log test.log loops.log
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
QUERY = """SELECT source, cause, count(*) AS pairs, round(avg(margin), 2) AS margin
FROM pairs JOIN prompts USING (prompt_id) GROUP BY ALL ORDER BY ALL"""


def fill(readme: str, name: str, text: str) -> str:
    block = f"<!-- output:{name} -->\n```\n{text.strip()}\n```\n<!-- /output:{name} -->"
    found = re.compile(rf"<!-- output:{name} -->.*?<!-- /output:{name} -->", re.DOTALL)
    if not found.search(readme):
        raise SystemExit(f"README.md has no block `output:{name}`")
    return found.sub(lambda _: block, readme)


def end_of_run(log: str) -> tuple[str, str]:
    """What `make run` closes with: the figures, and the pair that it shows in full."""
    lines = [line.rstrip() for line in log.splitlines()]

    def at(start: str) -> int:
        return next(number for number, line in enumerate(lines) if line.startswith(start))

    first, verdicts, outcome = (
        at("Rollouts at"),
        at("Verdicts"),
        next(n for n, line in enumerate(lines) if " pairs + " in line),
    )
    pair, close, look = at("╭─ prompt"), at("Time: "), at("Look: ")
    figures = [*lines[first:verdicts], *lines[outcome:pair], *lines[close : look + 2]]
    return "\n".join(figures), "\n".join(lines[pair:close])


def end_of_test(log: str) -> str:
    """The closing line of each of the checks."""
    closing = ("All checks passed", "files already formatted", "Success: no issues", "Contracts:", " passed")
    return "\n".join(line.strip("= ") for line in log.splitlines() if any(words in line for words in closing))


def detectors(log: str) -> str:
    """How right the loop detectors are, and how fast: the first tables of the benchmark."""
    lines = [line.rstrip() for line in log.splitlines()]
    first, behind = (next(n for n, line in enumerate(lines) if line.startswith(at)) for at in ("Hard loops", "Seconds"))
    return "\n".join(lines[first:behind])


def answer() -> str:
    command = [str(ROOT / ".venv/bin/prefactory"), "query", "runs/laptop", QUERY]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return f'$ prefactory query runs/laptop "{QUERY}"\n{shown}'


def main() -> None:
    run_log, test_log, loops_log = (Path(name).read_text() for name in sys.argv[1:4])
    path = ROOT / "README.md"
    readme = path.read_text()
    figures, pair = end_of_run(run_log)
    for name, text in (
        ("run", figures),
        ("pair", pair),
        ("test", end_of_test(test_log)),
        ("query", answer()),
        ("loops", detectors(loops_log)),
    ):
        readme = fill(readme, name, text)
    path.write_text(readme)


if __name__ == "__main__":
    main()
