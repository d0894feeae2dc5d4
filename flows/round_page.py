"""The figures of a round as rows for a table that a scheduler's page shows."""

from collections.abc import Iterator, Mapping

from factory.client.spending import read_spent
from factory.looking import queries
from factory.looking.figures import Figures, figures
from factory.run import RunFolder
from schemas.price import money_text

Row = Mapping[str, object]


def figure_rows(run: RunFolder) -> list[Row]:
    """Raises Fixable where the tables cannot be read."""
    return [{"figure": name, "value": value} for name, value in _figures(run)]


def _figures(run: RunFolder) -> Iterator[tuple[str, str]]:
    counted = figures(run.root, run.round)
    yield "round", str(run.round)
    yield "prompts", f"{counted.prompts:,}"
    yield "pairs", f"{counted.pairs:,}"
    for cause, count in counted.causes.items():
        yield f"pairs by {cause}", f"{count:,}"
    for reason, count in counted.dropped.items():
        yield f"dropped: {reason}", f"{count:,}"
    yield from _loops(counted)
    yield from _trust(counted, run)
    yield from _cost(run)


def _loops(counted: Figures) -> Iterator[tuple[str, str]]:
    for slot in counted.slots:
        low, high = slot.interval
        rate = f" = {slot.hard / slot.answers:.1%} ({low:.1%}-{high:.1%})" if slot.answers else ""
        yield f"hard loops, {slot.decoding}", f"{slot.hard} of {slot.answers}{rate}"


def _trust(counted: Figures, run: RunFolder) -> Iterator[tuple[str, str]]:
    sql = f"SELECT avg(agreement) FROM pairs WHERE round = {run.round} AND agreement IS NOT NULL"
    ((mean,),) = queries.ask(run.root, sql).rows
    if mean is not None:
        yield "agreement, mean of the pairs", f"{float(str(mean)):.2f}"
    if (trust := counted.trust) is not None:
        if trust.alpha is not None:
            yield "agreement, alpha within a prompt", f"{trust.alpha:.2f}"
        if trust.n_eff is not None:
            yield "judges, worth independent ones", f"{trust.judges} worth {trust.n_eff:.1f}"


def _cost(run: RunFolder) -> Iterator[tuple[str, str]]:
    sql = f"SELECT stage, who, requests, prompt_tokens, completion_tokens, money FROM cost WHERE round = {run.round}"
    priced = bool(run.known().prices)
    for stage, who, *counts, money in queries.ask(run.root, sql).rows:
        requests, read, wrote = (f"{int(str(count)):,}" if count is not None else "-" for count in counts)
        paid = f", {'-' if money is None else money_text(float(str(money)))} in money" if priced else ""
        yield f"cost: {stage} by {who}", f"{requests} requests, {read} tokens read, {wrote} written{paid}"
    spent = read_spent(run.spent_path)
    yield "spent, all rounds", f"{spent.requests:,} requests, {spent.tokens:,} tokens, {spent.seconds / 3600:.2f} hours"
    if priced:
        yield "spent in money, all rounds", money_text(spent.money)
