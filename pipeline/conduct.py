"""What `gradus run` and `gradus serve` do: lock, plan, execute, register, tell."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from pipeline.comparison_view import broken_words
from pipeline.core.errors import GateFailed, GradusError, UserError
from pipeline.core.lock import RepoType
from pipeline.core.store import Store
from pipeline.display import LiveDisplay, print_notes, print_outcome
from pipeline.exporting import print_export, require_exportable, told_export, without_export
from pipeline.ladder import make_plan
from pipeline.plan import Plan
from pipeline.rehearsal import placed, rehearse
from pipeline.run import RunRecord, execute
from pipeline.taken_out import contaminated_rows


def run_recipe(
    recipe: Path, overrides: Sequence[str], *, locked: bool, jobs: int | None, as_json: bool
) -> int:
    """Makes a recipe's models. Exit code 0, or 3 where a gate does not pass."""
    store = Store()
    plan = make_plan(recipe, store, overrides, locked=locked, resolve=_resolve)
    require_exportable(plan, store)
    goal = without_bundle(plan)
    rehearse(goal, store)
    if goal.wanted(store):
        print_notes(plan)
    with LiveDisplay(goal, store) as display:
        record = _executed(goal, store, jobs, display)
    report = _report(plan, store, plan.outcomes[0].report)
    gates = _gates(plan, store)
    broken = [gate for gate in gates if gate["status"] != "pass"]
    if gates and not broken:
        execute(without_export(plan), store, jobs=1)
        _add_versions(plan, store)
    register(plan, store)
    # Not before the model itself is there: a refused export takes nothing of it away.
    exported = _exported(plan, store) if gates and not broken else None
    if as_json:
        tree = summary(plan, store, record, report)
        click.echo(json.dumps({**tree, "export": told_export(plan, store)}))
    else:
        print_outcome(plan, store, record, report, gates)
        print_export(plan, store)
    if broken:
        raise GateFailed(f"{plan.recipe.recipe.name}: {broken_words(gates)}")
    if exported is not None:
        raise exported
    return 0


def _exported(plan: Plan, store: Store) -> GateFailed | None:
    """Exports where the recipe says so; what its own gate had against it."""
    if plan.outcomes[0].export is None:
        return None
    try:
        with LiveDisplay(plan, store) as display:
            _executed(plan, store, 1, display)
    except GateFailed as refused:
        return refused
    register(plan, store)
    return None


def evaluate_recipe(
    recipe: Path, overrides: Sequence[str], *, jobs: int | None, as_json: bool
) -> int:
    """Makes a recipe's report and what it stands on, and nothing beyond: no merge, no bundle.

    Gates are told and stop nothing: whoever evaluates wants the figures.
    """
    store = Store()
    plan = planned(recipe, store, overrides)
    report = plan.outcomes[0].report
    if report is None:
        raise UserError(f"{recipe}: has no suites to be judged on; give data.test")
    goal = Plan(plan.recipe, plan.nodes, (), tuple(dict.fromkeys((report, *plan.gates))))
    rehearse(goal, store)
    with LiveDisplay(goal, store) as display:
        record = _executed(goal, store, jobs, display)
    register(plan, store)
    tree = _report(plan, store, report)
    if as_json:
        click.echo(json.dumps(summary(plan, store, record, tree)))
    else:
        print_outcome(plan, store, record, tree, _gates(plan, store))
    return 0


def planned(recipe: Path, store: Store, overrides: Sequence[str], *, locked: bool = False) -> Plan:
    """The recipe's plan, hub revisions resolved and locked."""
    return make_plan(recipe, store, overrides, locked=locked, resolve=_resolve)


def prepared_only(plan: Plan, store: Store, jobs: int | None, display: LiveDisplay) -> None:
    """Makes what the plan's goals need: the rows, and nothing that trains."""
    rehearse(plan, store)
    _executed(plan, store, jobs, display)


def bundle_of(
    recipe: Path, overrides: Sequence[str], *, ungated: bool = False, make: bool = True
) -> Path:
    """The bundle's folder of a recipe's family, whole.

    Args:
        recipe: The recipe's file.
        overrides: ``KEY=VALUE``, as of the command line.
        ungated: A bundle is made although gates do not pass; it says so.
        make: Run the recipe first where something is missing.

    Raises:
        UserError: The recipe makes nothing that writes; or it is not made, and ``make`` is False.
        GateFailed: A gate does not pass.
    """
    store = Store()
    plan = without_export(make_plan(recipe, store, overrides, resolve=_resolve))
    bundle = next((o.bundle for o in plan.outcomes if o.bundle is not None), None)
    if bundle is None:
        raise UserError(
            f"{recipe}: makes no model that writes, so there is no chat to serve; "
            "name a recipe with objective sft, cpt or pretrain"
        )
    goal = without_bundle(plan)
    if goal.wanted(store):
        if not make:
            same = "" if overrides else "; what was made with --set is served with the same --set"
            raise UserError(f"{recipe}: not made yet; `gradus run {recipe}` makes it{same}")
        click.echo("not made yet: runs the recipe first", err=True)
        rehearse(goal, store)
        with LiveDisplay(goal, store) as display:
            _executed(goal, store, None, display)
        register(plan, store)
    gates = _gates(plan, store)
    passed = bool(gates) and all(gate["status"] == "pass" for gate in gates)
    if ungated and not passed:
        forced = make_plan(recipe, store, overrides, resolve=_resolve, ungated=True)
        plan = without_export(forced)
    execute(plan, store, jobs=1)
    artifact = store.need(plan.nodes[bundle].key or "")
    for part in [artifact, *(store.need(i["key"]) for i in artifact.manifest.inputs.values())]:
        part.require_whole()
    return artifact.path


def _add_versions(plan: Plan, store: Store) -> None:
    """What was made is there to be promoted; what is live stays so."""
    from serve.bundle import read_bundle
    from serve.releases import Releases
    from serve.versions import RELEASES_FILE, register_all

    for outcome in plan.outcomes[:1]:
        key = None if outcome.bundle is None else plan.nodes[outcome.bundle].key
        made = None if key is None else store.get(key)
        if made is not None:
            file = Releases(store.root / RELEASES_FILE)
            register_all(file, read_bundle(made.path), served=False)


def _resolve(repo_type: RepoType, repo: str, revision: str | None) -> str:
    from pipeline.core.hub import resolve_revision

    return resolve_revision(repo_type, repo, revision)


def without_bundle(plan: Plan) -> Plan:
    """The plan up to its gates: nothing is bundled before they are known."""
    plan = without_export(plan)
    bundles = {o.bundle for o in plan.outcomes}
    nodes = {name: node for name, node in plan.nodes.items() if name not in bundles}
    outcomes = tuple(replace(outcome, bundle=None) for outcome in plan.outcomes)
    return Plan(plan.recipe, nodes, outcomes, plan.gates)


def _executed(plan: Plan, store: Store, jobs: int | None, display: LiveDisplay) -> RunRecord:
    """Executes, and writes down who made what when, failed runs too."""
    began = time.time()
    entry: dict[str, Any] = {
        "recipe": plan.recipe.recipe.name,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
        "process": os.getpid(),
        "keys": {node.id: node.key for node in plan.nodes.values()},
    }
    name = f"runs/{time.strftime('%Y%m%dT%H%M%S', time.gmtime(began))}-{secrets.token_hex(3)}.json"
    try:
        record = execute(plan, store, jobs=jobs, on_event=display.on_event)
    except BaseException as error:
        failed = {**entry, "status": "failed", "error": str(error) or type(error).__name__}
        if plan.wanted(store):
            store.write_json(name, failed)
        if isinstance(error, GradusError):
            raise placed(error, plan.recipe, error.node) from None
        raise
    if record.ran:
        store.write_json(name, {**entry, "status": "done", "ran": dict(record.ran)})
    return record


def _gates(plan: Plan, store: Store) -> list[dict[str, Any]]:
    """Every gate that decides: the recipe's own, then those of the levels below it.

    Where there are several models' gates, each says under ``model`` whose it is.
    """
    made: list[dict[str, Any]] = []
    for report in plan.gates:
        tree = _report(plan, store, report)
        model = {"model": plan.nodes[report].config["name"]} if len(plan.gates) > 1 else {}
        made += [{**gate, **model} for gate in tree["comparison"]["gates"]] if tree else []
    return made


def _report(plan: Plan, store: Store, report: str | None) -> dict[str, Any] | None:
    if report is None:
        return None
    folder = store.need(plan.nodes[report].key or "").path
    tree: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return tree


def register(plan: Plan, store: Store) -> None:
    """Writes models/NAME.json for each model that the plan made, those below it too.

    A report that an earlier run made of the same weights stays theirs; a model that has none of
    its own may have been asked for that of the plan (a control, a level below).
    """
    made = {o.model.name: o for o in plan.outcomes}
    page = plan.outcomes[0].report if plan.outcomes else None
    for outcome in made.values():
        refs = {
            "root": outcome.model.root,
            "adapter": outcome.model.adapter,
            "merged": outcome.merged,
            "report": outcome.report,
            "asked_for": page if outcome.report is None else None,
            "bundle": outcome.bundle,
            "export": outcome.export,
        }
        keys = {role: plan.nodes[ref].key for role, ref in refs.items() if ref is not None}
        report = _report(plan, store, outcome.report)
        gates = report["comparison"]["gates"] if report else []
        present = {role: key for role, key in keys.items() if key and store.get(key)}
        counts = _counts(gates)
        before = store.model(outcome.model.name)
        if "report" not in present and before is not None and _same_weights(before, present):
            kept = {role: before["keys"].get(role) for role in ("report", "bundle")}
            present = {**{r: k for r, k in kept.items() if k and store.get(k)}, **present}
            counts = before["gates"] if "report" in present else counts
        entry = {
            "name": outcome.model.name,
            "level": outcome.model.level,
            "objective": outcome.objective,
            "base": outcome.base,
            "recipe": str(outcome.recipe),
            "rank": outcome.model.rank or None,
            "keys": present,
            "gates": counts,
        }
        if before != entry:
            store.write_json(f"models/{outcome.model.name}.json", entry)


def _same_weights(entry: Mapping[str, Any], keys: Mapping[str, str]) -> bool:
    return all(entry["keys"].get(role) == keys.get(role) for role in ("root", "adapter"))


def _counts(gates: Sequence[dict[str, Any]]) -> dict[str, int]:
    counts = {"pass": 0, "fail": 0, "undecided": 0}
    for gate in gates:
        counts[gate["status"]] += 1
    return counts


def summary(
    plan: Plan, store: Store, record: RunRecord, report: dict[str, Any] | None
) -> dict[str, Any]:
    """The last line of ``gradus run --json``."""
    comparison = report["comparison"] if report else {}
    page = plan.outcomes[0].report
    return {
        "name": plan.recipe.recipe.name,
        "models": [o.model.name for o in plan.outcomes],
        "levels": comparison.get("levels"),
        "heads": comparison.get("heads"),
        "tasks": comparison.get("tasks"),
        "arms": comparison.get("arms"),
        "recommendation": comparison.get("recommendation"),
        "chance": comparison.get("chance"),
        "gates": _gates(plan, store),
        "contaminated": contaminated_rows(plan, store),
        "report": str(store.path_of(plan.nodes[page].key or "") / "report.html") if page else None,
        "ran": len(record.ran),
        "hits": len(record.hits),
        "seconds": round(record.seconds, 2),
    }
