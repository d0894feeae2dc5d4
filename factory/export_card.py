"""The card of an exported dataset: front matter that the Hub reads, then what a stranger wants to know.

The rule that must not break: it is made to be passed on, so that nothing in it says where or on whose machine it was made.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from factory.formats.base import Format, Written
from factory.formats.marked import reason_in_words
from factory.looking.figures import Figures
from factory.prompts import source_names
from factory.work import versions
from schemas.manifest import RunManifest
from schemas.recipe import ModelRef, Recipe

if TYPE_CHECKING:
    from factory.looking.card_plots import Image  # a second to import


_ASKED = {"urls", "api_key_env"}
_KEPT_BACK: dict[str, Any] = {
    **dict.fromkeys(("machine", "budget", "schedule", "grpo"), True),
    "policy": _ASKED,
    "jury": {"judges": {"__all__": {"model": _ASKED}}},
}  # Any: pydantic's own form of what to leave out


@dataclass(frozen=True, slots=True)
class Described:
    """What was found out about a round for its cards."""

    figures: Figures
    images: tuple["Image", ...] = ()


def card(recipe: Recipe, manifest: RunManifest, known: Described, form: Format, written: Written) -> str:
    header = {
        "pretty_name": f"{recipe.name} preference pairs",
        "tags": ["preference", "prefactory", form.name.value],
        "task_categories": ["text-generation"],
        **_licence(recipe),
        "size_categories": [size_category(sum(written.rows.values()))],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": path} for split, path in written.files.items()],
            }
        ],
    }
    front = yaml.safe_dump(header, sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n" + "\n".join(_body(recipe, manifest, known, form, written))


def _licence(recipe: Recipe) -> dict[str, object]:
    """Of the sources whose licence the recipe names. The Hub's header takes one, or a list."""
    named = sorted(set(recipe.export.licences.values()))
    return {"license": named[0] if len(named) == 1 else named} if named else {}


def _source_lines(recipe: Recipe) -> Iterator[str]:
    for name, source in zip(source_names(recipe.prompts.sources), recipe.prompts.sources, strict=True):
        revision = f", revision {source.revision}" if source.revision else ""
        place = f"`{source.dataset}`{revision}, split {source.split}" if source.dataset else f"`{name}`"
        yield f"{place}: {recipe.export.licences.get(name, 'licence not stated')}"


def size_category(rows: int) -> str:
    """As the Hub names them."""
    for bound, name in ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")):
        if rows < bound:
            return name
    return "n>1M"


def _body(recipe: Recipe, manifest: RunManifest, known: Described, form: Format, written: Written) -> list[str]:
    counted = known.figures
    dropped = ", ".join(f"{reason} {count}" for reason, count in counted.dropped.items()) or "none"
    causes = ", ".join(f"{cause} {count}" for cause, count in counted.causes.items())
    judges = ", ".join(f"{seat.seat} ({_model(seat.model or recipe.policy)})" for seat in recipe.jury.judges)
    return [
        f"# {recipe.name}\n",
        f"Preference pairs whose two sides were both written by {_model(recipe.policy)}: each prompt was answered "
        f"{len(recipe.rollouts.slots)} times sampled{' and once greedy' if recipe.rollouts.greedy else ''}, and the best "
        "answer stands against the worst. An answer that fell into a doom loop is always the rejected one.\n",
        "## Counts\n",
        f"- {counted.prompts} prompts gave {counted.pairs} pairs ({causes}) and {counted.drops} drops ({dropped})",
        f"- rows here, in splits by prompt id: {', '.join(f'{split} {rows}' for split, rows in written.rows.items())}",
        *_left_out_lines(form, written.left_out),
        *_loop_lines(recipe, counted),
        f"- judges: {judges}; verifiers: {', '.join(recipe.jury.verifiers) or 'none'}\n",
        *(image.markdown for image in known.images),
        "## Sources and licences\n",
        "The prompts come from these; the answers are the policy's, whose own licence may say what they may be used for.\n",
        *(f"- {line}" for line in _source_lines(recipe)),
        "",
        "## Columns\n",
        f"{form.columns}\n",
        "## Use\n",
        f"For {form.what}.\n",
        f"{form.use}\n",
        "## How it was made, and how to make it again\n",
        f"`prefactory run recipe.yaml` (prefactory {versions()['prefactory']}) with the recipe below asks for the same; an "
        "engine may round otherwise on another machine, and then some answers differ.\n",
        *_made_from(manifest),
        f"```yaml\n{shared_form(recipe)}```\n",
        "## Limits\n",
        "- A jury of language models has the tastes and blind spots of its judges; a small judge's opinion is close to chance.",
        *_jury_lines(counted),
        "- Loop rates hold for the stated cap only: a longer one shows more loops.",
        f"- Prompts that stand in evaluation sets were {'' if recipe.prompts.decontaminate else 'not '}looked for.",
        "- Nobody has read all of it: an answer, a chosen one too, may be wrong, harmful, or repeat what its model was "
        "trained on.",
    ]


def _jury_lines(counted: Figures) -> Iterator[str]:
    """What this run found out about its own jury."""
    if (trust := counted.trust) is None:
        return
    said = [] if trust.n_eff is None else [f"its {trust.judges} judges are worth {trust.n_eff:.1f} independent ones"]
    said += [] if trust.alpha is None else [f"Krippendorff's alpha within a prompt is {trust.alpha:.2f}"]
    said += [
        f"`{judge}` set {rate:.0%} of planted bad answers below the original (95%: {low:.0%} to {high:.0%})"
        for judge, (rate, low, high, _) in trust.planted.items()
    ]
    if said:
        yield f"- By this run's own measure {'; '.join(said)}."


def _made_from(manifest: RunManifest) -> Iterator[str]:
    """Digests, shortened."""
    known = manifest.provenance
    for what, digests in (("weights", known.models), ("rubrics", known.rubrics), ("prompts", known.sources)):
        if digests:
            named = ", ".join(f"{_called(name)} `{digest[:16]}`" for name, digest in digests.items())
            yield f"- {what}: {named}"
    yield f"- loop detector: version {known.detector}\n"


def _left_out_lines(form: Format, left_out: Mapping[str, int]) -> Iterator[str]:
    for reason, count in left_out.items():
        yield f"- left out: {count} ({reason_in_words(form, reason)})"


def _model(ref: ModelRef) -> str:
    return f"`{_called(ref.model)}`" + (f" at revision {ref.revision}" if ref.revision else "")


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


def shared_form(recipe: Recipe) -> str:
    """The recipe as YAML for strangers: no folders, addresses, or names of keys, and nothing that only says how it ran."""
    shown = recipe.model_dump(mode="json", exclude_none=True, exclude=_KEPT_BACK)
    prompts = shown["prompts"]
    for source in prompts["sources"]:
        if "path" in source:
            source["path"] = Path(source["path"]).name
    if "decontaminate" in prompts:
        prompts["decontaminate"]["paths"] = [Path(path).name for path in prompts["decontaminate"]["paths"]]
    for model in [shown["policy"], *(seat["model"] for seat in shown["jury"]["judges"] if "model" in seat)]:
        model["model"] = _called(model["model"])
    return yaml.safe_dump(shown, sort_keys=False, allow_unicode=True)
