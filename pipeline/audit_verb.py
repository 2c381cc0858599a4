"""What `gradus audit privacy` does: trains a copy with canaries, asks it, and throws it away.

What the recipe itself needs (its base, its rows) is made in the store as ever. The copy is made
in a store of its own under ``work``, in which nothing has a name; it is deleted whole, and what
was learned is all that is left.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from pipeline.conduct import planned, prepared_only
from pipeline.core.digest import canonical_json, text_digest
from pipeline.core.errors import UserError
from pipeline.core.places import require_file
from pipeline.core.store import Store
from pipeline.display import LiveDisplay
from pipeline.plan import Node, Outcome, Plan, with_keys
from pipeline.run import execute

_CANARIES, _AUDIT = "audit/canaries.{}", "audit/{}"
# Those by whose loss a whole text, an answer or a label is foreseen.
_OBJECTIVES = ("pretrain", "cpt", "sft", "classify")


def audit_privacy(
    recipe: Path,
    overrides: Sequence[str],
    *,
    settings: Mapping[str, int],
    jobs: int | None,
    out: Path | None,
    as_json: bool,
) -> int:
    """Audits each model that the recipe trains.

    Args:
        settings: ``each`` (canaries of one number of repeats), ``reference`` (contents that a
            canary is ranked among), ``items`` (rows of each side for membership), ``seed``.
        out: where the findings are written as JSON too; a recipe may name that file in
            ``evaluate.risks.audit``.

    Raises:
        UserError: the recipe trains nothing, or ``out`` cannot be written.
    """
    if out is not None:
        require_file("--out", out)
    store = Store()
    plan = planned(recipe, store, overrides)
    copies = [_copied(plan, outcome, settings) for outcome in _audited(plan)]
    nodes = {node.id: node for copy in copies for node in copy}
    kept = _kept(plan, nodes)
    goal = Plan(plan.recipe, plan.nodes, (), tuple(kept))
    for line in _told(recipe, copies, len(goal.wanted(store)), settings):
        click.echo(line, err=True)
    with LiveDisplay(goal, store) as display:
        prepared_only(goal, store, jobs, display)
    found = _thrown_away(plan, store, nodes, kept, jobs)
    tree = {
        "name": plan.recipe.recipe.name,
        "models": found,
        "lines": [line for one in found for line in one["lines"]],
    }
    text = json.dumps(tree, ensure_ascii=False)
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")
    if as_json:
        click.echo(text)
    else:
        _print(found, out)
    return 0


def _told(
    recipe: Path, copies: Sequence[Sequence[Node]], missing: int, settings: Mapping[str, int]
) -> list[str]:
    """What is going to happen, before it takes its time: all that is known without a row read."""
    # Heavy: the figures' libraries come with it.
    from eval.risks.canaries import REPEATS

    stages = [node.stage for copy in copies for node in copy]
    names = ", ".join(str(copy[-1].config["name"]) for copy in copies)
    trained = sum(stage.startswith("train") for stage in stages)
    repeats = ", ".join(str(count) for count in (0, *REPEATS))
    canaries = settings["each"] * (len(REPEATS) + 1)
    rows = settings["each"] * sum(REPEATS)
    copied = "1 throwaway copy" if trained == 1 else f"{trained} throwaway copies"
    lines = [
        f"audit of {names}: trains {copied} on its rows and {rows:,} more ({canaries} canaries: "
        f"{settings['each']} of each of {repeats} repeats); each canary is ranked among "
        f"{settings['reference']:,} contents",
        f"membership: at most {settings['items']:,} training rows against as many test rows; then "
        "the copies are deleted",
        f"`gradus plan {recipe}` tells what one training takes",
    ]
    return lines if not missing else [*lines, f"before it: {missing} stages of the recipe itself"]


def _audited(plan: Plan) -> list[Outcome]:
    """The recipe's own models whose rows can hold a canary, each set of weights once.

    Raises:
        UserError: there is none.
    """
    own = {
        (outcome.model.root, outcome.model.adapter): outcome
        for outcome in reversed(plan.outcomes)
        if outcome.recipe == plan.recipe.path and plan.recipe.recipe.train is not None
    }
    if not own:
        raise UserError(
            f"{plan.recipe.path.name}: trains nothing, so there is nothing to audit; name a "
            "recipe that trains"
        )
    offered = [outcome for outcome in own.values() if outcome.objective in _OBJECTIVES]
    if not offered:
        objective = next(iter(own.values())).objective
        raise UserError(
            f"{plan.recipe.path.name}: its objective is {objective}, whose rows cannot hold a "
            f"canary; name a recipe with one of {', '.join(_OBJECTIVES)}"
        )
    return list(reversed(offered))


def _copied(plan: Plan, outcome: Outcome, settings: Mapping[str, int]) -> list[Node]:
    """The nodes that make one model again from rows with canaries, and ask it."""
    recipe, objective = plan.recipe.recipe, outcome.objective
    assert recipe.train is not None
    train = plan.nodes[f"{recipe.name}/train.{objective}.seed{recipe.train.seeds[0]}"]
    data = plan.nodes[train.inputs["data"]]
    canaries = Node(
        _CANARIES.format(objective),
        "canaries",
        {"each": settings["each"], "seed": settings["seed"]},
        {"data": data.id, "tokenizer": data.inputs["tokenizer"]},
    )
    other = {data.id: canaries.id}
    made = []
    for node in plan.nodes.values():
        follows = node.id == train.id or train.id in node.inputs.values()
        # Of what is made from the trained weights, only what is served: no bundle, no report.
        if follows and node.stage in ("train", "train-full", "export", "merge"):
            other[node.id] = f"audit/{node.id}"
            inputs = {role: other.get(id_, id_) for role, id_ in node.inputs.items()}
            # Its curves are nobody's: no tracker is told of them.
            options = {**node.options, **({"report_to": []} if node.id == train.id else {})}
            made.append(replace(node, id=other[node.id], inputs=inputs, options=options, key=None))
    model = outcome.model
    parts = {"root": model.root} | ({"adapter": model.adapter} if model.adapter else {})
    inputs = {role: other.get(id_, id_) for role, id_ in parts.items()}
    audit = Node(
        _AUDIT.format(objective),
        "audit",
        {
            "name": outcome.model.name,
            **{k: settings[k] for k in ("reference", "items", "seed")},
        },
        {**inputs, "data": canaries.id, "clean": data.id},
        options={"batch_size": recipe.evaluate.batch_size},
    )
    wanted = _below(audit, {node.id: node for node in made})
    return [canaries, *(node for node in made if node.id in wanted), audit]


def _below(audit: Node, made: Mapping[str, Node]) -> set[str]:
    """Those of the copied nodes that the audit stands on."""
    waiting, found = [audit], set()
    while waiting:
        for id_ in waiting.pop().inputs.values():
            if id_ in made and id_ not in found:
                found.add(id_)
                waiting.append(made[id_])
    return found


def _kept(plan: Plan, nodes: Mapping[str, Node]) -> list[str]:
    """The nodes of the recipe's own plan that the copies stand on."""
    wanted = {id_ for node in nodes.values() for id_ in node.inputs.values()}
    return [id_ for id_ in plan.nodes if id_ in wanted]


def _thrown_away(
    plan: Plan, store: Store, nodes: Mapping[str, Node], kept: Sequence[str], jobs: int | None
) -> list[dict[str, Any]]:
    """Runs the copies in a store of their own, reads what they found, and deletes it."""
    keys = {id_: plan.nodes[id_].key for id_ in kept}
    config = {id_: [node.stage, dict(node.config), dict(node.inputs)]
              for id_, node in nodes.items()}  # fmt: skip
    # By its contents: a killed audit goes on, and two different ones do not meet.
    name = f"audit-{text_digest(canonical_json([keys, config]))[:16]}"
    folder = store.root / "work" / name
    with store.locked(name):
        copies = Store(folder)
        (folder / "objects").mkdir(parents=True, exist_ok=True)
        for key in keys.values():
            assert key is not None
            link = copies.path_of(key)
            if not link.exists():
                link.symlink_to(store.path_of(key), target_is_directory=True)
        whole = with_keys([*plan.nodes.values(), *nodes.values()], store)
        audits = [id_ for id_, node in nodes.items() if node.stage == "audit"]
        goal = Plan(plan.recipe, whole, (), tuple(audits))
        try:
            with LiveDisplay(goal, copies) as display:
                execute(goal, copies, jobs=jobs, on_event=display.on_event)
        except UserError:
            # What must be mended first goes on from nothing.
            shutil.rmtree(folder)
            raise
        found = []
        for id_ in audits:
            path = copies.need(whole[id_].key or "").path / "audit.json"
            found.append(json.loads(path.read_text(encoding="utf-8")))
        shutil.rmtree(folder)
    return found


def _print(found: Sequence[Mapping[str, Any]], out: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if Console().is_terminal else 140)
    for one in found:
        table = Table(box=None, pad_edge=False, header_style="bold", title=one["name"],
                      title_justify="left")  # fmt: skip
        for name in ("what", "found"):
            table.add_column(name, overflow="fold")
        for line in one["lines"]:
            table.add_row(line["what"], line["shown"])
        console.print(table)
    click.echo("the copy and its canaries are deleted; no model of them has a name")
    if out is not None:
        click.echo(f"written: {out} (evaluate.risks.audit may name it)")
