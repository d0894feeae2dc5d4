"""The peers that are vLLM's own check, on vLLM itself: importing it takes long, hence the mark."""

from importlib.util import find_spec

import pytest

from benchmarks.loop_peers import PEERS, Answer, Rule

pytestmark = [
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore"),  # vLLM and torch warn of much while they are imported
    pytest.mark.skipif(find_spec("vllm") is None, reason="no vLLM in this environment"),
]

VLLM = {peer.name: peer for peer in PEERS if isinstance(peer, Rule) and peer.packages == ("vllm",)}
CHECK = "vllm.v1.core.sched.utils.check_sequence_repetition"


def tokens(*ids: int, finish_reason: str = "stop") -> Answer:
    return Answer("some text", ids, finish_reason)


@pytest.mark.parametrize("peer", VLLM.values(), ids=lambda peer: peer.name)
def test_vllm_peer_flags_the_loop_wherever_it_stands_and_not_the_prose(peer: Rule) -> None:
    loop, prose = (7, 8, 9, 10, 11) * 8, tuple(range(100, 400))
    assert peer.flags(tokens(*prose, *loop))
    assert peer.flags(tokens(*loop, *prose))
    assert not peer.flags(tokens(*prose))


@pytest.mark.parametrize(
    ("name", "longest", "copies"), [("vLLM, default", 64, 6), ("vLLM, short", 20, 4), ("vLLM, long", 128, 4)]
)
def test_vllm_peer_at_the_edges_of_its_setting(name: str, longest: int, copies: int) -> None:
    assert VLLM[name].flags(tokens(*tuple(range(longest)) * copies))
    assert not VLLM[name].flags(tokens(*(tuple(range(longest)) * copies)[:-1]))
    assert not VLLM[name].flags(tokens(*tuple(range(longest + 1)) * copies))


@pytest.mark.parametrize(("finish_reason", "expected"), [("stop", True), ("repetition", True), ("length", False)])
def test_vllm_peer_asks_for_the_length_limit_first(finish_reason: str, expected: bool) -> None:
    assert VLLM["vLLM, default"].flags(tokens(*(7, 8) * 6, finish_reason=finish_reason)) == expected


def test_vllm_peer_calls_the_engines_own_check_after_every_token(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []

    def third_token_is_a_loop(token_ids: list[int], params: object) -> bool:
        seen.append(tuple(token_ids))
        return len(token_ids) == 3

    monkeypatch.setattr(CHECK, third_token_is_a_loop)
    assert VLLM["vLLM, default"].flags(tokens(5, 6, 7, 8))
    assert seen == [(5,), (5, 6), (5, 6, 7)]


def test_vllm_peer_refuses_an_answer_without_tokens() -> None:
    with pytest.raises(ValueError, match="token ids"):
        VLLM["vLLM, default"].flags(tokens())
