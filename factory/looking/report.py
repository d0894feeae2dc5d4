"""The report of a run, or of two side by side: which figures stand where, and under which words.

The rule that must not break: it is made to be passed on. Nothing in it says where or on whose machine it was made, and every
figure comes from `factory.looking.report_figures`.
"""

from collections.abc import Callable, Iterator, Sequence

from factory.looking import plots
from factory.looking.advice import advice, percent, rate_text
from factory.looking.differences import differences
from factory.looking.page import Page, Point, Section, Shown, Table, Tile, html, without_empty
from factory.looking.plots import Bars
from factory.looking.report_figures import Example, Rate, RunReport
from factory.looking.report_sections import funnel, jury, loops, sides
from factory.looking.report_terms import NONE, Run, called, columns, rate_cells
from schemas.price import money_text


def report_page(reports: Sequence[RunReport]) -> str:
    """The whole HTML file."""
    return html(page(named(reports)))


def named(reports: Sequence[RunReport]) -> tuple[Run, ...]:
    """By their own names; with a letter where two have the same."""
    names = [one.name for one in reports]
    alike = len(set(names)) < len(names)
    return tuple(
        Run(f"{letter}: {one.name}" if alike else one.name, one) for letter, one in zip("AB", reports, strict=False)
    )


def page(runs: Sequence[Run]) -> Page:
    sections = (_differing, funnel, loops, jury, sides, _costs, _rounds, _examples, _origin)
    return Page(
        title=" and ".join(run.name for run in runs),
        names=tuple(run.name for run in runs),
        about=tuple(_about(run, alone=len(runs) == 1) for run in runs),
        tiles=tuple(_tiles(runs)),
        points=tuple(
            Point(run.name if len(runs) > 1 else "", each.seen, each.change)
            for run in runs
            for each in advice(run.report)
        ),
        sections=tuple(section for make in sections for section in make(runs)),
    )


def _about(run: Run, *, alone: bool) -> str:
    manifest = run.report.manifest
    said = f"Answers by {called(manifest.identity['policy.model'])} at up to {run.report.max_tokens} tokens, "
    said += f"{len(run.report.rounds) or 1} round(s), last changed {manifest.updated:%Y-%m-%d %H:%M} UTC"
    return said if alone else f"{run.name}. {said}"


def _tiles(runs: Sequence[Run]) -> Iterator[Tile]:
    def tile(name: str, one: Callable[[RunReport], tuple[str, str]]) -> Tile:
        values = [one(run.report) for run in runs]
        return Tile(name, tuple(value for value, _ in values), tuple(more for _, more in values))

    yield tile("prompts", lambda run: (f"{run.figures.prompts:,}", ""))
    yield tile("pairs", lambda run: (f"{run.figures.pairs:,}", _share(run.figures.pairs, run.figures.prompts)))
    yield tile("hard loops, greedy", lambda run: _rate_tile(run.rate("greedy")))
    yield tile("hard loops, sampled", lambda run: _rate_tile(run.rate("sampled")))
    yield tile("median margin of the jury's pairs", _margin_tile)
    yield tile("independent judges", _jury_tile)
    yield tile(
        "tokens written", lambda run: (plots.short(run.spent.completion_tokens), f"{run.spent.requests:,} requests")
    )
    if any(_paid(run.report) for run in runs):
        yield tile("cost", lambda run: (money_text(run.spent.money) if _paid(run) else NONE, "by the recipe's prices"))


def _share(part: int, whole: int) -> str:
    return f"{percent(part / whole)} of the prompts" if whole else ""


def _rate_tile(rate: Rate | None) -> tuple[str, str]:
    if rate is None:
        return NONE, "no answers"
    return percent(rate.value), "95%: {} to {}".format(*map(percent, rate.interval))


def _margin_tile(run: RunReport) -> tuple[str, str]:
    found = run.median_margins.get("jury")
    return (NONE, "") if found is None else (f"{found:.2f}", "pooled SDs")


def _jury_tile(run: RunReport) -> tuple[str, str]:
    worth, count = run.jury.get("n_eff"), run.jury.get("judges")
    if count is None:
        return NONE, "not measured yet"
    return (NONE if worth is None else f"{worth.value:.1f}"), f"worth of {count.value:.0f}"


def _differing(runs: Sequence[Run]) -> Iterator[Section]:
    if len(runs) < 2:
        return
    first, second = runs
    found = differences(first.report, second.report)
    rows = tuple(
        (
            one.what,
            rate_text(one.first),
            rate_text(one.second),
            "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * value for value in (one.value, *one.interval))),
            "yes" if one.clear else "no",
        )
        for one in found
    )
    head = ("rate", first.name, second.name, "difference, points", "clear of zero")
    words = "The difference of each rate with its 95% interval (Newcombe's). It says that the figures differ, not why: "
    yield Section(
        "What differs", (words + "the runs may have had other prompts.",), tables=(Table("Differences", head, rows),)
    )


def _costs(runs: Sequence[Run]) -> Iterator[Section]:
    head = ("stage", "who", "requests", "tokens read", "tokens written")
    tables = [
        Table(f"Tokens, {run.name}", (*head, *(("cost",) if _paid(run.report) else ())), rows, words=(0, 1))
        for run in runs
        if (rows := tuple(_cost_rows(run.report)))
    ]
    phases = dict.fromkeys(phase for run in runs for phase in run.report.manifest.seconds)
    rows = tuple((phase, *(_seconds(run.report.manifest.seconds.get(phase)) for run in runs)) for phase in phases)
    if rows:
        tables.append(Table("Time", ("phase", *columns(runs, "wall time")), rows))
    series = [Bars(run.name, dict(_written(run.report))) for run in runs]
    drawn = plots.bars("Tokens read and written, by stage", series, "tokens")
    if tables:
        yield Section("Tokens and time", plots=without_empty([drawn]), tables=tuple(tables))


def _cost_rows(run: RunReport) -> Iterator[tuple[str, ...]]:
    for one in run.stages:
        counts = ("unknown" if count is None else f"{count:,}" for count in (one.read, one.written))
        money = (NONE if one.money is None else money_text(one.money),) if _paid(run) else ()
        yield one.stage, called(one.who), f"{one.requests:,}", *counts, *money


def _paid(run: RunReport) -> bool:
    return bool(run.manifest.prices)


def _written(run: RunReport) -> Iterator[tuple[str, float]]:
    for stage in dict.fromkeys(one.stage for one in run.stages):
        own = [one for one in run.stages if one.stage == stage]
        yield f"{stage}, read", sum(one.read or 0 for one in own)
        yield f"{stage}, written", sum(one.written or 0 for one in own)


def _seconds(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value:.0f} s" if value < 600 else f"{value / 60:.0f} min" if value < 36_000 else f"{value / 3600:.1f} h"


def _rounds(runs: Sequence[Run]) -> Iterator[Section]:
    head = ("round", "answered by", "prompts", "pairs", "dropped", "hard loops", "promoted")
    tables = tuple(
        Table(f"Rounds of {run.name}", head, tuple(_round_rows(run.report)), words=(0, 1, 6))
        for run in runs
        if len(run.report.rounds) > 1
    )
    if tables:
        yield Section("Rounds", ("Each round is answered by what the one before promoted.",), tables=tables)


def _round_rows(run: RunReport) -> Iterator[tuple[str, ...]]:
    for one in run.rounds:
        hard = rate_cells(Rate("", one.hard, one.answers) if one.answers else None)[1]
        counts = (f"{one.prompts:,}", f"{one.pairs:,}", f"{one.dropped:,}", hard)
        yield str(one.round), one.policy[:16], *counts, (one.promoted or NONE)[:16]


def _examples(runs: Sequence[Run]) -> Iterator[Section]:
    shown = tuple(
        Shown(_title(each) + (f" ({run.name})" if len(runs) > 1 else ""), each.asked, each.chosen, each.rejected)
        for run in runs
        for each in run.report.examples
    )
    if shown:
        yield Section("One pair of each cause", ("As the models wrote them; long texts are cut.",), pairs=shown)


def _title(one: Example) -> str:
    if one.loop_rule is not None:
        return f"{one.cause}: the rejected answer is a loop (rule {one.loop_rule})"
    return f"{one.cause}: margin {NONE if one.margin is None else f'{one.margin:.2f}'}"


def _origin(runs: Sequence[Run]) -> Iterator[Section]:
    for run in runs:
        known = run.report.manifest.provenance
        rows = (
            *(("model", called(name), digest[:16]) for name, digest in known.models.items()),
            *(("rubric", name, digest[:16]) for name, digest in known.rubrics.items()),
            *(("prompts", called(name), digest[:16]) for name, digest in known.sources.items()),
            ("loop detector", known.detector, ""),
        )
        table = Table(f"What decided the data of {run.name}", ("kind", "name", "digest"), rows, words=(0, 1, 2))
        yield Section(f"Where {run.name} comes from", folded=(table,))
