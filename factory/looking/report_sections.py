"""The sections of a report about what was made: the funnel, the loops, the jury, the two sides of the pairs.

The rule that must not break: every figure comes from `factory.looking.report_figures`, of one run or of two side by side.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from factory.looking import plots
from factory.looking.advice import percent
from factory.looking.figures import Figures
from factory.looking.page import Section, Table, without_empty
from factory.looking.plots import PAGE, Bars, Colours, Dots, Plot, Steps
from factory.looking.report_figures import LENGTH_BINS, MARGIN_BIN, Bin, Cut, Lengths, Measured, Rate, RunReport, Side
from factory.looking.report_terms import NONE, Run, columns, rate_cells

SOURCES = 12  # that a plot shows; the table has them all
_CUTS = {
    Cut.SLOT: "by slot",
    Cut.TEMPERATURE: "by temperature",
    Cut.SOURCE: "by kind of prompt",
    Cut.ROUND: "by round",
}


def funnel(runs: Sequence[Run]) -> Iterator[Section]:
    series = [Bars(run.name, dict(_outcomes(run.report.figures))) for run in runs]
    names = list(dict.fromkeys(name for one in series for name in one.at))
    rows = tuple((name, *(cell for run in runs for cell in _counted(run.report.figures, name))) for name in names)
    yield Section(
        "From prompts to pairs",
        ("Every prompt ends as one pair, with what decided it, or is dropped for one reason.",),
        plots=without_empty([drawn_outcomes({run.name: run.report.figures for run in runs})]),
        folded=(Table("From prompts to pairs, in numbers", ("outcome", *columns(runs, "prompts", "share")), rows),),
    )


def drawn_outcomes(figures: Mapping[str, Figures], colours: Colours = PAGE) -> Plot | None:
    """Of each run by its name."""
    series = [Bars(name, dict(_outcomes(own))) for name, own in figures.items()]
    return plots.bars("From prompts to pairs", series, "prompts", colours=colours)


def _outcomes(figures: Figures) -> Iterator[tuple[str, int]]:
    yield "prompts", figures.prompts
    yield from ((f"paired: {cause}", count) for cause, count in figures.causes.items())
    yield from ((f"dropped: {reason}", count) for reason, count in figures.dropped.items())


def _counted(figures: Figures, name: str) -> tuple[str, str]:
    count = dict(_outcomes(figures)).get(name, 0)
    return f"{count:,}", percent(count / figures.prompts) if figures.prompts else NONE


def loops(runs: Sequence[Run]) -> Iterator[Section]:
    drawn, tables = [], []
    for cut, words in _CUTS.items():
        rates = {run.name: run.report.loops.get(cut, ()) for run in runs}
        names = list(dict.fromkeys(one.name for found in rates.values() for one in found))
        if cut is Cut.ROUND and len(names) < 2:
            continue
        drawn.append(drawn_loops(cut, rates))
        tables.append(_rate_table(f"Hard loops {words}, in numbers", cut, names, list(rates.values()), runs))
    caps = ", ".join(dict.fromkeys(str(run.report.max_tokens) for run in runs))
    words = f"An answer is a hard loop where it would repeat itself for ever. The cap of {caps} tokens hides what would loop "
    words += "later. Bars are 95% intervals (Wilson's); rules: " + "; ".join(_rules(run, runs) for run in runs) + "."
    yield Section("Doom loops", (words,), plots=without_empty(drawn), folded=tuple(tables))


def drawn_loops(cut: Cut, rates: Mapping[str, Sequence[Rate]], colours: Colours = PAGE) -> Plot | None:
    """Of each run by its name."""
    names = list(dict.fromkeys(one.name for found in rates.values() for one in found))[:SOURCES]
    series = [Dots(name, _at(found, names)) for name, found in rates.items()]
    return plots.dots(f"Hard loops {_CUTS[cut]}", series, "hard loops, share of the answers", colours=colours)


def _rules(run: Run, runs: Sequence[Run]) -> str:
    found = [f"{rule} {count:,}" for kind, rule, count in run.report.figures.loops.rules if kind == "hard"]
    return (f"{run.name}: " if len(runs) > 1 else "") + (", ".join(found) or "none fired")


def _at(rates: Sequence[Rate], names: Sequence[str]) -> dict[str, tuple[float, float, float]]:
    return {one.name: (one.value, *one.interval) for one in rates if one.name in names}


def _rate_table(
    caption: str, cut: Cut, names: Sequence[str], rates: Sequence[Sequence[Rate]], runs: Sequence[Run]
) -> Table:
    by_name = [{one.name: one for one in found} for found in rates]
    rows = tuple((name, *(cell for found in by_name for cell in rate_cells(found.get(name)))) for name in names)
    return Table(caption, (cut.value, *columns(runs, "answers", "hard loops", "95% interval")), rows)


def jury(runs: Sequence[Run]) -> Iterator[Section]:
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


def sides(runs: Sequence[Run]) -> Iterator[Section]:
    drawn = [drawn_margins({run.name: run.report.margins for run in runs})]
    drawn += [drawn_lengths(run.report.lengths, None if len(runs) == 1 else run.name) for run in runs]
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


def drawn_margins(margins: Mapping[str, Sequence[Bin]], colours: Colours = PAGE) -> Plot | None:
    """Of each run by its name: by cause where there is one, of all pairs where there are two."""
    if len(margins) == 1:
        (bins,) = margins.values()
        series = [Steps(group, _shares(bins, group)) for group in dict.fromkeys(one.group for one in bins)]
    else:
        series = [Steps(name, _shares(_merged(bins), "all")) for name, bins in margins.items()]
    return plots.steps("Margins", series, "margin, pooled SDs", lambda place: place * MARGIN_BIN, colours=colours)


def _merged(bins: Sequence[Bin]) -> list[Bin]:
    counts: Counter[int] = Counter()
    for one in bins:
        counts[one.place] += one.count
    return [Bin("all", place, count) for place, count in counts.items()]


def _shares(bins: Sequence[Bin], group: str) -> dict[int, float]:
    own = [one for one in bins if one.group == group]
    whole = sum(one.count for one in own)
    return {one.place: one.count / whole for one in own}


def drawn_lengths(found: Lengths, whose: str | None, colours: Colours = PAGE) -> Plot | None:
    """`whose`: where there are several runs."""
    series = [Steps(side.value, _shares(found.bins, side.value)) for side in Side]
    title = "Lengths of both sides" if whose is None else f"Lengths of both sides, {whose}"
    axis = f"{found.unit} (each step doubles)"
    return plots.steps(title, series, axis, lambda place: 2 ** (place / LENGTH_BINS), doubling=True, colours=colours)
