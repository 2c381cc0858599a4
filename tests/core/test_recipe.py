"""Recipes from disk: what is wrong is said in one line, with its place and a remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.core.errors import RecipeError
from pipeline.core.recipe import LoadedRecipe, level_above, load_recipe, looks_like_hub_id
from pipeline.core.schema import Recipe, recipe_schema

GOOD = """\
name: task
level: L2
base: model
data:
  train: {path: train.jsonl, format: classification}
  test: {path: test.jsonl, format: classification}
train:
  objective: classify
"""
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def put(text: str | bytes, name: str = "x.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return put


def refused(path: Path, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def alias_bomb() -> str:
    """Nine lines that unfold to 9 ** 9 values."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]\n"]
    lines += [
        f"{this}: &{this} [{', '.join([f'*{below}'] * 9)}]\n"
        for below, this in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    return "".join(lines)


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("objective:", "objectiv:", 8, ["train.objectiv", '"classify"', "did you mean objective?"]),
        ("format: c", "formt: c", 5, ["data.train.0.formt", '"classification"', "format?"]),
        ("level: L2", "level: L3", 2, ["level", "'L0', 'L1' or 'L2'", '"L3"']),
        ("level: L2", "level: 2", 2, ["level", "it is 2"]),
        ("name: task", "name: My Task", 1, ["name", '"My Task"', "pattern"]),
        ("name: task", "name: 2020-01-01", 1, ["name", "2020-01-01"]),
        ("  test:", "  validation: {carv: 0.1}\n  test:", 6, ["carv", "0.1", "mean carve?"]),
        ("  test:", "  validation: {carve: 2}\n  test:", 6, ["carve", "less than 0.5", "it is 2"]),
        ("  test:", "  validation: 3\n  test:", 6, ["data.validation", "it is 3"]),
        ("path: train.jsonl", "path: 3", 5, ["data.train.0.path", "it is 3"]),
        ("classify", "[classify, banana]", 8, ["train.objective.1", '"banana"']),
        ("classify", "[]", 7, ["train", "objective is empty"]),
        ("classify", "classify\n  learning_rate: .nan", 9, ["learning_rate", "NaN", "finite"]),
        ("classify", "classify\n  learning_rate: -.inf", 9, ["learning_rate", "-Infinity"]),
        ("classify", "classify\n  learning_rate: 1e999", 9, ["learning_rate", "Infinity"]),
        ("classify", "classify\n  learning_rate: fast", 9, ["learning_rate", '"fast"', "number"]),
        ("classify", "classify\n  lora_r: 8.5", 9, ["lora_r", "8.5", "integer"]),
        ("classify", f"classify\n  lora_r: {'9' * 5000}", 9, ["lora_r", "'99999", "out of range"]),
        ("classify", "classify\n  seeds: [1, 1]", 7, ["train", "different whole numbers"]),
        ("classify", "classify\n  objective: sft", 9, ["objective", "written twice", "keep one"]),
        ("path: train.jsonl", "path: a/b, part: x", 5, ["data.train.0", "part", "leave it out"]),
        ("path: train.jsonl", "generator: g, part: x, split: a", 5, ["split", "a generator"]),
        ("path: train.jsonl", "generator: g, part: x, files: [a]", 5, ["files", "a generator"]),
        ("path: test.jsonl", "path: test.jsonl, weight: 2", 4, ["data: test: weight", "leave it"]),
        ("train:\n", "evaluate: {suites: {s: {path: a, weight: 2}}}\ntrain:\n", 7,
         ["suites.s: weight mixes", "leave it out"]),
        ("classify", "classify\n  loss_weighting: row", 7, ["loss_weighting", "classify has none"]),
        ("classify", "[mlm, classify]\n  loss_weighting: row", 7, ["mlm and classify has none"]),
        ("classify", "[cpt, classify]\n  loss_on: last", 7, ["loss_on: last", "sft", "leave it"]),
        ("base: model", 'base: "a\\0b"', 3, ["base", "'a\\x00b'", "not a path"]),
        ("train.jsonl", "x" * 5000, 5, ["data.train.path", "'xxxx", "not a path"]),
        ("name: task", "extends: gone.yaml", 1, ["extends", "gone.yaml", "check the path"]),
        ("name: task", "extends: [x.yaml]", 1, ["extends", "['x.yaml']", "write one path"]),
        ("name: task", "extends: x.yaml", 1, ["extends", "circle", "x.yaml -> ", "remove one"]),
        ("name: task", "\tname: task", 1, ["not YAML", "\\t", "mend that line"]),
        ("classify", "[classify", 9, ["not YAML", "mend that line"]),
        ("classify", "!!python/name:os.system", 8, ["not YAML", "python/name:os.system"]),
        ("name: task", "? {a: b}\n: 1", 1, ["not YAML", "unhashable", "mend that line"]),
        ("name: task", f"{alias_bomb()}name: task", 5, ["10000 values", "fewer aliases"]),
    ],
)  # fmt: skip
def test_error_names_file_line_value_and_remedy(
    write: Write, old: str, new: str, line: int, words: list[str]
) -> None:
    assert old in GOOD
    path = write(GOOD.replace(old, new, 1))
    message = refused(path)
    assert message.startswith(f"{path}:{line}: ")
    for word in words:
        assert word in message


def test_class_weights_are_for_a_classifier(write: Write) -> None:
    weighted = GOOD.replace("data:\n", "data:\n  clean: {balance: weights}\n")
    message = refused(write(weighted.replace("classify\n", "sft\n")))
    assert "data.clean.balance: weights are for objective classify" in message
    mixed = "[sft, classify]\n  loss_on: last\n  loss_weighting: row\n"
    assert load_recipe(write(weighted.replace("classify\n", mixed))).recipe.train is not None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["no `key: value` lines"]),
        (b"- a\n", ["no `key: value` lines"]),
        (bytes(range(256)), ["not a recipe", "UTF-8"]),
        (GOOD.encode("utf-16"), ["not a recipe", "UTF-8"]),
        (GOOD.encode() + b"x: \0", ["not YAML", "#x0000"]),
        (GOOD.replace("level: L2\n", "").encode(), ["level: missing", "add it"]),
        (GOOD.replace("base: model\n", "").encode(), ["give exactly one of base or scratch"]),
        (GOOD.encode() + b"gates: &g [*g]\n", ["nested too deep", "write it flat"]),
        (b"gates: " + b"[" * 2_000, ["nested too deep", "write it flat"]),
    ],
)
def test_error_names_the_file_where_there_is_no_line(
    write: Write, content: bytes, words: list[str]
) -> None:
    path = write(content)
    message = refused(path)
    assert message.startswith(f"{path}: ")
    for word in words:
        assert word in message


def test_a_recipe_that_is_not_there_says_so(tmp_path: Path) -> None:
    assert "no such recipe; check the path" in refused(tmp_path / "gone.yaml")
    assert "directory; name a recipe file" in refused(tmp_path)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("nonsense", ["'nonsense'", "write --set train.lora_r=32"]),
        ("=3", ["'=3'", "no value"]),
        ("train.lora_r=", ["train.lora_r", "null", "integer"]),
        ("train.lora_r=x", ["train.lora_r", '"x"', "integer"]),
        ("train.lora_r=1024", ["must be at most 512, the engine's largest rank, and it is 1024"]),
        ("train.modules_to_save=a", ['--set train.modules_to_save: write a list, and not "a"']),
        ("train.packing=maybe", ['--set train.packing: write true or false, and not "maybe"']),
        ("train.objective=clasify", ["--set train.objective: must be", "did you mean classify?"]),
        ("train.objective=[sft, clasify]", ["--set train.objective.1: ", "mean classify?"]),
        ("train.optim=adam", ["--set train.optim: must be", "did you mean adamw?"]),
        ("train.lora_r.x=3", ["train.lora_r", '{"x": 3}', "integer"]),
        ("train.lora_q=3", ["train.lora_q", "unknown key", "did you mean lora_r?"]),
        ("train..lora_r=3", ["unknown key"]),
        ("train=3", ["train", "it is 3"]),
        ("a.b=1", ["a: unknown key"]),
        ("data.train.0.path=x", ["no section '0'"]),
        ("train.learning_rate=.nan", ["train.learning_rate", "NaN"]),
        ("data.train=&a [*a]", ["data.train", "nested too deep"]),
        ("train.seeds={a: 1, a: 2}", ["a: written twice"]),
        ("extends=y.yaml", ["extends: unknown key"]),
        (f"train.lora_r={'9' * 5000}", ["train.lora_r", "out of range"]),
    ],
)
def test_error_of_an_override_names_the_override(
    write: Write, override: str, words: list[str]
) -> None:
    message = refused(write(GOOD), override)
    assert message.startswith("--set ")
    assert "Input should" not in message
    # The key stands once.
    assert not message.startswith(
        f"--set {override.partition('=')[0]}: {override.partition('=')[0]}"
    )
    for word in words:
        assert word in message


def test_override_wins_over_the_file(write: Write) -> None:
    path = write(GOOD)
    loaded = load_recipe(path, ["train.lora_r=32", "train.learning_rate=1e-3"])
    train = loaded.recipe.train
    assert train is not None
    assert (train.lora_r, train.learning_rate) == (32, 1e-3)
    assert loaded.place("train.lora_r") == "--set train.lora_r"


def test_override_of_another_name_does_not_reach_this_recipe(write: Write) -> None:
    path = write(GOOD)
    assert load_recipe(path, ["other:train.lora_r=x"]).recipe == load_recipe(path).recipe
    assert load_recipe(path, ["task:train.lora_r=3"]).recipe != load_recipe(path).recipe


def test_override_path_is_relative_to_where_the_user_stands(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(GOOD, "deep/x.yaml")
    write("{}", "mine.jsonl")
    monkeypatch.chdir(tmp_path)
    data = load_recipe(path, ["data.train.path=mine.jsonl"]).recipe.data
    assert data is not None
    assert data.train[0].path == str(tmp_path / "mine.jsonl")
    write("{}", "launch.yaml")
    nested = "train.launch={num_processes: 2, config: launch.yaml}"
    train = load_recipe(path, [nested, "data.train=[{path: mine.jsonl}]"]).recipe.train
    assert train is not None
    assert train.launch.config == str(tmp_path / "launch.yaml")


def test_extends_keeps_what_is_not_said_again(write: Write, tmp_path: Path) -> None:
    write(GOOD + "  lora_r: 4\n", "under.yaml")
    (tmp_path / "train.jsonl").write_text("{}")
    over = write("extends: ../under.yaml\nname: over\ntrain: {lora_r: 8}\n", "deep/over.yaml")
    loaded = load_recipe(over)
    assert loaded.recipe.name == "over"
    assert loaded.recipe.train is not None
    assert loaded.recipe.train.objective == ("classify",)
    assert loaded.recipe.train.lora_r == 8
    # A path stays the one that the file below meant.
    assert loaded.recipe.data is not None
    assert loaded.local(loaded.recipe.data.train[0].path or "") == tmp_path / "train.jsonl"
    assert loaded.place("train.objective") == f"{tmp_path}/under.yaml:8"
    assert loaded.place("train.lora_r") == f"{over}:3"


def test_a_longer_circle_of_extends_names_every_link(write: Write) -> None:
    path = write(GOOD + "extends: b.yaml\n", "a.yaml")
    write("extends: c.yaml\n", "b.yaml")
    write("extends: a.yaml\n", "c.yaml")
    message = refused(path)
    assert "a.yaml -> " in message
    assert "b.yaml -> " in message
    assert "c.yaml -> " in message


def test_a_few_aliases_are_welcome(write: Write) -> None:
    text = GOOD.replace("train: {path", "train: &s {path").replace(
        "test: {path: test.jsonl, format: classification}", "test: *s"
    )
    data = load_recipe(write(text)).recipe.data
    assert data is not None
    assert data.test == data.train[0]


def test_scientific_notation_without_a_dot_is_a_number(write: Write) -> None:
    loaded = load_recipe(write(GOOD + "  learning_rate: 2e-4\n"))
    assert loaded.recipe.train is not None
    assert loaded.recipe.train.learning_rate == pytest.approx(0.0002)
    # The oracle's YAML 1.1 reads the same text as a string.
    assert yaml.safe_load("2e-4") == "2e-4"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow,
                                                  HealthCheck.function_scoped_fixture])  # fmt: skip
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_whatever_make_a_traceback(write: Write, content: bytes) -> None:
    # Random bytes are never a whole recipe, so each of them must be refused in one line.
    assert refused(write(content))


def test_levels_climb() -> None:
    assert level_above("L2", "L0")
    assert level_above("L1", "L1")
    assert not level_above("L1", "L2")


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("Qwen/Qwen3-0.6B", True),
        ("a/b.yaml", False),
        ("a/b.jsonl", False),
        ("model", False),
        ("a/b/c", False),
        ("../a", False),
        ("/a", False),
    ],
)
def test_hub_id_is_owner_and_name(text: str, is_one: bool) -> None:
    assert looks_like_hub_id(text) is is_one


def test_json_schema_knows_every_key_of_a_recipe() -> None:
    tree = recipe_schema()
    assert set(tree["properties"]) == {*Recipe.model_fields, "extends"}
    assert tree["additionalProperties"] is False


def test_place_falls_back_to_the_section(write: Write) -> None:
    path = write(GOOD)
    loaded: LoadedRecipe = load_recipe(path)
    assert loaded.place("train.lora_r") == f"{path}:7"
    assert loaded.place("gates.0.suite") == str(path)
