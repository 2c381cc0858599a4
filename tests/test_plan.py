"""Plans: what a key follows, what it does not, and what a run would do."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import yaml

from pipeline.core.artifact import Artifact
from pipeline.core.engine_limits import ENGINE_RANKS, engine_rank, slot_bytes
from pipeline.core.errors import LockError, RecipeError
from pipeline.core.recipe import LoadedRecipe
from pipeline.core.store import Store
from pipeline.display import plan_json
from pipeline.ladder import make_plan
from pipeline.plan import UNLOCKED, Node, Plan

Commit = Callable[..., Artifact]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def keys(ladder: Path, store: Store) -> Callable[..., dict[str, str]]:
    """Node id to key of the ladder's plan under some overrides."""

    def of(*overrides: str) -> dict[str, str]:
        nodes = make_plan(ladder, store, overrides).nodes
        return {name: node.key or "" for name, node in nodes.items()}

    return of


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    assert set(before) == set(after)
    return {name for name in before if before[name] != after[name]}


def below(name: str, *parts: str) -> bool:
    return name.startswith(tuple(f"{part}/" for part in parts))


def test_every_node_of_a_local_ladder_has_a_key(keys: Callable[..., dict[str, str]]) -> None:
    found = keys()
    assert all(len(key) == 64 for key in found.values())
    assert len(set(found.values())) == len(found)


def test_a_plan_writes_no_artifact_and_is_the_same_again(
    keys: Callable[..., dict[str, str]], store: Store
) -> None:
    assert keys() == keys()
    assert not (store.root / "objects").exists()


@pytest.mark.parametrize(
    "override",
    [
        "train.launch.num_processes=2",
        "train.micro_batch_size=4",
        "train.save_steps=7",
        "train.gradient_checkpointing=true",
        "evaluate.batch_size=3",
    ],
)
def test_key_ignores_what_does_not_change_the_result(
    keys: Callable[..., dict[str, str]], override: str
) -> None:
    assert changed(keys(), keys(override)) == set()


def test_learning_rate_changes_training_of_this_level_and_nothing_below(
    keys: Callable[..., dict[str, str]],
) -> None:
    found = changed(keys(), keys("train.learning_rate=1e-3"))
    assert "tiny-task/train.sft.seed1" in found
    assert "tiny-task-from-l0/train.sft.seed1" in found
    assert not {name for name in found if below(name, "tiny-l0", "tiny-l1")}
    assert not {name for name in found if "prepare" in name or "suite" in name}


def test_seed_changes_training_and_not_the_rows(keys: Callable[..., dict[str, str]]) -> None:
    before, after = keys(), keys("train.seeds=[2]")
    assert "tiny-task/train.sft.seed2" in after
    assert after["tiny-task/train.sft.seed2"] != before["tiny-task/train.sft.seed1"]
    assert after["tiny-task/prepare.sft"] == before["tiny-task/prepare.sft"]


def test_more_seeds_keep_the_first_one(keys: Callable[..., dict[str, str]]) -> None:
    before, after = keys(), keys("train.seeds=[1, 2]")
    assert after["tiny-task/train.sft.seed1"] == before["tiny-task/train.sft.seed1"]


def test_a_setting_of_l1_changes_l1_and_l2_and_not_the_control(
    keys: Callable[..., dict[str, str]],
) -> None:
    found = changed(keys(), keys("tiny-l1:train.max_steps=9"))
    assert {name for name in found if name.startswith("tiny-l1/train")}
    assert "tiny-task/train.sft.seed1" in found
    assert "tiny-task/compare" in found
    assert not {name for name in found if below(name, "tiny-l0")}
    assert not {name for name in found if below(name, "tiny-task-from-l0")}


def test_a_setting_of_l0_changes_everything_that_stands_on_it(
    keys: Callable[..., dict[str, str]],
) -> None:
    before = keys()
    found = changed(before, keys("tiny-l0:train.max_steps=13"))
    assert {name for name in before if "/train." in name} <= found
    assert "tiny-l0/scratch" not in found


def test_one_byte_of_the_rows_changes_prepare_and_what_is_below_it(
    ladder: Path, keys: Callable[..., dict[str, str]]
) -> None:
    before = keys()
    rows = ladder.parent / "task.jsonl"
    content = rows.read_bytes()
    rows.write_bytes(content.replace(b"the", b"The", 1))
    found = changed(before, keys())
    assert {"tiny-task/prepare.sft", "tiny-task/prepare.classify",
            "tiny-task-from-l0/prepare.sft", "tiny-task/train.sft.seed1"} <= found  # fmt: skip
    assert not {name for name in found if below(name, "tiny-l0", "tiny-l1")}


def test_rows_at_another_path_are_the_same_rows(
    ladder: Path, keys: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere.jsonl"
    moved.write_bytes((ladder.parent / "task.jsonl").read_bytes())
    assert changed(keys(), keys(f"data.train.path={moved}")) == set()


def test_order_of_yaml_keys_changes_nothing(
    ladder: Path, keys: Callable[..., dict[str, str]]
) -> None:
    def turned(value: object) -> object:
        if isinstance(value, dict):
            return {key: turned(inner) for key, inner in reversed(value.items())}
        return value

    before = keys()
    for path in ladder.parent.glob("*.yaml"):
        tree = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump(turned(tree), sort_keys=False))
    assert changed(before, keys()) == set()


def test_a_default_that_is_written_out_changes_nothing(
    keys: Callable[..., dict[str, str]],
) -> None:
    assert changed(keys(), keys("train.weight_decay=0.0", "train.lora_alpha=null")) == set()


@pytest.mark.parametrize(
    ("objective", "override"),
    [
        ("sft", "train.mlm_probability=0.3"),
        ("sft", "train.head_learning_rate=0.1"),
        ("sft", "train.head.pooling=mean"),
        ("sft", "train.num_train_epochs=9"),  # max_steps wins
    ],
)
def test_key_of_an_objective_ignores_settings_it_does_not_use(
    keys: Callable[..., dict[str, str]], objective: str, override: str
) -> None:
    name = f"tiny-task/train.{objective}.seed1"
    assert keys()[name] == keys(override)[name]


def test_head_settings_change_the_classifier(keys: Callable[..., dict[str, str]]) -> None:
    found = changed(keys(), keys("train.head.pooling=mean"))
    assert "tiny-task/train.classify.seed1" in found
    assert "tiny-task/train.sft.seed1" not in found


def test_override_of_data_and_train_reaches_the_control(ladder: Path, store: Store) -> None:
    nodes = make_plan(ladder, store, ["train.lora_r=8", "data.system=Answer."]).nodes
    for name in ("tiny-task", "tiny-task-from-l0"):
        assert nodes[f"{name}/train.sft.seed1"].config["lora_r"] == 8
        assert nodes[f"{name}/prepare.sft"].config["system"] == "Answer."


def test_override_of_name_and_base_does_not_reach_the_control(ladder: Path, store: Store) -> None:
    plan = make_plan(ladder, store, ["name=mine", f"base={ladder.parent / 'l0.yaml'}"])
    assert plan.recipe.recipe.name == "mine"
    assert "tiny-task-from-l0/train.sft.seed1" in plan.nodes
    assert plan.nodes["mine/train.sft.seed1"].inputs["root"].startswith("tiny-l0/")


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("tiny-task-from-l0:train.lora_r=8", "train.lora_r"),
        ("tiny-task-from-l0:data.contamination=error", "data.contamination"),
        ("tiny-task:train.seeds=[1, 2]", "train.seeds"),
    ],
)
def test_a_control_that_differs_in_more_than_its_base_is_refused(
    ladder: Path, store: Store, override: str, what: str
) -> None:
    with pytest.raises(RecipeError, match="may differ in its base only") as caught:
        make_plan(ladder, store, [override])
    assert what in str(caught.value)
    assert str(caught.value).startswith(f"{ladder}:")


def test_a_base_above_the_recipe_is_refused_with_its_line(ladder: Path, store: Store) -> None:
    l1 = ladder.parent / "l1.yaml"
    l1.write_text(l1.read_text().replace("base: l0.yaml", "base: l2.yaml"))
    ladder.write_text(ladder.read_text().replace("base: l1.yaml", "base: l0.yaml"))
    with pytest.raises(RecipeError, match=r"l1\.yaml:3: base: l2\.yaml is L2, .* is L1; point"):
        make_plan(l1, store)


def test_a_circle_of_bases_names_its_links(ladder: Path, store: Store) -> None:
    l1 = ladder.parent / "l1.yaml"
    l1.write_text(l1.read_text().replace("base: l0.yaml", "base: l2.yaml"))
    with pytest.raises(RecipeError, match=r"circle \(.*l2\.yaml -> .*l1\.yaml -> .*l2\.yaml\)"):
        make_plan(ladder, store)


def test_ranks_add_up_along_the_stack(ladder: Path, store: Store) -> None:
    plan = make_plan(ladder, store)
    ranks = {o.model.name: o.model.rank for o in plan.outcomes}
    assert ranks == {
        "tiny-l0": 0, "tiny-l1": 4, "tiny-task": 8, "tiny-task-classifier": 8,
        "tiny-task-from-l0": 4, "tiny-task-from-l0-classifier": 4,
    }  # fmt: skip
    assert plan.nodes["tiny-task/export.sft.seed1"].rank == 8


def test_an_export_tells_its_rank_and_the_engines_slot(ladder: Path, store: Store) -> None:
    plan = make_plan(ladder, store)
    told = {stage["id"]: stage["note"] for stage in plan_json(plan, store)["stages"]}
    assert told["tiny-task/export.sft.seed1"].startswith("rank 8, an engine slot of 8: ")
    large = replace(plan.nodes["tiny-task/export.sft.seed1"], rank=ENGINE_RANKS[-1] + 1)
    plan = replace(plan, nodes={**plan.nodes, large.id: large})
    told = {stage["id"]: stage["note"] for stage in plan_json(plan, store)["stages"]}
    assert told[large.id] == "rank 513: above the engine's largest (512)"


def test_status_of_an_empty_store_is_run(ladder: Path, store: Store) -> None:
    plan = make_plan(ladder, store)
    assert set(plan.status(store).values()) == {"run"}
    assert not (store.root / "objects").exists()


def make_all(plan: Plan, store: Store, commit: Commit, but: set[str]) -> None:
    for node in plan.nodes.values():
        if node.id not in but:
            commit(store, node.key, {"x": node.id.encode()})


def test_status_is_hit_where_the_artifact_lies(ladder: Path, store: Store, commit: Commit) -> None:
    plan = make_plan(ladder, store)
    make_all(plan, store, commit, {"tiny-task/compare"})
    status = plan.status(store)
    assert status.pop("tiny-task/compare") == "run"
    assert set(status.values()) == {"hit"}


def test_wanted_leaves_out_what_no_missing_output_needs(
    ladder: Path, store: Store, commit: Commit
) -> None:
    plan = make_plan(ladder, store)
    assert [node.id for node in plan.wanted(store)] == list(plan.nodes)
    # Everything is there but the root: nothing that is missing needs what made it.
    bundle = plan.outcomes[0].bundle or ""
    training = "tiny-l0/prepare.text"
    make_all(plan, store, commit, {bundle, training})
    assert training not in [node.id for node in plan.wanted(store)]
    # And where an adapter is lost, its own training comes back, and not that of the others.
    again = Store(store.root.parent / "again")
    lost = {"tiny-task/export.sft.seed1", "tiny-task/train.sft.seed1",
            "tiny-task/train.classify.seed1"}  # fmt: skip
    make_all(plan, again, commit, lost)
    assert [node.id for node in plan.wanted(again)] == ["tiny-task/train.sft.seed1",
                                                        "tiny-task/export.sft.seed1"]  # fmt: skip


def test_wanted_comes_in_an_order_that_can_run(ladder: Path, store: Store) -> None:
    plan = make_plan(ladder, store)
    seen: set[str] = set()
    for node in plan.wanted(store):
        assert set(node.inputs.values()) <= seen
        seen.add(node.id)


def test_nothing_is_wanted_of_a_whole_store(ladder: Path, store: Store, commit: Commit) -> None:
    plan = make_plan(ladder, store)
    make_all(plan, store, commit, set())
    assert plan.wanted(store) == []


@pytest.fixture
def hub_recipe(ladder: Path) -> Path:
    """The L2 of the ladder straight over a hub base."""
    text = ladder.read_text().replace("base: l1.yaml", "base: acme/tiny")
    tree = yaml.safe_load(text)
    tree.pop("evaluate")
    path = ladder.parent / "hub.yaml"
    path.write_text(json.dumps(tree, indent=1))
    return path


def test_an_unlocked_hub_base_has_no_key_and_cannot_run(hub_recipe: Path, store: Store) -> None:
    plan = make_plan(hub_recipe, store)
    assert [n.blocked for n in plan.nodes.values() if n.stage == "fetch"] == [UNLOCKED]
    assert {node.key for node in plan.nodes.values()} == {None}
    # Nothing is wrong with it: `gradus run` resolves what it names.
    assert set(plan.status(store).values()) == {"waits"}
    assert not hub_recipe.with_suffix(".lock").exists()


def test_a_hub_base_is_resolved_once_and_locked(hub_recipe: Path, store: Store) -> None:
    asked: list[tuple[str, str, str | None]] = []

    def resolve(*what: str | None) -> str:
        asked.append(what)  # type: ignore[arg-type]
        return COMMIT

    first = make_plan(hub_recipe, store, resolve=resolve)
    again = make_plan(hub_recipe, store, locked=True)
    assert asked == [("model", "acme/tiny", None)]
    assert first.nodes == again.nodes
    assert set(again.status(store).values()) == {"run"}


def test_locked_refuses_what_is_not_locked(hub_recipe: Path, store: Store) -> None:
    with pytest.raises(LockError, match=r"hub\.yaml:\d+: base: acme/tiny is not locked") as caught:
        make_plan(hub_recipe, store, locked=True, resolve=lambda *_: COMMIT)
    assert "run once without --locked" in str(caught.value)
    assert not hub_recipe.with_suffix(".lock").exists()


def test_what_stands_on_a_blocked_stage_cannot_run(ladder: Path, store: Store) -> None:
    plan = make_plan(ladder, store)
    blocked = replace(plan.nodes["tiny-l1/train.cpt.seed1"], blocked="needs 8 GPUs")
    plan = replace(plan, nodes={**plan.nodes, blocked.id: blocked})
    status = plan.status(store)
    assert status["tiny-task/train.sft.seed1"] == "cannot run"
    assert status["tiny-task-from-l0/train.sft.seed1"] == "run"


@pytest.mark.parametrize(
    ("rank", "size"), [(1, 1), (2, 8), (8, 8), (17, 32), (129, 256), (512, 512), (513, None)]
)
def test_engine_rank_is_the_next_size_of_a_slot(rank: int, size: int | None) -> None:
    assert engine_rank(rank) == size


def test_slot_memory_is_that_of_both_factors_of_every_linear_layer() -> None:
    # Qwen3-0.6B: the figures of its config.json; shapes (in, out) written out by hand.
    config = {"hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16,
              "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072}  # fmt: skip
    layer = (1024 + 2048) + 2 * (1024 + 1024) + (2048 + 1024) + 2 * (1024 + 3072) + (3072 + 1024)
    assert slot_bytes(config, 16) == 28 * 16 * layer * 2


def test_rows_are_compared_with_what_every_recipe_below_is_judged_by(
    ladder: Path, store: Store
) -> None:
    below = ladder.with_name("l1.yaml")
    own = "{general: {recipe: l0.yaml}, extra: {path: general-test.jsonl, format: text}}"
    below.write_text(below.read_text().replace("{general: {recipe: l0.yaml}}", own))
    plan = make_plan(ladder, store)
    alone = make_plan(below, store)
    linked = plan.nodes["tiny-l1/prepare.text"].inputs
    for name in ("general", "extra"):
        for objective in ("sft", "classify"):
            node = plan.nodes[f"tiny-task/prepare.{objective}"].inputs[f"below0.suite.{name}"]
            assert node == linked[f"suite.{name}"]
            assert plan.nodes[node] == alone.nodes[node]


def test_every_objective_of_a_recipe_below_is_compared_with(ladder: Path, store: Store) -> None:
    ladder.with_name("l1.yaml").write_text(
        ladder.read_text()
        .partition("evaluate:")[0]
        .replace(
            "name: tiny-task\nlevel: L2\nbase: l1.yaml", "name: tiny-l1\nlevel: L1\nbase: l0.yaml"
        )
    )
    above = ladder.with_name("above.yaml")
    above.write_text(
        "name: tiny-above\nlevel: L2\nbase: l1.yaml\ndata:\n"
        "  train: {path: task.jsonl, format: classification}\n"
        "  validation: {carve: 0.2}\n"
        "train: {objective: sft, method: lora, lora_r: 4, max_steps: 2, max_length: 64,\n"
        "  precision: fp32}\n"
    )
    inputs = make_plan(above, store).nodes["tiny-above/prepare.sft"].inputs
    assert {"tiny-l1/prepare.sft", "tiny-l1/prepare.classify"} <= set(inputs.values())


def test_a_training_beside_which_no_other_could_run_is_told(ladder: Path, store: Store) -> None:
    """The control's trainings of an L2 need no L1: beside the L1 they could run, so it shares."""
    assert make_plan(ladder, store).lone() == {"tiny-l0/train.pretrain.seed1"}
    chain = make_plan(ladder.with_name("l1.yaml"), store).lone()
    assert chain == {"tiny-l0/train.pretrain.seed1", "tiny-l1/train.cpt.seed1"}


def test_a_plan_over_what_lies_in_the_store_alone_has_no_lone_training() -> None:
    """`gradus eval MODEL` asks a model whose recipe may be gone: its inputs are no nodes."""
    asked = Node("m/eval.generate", "evaluate", {}, {"root": "key of a root"}, key="key")
    plan = Plan(cast(LoadedRecipe, None), {asked.id: asked}, (), (asked.id,))
    assert plan.lone() == frozenset()
