"""Puts an export on the Hugging Face hub as a dataset repository, and brings it up to date when more rounds are there.

    README.md          the card, over all rounds
    images/…           its plots
    data/…             round 0, as it lies in export/<format>
    round-1/…          later rounds
    prefactory.json    which files of the repository a push has made, by content

The rule that must not break: what somebody else put into the repository is neither replaced nor removed. Of a card that was
written on by hand only what the data decide is brought up to date.
"""

import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from factory import store
from factory.export import is_of
from factory.export_card import size_category
from factory.files import make_folder, temporary_of
from factory.formats.base import Files, Format
from factory.ledger.identity import Stage
from factory.run import RunFolder
from schemas.errors import Fixable, HubUnavailable, StorageError

if TYPE_CHECKING:
    from huggingface_hub import HfApi  # half a second to import

CARD, IMAGES, OURS = "README.md", "images", "prefactory.json"
HUBS_OWN = frozenset({".gitattributes"})
DECIDED = ("configs", "size_categories")  # of the card's header: what follows from the data


@dataclass(frozen=True, slots=True)
class Pushed:
    repo: str
    url: str
    files: int
    removed: tuple[str, ...]  # of an earlier push, and no longer of this export
    card_kept: bool  # it was written on by hand


def check_repo(repo: str) -> None:
    """Raises Fixable where that cannot be a repository's name."""
    from huggingface_hub.errors import HFValidationError  # half a second to import
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public by its documentation

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise Fixable(f"--push {repo}: {' '.join(str(error).split())}") from None
    if "/" not in repo:
        raise Fixable(f"--push {repo}: write ORG/NAME, whose dataset it is and what it is called")


def push(run: RunFolder, form: Format, repo: str, *, public: bool) -> Pushed:
    """Every round's export in this format. A push that failed is gone on with by the same call: what arrived is not sent again.

    A repository that is made anew is private unless `public`. Raises Fixable, HubUnavailable, StorageError.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars, enable_progress_bars  # type: ignore[attr-defined]  # likewise

    check_repo(repo)
    staged = temporary_of(run.root / "export" / "hub")
    disable_progress_bars()
    try:
        with _as_ours(repo):
            api = HfApi()
            url = str(api.create_repo(repo, repo_type="dataset", private=not public, exist_ok=True))
            before = _before(api, repo)
            names = _stage(run, form, staged)
            kept = _keep_card(api, repo, before, staged)
            sums = {name: store.sha256_of(staged / name) for name in names}
            if kept:
                sums[CARD] = before[CARD]  # it is theirs from now on
            (staged / OURS).write_text(
                json.dumps({"format": form.name, "files": sums}, indent=1) + "\n", encoding="utf-8"
            )
            removed = tuple(sorted(name for name in before if name not in sums))
            api.upload_folder(
                repo_id=repo,
                repo_type="dataset",
                folder_path=staged,
                delete_patterns=[glob.escape(name) for name in removed] or None,
                commit_message=f"prefactory: {form.name}, rounds: {len(_exported(run, form))}",
            )
    finally:
        enable_progress_bars()
        shutil.rmtree(staged, ignore_errors=True)
    return Pushed(repo, url, len(names), removed, kept)


def card_of_rounds(cards: Mapping[str, str], rows: int) -> str:
    """One card for cards by the folder that each one's files lie in (`""`: the top): the newest one's words, and all files.

    Raises ValueError for a header that the Hub's own library does not read.
    """
    from huggingface_hub import DatasetCard

    read = {folder: DatasetCard(text) for folder, text in cards.items()}
    newest, whole = list(read.items())[-1]
    if newest:
        whole.text = whole.text.replace(f"]({IMAGES}/", f"]({newest}/{IMAGES}/")
    paths: dict[str, list[str]] = {}
    for folder, card in read.items():
        for config in card.data["configs"]:
            for one in config["data_files"]:
                paths.setdefault(one["split"], []).append(f"{folder}/{one['path']}" if folder else one["path"])
    files = [{"split": split, "path": found if len(found) > 1 else found[0]} for split, found in paths.items()]
    whole.data["configs"] = [{"config_name": "default", "data_files": files}]
    whole.data["size_categories"] = [size_category(rows)]
    if len(read) > 1:
        whole.text += (
            f"\n\n## Rounds\n\nThe files are of {len(read)} rounds; {rows} rows in all. What is said above is of the last one, "
            f"and each later round's own `{CARD}` lies in its folder.\n"
        )
    return str(whole)


def updated(theirs: str, ours: str) -> str:
    """Their card, with what of its header the data decide."""
    from huggingface_hub import DatasetCard

    kept, made = DatasetCard(theirs), DatasetCard(ours)
    for name in DECIDED:
        kept.data[name] = made.data[name]
    return str(kept)


def _stage(run: RunFolder, form: Format, staged: Path) -> list[str]:
    """A folder as the repository is to look; the names of its files. Raises Fixable where nothing is exported."""
    rounds = _exported(run, form)
    if not rounds:
        raise Fixable(f"{run.export_path(form.name)}: nothing is exported there; `prefactory export` writes it")
    shutil.rmtree(staged, ignore_errors=True)
    cards: dict[str, str] = {}
    for one in rounds:
        folder = f"round-{one.round}" if one.round else ""
        source = one.export_path(form.name)
        cards[folder] = (source / CARD).read_text(encoding="utf-8")
        for path in _shared(source, form):
            target = staged / folder / path.relative_to(source)
            make_folder(target.parent)
            _link(path, target)
    rows = sum(_rows(one, form) for one in rounds)
    card = staged / CARD
    card.unlink(missing_ok=True)  # it may be the export's own file
    card.write_text(card_of_rounds(cards, rows), encoding="utf-8")
    return sorted(str(path.relative_to(staged)) for path in staged.rglob("*") if path.is_file())


def _exported(run: RunFolder, form: Format) -> list[RunFolder]:
    return [one for one in run.rounds() if one.export_path(form.name).is_dir()]


def _rows(run: RunFolder, form: Format) -> int:
    record = run.record(Stage.EXPORT, 0)
    return sum(part.rows for part in record.outputs if is_of(run, part, form.name)) if record else 0


def _shared(folder: Path, form: Format) -> Iterator[Path]:
    """Without the copy for `load_from_disk`, which the Hub has no use for."""
    for path in sorted(folder.rglob("*")):
        top = path.relative_to(folder).parts[0]
        if path.is_file() and (form.files is not Files.PARQUET or top in (CARD, IMAGES, "data")):
            yield path


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)


def _before(api: "HfApi", repo: str) -> dict[str, str]:
    """What an earlier push has put there: file -> sha256. Raises Fixable for a repository that is somebody else's."""
    there = set(api.list_repo_files(repo, repo_type="dataset")) - HUBS_OWN
    if not there:
        return {}
    if OURS not in there:
        raise Fixable(
            f"--push {repo}: holds {', '.join(sorted(there)[:3])}, which no push of prefactory has made; name another dataset"
        )
    return dict(json.loads(_fetched(api, repo, OURS))["files"])


def _keep_card(api: "HfApi", repo: str, before: Mapping[str, str], staged: Path) -> bool:
    """Whether the card there was written on by hand; it is staged then, brought up to date."""
    if CARD not in before:
        return False
    theirs = _fetched(api, repo, CARD)
    if hashlib.sha256(theirs.encode()).hexdigest() == before[CARD]:
        return False
    card = staged / CARD
    card.write_text(updated(theirs, card.read_text(encoding="utf-8")), encoding="utf-8")
    return True


def _fetched(api: "HfApi", repo: str, name: str) -> str:
    with tempfile.TemporaryDirectory(prefix="prefactory-hub-") as folder:
        path = api.hf_hub_download(repo, name, repo_type="dataset", local_dir=folder)
        return Path(path).read_text(encoding="utf-8")


@contextmanager
def _as_ours(repo: str) -> Iterator[None]:
    """The Hub's errors as the project's own, each with its mend."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalEntryNotFoundError  # type: ignore[attr-defined]  # from the library it uses

    try:
        yield
    except HfHubHTTPError as error:
        status, said = error.response.status_code, " ".join(str(error.server_message or error).split())[:300]
        if status in (401, 403):
            mend = "`hf auth login`, or a token that may write there in HF_TOKEN"
            raise Fixable(f"--push {repo}: the Hub answers {status}: {said}; {mend}") from None
        if status < 500 and status not in (408, 429):
            raise Fixable(f"--push {repo}: the Hub answers {status}: {said}") from None
        raise HubUnavailable(f"--push {repo}: the Hub answers {status}: {said}; the same command goes on") from None
    except (HTTPError, LocalEntryNotFoundError) as error:
        why = f"{type(error).__name__}: {error}"
        raise HubUnavailable(f"--push {repo}: the Hub cannot be reached ({why}); the same command goes on") from None
    except OSError as error:
        raise StorageError(f"--push {repo}: {error}") from error
