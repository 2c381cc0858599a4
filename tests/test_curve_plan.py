"""The learning curve of a plan: which points there are, and that nothing else of them differs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.store import Store
from pipeline.curve_plan import curve_stage
from pipeline.display import plan_json, print_plan
from pipeline.ladder import make_plan
from pipeline.plan import Node, Plan
from pipeline.price_rows import rows_of
from pipeline.price_view import print_price
from pipeline.rehearsal import rehearse

CURVE = "{shares: [0.1, 0.5, 1.0], flipped: [0.0, 0.2]}"
SEEDS = ["train.seeds=[1, 2]"]
# The report tells the curve, and a bundle stands on its report.
_JUDGED = {"tiny-task/compare", "tiny-task/bundle"}


@pytest.fixture
def curved(ladder: Path) -> Path:
    """The tiny L2 with a learning curve, without its control."""
    text = ladder.read_text().replace(
        "  control: l2-from-l0.yaml\n", f"  learning_curve: {CURVE}\n"
    )
    ladder.write_text(text)
    return ladder


def _of_curve(plan: Plan, stage: str) -> dict[str, Node]:
    return {
        node.id: node
        for node in plan.nodes.values()
        if curve_stage(node.id) == f"tiny-task/curve.{stage}"
    }


def _points(plan: Plan) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = plan.nodes["tiny-task/compare"].config["curve"]["points"]
    return found


def test_every_share_and_flip_is_trained_in_both_forms_with_every_seed(
    curved: Path, store: Store
) -> None:
    plan = make_plan(curved, store, SEEDS)
    trained = {
        (n.config["objective"], *(plan.nodes[n.inputs["data"]].config["thin"].values()))
        for n in _of_curve(plan, "train").values()
    }
    assert trained == {
        (form, share, flipped, seed)
        for form in ("sft", "classify")
        for share, flipped in ((0.1, 0.0), (0.5, 0.0), (1.0, 0.2))
        for seed in (1, 2)
    }
    judged = {
        (p["arm"], p["share"], p["flipped"], p["seed"])
        for p in _points(plan)
        if p["arm"] in {"generate", "classifier"}
    }
    assert judged == {
        (arm, share, flipped, seed)
        for arm in ("generate", "classifier")
        for share, flipped in ((0.1, 0.0), (0.5, 0.0), (1.0, 0.0), (1.0, 0.2))
        for seed in (1, 2)
    }


def test_all_rows_are_the_recipes_own_models(curved: Path, store: Store) -> None:
    plan = make_plan(curved, store, SEEDS)
    inputs = plan.nodes["tiny-task/compare"].inputs
    for index, point in enumerate(_points(plan)):
        own = inputs[f"curve{index}"].startswith("tiny-task/evaluate.")
        if point["arm"] in {"generate", "classifier"}:
            assert own == (point["share"] == 1 and not point["flipped"])


def test_a_point_differs_from_the_recipes_own_training_in_its_rows_alone(
    curved: Path, store: Store
) -> None:
    plan = make_plan(curved, store, SEEDS)
    for node in _of_curve(plan, "train").values():
        form, seed = node.config["objective"], node.config["seed"]
        own = plan.nodes[f"tiny-task/train.{form}.seed{seed}"]
        assert (node.stage, node.config, node.options) == (own.stage, own.config, own.options)
        data, whole = (plan.nodes[n.inputs["data"]] for n in (node, own))
        assert {**data.config, "thin": None} == {**whole.config, "thin": None}
        assert data.inputs == whole.inputs
        assert {r: i for r, i in node.inputs.items() if r != "data"} == {
            r: i for r, i in own.inputs.items() if r != "data"
        }


def test_every_point_is_judged_on_the_recipes_own_test_rows_and_no_other_suite(
    curved: Path, store: Store
) -> None:
    plan = make_plan(curved, store, SEEDS)
    for node in _of_curve(plan, "evaluate").values():
        suites = {role: i for role, i in node.inputs.items() if role.startswith("suite.")}
        assert list(suites) == ["suite.test"]
        assert suites["suite.test"].startswith("tiny-task/prepare.")
        weights = {node.inputs["adapter"], node.inputs["trained"]}
        assert all(curve_stage(weight) is not None for weight in weights)


def test_both_forms_read_the_same_rows_of_a_seed(curved: Path, store: Store) -> None:
    plan = make_plan(curved, store, SEEDS)
    thinned: dict[str, set[str]] = {}
    for name, node in _of_curve(plan, "prepare").items():
        thinned.setdefault(node.config["render"], set()).add(name.partition(".share")[2])
        assert node.config["thin"]["seed"] in {1, 2}
    assert thinned["sft"] == thinned["classify"]


def test_the_textbook_pair_learns_from_the_same_thinned_rows(curved: Path, store: Store) -> None:
    plan = make_plan(curved, store, SEEDS)
    inputs = plan.nodes["tiny-task/compare"].inputs
    for index, point in enumerate(_points(plan)):
        if point["arm"] in {"tfidf_bayes", "tfidf_logreg"}:
            learned = plan.nodes[plan.nodes[inputs[f"curve{index}"]].inputs["data"]]
            thin = learned.config.get("thin", {"share": 1.0, "flipped": 0.0})
            assert (thin["share"], thin["flipped"]) == (point["share"], point["flipped"])
            assert inputs[point["data"]] == learned.id


def test_a_recipe_without_a_curve_keeps_its_keys(curved: Path, store: Store) -> None:
    told = make_plan(curved, store, SEEDS)
    curved.write_text(curved.read_text().replace(f"  learning_curve: {CURVE}\n", ""))
    plain = make_plan(curved, store, SEEDS)
    mine = {name: node.key for name, node in plain.nodes.items() if name not in _JUDGED}
    assert {name: told.nodes[name].key for name in mine} == mine
    assert "curve" not in plain.nodes["tiny-task/compare"].config


def test_epochs_are_divided_by_the_share_so_that_as_many_rows_are_read(
    curved: Path, store: Store
) -> None:
    epochs = ["train.max_steps=null", "train.num_train_epochs=3"]
    plan = make_plan(curved, store, epochs)
    passes = {
        plan.nodes[node.inputs["data"]].config["thin"]["share"]: node.config["num_train_epochs"]
        for node in _of_curve(plan, "train").values()
    }
    assert passes == {0.1: 30.0, 0.5: 6.0, 1.0: 3.0}
    assert plan.nodes["tiny-task/compare"].config["curve"]["budget"] == {"num_train_epochs": 3.0}
    fixed = make_plan(curved, store)
    assert {n.config["max_steps"] for n in _of_curve(fixed, "train").values()} == {8}


def test_seeds_of_its_own_are_trained_for_all_rows_too(curved: Path, store: Store) -> None:
    plan = make_plan(curved, store, ["evaluate.learning_curve.seeds=[1, 7]"])
    whole = [p for p in _points(plan) if p["share"] == 1 and not p["flipped"]]
    inputs = plan.nodes["tiny-task/compare"].inputs
    reports = {
        p["seed"]: inputs[f"curve{_points(plan).index(p)}"]
        for p in whole
        if p["arm"] == "classifier"
    }
    assert reports[1] == "tiny-task/evaluate.classify.seed1"
    new = plan.nodes[plan.nodes[reports[7]].inputs["trained"]]
    assert (new.config["seed"], new.inputs["data"]) == (7, "tiny-task/prepare.classify")


def test_a_label_writer_is_followed_by_its_likeliest_label_where_it_is_asked(
    curved: Path, store: Store
) -> None:
    plan = make_plan(
        curved, store, ["evaluate.arms=[generate, constrained, likelihood, classifier]"]
    )
    arms = {point["arm"] for point in _points(plan)}
    assert arms == {"likelihood", "classifier", "tfidf_bayes", "tfidf_logreg"}


def test_a_merged_export_is_merged_at_every_point(curved: Path, store: Store) -> None:
    plan = make_plan(curved, store, ["serve.export=merged"])
    merged = _of_curve(plan, "merge")
    assert len(merged) == len(_of_curve(plan, "train"))
    for node in _of_curve(plan, "evaluate").values():
        assert node.inputs["root"] in merged


def test_a_curve_without_test_rows_that_have_labels_is_refused(
    curved: Path, refusal: Callable[..., str]
) -> None:
    text = curved.read_text().replace(
        "  test: {path: task-test.jsonl, format: classification}\n", ""
    )
    curved.write_text(text.partition("gates:")[0])
    said = refusal("plan", curved)
    assert "evaluate.learning_curve: thins rows by their label" in said


def test_the_plan_tells_the_curve_by_its_stages_and_json_each_of_them(
    curved: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_plan(curved, store, SEEDS)
    print_plan(plan, store)
    told = capsys.readouterr().out
    assert "tiny-task/curve.train (12 stages)" in told
    assert "share0.1" not in told
    names = [stage["id"] for stage in plan_json(plan, store)["stages"]]
    assert "tiny-task/curve.train.sft.share0.1.seed2" in names


def test_the_price_tells_the_longest_training_of_each_forms_curve(
    curved: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_plan(curved, store, SEEDS)
    trainings = [
        {"id": name, "status": "run", "unknown": "until its rows are there", "flops": 1.0 * number}
        for number, name in enumerate(_of_curve(plan, "train"))
    ]
    none = dict.fromkeys(("updates", "tokens", "flops", "hours", "cost"))
    device = {"name": "a", "gpu": True, "memory_bytes": 1e9, "flops_per_s": None, "source": "b"}
    print_price(
        {"device": device, "mfu": 0.4, "price_per_hour": None, "trainings": trainings,
         "to_run": none}
    )  # fmt: skip
    lines = [line for line in capsys.readouterr().out.splitlines() if "curve" in line]
    assert lines == [
        f"tiny-task/curve.train.{form}.flipped0.2.seed2, the longest of 6 of the learning curve"
        for form in ("sft", "classify")
    ]


def test_the_price_of_a_point_counts_its_share_of_the_rows(curved: Path, store: Store) -> None:
    plan = make_plan(curved, store)
    counted = {
        plan.nodes[node.inputs["data"]].config["thin"]["share"]: rows_of(node, plan, store).count
        for node in _of_curve(plan, "train").values()
    }
    assert counted == {0.1: 6, 0.5: 30, 1.0: 60}


def test_rows_are_rehearsed_once_and_not_for_every_point(
    curved: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Any] = []
    monkeypatch.setattr(
        "pipeline.stages.prepare.rehearse_rows", lambda config, _files: read.append(config)
    )
    plan = make_plan(curved, store)
    rehearse(plan, store)
    prepared = [n for n in plan.nodes.values() if n.stage == "prepare"]
    assert len(read) == len(prepared) - len(_of_curve(plan, "prepare"))
    assert all("thin" not in config for config in read)
