"""What the store remembers of a named model: later runs of other recipes forget none of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from pipeline.conduct import register
from pipeline.core.artifact import Artifact, Manifest
from pipeline.core.errors import UserError
from pipeline.core.recipe import LoadedRecipe
from pipeline.core.store import Store
from pipeline.eval_plan import evaluations_of
from pipeline.plan import ModelRef, Node, Outcome, Plan

Put = Callable[..., Artifact]


@pytest.fixture
def put(store: Store) -> Put:
    """Commits an artifact of a stage; a report judges what its evaluations were asked of."""

    def make(key: str, stage: str, **inputs: str) -> Artifact:
        draft = store.new_draft(key)
        tree = {"comparison": {"gates": [{"status": "pass"}]}}
        (draft / "report.json").write_text(json.dumps(tree))
        refs = {role: {"key": ref, "digest": ref} for role, ref in inputs.items()}
        kind: Any = "Report" if stage in ("evaluate", "compare") else "Model"
        run = {"node": key}
        return store.commit(
            draft, Manifest(kind, key, "", stage, 1, {"arm": "text"}, {}, refs, {}, {}, run=run)
        )

    return make


def outcome(name: str, root: str, report: str | None = None) -> Outcome:
    return Outcome(ModelRef(name, "L0", root), "pretrain", "scratch", Path(f"{name}.yaml"),
                   report=report)  # fmt: skip


def plan(*outcomes: Outcome) -> Plan:
    refs = [r for o in outcomes for r in (o.model.root, o.report) if r is not None]
    nodes = {ref: Node(ref, "any", {}, {}, key=ref) for ref in refs}
    return Plan(cast(LoadedRecipe, None), nodes, outcomes, ())


def test_a_run_of_a_recipe_above_keeps_what_a_model_was_judged_by(store: Store, put: Put) -> None:
    for root in ("base", "top"):
        put(root, "train-full")
    put("base-asked", "evaluate", root="base")
    put("base-report", "compare", model0="base-asked")
    put("top-report", "compare", model0="base-asked")
    register(plan(outcome("low", "base", "base-report")), store)
    before = store.model("low")
    assert before is not None
    register(plan(outcome("high", "top", "top-report"), outcome("low", "base")), store)
    entry = store.model("low")
    assert entry is not None
    assert entry["keys"]["report"] == "base-report"
    assert entry["gates"] == before["gates"] == {"pass": 1, "fail": 0, "undecided": 0}


def test_a_model_that_was_asked_for_another_report_alone_is_found_there(
    store: Store, put: Put
) -> None:
    for root in ("base", "top"):
        put(root, "train-full")
    put("base-asked", "evaluate", root="base")
    put("top-report", "compare", model0="base-asked")
    both = plan(outcome("high", "top", "top-report"), outcome("low", "base"))
    register(both, store)
    entry = store.model("low")
    assert entry is not None
    assert [found.key for found in evaluations_of(store, entry)] == ["base-asked"]
    assert "report" not in entry["keys"]


def test_other_weights_of_the_same_name_inherit_nothing(store: Store, put: Put) -> None:
    for root in ("base", "other"):
        put(root, "train-full")
    put("base-asked", "evaluate", root="base")
    put("base-report", "compare", model0="base-asked")
    first = plan(outcome("low", "base", "base-report"))
    register(first, store)
    other = {"other": Node("other", "any", {}, {}, key="other")}
    register(replace(first, outcomes=(outcome("low", "other"),), nodes=other), store)
    entry = store.model("low")
    assert entry is not None
    assert "report" not in entry["keys"]
    with pytest.raises(UserError, match="holds no evaluation of it"):
        evaluations_of(store, entry)
