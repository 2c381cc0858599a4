"""Every recipe that ships: it loads, it plans, and it says of itself what holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.core.recipe import LoadedRecipe, level_above, load_recipe
from pipeline.core.stage import STAGES
from pipeline.core.store import Store
from pipeline.curve_plan import curve_stage
from pipeline.ladder import make_plan
from pipeline.plan import UNLOCKED, Node, Plan

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "recipes"
ACCELERATE = FOLDER / "accelerate"
RECIPES = sorted(p for p in FOLDER.rglob("*.yaml") if ACCELERATE not in p.parents)
CONTROLS = [p for p in RECIPES if p.stem.endswith("-from-l0")]
# The longest a recipe can be and still be read before it is run.
LONGEST_RECIPE_LINES = 70

every_recipe = pytest.mark.parametrize("path", RECIPES, ids=lambda p: str(p.relative_to(FOLDER)))
every_control = pytest.mark.parametrize("path", CONTROLS, ids=lambda p: str(p.relative_to(FOLDER)))
every_launch = pytest.mark.parametrize("name", ["ddp", "fsdp", "deepspeed"])


@cache
def loaded(path: Path) -> LoadedRecipe:
    return load_recipe(path)


@pytest.fixture(scope="module")
def plan_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Plan]:
    """Plans each recipe once, over a store with nothing in it."""
    store = Store(tmp_path_factory.mktemp("store"))
    return cache(lambda path: make_plan(path, store))


def texts(value: Any) -> Iterator[str]:
    """Every text in a tree of YAML values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for inner in value.values() for text in texts(inner))
    elif isinstance(value, list):
        yield from (text for inner in value for text in texts(inner))


@every_recipe
def test_recipe_is_planned_whole_and_only_an_unlocked_hub_or_absent_gpus_block_it(
    path: Path, plan_of: Callable[[Path], Plan]
) -> None:
    plan = plan_of(path)
    for node in plan.nodes.values():
        blocked = node.blocked or ""
        assert blocked in {"", UNLOCKED} or re.fullmatch(r"needs \d+ GPUs.*", blocked), blocked
        assert (node.key is None) == _stands_on_unlocked(plan, node), node.id
    assert set(plan.gates) <= set(plan.nodes)


def _stands_on_unlocked(plan: Plan, node: Node) -> bool:
    if node.blocked == UNLOCKED:
        return True
    return any(_stands_on_unlocked(plan, plan.nodes[below]) for below in node.inputs.values())


@every_recipe
def test_planned_stages_are_all_known_and_inputs_come_first(
    path: Path, plan_of: Callable[[Path], Plan]
) -> None:
    seen: set[str] = set()
    for node in plan_of(path).nodes.values():
        assert node.stage in STAGES, node.id
        assert set(node.inputs.values()) <= seen, node.id
        seen.add(node.id)


@every_recipe
def test_recipe_trains_what_its_objectives_and_seeds_say(
    path: Path, plan_of: Callable[[Path], Plan]
) -> None:
    recipe = loaded(path).recipe
    assert recipe.train is not None
    trained = {
        node.id
        for node in plan_of(path).nodes.values()
        if node.stage.startswith("train")
        and node.id.startswith(f"{recipe.name}/")
        and curve_stage(node.id) is None
    }
    assert trained == {
        f"{recipe.name}/train.{objective}.seed{seed}"
        for objective in recipe.train.objective
        for seed in recipe.train.seeds
    }


@every_recipe
def test_levels_never_fall_on_the_way_up(path: Path) -> None:
    here = loaded(path)
    base = here.recipe.base or ""
    if base.endswith(".yaml"):
        below = loaded(here.local(base)).recipe.level
        assert level_above(here.recipe.level, below)
        assert here.recipe.level != below, "each recipe of a ladder is a step"


def test_names_are_unique() -> None:
    names = [loaded(path).recipe.name for path in RECIPES]
    assert sorted(names) == sorted(set(names))


@every_recipe
def test_recipe_opens_with_the_command_that_runs_it(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].split("   ")[0] == f"# gradus run {path.relative_to(ROOT)}"
    assert len(lines) <= LONGEST_RECIPE_LINES


@every_recipe
def test_recipe_names_no_place_of_one_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for value in texts(yaml.safe_load(text)):
        assert not value.startswith(("/", "~")), value
        assert "://" not in value, value
    assert not re.search(r"(?<![\w.])/(work|home|root|mnt|tmp|data|Users)/", text)


@every_recipe
def test_every_source_of_the_hub_states_a_licence(path: Path) -> None:
    data = loaded(path).recipe.data
    assert data is not None
    suites = loaded(path).recipe.evaluate.suites.values()
    for source in [*data.train, data.validation, data.test, *suites]:
        if getattr(source, "path", None) is not None:
            assert getattr(source, "licence", None), f"{path.name}: {source}"


@every_recipe
def test_revisions_are_locked_at_first_use_and_never_written_by_hand(path: Path) -> None:
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert "revision" not in str(tree)


@every_recipe
def test_a_judged_recipe_above_another_names_its_control(path: Path) -> None:
    here = loaded(path)
    if here.recipe.level != "L2" or not (here.recipe.base or "").endswith(".yaml"):
        return
    if loaded(here.local(here.recipe.base or "")).recipe.level != "L1":
        return
    control = here.recipe.evaluate.control
    assert control is not None
    assert here.local(control) in CONTROLS


def test_every_control_is_named_by_a_recipe() -> None:
    named = {
        here.local(here.recipe.evaluate.control)
        for here in map(loaded, RECIPES)
        if here.recipe.evaluate.control is not None
    }
    assert named == set(CONTROLS)


@every_control
def test_control_has_the_data_and_training_of_its_recipe_over_l0(path: Path) -> None:
    control = loaded(path)
    tested = next(
        here
        for here in map(loaded, RECIPES)
        if here.recipe.evaluate.control and here.local(here.recipe.evaluate.control) == path
    )
    assert control.recipe.base != tested.recipe.base
    assert control.recipe.level == tested.recipe.level
    assert control.recipe.train == tested.recipe.train
    assert control.recipe.data == tested.recipe.data
    assert control.recipe.evaluate.control is None
    # Both arms grow from one L0: its own base is the base of the L1 between.
    between = loaded(tested.local(tested.recipe.base or ""))
    assert control.recipe.base == between.recipe.base


def test_a_control_that_trains_otherwise_is_refused(tmp_path: Path) -> None:
    from pipeline.core.errors import RecipeError

    name = "banking-intents-minilm-third-from-l0"
    with pytest.raises(RecipeError, match=r"differs in train\.learning_rate"):
        make_plan(
            FOLDER / "banking/l2-intents-minilm-third.yaml",
            Store(tmp_path),
            [f"{name}:train.learning_rate=1.0e-3"],
        )


def test_an_l1_keeps_the_rows_that_its_l2_is_judged_on_out_of_training() -> None:
    """Where L1 and L2 read one data set, L1's test is L2's: dropped from train by the plan."""
    met = 0
    for here in map(loaded, RECIPES):
        base = here.recipe.base or ""
        if here.recipe.level != "L2" or not base.endswith(".yaml"):
            continue
        above, below = here.recipe.data, loaded(here.local(base)).recipe.data
        assert above is not None
        assert below is not None
        if above.test is None or above.test.path not in {s.path for s in below.train}:
            continue
        met += above.test.path is not None
        if above.test.path is not None:
            assert below.test is not None
            for key in ("path", "config", "split", "fraction", "seed"):
                assert getattr(below.test, key) == getattr(above.test, key), (here.path, key)
    assert met >= 2, "the MiniLM and the finance ladders are such"


def test_local_files_stand_in_for_every_source_and_base_of_the_hub(tmp_path: Path) -> None:
    rows = "".join(f'{{"text": "question {i}", "label": "l{i % 2}"}}\n' for i in range(8))
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text(rows)
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    data = [
        f"data.train.path={tmp_path}/train.jsonl",
        f"data.test.path={tmp_path}/test.jsonl",
    ]
    lower = [f"banking-l1-minilm:{text}" for text in [*data, f"base={model}"]]
    control = [f"banking-intents-minilm-third-from-l0:base={model}"]
    recipe = FOLDER / "banking/l2-intents-minilm-third.yaml"
    plan = make_plan(recipe, Store(tmp_path / "store"), [*data, *lower, *control])
    assert all(node.blocked is None and node.key is not None for node in plan.nodes.values())
    assert not [node.id for node in plan.nodes.values() if node.stage == "fetch-data"]


@every_launch
def test_launch_file_is_read_by_accelerate_itself(name: str) -> None:
    reader = import_module("accelerate.commands.config.config_args")
    config = reader.load_config_from_file(str(ACCELERATE / f"{name}.yaml"))
    assert isinstance(config, reader.ClusterConfig)
    kinds = {"ddp": "MULTI_GPU", "fsdp": "FSDP", "deepspeed": "DEEPSPEED"}
    assert config.distributed_type.value == kinds[name]
    # A launch is in no key, so it must not decide in which precision a model is trained.
    assert config.mixed_precision == "no"


@every_launch
def test_launch_file_has_only_keys_that_the_launcher_knows(name: str) -> None:
    """The launcher sets what it does not know without a word: a misspelt key does nothing."""
    launch = import_module("accelerate.commands.launch")
    known = set(vars(launch.launch_command_parser().parse_args(["script.py"])))
    tree = yaml.safe_load((ACCELERATE / f"{name}.yaml").read_text(encoding="utf-8"))
    for section in ("fsdp_config", "deepspeed_config"):
        assert set(tree.get(section, {})) <= known


def test_fsdp_launch_comes_to_fsdp2_by_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    launch = import_module("accelerate.commands.launch")
    environment = import_module("accelerate.utils.launch").prepare_multi_gpu_env
    file = str(ACCELERATE / "fsdp.yaml")
    args = launch.launch_command_parser().parse_args(["--config_file", file, "script.py"])
    args, defaults, _ = launch._validate_launch_command(args)
    assert args.use_fsdp
    assert args.num_processes == defaults.num_processes == 8
    for key, value in environment(args).items():
        monkeypatch.setenv(key, value)
    plugin = import_module("accelerate").FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert plugin.transformer_cls_names_to_wrap == ["Qwen3DecoderLayer"]
    assert not plugin.activation_checkpointing
    assert not plugin.cpu_ram_efficient_loading


def test_fsdp_launch_names_a_layer_of_qwen3() -> None:
    # Read, not imported: the module would bring all of torch along.
    spec = find_spec("transformers.models.qwen3.modeling_qwen3")
    assert spec is not None
    assert "class Qwen3DecoderLayer(" in Path(spec.origin or "").read_text(encoding="utf-8")
