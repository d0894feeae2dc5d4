"""What would be worth changing in a run, in words: rules over its figures, each said with the numbers that it goes by.

The rule that must not break: a rule speaks only where the figures carry it. A rate is called high or different by the end of
its interval, never by its middle, so that a small run is not told what chance alone would say.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from factory.looking.figures import HINTS
from factory.looking.report_figures import Cut, Measured, Rate, RunReport, Side
from schemas.rows import Cause, DropReason

LOOPING = 0.02  # hard loops of the greedy answers, from which a training against them pays
DROPPED = 0.1  # of the prompts, for one reason
UNFINISHED = 0.1  # of the answers
FAILED = 0.05  # of a judge's replies
MASS = 0.5  # that a judge puts on grades
ALPHA = 0.3
ALIKE = 0.6  # of the judges that the jury is worth, below which they say the same
PULL = 0.25  # pooled SDs that a doubling of the length is worth to a judge
FLIPS = 0.2
LONGER = 1.5  # median of one side over the other's, in pairs that the jury made
LOOP_PAIRS = 0.6  # of the pairs


@dataclass(frozen=True, slots=True)
class Advice:
    """`seen`: what the figures say. `change`: what could be done about it."""

    seen: str
    change: str


Rule = Callable[[RunReport], Iterator[Advice]]


def advice(run: RunReport) -> tuple[Advice, ...]:
    """What stands out, the most telling first; nothing where nothing does."""
    return tuple(each for rule in RULES for each in rule(run))


def drops(run: RunReport) -> Iterator[Advice]:
    for reason, count in run.figures.dropped.items():
        hint = HINTS.get(DropReason(reason))
        if hint and Rate(reason, count, run.figures.prompts).interval[0] > DROPPED:
            yield Advice(
                f"{percent(count / run.figures.prompts)} of the prompts ({count:,}) were dropped as {reason}", hint
            )


def greedy_loops(run: RunReport) -> Iterator[Advice]:
    greedy = run.rate("greedy")
    if greedy is not None and greedy.interval[0] > LOOPING:
        yield Advice(
            f"{rate_text(greedy)} of the greedy answers are hard loops at {run.max_tokens} tokens",
            "train on these pairs, whose loops are rejected; until then decode with a temperature, or let the engine "
            "stop repetition",
        )


def looping_group(cut: Cut, change: str) -> Rule:
    """Of one group of answers whose rate is clearly above that of all others together."""

    def rule(run: RunReport) -> Iterator[Advice]:
        for one, others in against_the_rest(run.loops.get(cut, ())):
            if one.interval[0] > max(others.interval[1], LOOPING):
                yield Advice(
                    f"{cut.value} {one.name}: {rate_text(one)} hard loops, {rate_text(others)} elsewhere", change
                )

    return rule


def against_the_rest(rates: Sequence[Rate]) -> Iterator[tuple[Rate, Rate]]:
    """Each with all others together, the highest first."""
    hits, trials = sum(one.hits for one in rates), sum(one.trials for one in rates)
    for one in sorted(rates, key=lambda rate: -rate.value):
        if trials > one.trials:
            yield one, Rate("others", hits - one.hits, trials - one.trials)


def unfinished(run: RunReport) -> Iterator[Advice]:
    cut = sum(slot.unfinished for slot in run.figures.slots)
    hard = sum(slot.hard for slot in run.figures.slots)
    answers = sum(slot.answers for slot in run.figures.slots)
    if answers and (without := Rate("unfinished", max(0, cut - hard), answers)).interval[0] > UNFINISHED:
        yield Advice(
            f"{rate_text(without)} of the answers were cut off at {run.max_tokens} tokens without being a hard loop",
            "raise `rollouts.max_tokens`, or take prompts with shorter answers",
        )


def planted(run: RunReport) -> Iterator[Advice]:
    found = [(one.judge, seen) for one in run.judges if (seen := one.trust.get("canaries")) is not None]
    if coins := [f"{judge} {measured_text(seen)}" for judge, seen in found if seen.low is not None and seen.low <= 0.5]:
        yield Advice(
            f"planted bad answers are seen no better than by a coin, for all that is known: {', '.join(coins)}",
            "take a larger judge; `prefactory judges calibrate` says what judges are worth on pairs that you know",
        )


def flips(run: RunReport) -> Iterator[Advice]:
    found = [(one.judge, seen) for one in run.judges if (seen := one.trust.get("flips")) is not None]
    if turned := [f"{judge} {measured_text(seen)}" for judge, seen in found if (seen.low or 0.0) > FLIPS]:
        yield Advice(
            f"comparisons come out the other way when they are asked again: {', '.join(turned)}",
            "take a larger judge, or more `samples`",
        )


def pull(run: RunReport) -> Iterator[Advice]:
    """Judges that go by length, those that like it long and those that like it short apart."""
    slopes = [(one.judge, slope) for one in run.judges if (slope := one.value("length_slope")) is not None]
    for likes, sign in (("longer", 1), ("shorter", -1)):
        if drawn := [f"{judge} {slope:+.2f}" for judge, slope in slopes if sign * slope > PULL]:
            yield Advice(
                f"judges like {likes} answers, in SDs with each doubling of the length: {', '.join(drawn)}",
                "name length in the rubric, weigh these judges by `judges calibrate`, and train with a length-normalised loss",
            )


def off_grades(run: RunReport) -> Iterator[Advice]:
    masses = [(one.judge, mass) for one in run.judges if (mass := one.value("mass")) is not None]
    if low := [f"{judge} {percent(mass)}" for judge, mass in masses if mass < MASS]:
        yield Advice(
            f"judges would rather write something else than a grade; probability on grades: {', '.join(low)}",
            "take a model that follows its instructions, or give it `thinking_tokens`",
        )


def unscored(run: RunReport) -> Iterator[Advice]:
    rates = [Rate(one.judge, one.failed, one.ok + one.failed) for one in run.judges if one.ok + one.failed]
    if failed := [f"{one.name} {rate_text(one)}" for one in rates if one.interval[0] > FAILED]:
        yield Advice(
            f"judgements without a score: {', '.join(failed)}",
            "see `SELECT judge, status, reply, count(*) FROM verdicts GROUP BY ALL`",
        )


def jury(run: RunReport) -> Iterator[Advice]:
    count, worth, alpha = (run.jury.get(name) for name in ("judges", "n_eff", "alpha_centred"))
    if count is not None and worth is not None and count.value > 1 and worth.value < ALIKE * count.value:
        yield Advice(
            f"{count.value:.0f} judges are worth {worth.value:.1f} independent ones",
            "take judges of different model families: the same model under other rubrics mostly repeats itself",
        )
    if alpha is not None and alpha.value < ALPHA:
        yield Advice(
            f"the judges agree little within a prompt (alpha {alpha.value:.2f})",
            "raise `pairing.agreement`, or calibrate the jury on a little gold",
        )


def lengths(run: RunReport) -> Iterator[Advice]:
    sides = [run.lengths.medians.get((Cause.JURY.value, side)) for side in Side]
    chosen, rejected = sides
    if chosen and rejected and max(chosen / rejected, rejected / chosen) > LONGER:
        longer = "longer" if chosen > rejected else "shorter"
        yield Advice(
            f"the jury's chosen answers are {longer}: median {chosen:,.0f} {run.lengths.unit} against {rejected:,.0f}",
            "train with a length-normalised loss, and watch the length of what the trained model writes",
        )


def loop_pairs(run: RunReport) -> Iterator[Advice]:
    made = Rate("loop", run.figures.causes.get(Cause.LOOP.value, 0), run.figures.pairs)
    if made.trials and made.interval[0] > LOOP_PAIRS:
        yield Advice(
            f"loops make {rate_text(made)} of the pairs: they teach to stop, and little about better answers",
            "set `pairing.loop_share`, or take more prompts",
        )


RULES: tuple[Rule, ...] = (
    greedy_loops,
    drops,
    planted,
    jury,
    pull,
    flips,
    off_grades,
    unscored,
    unfinished,
    lengths,
    loop_pairs,
    looping_group(Cut.SOURCE, "look at this source's prompts: `SELECT asked, text FROM answers WHERE loop = 'hard'`"),
    looping_group(Cut.TEMPERATURE, "fewer slots at this temperature, if loops are not what you want to train away"),
    looping_group(Cut.ROUND, "look at what this round's checkpoint was trained on before going on"),
)


def percent(value: float) -> str:
    return f"{value:.1%}" if value < 0.1 else f"{value:.0%}"


def rate_text(rate: Rate) -> str:
    low, high = rate.interval
    return f"{percent(rate.value)} ({percent(low)} to {percent(high)})"


def measured_text(found: Measured) -> str:
    return f"{percent(found.value)} ({percent(found.low or 0.0)} to {percent(found.high or 0.0)})"
