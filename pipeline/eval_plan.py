"""What `gradus eval` may be wished, and which evaluations of a plan or of the store it means."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.core.artifact import Artifact
from pipeline.core.errors import UserError
from pipeline.core.nearest import nearest
from pipeline.core.store import Store
from pipeline.plan import Node, Plan

SUITE = "suite."


@dataclass(frozen=True)
class Wishes:
    """The options of `gradus eval`.

    Attributes:
        arms: forms of asking; none: all that there are.
        suite: one suite of the recipe; None: all.
        data, form, prompt, system: a file of rows, how it is read and put.
        recipe: whose suites a served model is asked.
        labels: a file of the labels that there are.
        limit: items of each suite at most, drawn.
        out: where answers go; None: a folder of the store.
        retries: tries after the first, as ``Patience`` has it.
        earlier: what becomes of answers that a killed run left, as ``ask_suite`` has it.
        harness: tasks of lm-evaluation-harness, asked in the place of arms.
    """

    arms: Sequence[str] = ()
    suite: str | None = None
    data: Path | None = None
    form: str | None = None
    prompt: str | None = None
    system: str | None = None
    recipe: Path | None = None
    labels: Path | None = None
    limit: int | None = None
    out: Path | None = None
    overrides: Sequence[str] = ()
    jobs: int | None = None
    model: str | None = None
    api_key: str | None = None
    concurrency: int = 16
    timeout_s: float = 120.0
    retries: int | None = None
    max_new_tokens: int | None = None
    earlier: Literal["check", "keep", "drop"] = "check"
    harness: Sequence[str] = ()

    def given(self, names: Sequence[str]) -> list[str]:
        """Which of some options were set, as the command line names them."""
        plain = Wishes()
        options = {"form": "format"}
        return [
            f"--{options.get(name, name).replace('_', '-').removesuffix('-s')}"
            for name in names
            if getattr(self, name) != getattr(plain, name)
        ]


def own_evaluations(plan: Plan) -> list[Node]:
    """The evaluations of the models that a plan's recipe itself makes, its first seed's."""
    recipe = plan.recipe.recipe
    if recipe.train is None:
        return []
    first = {ref for o in plan.outcomes for ref in (o.model.adapter or o.model.root,)}
    start = f"{recipe.name}/evaluate."
    return [
        node
        for node in plan.nodes.values()
        if node.stage == "evaluate"
        and node.id.startswith(start)
        and not node.id.startswith(f"{start}as-")
        and node.inputs.get("adapter", node.inputs["root"]) in first
    ]


def suites_of(plan: Plan, wanted: str | None) -> dict[str, str]:
    """Suite to its Dataset node, of the suites whose answers can be written.

    Of a recipe that trains a channel and nothing else, those that tell the text of a label.

    Raises:
        UserError: there is none, or none of that name.
    """
    found = _rendered_as(plan, ("sft", "hybrid", "classify")) or channel_suites_of(plan)
    if not found:
        raise UserError(
            f"{plan.recipe.path.name}: has no suite whose answers a served model could write; "
            "name another recipe, or give --data FILE"
        )
    if wanted is None:
        return found
    if wanted not in found:
        known = ", ".join(found)
        raise UserError(f"--suite {wanted}: {plan.recipe.path.name} has no such suite ({known})")
    return {wanted: found[wanted]}


def channel_suites_of(plan: Plan) -> dict[str, str]:
    """Suite to the Dataset node that tells a channel model its rows; none without a channel."""
    return _rendered_as(plan, ("channel",))


def _rendered_as(plan: Plan, renders: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for node in own_evaluations(plan):
        for role, dataset in node.inputs.items():
            if role.startswith(SUITE) and plan.nodes[dataset].config.get("render") in renders:
                found.setdefault(role.removeprefix(SUITE), dataset)
    return found


def evaluations_of(store: Store, entry: Mapping[str, Any]) -> list[Artifact]:
    """The evaluations of a named model that stand in its report.

    Raises:
        UserError: there are none.
    """
    keys, report = entry["keys"], report_of(store, entry)
    found = []
    for role, ref in report.manifest.inputs.items() if report is not None else ():
        artifact = store.get(ref["key"]) if role.startswith("model") else None
        if artifact is None or artifact.manifest.stage != "evaluate":
            continue
        own = {role: one["key"] for role, one in artifact.manifest.inputs.items()}
        if (own.get("root"), own.get("adapter")) == (keys.get("root"), keys.get("adapter")):
            found.append(artifact)
    if not found:
        raise UserError(
            f"{entry['name']}: the store holds no evaluation of it, which would tell its suites "
            f"and how it is asked; run `gradus eval {entry['recipe']}` first"
        )
    return found


def report_of(store: Store, entry: Mapping[str, Any]) -> Artifact | None:
    """The report in which a named model stands: its own recipe's, or one that asked for it."""
    keys = entry["keys"]
    reports = [store.get(keys[role]) for role in ("report", "asked_for") if role in keys]
    return next((one for one in reports if one is not None), None)


def written_suites(configs: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The suites whose answers are written freely, of the stages that ask them, each once."""
    return tuple(dict.fromkeys(name for config in configs for name in config["suites"]))


def left_out(
    known: Iterable[Node], written: Iterable[str], asked: Sequence[Node], recipe: str
) -> list[str]:
    """A line for each suite of a model's recipe that was not asked, and why.

    Args:
        known: the evaluations of its report.
        written: suites that its report has written answers of.
        asked: the evaluations that were made now.
    """
    arms = ", ".join(dict.fromkeys(str(node.config["arm"]) for node in asked))
    done, there = _suites_in(asked), _suites_in(known)
    lines = [f"left out: suite {name}: is not asked in {arms}" for name in there - done]
    lines += [
        f"left out: suite {name}: is no question with an answer: programs check what is written; "
        f"the whole report has it: gradus eval {recipe}"
        for name in dict.fromkeys(written)
        if name not in there | done
    ]
    return sorted(lines)


def _suites_in(nodes: Iterable[Node]) -> set[str]:
    return {
        role.removeprefix(SUITE) for node in nodes for role in node.inputs if role.startswith(SUITE)
    }


def named_model(store: Store, name: str) -> dict[str, Any]:
    """The entry of a model in the store.

    Raises:
        UserError: there is none of that name.
    """
    entry = store.model(name)
    if entry is not None:
        return entry
    names = [m["name"] for m in store.models()]
    raise UserError(
        f"{name}: no such model in {store.root}{nearest(name, names)} "
        f"(known: {', '.join(names) or 'none yet'}); see `gradus models`"
    )


def offered_of(store: Store, artifact: Artifact, suite: str) -> list[str] | None:
    """The labels that an evaluation offered on a suite; None where the store does not tell.

    Args:
        artifact: of stage ``evaluate``.
    """
    from eval.arms.rendered import offered

    folders = {}
    for role, ref in artifact.manifest.inputs.items():
        made = store.get(ref["key"])
        if made is not None and (made.path / "labels.json").is_file():
            folders[role] = made.path
    named = artifact.manifest.config.get("labels")
    told = folders.get("labels", folders.get(f"{SUITE}{suite}"))
    if named is None and told is None:
        return None
    text = "" if told is None else (told / "labels.json").read_text(encoding="utf-8")
    return offered(named if named is not None else json.loads(text), folders.get("data")) or None
