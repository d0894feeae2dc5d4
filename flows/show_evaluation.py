"""A report on checkpoints as one table: a row for each figure, a column for each checkpoint, the baseline first.

The rule that must not break: a rate stands with its interval, and with what it was counted over.
"""

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from factory.evaluation.comparing import Compared, Wins
from factory.evaluation.figures import GREEDY, AnswerFigures
from factory.evaluation.paired import Paired, Rate
from factory.evaluation.report import Against, Report
from flows.show import clean, figure_table

Cell = Callable[[AnswerFigures], str]
ROWS: Sequence[tuple[str, Cell]] = (
    ("hard loops", lambda one: rate(one.hard)),
    ("  by rule", lambda one: ", ".join(f"{rule} {n}" for kind, rule, n in one.rules if kind == "hard") or "-"),
    ("soft loops", lambda one: str(int(one.soft.hits))),
    ("ended by itself", lambda one: rate(one.ended)),
    ("right, where it can be checked", lambda one: rate(one.accuracy)),
    ("tokens, mean and median", lambda one: "-" if one.tokens is None else "{:.0f}, {:.0f}".format(*one.tokens)),
    ("distinct-1, -2, -3", lambda one: ", ".join(number(share) for share in one.distinct)),
    ("repeated 4-grams", lambda one: number(one.repeated)),
)


def show_report(console: Console, whole: Report) -> None:
    console.print(_table(whole))
    first = whole.figures[0]
    if first.left_out:
        console.print(f"{first.left_out} prompts were left out: the run was trained on them, or nearly")
    for line in _kinds(whole):
        console.print(clean(line), highlight=False)
    for against in whole.against:
        console.print(clean(_verdict(against)), highlight=False)
        for tripped in against.tripped:
            console.print(clean(f"  {tripped.bound}: {tripped.why}"), highlight=False)


def _table(whole: Report) -> Table:
    first = whole.figures[0]
    title = f"{first.prompts} held-out prompts; shares with their 95% intervals, differences against the first column"
    table = figure_table(title, "", *(f"{one.checkpoint}\n{one.digest[:16]}" for one in whole.figures))
    keys = [(one.decoding, one.max_tokens) for one in first.answers]
    for decoding, cap in sorted(keys, key=lambda key: (key[0] != GREEDY, key[1])):
        table.add_section()
        answers = ", ".join(dict.fromkeys(str(one.at(decoding, cap).answers) for one in whole.figures))
        table.add_row(f"[bold]{decoding}, {cap} tokens[/bold] ({answers} answers)")
        for name, cell in ROWS:
            table.add_row(f"  {name}", *(cell(one.at(decoding, cap)) for one in whole.figures))
        for name, compared in _COMPARED:
            cells = [compared(one) for against in whole.against if (one := _of(against, decoding, cap))]
            if any(cells):
                table.add_row(f"  {name}", "", *cells)
    table.add_section()
    table.add_row("perplexity of the prose", *(number(one.perplexity, 2) for one in whole.figures))
    table.add_row("bits per byte of the prose", *(number(one.bits_per_byte) for one in whole.figures))
    return table


def _of(against: Against, decoding: str, cap: int) -> Compared | None:
    return next((one for one in against.compared if (one.decoding, one.max_tokens) == (decoding, cap)), None)


def rate(one: Rate) -> str:
    if one.value is None:
        return "-"
    low, high = one.interval
    return f"{one.hits:g} of {one.of} = {one.value:.1%} ({low:.1%}-{high:.1%})"


def number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def difference(one: Paired) -> str:
    if one.difference is None:
        return ""
    low, high = one.interval
    return f"{one.difference:+.1%} ({low:+.1%} to {high:+.1%}), p = {one.p_value:.2g}"


def wins(one: Wins | None) -> str:
    return "" if one is None or not one.rate.of else f"{rate(one.rate)}, {one.tied} ties"


_COMPARED: Sequence[tuple[str, Callable[[Compared], str]]] = (
    ("hard loops, difference", lambda one: difference(one.loops)),
    ("right, difference", lambda one: difference(one.accuracy)),
    ("wins, where both were judged", lambda one: wins(one.wins)),
    ("wins, a loop loses", lambda one: wins(one.wins_with_loops)),
)


def _kinds(whole: Report) -> list[str]:
    """Greedy hard loops at the largest cap by kind of prompt, those that were trained on first."""
    lines = []
    for one in whole.figures:
        last = one.at(GREEDY, max(answers.max_tokens for answers in one.answers))
        for title, seen in ((", kinds seen in training", True), (", kinds not seen in training", False)):
            if own := [kind for kind in last.kinds if kind.seen is seen]:
                counted = ", ".join(f"{kind.source} {kind.hard.hits:g} of {kind.hard.of}" for kind in own)
                of_what = title if whole.trained else ""
                lines.append(f"{one.checkpoint}: greedy hard loops at {last.max_tokens}{of_what}: {counted}")
    return lines


def _verdict(against: Against) -> str:
    return f"{against.checkpoint}: " + ("these gates do not hold:" if against.tripped else "all gates hold")
