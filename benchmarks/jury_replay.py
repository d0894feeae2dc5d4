"""Real verdicts of real judges, put through every aggregation there is: how often each names the better answer.

    python -m benchmarks.jury_replay                                LLMBar, six judges, five styles of asking
    python -m benchmarks.jury_replay --verdicts FILE --gold FILE    files of that form (`benchmarks.jury_votes`)

The first style of the verdicts' file is the main one, and the others stand beside it. Panels are three judges in one style,
60 of all that there are, drawn with a seed. With equal votes every judge weighs 1; of two answers, copeland is then the plain
majority. Gold weights come from 50 pairs, drawn anew many times, and accuracy is counted on the other pairs alone: the mean
over the draws and their middle 95%. Without gold the interval is Wilson's, or the middle 95% of the panels. An open
pair is half right, and so is every pair where gold silences all judges: a run refuses such a jury, so it is counted apart as
well. `ceiling` is the best that any weights of 0 or more come to with these votes, found with the labels in hand. The last
line of the output is one JSON object.

The rule that must not break: no pair is scored by weights that it helped to find.
"""

import argparse
import json
import os
import random
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean, quantiles

from rich.console import Console
from rich.table import Table

from benchmarks.jury_ceiling import ceiling
from benchmarks.jury_draws import (
    GOLD_PAIRS,
    WAYS,
    Panel,
    accuracy,
    correct_together,
    drawn,
    heard_panel,
    kinds_of,
    lead,
)
from benchmarks.jury_votes import ALL_STYLES, Style, read_styles
from factory.judging.aggregation import sign
from factory.judging.gold import Accuracy
from schemas.recipe import Aggregation

SHARED = Path(os.environ.get("PREFACTORY_SHARED", Path(__file__).parents[2] / "shared"))
DRAWS = 200  # of gold pairs, for the whole jury
PANELS, SEATS = 60, 3
SEED = 20
SHORT = 0.02  # so far below the best single judge is too far
Figures = dict[str, object]


# --- figures ---


def middle(values: Sequence[float]) -> list[float]:
    """The middle 95% of them."""
    cuts = quantiles(values, n=40, method="inclusive") if len(values) > 1 else [values[0], values[0]]
    return [round(cuts[0], 4), round(cuts[-1], 4)]


def rate(found: Accuracy) -> Figures:
    return {"accuracy": round(found.rate, 4), "interval": [round(bound, 4) for bound in found.interval]}


def spread(values: Sequence[float]) -> Figures:
    return {"accuracy": round(fmean(values), 4), "interval": middle(values)}


def jury_figures(style: Style, ways: Sequence[Aggregation], dice: random.Random) -> Figures:
    """All judges of a style: each alone, every way with equal votes, and with weights from gold."""
    kinds = kinds_of(style.cases, style.judges)
    draws = [drawn(style, style.judges, ways, dice) for _ in range(DRAWS)]
    votes = [
        tuple(sign(lead("mean", case, [judge], style.sigmas, {})) for judge in style.judges) for case in style.cases
    ]
    singles = {judge: accuracy("mean", kinds, [judge], style.sigmas) for judge in style.judges}
    best = max(singles, key=lambda judge: singles[judge].right)
    n_eff, together = style.n_eff(), correct_together(style)
    return {
        "single": {judge: rate(found) for judge, found in singles.items()},
        "best_single": best,
        "majority": rate(accuracy("copeland", kinds, style.judges, style.sigmas)),
        "equal": {way: rate(accuracy(way, kinds, style.judges, style.sigmas)) for way in WAYS},
        "gold": {way: spread([one.by_way[way] for one in draws]) for way in ways},
        "ceiling": round(ceiling(votes), 4),
        "refused": round(fmean(one.refused for one in draws), 4),
        "n_eff": n_eff and round(n_eff, 2),
        "n_eff_of_being_right": together and round(together, 2),
    }


def panels(styles: Sequence[Style], dice: random.Random) -> list[Panel]:
    every = [(style, seats) for style in styles for seats in combinations(style.judges, SEATS)]
    return [heard_panel(*one, dice) for one in dice.sample(every, min(PANELS, len(every)))]


def panel_figures(found: Sequence[Panel]) -> Figures:
    singles = [fmean(each.single[one.best(GOLD_PAIRS)] for each in one.draws[GOLD_PAIRS]) for one in found]
    return {
        "panels": len(found),
        "equal": {way: spread([one.equal[way] for one in found]) for way in WAYS},
        "gold": {
            way: spread([fmean(each.by_way[way] for each in one.draws[GOLD_PAIRS]) for one in found]) for way in WAYS
        },
        "best_single": spread(singles),
        "gaps": {str(gold): gap_figures([one.gaps(gold) for one in found]) for gold in found[0].draws},
    }


def gap_figures(gaps: Sequence[Sequence[tuple[float, bool]]]) -> Figures:
    """`heard`: over the draws in which gold lets somebody speak. `all`: a panel that is silenced is a coin."""
    spoke = [own for panel in gaps if (own := [gap for gap, heard in panel if heard])]
    every = [[gap for gap, _ in panel] for panel in gaps]
    return {
        "silenced_draws": round(1 - sum(map(len, spoke)) / sum(map(len, every)), 4),
        "panels_ever_heard": len(spoke),
        "heard": _gap(spoke),
        "all": _gap(every),
    }


def _gap(panels: Sequence[Sequence[float]]) -> Figures:
    means = [fmean(own) for own in panels]
    return {
        "worst": round(min(means, default=0.0), 4),
        "panels_too_low": round(fmean(mean < -SHORT for mean in means), 4) if means else None,
        "draws_too_low": round(fmean(gap < -SHORT for own in panels for gap in own), 4) if means else None,
    }


def replay(styles: Sequence[Style]) -> Figures:
    dice = random.Random(SEED)
    main, *others = styles
    worded = [style for style in styles if style.name != ALL_STYLES]
    found: Figures = {
        "pairs": len(main.cases),
        "gold_pairs": GOLD_PAIRS,
        "style": main.name,
        "jury": jury_figures(main, WAYS, dice),
        "styles": {style.name: jury_figures(style, ["gold_log_odds"], dice) for style in others},
    }
    return found | ({"panels": panel_figures(panels(worded, dice))} if len(main.judges) > SEATS else {})


# --- tables ---


def shown(found: object) -> str:
    """A figure with its interval, as `rate` and `spread` make it."""
    assert isinstance(found, dict)
    low, high = found["interval"]
    return f"{found['accuracy']:.3f} ({low:.3f} to {high:.3f})"


def within(found: object, *names: str) -> object:
    for name in names:
        assert isinstance(found, dict)
        found = found[name]
    return found


def way_table(figures: Figures) -> Table:
    title = f"accuracy (95%): all judges in the style {figures['style']}, and panels of three"
    table = Table("aggregation", "all, equal", "all, gold 50", title=title, title_justify="left")
    parts = [("jury", "equal"), ("jury", "gold")]
    if "panels" in figures:
        table.add_column("panels, equal")
        table.add_column("panels, gold 50")
        parts += [("panels", "equal"), ("panels", "gold")]
    for way in WAYS:
        table.add_row(way, *(shown(within(figures, *part, way)) for part in parts))
    table.add_row("majority", shown(within(figures, "jury", "majority")), *[""] * (len(parts) - 1))
    best = str(within(figures, "jury", "best_single"))
    panel = [shown(within(figures, "panels", "best_single")), ""] if "panels" in figures else []
    table.add_row("best single judge", shown(within(figures, "jury", "single", best)), "", *panel)
    return table


def style_table(figures: Figures) -> Table:
    titles = ("style", "best single", "majority", "scaled", "gold log-odds, 50", "ceiling", "n_eff", "of being right")
    table = Table(*titles, title="all judges, by style of asking", title_justify="left")
    styles = within(figures, "styles")
    assert isinstance(styles, dict)
    for name, own in {str(figures["style"]): figures["jury"], **styles}.items():
        best = str(within(own, "best_single"))
        cells = [("single", best), ("majority",), ("equal", "scaled"), ("gold", "gold_log_odds")]
        rest = [str(within(own, title)) for title in ("ceiling", "n_eff", "n_eff_of_being_right")]
        table.add_row(name, *(shown(within(own, *cell)) for cell in cells), *rest)
    return table


def gap_table(figures: object) -> Table:
    titles = ("gold pairs", "silenced", "heard: worst panel", "too low", "all: worst panel", "too low")
    title = f"panels: gold log-odds less the best single judge; more than {SHORT} below it is too low (panels, draws)"
    table = Table(*titles, title=title, title_justify="left")
    assert isinstance(figures, dict)
    for gold, own in figures.items():
        cells = [f"{within(own, 'silenced_draws'):.1%} of draws"]
        for name in ("heard", "all"):
            worst, panels, draws = (within(own, name, one) for one in ("worst", "panels_too_low", "draws_too_low"))
            cells += [f"{worst:+.3f}", f"{panels:.1%}, {draws:.1%}"]
        table.add_row(gold, *cells)
    return table


def main(options: argparse.Namespace) -> None:
    for path in (options.verdicts, options.gold):
        if not path.is_file():
            print(f"skipped: no file {path}; --verdicts and --gold name files of that form")
            print(json.dumps({"skipped": str(path)}))
            return
    figures = replay(read_styles(options.verdicts, options.gold))
    console = Console(width=180)
    console.print(way_table(figures))
    console.print(style_table(figures))
    if "panels" in figures:
        console.print(gap_table(within(figures, "panels", "gaps")))
    print(json.dumps(figures))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.jury_replay", description="Real verdicts, aggregated.")
    parser.add_argument("--verdicts", type=Path, default=SHARED / "gold" / "llmbar_verdicts.csv", metavar="FILE")
    parser.add_argument("--gold", type=Path, default=SHARED / "gold" / "llmbar.jsonl", metavar="FILE")
    main(parser.parse_args())
