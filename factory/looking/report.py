"""The report of a run, or of two side by side: which figures stand where, and under which words.

The rule that must not break: it is made to be passed on. Nothing in it says where or on whose machine it was made, and every
figure comes from `factory.looking.report_figures`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from factory.looking import plots
from factory.looking.advice import advice, percent, rate_text
from factory.looking.differences import differences
from factory.looking.figures import Figures
from factory.looking.page import Page, Point, Section, Shown, Table, Tile, html, without_empty
from factory.looking.plots import Bars, Dots, Plot, Steps
from factory.looking.report_figures import (
    LENGTH_BINS,
    MARGIN_BIN,
    Bin,
    Cut,
    Example,
    Measured,
    Rate,
    RunReport,
    Side,
)

SOURCES = 12  # that a plot shows; the table has them all
NONE = "–"
_CUTS = {
    Cut.SLOT: "by slot",
    Cut.TEMPERATURE: "by temperature",
    Cut.SOURCE: "by kind of prompt",
    Cut.ROUND: "by round",
}


@dataclass(frozen=True, slots=True)
class Run:
    """A run with the name that it goes by on the page."""

    name: str
    report: RunReport


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
    sections = (_differing, _funnel, _loops, _jury, _sides, _costs, _rounds, _examples, _origin)
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


def called(model: str) -> str:
    """A model's name; of a folder no more than tells which one it is."""
    name = model.strip('"')
    path = PurePath(name)
    return "/".join(path.parts[-2:]) if path.is_absolute() else name


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


def _funnel(runs: Sequence[Run]) -> Iterator[Section]:
    series = [Bars(run.name, dict(_outcomes(run.report.figures))) for run in runs]
    names = list(dict.fromkeys(name for one in series for name in one.at))
    rows = tuple((name, *(cell for run in runs for cell in _counted(run.report.figures, name))) for name in names)
    yield Section(
        "From prompts to pairs",
        ("Every prompt ends as one pair, with what decided it, or is dropped for one reason.",),
        plots=without_empty([plots.bars("From prompts to pairs", series, "prompts")]),
        folded=(Table("From prompts to pairs, in numbers", ("outcome", *_columns(runs, "prompts", "share")), rows),),
    )


def _outcomes(figures: Figures) -> Iterator[tuple[str, int]]:
    yield "prompts", figures.prompts
    yield from ((f"paired: {cause}", count) for cause, count in figures.causes.items())
    yield from ((f"dropped: {reason}", count) for reason, count in figures.dropped.items())


def _counted(figures: Figures, name: str) -> tuple[str, str]:
    count = dict(_outcomes(figures)).get(name, 0)
    return f"{count:,}", percent(count / figures.prompts) if figures.prompts else NONE


def _columns(runs: Sequence[Run], *names: str) -> tuple[str, ...]:
    """Column heads for each run."""
    if len(runs) == 1:
        return names
    return tuple(f"{run.name}: {name}" for run in runs for name in names)


def _loops(runs: Sequence[Run]) -> Iterator[Section]:
    drawn, tables = [], []
    for cut, words in _CUTS.items():
        rates = {run.name: run.report.loops.get(cut, ()) for run in runs}
        names = list(dict.fromkeys(one.name for found in rates.values() for one in found))
        if cut is Cut.ROUND and len(names) < 2:
            continue
        series = [Dots(name, _at(found, names[:SOURCES])) for name, found in rates.items()]
        drawn.append(plots.dots(f"Hard loops {words}", series, "hard loops, share of the answers"))
        tables.append(_rate_table(f"Hard loops {words}, in numbers", cut, names, list(rates.values()), runs))
    caps = ", ".join(dict.fromkeys(str(run.report.max_tokens) for run in runs))
    words = f"An answer is a hard loop where it would repeat itself for ever. The cap of {caps} tokens hides what would loop "
    words += "later. Bars are 95% intervals (Wilson's); rules: " + "; ".join(_rules(run, runs) for run in runs) + "."
    yield Section("Doom loops", (words,), plots=without_empty(drawn), folded=tuple(tables))


def _rules(run: Run, runs: Sequence[Run]) -> str:
    found = [f"{rule} {count:,}" for kind, rule, count in run.report.figures.loops.rules if kind == "hard"]
    return (f"{run.name}: " if len(runs) > 1 else "") + (", ".join(found) or "none fired")


def _at(rates: Sequence[Rate], names: Sequence[str]) -> dict[str, tuple[float, float, float]]:
    return {one.name: (one.value, *one.interval) for one in rates if one.name in names}


def _rate_table(
    caption: str, cut: Cut, names: Sequence[str], rates: Sequence[Sequence[Rate]], runs: Sequence[Run]
) -> Table:
    by_name = [{one.name: one for one in found} for found in rates]
    rows = tuple((name, *(cell for found in by_name for cell in _rate_cells(found.get(name)))) for name in names)
    return Table(caption, (cut.value, *_columns(runs, "answers", "hard loops", "95% interval")), rows)


def _rate_cells(rate: Rate | None) -> tuple[str, str, str]:
    if rate is None:
        return NONE, NONE, NONE
    return f"{rate.trials:,}", f"{rate.hits:,} = {percent(rate.value)}", "{} to {}".format(*map(percent, rate.interval))


def _jury(runs: Sequence[Run]) -> Iterator[Section]:
    series = [Dots(run.name, dict(_planted(run.report))) for run in runs]
    words = (
        "A run plants worse twins of answers among those that are judged: a judge should set them below the original, and "
        "a coin does so half the time. It asks some judgements twice: a flip is an order that the second answer turned. "
        "The slope is what an answer gains with each doubling of its length, in pooled SDs.",
        *(_agreement(run, alone=len(runs) == 1) for run in runs),
    )
    head = (
        "judge",
        "scored",
        "failed",
        "mean",
        "planted seen",
        "flips",
        "agrees (tau)",
        "length slope",
        "mass on grades",
    )
    tables = tuple(
        Table(f"Judges and verifiers of {run.name}", head, tuple(_judge_rows(run.report)))
        for run in runs
        if run.report.judges
    )
    drawn = plots.dots("Planted bad answers that a judge saw", series, "share of the planted answers", coin=0.5)
    yield Section("The jury", words, plots=without_empty([drawn]), tables=tables)


def _planted(run: RunReport) -> Iterator[tuple[str, tuple[float, float, float]]]:
    for one in run.judges:
        found = one.trust.get("canaries")
        if found is not None and found.low is not None and found.high is not None:
            yield one.judge, (found.value, found.low, found.high)


def _agreement(run: Run, *, alone: bool) -> str:
    jury, of_round = run.report.jury, run.report.trust_round
    whose = "" if alone else f"{run.name}. "
    if of_round is None:
        return f"{whose}The jury was not measured yet."
    alpha, raw = (jury.get(name) for name in ("alpha_centred", "alpha_raw"))
    said = [
        f"Krippendorff's alpha {_number(alpha)} within a prompt, {_number(raw)} over all",
        f"{_number(jury.get('n_eff'), 1)} independent judges among {_number(jury.get('judges'), 0)}",
        f"{_percent(jury.get('injections'))} of the judged answers speak to their judge",
    ]
    return f"{whose}{'; '.join(said)} (round {of_round})."


def _judge_rows(run: RunReport) -> Iterator[tuple[str, ...]]:
    for one in run.judges:
        yield (
            one.judge,
            f"{one.ok:,}",
            f"{one.failed:,}",
            NONE if one.mean is None else f"{one.mean:.2f}",
            _percent(one.trust.get("canaries")),
            _percent(one.trust.get("flips")),
            _number(one.trust.get("tau")),
            _number(one.trust.get("length_slope"), sign="+"),
            _number(one.trust.get("mass")),
        )


def _number(found: Measured | None, digits: int = 2, sign: str = "") -> str:
    return NONE if found is None else f"{found.value:{sign}.{digits}f}"


def _percent(found: Measured | None) -> str:
    return NONE if found is None else percent(found.value)


def _sides(runs: Sequence[Run]) -> Iterator[Section]:
    series = [one for run in runs for one in _margin_series(run, alone=len(runs) == 1)]
    drawn = [plots.steps("Margins", series, "margin, pooled SDs", lambda place: place * MARGIN_BIN)]
    drawn += [_drawn_lengths(run, alone=len(runs) == 1) for run in runs]
    words = "A margin is how far apart the two sides are, in units of the judges' own spread within a prompt. A loop has none: "
    words += (
        "nobody judges it. A verifier's pair may have a negative one: what is right counts before what is liked. A "
    )
    words += "rejected loop is as long as it is trained on: cut after a few periods."
    tables = tuple(Table(f"Medians, {run.name}", _side_head(run), tuple(_side_rows(run.report))) for run in runs)
    if any(drawn):
        yield Section("Margins and lengths", (words,), plots=without_empty(drawn), tables=tables)


def _side_head(run: Run) -> tuple[str, ...]:
    unit = run.report.lengths.unit
    return "cause", "pairs", "margin", f"{unit}, chosen", f"{unit}, rejected"


def _side_rows(run: RunReport) -> Iterator[tuple[str, ...]]:
    medians = run.lengths.medians
    for cause, count in (*run.figures.causes.items(), ("all", run.figures.pairs)):
        sizes = (medians.get((cause, side)) for side in Side)
        margin = run.median_margins.get(cause)
        yield cause, f"{count:,}", NONE if margin is None else f"{margin:.2f}", *map(_size, sizes)


def _size(value: float | None) -> str:
    return NONE if value is None else f"{value:,.0f}"


def _margin_series(run: Run, *, alone: bool) -> list[Steps]:
    """By cause where there is one run; of all pairs where there are two."""
    groups = dict.fromkeys(one.group for one in run.report.margins)
    if alone:
        return [Steps(group, _shares(run.report.margins, group)) for group in groups]
    merged: dict[int, int] = {}
    for one in run.report.margins:
        merged[one.place] = merged.get(one.place, 0) + one.count
    return [Steps(run.name, _shares([Bin("all", place, count) for place, count in merged.items()], "all"))]


def _shares(bins: Sequence[Bin], group: str) -> dict[int, float]:
    own = [one for one in bins if one.group == group]
    whole = sum(one.count for one in own)
    return {one.place: one.count / whole for one in own}


def _drawn_lengths(run: Run, *, alone: bool) -> Plot | None:
    found = run.report.lengths
    series = [Steps(side.value, _shares(found.bins, side.value)) for side in Side]
    title = "Lengths of both sides" if alone else f"Lengths of both sides, {run.name}"
    axis = f"{found.unit} (each step doubles)"
    return plots.steps(title, series, axis, lambda place: 2 ** (place / LENGTH_BINS), doubling=True)


def _costs(runs: Sequence[Run]) -> Iterator[Section]:
    tables = [
        Table(f"Tokens, {run.name}", ("stage", "who", "requests", "tokens read", "tokens written"), rows, words=(0, 1))
        for run in runs
        if (rows := tuple(_cost_rows(run.report)))
    ]
    phases = dict.fromkeys(phase for run in runs for phase in run.report.manifest.seconds)
    rows = tuple((phase, *(_seconds(run.report.manifest.seconds.get(phase)) for run in runs)) for phase in phases)
    if rows:
        tables.append(Table("Time", ("phase", *_columns(runs, "wall time")), rows))
    series = [Bars(run.name, dict(_written(run.report))) for run in runs]
    drawn = plots.bars("Tokens read and written, by stage", series, "tokens")
    if tables:
        yield Section("Tokens and time", plots=without_empty([drawn]), tables=tuple(tables))


def _cost_rows(run: RunReport) -> Iterator[tuple[str, ...]]:
    for one in run.stages:
        counts = ("unknown" if count is None else f"{count:,}" for count in (one.read, one.written))
        yield one.stage, called(one.who), f"{one.requests:,}", *counts


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
        hard = _rate_cells(Rate("", one.hard, one.answers) if one.answers else None)[1]
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
