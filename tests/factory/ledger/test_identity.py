"""What a run is made from, and what a change of it makes invalid."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from factory.ledger.identity import Stage, decides, drift, fingerprint, full_identity, provenance
from schemas.manifest import PartFile, Provenance
from schemas.recipe import Recipe

STAGES = list(Stage)
MADE_FROM = provenance(
    {"policy": "sha-policy", "clarity": "sha-judge"}, {"clarity": "sha-clarity"}, {"file": "sha-file"}
)
# The first stage that a field decides; what is not here decides none.
FIRST = {
    "seed": Stage.PROMPTS,
    "prompts.sample": Stage.PROMPTS,
    "sources.file": Stage.PROMPTS,
    "policy.model": Stage.ROLLOUTS,
    "rollouts.max_tokens": Stage.ROLLOUTS,
    "models.policy": Stage.ROLLOUTS,
    "detector": Stage.ROLLOUTS,
    "jury.judges.0.judge": Stage.VERDICTS,
    "jury.verifiers": Stage.VERDICTS,
    "models.judges.clarity": Stage.VERDICTS,
    "rubrics.clarity": Stage.VERDICTS,
    "jury.quorum": Stage.BALANCE,
    "pairing.margin": Stage.BALANCE,
}
parts = st.lists(st.builds(PartFile, path=st.text(), sha256=st.text(), rows=st.integers(0)), max_size=3)


def a_recipe(changes: Mapping[str, Any] | None = None) -> Recipe:
    document: dict[str, Any] = {
        "name": "n",
        "prompts": {"sources": [{"path": "/a/file.jsonl"}]},
        "policy": {"model": "m"},
        "jury": {"judges": [{"judge": "clarity"}]},
    }
    for field, value in (changes or {}).items():
        *sections, last = field.split(".")
        inner = document
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = value
    return Recipe.model_validate(document)


def identity_of(changes: Mapping[str, Any] | None = None) -> dict[str, str]:
    return full_identity(a_recipe(changes), MADE_FROM)


def test_full_identity_names_everything_that_decides() -> None:
    assert FIRST.keys() <= identity_of().keys()


def test_seat_named_as_the_policys_role_is_refused() -> None:
    with pytest.raises(ValidationError, match="policy is the role of the model that answers"):
        a_recipe({"jury.judges": [{"judge": "clarity", "name": "policy"}]})


def test_full_identity_of_a_recipe_that_heeds_no_marks_knows_of_none() -> None:
    """Else the folders that were made before there were marks would be refused."""
    assert not {field for field in identity_of() if "marks" in field}
    assert identity_of({"pairing.marks": "flip"})["pairing.marks"] == '"flip"'


def test_marks_decide_the_pairs_alone_and_new_ones_are_no_drift() -> None:
    one, other = (full_identity(a_recipe(), replaced) for replaced in map(heeding, ("a", "b")))

    changed = [stage for stage in STAGES if fingerprint(stage, one, []) != fingerprint(stage, other, [])]
    assert changed == STAGES[STAGES.index(Stage.BALANCE) :]
    assert drift(one, other, None) == []


def heeding(digest: str) -> Provenance:
    return provenance({"policy": "sha"}, {"clarity": "sha"}, {"file": "sha"}, marks=digest)


def test_full_identity_every_field_decides_some_stage() -> None:
    """Else a change of it would be refused, and yet make nothing anew."""
    assert [field for field in identity_of() if not decides(Stage.EXPORT, field)] == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "other"),
        ("machine.concurrency", 3),
        ("machine.runs", "elsewhere"),
        ("machine.shard_size", 3),
        ("policy.urls", ["http://host/v1"]),
        ("policy.api_key_env", "KEY"),
        ("export.test_share", 0.5),
        ("prompts.sources", [{"path": "/b/c/file.jsonl"}]),
    ],
)
def test_full_identity_of_what_only_says_how_it_runs_is_the_same(field: str, value: object) -> None:
    assert identity_of({field: value}) == identity_of()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", 1),
        ("prompts.sample", 3),
        ("policy.model", "n"),
        ("policy.revision", "main"),
        ("policy.trust_remote_code", True),
        ("rollouts.max_tokens", 3),
        ("rollouts.slots", [{}, {}]),
        ("rollouts.greedy", None),
        ("rollouts.stop", ["x"]),
        ("jury.quorum", 1),
        ("jury.verifiers", ["language"]),
        ("pairing.allow_unfinished", True),
    ],
)
def test_full_identity_of_what_decides_the_data_is_another_one(field: str, value: object) -> None:
    assert identity_of({field: value}) != identity_of()


@pytest.mark.parametrize(("field", "first"), FIRST.items())
def test_decides_its_stage_and_all_after_it(field: str, first: Stage) -> None:
    assert [stage for stage in STAGES if decides(stage, field)] == STAGES[STAGES.index(first) :]


@pytest.mark.parametrize(("field", "first"), FIRST.items())
def test_fingerprint_changes_exactly_where_the_field_decides(field: str, first: Stage) -> None:
    changed = identity_of() | {field: '"other"'}
    for stage in STAGES:
        same = fingerprint(stage, identity_of(), []) == fingerprint(stage, changed, [])
        assert same is (STAGES.index(stage) < STAGES.index(first))


@given(one=parts, other=parts)
def test_fingerprint_is_of_what_the_inputs_hold(one: list[PartFile], other: list[PartFile]) -> None:
    same = [part.sha256 for part in one] == [part.sha256 for part in other]

    assert (fingerprint(Stage.PAIRS, {}, one) == fingerprint(Stage.PAIRS, {}, other)) is same


def test_fingerprint_of_each_stage_is_its_own() -> None:
    assert len({fingerprint(stage, identity_of(), []) for stage in STAGES}) == len(STAGES)


def test_fingerprint_knows_no_order_of_fields() -> None:
    whole = identity_of()

    assert fingerprint(Stage.PAIRS, whole, []) == fingerprint(Stage.PAIRS, dict(reversed(whole.items())), [])


@pytest.mark.parametrize(("field", "first"), FIRST.items())
def test_drift_is_refused_before_the_stage_that_is_redone_and_allowed_from_it_on(field: str, first: Stage) -> None:
    changed = identity_of() | {field: '"other"'}
    for redone in (None, Stage.BALANCE, Stage.EXPORT):
        lines = drift(identity_of(), changed, redone)

        allowed = redone is not None and STAGES.index(first) >= STAGES.index(redone)
        assert len(lines) == (0 if allowed else 1)
        assert all(line.startswith(f"{field}: ") and line.endswith('"other"') for line in lines)


def test_drift_of_equal_identities_is_none() -> None:
    for redone in (None, Stage.BALANCE, Stage.EXPORT):
        assert drift(identity_of(), identity_of(), redone) == []


def test_drift_names_what_came_and_what_went() -> None:
    judges = [{"judge": "clarity"}, {"judge": "helpfulness"}]

    forth = drift(identity_of(), identity_of({"jury.judges": judges}), None)
    back = drift(identity_of({"jury.judges": judges}), identity_of(), None)

    assert any("jury.judges.1.judge: absent -> " in line for line in forth)
    assert any('jury.judges.1.judge: "helpfulness" -> absent' in line for line in back)


def test_digests_decide_as_well_as_names() -> None:
    found = {
        fingerprint(Stage.PAIRS, full_identity(a_recipe(), provenance({"policy": m}, {"clarity": r}, {"file": s})), [])
        for m, r, s in itertools.product("ab", repeat=3)
    }

    assert len(found) == 8


def test_path_of_a_source_is_no_part_of_it_but_its_name_is() -> None:
    other = full_identity(a_recipe({"prompts.sources": [{"path": Path("/a/other.jsonl")}]}), MADE_FROM)

    assert other != identity_of()
