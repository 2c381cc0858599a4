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
from pipeline.core.schema_data import Clean
from pipeline.core.stage import stage_key
from pipeline.core.store import Store
from pipeline.data.rendering.kept import own_template
from pipeline.display import LiveDisplay
from pipeline.eval_plan import (
    SUITE,
    Wishes,
    evaluations_of,
    named_model,
    offered_of,
    own_evaluations,
)
from pipeline.plan import Node, Plan
from pipeline.run import execute

ROWS = "rows"
_WRITTEN = ("generate", "constrained", "likelihood")
"""Whoever can be asked in one of these can be asked in all."""
_BATCH = 64


@dataclass(frozen=True)
class _Known:
    """Evaluations that are planned or made, and the nodes that they stand on, with their keys.

    Attributes:
        bins: of the calibration error, as the report has them.
    """

    evaluations: Sequence[Node]
    nodes: Mapping[str, Node]
    bins: int = BINS


def evaluate_model(name: str, wishes: Wishes, store: Store) -> tuple[dict[str, Any], Path]:
    """Evaluates a named model on the suites of its report, or on a file of rows.

    Raises:
        UserError: no such model, or it cannot be asked so.
    """
    entry = named_model(store, name)
    known = _of_artifacts(store, evaluations_of(store, entry))
    report = store.need(entry["keys"]["report"])
    bins = int(report.manifest.config.get("confidence_bins", BINS))
    return _evaluated(name, replace(known, bins=bins), wishes, store, _no_recipe(known.nodes))


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
    return _evaluated(name, _Known(evaluations, plan.nodes, bins), wishes, store, plan)


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
    answered = Answered(name, name, list(tables.values()), losses)
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
        if wishes.data is not None and _closed(nodes[_task(suites, nodes)]):
            # Rows of a file may hold some of the labels only: all that were learned are offered.
            inputs["labels"] = _task(suites, nodes)
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
        node = _rows_node(nodes[_task(suites, nodes)], wishes, nodes, store)
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


def _task(suites: Mapping[str, str], nodes: Mapping[str, Node]) -> str:
    """The first Dataset that holds a task, the recipe's own test rows before others."""
    order = sorted(suites, key=lambda role: (role != f"{SUITE}test", role))
    return next(suites[r] for r in order if nodes[suites[r]].config["render"] != "text")


def _template(dataset: Node, store: Store) -> dict[str, Path]:
    """The chat template that a recipe brought for the rows of a Dataset."""
    artifact = store.get(dataset.key or "")
    told = dataset.files.get("chat_template")
    kept = told if artifact is None else own_template(artifact.path)
    return {} if kept is None else {"chat_template": kept}


def _closed(dataset: Node) -> bool:
    """Whether its labels are a set to choose one from."""
    return dataset.config["render"] in ("sft", "hybrid", "classify")


def _rows_node(dataset: Node, wishes: Wishes, nodes: Mapping[str, Node], store: Store) -> Node:
    """The rows of a file, rendered as a Dataset of the model renders its own."""
    from eval.endpoint.items import form_of_file

    assert wishes.data is not None
    form, columns = form_of_file(wishes.data, wishes.form)
    test = {
        "files": [], "columns": columns, "seed": 0, "format": form,
        "suffix": "".join(wishes.data.suffixes[-2:]),
    }  # fmt: skip
    config = {
        **dataset.config,
        "sources": {"test": test},
        "carve": None,
        "carve_test": None,
        "replay": None,
        # What is only judged stays as it is, and every row of it is asked.
        "clean": Clean().model_dump(mode="json"),
        "max_quarantined": 0,
        "contamination": "drop",
        "not_checkable": [],
        "max_length": 1 << 20,
        "over_length": "error",
        "packing": False,
    }
    inputs = {"tokenizer": dataset.inputs["tokenizer"]}
    files = {"test": wishes.data.resolve()}
    files |= _template(dataset, store)
    keys = {"tokenizer": nodes[inputs["tokenizer"]].key or ""}
    digests = {role: store.digests.of(path) for role, path in files.items()}
    key = stage_key("prepare", config, keys, digests)
    return Node(f"{ROWS}/prepare.{key[:8]}", "prepare", config, inputs, files, key=key)


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
