"""`status --watch`: a run that another process works on, as it is now and again until it is through.

The rule that must not break: it only looks, and it ends by itself where there is nothing left to come.
"""

import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live

from factory.looking.pulse import Pulse, Watch, lines_of
from factory.objects.copying import with_records
from factory.objects.place import url_of
from factory.run import RunFolder
from flows.show import clean

ON_A_TERMINAL, IN_A_LOG = 2.0, 30.0  # seconds between two looks
FROM_A_STORE = 10.0  # where each of them is a listing, and nothing comes more often than that


def watch(root: Path, console: Console, sleep: Callable[[float], None] = time.sleep) -> None:
    """In its place on a terminal; in a log the same lines again, with the time. Ctrl-C ends it. Raises Fixable."""
    try:
        if console.is_terminal:
            _in_place(Watch(root), console, sleep)
        else:
            _in_lines(Watch(root), console, sleep)
    except KeyboardInterrupt:
        return


def _in_place(seen: Watch, console: Console, sleep: Callable[[float], None]) -> None:
    with Live(console=console, auto_refresh=False) as live:
        while True:
            pulse = _now(seen)
            live.update(Group(*map(clean, lines_of(pulse))), refresh=True)
            if pulse.finished:
                return
            sleep(ON_A_TERMINAL if url_of(seen.root) is None else FROM_A_STORE)


def _now(seen: Watch) -> Pulse:
    """Of a run in a store as far as its records say: what lies in journals is on the machine at work."""
    RunFolder(seen.root).look(with_records)
    return seen.look()


def _in_lines(seen: Watch, console: Console, sleep: Callable[[float], None]) -> None:
    while True:
        pulse = _now(seen)
        for line in lines_of(pulse):
            console.print(f"[{time.strftime('%H:%M:%S')}]", clean(line), markup=False, highlight=False, soft_wrap=True)
        if pulse.finished:
            return
        sleep(IN_A_LOG)
