"""What a server can do, as the probe finds it out: by what came back, never by a 200."""

import asyncio
from collections.abc import Iterable

import pytest
from aiohttp import web

from factory.client.probe import LOST, Probed, probe
from factory.client.protocol import Ability
from factory.client.transport import http_client
from schemas.errors import EngineRefused, EngineUnavailable, FactoryError, Transient
from tests.fake_engine import (
    MODELS,
    FakeEngine,
    Fault,
    always,
    busy,
    error,
    html,
    in_turn,
    instead,
    raw,
    redirect,
    reset,
    truncated,
    whenever,
)


def probed(url: str, model: str = "fake-model") -> Probed:
    async def main() -> Probed:
        async with http_client(4, 10.0) as client:
            return await probe(client, url, model)

    return asyncio.run(main())


def refusal(url: str, model: str = "fake-model") -> str:
    with pytest.raises(EngineRefused) as caught:
        probed(url, model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def lost(missing: Iterable[Ability]) -> list[str]:
    return [f"{ability}: {what}" for ability, what in LOST.items() if ability in missing]


def test_probe_full_server_misses_nothing(fake_engine: FakeEngine) -> None:
    found = probed(fake_engine.url)

    assert found.wire.abilities == frozenset(Ability)
    assert found.missing() == []
    assert found.digit_mass == pytest.approx(0.9, abs=1e-6)


def test_probe_names_what_is_lost_for_every_ability() -> None:
    assert set(LOST) == set(Ability)


@pytest.mark.parametrize("ability", sorted(set(Ability) - {Ability.TOKEN_IDS}))
def test_probe_missing_ability_is_named_with_what_is_lost(fake_engine: FakeEngine, ability: Ability) -> None:
    fake_engine.abilities = frozenset(Ability) - {ability}

    found = probed(fake_engine.url)

    assert found.wire.abilities == frozenset(Ability) - {ability}
    assert found.missing() == lost({ability})


def test_probe_server_without_token_ids_is_told_so(fake_engine: FakeEngine) -> None:
    """Without ids nothing can be biased into a loop, so that early stopping is not shown either."""
    fake_engine.abilities = frozenset(Ability) - {Ability.TOKEN_IDS}

    assert probed(fake_engine.url).missing() == lost({Ability.TOKEN_IDS, Ability.REPETITION_DETECTION})


def test_probe_bare_server_can_be_used_all_the_same(fake_engine: FakeEngine) -> None:
    fake_engine.abilities = frozenset()

    found = probed(fake_engine.url)

    assert found.missing() == lost(Ability)
    assert found.digit_mass is None


def test_probe_proxy_that_renames_the_finish_reason_is_found_out(fake_engine: FakeEngine) -> None:
    fake_engine.renamed = {"repetition": "stop"}

    (line,) = probed(fake_engine.url).missing()

    assert line.startswith("repetition_detection: ")
    assert "renamed" in line


@pytest.mark.parametrize(
    ("field", "ability"),
    [
        ("return_token_ids", Ability.TOKEN_IDS),
        ("seed", Ability.SEED),
        ("min_p", Ability.SAMPLERS),
        ("repetition_detection", Ability.REPETITION_DETECTION),
        ("structured_outputs", Ability.CHOICES),
        ("logprobs", Ability.LOGPROBS),
    ],
)
@pytest.mark.parametrize("fault", [error(400, "extra fields not permitted"), error(500)], ids=["refuses", "trips"])
def test_probe_field_that_the_server_does_not_bear_is_an_ability_it_lacks(
    fake_engine: FakeEngine, field: str, ability: Ability, fault: Fault
) -> None:
    fake_engine.faults = whenever(lambda seen: field in seen.body, fault)

    assert ability not in probed(fake_engine.url).wire.abilities


def test_probe_digit_mass_is_that_of_a_free_answer(fake_engine: FakeEngine) -> None:
    fake_engine.digit_mass = 0.25

    assert probed(fake_engine.url).digit_mass == pytest.approx(0.25, abs=1e-6)


@pytest.mark.parametrize("fault", [busy("0"), error(503), reset], ids=["429", "503", "reset"])
def test_probe_bad_moment_is_not_taken_for_a_missing_ability(fake_engine: FakeEngine, fault: Fault) -> None:
    """A run without token ids, because the server was busy for a second, is worth less: better to try again later."""
    for before in range(1, 10):
        fake_engine.faults = in_turn(*[None] * before, fault)
        try:
            missing = probed(fake_engine.url).missing()
        except Transient:
            continue
        assert missing == []


# Addresses


def test_probe_html_instead_of_models_is_refused(fake_engine: FakeEngine) -> None:
    fake_engine.faults = always(html(), MODELS)

    said = refusal(fake_engine.url)

    assert "answers no list of models but '<html>" in said
    assert "end in /v1" in said


@pytest.mark.parametrize("document", [{}, {"data": []}, {"data": [{}]}, {"data": ["m"]}, {"data": 1}, [], None, "x"])
def test_probe_list_of_models_that_is_none_is_refused(fake_engine: FakeEngine, document: object) -> None:
    fake_engine.faults = always(instead(document), MODELS)

    assert "answers no list of models" in refusal(fake_engine.url)


@pytest.mark.parametrize("text", [b"[" * 200_000, b'{"data": ' * 100_000, b'{"data": ' + b"9" * 10_000])
def test_probe_list_of_models_that_cannot_be_read_is_refused(fake_engine: FakeEngine, text: bytes) -> None:
    fake_engine.faults = always(raw(text), MODELS)

    assert "answers no list of models" in refusal(fake_engine.url)


def test_probe_address_without_v1_is_refused_with_the_mend(fake_engine: FakeEngine) -> None:
    assert "should end in /v1" in refusal(fake_engine.url.removesuffix("/v1"))


def test_probe_wrong_model_name_among_several_is_refused_with_the_names(fake_engine: FakeEngine) -> None:
    fake_engine.faults = always(instead({"data": [{"id": "zwei"}, {"id": "eins"}]}), MODELS)

    assert "serves eins, zwei, not 'drei'" in refusal(fake_engine.url, "drei")


def test_probe_only_model_is_taken_whatever_it_is_called(fake_engine: FakeEngine) -> None:
    assert probed(fake_engine.url, "/models/weights").wire.model == "fake-model"


def test_probe_own_name_among_several_is_taken(fake_engine: FakeEngine) -> None:
    fake_engine.faults = always(instead({"data": [{"id": "other"}, {"id": "fake-model"}]}), MODELS)

    assert probed(fake_engine.url).wire.model == "fake-model"


def test_probe_list_of_models_without_any_chat_is_refused(fake_engine: FakeEngine) -> None:
    fake_engine.faults = always(error(404, "no chat template"))

    assert "404" in refusal(fake_engine.url)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions"])
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (error(401, "who are you"), EngineRefused),
        (error(403, "not you"), EngineRefused),
        (redirect("https://elsewhere/v1"), EngineRefused),
        (error(500), EngineUnavailable),
        (reset, EngineUnavailable),
    ],
)  # fmt: skip
def test_probe_server_that_is_of_no_use_is_no_weak_server(
    fake_engine: FakeEngine, path: str, fault: Fault, kind: type[FactoryError]
) -> None:
    fake_engine.faults = always(fault, path)

    with pytest.raises(kind):
        probed(fake_engine.url)


def test_probe_garbage_instead_of_an_answer_is_unavailable(fake_engine: FakeEngine) -> None:
    fake_engine.faults = always(truncated)

    with pytest.raises(EngineUnavailable):
        probed(fake_engine.url)


def test_probe_logprobs_of_masked_tokens_are_no_obstacle(fake_engine: FakeEngine) -> None:
    """vLLM writes -9999.0 for what a grammar forbids."""

    async def masked(_: web.Request, answer: dict[str, object]) -> web.Response:
        choices = answer["choices"]
        assert isinstance(choices, list)
        for position in (choices[0].get("logprobs") or {"content": []})["content"]:
            position["top_logprobs"].append({"token": "x", "logprob": -9999.0})
        return web.json_response(answer)

    fake_engine.faults = always(masked)

    assert probed(fake_engine.url).digit_mass == pytest.approx(0.9, abs=1e-6)


def test_probe_keeps_the_name_that_replies_bear(fake_engine: FakeEngine) -> None:
    assert probed(fake_engine.url).wire.answers_as == "fake-model"


def test_probe_of_a_reward_model_sees_whether_it_tells_its_load(fake_engine: FakeEngine) -> None:
    fake_engine.rewards = True

    assert probed(fake_engine.url).wire.abilities == {Ability.LOAD}

    fake_engine.abilities = frozenset()
    assert probed(fake_engine.url).wire.abilities == frozenset()
