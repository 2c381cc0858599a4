"""`gradus eval MODEL`: a model of the store, asked by the stage that asks it in a plan.

So it is made once, found again by its key, and goes on where it was killed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from eval.answered import Answered, Table, write_answered
from eval.calibration import BINS
from eval.costs import Cost
from eval.record import TextLoss, read_losses, read_predictions, tables_in
from pipeline.core.arms import info_of
from pipeline.core.artifact import Artifact
from pipeline.core.errors import UserError
from pipeline.core.recipe import LoadedRecipe
from pipeline.core.stage import stage_key
from pipeline.core.store import Store
from pipeline.display import LiveDisplay
from pipeline.eval_plan import (
    SUITE,
    Wishes,
    evaluations_of,
    left_out,
    named_model,
    offered_of,
    own_evaluations,
    report_of,
    written_suites,
)
from pipeline.eval_rows import ROWS, is_closed, rows_node, task_of
from pipeline.plan import Node, Plan
from pipeline.run import execute

_WRITTEN = ("generate", "constrained", "likelihood")
"""Whoever can be asked in one of these can be asked in all."""
_BATCH = 64


@dataclass(frozen=True)
class _Known:
    """Evaluations that are planned or made, and the nodes that they stand on, with their keys.

    Attributes:
        bins: of the calibration error, as the report has them.
        written: suites whose answers are written freely, which is no evaluation.
        recipe: whose suites these are.
    """

    evaluations: Sequence[Node]
    nodes: Mapping[str, Node]
    bins: int = BINS
    written: Sequence[str] = ()
    recipe: str = "RECIPE"


def evaluate_model(name: str, wishes: Wishes, store: Store) -> tuple[dict[str, Any], Path]:
    """Evaluates a named model on the suites of its report, or on a file of rows.

    Raises:
        UserError: no such model, or it cannot be asked so.
    """
    entry = named_model(store, name)
    known = _of_artifacts(store, evaluations_of(store, entry))
    report = report_of(store, entry)
    assert report is not None
    known = replace(
        known,
        bins=int(report.manifest.config.get("confidence_bins", BINS)),
        written=_written_by(store, report, entry),
        recipe=entry["recipe"],
    )
    return _evaluated(name, known, wishes, store, _no_recipe(known.nodes))


def _written_by(store: Store, report: Artifact, entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Suites of a report of which this very model has written something."""
    parts = {role: key for role, key in entry["keys"].items() if role in ("root", "adapter")}
    made = [store.get(ref["key"]) for ref in report.manifest.inputs.values()]
    return written_suites(
        one.manifest.config
        for one in made
        if one is not None
        and one.manifest.stage == "generated"
        and {r: i["key"] for r, i in one.manifest.inputs.items() if not r.startswith(SUITE)}
        == parts
    )


def evaluate_models_of(recipe: Path, wishes: Wishes, store: Store) -> tuple[dict[str, Any], Path]:
    """Evaluates a recipe's models on some of what its report would hold; makes them first.

    Raises:
        UserError: it makes none that is judged, or they cannot be asked so.
    """
    from pipeline.conduct import planned, prepared_only

    plan = planned(recipe, store, wishes.overrides)
    evaluations = own_evaluations(plan)
    if not evaluations:
        raise UserError(f"{recipe}: has no suites to be judged on; give data.test")
    needed = {i for node in evaluations for i in node.inputs.values()}
    goal = Plan(plan.recipe, plan.nodes, (), tuple(sorted(needed)))
    with LiveDisplay(goal, store) as display:
        prepared_only(goal, store, wishes.jobs, display)
    name = plan.recipe.recipe.name
    bins = plan.recipe.recipe.evaluate.confidence_bins
    own = [n for n in plan.nodes.values() if n.id.startswith(f"{name}/generated.{name}")]
    written = written_suites(node.config for node in own)
    known = _Known(evaluations, plan.nodes, bins, written, str(recipe))
    return _evaluated(name, known, wishes, store, plan)


def _of_artifacts(store: Store, artifacts: Sequence[Artifact]) -> _Known:
    """What the store tells of a model's evaluations, as nodes."""
    nodes: dict[str, Node] = {}
    evaluations = []
    for artifact in artifacts:
        for ref in artifact.manifest.inputs.values():
            made = store.need(ref["key"])
            nodes[made.key] = _node_of(made)
        evaluations.append(_node_of(artifact))
    for dataset in [node for node in nodes.values() if "tokenizer" in node.inputs]:
        tokenizer = dataset.inputs["tokenizer"]
        nodes[tokenizer] = _node_of(store.need(tokenizer))
    return _Known(evaluations, nodes)


def _node_of(artifact: Artifact) -> Node:
    manifest = artifact.manifest
    inputs = {role: ref["key"] for role, ref in manifest.inputs.items()}
    return Node(artifact.key, manifest.stage, manifest.config, inputs, key=artifact.key)


def _no_recipe(nodes: Mapping[str, Node]) -> Plan:
    # The model's recipe may be gone or changed: what is made tells all that is needed.
    return Plan(cast(LoadedRecipe, None), nodes, (), ())


def _evaluated(
    name: str, known: _Known, wishes: Wishes, store: Store, plan: Plan
) -> tuple[dict[str, Any], Path]:
    nodes = dict(known.nodes)
    wanted = list(_wanted(name, known, wishes, nodes, store))
    if not wanted:
        raise UserError(
            f"{name}: reads text alone and answers nothing, so rows cannot be asked of it; name a "
            "model that was trained for a task"
        )
    nodes |= {node.id: node for node in wanted}
    goal = Plan(plan.recipe, nodes, (), tuple(node.id for node in wanted))
    with LiveDisplay(goal, store) as display:
        execute(goal, store, jobs=wishes.jobs or 1, on_event=display.on_event)
    made = [store.need(node.key or "") for node in wanted]
    tables = {(t.suite, t.arm): t for artifact in made for t in _tables(artifact, known, store)}
    losses: dict[str, list[TextLoss]] = {}
    for artifact in made:
        for path in sorted(artifact.path.glob("losses-*.jsonl")):
            losses[path.stem.removeprefix("losses-")] = read_losses(path)
    folder = wishes.out or store.root / "evals" / f"{name}-{_digest(wanted)}"
    notes: list[str] = []
    if wishes.suite is None and wishes.data is None:
        notes = left_out(known.evaluations, known.written, wanted, known.recipe)
    answered = Answered(name, name, list(tables.values()), losses, notes=notes, limit=wishes.limit)
    return write_answered(folder, answered), folder


def _wanted(
    name: str, known: _Known, wishes: Wishes, nodes: dict[str, Node], store: Store
) -> Iterator[Node]:
    """The evaluations that are asked for, with keys; a file of rows adds its node."""
    by_arm = {str(node.config["arm"]): node for node in known.evaluations}
    writes = next((by_arm[arm] for arm in _WRITTEN if arm in by_arm), None)
    able = [*by_arm, *(arm for arm in _WRITTEN if writes is not None and arm not in by_arm)]
    for arm in wishes.arms or by_arm:
        if arm not in able:
            raise UserError(
                f"--arms {arm}: {name} is asked in {', '.join(able)}; name some of these"
            )
        template = by_arm.get(arm) or cast(Node, writes)
        inputs = dict(template.inputs)
        suites = {role: i for role, i in inputs.items() if role.startswith(SUITE)}
        chosen = _suites(name, arm, suites, wishes, nodes, store)
        if not chosen:
            continue
        if wishes.data is not None and is_closed(nodes[task_of(suites, nodes)]):
            # Rows of a file may hold some of the labels only: all that were learned are offered.
            inputs["labels"] = task_of(suites, nodes)
        config = {**template.config, "arm": arm}
        if wishes.limit is not None:
            config["limit"] = wishes.limit
        if wishes.labels is not None:
            from eval.endpoint.items import read_labels

            config["labels"] = read_labels(wishes.labels)
        own = {role: i for role, i in inputs.items() if not role.startswith(SUITE)} | chosen
        options = {"batch_size": _BATCH, **template.options}
        node = Node(f"{name}/eval.{arm}", "evaluate", config, own, options=options)
        keys = {role: nodes[i].key or "" for role, i in own.items()}
        yield replace(node, key=stage_key("evaluate", config, keys, {}))


def _suites(
    name: str,
    arm: str,
    suites: Mapping[str, str],
    wishes: Wishes,
    nodes: dict[str, Node],
    store: Store,
) -> dict[str, str]:
    """The suites to be asked, role to Dataset node."""
    if wishes.data is not None:
        if all(nodes[i].config["render"] == "text" for i in suites.values()):
            return {}
        node = rows_node(nodes[task_of(suites, nodes)], wishes, nodes, store)
        nodes[node.id] = node
        return {f"{SUITE}{ROWS}": node.id}
    if info_of(arm).labels:
        suites = {role: i for role, i in suites.items() if nodes[i].config["render"] != "text"}
    if wishes.suite is None:
        return dict(suites)
    role = f"{SUITE}{wishes.suite}"
    if role not in suites:
        known = ", ".join(role.removeprefix(SUITE) for role in suites) or "none"
        raise UserError(f"--suite {wishes.suite}: {name} has no such suite in {arm} ({known})")
    return {role: suites[role]}


def _tables(artifact: Artifact, known: _Known, store: Store) -> Iterator[Table]:
    """What one evaluation answered, its by-products too."""
    folder, own = artifact.path, str(artifact.manifest.config["arm"])
    kinds = json.loads((folder / "kinds.json").read_text(encoding="utf-8"))
    costs: dict[str, Any] = {}
    if (folder / "costs.json").is_file():
        costs = json.loads((folder / "costs.json").read_text(encoding="utf-8"))
    shared: dict[str, Any] = {}
    if (folder / "groups.json").is_file():
        shared = json.loads((folder / "groups.json").read_text(encoding="utf-8"))
    temperatures = _temperatures(artifact, known, store)
    for suite, arm, path in tables_in(folder):
        heat = temperatures.get(arm or own)
        cost = Cost(**costs[suite]) if suite in costs else None
        device = cost.device if cost is not None else "not told"
        rows, groups = read_predictions(path), shared.get(suite, {})
        labels = offered_of(store, artifact, suite) if kinds[suite] == "label" else None
        yield Table(
            suite, arm or own, kinds[suite], rows, cost, device, groups, labels, heat, known.bins
        )


def _temperatures(artifact: Artifact, known: _Known, store: Store) -> dict[str, float]:
    """Arm to its temperature, of the model's report first: a limit is one of validation too."""
    found: dict[str, float] = {}
    of_report = [store.get(node.key or "") for node in known.evaluations]
    for one in (artifact, *of_report):
        path = None if one is None else one.path / "temperatures.json"
        if path is not None and path.is_file():
            told = json.loads(path.read_text(encoding="utf-8"))
            found |= {arm: float(fit["value"]) for arm, fit in told.items() if fit is not None}
    return found


def _digest(nodes: Sequence[Node]) -> str:
    from pipeline.core.digest import canonical_json, text_digest

    return text_digest(canonical_json([node.key for node in nodes]))[:8]
