"""What the trainings of a recipe came to, a line each: their figures, and where the curves are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.core.artifact import Artifact
from pipeline.core.store import Store
from pipeline.curve_plan import curve_stage
from pipeline.plan import Node, Plan

_VALIDATION = "validation_"


def training_lines(plan: Plan, store: Store) -> list[str]:
    """A line for each training of the recipe itself and of its phases, found or made.

    Those of a learning curve are drawn, not listed.
    """
    lines: list[str] = []
    curves = False
    for node, artifact in _own(plan, store):
        text = (artifact.path / "history.jsonl").read_text(encoding="utf-8")
        history = [json.loads(line) for line in text.splitlines() if line]
        lines.append(f"{node.id}: {outcome_words(artifact.manifest.facts, history, node.config)}")
        # One that was found may have been made without.
        folder = store.root / "trackers/tensorboard" / f"{node.id}-{artifact.key[:8]}"
        curves |= "tensorboard" in (node.options.get("report_to") or ()) and folder.is_dir()
    if curves:
        lines.append(f"curves: tensorboard --logdir {store.root / 'trackers/tensorboard'}")
    return lines


def _own(plan: Plan, store: Store) -> Iterator[tuple[Node, Artifact]]:
    name = plan.recipe.recipe.name
    own = {name, *(f"{name}.{phase.name}" for phase in plan.recipe.recipe.phases)}
    for node in plan.nodes.values():
        mine = node.id.partition("/")[0] in own and curve_stage(node.id) is None
        if node.stage.startswith("train") and mine and node.key:
            artifact = store.get(node.key)
            if artifact is not None:
                yield node, artifact


def outcome_words(
    facts: Mapping[str, Any], history: Sequence[Mapping[str, Any]], config: Mapping[str, Any]
) -> str:
    """The figures of the weights that were kept, when they were, and whether it stopped early."""
    updates, planned, best = facts["updates"], facts["planned_updates"], facts.get("best_step")
    validations = [record for record in history if any(n.startswith(_VALIDATION) for n in record)]
    words = []
    if validations:
        kept = validations[-1]
        if config.get("load_best_model_at_end"):
            kept = next((r for r in validations if r["step"] == best), kept)
        figures = ", ".join(
            f"{name.removeprefix(_VALIDATION).replace('_', ' ')} {value:.4g}"
            for name, value in kept.items()
            if name.startswith(_VALIDATION)
        )
        words.append(f"validation {figures} at update {kept['step']}")
        if best is not None:
            words.append("the best" if best == kept["step"] else f"best at update {best}")
    elif facts.get("final_loss") is not None:
        words.append(f"loss {facts['final_loss']:.4g} on train at update {updates}")
    words.append(
        f"stopped early at update {updates} of {planned}"
        if updates < planned
        else f"{updates} updates"
    )
    return ", ".join(words)
