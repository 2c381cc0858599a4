"""A recipe's `export`: what it may say, and which stages come of it; nothing is quantised here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from pipeline.core.store import Store
from pipeline.export_plan import is_export
from pipeline.exporting import without_export
from pipeline.ladder import make_plan
from pipeline.plan import Plan

FP8 = "export.scheme=fp8"


@pytest.fixture
def uninstalled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADUS_EXPORT_HOME", str(tmp_path / "nowhere"))


def planned(ladder: Path, store: Store, *overrides: str) -> Plan:
    return make_plan(ladder, store, overrides)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["export.scheme=fp9"], "export.scheme: must be 'fp8' or 'awq'"),
        ([FP8, "export.not_worse_by=0"], "export.not_worse_by: must be greater than 0"),
        ([FP8, "export.at_most_ratio=0.9"], "export.at_most_ratio: must be greater than or equal"),
        ([FP8, "export.calibration_rows=64"], "calibration_rows are for scheme awq"),
        ([FP8, "export.bits=4"], "export.bits: unknown key"),
        (["export.not_worse_by=0.1"], "export.scheme: missing"),
        ([FP8, "gates=[]"], "nothing is exported of which nothing was promised; give gates"),
        ([FP8, "train.objective=classify"], "objective classify trains none"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    ladder: Path, refusal: Callable[..., str], overrides: list[str], told: str
) -> None:
    sets = [word for text in overrides for word in ("--set", text)]
    assert told in refusal("plan", ladder, "--no-price", *sets)


def test_an_export_stands_on_the_merged_model_and_changes_no_other_key(
    ladder: Path, store: Store
) -> None:
    before, after = planned(ladder, store), planned(ladder, store, FP8)
    more = {name for name in after.nodes if name not in before.nodes}
    assert more == {
        f"tiny-task/{name}"
        for name in ("quantise", "evaluate.exported", "judge-export", "bundle-export")
    }
    assert {n: after.nodes[n].key for n in before.nodes} == {
        n: node.key for n, node in before.nodes.items()
    }
    assert after.nodes["tiny-task/quantise"].inputs["root"] == "tiny-task/merge"
    assert without_export(after).nodes == before.nodes
    assert without_export(after).outcomes == before.outcomes
    assert all(is_export(after.nodes[name]) for name in more)


def test_both_sides_are_asked_the_same_in_the_same_way(ladder: Path, store: Store) -> None:
    plan = planned(ladder, store, FP8)
    sides = plan.nodes["tiny-task/judge-export"].inputs
    before, after = (plan.nodes[sides[side]] for side in ("unquantised", "exported"))
    assert before.id == "tiny-task/evaluate.sft.seed1"

    def suites(inputs: Any) -> dict[str, str]:
        return {role: node for role, node in inputs.items() if role.startswith("suite.")}

    assert suites(before.inputs) == suites(after.inputs)
    assert before.config.items() <= after.config.items()
    assert "adapter" not in after.inputs


def test_the_scheme_and_the_rows_are_in_the_key(ladder: Path, store: Store) -> None:
    keys = {
        planned(ladder, store, *overrides).nodes["tiny-task/quantise"].key
        for overrides in (
            [FP8], ["export.scheme=awq"], ["export.scheme=awq", "export.calibration_rows=8"],
            ["export.scheme=awq", "export.seed=1"],
        )
    }  # fmt: skip
    assert len(keys) == 4
    wider = planned(ladder, store, FP8, "export.not_worse_by=0.1").nodes
    assert (
        wider["tiny-task/quantise"].key
        == planned(ladder, store, FP8).nodes["tiny-task/quantise"].key
    )


def test_a_model_of_full_weights_needs_no_merge(ladder: Path, store: Store) -> None:
    ladder.write_text(
        ladder.read_text().replace("[stacked, merged]", "stacked").replace(
            "objective: [sft, classify], method: lora, lora_r: 4", "objective: sft, method: full"
        ).replace("lora_dropout: 0.1", "warmup_ratio: 0.1")
    )  # fmt: skip
    plan = planned(ladder, store, FP8)
    assert plan.nodes["tiny-task/quantise"].inputs["root"] == plan.outcomes[0].model.root


def test_the_control_and_the_levels_below_are_not_exported(ladder: Path, store: Store) -> None:
    plan = planned(ladder, store, FP8)
    assert [o.model.name for o in plan.outcomes if o.export is not None] == ["tiny-task"]


@pytest.mark.usefixtures("uninstalled")
def test_a_missing_environment_is_told_before_anything_is_trained(
    ladder: Path, store: Store, refusal: Callable[..., str]
) -> None:
    told = refusal("run", ladder, "--set", FP8)
    assert told == (
        "tiny-task/quantise: cannot run: llm-compressor is not installed; "
        "run `gradus export install` first, or leave `export` out"
    )
    assert not (store.root / "objects").exists()


@pytest.mark.usefixtures("uninstalled")
def test_a_plan_says_what_cannot_run(ladder: Path, gradus: Callable[..., Result]) -> None:
    tree = json.loads(gradus("plan", ladder, "--no-price", "--json", "--set", FP8).stdout)
    status = {stage["id"]: stage["status"] for stage in tree["stages"]}
    assert status["tiny-task/quantise"] == status["tiny-task/bundle-export"] == "cannot run"
    assert status["tiny-task/bundle"] == "run"
