"""Whether trainers read what `prefactory export --format …` writes: each by its own loader, in an environment of its own.

    python -m benchmarks.formats                     some minutes at the first run, when the environments are made
    python -m benchmarks.formats --only axolotl torchtune
    python -m benchmarks.formats --leap ~/leap-finetune     a checkout; it is on no package index

The pairs are those of `tests.format_cases`: several turns, tools, reasoning, other scripts, a loop that was cut. A format
is read when the loader gives as many rows as were written, and every side's text stands in what the trainer would score.
What a trainer's loader does not take was left out by the export, with a reason: that is in the table too. NeMo-RL is on
the index by its name alone, so that its format is held to its documented schema, by a golden file. The last line is one
JSON object.

The rule that its reader must not break: it says that a loader reads the files, not that a training on them is any good.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from platformdirs import user_cache_path
from rich.console import Console
from rich.table import Table

from benchmarks import format_loaders
from factory.export import write_format
from factory.formats import FORMATS
from factory.serving.models import DEFAULT_MODEL, resolve_model
from schemas.export import ExportFormat
from schemas.recipe import ModelRef
from tests.format_cases import CASES, a_manifest, a_recipe, a_run

TORCH = "torch==2.13.0+cpu"
# Of what a package asks for, that which wants a GPU, sound or pictures is kept out.
PACKAGES: Mapping[ExportFormat, tuple[str, ...]] = {
    ExportFormat.LLAMA_FACTORY: ("llamafactory", TORCH),
    ExportFormat.AXOLOTL: ("axolotl", TORCH),
    ExportFormat.OPENRLHF: ("transformers", "datasets", "jsonlines", "pylatexenc", "sympy", "pyyaml", TORCH),
    ExportFormat.TORCHTUNE: ("torchtune", "torchao<0.14", "transformers", TORCH),
    ExportFormat.LEAP_FINETUNE: ("datasets", "transformers", "pandas", "ray", "rich", "trl", "pyyaml", TORCH),
}
ALONE = {ExportFormat.OPENRLHF: "openrlhf"}  # without what it asks for: it wants a compiler for CUDA
UNWANTED = ("torchvision", "torchaudio", "torchcodec", "bitsandbytes", "xformers", "gradio", "modelscope", "av")
PATIENCE = 400.0  # seconds for one command


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one loader made of its export."""

    form: str
    written: int
    read: int | None  # None: it could not be tried
    unlike: int  # sides whose text is not in what the trainer scores
    left_out: Mapping[str, int]
    why: str = ""

    @property
    def passed(self) -> bool:
        return self.read == self.written and not self.unlike


def environment(name: ExportFormat, cache: Path) -> Path:
    """The Python of a trainer's environment, made if it is not there. Raises CalledProcessError."""
    folder = cache / "trainers" / name
    python = folder / "bin" / "python"
    if python.exists():
        return python
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}") or "uv"
    env = os.environ | ({"UV_FIND_LINKS": found} if (found := os.environ.get("PIP_FIND_LINKS")) else {})
    try:
        _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], env)
        unwanted = folder / "unwanted.txt"
        unwanted.write_text("".join(f"{package} ; sys_platform == 'never'\n" for package in UNWANTED))
        install = [uv, "pip", "install", "--quiet", "--python", str(python), "--override", str(unwanted)]
        _run([*install, *PACKAGES[name]], env)
        if name in ALONE:
            _run([*install, "--no-deps", ALONE[name]], env)
    except subprocess.SubprocessError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return python


def _run(command: Sequence[str], env: Mapping[str, str]) -> str:
    ended = subprocess.run(command, env=env, check=True, capture_output=True, text=True, timeout=PATIENCE)
    return ended.stdout


def read_by_trainer(
    name: ExportFormat, python: Path, folder: Path, model: Path, leap: Path | None
) -> dict[str, object]:
    """What the loader says. Raises SubprocessError."""
    env = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": ""}
    env |= {"HF_DATASETS_CACHE": str(folder.parent / ".cache"), "PYTHONPATH": str(leap / "src") if leap else ""}
    said = _run([str(python), "-P", format_loaders.__file__, name, str(folder), str(model)], env)
    found: dict[str, object] = json.loads(said.splitlines()[-1])
    return found


def judged(form: str, found: Mapping[str, object], left_out: Mapping[str, int]) -> Outcome:
    """The loader's words against the cases: rows are counted, and texts looked for without their outer white space."""
    rows, answers = found["rows"], found["answers"]
    assert isinstance(rows, dict), "as the loaders give them"
    assert isinstance(answers, list), "as the loaders give them"
    texts = {(case.pair.chosen.strip(), case.pair.rejected.strip()) for case in CASES}
    unlike = sum(
        not any(chosen in sides[0] and rejected in sides[1] for chosen, rejected in texts if chosen)
        for sides in answers
    )
    written = len(CASES) - sum(left_out.values())
    return Outcome(form, written, sum(rows.values()), unlike, left_out)


def tried(name: ExportFormat, folder: Path, left_out: Mapping[str, int], model: Path, leap: Path | None) -> Outcome:
    untried = Outcome(name, len(CASES) - sum(left_out.values()), None, 0, left_out)
    if name is ExportFormat.LEAP_FINETUNE and leap is None:
        return Outcome(**asdict(untried) | {"why": "on no package index; --leap names a checkout"})
    try:
        python = environment(name, user_cache_path("prefactory"))
    except subprocess.SubprocessError as error:
        return Outcome(**asdict(untried) | {"why": f"does not install here: {_last_word(error)}"})
    try:
        return judged(name, read_by_trainer(name, python, folder, model, leap), left_out)
    except subprocess.SubprocessError as error:  # it was asked, and read nothing
        return Outcome(**asdict(untried) | {"read": 0, "why": f"NOT READ: {_last_word(error)}"})


def _last_word(error: subprocess.SubprocessError) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"did not end within {PATIENCE:g} s"
    said = error.stderr if isinstance(error, subprocess.CalledProcessError) else None
    return ((said or "").strip() or "no word").splitlines()[-1][:200]


def show(outcomes: Sequence[Outcome]) -> None:
    table = Table(title="exports read by the trainers' own loaders")
    for column in ("format", "written", "read", "sides unlike", "left out", ""):
        table.add_column(column)
    for one in outcomes:
        left = ", ".join(f"{reason} {count}" for reason, count in one.left_out.items()) or "none"
        read = "-" if one.read is None else str(one.read)
        table.add_row(
            one.form,
            str(one.written),
            read,
            str(one.unlike),
            left,
            "read" if one.passed else one.why or "NOT AS WRITTEN",
        )
    Console(width=128).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[name.value for name in PACKAGES], metavar="FORMAT")
    parser.add_argument("--leap", type=Path, help="a checkout of leap-finetune")
    options = parser.parse_args()
    model = resolve_model(ModelRef(model=DEFAULT_MODEL), user_cache_path("prefactory"), print).folder
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="prefactory-formats-") as folder:
        run = a_run(Path(folder) / "run")
        for name in PACKAGES:
            if options.only and name not in options.only:
                continue
            exported = write_format(run, a_recipe(), a_manifest(), FORMATS[name])
            outcomes.append(tried(name, run.export_path(name), exported.left_out, model, options.leap))
    show(outcomes)
    print(json.dumps([asdict(one) | {"passed": one.passed} for one in outcomes]))
    sys.exit(0 if all_well(outcomes) else 1)


def all_well(outcomes: Sequence[Outcome]) -> bool:
    """Whether every loader that could be tried has read its export, and any could."""
    asked = [one for one in outcomes if one.read is not None]
    return bool(asked) and all(one.passed for one in asked)


if __name__ == "__main__":
    main()
