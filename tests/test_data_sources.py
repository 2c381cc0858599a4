"""Keys of a source that play no part: refused where they are written, dropped where `--set` puts
a file in the place of a hub data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import RecipeError
from pipeline.core.store import Store
from pipeline.ladder import make_plan

ROWS = "".join(json.dumps({"text": f"row {n}", "label": "ab"[n % 2]}) + "\n" for n in range(8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    (tmp_path / "rows").mkdir()
    for name in ("train.jsonl", "test.jsonl", "rows/a.jsonl", "rows/b.jsonl"):
        (tmp_path / name).write_text(ROWS)
    return tmp_path


def planned(folder: Path, train: str, *overrides: str) -> Any:
    """The training source as it stands in the key, with its recipe's plan."""
    path = folder / "r.yaml"
    path.write_text(
        f"name: r\nlevel: L2\nbase: model\ndata:\n  train: {{{train}}}\n"
        "  test: {path: test.jsonl}\ntrain: {objective: classify, method: full}\n"
    )
    plan = make_plan(path, Store(folder / "store"), overrides)
    (node,) = (n for n in plan.nodes.values() if n.stage == "prepare")
    return node


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ("path: train.jsonl, split: train", "data.train.split: chooses within a hub data set"),
        ("path: train.jsonl, config: en", "data.train.config: chooses within a hub data set"),
        ("path: rows, revision: abc", "data.train.revision: chooses within a hub data set"),
        ("path: train.jsonl, files: [a]", "data.train.files: chooses within a folder"),
        ("path: 'http://h/x.jsonl', split: a", "path is a URL; leave it out or set it to null"),
        ("path: 'http://h/x.jsonl', files: [a]", "data.train.files: chooses within a folder"),
        ("path: 'http://u:SECRET@h/x.jsonl'", "http://h/x.jsonl: holds a secret (a user or"),
        ("path: 'http://h/x.jsonl?sig=SECRET'", "http://h/x.jsonl: holds a secret (sig); leave"),
        ("path: 'zip://a.jsonl::http://h/x.zip'", "a chain of file systems is not read"),
    ],
)
def test_a_key_without_effect_is_refused_at_its_line(folder: Path, train: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        planned(folder, train)
    message = str(caught.value)
    assert message.startswith(f"{folder}/r.yaml:5: data.train.")
    assert words in message
    assert "SECRET" not in message
    assert "\n" not in message


HUB = "path: a/b, split: train, config: en, revision: abc, files: ['a*'], format: classification"


def test_a_file_in_the_place_of_a_hub_set_makes_the_key_of_that_file_alone(folder: Path) -> None:
    plain = planned(folder, "path: train.jsonl, format: classification")
    over = planned(folder, HUB, f"data.train.path={folder}/train.jsonl")
    assert plain.key is not None
    assert over.key == plain.key
    assert over.config == plain.config


def test_patterns_still_choose_in_a_folder_in_the_place_of_a_hub_set(folder: Path) -> None:
    over = planned(folder, HUB, f"data.train.path={folder}/rows")
    assert list(over.config["sources"]["train"][0]["files"]) == ["a*"]
    assert over.key == planned(folder, "path: rows, files: ['a*'], format: classification").key


def test_a_key_that_is_set_beside_the_file_is_refused(folder: Path) -> None:
    with pytest.raises(RecipeError, match=r"^--set data\.train\.split: chooses within"):
        planned(folder, HUB, f"data.train.path={folder}/train.jsonl", "data.train.split=test")


def test_one_file_is_not_two_because_its_recipe_named_two_splits(folder: Path) -> None:
    with pytest.raises(RecipeError, match="its own test split"):
        planned(folder, HUB, f"data.train.path={folder}/test.jsonl",
                f"data.test={{path: {folder}/test.jsonl, format: classification}}")  # fmt: skip
