"""The judge of whether an answer is of use to the person who asked. Truth and style are other judges' business."""

from judges.pointwise import PointwiseJudge
from schemas.chat import Completion, TokenAlternative

RUBRIC = (
    "You grade how well one answer helps the person who asked: does it do what was asked, all of it, in a form that "
    "can be used as it is? 1: useless, or about something else. 3: misses most of the request. 5: helps in part. "
    "7: helps, with small gaps. 9: nothing is missing."
)
QUESTION = "How helpful is the answer, from 1 (useless) to 9 (nothing missing)? Digit:"

JUDGE = PointwiseJudge("helpfulness", RUBRIC, QUESTION)

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
