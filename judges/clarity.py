"""The judge of how an answer reads: order, wording, form. It does not ask whether the content is right."""

from judges.pointwise import PointwiseJudge
from judges.rubrics import shipped
from schemas.chat import Completion, TokenAlternative

JUDGE = PointwiseJudge("clarity", shipped("clarity"))

EXAMPLE = Completion(
    request_id="example:t0:clarity",
    text=" 8",
    finish_reason="stop",
    first_token=(
        TokenAlternative(" 8", -0.22),
        TokenAlternative("\u25819", -1.9),
        TokenAlternative(" 7", -2.8),
    ),
    prompt_tokens=298,
    completion_tokens=1,
)
