"""What a run does with the export that its recipe asks for, and what it tells of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from pipeline.comparison_view import promise
from pipeline.core.errors import UserError
from pipeline.core.store import Store
from pipeline.export_plan import is_export
from pipeline.plan import Plan


def without_export(plan: Plan) -> Plan:
    """The plan as it would be without the recipe's ``export``."""
    nodes = {name: node for name, node in plan.nodes.items() if not is_export(node)}
    outcomes = tuple(replace(outcome, export=None) for outcome in plan.outcomes)
    return Plan(plan.recipe, nodes, outcomes, plan.gates, plan.notes)


def require_exportable(plan: Plan, store: Store) -> None:
    """Refuses at once what could not be exported after hours of training.

    Raises:
        UserError: an environment is missing; says which command makes it.
    """
    for node in plan.wanted(store):
        if is_export(node) and node.blocked:
            raise UserError(f"{node.id}: cannot run: {node.blocked}, or leave `export` out")


def told_export(plan: Plan, store: Store) -> dict[str, Any] | None:
    """The export for ``--json``: its folder (None where it was refused), gates and figures."""
    export = plan.outcomes[0].export if plan.outcomes else None
    node = None if export is None else plan.nodes[export]
    judged = None if node is None else plan.nodes[node.inputs["judged"]].key
    report = None if judged is None else store.get(judged)
    if node is None or report is None:
        return None
    tree = json.loads((report.path / "report.json").read_text(encoding="utf-8"))
    folder = store.get(node.key or "")
    return {
        "scheme": node.config["scheme"],
        "folder": None if folder is None else str(folder.path),
        "gates": tree["comparison"]["gates"],
        "figures": tree["figures"],
    }


def print_export(plan: Plan, store: Store) -> None:
    """The gate of the export, and where it lies."""
    told = told_export(plan, store)
    if told is None:
        return
    for gate in told["gates"]:
        print(f"gate {gate['status']}: {promise(gate)}")
    if told["folder"] is not None:
        print(f"export: {told['folder']}")
