"""What the contamination check took out of a recipe's rows, told at the end of a run."""

from __future__ import annotations

from pipeline.core.store import Store
from pipeline.plan import Plan

_FILE = "contaminated.jsonl"


def contaminated_rows(plan: Plan, store: Store) -> dict[str, int]:
    """Node of each Dataset that lost rows to the check, to their number; found or made."""
    found = {}
    for node in plan.nodes.values():
        artifact = store.get(node.key) if node.stage == "prepare" and node.key else None
        if artifact is not None and (rows := artifact.manifest.facts.get("contaminated")):
            found[node.id] = int(rows)
    return found


def contamination_lines(plan: Plan, store: Store) -> list[str]:
    """A line for each of those Datasets, and where the rows can be read."""
    found = contaminated_rows(plan, store)
    places = {node: store.path_of(plan.nodes[node].key or "") / _FILE for node in found}
    return [
        f"{node}: the contamination check took out {rows:,} {'row' if rows == 1 else 'rows'} of "
        f"what an evaluation asks: {places[node]}"
        for node, rows in found.items()
    ]
