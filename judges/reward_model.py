"""The judge that is a reward model: one number for a conversation, from vLLM's classification endpoint.

Such a model has no rubric and reads no instruction; it reads the conversation through its own chat template and its head
says how good the answer is. The number has no fixed range, which the pooled spread takes care of; a floor in grades
means nothing to it. The rule that must not break: special tokens in an answer are pulled apart before the template
sees them, and a number that is not finite is no score.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from judges.base import Question, no_score, request_id
from judges.quoting import plain, visible
from schemas.chat import Completion, Message, Request, Role, Sampling, Task
from schemas.rows import Prompt, Rollout, Verdict, VerdictStatus

PROTOCOL = "reward-2"


@dataclass(frozen=True, slots=True)
class RewardModel:
    """One call for each rollout."""

    name: str
    take: int = 0

    def again(self) -> "RewardModel":
        return replace(self, take=self.take + 1)

    def worth(self, reply: Completion) -> VerdictStatus:
        known = reply.reward is not None and math.isfinite(reply.reward)
        return VerdictStatus.OK if known else VerdictStatus.UNREADABLE

    def _id(self, rollout: Rollout) -> str:
        return request_id(rollout.rollout_id, self.name) + (f":take{self.take}" if self.take else "")

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps([PROTOCOL]).encode()).hexdigest()

    def ask(self, prompt: Prompt, candidates: Sequence[Rollout]) -> tuple[Question, ...]:
        shared = tuple(Message(message.role, plain(visible(message.content))) for message in prompt.messages)
        return tuple(Question(self._request(shared, rollout), (rollout.rollout_id,)) for rollout in candidates)

    def _request(self, shared: tuple[Message, ...], rollout: Rollout) -> Request:
        answer = Message(Role.ASSISTANT, plain(visible(rollout.text or "")))
        return Request(
            request_id=self._id(rollout),
            messages=(*shared, answer),
            sampling=Sampling(max_tokens=1, seed=0),
            task=Task.REWARD,
        )

    def read(
        self, prompt: Prompt, candidates: Sequence[Rollout], replies: Mapping[str, Completion]
    ) -> tuple[Verdict, ...]:
        return tuple(self._verdict(rollout, replies.get(self._id(rollout))) for rollout in candidates)

    def _verdict(self, rollout: Rollout, reply: Completion | None) -> Verdict:
        if reply is None:
            return no_score(rollout, self.name, VerdictStatus.FAILED)
        status = self.worth(reply)
        return replace(
            no_score(rollout, self.name, status),
            score=reply.reward if status is VerdictStatus.OK else None,
            reply=str(reply.reward),
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            calls=1,
        )


JUDGE = RewardModel("reward_model")

EXAMPLE = Completion(
    request_id="example:t0:reward_model", text="", finish_reason="stop", prompt_tokens=180, reward=-1.37
)
