"""Probe before paying: what a server can do, found out with a handful of canary requests.

A server is never believed to do something because it answered 200: each ability is shown by what came back. What is
missing is named together with what is lost without it, before the first request of the run.
"""

import json
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from factory.client.foreign import read_json
from factory.client.protocol import Ability, Body, Wire, canary, name_in, read_completion, read_reply
from factory.client.server_load import metrics_address, read_load
from factory.client.transport import Link
from schemas.chat import Completion, Message, Request, Role, Sampling
from schemas.errors import EngineRefused, EngineTimeout, EngineUnavailable, RequestRejected

LOST: dict[Ability, str] = {
    Ability.TOKEN_IDS: "token ids are not stored: a trainer will have to tokenise again, and onsets have no token index",
    Ability.SEED: "seeds are not honoured: the same run gives other answers the next time",
    Ability.SAMPLERS: "top_k, min_p and repetition_penalty cannot be set",
    Ability.REPETITION_DETECTION: "loops run on to max_tokens (or their finish reason is renamed on the way); "
    "they are still found afterwards",
    Ability.CHOICES: "a judge's answer is not held to one digit: more of its replies will be unreadable",
    Ability.JSON_SCHEMA: "a listwise judge's answer is not held to its form: more of its replies will be unreadable",
    Ability.LOGPROBS: "a judge's score is its one digit instead of the mean over all digits: more ties, more drops",
    Ability.LOAD: "how much it takes at once is felt out from its pace and what it turns away",
}
DIGITS = tuple("123456789")
SHOWN = 1000  # letters of a server's list of models
_WORDS = (Message(Role.USER, "Write one short sentence about rain."),)
_NUMBER = (Message(Role.USER, "How good is the word 'rain', from 1 to 9? Answer with one digit only."),)


@dataclass(frozen=True, slots=True)
class Probed:
    """What came out: how to speak to the server, and the mass that it puts on digits when it is free to say anything."""

    wire: Wire
    digit_mass: float | None

    def missing(self) -> list[str]:
        """A line for each missing ability, with what is lost without it."""
        if self.wire.rewards:
            return []
        return [f"{ability}: {lost}" for ability, lost in LOST.items() if ability not in self.wire.abilities]


async def probe(client: Link, url: str, model: str) -> Probed:
    """Raises EngineRefused where no model server answers under `url`, EngineUnavailable where nothing does."""
    served = await served_name(client, url, model)
    plain = Wire(served, frozenset())
    try:
        named = await _name_of_replies(client, url, plain)
    except (EngineRefused, RequestRejected):
        graded = await _rewards(client, url, replace(plain, rewards=True))
        if graded is None:
            raise
        return Probed(graded, None)
    shown = [ability for ability, show in _SHOWS.items() if await show(client, url, served)]
    abilities = frozenset(shown)
    mass = await _digit_mass(client, url, served) if Ability.LOGPROBS in abilities else None
    return Probed(Wire(served, abilities, answers_as=named), mass)


async def _name_of_replies(client: Link, url: str, wire: Wire) -> str | None:
    """The model's name in a reply: a vendor may answer for a name with that of a snapshot."""
    request = canary(wire)
    content = await client.post(wire.address(url, request), wire.body(request))
    read_reply(request, content)
    return name_in(content)


async def served_name(client: Link, url: str, model: str) -> str:
    """The name under which the server knows `model`: its own, or the only one that there is."""
    try:
        content = await client.get(f"{url}/models")
    except RequestRejected as error:
        raise EngineRefused(f"{error}; is this an OpenAI-compatible address, ending in /v1?") from error
    names = _model_names(content)
    if not names:
        start = " ".join(content.decode("utf-8", "replace").split())[:60]
        raise EngineRefused(f"{url}/models: answers no list of models but {start!r}; the address should end in /v1")
    if model in names:
        return model
    if len(names) == 1:
        return names[0]
    served = " ".join(", ".join(sorted(names)).split())
    shown = served if len(served) <= SHOWN else f"{served[:SHOWN]}..."
    raise EngineRefused(f"{url}: serves {shown}, not {model!r}; name one of these as `model`")


def _model_names(content: bytes) -> list[str]:
    try:
        document = read_json(content)
    except ValueError:
        return []
    entries = document.get("data") if isinstance(document, dict) else None
    listed = entries if isinstance(entries, list) else []
    return [str(entry["id"]) for entry in listed if isinstance(entry, dict) and "id" in entry]


async def _ask(client: Link, url: str, wire: Wire, request: Request, **more: object) -> Completion:
    body: Body = wire.body(request) | more
    return read_completion(request.request_id, await client.post(f"{url}/chat/completions", body))


async def _try(client: Link, url: str, wire: Wire, request: Request, **more: object) -> Completion | None:
    """None where the server refuses or trips over a request: then it cannot do what the request asks for.

    A fault (a 5xx, a 429) may just be a bad moment. Only twice the same, and a plain request that is answered in between,
    say that it is what was asked for. Raises EngineUnavailable where the plain one fails too.
    """
    for _ in range(2):
        try:
            return await _ask(client, url, wire, request, **more)
        except RequestRejected:
            return None
        except EngineUnavailable:
            await _ask(client, url, Wire(wire.model, frozenset()), canary(wire))
    return None


async def _token_ids(client: Link, url: str, model: str) -> bool:
    request = Request("ids", _WORDS, Sampling(max_tokens=2, seed=0), want_token_ids=True)
    reply = await _try(client, url, Wire(model, frozenset({Ability.TOKEN_IDS})), request)
    return reply is not None and bool(reply.token_ids) and bool(reply.prompt_token_ids)


async def _seed(client: Link, url: str, model: str) -> bool:
    """Hot enough that two equal texts are no accident."""
    wire = Wire(model, frozenset({Ability.SEED}))
    request = Request("seed", _WORDS, Sampling(max_tokens=12, seed=20011, temperature=1.5))
    first, second = await _try(client, url, wire, request), await _try(client, url, wire, request)
    return first is not None and second is not None and first.text == second.text


async def _samplers(client: Link, url: str, model: str) -> bool:
    sampling = Sampling(max_tokens=1, seed=0, temperature=1.0, top_k=5, min_p=0.1, repetition_penalty=1.05)
    return (
        await _try(client, url, Wire(model, frozenset({Ability.SAMPLERS})), Request("s", _WORDS, sampling)) is not None
    )


async def _repetition_detection(client: Link, url: str, model: str) -> bool:
    """Push the model into a loop (one token, biased far above all others), and see who notices.

    A proxy that renames the finish reason on its way shows up here as well.
    """
    ids = Wire(model, frozenset({Ability.TOKEN_IDS}))
    first = await _try(client, url, ids, Request("bias", _WORDS, Sampling(max_tokens=1, seed=0), want_token_ids=True))
    if first is None or not first.token_ids:
        return False
    request = Request("loop", _WORDS, Sampling(max_tokens=24, seed=0))
    detection = {"max_pattern_size": 4, "min_pattern_size": 1, "min_count": 6}
    bias = {str(first.token_ids[0]): 100.0}
    plain = Wire(model, frozenset())
    reply = await _try(client, url, plain, request, logit_bias=bias, repetition_detection=detection)
    return reply is not None and reply.finish_reason == "repetition"


async def _choices(client: Link, url: str, model: str) -> bool:
    """Three digits in a row that an unconstrained model would hardly say."""
    request = Request("choice", _WORDS, Sampling(max_tokens=4, seed=0), choices=("797", "989"))
    reply = await _try(client, url, Wire(model, frozenset({Ability.CHOICES})), request)
    return reply is not None and reply.text.strip() in ("797", "989")


async def _json_schema(client: Link, url: str, model: str) -> bool:
    """An object that an unconstrained model would hardly write."""
    schema = {
        "type": "object",
        "properties": {"rain": {"enum": [797, 989]}},
        "required": ["rain"],
        "additionalProperties": False,
    }
    request = Request("schema", _WORDS, Sampling(max_tokens=32, seed=0), json_schema=json.dumps(schema))
    reply = await _try(client, url, Wire(model, frozenset({Ability.JSON_SCHEMA})), request)
    if reply is None:
        return False
    try:
        return read_json(reply.text) in ({"rain": 797}, {"rain": 989})
    except ValueError:
        return False


async def _rewards(client: Link, url: str, wire: Wire) -> Wire | None:
    """How a server is spoken to that writes nothing and grades a conversation with one number; None where this is none.

    Raises EngineUnavailable.
    """
    try:
        named = await _name_of_replies(client, url, wire)
    except (EngineRefused, RequestRejected):
        return None
    abilities = {Ability.LOAD} if await _load(client, url, wire.model) else set[Ability]()
    return replace(wire, abilities=frozenset(abilities), answers_as=named)


async def _load(client: Link, url: str, _: str) -> bool:
    try:
        return read_load(await client.get(metrics_address(url))) is not None
    except (EngineRefused, EngineUnavailable, EngineTimeout, RequestRejected):
        return False


async def _logprobs(client: Link, url: str, model: str) -> bool:
    request = Request("logprobs", _NUMBER, Sampling(max_tokens=1, seed=0), top_logprobs=20)
    reply = await _try(client, url, Wire(model, frozenset({Ability.LOGPROBS})), request)
    return reply is not None and len(reply.first_token) > 1


async def _digit_mass(client: Link, url: str, model: str) -> float | None:
    """Σ p over tokens that are a digit from 1 to 9, unconstrained: how much a judge wants to answer in digits."""
    request = Request("mass", _NUMBER, Sampling(max_tokens=1, seed=0), top_logprobs=20)
    reply = await _try(client, url, Wire(model, frozenset({Ability.LOGPROBS})), request)
    if reply is None:
        return None
    return sum(math.exp(one.logprob) for one in reply.first_token if one.token.strip(" ▁Ġ") in DIGITS)


_Show = Callable[[Link, str, str], Awaitable[bool]]
_SHOWS: dict[Ability, _Show] = {
    Ability.TOKEN_IDS: _token_ids,
    Ability.SEED: _seed,
    Ability.SAMPLERS: _samplers,
    Ability.REPETITION_DETECTION: _repetition_detection,
    Ability.CHOICES: _choices,
    Ability.JSON_SCHEMA: _json_schema,
    Ability.LOGPROBS: _logprobs,
    Ability.LOAD: _load,
}
