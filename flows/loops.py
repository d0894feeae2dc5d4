"""The verb `loops`: the detector alone, on anybody's answers. Options, tables, marked examples, JSON, and the CI gate.

The rule that must not break: what an answer says never reaches the terminal but through `flows.show.clean`.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from factory.detector.published_rules import NGRAM, TIMES
from factory.gathering.sources import shown_path
from factory.survey.answer_columns import Wanted
from factory.survey.answer_files import AnswerFile, answer_files
from factory.survey.answer_output import check_output, replaced_columns
from factory.survey.detecting import cores
from factory.survey.loop_examples import Example
from factory.survey.loop_survey import USUAL_GROUPS, By, GroupFigures, Survey, survey
from flows.show import clean, figure_table
from judges.quoting import shortened
from schemas.errors import Fixable
from schemas.rows import Loop

_SMALL = 16 * 2**20  # bytes of files: below, starting processes takes longer than they save
_SHOWN = 240  # characters of a copy
_PUBLISHED = f"{NGRAM}-gram x{TIMES}"


def loops(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="JSONL or Parquet, a folder of such files, or a dataset on disk")
    ],
    column: Annotated[
        str | None, typer.Option(metavar="NAME", help="the answers; else text, response or completion")
    ] = None,
    prompt_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="what was asked; else prompt, if there; '': not known")
    ] = None,
    finish_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="why they ended; else finish_reason, if there; '': not known")
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="group by it; again: cross them; else model, temperature, slot, one by one"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write the rows there, with the loop columns")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON document on standard output, for scripts")] = False,
    fail_over: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="exit with 1 where the hard-loop rate of all answers is over it, say 0.05"),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="else one for each core, or 1 for less than 16 MB")
    ] = None,
) -> None:
    """Doom loops in any file of answers: rates by group, the rules that fired, the clearest examples.

    Exit code 1 says that --fail-over was exceeded, 2 that nothing could be measured.
    """
    if fail_over is not None and not 0 <= fail_over <= 1:
        raise Fixable(f"--fail-over {fail_over:g}: write a rate from 0 to 1, such as 0.05")
    files = answer_files(file)
    replaced: list[str] = []
    if out:
        check_output(out, file, files)
        replaced = replaced_columns(files)
    wanted = Wanted(column, prompt_column, finish_column, tuple(by or ()))
    found = survey(files, wanted, processes or _processes(files), out)
    if as_json:
        typer.echo(json.dumps(document(file, found, replaced), allow_nan=False))
    else:
        show_survey(Console(), file, found)
        if out:
            _say(Console(), _written(out, found, replaced))
    if fail_over is not None:
        _gate(found.whole, fail_over)


def _processes(files: tuple[AnswerFile, ...]) -> int:
    return cores() if sum(file.size for file in files) >= _SMALL else 1


def _gate(whole: GroupFigures, most: float) -> None:
    """Raises Fixable where there is no rate, and Exit(1) where it is too high."""
    rate = whole.rate
    if rate is None:
        raise Fixable("--fail-over: no answers, so no rate; give a file with answers")
    if rate > most:
        low, high = whole.interval
        line = f"hard-loop rate {rate:.2%} (95% interval {low:.2%}-{high:.2%}) is over {most:.2%}"
        typer.echo(f"prefactory: {line}: {whole.hard} of {whole.answers} answers", err=True)
        raise typer.Exit(1)


def _written(out: Path, found: Survey, replaced: list[str]) -> str:
    line = f"Written: {found.rows} rows to {shown_path(out)}"
    return f"{line}; they had these columns already, which are replaced: {', '.join(replaced)}" if replaced else line


def show_survey(console: Console, file: Path, found: Survey) -> None:
    """Rates by group, the split by rule, notes on what the file does not say, and the examples."""
    rows = f"{shown_path(file)}: {found.rows} rows, {found.whole.answers} answers"
    _say(console, f"{rows}; hard-loop rate with its 95% interval")  # a title would wrap where the table is narrow
    console.print(_rates(found))
    if found.whole.rules:
        console.print(_rules(found.whole))
    for note in notes(found):
        _say(console, note)
    if found.examples:
        _say(console, f"\nThe clearest {len(found.examples)}, ⟦first copy⟧⟦second copy⟧:")
    for number, example in enumerate(found.examples, start=1):
        _show(console, number, example)


def _say(console: Console, line: str) -> None:
    console.print(clean(line), soft_wrap=True)


def _rates(found: Survey) -> Table:
    table = figure_table("", "group", "answers", "hard loops", "soft", _PUBLISHED)
    for group in (found.whole, *found.groups):
        low, high = group.interval
        rate = "-" if group.rate is None else f"{group.hard} = {group.rate:.1%} ({low:.1%}-{high:.1%})"
        label = clean(_by(group.by) or "all")
        table.add_row(label, str(group.answers), rate, str(group.soft), str(group.published))
    return table


def _by(by: By) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in by)


def _value(value: object) -> str:
    text = f"{value:g}" if isinstance(value, float) else "NULL" if value is None else " ".join(str(value).split())
    return text if len(text) <= 40 else f"{text[:39]}…"


def _rules(whole: GroupFigures) -> Table:
    table = figure_table("Loops by rule", "rule", "hard", "soft")
    counts = {(rule, kind): count for rule, kind, count in whole.rules}
    for rule in dict.fromkeys(rule for rule, _, _ in whole.rules):
        table.add_row(rule, *(str(counts.get((rule, kind), 0)) for kind in (Loop.HARD, Loop.SOFT)))
    return table


def notes(found: Survey) -> list[str]:
    """What a reader must know to trust the figures, one line each."""
    columns, said = found.columns, []
    if columns is None:
        return ["There are no rows."]
    if columns.reasoning:
        said.append(f"An answer is `{columns.reasoning}` and `{columns.text}` together; places count in both.")
    if found.without_text:
        said.append(f"Rows without a text in `{columns.text}`, which are not counted: {found.without_text}")
    if columns.finish_reason is None:
        said.append(
            "No finish reason is known: every answer is read as cut off at its cap, so a loop that ended by itself "
            "counts as hard. --finish-column names the column."
        )
    elif found.unsaid:
        said.append(f"Answers without a `{columns.finish_reason}`, read as cut off at their cap: {found.unsaid}")
    if found.unknown_reasons:
        reasons = ", ".join(f"`{_value(reason)}` ({count})" for reason, count in found.unknown_reasons[:5])
        said.append(f"Finish reasons that are not known, read as ended by themselves: {reasons}")
    if columns.prompt is None:
        said.append("No prompt is known: a repetition that was asked for counts as a loop. --prompt-column names it.")
    if found.left_out:
        said.append(f"More than {USUAL_GROUPS} values, so not grouped by: {', '.join(found.left_out)}; --by does it.")
    counted = "token ids" if found.tokens else "words, because token ids are not known"
    said.append(f"{_PUBLISHED}: answers with one {NGRAM}-gram at least {TIMES} times (arXiv 2512.12895), of {counted}.")
    return said


def _show(console: Console, number: int, example: Example) -> None:
    by = f"; {_by(example.by)}" if example.by else ""
    where = f"from character {example.onset:,} on"
    says = f"{example.kind}, {example.rule}: {example.period:,} bytes, {example.repeats:.1f} times, {where}"
    _say(console, f"\n{number}. {example.place}{by}\n   {says}")
    console.print(marked(example))


def marked(example: Example) -> Text:
    """The end of what stands before, the two copies between marks that show without colour too, and how many follow."""
    before = f"…{example.before}" if example.onset > len(example.before) + len(example.unit) else example.before
    more = example.repeats - 2
    return Text.assemble(
        (_line(before), "dim"),
        ("⟦", "bold"),
        (_line(shortened(example.unit, _SHOWN)), "bold red"),
        ("⟧⟦", "bold"),
        (_line(shortened(example.second, _SHOWN)), "yellow"),
        ("⟧", "bold"),
        (f" … × {more:.1f} more" if more > 0 else "", "bold"),
    )


def _line(text: str) -> str:
    return clean(text.replace("\r\n", "\n").replace("\n", "↵")).plain


def document(file: Path, found: Survey, replaced: list[str]) -> dict[str, object]:
    """The survey for scripts. Rates and intervals are null where there are no answers."""
    return {
        "file": str(file),
        "rows": found.rows,
        "answers": found.whole.answers,
        "without_text": found.without_text,
        "without_finish_reason": found.unsaid,
        "unknown_finish_reasons": dict(found.unknown_reasons),
        "columns": asdict(found.columns) if found.columns else None,
        "replaced_columns": replaced,
        "published_rule": {"ngram": NGRAM, "times": TIMES, "of": "tokens" if found.tokens else "words"},
        "all": _figures(found.whole),
        "groups": [_figures(group) for group in found.groups],
        "not_grouped_by": list(found.left_out),
        "notes": notes(found),
        "examples": [asdict(example) | {"by": dict(example.by)} for example in found.examples],
    }


def _figures(group: GroupFigures) -> dict[str, object]:
    return {
        "by": dict(group.by),
        "answers": group.answers,
        "hard": group.hard,
        "soft": group.soft,
        "hard_rate": group.rate,
        "interval_95": list(group.interval) if group.answers else None,
        "published": group.published,
        "rules": [{"rule": rule, "kind": kind, "answers": count} for rule, kind, count in group.rules],
    }
