"""The pairs as datasets that trainers load: one folder for each format, with a card.

    <root>/export/<format>/README.md            the card; its header tells `load_dataset` where the splits are
    <root>/export/<format>/images/                  its plots
    <root>/export/<format>/data/<split>.parquet     for `datasets.load_dataset(folder)`
    <root>/export/<format>/dataset_dict.json, <split>/   for `datasets.load_from_disk(folder)`
    <root>/export/<format>/<split>.jsonl            in the formats of trainers that read JSON, in the place of these
    <root>/export/round-1/<format>/                 of a later round the same: a folder holds the pairs of one round

A prompt's split is a function of its id alone, so that no later round moves a test prompt into training. A folder is replaced
only when the new one is whole, and every format that lies there is of the same pairs: one that was written before is written
again with the others.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from factory import store
from factory.export_card import Described, card
from factory.files import temporary_of
from factory.formats import FORMATS
from factory.formats.base import Files, Format, Written
from factory.formats.marked import rows_sql
from factory.ledger.identity import Stage
from factory.looking import queries
from factory.run import RunFolder
from factory.work import MARKS, Work, now
from schemas.export import ExportFormat
from schemas.manifest import PartFile, RunManifest
from schemas.marks import MarksUse
from schemas.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Exported:
    """A format's folder as the run's records name it; without a row there is none."""

    outputs: list[PartFile]
    left_out: Mapping[str, int]  # reason -> rows


def is_test(prompt_id: str, share: float) -> bool:
    """Whether a prompt belongs to the test split: its id's first 32 bits, as a fraction of all, lie below the share."""
    return int(prompt_id[:8], 16) < int(share * 2**32)


def _test_sql(share: float) -> str:
    return f"('0x' || _prompt_id[1:8])::UBIGINT < {int(share * 2**32)}"


def unexported(work: Work) -> frozenset[ExportFormat]:
    """What is to be written: what the recipe asks for, and what lies there of other pairs or another split."""
    there = (name for name in ExportFormat if work.run.export_path(name).exists())
    return frozenset({*work.recipe.export.formats, *there} - work.exported())


def export(work: Work, manifest: RunManifest) -> None:
    """Write what is to be written, and the stage's record. Raises StorageError."""
    began, todo, before = now(), unexported(work), work.found(Stage.EXPORT, 0)
    there = work.exported()
    files = [part for part in before.outputs if any(is_of(work.run, part, name) for name in there)] if before else []
    notes: dict[str, float | str] = work.export_notes | {
        "formats": " ".join(name for name in ExportFormat if name in todo | there),
    }
    for name in (name for name in ExportFormat if name in there):
        notes |= _left_out_notes(name, left_out_of(before.notes, name) if before else {})
    known = described(work.run) if todo else None
    for name in (name for name in ExportFormat if name in todo):
        made = write_format(work.run, work.recipe, manifest, FORMATS[name], known)
        files += made.outputs
        notes |= _left_out_notes(name, made.left_out)
    work.close(Stage.EXPORT, 0, began, files, notes=notes)


def described(run: RunFolder) -> Described:
    """What the cards of a round say and show. Raises Fixable."""
    from factory.looking.card_plots import card_images, shape_of  # a second to import

    shape = shape_of(run)
    return Described(shape.figures, card_images(shape))


def written_formats(notes: Mapping[str, float | str]) -> list[ExportFormat]:
    """By the notes of the stage's record."""
    return [name for name in ExportFormat if name in str(notes.get("formats", "")).split()]


def marks_use(notes: Mapping[str, float | str]) -> tuple[MarksUse, str]:
    """What an export made of people's marks, and their digest, by the notes of the stage's record."""
    use, _, digest = str(notes.get(MARKS, MarksUse.UNUSED)).partition(" ")
    return MarksUse(use), digest


def _left_out_notes(name: ExportFormat, left_out: Mapping[str, int]) -> dict[str, int]:
    return {f"left_out.{name}.{reason}": count for reason, count in left_out.items()}


def left_out_of(notes: Mapping[str, float | str], name: ExportFormat) -> dict[str, int]:
    """Reason -> rows that a format could not hold, by the notes of the stage's record."""
    own = f"left_out.{name}."
    return {key.removeprefix(own): int(count) for key, count in notes.items() if key.startswith(own)}


def is_of(run: RunFolder, part: PartFile, name: str) -> bool:
    """Whether a file of the stage's record lies in a format's folder."""
    return (run.root / part.path).is_relative_to(run.export_path(name))


def write_format(
    run: RunFolder, recipe: Recipe, manifest: RunManifest, form: Format, known: Described | None = None
) -> Exported:
    """Write one format; an older folder is replaced only when the new one is whole. Raises StorageError.

    `known`: what the card says of the round, where that was found out already.
    """
    target = run.export_path(form.name)
    building = temporary_of(target)
    shutil.rmtree(building, ignore_errors=True)
    try:
        written = _write_splits(run, recipe, form, building)
        if written.rows:
            _write_beside(recipe, manifest, known or described(run), form, written, building)
        shutil.rmtree(target, ignore_errors=True)
        if written.rows:
            building.replace(target)
    except OSError as error:
        raise store.storage_error(target, error) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    counts = {target / path: written.rows[split] for split, path in written.files.items()}
    files = [run.file(path, counts.get(path, 0)) for path in sorted(target.rglob("*")) if path.is_file()]
    return Exported(files, written.left_out)


def _write_splits(run: RunFolder, recipe: Recipe, form: Format, folder: Path) -> Written:
    """A split without rows is left out, since most loaders trip over an empty one."""
    rows, use = {}, recipe.export.marks
    for split, test in (("train", False), ("test", True)):
        path = folder / form.path(split)
        sql = _split_sql(rows_sql(form, use), recipe.export.test_share, test)
        rows[split] = queries.copy(run.root, sql, path, run.round)
        if not rows[split]:
            path.unlink()
    kept = {split: count for split, count in rows.items() if count}
    return Written({split: form.path(split) for split in kept}, kept, _left_out(run, form, use))


def _split_sql(rows: str, share: float, wanted: bool) -> str:
    return (
        f"SELECT * EXCLUDE (_prompt_id, _round, _place, _left_out) FROM ({rows}) "
        f"WHERE _left_out IS NULL AND ({_test_sql(share)}) = {wanted} ORDER BY _prompt_id, _round, _place"
    )


def rows_of(run: RunFolder, form: Format, use: MarksUse = MarksUse.UNUSED) -> int:
    """How many rows a format has of what lies in the round's tables. Raises Fixable."""
    sql = f"SELECT count(*) FROM ({rows_sql(form, use)}) WHERE _left_out IS NULL"
    return int(str(queries.ask(run.root, sql, round_=run.round).rows[0][0]))


def _left_out(run: RunFolder, form: Format, use: MarksUse) -> dict[str, int]:
    if not form.reasons and use is MarksUse.UNUSED:
        return {}
    sql = f"SELECT _left_out, count(*) FROM ({rows_sql(form, use)}) WHERE _left_out IS NOT NULL GROUP BY 1 ORDER BY 1"
    return {str(reason): int(str(count)) for reason, count in queries.ask(run.root, sql, round_=run.round).rows}


def _write_beside(
    recipe: Recipe, manifest: RunManifest, known: Described, form: Format, written: Written, folder: Path
) -> None:
    for image in known.images:
        path = folder / image.path
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(image.png)
    texts = {"README.md": card(recipe, manifest, known, form, written), **form.beside(written)}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    if form.files is Files.PARQUET:
        _save_to_disk(folder, list(written.files))


def _save_to_disk(folder: Path, splits: list[str]) -> None:
    from datasets import Dataset, DatasetDict, disable_progress_bars  # two seconds to import

    disable_progress_bars()
    cache = folder / ".cache"
    loaded = {
        split: Dataset.from_parquet(str(folder / "data" / f"{split}.parquet"), cache_dir=str(cache)) for split in splits
    }
    DatasetDict(loaded).save_to_disk(str(folder))
    shutil.rmtree(cache)
