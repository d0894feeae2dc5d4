"""The command line. Each verb is a line of help, what it reads, and a call into the factory; here stands which verbs there are.

Exit codes: 0 done; 1 a retry may help; 2 something must be changed first, a spent budget too; 130 stopped by Ctrl-C, 143 by
SIGTERM. The rule that must not break: only the verb that is asked for is imported, since all together take seconds to load.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from io import TextIOWrapper

import typer
from typer.core import TyperCommand, TyperGroup

from factory.looking.harmless import visible
from factory.objects.place import in_urls
from schemas.errors import FactoryError, Stopped, Transient

VERBS = {
    "run": "making:run",
    "sample": "making:sample",
    "rollout": "making:rollout",
    "judge": "making:judge",
    "pair": "making:pair",
    "export": "making:export",
    "plan": "seeing:plan",
    "status": "seeing:status",
    "query": "query:query",
    "sql": "query:sql",
    "report": "report:report",
    "browse": "browse:browse",
    "mark": "mark:mark",
    "grpo": "grpo:grpo",
    "deploy": "deploy:deploy",
    "loops": "loops:loops",
    "verify": "verify:verify",
    "evaluate": "evaluate:evaluate_checkpoints",
    "train": "train:train",
    "semi-online": "semi_online:semi_online",
    "judges": "judges:judges",
}  # module of this package, and what in it is the verb, or a group of them


class _Verbs(TyperGroup):
    """Each becomes a command when it is asked for; `--help` asks for all."""

    def list_commands(self, ctx: object) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: object, cmd_name: str) -> TyperCommand | TyperGroup | None:
        if cmd_name not in VERBS:
            return None
        module, name = VERBS[cmd_name].split(":")
        verb = getattr(import_module(f"flows.{module}"), name)
        command = typer.main.get_group(verb) if isinstance(verb, typer.Typer) else _alone(verb)
        command.name = cmd_name
        return command


def _alone(verb: Callable[..., None]) -> TyperCommand:
    made = typer.Typer(add_completion=False)
    made.command()(verb)
    command = typer.main.get_command(made)
    assert isinstance(command, TyperCommand), "what typer makes of one function"
    return command


app = _Verbs(
    name="prefactory",
    commands=dict.fromkeys(VERBS),  # type: ignore[arg-type]  # names alone: for typos, what else may have been meant
    no_args_is_help=True,
    rich_markup_mode="rich",
    epilog="Start with: prefactory run recipes/laptop.yaml. Any command takes --debug, for a traceback instead of a line.",
    help="Prompts in, preference pairs out: six answers each by your own model, a jury, and doom loops always rejected.",
)


def main() -> None:
    """The `prefactory` command: errors become one line each, and an exit code."""
    debug = "--debug" in sys.argv
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # answers hold letters that not every terminal has
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    try:
        app(prog_name="prefactory")
    except FactoryError as error:
        if debug:
            raise
        _fail(str(error), exit_code(error))
    except Exception as error:
        if debug:
            raise
        _fail(f"unexpected {type(error).__name__}: {error}; the same command with --debug shows where", 1)


def exit_code(error: FactoryError) -> int:
    match error:
        case Stopped():
            return 128 + error.signum
        case Transient():
            return 1
        case _:
            return 2


def _fail(line: str, code: int) -> None:
    print(f"prefactory: {in_urls(visible(line))}", file=sys.stderr)  # a server's words may be in it
    sys.exit(code)


if __name__ == "__main__":
    main()
