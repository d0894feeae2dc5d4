"""What stands on the pages, and under which words.

The rule that must not break: a rate says what it was counted over, and a sample that was not drawn by chance says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from factory.browsing.filters import UNMARKED, Filters, Order
from factory.browsing.listing import Choices, Entry, Listing, Place
from factory.browsing.loop_spans import shortened
from factory.browsing.marked import Agreement
from factory.browsing.texts import Answer, Confirmed, Key, Words
from factory.looking.harmless import shortened as cut
from factory.looking.templating import environment
from schemas.marks import Mark
from schemas.rows import Loop

TEMPLATES = Path(__file__).parent / "templates"
LONGEST = 20_000  # characters of a side in a list; a page of its own shows all
OPTIONS = 200  # of a choice
MARKS = {Mark.RIGHT: "Right", Mark.FLIPPED: "Flipped", Mark.BOTH_BAD: "Both bad"}
ORDERS = {
    Order.STORED: "as stored",
    Order.CLOSE: "smallest margin first",
    Order.CLEAR: "largest margin first",
    Order.DISPUTED: "most disagreement first",
    Order.RANDOM: "at random, by the seed",
}
_GONE = (
    "Not counted: {:,} marks on pairs that lie there no more. Where `pairing.marks` drops pairs for what was said of them, "
    "the rate is too high by that."
)
_BIASED = {
    Order.STORED: "the first ones as stored, which nobody drew by chance: it may not hold for the others",
    Order.CLOSE: "those with the smallest margins, where a jury is least often right: all pairs would come out higher",
    Order.CLEAR: "those with the largest margins, where a jury is most often right: all pairs would come out lower",
    Order.DISPUTED: "those that the judges dispute most, where a jury is least often right: all pairs would come out higher",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """A field to choose in. `options`: value, words."""

    name: str
    label: str
    options: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Card:
    """A pair with its words; None: they have gone meanwhile. `after`: the number of the card behind it."""

    entry: Entry
    words: Words | None
    after: int | None


_environment = environment(TEMPLATES)


def address(key: Key) -> str:
    """Of a pair's own page, below the base."""
    return f"pair/{key.round}/{quote(key.prompt_id, safe='')}"


def _rendered(template: str, **values: object) -> str:
    return _environment.get_template(template).render(**values, marks=MARKS, address=address)


def list_page(
    base: str,
    name: str,
    filters: Filters,
    place: Place,
    choices: Choices,
    found: Listing,
    cards: Sequence[Card],
    trouble: str,
) -> str:
    return _rendered(
        "list.html.j2",
        base=base,
        name=name,
        filters=filters,
        back=filters.query(after=place.after, before=place.before),
        choices=_choices(choices, filters),
        found=found,
        cards=[_for_a_list(card) for card in cards],
        progress=_progress(found, trouble),
        unfinished=not found.ready.whole or (found.found is not None and found.found.done < found.found.of),
        agreement=_agreements(filters, found),
        orders=ORDERS,
    )


def _for_a_list(card: Card) -> Card:
    if card.words is None:
        return card
    words = replace(
        card.words,
        turns=tuple((role, cut(content, LONGEST)) for role, content in card.words.turns),
        chosen=shortened(card.words.chosen, LONGEST),
        rejected=shortened(card.words.rejected, LONGEST),
    )
    return replace(card, words=words)


def pair_page(
    base: str,
    name: str,
    filters: Filters,
    card: Card,
    answers: tuple[Answer, ...],
    confirmed: tuple[Confirmed, ...],
    around: tuple[Key | None, Key | None],
) -> str:
    return _rendered(
        "pair.html.j2",
        base=base,
        name=name,
        filters=filters,
        card=card,
        answers=[(answer, standing(answer), side(answer, card.entry.key)) for answer in answers],
        confirmed=confirmed,
        before=around[0],
        behind=around[1],
    )


def trouble_page(base: str, line: str) -> str:
    return _rendered("trouble.html.j2", base=base, line=line)


def side(answer: Answer, key: Key) -> str:
    return {key.chosen_id: "chosen", key.rejected_id: "rejected"}.get(answer.rollout_id, "")


def standing(answer: Answer) -> str:
    """What is forced on an answer, or kept from it, and why."""
    rule = f" ({answer.loop.rule})" if answer.loop.rule else ""
    if answer.loop.kind is Loop.HARD:
        return f"hard loop{rule}: never chosen, always rejected"
    if answer.error is not None:
        return f"no answer: {answer.error}"
    if answer.loop.kind is Loop.SOFT:
        return f"soft loop{rule}: never chosen"
    if answer.eligible is None:
        return "not compared"
    return "may be chosen" if answer.eligible else f"may not be chosen: {answer.note or 'no reason was stored'}"


def _choices(choices: Choices, filters: Filters) -> list[Choice]:
    def counted(dimension: str) -> tuple[tuple[str, str], ...]:
        found = choices.of.get(dimension, {})
        return tuple((value, f"{value} ({pairs:,})") for value, pairs in list(found.items())[:OPTIONS])

    marks = ((UNMARKED, "unmarked"), *((mark.value, words.lower()) for mark, words in MARKS.items()))
    shown = [
        Choice("cause", "Cause", counted("cause")),
        Choice("rule", "Loop rule", counted("loop_rule")),
        Choice("mark", "Mark", marks),
        Choice("source", "Source", counted("source")),
        Choice("chosen", "Chosen slot", counted("chosen_slot")),
        Choice("rejected", "Rejected slot", counted("rejected_slot")),
        Choice("round", "Round", counted("round")),
    ]
    return [_with_own(each, getattr(filters, each.name)) for each in shown]


def _with_own(choice: Choice, value: object) -> Choice:
    """What the address asks for can be chosen, whether it occurs or not."""
    own = None if value is None else str(value)
    if own is None or own in dict(choice.options):
        return choice
    return Choice(choice.name, choice.label, (*choice.options, (own, f"{own} (0)")))


def _progress(found: Listing, trouble: str) -> list[str]:
    lines = []
    if not found.ready.whole:
        lines.append(
            f"Reading the run: {len(found.ready.blocks):,} of {found.ready.of:,} parts so far; the counts grow."
        )
    if found.found is not None and found.found.done < found.found.of:
        lines.append(f"Searching the texts: {found.found.done:,} of {found.found.of:,} parts so far.")
    if found.found is not None and found.found.unread:
        lines.append(f"Not searched, since they cannot be read: {found.found.unread:,} parts.")
    if trouble:
        lines.append(f"Could not be read: {trouble}")
    return lines


def _agreements(filters: Filters, found: Listing) -> list[str]:
    gone = f" {_GONE.format(found.gone_marks)}" if found.gone_marks else ""
    lines = [f"All marks: {agreement_words(found.all_marks)}{gone}"]
    if found.all_marks.compared:
        lines[0] += " Whoever chose which pairs to mark decides what that speaks for."
    if found.sample_marks is not None:
        drawn = min(filters.sample or 0, found.total) if filters.mark is None else filters.sample
        lines.append(f"This sample of {drawn:,} pairs: {agreement_words(found.sample_marks)} {_bias(filters)}")
    return lines


def _bias(filters: Filters) -> str:
    if filters.order is not Order.RANDOM:
        return f"It is biased: {_BIASED[filters.order]}."
    meant = "the pairs that meet the filters" if filters.narrows_before_drawing else "all pairs of the run"
    return f"Drawn at random by seed {filters.seed}: once all of it is marked, it speaks for {meant}."


def agreement_words(found: Agreement) -> str:
    more = [f"both bad: {found.neither:,}"] if found.neither else []
    more += [f"on pairs that a loop or a check decided, not counted: {found.other:,}"] if found.other else []
    behind = f" ({'; '.join(more)})" if more else ""
    if not found.compared:
        return f"none yet says which answer of a pair of the jury's is the better one{behind}."
    low, high = found.interval
    rate = f"{found.agree / found.compared:.1%} (95%: {low:.1%} to {high:.1%}, Wilson's)"
    return f"the jury is right in {found.agree:,} of {found.compared:,} = {rate}{behind}."
