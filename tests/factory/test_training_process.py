"""What a process of torch's sees of the environment."""

import pytest

from factory.training_process import training_environment

DEVICES = "CUDA_VISIBLE_DEVICES"


@pytest.mark.parametrize(
    ("seen", "device", "given"),
    [
        (None, "auto", "0"),
        ("2,3", "auto", "2"),
        ("GPU-4f1c,GPU-77aa", "auto", "GPU-4f1c"),
        ("", "auto", ""),
        ("2,3", "cpu", ""),
    ],
)
def test_training_process_sees_the_first_device_alone(
    monkeypatch: pytest.MonkeyPatch, seen: str | None, device: str, given: str
) -> None:
    """TRL refuses to train where it sees several from one process."""
    monkeypatch.delenv(DEVICES, raising=False)
    if seen is not None:
        monkeypatch.setenv(DEVICES, seen)

    assert training_environment(device, None, ())[DEVICES] == given


def test_training_process_sees_no_key_and_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "planted")

    found = training_environment("auto", 3, {"MINE"})

    assert "MINE" not in found
    assert (found["HF_HUB_OFFLINE"], found["OMP_NUM_THREADS"]) == ("1", "3")
