"""The pairs as a Hugging Face dataset folder in TRL's conversational preference format, with a card.

    <folder>/README.md            the card; its header tells `load_dataset` where the splits are
    <folder>/data/<split>.parquet     for `datasets.load_dataset(folder)`
    <folder>/dataset_dict.json, <split>/   for `datasets.load_from_disk(folder)`

A prompt's split is a function of its id alone, so that no later round moves a test prompt into training.
"""

import shutil
from pathlib import Path

import yaml

from factory import queries, store
from factory.figures import Figures, figures
from factory.files import temporary_of
from factory.run import RunFolder
from schemas.manifest import PartFile, RunManifest
from schemas.recipe import Recipe

FORMAT = "trl"
_ROWS = """
SELECT pairs.messages AS prompt,
       [{{'role': 'assistant', 'content': chosen}}] AS chosen,
       [{{'role': 'assistant', 'content': rejected}}] AS rejected,
       prompt_id, chosen_id, rejected_id, chosen_score, rejected_score, margin, agreement, cause,
       rejected_trimmed, rejected_ended, source, prompts.tools AS tools
FROM pairs JOIN prompts USING (prompt_id, round)
WHERE ({test}) = {wanted}
ORDER BY prompt_id, round
"""


def is_test(prompt_id: str, share: float) -> bool:
    """Whether a prompt belongs to the test split: its id's first 32 bits, as a fraction of all, lie below the share."""
    return int(prompt_id[:8], 16) < int(share * 2**32)


def _test_sql(share: float) -> str:
    return f"('0x' || prompt_id[1:8])::UBIGINT < {int(share * 2**32)}"


def export(run: RunFolder, recipe: Recipe, manifest: RunManifest) -> list[PartFile]:
    """Write the dataset and return its files; an older one is replaced only when the new one is whole.

    Without a pair there is nothing to load, and so no folder. Raises StorageError where it cannot be written.
    """
    counted = figures(run.root)
    if not counted.pairs:
        shutil.rmtree(run.export_path(FORMAT), ignore_errors=True)
        return []
    target = run.export_path(FORMAT)
    building = temporary_of(target)
    shutil.rmtree(building, ignore_errors=True)
    try:
        splits = _write_splits(run, recipe, building)
        (building / "README.md").write_text(card(recipe, manifest, counted, splits), encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        building.replace(target)
    except OSError as error:
        raise store.storage_error(target, error) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    counts = {target / "data" / f"{split}.parquet": rows for split, rows in splits.items()}
    return [run.file(path, counts.get(path, 0)) for path in sorted(target.rglob("*")) if path.is_file()]


def _write_splits(run: RunFolder, recipe: Recipe, folder: Path) -> dict[str, int]:
    """Rows by split; a split without rows is left out, since most loaders trip over an empty one."""
    rows = {}
    for split, wanted in (("train", False), ("test", True)):
        sql = _ROWS.format(test=_test_sql(recipe.export.test_share), wanted=wanted)
        path = folder / "data" / f"{split}.parquet"
        rows[split] = queries.copy(run.root, sql, path)
        if not rows[split]:
            path.unlink()
    kept = {split: count for split, count in rows.items() if count}
    _save_to_disk(folder, list(kept))
    return kept


def _save_to_disk(folder: Path, splits: list[str]) -> None:
    from datasets import Dataset, DatasetDict, disable_progress_bars  # two seconds to import

    disable_progress_bars()
    cache = folder / ".cache"
    loaded = {
        split: Dataset.from_parquet(str(folder / "data" / f"{split}.parquet"), cache_dir=str(cache)) for split in splits
    }
    DatasetDict(loaded).save_to_disk(str(folder))
    shutil.rmtree(cache)


def card(recipe: Recipe, manifest: RunManifest, counted: Figures, splits: dict[str, int]) -> str:
    """The dataset card: front matter that the Hub reads, then what a stranger wants to know."""
    header = {
        "pretty_name": f"{recipe.name} preference pairs",
        "tags": ["dpo", "preference", "prefactory", "trl"],
        "task_categories": ["text-generation"],
        "size_categories": [_size(counted.pairs)],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}.parquet"} for split in splits],
            }
        ],
    }
    front = yaml.safe_dump(header, sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n" + "\n".join(_body(recipe, manifest, counted, splits))


def _size(pairs: int) -> str:
    for bound, name in ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")):
        if pairs < bound:
            return name
    return "n>1M"


def _body(recipe: Recipe, manifest: RunManifest, counted: Figures, splits: dict[str, int]) -> list[str]:
    dropped = ", ".join(f"{reason} {count}" for reason, count in counted.dropped.items()) or "none"
    causes = ", ".join(f"{cause} {count}" for cause, count in counted.causes.items())
    judges = ", ".join(f"{seat.seat} ({_called((seat.model or recipe.policy).model)})" for seat in recipe.jury.judges)
    return [
        f"# {recipe.name}\n",
        f"Preference pairs whose two sides were both written by `{_called(recipe.policy.model)}`: each prompt was answered "
        f"{len(recipe.rollouts.slots)} times sampled{' and once greedy' if recipe.rollouts.greedy else ''}, and the best "
        "answer stands against the worst. An answer that fell into a doom loop is always the rejected one.\n",
        "## Counts\n",
        f"- {counted.prompts} prompts gave {counted.pairs} pairs ({causes}) and {counted.drops} drops ({dropped})",
        f"- splits by prompt id: {', '.join(f'{split} {rows}' for split, rows in splits.items())}",
        *_loop_lines(recipe, counted),
        f"- judges: {judges}; verifiers: {', '.join(recipe.jury.verifiers) or 'none'}\n",
        "## Columns\n",
        "`prompt`, `chosen`, `rejected` are lists of messages, as TRL's DPOTrainer takes them. `cause` says what separates "
        "the two sides (`loop`, `verifier`, `jury`); scores are in pooled within-prompt standard deviations, and NULL for "
        "a loop, which no judge reads. `rejected_ended` is false where the rejected side was cut or ran into the cap: a "
        "trainer should not close it with an end token.\n",
        "## Use\n",
        '```python\nimport datasets\npairs = datasets.load_dataset("FOLDER")   # or datasets.load_from_disk("FOLDER")\n```\n',
        "## How it was made, and how to make it again\n",
        f"`prefactory run recipe.yaml` with the recipe below. Weights: {_digests(manifest)}; detector version "
        f"{manifest.provenance.detector}.\n",
        f"```yaml\n{shared_form(recipe)}```\n",
        "## Limits\n",
        "A jury of language models has the tastes and blind spots of its judges; a small judge's opinion is close to "
        "chance. Loop rates hold for the stated cap only: a longer one shows more loops. The sources of the prompts have "
        "licences of their own.",
    ]


def _called(model: str) -> str:
    """A model's name for strangers: of a local one its folder's."""
    return Path(model).name if Path(model).is_absolute() else model


def _loop_lines(recipe: Recipe, counted: Figures) -> list[str]:
    lines = []
    for slot in counted.slots:
        low, high = slot.interval
        rate = slot.hard / slot.answers if slot.answers else 0.0
        lines.append(
            f"- hard loops, {slot.decoding}: {slot.hard} of {slot.answers} answers ({rate:.1%}, 95% interval "
            f"{low:.1%} to {high:.1%}) at max_tokens {recipe.rollouts.max_tokens}"
        )
    return lines


def _digests(manifest: RunManifest) -> str:
    return ", ".join(f"{name} `{digest[:16]}`" for name, digest in manifest.provenance.models.items())


def shared_form(recipe: Recipe) -> str:
    """The recipe as YAML for strangers: no folders, addresses, or names of keys, and nothing that only says how it ran."""
    ref = {"urls", "api_key_env"}
    shown = recipe.model_dump(
        mode="json",
        exclude_none=True,
        exclude={"machine": True, "policy": ref, "jury": {"judges": {"__all__": {"model": ref}}}},
    )
    prompts = shown["prompts"]
    for source in prompts["sources"]:
        if "path" in source:
            source["path"] = Path(source["path"]).name
    if "decontaminate" in prompts:
        prompts["decontaminate"]["paths"] = [Path(path).name for path in prompts["decontaminate"]["paths"]]
    for model in [shown["policy"], *(seat["model"] for seat in shown["jury"]["judges"] if "model" in seat)]:
        model["model"] = _called(model["model"])
    return yaml.safe_dump(shown, sort_keys=False, allow_unicode=True)
