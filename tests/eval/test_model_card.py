"""The model card: metadata that the hub's own library reads back, and no fact that is invented."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData, metadata_load
from report_case import comparison, facts
from test_report import HOSTILE, poisoned

from eval.card_words import plain
from eval.model_card import model_card
from eval.report import write_report


def card(tree: dict[str, Any] | None = None, about: dict[str, Any] | None = None) -> ModelCard:
    """A card as huggingface_hub parses it: it refuses metadata that is none."""
    text = model_card(tree or comparison(), "banking-intents", facts() if about is None else about)
    return ModelCard(text)


def test_metadata_is_what_the_hubs_library_reads_back(tmp_path: Path) -> None:
    write_report(comparison(), "banking-intents", facts(), tmp_path)
    found = metadata_load(tmp_path / "README.md")
    assert found is not None
    results = ModelCardData(**found).eval_results
    assert results is not None
    arm = comparison()["arms"][0]
    assert (results[0].metric_type, results[0].metric_value) == ("accuracy", 0.921)
    assert arm["accuracy"]["estimate"] == 0.921
    assert {result.metric_type for result in results} == set(found["metrics"])
    assert {result.dataset_type for result in results} == {"example/banking"}
    assert len(results) == 3 * sum(row["role"] == "model" for row in comparison()["arms"])
    assert (found["base_model"], found["base_model_relation"]) == ("example/base-0.6b", "adapter")
    assert (found["library_name"], found["pipeline_tag"]) == ("peft", "text-classification")
    assert (found["datasets"], found["language"]) == (["example/banking"], ["en"])
    assert found["model-index"][0]["name"] == "banking-intents"


def test_what_is_not_known_is_said_to_be_so() -> None:
    found = card(about={})
    assert found.data.license == "unknown"
    for name in ("base_model", "datasets", "language", "library_name", "pipeline_tag"):
        assert found.data.get(name) is None
    for row in ("Base", "Architecture", "Size", "Training method", "Language", "Licence"):
        assert f"| {row} | not known |" in found.text
    assert "No source of training rows is known." in found.text


def test_a_licence_is_nobodys_guess() -> None:
    about = facts()
    about["model"]["base_licence"] = "apache-2.0"
    assert card().data.license == "unknown"
    found = card(about=about)
    assert found.data.license == "apache-2.0"
    assert "| Licence | apache-2.0 (that of the base: the recipe names none) |" in found.text
    assert "| Licence of the base | apache-2.0 |" in found.text
    assert re.search(r"\| letters\.jsonl \| banking-l1 \| 52,114 \| not known \|", found.text)
    assert "What its base was trained on is not known here." in found.text


def test_the_licence_that_a_recipe_names_is_the_models() -> None:
    about = facts()
    about["model"] |= {"base_licence": "apache-2.0", "licence": "CC-BY-NC-4.0"}
    assert card(about=about).data.license == "cc-by-nc-4.0"
    about["model"]["licence"] = "internal use"
    found = card(about=about)
    assert (found.data.license, found.data.license_name) == ("other", "internal use")
    assert "| Licence | internal use |" in found.text


def test_it_tells_the_figures_the_risks_and_the_recommendation() -> None:
    told, text = comparison(), card().text
    for row in told["arms"]:
        assert f"{row['accuracy']['estimate']:.3f} | [{row['accuracy']['low']:.3f}" in text
    for line in [*told["sentences"], *told["recommendation"]["words"]]:
        assert plain(line) in text
    for line in told["risks"][0]["lines"]:
        assert plain(line["shown"] or f"not measured: {line['why']}") in text
    assert "596,049,920 parameters, 4,587,520 of them trained" in text


def test_risks_that_were_not_measured_are_told_as_such() -> None:
    tree = {**comparison(), "risks": None}
    assert "Not measured: bias, untrue output, privacy" in card(tree).text


@pytest.mark.parametrize(
    ("changes", "task", "library", "relation"),
    [
        ({"objectives": ["sft"]}, "text-generation", "peft", "adapter"),
        ({"objectives": ["tag"]}, "token-classification", "peft", "adapter"),
        ({"training": {"method": "full"}}, "text-classification", "transformers", "finetune"),
        ({"over_base": False}, "text-classification", "peft", None),
        ({"base_kind": "scratch", "base": "l0"}, "text-classification", "peft", None),
    ],
)
def test_task_library_and_relation_follow_the_training(
    changes: dict[str, Any], task: str, library: str, relation: str | None
) -> None:
    about = facts()
    about["model"] |= changes
    data = card(about=about).data
    assert (data.pipeline_tag, data.library_name) == (task, library)
    assert data.get("base_model_relation") == relation
    assert (data.base_model is None) == (changes.get("base_kind") == "scratch")


def test_hostile_words_open_no_tag_no_table_and_no_metadata() -> None:
    about = facts()
    about["model"] |= {"sources": poisoned(about["model"]["sources"]), "base": HOSTILE}
    tree = comparison()
    for name in ("sentences", "risks", "recommendation"):
        tree[name] = poisoned(tree[name])
    text = model_card(tree, f"x\n---\nlicense: mit\n{HOSTILE}", about)
    head = yaml.safe_load(text.split("\n---\n")[0])
    assert head["license"] == "unknown"
    body = text.split("\n---\n", 1)[1]
    outside = re.sub(r"```.*?```", "", body, flags=re.DOTALL)
    assert not re.search(r"(?<!\\)<", outside)
    tables = [line for line in outside.splitlines() if line.startswith("|")]
    cells = [len(re.findall(r"(?<!\\)\|", line)) for line in tables]
    assert set(cells) <= {3, 4, 5, 9}


def test_card_and_page_are_imported_in_any_order() -> None:
    for first, second in (("eval.model_card", "eval.report"), ("eval.report", "eval.model_card")):
        code = f"import {first}, {second}"
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
