"""The states that a training goes on from."""

from pathlib import Path

import pytest

pytest.importorskip("trl", reason="the trainer's libraries are not installed")

from factory.training.states import last_whole_state, mark_whole


def state(states: Path, step: int) -> Path:
    folder = states / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_state_that_was_cut_off_does_not_count_and_is_removed(tmp_path: Path) -> None:
    whole = state(tmp_path, 20)
    mark_whole(tmp_path, 20)
    cut = state(tmp_path, 100)

    assert last_whole_state(tmp_path) == (20, whole)
    assert not cut.exists()


def test_state_marked_whole_takes_the_place_of_those_before(tmp_path: Path) -> None:
    for step in (20, 100):
        state(tmp_path, step)
        mark_whole(tmp_path, step)

    assert [folder.name for folder in tmp_path.iterdir()] == ["checkpoint-100"]


def test_state_of_a_training_that_never_began_is_none(tmp_path: Path) -> None:
    assert last_whole_state(tmp_path / "state") is None
