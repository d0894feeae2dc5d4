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
_LEFT, _RIGHT, _PIPE = "[<\uff1c\ufe64]", "[>\uff1e\ufe65]", "[|\uff5c]"  # some tokenizers read wide as plain
_SPECIAL_TOKEN = re.compile(
    rf"{_LEFT}(?={_PIPE}[^<>\n]{{0,64}}{_PIPE}{_RIGHT})"  # ChatML and its like
    rf"|{_LEFT}(?={_PIPE}\w{{1,48}}{_RIGHT}|\w{{1,48}}{_PIPE}{_RIGHT})"
    rf"|{_LEFT}(?=/?[a-z0-9]+_\w{{1,48}}{_RIGHT})"  # no tag of HTML has an underscore in its name
    rf"|{_LEFT}(?=/?(?:s|bos|eos|pad|unk|mask|cls|sep|sop|eop|eod|eot|eom|think|image|audio|video|reponame|filename"
    rf"|unused\d+|seed:\w{{1,48}}){_RIGHT})"
    rf"|{_LEFT}(?={_LEFT}/?SYS{_RIGHT}{_RIGHT})|\[(?=/?(?:INST|\|\w{{1,48}}\|)\])"
    r"|(?-i:\[(?=/?(?:SYSTEM_PROMPT|MODEL_SETTINGS|AVAILABLE_TOOLS|TOOL_(?:CALLS|RESULTS|CONTENT)|ARGS|CALL_ID|THINK"
    r"|IMG|IMG_BREAK|IMG_END|(?:BEGIN_)?AUDIO|PREFIX|MIDDLE|SUFFIX|CLS|SEP|PAD|UNK|BOS|EOS|[gs]?MASK)\]))",
    re.IGNORECASE,
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
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    spaced = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n").replace("\u2029", "\n")
    return _SURROGATE.sub("\ufffd", _INVISIBLE.sub("", spaced))


def plain(text: str) -> str:
    """Every special token of a chat template pulled apart by a space: `<|im_start|>` becomes `< |im_start|>`."""
    return _SPECIAL_TOKEN.sub(lambda found: found[0] + " ", text)
