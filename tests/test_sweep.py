"""Sweeps: equal trials on validation alone, kept by their keys, and no chance but the seed."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from pipeline.core.errors import RecipeError
from pipeline.core.recipe import load_recipe, parse_override
from pipeline.core.schema_sweep import Sweep, parse_space
from pipeline.core.store import Store
from pipeline.ladder import make_plan
from pipeline.sweep_check import default_metric, require_metric
from pipeline.sweep_goal import Arm, arms_of
from pipeline.sweep_space import Draw, override, proposals, trials_of, values_of
from tests.tiny_ladder import write_ladder

Refusal = Callable[..., str]
SPACE = {
    "train.learning_rate": {"log": [1e-5, 0.12345]},
    "train.lora_dropout": {"uniform": [0, 0.2]},
    "train.num_train_epochs": {"int": [1, 4]},
    "train.target_modules": {"choice": ["all-linear", ["q_proj", "v_proj"]]},
}


def section(**changes: Any) -> Sweep:
    return Sweep.model_validate({"space": SPACE, **changes})


def figure(draw: Draw) -> float | None:
    """A made-up validation loss; some settings fail."""
    if draw["train.num_train_epochs"] == 4:
        return None
    return abs(draw["train.learning_rate"] - 0.01) + draw["train.lora_dropout"]


def drawn(sweep: Sweep, count: int, before: list[Any] | None = None) -> list[Any]:
    """Trials as the sweep would make them, each round read back from JSON."""
    trials = list(before or [])
    while len(trials) < count:
        trials = json.loads(json.dumps(trials))
        for draw in proposals(sweep, trials, sweep.at_once, lower_is_better=True):
            trials.append([draw, figure(draw)])
    return trials


@pytest.mark.parametrize("sampler", ["tpe", "random"])
@pytest.mark.parametrize("at_once", [1, 3])
def test_a_stopped_sweep_goes_on_with_the_same_proposals(sampler: str, at_once: int) -> None:
    sweep = section(sampler=sampler, at_once=at_once)
    whole = drawn(sweep, 18)
    assert drawn(sweep, 18, whole[:12]) == whole
    assert drawn(section(sampler=sampler, seed=1), 3) != whole[:3]


def test_proposals_stay_within_their_ends() -> None:
    for draw, _ in drawn(section(), 40):
        assert 1e-5 <= draw["train.learning_rate"] <= 0.12345
        assert 0 <= draw["train.lora_dropout"] <= 0.2
        assert draw["train.num_train_epochs"] in {1, 2, 3, 4}
        assert draw["train.target_modules"] in {0, 1}


def test_tpe_learns_from_the_trials_before() -> None:
    found = [value for _, value in drawn(section(), 60) if value is not None]
    early, late = found[:10], found[-10:]
    assert sum(late) < 0.5 * sum(early)


def test_a_grid_is_what_scikit_learn_makes_of_it() -> None:
    from sklearn.model_selection import ParameterGrid

    space = {"a": {"int": [2, 4]}, "b": {"choice": ["x", "y"]}, "c": {"choice": [True, None]}}
    sweep = section(sampler="grid", space=space)
    expected = ParameterGrid({"a": [2, 3, 4], "b": ["x", "y"], "c": [True, None]})
    assert trials_of(sweep) == len(expected)
    found: list[Any] = []
    for _ in range(trials_of(sweep)):
        (draw,) = proposals(sweep, found, 1, lower_is_better=True)
        found.append((draw, 0.0))
    made = [values_of(sweep, draw) for draw, _ in found]
    assert all(point in made for point in expected)
    assert len(made) == len(expected)


def test_a_wide_range_is_counted_and_not_written_out() -> None:
    """Oracle: the digits of a number to the base 10^9."""
    space = {key: {"int": [1, 10**9]} for key in "ab"}
    sweep = section(sampler="grid", space=space)
    assert sweep.space["a"].points == range(1, 10**9 + 1)
    assert trials_of(sweep) == 10**18
    assert section(space=space).space["b"].points is not None
    assert proposals(sweep, [], 2, lower_is_better=True) == [{"a": 1, "b": 1}, {"a": 1, "b": 2}]


@pytest.mark.parametrize(
    "value",
    [1e-5, 1.5e-7, 0.1, 2.0, 8, True, None, "all-linear", "yes", "8", "1e5", "a b", "é: [", ["q"]],
)
def test_an_override_is_read_back_as_it_was(value: Any) -> None:
    key, found = parse_override(override("train.x", value), "any")
    assert key == "train.x"
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"space": {"gates.0.at_least": {"uniform": [0, 1]}}}, "is about the test"),
        ({"space": {"data.test.path": {"choice": ["a"]}}}, "is the test, which a sweep never"),
        ({"space": {"below:data.validation": {"choice": [1]}}}, "rows that trials are judged on"),
        ({"space": {"a": {"int": [2, 1]}}}, "first end must lie below"),
        ({"space": {"a": {"log": [0, 1]}}}, "above 0"),
        ({"space": {"a": {"log": [1, 2], "int": [1, 2]}}}, "exactly one of"),
        ({"space": {"a": {"choice": []}}}, "choice is empty"),
        ({"space": {"a": {"int": [1.5, 2]}}}, "valid integer"),
        ({"sampler": "grid", "space": {"a": {"uniform": [1, 2]}}}, "a grid needs choice or int"),
        ({"sampler": "grid", "trials": 3, "space": {"a": {"int": [1, 2]}}}, "all its points"),
        ({"trails": 3}, "Extra inputs"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused(tree: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Sweep.model_validate(tree)


def test_the_command_line_writes_a_space_as_a_recipe_does() -> None:
    texts = [
        "train.lr=log:1e-5:1e-3",
        "train.r=choice:8,16",
        "n:data.x=choice:true,low",
        "e=int:1:4",
    ]
    found = dict(parse_space(text) for text in texts)
    assert found == yaml.safe_load(
        "{train.lr: {log: [1.0e-5, 1.0e-3]}, train.r: {choice: [8, 16]}, "
        "'n:data.x': {choice: [true, low]}, e: {int: [1, 4]}}"
    )


def test_the_section_is_in_no_key_and_a_control_need_not_have_it(
    ladder: Path, store: Store
) -> None:
    plain = make_plan(ladder, store)
    ladder.write_text(ladder.read_text() + "sweep: {space: {train.lora_r: {int: [2, 4]}}}\n")
    control = ladder.with_name("l2-from-l0.yaml")
    control.write_text(control.read_text() + "sweep: null\n")
    swept = make_plan(ladder, store)
    assert {n.id: n.key for n in swept.nodes.values()} == {
        n.id: n.key for n in plain.nodes.values()
    }


def test_every_model_that_a_recipe_compares_is_an_arm(ladder: Path, store: Store) -> None:
    plan = make_plan(ladder, store, ["train.seeds=[1, 2]"])
    arms = {arm.name: arm.nodes for arm in arms_of(plan, section(seeds="all"))}
    assert set(arms) == {
        "tiny-task", "tiny-task-classifier", "tiny-task-from-l0", "tiny-task-from-l0-classifier"
    }  # fmt: skip
    assert arms["tiny-task-from-l0-classifier"] == (
        "tiny-task-from-l0/train.classify.seed1", "tiny-task-from-l0/train.classify.seed2"
    )  # fmt: skip
    assert all(node in plan.nodes for nodes in arms.values() for node in nodes)
    first = next(iter(arms_of(plan, section())))
    assert first.nodes == ("tiny-task/train.sft.seed1",)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "sweep.space: nothing to try; write it in the recipe, or --space"),
        (["--space", "train.lora_q=int:1:2"], "sweep.space.train.lora_q: --set train.lora_q"),
        (["--space", "train.lora_r=choice:8,9999"], "must be at most 512"),
        (["--space", "train.lora_r=log:8"], "--space: space.train.lora_r.log"),
        (["--space", "train.lora_r"], "write KEY=log:LOW:HIGH"),
        (["--space", "train.mlm_probability=uniform:0.1:0.2"], "make the same training; leave"),
        (["--space", "train.eval_steps=int:1:5"], "is when trials are judged"),
        (["--space", "train.compile=choice:true"], "sweep.space.train.compile: changes no result"),
        (["--space", "train.launch.num_processes=int:1:2"], "num_processes: changes no result"),
        (
            ["--space", "train.lora_r=int:2:4", "--set", "sweep.sampler=grid", "--trials", "5"],
            "--trials: a grid tries all its points; leave it out",
        ),
        (
            ["--space", "train.lora_r=log:2:4", "--set", "sweep.sampler=grid"],
            "--space: space.train.lora_r: a grid needs choice or int",
        ),
        (["--space", "train.lora_r=int:2:4", "--set", "sweep.metric=r2"], "not measured for"),
        (["--space", "train.lora_r=int:2:4", "--set", "train.lora_r=x"], "--set train.lora_r"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    ladder: Path, refusal: Refusal, tmp_path: Path, arguments: list[str], words: str
) -> None:
    told = refusal("sweep", ladder, *arguments)
    assert words in told
    assert ": : " not in told
    assert not (tmp_path / "store").exists()


BAD_SECTIONS: dict[str, tuple[str, str]] = {
    "unknown key": ("space: {train.nope: {int: [1, 2]}}", "sweep.space.train.nope: "),
    "no such recipe": ("space: {'nobody:train.lora_r': {int: [1, 2]}}", "no recipe 'nobody'"),
    "measure of no arm": ("metric: r2", "r2 is not measured for objective sft"),
    "upper end out of bounds": ("space: {train.lora_r: {int: [1, 9999]}}", "must be at most 512"),
    "lower end out of bounds": ("space: {train.lora_r: {int: [0, 8]}}", "greater than or equal to"),
    "nothing changes": ("space: {train.dpo_beta: {uniform: [0.1, 0.2]}}", "make the same training"),
    "scale of the loss": (
        "space: {train.loss_weighting: {choice: [row, token]}}", "losses of two trials"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_SECTIONS)
def test_a_plan_refuses_what_the_sweep_of_its_recipe_would(
    ladder: Path, refusal: Refusal, name: str
) -> None:
    section, words = BAD_SECTIONS[name]
    ladder.write_text(ladder.read_text() + f"sweep: {{{section}}}\n")
    control = ladder.with_name("l2-from-l0.yaml")
    control.write_text(control.read_text() + "sweep: null\n")
    assert words in refusal("plan", ladder, "--no-price")
    if section.startswith("space"):
        assert words in refusal("sweep", ladder)


def arm(objective: str) -> Arm:
    return Arm("m", objective, Path("m.yaml"), ("m/train.x.seed1",), [])


SCALES = [("dpo", "train.dpo_beta", "reward_accuracy"), ("hybrid", "train.hybrid.head", "accuracy"),
          ("mlm", "train.mlm_probability", None), ("sft", "train.loss_weighting", None),
          ("dpo", "m:train.dpo_beta", "reward_accuracy")]  # fmt: skip


@pytest.mark.parametrize(("objective", "key", "other"), SCALES)
def test_settings_that_scale_the_loss_are_not_judged_by_it(
    objective: str, key: str, other: str | None, ladder: Path
) -> None:
    loaded, space = load_recipe(ladder), {key: {"choice": [1, 2]}}
    with pytest.raises(RecipeError, match=other or "leave it out"):
        require_metric(loaded, section(metric="loss", space=space), [arm(objective)])
    if other is None:
        with pytest.raises(RecipeError, match="leave it out"):
            require_metric(loaded, section(space=space), [arm(objective)])
        return
    # Neither where the recipe says nothing, nor by the measure that is named.
    assert default_metric(objective, single=objective == "hybrid") == other
    require_metric(loaded, section(space=space), [arm(objective)])
    require_metric(loaded, section(metric=other, space=space), [arm(objective)])
    # What is said of another recipe changes no arm's loss.
    elsewhere = {f"below:{key.rpartition(':')[2]}": {"choice": [1, 2]}}
    require_metric(loaded, section(metric="loss", space=elsewhere), [arm(objective)])


def gradus(store: Path, *arguments: str | Path) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *map(str, arguments)],
        capture_output=True, text=True, timeout=300,
        env={**os.environ, "GRADUS_STORE": str(store), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


LINE = ["--space", "train.learning_rate=choice:0.001,0.01,1e30", "--space", "train.lora_r=int:2:3"]
LINE += ["--set", "train.max_steps=3", "--set", "sweep.sampler=random", "--json"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """Store, recipe and what a sweep of three trials told."""
    recipe = write_ladder(tmp_path_factory.mktemp("recipes")).with_name("l2-from-l0.yaml")
    store = tmp_path_factory.mktemp("store")
    code, out, err = gradus(store, "sweep", recipe, *LINE, "--trials", "3")
    assert code == 0, err
    return store, recipe, json.loads(out)


def test_every_arm_gets_the_same_trials(swept: Any) -> None:
    told = swept[2]
    assert set(told["arms"]) == {"tiny-task-from-l0", "tiny-task-from-l0-classifier"}
    settings = [
        sorted((r["number"], json.dumps(r["values"])) for r in arm["trials"])
        for arm in told["arms"].values()
    ]
    assert settings[0] == settings[1]
    assert [number for number, _ in settings[0]] == [0, 1, 2]


def test_no_model_sees_a_test_row(swept: Any) -> None:
    store = swept[0]
    assert not (store / "looks").exists()
    made = {artifact.manifest.stage for artifact in Store(store).all()}
    assert "train" in made
    assert not made & {"evaluate", "compare", "bundle", "export", "merge"}


def test_a_figure_is_the_last_validation_of_the_trained_model(swept: Any) -> None:
    store, _, told = swept
    expected = {"tiny-task-from-l0": "loss", "tiny-task-from-l0-classifier": "accuracy"}
    for name, metric in expected.items():
        arm = told["arms"][name]
        assert arm["metric"] == metric
        for record in (r for r in arm["trials"] if r["figure"] is not None):
            folder = Store(store).path_of(record["keys"][0])
            lines = (folder / "history.jsonl").read_text().splitlines()
            last = [json.loads(line) for line in lines if "validation_loss" in line][-1]
            assert record["figure"] == last[f"validation_{metric}"]
            assert last["step"] == 3


def test_a_trial_that_fails_is_told_and_the_others_go_on(swept: Any) -> None:
    for arm in swept[2]["arms"].values():
        for record in arm["trials"]:
            wild = record["values"]["train.learning_rate"] == 1e30
            assert (record["figure"] is None) == wild
            assert wild == ("lower train.learning_rate" in (record["problem"] or ""))
        figures = [r["figure"] for r in arm["trials"] if r["figure"] is not None]
        assert figures
        assert arm["best"]["figure"] == (min if arm["metric"] == "loss" else max)(figures)


def test_the_best_line_finds_its_training_made(swept: Any) -> None:
    store, recipe, told = swept
    for name, arm in told["arms"].items():
        sets = itertools.chain.from_iterable(("--set", text) for text in arm["set"])
        _, out, _ = gradus(store, "plan", recipe, *sets, "--json")
        objective = "classify" if name.endswith("classifier") else "sft"
        status = {stage["id"]: stage["status"] for stage in json.loads(out)["stages"]}
        assert status[f"tiny-task-from-l0/train.{objective}.seed1"] == "hit"


def test_a_second_sweep_runs_nothing_and_more_trials_go_on(swept: Any) -> None:
    store, recipe, told = swept
    before = {artifact.key for artifact in Store(store).all()}
    code, out, err = gradus(store, "sweep", recipe, *LINE, "--trials", "3", "--jobs", "1")
    assert code == 0, err
    assert json.loads(out) == told
    assert {artifact.key for artifact in Store(store).all()} == before
    _, out, err = gradus(store, "sweep", recipe, *LINE, "--trials", "5")
    longer = json.loads(out)
    for name, arm in longer["arms"].items():
        numbered = {r["number"]: r for r in arm["trials"]}
        assert [numbered[r["number"]] for r in told["arms"][name]["trials"]] == told["arms"][name][
            "trials"
        ]
        assert len(numbered) == 5
    # As if the file had never been: what was drawn is drawn again, and found.
    Path(longer["file"]).unlink()
    made = {artifact.key for artifact in Store(store).all()}
    _, out, err = gradus(store, "sweep", recipe, *LINE, "--trials", "5")
    for name, arm in json.loads(out)["arms"].items():
        for again, first in zip(arm["trials"], longer["arms"][name]["trials"], strict=True):
            assert {**again, "seconds": 0} == {**first, "seconds": 0}
    assert {artifact.key for artifact in Store(store).all()} == made
