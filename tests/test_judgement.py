"""What a plan judges: suites as the models are asked, and every level's own gates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.core.store import Store
from pipeline.ladder import make_plan
from tests.tiny_ladder import objective


def test_an_extra_task_suite_is_rendered_for_each_form(ladder: Path, store: Store) -> None:
    text = ladder.read_text()
    extra = "extra: {path: task-test.jsonl, format: classification}, general:"
    ladder.write_text(text.replace("{general:", "{" + extra, 1))
    plan = make_plan(ladder, store)
    for name, render in (("sft", "sft"), ("classify", "classify")):
        inputs = plan.nodes[f"tiny-task/evaluate.{name}.seed1"].inputs
        assert plan.nodes[inputs["suite.extra"]].config["render"] == render


def test_gates_of_the_levels_below_decide_too(ladder: Path, store: Store) -> None:
    below = ladder.with_name("l1.yaml")
    below.write_text(
        below.read_text()
        + "gates:\n  - {suite: test, metric: loss, against: base, at_most_ratio: 0.01}\n"
    )
    plan = make_plan(ladder, store)
    assert "tiny-l1/compare" in plan.gates
    assert "tiny-l1/compare" in plan.nodes["tiny-task/bundle"].inputs.values()


def test_control_is_asked_as_the_recipe_is(ladder: Path, store: Store) -> None:
    plan = make_plan(ladder, store, ["evaluate.max_new_tokens=12"])
    asked = {
        node.config["max_new_tokens"]
        for node in plan.nodes.values()
        if node.stage == "evaluate" and ".sft." in node.id
    }
    assert asked == {12}


def test_a_recipes_head_is_served_beside_its_writer(ladder: Path, store: Store) -> None:
    plan = make_plan(ladder, store)
    bundle = plan.nodes["tiny-task/bundle"]
    assert [head["name"] for head in bundle.config["heads"]] == ["tiny-task-classifier"]
    made = bundle.inputs["head.tiny-task-classifier"]
    assert plan.nodes[made].stage == "export"
    assert not [note for note in plan.notes if "not served" in note]


def test_base_of_a_hub_model_is_served_under_a_plain_name(
    ladder: Path, store: Store, model_folder: Path
) -> None:
    odd = model_folder.rename(model_folder.with_name("my odd model"))
    ladder.write_text(ladder.read_text().replace("base: l1.yaml", f"base: '{odd}'"))
    text = ladder.read_text().replace("  control: l2-from-l0.yaml\n", "")
    ladder.write_text(text.replace("  suites: {general", "  suites: {general"))
    plan = make_plan(ladder, store)
    assert plan.nodes["tiny-task/bundle"].config["base"]["name"] == "my-odd-model"


@pytest.mark.parametrize("text", ["- a list", "x: [", ""])
def test_a_launch_file_that_is_none_is_refused(ladder: Path, gradus: Any, text: str) -> None:
    ladder.with_name("odd.yaml").write_text(text)
    config = ladder.with_name("odd.yaml")
    result = gradus("plan", ladder, "--set", f"train.launch.config={config}")
    assert result.exit_code == 2
    assert "not an accelerate configuration" in result.stderr


def test_plan_says_whether_an_l1_stands_below(ladder: Path, store: Store) -> None:
    control = make_plan(ladder.with_name("l2-from-l0.yaml"), store)
    assert make_plan(ladder, store).nodes["tiny-task/compare"].config["through_l1"] is True
    assert control.nodes["tiny-task-from-l0/compare"].config["through_l1"] is False


def test_hybrid_is_two_names_over_one_training(ladder: Path, store: Store) -> None:
    objective(ladder, "hybrid")
    plan = make_plan(ladder, store)
    writer, classifier = plan.outcomes[:2]
    assert [o.model.name for o in (writer, classifier)] == ["tiny-task", "tiny-task-classifier"]
    assert writer.model.adapter == classifier.model.adapter
    assert writer.bundle is not None
    assert classifier.bundle is None
    arms = {
        node.id: node.config["arm"]
        for node in plan.nodes.values()
        if node.stage == "evaluate" and ".hybrid" in node.id
    }
    assert arms == {
        "tiny-task/evaluate.hybrid.seed1": "generate",
        "tiny-task/evaluate.hybrid-classifier.seed1": "classifier",
    }
    heads = plan.nodes["tiny-task/evaluate.hybrid-classifier.seed1"].inputs
    assert {role for role in heads if role.startswith("suite.")} == {"suite.test"}
    models = plan.nodes["tiny-task/compare"].config["models"]
    assert [m["name"] for m in models if m["role"] == "model"] == [
        "tiny-task", "tiny-task-classifier",
    ]  # fmt: skip


def test_preferences_are_measured_from_the_model_below(ladder: Path, store: Store) -> None:
    pairs = '{"prompt": "the rain", "chosen": "weather", "rejected": "kitchen"}\n'
    for name in ("task", "task-test"):
        ladder.with_name(f"{name}.jsonl").write_text(pairs * 3)
    objective(ladder, "dpo")
    ladder.write_text(ladder.read_text().replace("format: classification", "format: preference"))
    plan = make_plan(ladder, store)
    inputs = plan.nodes["tiny-task/evaluate.dpo.seed1"].inputs
    assert inputs["below.root"] == inputs["root"]
    assert inputs["below.adapter"] == "tiny-l1/export.cpt.seed1"


def test_a_phase_is_told_beside_the_parent_and_not_served(ladder: Path, store: Store) -> None:
    phases = """\
phases:
  - name: reading
    data: {train: {path: domain.jsonl}, validation: {carve: 0.1}}
    train: {objective: cpt, method: lora, lora_r: 4, max_length: 32, precision: fp32}
  - name: talking
    data: {train: {path: domain.jsonl}, validation: {carve: 0.1}}
    train: {objective: cpt, method: lora, lora_r: 4, max_length: 32, precision: fp32}
"""
    objective(ladder, "sft", phases)
    plan = make_plan(ladder, store)
    models = plan.nodes["tiny-task/compare"].config["models"]
    assert [(m["name"], m["role"]) for m in models] == [
        ("tiny-task", "model"), ("tiny-l1", "parent"), ("tiny-l0", "base"),
        ("tiny-task.talking", "phase"), ("tiny-task.reading", "phase"),
    ]  # fmt: skip
    assert len({m["name"] for m in models}) == len(models)
    bundle = plan.nodes["tiny-task/bundle"].config
    assert [adapter["name"] for adapter in bundle["adapters"]] == ["tiny-l1", "tiny-task"]


def test_several_recipes_between_are_each_judged(ladder: Path, store: Store) -> None:
    below = ladder.with_name("l1b.yaml")
    below.write_text(ladder.with_name("l1.yaml").read_text().replace("tiny-l1", "tiny-l1b")
                     .replace("base: l0.yaml", "base: l1.yaml"))  # fmt: skip
    objective(ladder, "sft")
    ladder.write_text(ladder.read_text().replace("base: l1.yaml", "base: l1b.yaml"))
    plan = make_plan(ladder, store)
    models = plan.nodes["tiny-task/compare"].config["models"]
    assert [(m["name"], m["role"]) for m in models] == [
        ("tiny-task", "model"), ("tiny-l1b", "parent"), ("tiny-l1", "parent"), ("tiny-l0", "base"),
    ]  # fmt: skip


def test_what_is_merged_alone_is_judged_as_it_is_served(ladder: Path, store: Store) -> None:
    objective(ladder, "[sft, classify]")
    ladder.write_text(ladder.read_text().replace("export: [stacked, merged]", "export: merged"))
    plan = make_plan(ladder, store)
    for name in ("sft", "classify"):
        node = plan.nodes[f"tiny-task/evaluate.{name}.seed1"]
        assert node.inputs["root"] == f"tiny-task/merge.{name}.seed1"
        assert "adapter" not in node.inputs
        assert node.inputs["trained"] == f"tiny-task/train.{name}.seed1"
    bundle = plan.nodes["tiny-task/bundle"]
    assert bundle.inputs["root"] == "tiny-task/merge.sft.seed1"
    assert (bundle.config["base"]["name"], bundle.config["adapters"]) == ("tiny-task", [])


def test_a_comparison_takes_only_what_it_reads(ladder: Path, store: Store) -> None:
    inputs = make_plan(ladder, store).nodes["tiny-task/compare"].inputs
    assert {role for role in inputs if not role.startswith("model")} == {
        "data.sft",
        "data.classify",
        *(f"trained{index}" for index in range(4)),
    }


def test_the_licence_of_a_recipe_reaches_its_card_and_no_training(
    ladder: Path, store: Store
) -> None:
    before = make_plan(ladder, store)
    plan = make_plan(ladder, store, ["licence=CC-BY-4.0"])
    assert plan.nodes["tiny-task/compare"].config["licence"] == "CC-BY-4.0"
    assert "licence" not in before.nodes["tiny-task/compare"].config
    node = "tiny-task/train.sft.seed1"
    assert plan.nodes[node].key == before.nodes[node].key
