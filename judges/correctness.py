"""The judge of whether what an answer says is true. An honest "I do not know" is not an error; a confident one is."""

from judges.pointwise import PointwiseJudge
from schemas.chat import Completion, TokenAlternative

RUBRIC = (
    "You grade whether one answer is correct: facts, reasoning, arithmetic and code, checked step by step against the "
    "request. 1: wrong where it matters. 3: serious errors. 5: right in part. 7: right, with slips that do not matter. "
    "9: no error. Confidence does not make a claim true."
)
QUESTION = "How correct is the answer, from 1 (wrong) to 9 (no error)? Digit:"

JUDGE = PointwiseJudge("correctness", RUBRIC, QUESTION)

EXAMPLE = Completion(
    request_id="example:t0:correctness",
    text="3",
    finish_reason="length",
    first_token=(
        TokenAlternative("3", -0.51),
        TokenAlternative("2", -1.2),
        TokenAlternative("4", -2.3),
        TokenAlternative("1", -float("inf")),
    ),
    prompt_tokens=305,
    completion_tokens=1,
)
