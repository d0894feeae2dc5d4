"""What a judge is shown of strangers' text: quoted, bounded, and freed of what a chat template or an eye would take for
something else.

The rule that must not break: what a rollout holds is material, never a part of the question. It enters as one JSON
string, put in once and never filled again. Only the judge's view is changed, never the row.
"""

import json
import re

from schemas.rows import Prompt

ANSWER_CHARS = 6000  # shown of an answer, about 1,500 tokens of English
CONVERSATION_CHARS = 4000  # shown of a conversation: half for the last message, half for all before it

_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U0001bca0-\U0001bca3\U00013430-\U0001343f"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_SPECIAL_TOKEN = re.compile(
    r"<(?=[|\uff5c][^<>\n]{0,64}[|\uff5c]>)"  # ChatML and its like
    r"|<(?=/?(?:s|bos|eos|pad|unk|mask|think|start_of_turn|end_of_turn|start_of_image)>)"
    r"|<(?=</?SYS>>)|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\])",
    re.IGNORECASE,
)

_INJECTION = re.compile(
    r"<[|\uff5c](?:im_start|im_end|start_header_id|end_header_id|eot_id|begin_of_text|startoftext|endoftext|system|user|"
    r"assistant)[|\uff5c]>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>"
    r"|\b(?:ignore|disregard|forget)\s+(?:all\s+)?(?:of\s+)?(?:the\s+|your\s+|any\s+)?"
    r"(?:previous|prior|above|preceding|earlier)\s+(?:instructions?|rubrics?|rules|criteria|prompts?)\b"
    r"|\b(?:score|rate|grade|give|award)\s+(?:this|my)\s+(?:answer|response|reply)\b[^.\n]{0,60}?"
    r"\b(?:9|10|nine|ten|highest|maximum|perfect|full\s+marks)\b"
    r"|\b(?:note|message|instructions?)\s+(?:to|for)\s+(?:the\s+)?(?:ai\s+)?(?:judge|grader|evaluator)s?\b"
    r"|^\s*Answer\s+to\s+grade\s*:",
    re.IGNORECASE | re.MULTILINE,
)


def conversation_view(prompt: Prompt) -> str:
    """The conversation for a judge's eyes, one line a message; at most CONVERSATION_CHARS of content and the marks."""
    half = CONVERSATION_CHARS // 2
    earlier, last = prompt.messages[:-1], prompt.messages[-1:]
    lines = [f"{message.role.value}: {quoted(message.content, half // len(earlier))}" for message in earlier]
    lines += [f"{message.role.value}: {quoted(message.content, half)}" for message in last]
    tools = [] if prompt.tools is None else [f"tools: {quoted(prompt.tools, half)}"]
    return "\n".join(["Conversation:", *tools, *lines])


def quoted(text: str, limit: int) -> str:
    """One JSON string on one line, holding at most about `limit` characters of the text."""
    return json.dumps(plain(shortened(visible(text), limit)), ensure_ascii=False)


def shortened(text: str, limit: int) -> str:
    """Head and tail of a text longer than `limit` characters, and between them a mark that says how much is gone."""
    if len(text) <= limit:
        return text
    head, tail = (limit + 1) // 2, limit // 2
    mark = f" [... {len(text) - head - tail} characters left out ...] "
    return text[:head] + mark + text[len(text) - tail :]


def visible(text: str) -> str:
    """Without what a reader cannot see: control, format and bidirectional characters, fillers, variation selectors."""
    spaced = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n").replace("\u2029", "\n")
    return _SURROGATE.sub("\ufffd", _INVISIBLE.sub("", spaced))


def plain(text: str) -> str:
    """Every special token of a chat template pulled apart by a space: `<|im_start|>` becomes `< |im_start|>`."""
    return _SPECIAL_TOKEN.sub(lambda found: found[0] + " ", text)


def looks_injected(text: str) -> bool:
    """Whether a text speaks to its judge or to a chat template instead of to the person who asked.

    A guess by known wordings, made to keep such a text from being chosen; the quoting above is what keeps it harmless.
    """
    return _INJECTION.search(visible(text)) is not None
