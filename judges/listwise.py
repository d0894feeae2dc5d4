"""The listwise protocol: all rollouts of a prompt in one call, a grade for each back.

For judges that are billed by the call. The order is a shuffle of the judge's own for each prompt and sample, never the
same for two judges on purpose, so that a taste for the first place is nobody's gain. `samples` averages over so many
shuffles.

The rule that must not break: the reply is read by label, never by position, and counts as a whole or not at all.
"""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, pvariance
from string import ascii_uppercase

from judges.base import Question, no_score
from judges.grades import commonest, ended_badly, unread
from judges.pointwise import RULES, THINKING_TEMPERATURE
from judges.quoting import ANSWER_CHARS, CONVERSATION_CHARS, conversation_view, quoted
from schemas.chat import Completion, Message, Request, Role, Sampling
from schemas.rows import Prompt, Rollout, Verdict, VerdictStatus

PROTOCOL = "listwise-2"  # goes up with every change of what a judge is shown
LIST_RULES = RULES.replace("The answer is quoted as a JSON string", "Each answer is quoted as a JSON string")
REPLY = 'Reply with one JSON object that gives each label its grade from 1 to 9, like {"A": 5}, and nothing else.'
THINK = f"Think first, then close the thought. {REPLY}"
QUESTION = "Which grade does each answer earn by the rubric, by itself, from 1 to 9? JSON:"

Grades = dict[str, int]  # by label


@dataclass(frozen=True, slots=True)
class ListwiseJudge:
    """One call for each prompt and sample."""

    name: str
    rubric: str
    samples: int = 1
    thinking_tokens: int | None = None
    take: int = 0  # a second take is another question in the same words

    def again(self) -> "ListwiseJudge":
        return replace(self, take=self.take + 1)

    @property
    def digest(self) -> str:
        ways = [str(self.samples), str(self.thinking_tokens), str(ANSWER_CHARS), str(CONVERSATION_CHARS)]
        words = json.dumps([PROTOCOL, self.rubric, LIST_RULES, REPLY, THINK, QUESTION, *ways])
        return hashlib.sha256(words.encode()).hexdigest()

    def ask(self, prompt: Prompt, candidates: Sequence[Rollout]) -> tuple[Question, ...]:
        if not candidates:
            return ()
        about = tuple(rollout.rollout_id for rollout in candidates)
        return tuple(Question(self._request(prompt, candidates, number), about) for number in self._numbers)

    @property
    def _numbers(self) -> range:
        return range(self.take * self.samples, (self.take + 1) * self.samples)

    def _id(self, prompt: Prompt, candidates: Sequence[Rollout], number: int) -> str:
        """Names the question by whom it is about: with another set of candidates it is another question."""
        ids = json.dumps(sorted(rollout.rollout_id for rollout in candidates))
        return f"{prompt.prompt_id}:{hashlib.sha256(ids.encode()).hexdigest()[:12]}:{self.name}:{number}"

    def _shown(self, prompt: Prompt, candidates: Sequence[Rollout], number: int) -> dict[str, Rollout]:
        """Label to rollout, in the order in which they are shown. The candidates' own order has no say."""
        ordered = sorted(candidates, key=lambda rollout: rollout.rollout_id)
        random.Random(self._id(prompt, candidates, number)).shuffle(ordered)
        return dict(zip(map(_label, range(len(ordered))), ordered, strict=True))

    def _request(self, prompt: Prompt, candidates: Sequence[Rollout], number: int) -> Request:
        shown = self._shown(prompt, candidates, number)
        answers = "\n\n".join(
            f"Answer {label}: {quoted(rollout.text or '', ANSWER_CHARS)}" for label, rollout in shown.items()
        )
        room = self.thinking_tokens or 0
        return Request(
            request_id=self._id(prompt, candidates, number),
            messages=(
                Message(Role.SYSTEM, f"{self.rubric}\n{LIST_RULES} {THINK if self.thinking_tokens else REPLY}"),
                Message(Role.USER, f"{conversation_view(prompt)}\n\n{answers}\n\n{QUESTION}"),
            ),
            sampling=Sampling(
                max_tokens=room + 16 + 8 * len(shown),
                seed=number,
                temperature=THINKING_TEMPERATURE if self.thinking_tokens else 0.0,
            ),
            json_schema=None if self.thinking_tokens else _schema(tuple(shown)),
        )

    def read(
        self, prompt: Prompt, candidates: Sequence[Rollout], replies: Mapping[str, Completion]
    ) -> tuple[Verdict, ...]:
        """The tokens of a call stand in the first candidate's row."""
        if not candidates:
            return ()
        numbers = self._numbers
        came = [reply for number in numbers if (reply := replies.get(self._id(prompt, candidates, number)))]
        read = [self._grades(prompt, candidates, number, replies) for number in numbers]
        verdicts = [self._verdict(rollout, read) for rollout in candidates]
        first = replace(
            verdicts[0],
            reply="\n".join(reply.text for reply in came) or None,
            prompt_tokens=sum(reply.prompt_tokens or 0 for reply in came),
            completion_tokens=sum(reply.completion_tokens or 0 for reply in came),
            calls=len(came),
        )
        return (first, *verdicts[1:])

    def worth(self, reply: Completion) -> VerdictStatus:
        found = _graded(reply, thinks=self.thinking_tokens is not None)
        return found if isinstance(found, VerdictStatus) else VerdictStatus.OK

    def _grades(
        self, prompt: Prompt, candidates: Sequence[Rollout], number: int, replies: Mapping[str, Completion]
    ) -> Grades | VerdictStatus:
        """By rollout_id, of one sample."""
        reply = replies.get(self._id(prompt, candidates, number))
        if reply is None:
            return VerdictStatus.FAILED
        shown = self._shown(prompt, candidates, number)
        grades = labelled_grades(reply, tuple(shown), thinks=self.thinking_tokens is not None)
        if isinstance(grades, VerdictStatus):
            return grades
        return {shown[label].rollout_id: grade for label, grade in grades.items()}

    def _verdict(self, rollout: Rollout, read: Sequence[Grades | VerdictStatus]) -> Verdict:
        grades = [each[rollout.rollout_id] for each in read if not isinstance(each, VerdictStatus)]
        if 2 * len(grades) <= len(read):
            return no_score(rollout, self.name, commonest(each for each in read if isinstance(each, VerdictStatus)))
        verdict = no_score(rollout, self.name, VerdictStatus.OK)
        spread = pvariance(grades) if len(read) > 1 else None
        return replace(verdict, score=fmean(grades), variance=spread, mass=None)


def labelled_grades(reply: Completion, labels: Sequence[str], *, thinks: bool) -> Grades | VerdictStatus:
    """The grade of each label. The reply must be one JSON object with these labels and no others."""
    found = _graded(reply, thinks=thinks)
    if isinstance(found, VerdictStatus):
        return found
    return found if found.keys() == set(labels) else VerdictStatus.UNREADABLE


def _graded(reply: Completion, *, thinks: bool) -> Grades | VerdictStatus:
    if bad := ended_badly(reply):
        return bad
    text = reply.text.strip()
    if thinks and (closed := text.rfind("</think>")) >= 0:
        text = text[closed + len("</think>") :].strip()
    text = text.removeprefix("```json").removeprefix("```").removesuffix("```").strip()
    try:
        found = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return unread(reply)
    if not isinstance(found, dict) or not found:
        return VerdictStatus.UNREADABLE
    if any(isinstance(grade, bool) or not isinstance(grade, int) or not 1 <= grade <= 9 for grade in found.values()):
        return VerdictStatus.UNREADABLE
    return found


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Raises ValueError where one label has two grades."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a label twice")
    return found


def _label(number: int) -> str:
    """A, B, … Z, AA, AB, …"""
    letters = ascii_uppercase[number % 26]
    return letters if number < 26 else _label(number // 26 - 1) + letters


def _schema(labels: Sequence[str]) -> str:
    grade = {"type": "integer", "enum": list(range(1, 10))}
    return json.dumps(
        {
            "type": "object",
            "properties": dict.fromkeys(labels, grade),
            "required": list(labels),
            "additionalProperties": False,
        }
    )
