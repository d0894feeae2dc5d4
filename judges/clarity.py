"""The judge of how an answer reads: order, wording, form. It does not ask whether the content is right."""

from judges.pointwise import PointwiseJudge
from schemas.chat import Completion, TokenAlternative

RUBRIC = (
    "You grade how clearly one answer is written: plain wording, good order, fitting form, no repetition, no padding, "
    "ended where it is done. 1: cannot be followed. 3: hard to follow, or repeats itself. 5: readable with effort. "
    "7: clear. 9: could not be said more clearly."
)
QUESTION = "How clear is the answer, from 1 (cannot be followed) to 9 (perfectly clear)? Digit:"

JUDGE = PointwiseJudge("clarity", RUBRIC, QUESTION)

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
