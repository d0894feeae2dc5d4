"""An OpenAI-compatible server on loopback that answers by rule, for tests and benchmarks: real HTTP, no model.

    with FakeEngine() as engine:
        ...engine.url...                    # http://127.0.0.1:PORT/v1
        engine.faults = in_turn(error(500))   # the next answer fails, those after it do not
        engine.chats                        # what was asked

    with in_a_process("--faults", "500", "silence", "--share", "0.2") as served:
        ...served.url...                    # the same server with a core of its own

What it says is a function of (messages, seed, temperature) alone, so that two runs, or a run and its resumption, get equal
answers. The rule: the server is vLLM as far as the factory can see. What a weaker server lacks is switched off in
`abilities`; what goes wrong on the way is a `Fault`.
"""

from tests.fake_engine.faults import (
    CHAT,
    CLASSIFY,
    COMPLETIONS,
    DETOKENIZE,
    FAULTS,
    METRICS,
    MODELS,
    Dice,
    Fault,
    Script,
    Seen,
    aborted,
    always,
    bomb,
    busy,
    dies_after,
    drip,
    empty_text,
    endless,
    error,
    error_body,
    first_tries,
    from_then_on,
    hang,
    html,
    in_turn,
    instead,
    nan_logprobs,
    no_choices,
    no_faults,
    packed,
    raw,
    redirect,
    reset,
    reset_after,
    reset_within,
    slowly,
    too_long,
    too_long_body,
    truncated,
    unknown_reason,
    whenever,
    wrong_model,
)
from tests.fake_engine.model import (
    END,
    SHOWN,
    UNITS,
    VOCABULARY,
    WORDS,
    Body,
    Manner,
    Said,
    better,
    digits,
    draw,
    merit,
    speak,
)
from tests.fake_engine.process import Served, in_a_process
from tests.fake_engine.server import FakeEngine

__all__ = [  # noqa: RUF022  # by room, as above
    "CHAT", "CLASSIFY", "COMPLETIONS", "DETOKENIZE", "FAULTS", "METRICS", "MODELS", "Dice", "Fault", "Script", "Seen",
    "aborted", "always", "bomb", "busy", "dies_after", "drip", "empty_text", "endless", "error", "error_body", "first_tries",
    "from_then_on", "hang", "html", "in_turn", "instead", "nan_logprobs", "no_choices", "no_faults", "packed", "raw",
    "redirect", "reset", "reset_after", "reset_within", "slowly", "too_long", "too_long_body", "truncated", "unknown_reason",
    "whenever", "wrong_model",
    "END", "SHOWN", "UNITS", "VOCABULARY", "WORDS", "Body", "Manner", "Said", "better", "digits", "draw", "merit", "speak",
    "Served", "in_a_process", "FakeEngine",
]  # fmt: skip
