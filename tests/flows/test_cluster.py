"""A run over a real Ray cluster of one node, and what is refused before one is joined. `benchmarks/cluster.py` loses a node."""

import asyncio
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from factory.opening import open_run
from factory.progress import Silent
from factory.recipes.recipe_file import read_recipe
from factory.run import run_folder
from flows.judging import Runner
from flows.running import with_runner
from flows.stopping import StopSignals
from schemas.errors import Fixable
from schemas.recipe import Recipe
from tests.conftest import RecipeWriter
from tests.fake_engine import FakeEngine
from tests.runs import assert_equal, made, tables

_NODE = """
import sys
from ray.cluster_utils import Cluster
nodes = Cluster()
nodes.add_node(num_cpus=1, object_store_memory=80 * 2**20, include_dashboard=False)
print(nodes.address, flush=True)
sys.stdin.read()
nodes.shutdown()
"""


@pytest.fixture
def address() -> Iterator[str]:
    """Of a cluster of one node, begun and ended in a process of its own: Ray's libraries warn and leave handlers behind."""
    with subprocess.Popen(
        [sys.executable, "-c", _NODE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.wait()


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is an optional extra, `cluster`")
def test_cluster_run_writes_the_rows_of_a_plain_one_and_counts_its_requests(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, address: str
) -> None:
    plain = made(write_recipe({"name": "plain"}, name="plain"))
    asked = len(fake_engine.questions)
    path = write_recipe({"machine.cluster": {"address": address}})
    command = [sys.executable, "-m", "flows.cli", "run", str(path), "--plain"]
    ended = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), check=False)
    assert ended.returncode == 0, ended.stderr
    assert f"Requests sent: {asked}" in ended.stdout
    assert len(fake_engine.questions) == 2 * asked
    assert_equal(tables(run_folder(read_recipe(path))), plain)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"policy": {"model": "some-model"}}, "policy some-model: each worker starts a server of its own"),
        ({"budget": {"max_requests": 10}}, "budget.max_requests"),
    ],
)
def test_cluster_refuses_what_one_process_alone_can_do(
    write_recipe: RecipeWriter, fake_engine: FakeEngine, changes: dict[str, object], named: str
) -> None:
    opened = open_run(read_recipe(write_recipe()), Silent())
    recipe = Recipe.model_validate(opened.work.recipe.model_dump() | {"machine": {"cluster": {}}} | changes)
    there = replace(opened, work=replace(opened.work, recipe=recipe))

    async def work(_: Runner) -> None:
        raise AssertionError("refused before")

    with pytest.raises(Fixable, match=named):
        asyncio.run(with_runner(there, work, StopSignals(Silent().say), plain=True))
    assert not fake_engine.questions
