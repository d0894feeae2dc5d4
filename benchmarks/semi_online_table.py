"""The table and the plot of `benchmarks.semi_online`: a row for each checkpoint, from the report of `prefactory evaluate`.

The rule that its reader must not break: every rate stands with its counts, its interval, and the cap that it was seen at.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

LOOP_GOAL = 0.01
Document = dict[str, object]


def at(figures: Mapping[str, object], decoding: str, cap: int) -> dict[str, object]:
    answers = figures["answers"]
    assert isinstance(answers, list)
    found: dict[str, object] = next(one for one in answers if one["decoding"] == decoding and one["max_tokens"] == cap)
    return found


def rate(value: object) -> str:
    assert isinstance(value, dict)
    if value["rate"] is None:
        return "-"
    low, high = value["interval"]
    return f"{value['hits']:g}/{value['of']:g} = {value['rate']:.1%} ({low:.1%}-{high:.1%})"


def row_of(
    name: str, promoted: bool | None, figures: Mapping[str, object], against: Mapping[str, object] | None
) -> Document:
    """What is said of one checkpoint, at every cap."""
    answers = figures["answers"]
    assert isinstance(answers, list)
    caps = sorted({one["max_tokens"] for one in answers})
    last = at(figures, "greedy", caps[-1])
    wins = None
    if against is not None:
        compared = against["compared"]
        assert isinstance(compared, list)
        own = next(one for one in compared if one["decoding"] == "greedy" and one["max_tokens"] == caps[-1])
        wins = own["wins_with_loops"]
    return {
        "checkpoint": name,
        "promoted": promoted,
        "digest": figures["digest"],
        "hard_loops": {f"{how} {cap}": at(figures, how, cap)["hard"] for cap in caps for how in ("greedy", "sampled")},
        "kinds": last["kinds"],
        "ended": last["ended"],
        "accuracy": last["accuracy"],
        "tokens": last["tokens"],
        "distinct": last["distinct"],
        "repeated": last["repeated"],
        "perplexity": figures["perplexity"],
        "bits_per_byte": figures["bits_per_byte"],
        "wins": wins,
        "tripped": [] if against is None else against["tripped"],
    }


def loops_table(rows: Sequence[Document]) -> Table:
    shown = Table("", *(f"{name} tokens" for name in _part(rows[0], "hard_loops")), "promoted", title="Hard loops")
    for row in rows:
        promoted = {None: "-", True: "yes", False: "no"}[_flag(row["promoted"])]
        shown.add_row(str(row["checkpoint"]), *map(rate, _part(row, "hard_loops").values()), promoted)
    return shown


def kinds_table(rows: Sequence[Document]) -> Table:
    """Greedy hard loops at the largest cap, by the kind of prompt."""
    kinds = [_kinds(row) for row in rows]
    shown = Table("kind", "trained on", *(str(row["checkpoint"]) for row in rows), title="Greedy hard loops by kind")
    for name, (seen, _, _) in kinds[0].items():
        shown.add_row(name, "yes" if seen else "no", *(f"{own[name][1]:g}/{own[name][2]:g}" for own in kinds))
    return shown


def _kinds(row: Document) -> dict[str, tuple[bool, float, float]]:
    """Kind -> whether it was trained on, hard loops, answers."""
    kinds = row["kinds"]
    assert isinstance(kinds, list)
    return {one["source"]: (one["seen"], one["hard"]["hits"], one["hard"]["of"]) for one in kinds}


def price_table(rows: Sequence[Document]) -> Table:
    """What else became of the answers. All but the perplexity are of the greedy answers at the largest cap."""
    columns = ("right", "won against the base", "ended by itself", "tokens", "distinct-2", "perplexity")
    shown = Table("", *columns, title="What else became of them; a loop loses against an answer that is none")
    for row in rows:
        won = row["wins"]
        shown.add_row(
            str(row["checkpoint"]),
            rate(row["accuracy"]),
            rate(won["win_rate"]) if isinstance(won, dict) else "-",
            rate(row["ended"]),
            number(_at(row, "tokens", 0)),
            number(_at(row, "distinct", 1)),
            number(row["perplexity"]),
        )
    return shown


def _part(row: Document, name: str) -> dict[str, object]:
    part = row[name]
    assert isinstance(part, dict)
    return part


def _at(row: Document, name: str, place: int) -> object:
    """Of a figure that is several numbers; None where it was not measured."""
    values = row[name]
    return values[place] if isinstance(values, list) else None


def _flag(value: object) -> bool | None:
    assert value is None or isinstance(value, bool)
    return value


def number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else "-"


def plot(rows: Sequence[Document], path: Path) -> None:
    """Greedy and sampled loop rates of each checkpoint with their intervals, and its perplexity."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = [str(row["checkpoint"]) for row in rows]
    figure, (above, below) = plt.subplots(2, 1, figsize=(9, 7), sharex=True, height_ratios=(3, 1))
    series = list(_part(rows[0], "hard_loops"))
    for place, name in enumerate(series):
        rates = [_part(row, "hard_loops")[name] for row in rows]
        values = [_number(one, "rate") for one in rates]
        low, high = zip(*(_interval(one) for one in rates), strict=True)
        gaps = [
            [max(0.0, value - end) for value, end in zip(values, low, strict=True)],
            [max(0.0, end - value) for value, end in zip(values, high, strict=True)],
        ]
        shift = [number + (place - (len(series) - 1) / 2) * 0.15 for number in range(len(rows))]
        above.errorbar(shift, values, yerr=gaps, fmt="os^D"[place % 4], capsize=3, label=f"{name} tokens")
    above.axhline(LOOP_GOAL, linewidth=1, linestyle=":", color="black")
    above.set_ylabel("share of hard loops, 95% intervals")
    above.set_ylim(bottom=0)
    above.legend()
    below.bar(range(len(rows)), [_plain_number(row["perplexity"]) for row in rows], color="0.6")
    below.set_ylabel("perplexity")
    below.set_xticks(range(len(rows)), names, rotation=20)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _number(value: object, name: str) -> float:
    assert isinstance(value, dict)
    return float(value[name] or 0.0)


def _plain_number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _interval(value: object) -> tuple[float, float]:
    assert isinstance(value, dict)
    low, high = value["interval"]
    return float(low), float(high)
