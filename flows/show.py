"""What a person sees of a run: its figures as tables, one pair in full, answers to queries."""

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from factory.looking import queries
from factory.looking.figures import HINTS, Figures, LoopFigures, SlotFigures, TrustFigures
from factory.looking.harmless import visible
from factory.looking.round_figures import RoundFigures
from schemas.manifest import RunManifest, Spent
from schemas.price import money_text
from schemas.rows import DropReason

# The pair is chosen by narrow columns first: to join all texts would hold those of the whole run in memory.
_ONE_PAIR = """
WITH one AS (
  SELECT chosen_id, rejected_id, pairs.round AS its_round FROM pairs
  JOIN prompts ON prompts.prompt_id = pairs.prompt_id AND prompts.round = pairs.round
  ORDER BY cause = 'loop' DESC, language = 'en' DESC, rejected_trimmed DESC, len(chosen) + len(rejected), chosen_id LIMIT 1
)
SELECT pairs.messages, chosen, rejected, cause, margin, agreement,
       r.loop_rule, r.loop_period, r.loop_repeats, rejected_trimmed
FROM one JOIN pairs ON pairs.chosen_id = one.chosen_id AND pairs.rejected_id = one.rejected_id AND pairs.round = its_round
JOIN rollouts r ON r.rollout_id = one.rejected_id LIMIT 1
"""


def show_figures(console: Console, figures: Figures, max_tokens: int) -> None:
    """The whole run on one screen; the sum of the last table is the number of prompts."""
    console.print(_slots(figures.slots, max_tokens))
    for line in _loops(figures.loops, max_tokens):
        console.print(line, markup=False, highlight=False)
    console.print(_judges(figures))
    for line in trust_lines(figures.trust):
        console.print(line, markup=False, highlight=False)
    console.print(_outcome(figures))
    for reason, count in figures.dropped.items():
        if hint := HINTS.get(DropReason(reason)):
            console.print(f"{reason} ({count}): {hint}", markup=False, highlight=False)


def figure_table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    return table


def _slots(slots: tuple[SlotFigures, ...], max_tokens: int) -> Table:
    title = f"Rollouts at max_tokens {max_tokens}; hard-loop rate with its 95% interval"
    errors = ("errors",) if any(slot.errors for slot in slots) else ()
    table = figure_table(title, "decoding", "answers", "hard loops", "soft", "unfinished", *errors, "tokens")
    for slot in slots:
        low, high = slot.interval
        rate = f"{slot.hard / slot.answers:.1%}" if slot.answers else "-"
        hard = f"{slot.hard} = {rate} ({low:.1%}-{high:.1%})"
        counts = (slot.soft, slot.unfinished, *((slot.errors,) if errors else ()), slot.tokens)
        table.add_row(slot.decoding, str(slot.answers), hard, *map(str, counts))
    return table


def _loops(loops: LoopFigures, max_tokens: int) -> list[str]:
    """By rule, and the engine's own detection against ours."""
    lines = [
        f"{kind.capitalize()} loops by rule: " + ", ".join(f"{rule} {count}" for _, rule, count in rules)
        for kind, rules in groupby(loops.rules, key=itemgetter(0))
    ]
    if loops.stopped:
        lines.append(
            f"The engine stopped {loops.stopped} as repetition: {loops.confirmed} are hard loops to the detector too. "
            f"That saved at most {loops.saved(max_tokens)} tokens (as if each had gone on to the cap)"
        )
    if loops.only_detector:
        lines.append(f"Only the detector saw {loops.only_detector} hard loops: the engine let them go on")
    return lines


def _judges(figures: Figures) -> Table:
    title = "Verdicts; mass is what a judge puts on the digits that it is held to"
    table = figure_table(title, "judge", "ok", "skipped", "abstained", "failed", "mean", "SD", "mass")
    for judge in figures.judges:
        numbers = ("-" if value is None else f"{value:.2f}" for value in (judge.mean, judge.sd, judge.mass))
        table.add_row(judge.judge, str(judge.ok), str(judge.skipped), str(judge.abstained), str(judge.failed), *numbers)
    return table


def trust_lines(trust: TrustFigures | None) -> list[str]:
    """What the jury is worth, on one line, and who is no better than a coin on another."""
    if trust is None:
        return []
    said = [f"{trust.judges} judges" + (f" are worth {trust.n_eff:.1f} independent ones" if trust.n_eff else "")]
    if trust.alpha is not None:
        said.append(f"alpha within a prompt {trust.alpha:.2f}")
    if trust.flips is not None:
        said.append(f"{trust.flips:.0%} of re-asked comparisons flip")
    if trust.planted:
        beaten = (f"{judge} {rate:.0%} ({low:.0%}-{high:.0%})" for judge, (rate, low, high, _) in trust.planted.items())
        said.append(f"planted bad answers beaten: {', '.join(beaten)}")
    lines = [f"Trust: {'; '.join(said)}"]
    if trust.coins:
        lines.append(f"warning: no better than a coin at planted bad answers: {', '.join(trust.coins)}")
    return lines


def _outcome(figures: Figures) -> Table:
    table = figure_table(
        f"{figures.prompts} prompts = {figures.pairs} pairs + {figures.drops} dropped", "outcome", "why", "n"
    )
    for cause, count in figures.causes.items():
        table.add_row("pair", cause, str(count))
    for reason, count in figures.dropped.items():
        table.add_row("dropped", reason, str(count))
    return table


def show_one_pair(console: Console, root: Path) -> None:
    """One pair in full: one with a loop if there is any, and rather short."""
    rows = queries.ask(root, _ONE_PAIR).rows
    if not rows:
        return
    messages, chosen, rejected, cause, margin, agreement, rule, period, repeats, trimmed = rows[0]
    console.print(Panel(clean(_conversation(messages)), title="prompt", title_align="left"))
    console.print(Panel(clean(chosen), title="chosen", title_align="left", border_style="green"))
    why = (
        f"loop ({rule}): {period} bytes, {repeats:.1f} times" if cause == "loop" else f"{cause}: margin {_two(margin)}"
    )
    why += ", cut after a few periods" if trimmed else ""
    why += f", agreement {_two(agreement)}" if agreement is not None else ""
    console.print(Panel(clean(rejected), title=f"rejected; {why}", title_align="left", border_style="red"))


def _conversation(messages: object) -> str:
    """One turn as it is; several with who said what."""
    assert isinstance(messages, list), "a list of messages, as the table has it"
    if len(messages) == 1:
        return str(messages[0]["content"])
    return "\n".join(f"{message['role']}: {message['content']}" for message in messages)


def _two(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else "-"


def clean(value: object) -> Text:
    """Model output never gets to speak to the terminal: control characters are shown, not obeyed."""
    return Text(visible(str(value)))


def show_rounds(console: Console, rounds: Sequence[RoundFigures]) -> None:
    """One beside the other; nothing where there is but one."""
    if len(rounds) < 2:
        return
    table = figure_table("Rounds", "round", "answered by", "prompts", "pairs", "dropped", "hard loops", "promoted")
    for one in rounds:
        hard = f"{one.hard} of {one.answers} = {one.hard / one.answers:.1%}" if one.answers else "-"
        counts = (str(one.prompts), str(one.pairs), str(one.dropped))
        table.add_row(str(one.round), one.policy[:16], *counts, hard, (one.promoted or "-")[:16])
    console.print(table)


def show_seconds(console: Console, manifest: RunManifest) -> None:
    phases = ", ".join(f"{phase} {spent:.0f} s" for phase, spent in manifest.seconds.items() if spent >= 0.5)
    if phases:
        console.print(f"Time: {phases}", markup=False, highlight=False)


def show_spent(console: Console, spent: Spent, cost: float | None) -> None:
    """`cost`: None where nothing of it has a price."""
    if spent.requests:
        tokens = f"{spent.prompt_tokens:,} tokens read and {spent.completion_tokens:,} written"
        hours = f"{spent.seconds / 3600:.2f} hours at work"
        paid = "" if cost is None else f", at a cost of {money_text(cost)} by the recipe's prices"
        console.print(f"Spent: {spent.requests:,} requests, {tokens}, {hours}{paid}", markup=False, highlight=False)


def show_answer(console: Console, answer: queries.Answer) -> None:
    table = Table(header_style="bold")
    for column in answer.columns:
        table.add_column(column, overflow="fold")
    for row in answer.rows:
        table.add_row(*(clean("NULL" if value is None else value) for value in row))
    console.print(table)
