"""Several trainings in one recipe, and an adapter that is trained on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save, save_file

from pipeline.core.errors import RecipeError
from pipeline.core.store import Store
from pipeline.ladder import make_plan
from pipeline.plan import Plan
from pipeline.run import execute
from tests.tiny_ladder import write_ladder

PHASES = """\
name: tiny-phased
level: L2
base: l0.yaml
phases:
  - name: reading
    data: {train: {path: domain.jsonl}, validation: {carve: 0.1}}
    train:
      {objective: cpt, method: lora, lora_r: 4, packing: true, max_length: 32,
       global_batch_size: 8, max_steps: 6, learning_rate: 3.0e-3, precision: fp32}
data:
  train: {path: task.jsonl, format: classification}
  validation: {carve: 0.2}
  test: {path: task-test.jsonl, format: classification}
train:
  {objective: sft, method: lora, lora_r: 4, global_batch_size: 8, max_steps: 6,
   learning_rate: 3.0e-3, max_length: 64, precision: fp32}
# The instructions of the default suites are longer than this base's context.
evaluate: {forgetting: false}
serve: {max_model_len: 128}
"""
ON = """\
extends: phased.yaml
name: tiny-on
phases: []
train: {init_from: first.yaml}
"""
FIRST = """\
extends: phased.yaml
name: tiny-first
phases: []
"""


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    write_ladder(tmp_path)
    (tmp_path / "phased.yaml").write_text(PHASES)
    (tmp_path / "first.yaml").write_text(FIRST)
    (tmp_path / "on.yaml").write_text(ON)
    return tmp_path


def test_second_phase_stands_on_the_first(recipes: Path, tmp_path: Path) -> None:
    plan = make_plan(recipes / "phased.yaml", Store(tmp_path / "store"))
    nodes = plan.nodes
    own = nodes["tiny-phased/train.sft.seed1"]
    assert own.inputs["parent"] == "tiny-phased.reading/export.cpt.seed1"
    # Its rows were compared with the test set of the recipe, as those of a level below are.
    assert "tiny-phased.reading/prepare.text" in nodes["tiny-phased/prepare.sft"].inputs.values()
    assert plan.outcomes[0].model.rank == 8


def test_change_of_a_phase_changes_what_stands_on_it(recipes: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    first = make_plan(recipes / "phased.yaml", store).nodes
    other = make_plan(recipes / "phased.yaml", store, ["phases.0.train.lora_r=8"]).nodes
    name = "tiny-phased/train.sft.seed1"
    assert first[name].key != other[name].key


def test_error_in_a_phase_names_its_line(recipes: Path, tmp_path: Path) -> None:
    text = PHASES.replace("path: domain.jsonl", "path: nowhere.jsonl")
    (recipes / "phased.yaml").write_text(text)
    with pytest.raises(RecipeError, match=r"phased.yaml:6: data.train"):
        make_plan(recipes / "phased.yaml", Store(tmp_path / "store"))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("phases.0.train.objective", "classify", "leave behind"),
        ("phases.0.train.seeds", "[1, 2]", "one objective and one seed"),
        ("phases.0.train.objective", "sft", "replay"),
    ],
)
def test_phase_that_makes_no_sense_is_refused(
    key: str, value: str, said: str, recipes: Path, tmp_path: Path
) -> None:
    sets = [f"{key}={value}", "phases.0.train.packing=false"]
    if said == "replay":
        sets.append("phases.0.data.replay={recipe: l0.yaml, share: 0.2}")
    with pytest.raises(RecipeError, match=said):
        make_plan(recipes / "phased.yaml", Store(tmp_path / "store"), sets)


def test_adapter_of_another_recipe_is_an_input(recipes: Path, tmp_path: Path) -> None:
    plan = make_plan(recipes / "on.yaml", Store(tmp_path / "store"))
    node = plan.nodes["tiny-on/train.sft.seed1"]
    assert node.inputs["init"] == "tiny-first/train.sft.seed1"
    assert "init_from" not in node.config


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["train.lora_r=8"], "its lora_r is 4, and here it is 8; set train.lora_r: 4"),
        (["train.init_from=nowhere"], "no such recipe or folder"),
        (["train.init_from=l0.yaml"], "no adapter over this recipe's base"),
        (["train.lora_alpha=16"], r"its lora_alpha is 8\.0, and here it is 16\.0; set .*alpha: 8"),
        (
            ["train.target_modules=[v_proj]"],
            r'"all-linear", and here it is \["v_proj"\]; set train\.target_modules: "all-linear"',
        ),
        (["base=l1.yaml"], "no adapter over this recipe's base|trained over another"),
    ],
)
def test_adapter_of_another_form_is_refused(
    sets: list[str], said: str, recipes: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=said):
        make_plan(recipes / "on.yaml", Store(tmp_path / "store"), sets)


@pytest.mark.parametrize(
    ("theirs", "mine"),
    [
        ("", "train.lora_alpha=8.0"),
        ("train: {target_modules: [q_proj, v_proj]}\n", "train.target_modules=[v_proj, q_proj]"),
    ],
)
def test_same_adapter_written_otherwise_is_taken(
    theirs: str, mine: str, recipes: Path, tmp_path: Path
) -> None:
    """An alpha that is the default's, and names in another order."""
    (recipes / "first.yaml").write_text(FIRST + theirs)
    plan = make_plan(recipes / "on.yaml", Store(tmp_path / "store"), [mine])
    assert plan.nodes["tiny-on/train.sft.seed1"].inputs["init"] == "tiny-first/train.sft.seed1"


def test_folder_with_an_adapter_is_taken_and_one_without_is_refused(
    recipes: Path, tmp_path: Path
) -> None:
    folder = recipes / "adapter"
    folder.mkdir()
    with pytest.raises(RecipeError, match="no adapter there"):
        make_plan(recipes / "on.yaml", Store(tmp_path / "s"), ["train.init_from=adapter"])
    write_folder(folder)
    plan = make_plan(recipes / "on.yaml", Store(tmp_path / "s"), ["train.init_from=adapter"])
    assert plan.nodes["tiny-on/train.sft.seed1"].files["init"] == folder


def write_folder(folder: Path, **config: Any) -> None:
    """An adapter of the form of ON; ``config`` over it."""
    folder.mkdir(exist_ok=True)
    whole = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], **config}
    (folder / "adapter_config.json").write_text(json.dumps(whole))
    save_file({"w": np.ones((4, 4), np.float32)}, folder / "adapter_model.safetensors")


FORMS: dict[str, tuple[dict[str, Any], str]] = {
    "another rank": ({"r": 6}, "its lora_r is 6, and here it is 4; set train.lora_r: 6"),
    "another scale": ({"lora_alpha": 16}, "its lora_alpha is 16.0, and here it is 8.0"),
    "rsLoRA": ({"use_rslora": True}, "set train.use_rslora: true"),
    "another pattern": ({"rank_pattern": {"q_proj": 2}}, "its rank_pattern is"),
    "other targets": ({"target_modules": ["q_proj"]}, "its target_modules is"),
    "a word for a rank": ({"r": "x"}, r"adapter_config\.json: r: .*valid integer"),
    "no scale": ({"lora_alpha": None}, r"adapter_config\.json: lora_alpha: "),
    "a word for a switch": ({"use_dora": "no"}, r"adapter_config\.json: use_dora: "),
    "a number for targets": ({"target_modules": 3}, r"adapter_config\.json: target_modules"),
}


@pytest.mark.parametrize("name", FORMS)
def test_adapter_folder_of_another_form_is_refused_in_one_line(
    name: str, recipes: Path, tmp_path: Path
) -> None:
    config, said = FORMS[name]
    write_folder(recipes / "adapter", **config)
    sets = ["train.init_from=adapter", "train.target_modules=[v_proj, q_proj]"]
    with pytest.raises(RecipeError, match=said) as caught:
        make_plan(recipes / "on.yaml", Store(tmp_path / "s"), sets)
    assert "\n" not in str(caught.value)
    assert "train.init_from: adapter: " in str(caught.value)


def test_names_that_peft_wrote_for_all_linear_are_no_other_form(
    recipes: Path, tmp_path: Path
) -> None:
    for targets in (["q_proj", "v_proj"], "all-linear", None):
        write_folder(recipes / "adapter", target_modules=targets)
        sets = ["train.init_from=adapter", "train.target_modules=all-linear"]
        assert make_plan(recipes / "on.yaml", Store(tmp_path / "s"), sets).nodes


DAMAGES = ["empty", "short", "long", "no header", "long header", "no file of it", "no tensor"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_torn_weights_of_an_adapter_folder_are_refused_by_the_plan(
    damage: str, recipes: Path, tmp_path: Path
) -> None:
    write_folder(recipes / "adapter")
    file = recipes / "adapter/adapter_model.safetensors"
    whole = file.read_bytes()
    file.write_bytes({
        "empty": b"", "short": whole[:-3], "long": whole + b"\0", "no tensor": save({}),
        "no header": bytes(8) + whole[8:], "long header": b"\xff" * 8 + whole[8:],
        "no file of it": b"version https://git-lfs",
    }[damage])  # fmt: skip
    with pytest.raises(RecipeError, match=r"adapter_model\.safetensors: .*copy it again"):
        make_plan(recipes / "on.yaml", Store(tmp_path / "s"), ["train.init_from=adapter"])


def test_plan_looks_at_weights_without_torch(recipes: Path) -> None:
    write_folder(recipes / "adapter")
    code = (
        "import sys; from pathlib import Path; from pipeline.core.recipe import load_recipe;"
        "from pipeline.init_from import adapter_folder; recipe, folder = map(Path, sys.argv[1:]);"
        "adapter_folder(load_recipe(recipe), folder); assert 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", code, recipes / "on.yaml", recipes / "adapter"]
    subprocess.run(command, check=True, cwd=Path(__file__).parent.parent)


def test_test_rows_are_dropped_from_a_phase_too(recipes: Path, tmp_path: Path) -> None:
    """Oracle: the row itself, which stands in the phase's file and may not be kept."""
    test = [json.loads(line) for line in (recipes / "task-test.jsonl").read_text().splitlines()]
    with (recipes / "domain.jsonl").open("a") as stream:
        stream.write(json.dumps({"text": test[0]["text"]}) + "\n")
    store = Store(tmp_path / "store")
    plan = make_plan(recipes / "phased.yaml", store)
    name = "tiny-phased.reading/prepare.text"
    needed = {name}
    for node in reversed(list(plan.nodes.values())):
        if node.id in needed:
            needed |= set(node.inputs.values())
    goal = Plan(plan.recipe, {n: v for n, v in plan.nodes.items() if n in needed}, (), (name,))
    execute(goal, store, jobs=1)
    facts = store.need(plan.nodes[name].key or "").manifest.facts
    assert facts["contaminated"] >= 1
