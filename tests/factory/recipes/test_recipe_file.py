"""How a recipe is read: whole or not at all, with one line for each problem.

name: demo
prompts: {sources: [{path: prompts.jsonl}]}
policy: {model: some/model}
jury: {judges: [{judge: clarity}]}
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from factory.recipes.recipe_file import canonical_json, changed_fields, identity, read_recipe, write_recipe
from schemas.errors import RecipeError
from schemas.recipe import Decoding, Recipe

Write = Callable[[str], Path]

SMALLEST = """\
name: demo
prompts:
  sources:
    - path: prompts.jsonl
policy:
  model: some/model
jury:
  judges:
    - judge: clarity
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Hi"}\n')

    def written(text: str) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return written


def refusals(path: Path) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    return [line.removeprefix(f"{path}:") for line in str(caught.value).splitlines()]


def test_read_recipe_smallest_takes_the_defaults(write: Write) -> None:
    recipe = read_recipe(write(SMALLEST))

    assert recipe.rollouts.slots == [Decoding()] * 5
    assert recipe.policy.model == "some/model"


def test_read_recipe_relative_paths_start_from_the_recipes_folder(write: Write, tmp_path: Path) -> None:
    (tmp_path / "evaluation.jsonl").touch()
    (tmp_path / "weights").mkdir()
    text = SMALLEST.replace("some/model", "./weights") + "machine: {runs: out}\n"
    text = text.replace("policy:", f"  decontaminate:\n    paths: [../{tmp_path.name}/evaluation.jsonl]\npolicy:")

    recipe = read_recipe(write(text))

    assert recipe.prompts.sources[0].path == tmp_path.resolve() / "prompts.jsonl"
    assert recipe.prompts.decontaminate is not None
    assert recipe.prompts.decontaminate.paths == [tmp_path.resolve() / "evaluation.jsonl"]
    assert recipe.policy.model == str(tmp_path.resolve() / "weights")
    assert recipe.machine.runs == Path.cwd() / "out"


def test_read_recipe_many_problems_are_said_at_once_with_their_lines(write: Write) -> None:
    text = SMALLEST + "rollouts:\n  slots:\n    - {}\n    - temperature: hot\n  sampling: {top_p: 0}\nseed: -1\n"

    assert refusals(write(text)) == [
        "13: rollouts.slots.1.temperature: got 'hot'; write a number from 0 to 5",
        "14: rollouts.sampling.top_p: got 0; write a number above 0 and up to 1",
        "15: seed: got -1; write a whole number from 0 and below 4294967296",
    ]


@pytest.mark.parametrize(
    ("line", "refusal"),
    [
        ("sed: 1", "10: sed: unknown key; did you mean `seed`?"),
        ("xyz: 1", "10: xyz: unknown key; known here: `name`, `seed`, `prompts`"),
        (
            "rollouts: {sampling: {temprature: 1}}",
            "10: rollouts.sampling.temprature: unknown key; did you mean `temper",
        ),
        ('"a\\nb": 1', "10: a b: unknown key; known here: `name`"),
        ("seed: 1.5", "10: seed: got 1.5; write a whole number"),
        ("seed: true", "10: seed: got true; write a whole number"),
        ("pairing: {margin: .nan}", "10: pairing.margin: got .nan; write a finite number"),
        ("pairing: {margin: 1e999}", "10: pairing.margin: got 1e999; write a finite number"),
        ("pairing: {margin: yes}", "10: pairing.margin: got 'yes'; write a number of at least 0"),
        ("pairing: {allow_unfinished: no}", "10: pairing.allow_unfinished: got 'no'; write true or false"),
        ("pairing: [1]", "10: pairing: got a list of 1; write a mapping with `margin`"),
        ("machine: {dtype: half}", "10: machine.dtype: got 'half'; write one of `auto`, `float32`"),
        ("machine: {runs: 'ftp://host/x'}", "10: machine.runs: got 'ftp://host/x'; write a folder, or s3://BUCKET"),
        (
            "machine: {runs: 's3://bucket/x?y'}",
            "10: machine.runs: got 's3://bucket/x?y'; write a folder, or s3://BUCKET",
        ),
        (
            "machine: {runs: 's3://bucket/x', cluster: {}}",
            "10: machine: machine.cluster: its nodes work in one folder",
        ),
        ("machine: {engine_args: --x}", "10: machine.engine_args: got '--x'; write a list"),
        ("rollouts: {greedy: {temperature: 1}}", "10: rollouts: the greedy slot has temperature 0"),
        (
            "rollouts: {stop: [!!python/name:os.system x]}",
            "10: rollouts.stop.0: the tag `python/name:os.system` is not",
        ),
        ('rollouts: {stop: ["a\\0"]}', '10: rollouts.stop.0: got "a\\u0000", which holds NUL'),
        ("seed: 1\nseed: 2", "10: seed: written twice, again in line 11; keep one"),
        ("? [a]\n: 1", "1: a key in line 10 is not a name"),
    ],
)
def test_read_recipe_bad_field_names_line_value_and_mend(write: Write, line: str, refusal: str) -> None:
    (said,) = refusals(write(SMALLEST + line + "\n"))

    assert said.startswith(refusal)


def test_read_recipe_missing_field_is_said_where_its_section_is(write: Write) -> None:
    assert refusals(write(SMALLEST.replace("  model: some/model", "  revision: main"))) == [
        "5: policy.model: missing; write a text that is not empty"
    ]


def test_read_recipe_number_without_a_point_is_a_number(write: Write) -> None:
    assert read_recipe(write(SMALLEST + "pairing: {margin: 1e-3}\n")).pairing.margin == 0.001


def test_read_recipe_source_that_is_not_there_names_the_nearest(write: Write) -> None:
    (said,) = refusals(write(SMALLEST.replace("prompts.jsonl", "promts.jsonl")))

    assert said == ("4: prompts.sources.0.path: got 'promts.jsonl', which is not there; did you mean `prompts.jsonl`?")


def test_read_recipe_misspelt_folder_names_the_nearest_folder(write: Write, tmp_path: Path) -> None:
    (tmp_path / "collections").mkdir()

    (said,) = refusals(write(SMALLEST.replace("prompts.jsonl", "colections/prompts.jsonl")))

    assert said.endswith("did you mean `collections`?")


def test_read_recipe_key_variable_must_be_set_and_a_pasted_key_is_not_shown(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SET_KEY", "secret")
    monkeypatch.delenv("UNSET_KEY", raising=False)
    text = SMALLEST.replace("  model: some/model", "  model: some/model\n  api_key_env: NAME")

    assert read_recipe(write(text.replace("NAME", "SET_KEY"))).policy.api_key_env == "SET_KEY"
    assert refusals(write(text.replace("NAME", "UNSET_KEY")))[0].startswith("7: policy.api_key_env: `UNSET_KEY` is not")
    assert "sk-12345" not in refusals(write(text.replace("NAME", "sk-12345")))[0]
    assert "hunter2" not in refusals(write(text.replace("api_key_env: NAME", "api_key: hunter2")))[0]


PLANTED = "sk-proj-Pl4nted0123456789"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("model: some/model", f"model: some/model\n  api_key: {PLANTED}", "the variable's name as `api_key_env`"),
        ("model: some/model", "model: m\n  api_key: hunter2-hunter2", "did you mean `api_key_env`"),
        ("model: some/model", f"model: m\n  api_key_env: {PLANTED}", "the variable's name as `api_key_env`"),
        ("model: some/model", "model: m\n  api_key_env: hunter2-hunter2", "is not the name of a variable"),
        ("model: some/model", "model: m\n  api_key_env: AKIAIOSFODNN7EXAMPLE", "looks like a key"),
        ("model: some/model", "model: m\n  api_key_env: 3f2a9c3f2a9c3f2a9c", "is not the name of a variable"),
        ("model: some/model", "model: m\n  urls: ['https://hunter2-hunter2@a.example/v1']", "a name, a password"),
        ("model: some/model", "model: m\n  urls: ['https://u:hunter2-hunter2@a.example/v1']", "a name, a password"),
        ("model: some/model", "model: m\n  urls: ['https://a.example/v1?key=hunter2-hunter2']", "where keys are found"),
        ("model: some/model", "model: m\n  urls: ['https://a.example/v1#hunter2-hunter2']", "where keys are found"),
        ("model: some/model", "model: m\n  urls: ['https://a.example:hunter2-hunter2/v1']", "is not an address"),
        ("model: some/model", f"model: m\n  urls: ['https://a.example/{PLANTED}/v1']", "looks like a key"),
        ("model: some/model", f"model: m\n  revision: {PLANTED}", "looks like a key"),
        ("model: some/model", f"model: m\n  {PLANTED}: 1", "unknown key"),
        ("model: some/model", f"model: *{PLANTED}", "undefined alias"),
        ("name: demo", f"name: {PLANTED}", "looks like a key"),
        ("name: demo", f"name: demo\nseed: '{PLANTED}'", "looks like a key"),
        ("name: demo", f"name: demo\nmachine: {{engine_args: [--api-key, {PLANTED}]}}", "looks like a key"),
        ("name: demo", "name: demo\nmachine: {engine_args: [--api-key, hunter2-hunter2]}", "`--api-key` is not among"),
    ],
)
def test_read_recipe_key_in_the_recipe_is_refused_and_not_repeated(write: Write, old: str, new: str, said: str) -> None:
    refused = "\n".join(refusals(write(SMALLEST.replace(old, new))))

    assert said in refused
    for planted in (PLANTED, "hunter2", "AKIA", "3f2a9c"):
        assert planted not in refused


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", ".", "..", ".hidden", "a/b", "a\\b", "a b", "a\\n", "~", "a\u2028", "x" * 65, "-rf", "é"]
)
def test_read_recipe_name_that_could_lead_elsewhere_is_refused(write: Write, name: str) -> None:
    assert any(": name: got" in line for line in refusals(write(SMALLEST.replace("demo", f'"{name}"'))))


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("", " empty; a recipe starts"),
        ("# nothing\n", " empty; a recipe starts"),
        ("- name: x\n", "1: not a mapping"),
        ("name: x\n\tseed: 1\n", "2:1: not YAML: found character"),
        ("name: [x\n", "2:1: not YAML:"),
        ("name: x\n---\nname: y\n", "2:1: not YAML: but found another document"),
        ("name: *nowhere\n", "1:7: not YAML: found undefined alias"),
        ("name: x\nseed: \x01\n", "2: holds a control character"),
        ("a: " * 3, "1:"),
        ("a: " + "[" * 5000, " nested deeper than 32 levels"),
        ("a: " + "[" * 40 + "]" * 40, "1: nested deeper than 32 levels"),
        ("a: &a [*a]\n", "1: nested deeper than 32 levels"),
        ("x" * 300_000, " larger than 256 KiB"),
    ],
)
def test_read_recipe_unusable_file_is_one_line(write: Write, text: str, refusal: str) -> None:
    (said,) = refusals(write(text))

    assert said.startswith(refusal)


def test_read_recipe_problems_without_end_are_cut_short(write: Write) -> None:
    said = refusals(write(SMALLEST + "".join(f"key{number}: 1\n" for number in range(500))))

    assert len(said) == 41
    assert said[-1].endswith("and 460 problems more")


def test_read_recipe_not_utf8_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"name: x\npolicy: \xff\n")

    assert refusals(path) == ["2: byte 17 is not UTF-8; save the file as UTF-8"]


def test_read_recipe_byte_order_mark_is_no_part_of_it(write: Write) -> None:
    assert read_recipe(write("\ufeff" + SMALLEST)).name == "demo"


def test_read_recipe_no_file_and_folder_are_said(tmp_path: Path, write: Write) -> None:
    write(SMALLEST)

    assert refusals(tmp_path / "recpe.yaml") == [" no such file; did you mean `recipe.yaml`?"]
    assert refusals(tmp_path) == [" cannot be read (Is a directory); name a YAML file"]


def test_read_recipe_aliases_are_read_but_a_bomb_is_not(write: Write) -> None:
    shared = SMALLEST.replace("model: some/model", "&m model: some/model")
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )

    assert read_recipe(write(shared.replace("judge: clarity", "{judge: clarity, model: {model: x}}"))).name == "demo"
    assert "aliases unfold to over" in refusals(write(bomb))[0]


def test_read_recipe_shared_section_is_used_twice(write: Write) -> None:
    text = SMALLEST.replace("policy:\n", "policy: &policy\n") + "      model: *policy\n"

    recipe = read_recipe(write(text))

    assert recipe.jury.judges[0].model == recipe.policy


@settings(max_examples=50)
@example(stop=["\x85", "a\u2028b", "\u2029"], seed=0)
@given(
    stop=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))), seed=st.integers(0, 9)
)
def test_write_recipe_any_text_reads_back_equal(
    tmp_path_factory: pytest.TempPathFactory, stop: list[str], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("recipe")
    (folder / "prompts.jsonl").touch()
    (folder / "recipe.yaml").write_text(SMALLEST)
    recipe = read_recipe(folder / "recipe.yaml")
    recipe = changed(recipe, "rollouts", stop=[*stop, "no", "1e3", "010", "~"]).model_copy(update={"seed": seed})
    (folder / "elsewhere").mkdir()

    write_recipe(recipe, folder / "elsewhere" / "resolved.yaml")

    again = read_recipe(folder / "elsewhere" / "resolved.yaml")
    assert again == recipe
    assert identity(again) == identity(recipe)
    assert [path.name for path in (folder / "elsewhere").iterdir()] == ["resolved.yaml"]


def changed(recipe: Recipe, section: str, **fields: object) -> Recipe:
    return recipe.model_copy(update={section: getattr(recipe, section).model_copy(update=fields)})


def test_identity_how_it_runs_is_no_part_of_it(write: Write) -> None:
    recipe = read_recipe(write(SMALLEST))
    other = changed(recipe, "machine", concurrency=7)
    other = changed(other, "export", test_share=0.5)
    other = changed(other, "policy", urls=["http://127.0.0.1:1"], api_key_env="KEY").model_copy(
        update={"name": "other"}
    )

    assert identity(other) == identity(recipe)


@pytest.mark.parametrize(
    ("section", "field", "value", "line"),
    [
        ("rollouts", "max_tokens", 256, "rollouts.max_tokens: 512 -> 256"),
        ("rollouts", "stop", ["x"], 'rollouts.stop: [] -> ["x"]'),
        ("pairing", "floor", 5.0, "pairing.floor: null -> 5.0"),
        ("policy", "model", "other/model", 'policy.model: "some/model" -> "other/model"'),
        ("policy", "revision", "é", 'policy.revision: null -> "é"'),
        ("jury", "verifiers", ["language"], 'jury.verifiers: [] -> ["language"]'),
        ("prompts", "sample", 9, "prompts.sample: null -> 9"),
    ],
)
def test_changed_fields_deciding_field_is_named_with_both_values(
    write: Write, section: str, field: str, value: object, line: str
) -> None:
    recipe = read_recipe(write(SMALLEST))

    assert changed_fields(identity(recipe), identity(changed(recipe, section, **{field: value}))) == [line]


def test_changed_fields_another_slot_is_absent_before(write: Write) -> None:
    recipe = read_recipe(write(SMALLEST))
    more = changed(recipe, "rollouts", slots=[*recipe.rollouts.slots, Decoding(temperature=1)])

    assert "rollouts.slots.5.temperature: absent -> 1.0" in changed_fields(identity(recipe), identity(more))


def test_identity_of_a_path_only_the_name_counts(write: Write, tmp_path: Path) -> None:
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "prompts.jsonl").touch()
    (tmp_path / "weights").mkdir()
    (tmp_path / "moved" / "weights").mkdir()
    here = read_recipe(write(SMALLEST.replace("some/model", "./weights")))
    there = read_recipe(
        write(SMALLEST.replace("prompts.jsonl", "moved/prompts.jsonl").replace("some/model", "./moved/weights"))
    )

    assert identity(there) == identity(here)
    assert identity(here)["prompts.sources.0.path"] == '"prompts.jsonl"'


def test_canonical_json_order_of_keys_is_nothing_and_nan_raises() -> None:
    assert canonical_json({"b": 1, "a": "é"}) == canonical_json({"a": "é", "b": 1}) == '{"a":"é","b":1}'
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))


def test_shipped_recipe_for_lfm2_is_valid() -> None:
    recipe = read_recipe(Path(__file__).parents[3] / "recipes" / "lfm2.yaml")

    assert recipe.rollouts.sampling == Decoding(temperature=0.3, min_p=0.15, repetition_penalty=1.05)
    assert len({judge.model.model.split("/")[0] for judge in recipe.jury.judges if judge.model}) == 3
