"""What each judge of a recipe is worth before a run: does it answer, can it be read, does it see a spoilt answer?

A few shipped questions with sound answers, and six spoilt twins of each (`factory.judging.canaries`), go before every judge
in the way that the recipe asks it. A judge that is not clearly better than a coin at this says little about finer differences.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from factory.client.asking import Desk
from factory.engine import Engine
from factory.judging.aggregation import TIE
from factory.judging.calibration import an_answer
from factory.judging.canaries import canary_rows, twins
from factory.wilson import wilson
from judges.base import Judge
from schemas.chat import Message, Role
from schemas.rows import Prompt, Rollout, VerdictStatus

_QUESTIONS = (
    (
        "How do I keep basil alive on a windowsill?",
        "Give it a bright place, water it when the top of the soil is dry, and let what is left run off. Pinch the tips "
        "off every week, so that it branches and does not flower.",
    ),
    (
        "Why is the sky blue?",
        "Air scatters short waves of light much more than long ones. So blue light from the sun reaches us from all over "
        "the sky, while the other colours come more or less straight.",
    ),
    (
        "What should I check before I buy a used bicycle?",
        "Look for cracks where the tubes meet, spin both wheels to see whether they run true, try both brakes, and shift "
        "through every gear. A worn chain and worn tyres are cheap; a bent frame is not worth any price.",
    ),
    (
        "Explain what a fraction is to a child of eight.",
        "A fraction is a part of something that was shared fairly. Cut a pizza into four equal slices and take one: you "
        "have one fourth. The number below says how many slices there are, the one above how many are yours.",
    ),
)


@dataclass(frozen=True, slots=True)
class JudgeProbe:
    """`lost` counts spoilt answers that were graded above the sound one; mass and seconds are None where unknown."""

    judge: str
    model: str
    asked: int
    readable: int
    won: int
    tied: int
    lost: int
    mass: float | None
    seconds: float | None  # mean of one call
    prompt_tokens: float | None  # mean of one call

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95% interval of the share of spoilt answers that the sound one beats."""
        return wilson(self.won, self.won + self.tied + self.lost)

    def warnings(self) -> list[str]:
        if not self.readable:
            return [f"{self.judge}: none of {self.asked} replies could be read; see the warnings of the server above"]
        found = []
        if self.readable < 0.95 * self.asked:
            found.append(f"{self.judge}: {self.asked - self.readable} of {self.asked} replies could not be read")
        low, _ = self.interval
        if low <= 0.5:
            found.append(f"{self.judge}: cannot be told from a coin, even where an answer is spoilt on purpose")
        return found


async def probe_judge(judge: Judge, model: str, engine: Engine, desk: Desk) -> JudgeProbe:
    """The replies lie in the desk's journal. Raises EngineRefused, and Transient where no server is alive."""
    controls = [_control(number, *one) for number, one in enumerate(_QUESTIONS)]
    asked = {
        question.request.request_id: question.request
        for prompt, sound in controls
        for twin in twins(sound).values()
        for question in judge.ask(prompt, (sound, twin))
    }
    await desk.ask_all([(engine, request) for request in asked.values()])
    kept = desk.journal.kept
    replies = [kept[request_id] for request_id in asked if request_id in kept]
    rows = [row for prompt, sound in controls for row in canary_rows(prompt, sound, [judge], kept)]
    leads = [row.original - row.twin for row in rows if row.original is not None and row.twin is not None]
    read = [
        one
        for prompt, sound in controls
        for twin in twins(sound).values()
        for one in judge.read(prompt, (sound, twin), kept)
    ]
    return JudgeProbe(
        judge=judge.name,
        model=model,
        asked=len(asked),
        readable=sum(judge.worth(reply) is VerdictStatus.OK for reply in replies),
        won=sum(lead > TIE for lead in leads),
        tied=sum(abs(lead) <= TIE for lead in leads),
        lost=sum(lead < -TIE for lead in leads),
        mass=_mean([one.mass for one in read]),
        seconds=_mean([reply.seconds for reply in replies]),
        prompt_tokens=_mean([reply.prompt_tokens for reply in replies]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _control(number: int, question: str, answer: str) -> tuple[Prompt, Rollout]:
    prompt_id = f"control-{number}"
    return Prompt(prompt_id, "controls", (Message(Role.USER, question),)), an_answer(prompt_id, "sound", answer)
