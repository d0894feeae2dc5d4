"""What is said of pairs before they are trained on, and which of them nobody should train on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.training.pair_guards import near_twins, pair_figures, reason_not_to_train
from factory.training.token_pairs import TokenPair, TokenPairs, digest_of, read_token_pairs
from schemas.errors import Fixable, SchemaError
from schemas.train import Train
from tests.token_export import pair, pairs, write_export

TRAIN, TEST = tuple(pairs(20)), tuple(pairs(5, first=100))
TEMPLATE = tuple(range(3, 20))


def reason(train: tuple[TokenPair, ...], settings: Train | None = None, test: tuple[TokenPair, ...] = TEST) -> str:
    settings = settings or Train()
    return reason_not_to_train(pair_figures(TokenPairs(train, test), settings), settings) or ""


def each(change: Callable[[TokenPair], TokenPair]) -> tuple[TokenPair, ...]:
    return tuple(change(one) for one in TRAIN)


def test_guards_of_sound_pairs_say_nothing() -> None:
    assert reason(TRAIN) == ""


@pytest.mark.parametrize(
    ("train", "settings", "said"),
    [
        (TRAIN[:15], Train(), "15 pairs to train on, fewer than train.guards.min_pairs 16"),
        (TRAIN, Train(max_length=12), "train.guards.max_too_long 0.25"),
        (each(lambda one: replace(one, cause="loop", margin=None)), Train(), "100% of the pairs are forced by a loop"),
        (each(lambda one: replace(one, margin=-0.4)), Train(), "median margin is -0.40, below"),
        (each(lambda one: replace(one, chosen_ids=one.rejected_ids * 9)), Train(), "9.00 times the tokens of rejected"),
        (each(lambda one: replace(one, rejected_ids=one.chosen_ids * 9)), Train(), "0.11 times the tokens of rejected"),
        ((*TRAIN, TEST[0]), Train(), "1 of 5 test prompts are trained on too, by id 1, by near text 0 (00000064)"),
        (
            (*TRAIN, replace(TEST[1], prompt_id="ffffffff")),
            Train(),
            "1 of 5 test prompts are trained on too, by id 0, by near text 1 (00000065)",
        ),
    ],
)
def test_guards_of_pairs_that_nobody_should_train_on_name_the_bound(
    train: tuple[TokenPair, ...], settings: Train, said: str
) -> None:
    assert said in reason(train, settings)


def test_figures_count_what_the_pairs_are() -> None:
    loop = replace(TRAIN[0], cause="loop", margin=None, rejected_trimmed=True, rejected_ended=False)
    long = pair(900, [3] * 30, [4] * 30, [5])

    found = pair_figures(TokenPairs((loop, *TRAIN[1:4], long), TEST[:2]), Train(max_length=50))

    assert (found.pairs, found.used, found.too_long) == (5, 4, [long.prompt_id])
    assert (found.test_pairs, found.test_used) == (2, 2)
    assert (found.causes, found.loop_share, found.trimmed) == ({"jury": 3, "loop": 1}, 0.25, 1)
    assert found.unended == {"chosen": 0, "rejected": 3}
    assert found.margins["0.5"] == 0.5
    assert found.tokens == sum(one.tokens for one in (loop, *TRAIN[1:4]))


# Near text


@given(
    st.lists(st.lists(st.integers(1, 4), min_size=3, max_size=9), min_size=4, max_size=12),
    st.sampled_from([0.3, 0.5, 0.8, 1.0]),
)
def test_near_twins_are_those_that_a_look_at_every_pair_of_prompts_finds(
    texts: list[list[int]], threshold: float
) -> None:
    found = [pair(number, text, [4], [5]) for number, text in enumerate(texts)]
    train, test = found[: len(found) // 2], found[len(found) // 2 :]
    grams = {one.prompt_id: frozenset(zip(*(one.prompt_ids[at:] for at in range(3)), strict=False)) for one in found}
    common = {
        gram
        for gram in frozenset().union(*grams.values())
        if sum(gram in own for own in grams.values()) > len(found) / 2
    }
    own = {name: those - common for name, those in grams.items()}

    def near(one: TokenPair, other: TokenPair) -> bool:
        union = own[one.prompt_id] | own[other.prompt_id]
        shared = own[one.prompt_id] & own[other.prompt_id]
        return one.prompt_ids == other.prompt_ids or (bool(shared) and len(shared) / len(union) >= threshold)

    expected = [one.prompt_id for one in test if any(near(one, other) for other in train)]
    assert near_twins(train, test, threshold) == expected


def prompt(number: int, *ids: int) -> TokenPair:
    return pair(number, (*TEMPLATE, *ids), [4], [5])


OTHERS = [prompt(number, *range(20 + number, 40 + number, 3)) for number in range(6)]


def test_near_text_is_not_the_chat_template() -> None:
    """Prompts of which most is a template that all have are still other prompts."""
    assert near_twins(OTHERS[:3], OTHERS[3:], 0.8) == []


def test_near_text_of_one_other_token_is_found() -> None:
    text = list(range(20, 60))
    there, here = prompt(50, *text), prompt(51, *text[:-1], 7)

    assert near_twins([*OTHERS, there], [here], 0.8) == [here.prompt_id]
    assert near_twins([*OTHERS, there], [here], 0.99) == []


@given(st.lists(st.lists(st.integers(3, 9), min_size=1, max_size=8), min_size=1, max_size=8))
def test_near_text_of_the_same_prompt_is_always_found(prompts: list[list[int]]) -> None:
    train = [pair(number, ids, [4], [5]) for number, ids in enumerate(prompts)]

    assert near_twins(train, [replace(one, prompt_id="x") for one in train], 1.0) == ["x"] * len(train)


# Reading


def test_token_pairs_come_back_as_they_were_written(tmp_path: Path) -> None:
    found = read_token_pairs(write_export(tmp_path, TRAIN, TEST))

    assert found == TokenPairs(TRAIN, TEST)
    assert digest_of(found) == digest_of(TokenPairs(TRAIN, TEST)) != digest_of(TokenPairs(TEST, TRAIN))


def test_token_pairs_without_a_test_split_have_none(tmp_path: Path) -> None:
    assert read_token_pairs(write_export(tmp_path, TRAIN)).test == ()


def test_token_pairs_that_are_not_there_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(Fixable, match="prefactory export RECIPE --format trl-tokens"):
        read_token_pairs(tmp_path)


def test_token_pairs_of_a_strange_file_are_refused(tmp_path: Path) -> None:
    write_export(tmp_path, TRAIN)
    path = tmp_path / "data" / "train.parquet"
    pq.write_table(pq.read_table(path).drop(["chosen_ids"]), path)

    with pytest.raises(SchemaError, match="lacks the columns chosen_ids"):
        read_token_pairs(tmp_path)


def test_token_pairs_without_a_prompt_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="0000002a: has no token of a prompt"):
        read_token_pairs(write_export(tmp_path, [pair(42, [], [4], [5])]))


def test_token_pairs_of_a_torn_file_are_refused(tmp_path: Path) -> None:
    write_export(tmp_path, TRAIN)
    (tmp_path / "data" / "train.parquet").write_bytes(b"PAR1")

    with pytest.raises(SchemaError, match="not a readable Parquet file"):
        read_token_pairs(tmp_path)
