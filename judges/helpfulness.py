"""The judge of whether an answer is of use to the person who asked. Truth and style are other judges' business."""

from judges.pointwise import PointwiseJudge
from judges.rubrics import shipped
from schemas.chat import Completion, TokenAlternative

JUDGE = PointwiseJudge("helpfulness", shipped("helpfulness"))

EXAMPLE = Completion(
    request_id="example:t0:helpfulness",
    text="7",
    finish_reason="length",
    first_token=(
        TokenAlternative("7", -0.36),
        TokenAlternative("6", -1.61),
        TokenAlternative("8", -2.53),
        TokenAlternative(" 7", -4.6),
        TokenAlternative("The", -9999.0),
    ),
    prompt_tokens=312,
    completion_tokens=1,
)
