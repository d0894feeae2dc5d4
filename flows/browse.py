"""The verb `browse`: a page on this machine to read a run's pairs, and to say which are right."""

import getpass
import webbrowser
from typing import Annotated

import typer

from flows.places import RunPath, refuse_store


def browse(
    run: RunPath,
    port: Annotated[int, typer.Option(min=0, max=65535, help="of the page; 0: any that is free")] = 0,
    no_open: Annotated[bool, typer.Option("--no-open", help="print the address, and leave the browser to you")] = False,
    by: Annotated[str | None, typer.Option(metavar="NAME", help="who marks; else the user's name")] = None,
) -> None:
    """Read the pairs in a browser, side by side, and mark them; also while the run is at work. Ctrl-C ends it.

    The page listens on 127.0.0.1 alone. From another machine: `ssh -L 8000:127.0.0.1:8000 HOST`, there with `--port 8000
    --no-open`, and open the printed address here.
    """
    from factory.browsing.serving import browse as serve  # no other verb needs a server

    refuse_store(run, "browse")

    def opened(url: str) -> None:
        typer.echo(url)
        if not no_open:
            webbrowser.open(url)

    serve(run, port, by or getpass.getuser(), opened)
