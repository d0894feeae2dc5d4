"""One ordinary prompt and one ordinary answer to it, for tests that need rows but not where rows come from.

    a_rollout("p", "t1", "Lyon.")                   # what a test is most often about
    replace(a_rollout(), finish_reason="length")    # all the rest, with dataclasses.replace

By default an answer is sound: it ended by itself, is no loop and no error. The ids of its tokens are not known.
"""

from schemas.chat import Message, Role
from schemas.rows import Loop, Prompt, Rollout


def a_prompt(
    prompt_id: str = "p",
    asked: str = "What is the capital of France?",
    *,
    answer: str | None = None,
    language: str | None = None,
) -> Prompt:
    """A conversation of one question. `answer` and `language` are what the verifiers hold an answer against."""
    return Prompt(prompt_id, "file", (Message(Role.USER, asked),), answer=answer, language=language)


def a_rollout(prompt_id: str = "p", slot: str = "t0", text: str | None = "Paris.") -> Rollout:
    """An answer of the model "policy", with the id `prompt_id:slot`. The slot "greedy" alone has temperature 0."""
    return Rollout(
        rollout_id=f"{prompt_id}:{slot}",
        prompt_id=prompt_id,
        slot=slot,
        temperature=0.0 if slot == "greedy" else 0.7,
        top_p=1.0,
        min_p=0.0,
        seed=1,
        model="policy",
        model_digest="d",
        text=text,
        reasoning=None,
        finish_reason="stop",
        prompt_token_ids=None,
        token_ids=None,
        loop=Loop.CLEAN,
    )
