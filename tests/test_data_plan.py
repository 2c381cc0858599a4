"""The data side of a plan: which render an objective asks for, and what does not go together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import ModelError, RecipeError
from pipeline.core.store import Store
from pipeline.ladder import make_plan
from pipeline.plan import Node
from pipeline.rehearsal import rehearse

ROWS: dict[str, list[dict[str, Any]]] = {
    "text": [{"text": f"the ship {n} sails"} for n in range(20)],
    "classification": [{"text": f"the ship {n} sails", "label": "ab"[n % 2]} for n in range(20)],
    "preference": [{"prompt": f"ship {n}?", "chosen": "aye", "rejected": "no"} for n in range(20)],
    "tagging": [{"text": f"Ann {n}", "entities": [{"start": 0, "end": 3, "label": "PER"}]}
                for n in range(20)],
    "regression": [{"text": f"the ship {n} sails", "value": n / 2} for n in range(20)],
}  # fmt: skip
OBJECTIVES = {
    "cpt": ("text", "text"), "sft": ("classification", "sft"), "dpo": ("preference", "preference"),
    "channel": ("classification", "channel"), "hybrid": ("classification", "hybrid"),
    "classify": ("classification", "classify"), "tag": ("tagging", "tag"),
    "regress": ("regression", "regress"),
}  # fmt: skip
Planned = Callable[..., Node]


@pytest.fixture
def planned(ladder: Path, store: Store) -> Planned:
    """The `prepare` node of a recipe with an objective and one format."""

    def node(objective: str, form: str, data: str = "", train: str = "", test: str = "") -> Node:
        folder = ladder.parent
        for name, rows in ROWS.items():
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / f"{name}.jsonl").write_text(text)
            (folder / f"{name}-test.jsonl").write_text(text.replace("ship", "gull"))
        recipe = folder / "one.yaml"
        recipe.write_text(
            "name: one\nlevel: L1\nbase: l0.yaml\ndata:\n"
            f"  train: {{path: {form}.jsonl, format: {form}}}\n"
            "  validation: {carve: 0.2}\n"
            f"  test: {{path: {test or form}-test.jsonl, format: {test or form}}}\n{data}"
            f"train:\n  objective: {objective}\n  max_length: 64\n{train}"
        )
        plan = make_plan(recipe, store)
        (found,) = [n for n in plan.nodes.values() if n.id.startswith("one/prepare.")]
        return found

    return node


@pytest.mark.parametrize(("objective", "form", "render"), [
    (objective, *both) for objective, both in OBJECTIVES.items()
])  # fmt: skip
def test_each_objective_has_a_dataset_of_its_own_render(
    planned: Planned, objective: str, form: str, render: str
) -> None:
    node = planned(objective, form)
    assert (node.id, node.config["render"]) == (f"one/prepare.{render}", render)
    assert node.config["packing"] is False
    assert len(node.key or "") == 64


@pytest.mark.parametrize("objective", ["cpt", "sft", "channel"])
def test_rows_of_next_tokens_are_packed_where_asked(planned: Planned, objective: str) -> None:
    assert planned(objective, OBJECTIVES[objective][0], train="  packing: true\n").config["packing"]


def test_a_channel_model_is_told_no_system_text(planned: Planned) -> None:
    system = "  system: be brief\n"
    told, plain = (planned("channel", "classification", data=data) for data in (system, ""))
    assert told.config["system"] is None
    assert told.key == plain.key
    assert planned("sft", "classification", data=system).config["system"] == "be brief"


MISFITS = [
    ("tag", "classification", "", "", "data.train.format: classification: objective tag learns"),
    ("regress", "classification", "", "", "objective regress learns from format regression"),
    ("dpo", "classification", "", "", "objective dpo learns from format preference"),
    ("hybrid", "preference", "", "", "objective hybrid learns from format classification"),
    ("channel", "text", "", "", "objective channel learns from format classification"),
    ("sft", "tagging", "", "", "objective sft cannot learn from it; name objective tag"),
    ("classify", "regression", "", "", "name objective regress, or rows of another format"),
    ("dpo", "preference", "", "over_length: split", "train.over_length: objective dpo: split"),
    ("hybrid", "classification", "", "over_length: truncate-left", "the head reads whole"),
    ("channel", "classification", "", "over_length: truncate-left", "without the label"),
    ("tag", "tagging", "unicode: NFC", "", "data.clean.unicode: changes texts"),
    ("tag", "tagging", "html: true", "", "data.clean.html: changes texts"),
    ("tag", "tagging", "whitespace: true", "", "data.clean.whitespace: changes texts"),
    ("tag", "tagging", "control_characters: true", "", "clean the rows before they get entities"),
    ("tag", "tagging", "damaged: remove", "", "or leave it out (report, drop)"),
    ("tag", "tagging", "personal_data: redact", "", "data.clean.personal_data: changes texts"),
    ("tag", "tagging", "label_errors: report", "", "looks at classes, and format tagging has none"),
    ("regress", "regression", "label_errors: drop", "", "looks at classes, and format regression"),
    ("regress", "regression", "balance: cap", "", "caps or weighs classes"),
]


@pytest.mark.parametrize(("objective", "form", "clean", "train", "words"), MISFITS)
def test_what_does_not_go_together_is_one_line_at_plan_time(
    planned: Planned, objective: str, form: str, clean: str, train: str, words: str
) -> None:
    data = f"  clean: {{{clean}}}\n" if clean else ""
    with pytest.raises(RecipeError) as caught:
        planned(objective, form, data=data, train=f"  {train}\n" if train else "")
    message = str(caught.value)
    assert words in message
    assert "\n" not in message
    assert message.startswith(("one.yaml:", "/")) or "one.yaml:" in message.partition(" ")[0]


@pytest.mark.parametrize("clean", ["damaged: drop", "personal_data: drop", "duplicates: drop",
                                   "near_duplicates: drop", "min_characters: 3"])  # fmt: skip
def test_what_drops_rows_whole_is_fine_with_entities(planned: Planned, clean: str) -> None:
    assert planned("tag", "tagging", data=f"  clean: {{{clean}}}\n").config["render"] == "tag"


def test_a_model_of_preferences_may_be_judged_on_classes(planned: Planned) -> None:
    node = planned("dpo", "preference", test="classification")
    assert node.config["sources"]["test"]["format"] == "classification"
    with pytest.raises(RecipeError, match=r"data\.test\.format: tagging: objective dpo learns"):
        planned("dpo", "preference", test="tagging")


FEATURES = "  features: [{name: digits, pattern: '\\d'}, {name: size, column: size}]\n"


def test_features_are_in_the_key_of_the_heads_rows_alone(planned: Planned) -> None:
    told = planned("classify", "classification", data=FEATURES)
    assert told.config["features"] == [
        {"name": "digits", "pattern": r"\d"},
        {"name": "size", "column": "size"},
    ]
    assert told.key != planned("classify", "classification").key


BROKEN = [
    ("[{name: a}]", "give exactly one of column or pattern"),
    ("[{name: a, column: b, pattern: c}]", "give exactly one of column or pattern"),
    ("[{name: a, pattern: '(['}]", "'([' is no regular expression"),
    ("[{name: a, pattern: '(?P<x>.)(?P<x>.)'}]", "is no regular expression"),
    ("[{name: a, pattern: ''}]", "at least 1 character"),
    ("[{name: 'a b', column: b}]", "pattern"),
    ("[{name: a, column: b}, {name: a, column: c}]", "features names 'a' twice; rename one"),
    ("{a: b}", "features"),
]


@pytest.mark.parametrize(("features", "words"), BROKEN)
def test_features_that_nobody_could_compute_are_refused(
    planned: Planned, features: str, words: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        planned("classify", "classification", data=f"  features: {features}\n")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_features_that_nobody_reads_are_refused(planned: Planned) -> None:
    with pytest.raises(RecipeError, match=r"data\.features are joined to what objective classify"):
        planned("sft", "classification", data=FEATURES)


def test_made_rows_have_neither_places_nor_columns(planned: Planned) -> None:
    augment = "  augment: {kind: paraphrase, endpoint: 'http://127.0.0.1:9/v1', model: m}\n"
    with pytest.raises(RecipeError, match=r"data\.augment: entities stand at places"):
        planned("tag", "tagging", data=augment)
    with pytest.raises(RecipeError, match=r"data\.augment: rows that a model makes have no col"):
        planned("classify", "classification", data=augment + FEATURES)


@pytest.mark.parametrize("objective", ["dpo", "channel", "hybrid", "tag", "regress"])
def test_a_base_without_a_template_is_told_before_anything_runs(
    tmp_path: Path, store: Store, model_folder: Path, objective: str
) -> None:
    form = OBJECTIVES[objective][0]
    (model_folder / "tokenizer_config.json").write_text("{}")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS[form]))
    recipe = tmp_path / "one.yaml"
    recipe.write_text(
        f"name: one\nlevel: L1\nbase: {model_folder}\ndata:\n"
        f"  train: {{path: rows.jsonl, format: {form}}}\ntrain: {{objective: {objective}}}\n"
    )
    plan = make_plan(recipe, store)
    if objective in {"tag", "regress"}:
        rehearse(plan, store)
        return
    with pytest.raises(ModelError, match=rf"no chat_template, which objective {objective} needs"):
        rehearse(plan, store)
