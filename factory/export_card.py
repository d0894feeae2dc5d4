"""The card of an exported dataset: front matter that the Hub reads, then what a stranger wants to know.

The rule that must not break: it is made to be passed on, so that nothing in it says where or on whose machine it was made.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from factory.formats.base import Format, Written
from factory.formats.marked import reason_in_words
from factory.looking.figures import Figures
from factory.prompts import source_names
from schemas.manifest import RunManifest
from schemas.recipe import ModelRef, Recipe


def card(recipe: Recipe, manifest: RunManifest, counted: Figures, form: Format, written: Written) -> str:
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
    return f"---\n{front}---\n" + "\n".join(_body(recipe, manifest, counted, form, written))


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


def _body(recipe: Recipe, manifest: RunManifest, counted: Figures, form: Format, written: Written) -> list[str]:
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
        f"`prefactory run recipe.yaml` with the recipe below. Weights: {_digests(manifest)}; detector version "
        f"{manifest.provenance.detector}.\n",
        f"```yaml\n{shared_form(recipe)}```\n",
        "## Limits\n",
        "A jury of language models has the tastes and blind spots of its judges; a small judge's opinion is close to "
        "chance. Loop rates hold for the stated cap only: a longer one shows more loops.",
    ]


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


def _digests(manifest: RunManifest) -> str:
    return ", ".join(f"{name} `{digest[:16]}`" for name, digest in manifest.provenance.models.items())


def shared_form(recipe: Recipe) -> str:
    """The recipe as YAML for strangers: no folders, addresses, or names of keys, and nothing that only says how it ran."""
    ref = {"urls", "api_key_env"}
    shown = recipe.model_dump(
        mode="json",
        exclude_none=True,
        exclude={"machine": True, "grpo": True, "policy": ref, "jury": {"judges": {"__all__": {"model": ref}}}},
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
