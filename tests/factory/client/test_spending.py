"""What a run has cost: in one small file, whole at every moment, counted on by the next process."""

import json
import os
from pathlib import Path

import pytest

from factory.client.spending import Spending, read_spent
from schemas.chat import Completion
from schemas.errors import SchemaError, StorageError
from schemas.manifest import Spent


def answer(read: int | None, written: int | None) -> Completion:
    return Completion("r", "x", "stop", prompt_tokens=read, completion_tokens=written)


def test_spending_is_on_disk_before_the_request_goes_out(tmp_path: Path) -> None:
    path = tmp_path / "run" / "spent.json"
    with Spending(path) as spending:
        spending.sending()

        assert read_spent(path).requests == 1
        spending.answered(answer(30, 12), 500)
        found = read_spent(path)
        assert (found.requests, found.prompt_tokens, found.completion_tokens, found.tokens) == (1, 30, 12, 42)


def test_spending_goes_on_where_another_process_was_killed(tmp_path: Path) -> None:
    now = 100.0
    path = tmp_path / "spent.json"
    killed = Spending(path, lambda: now).__enter__()
    killed.sending()
    now = 130.0
    killed.answered(answer(1, 2), 500)
    assert killed._handle is not None
    os.close(killed._handle)  # as the kernel does it; nothing is written any more

    now = 1000.0
    with Spending(path, lambda: now) as spending:
        now = 1007.5
        spending.sending()

    assert read_spent(path) == Spent(requests=2, prompt_tokens=1, completion_tokens=2, seconds=37.5)


def test_spending_goes_on_where_a_process_was_killed_before_its_first_request(tmp_path: Path) -> None:
    path = tmp_path / "run" / "spent.json"
    killed = Spending(path).__enter__()  # and now a server would start, for a minute
    assert killed._handle is not None
    os.close(killed._handle)

    assert read_spent(path) == Spent()
    with Spending(path) as spending:
        spending.sending()

    assert read_spent(path).requests == 1


def test_spending_of_a_server_that_does_not_say_is_the_most_that_it_can_be(tmp_path: Path) -> None:
    with Spending(tmp_path / "spent.json") as spending:
        spending.answered(answer(None, None), 500)
        spending.answered(answer(7, None), 500)

    assert (spending.prompt_tokens, spending.completion_tokens) == (507, 0)


def test_spending_file_is_json_of_one_length(tmp_path: Path) -> None:
    path = tmp_path / "spent.json"
    lengths = set()
    with Spending(path) as spending:
        for tokens in (1, 10**9, 10**15):
            spending.answered(answer(tokens, tokens), 0)
            lengths.add(len(path.read_bytes()))
            json.loads(path.read_text())

    assert len(lengths) == 1


def test_spending_file_that_is_none_is_said_with_its_mend(tmp_path: Path) -> None:
    (tmp_path / "spent.json").write_text("{")

    with pytest.raises(SchemaError, match=r"spent\.json: .*delete it"):
        Spending(tmp_path / "spent.json")


def test_spending_folder_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StorageError), Spending(tmp_path / "file" / "spent.json"):
        pass
