"""The judge of whether what an answer says is true. An honest "I do not know" is not an error; a confident one is."""

from judges.pointwise import PointwiseJudge
from judges.rubrics import shipped
from schemas.chat import Completion, TokenAlternative

JUDGE = PointwiseJudge("correctness", shipped("correctness"))

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
