"""What `gradus data` does: prepares a recipe's rows, or looks at files that no recipe names."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from pipeline.core.errors import DataError, UserError
from pipeline.core.recipe import shown
from pipeline.core.schema import Clean
from pipeline.core.store import Store
from pipeline.data_view import data_facts, print_data, print_rows
from pipeline.plan import Plan

_RECIPES = (".yaml", ".yml")


def look(
    target: Path,
    overrides: Sequence[str],
    *,
    form: str | None,
    show: int,
    jobs: int | None,
    as_json: bool,
) -> int:
    """Prints the funnel of a recipe's rows, or of a file or folder of rows.

    Raises:
        UserError: neither a recipe nor rows; one line.
    """
    if target.suffix in _RECIPES:
        if form is not None:
            raise UserError("--format: a recipe names its formats itself; leave it out")
        return _recipe(target, overrides, show=show, jobs=jobs, as_json=as_json)
    if overrides:
        raise UserError("--set: has a meaning with a recipe only")
    if not target.exists():
        raise UserError(f"{target}: no such file; name a recipe, or a file or folder of rows")
    facts, problem = look_at_rows(target, form)
    if as_json:
        click.echo(json.dumps(facts))
    else:
        print_data({str(target): facts})
    if problem is not None:
        raise problem
    return 0


def _recipe(
    recipe: Path, overrides: Sequence[str], *, show: int, jobs: int | None, as_json: bool
) -> int:
    from pipeline.conduct import planned, prepared_only
    from pipeline.display import LiveDisplay

    store = Store()
    plan = planned(recipe, store, overrides)
    nodes = [
        node.id
        for node in plan.nodes.values()
        if node.stage == "prepare" and node.id.startswith(f"{plan.recipe.recipe.name}/prepare.")
    ]
    if not nodes:
        raise UserError(f"{recipe}: names no data; `gradus data` needs a recipe with data")
    goal = Plan(plan.recipe, plan.nodes, (), tuple(nodes))
    with LiveDisplay(goal, store) as display:
        prepared_only(goal, store, jobs, display)
    facts = data_facts(plan, store, nodes)
    if as_json:
        click.echo(json.dumps(facts))
        return 0
    print_data(facts)
    if show:
        for node in nodes:
            folder = Path(facts[node]["folder"])
            key = plan.nodes[plan.nodes[node].inputs["tokenizer"]].key or ""
            print_rows(folder, store.path_of(key), show)
    return 0


def look_at_rows(target: Path, form: str | None) -> tuple[dict[str, Any], DataError | None]:
    """Reads rows that no recipe names: format, funnel, defects; nothing is rendered.

    Returns:
        Facts as a prepared Dataset has them, and what is wrong with all rows, if anything.
    """
    with tempfile.TemporaryDirectory(prefix="gradus-data-") as folder:
        return _look(target, form, Path(folder))


def _look(target: Path, form: str | None, work: Path) -> tuple[dict[str, Any], DataError | None]:
    import numpy as np

    from pipeline.data import selection
    from pipeline.data.detection import detect
    from pipeline.data.executor import InProcess
    from pipeline.data.funnel import Funnel, require_sum
    from pipeline.data.gathering import Account, Ledger, SourcePlan, gather
    from pipeline.data.rows import Placed
    from pipeline.data.sources import peek, read_chunks

    where = shown(target)
    problem: DataError | None = None
    columns: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    if form is None:
        rows = [f.row for f in peek(str(target), place=where) if isinstance(f, Placed)]
        try:
            found = detect(rows, where)
            form, columns, notes = found.form, dict(found.columns), found.notes
        except DataError as error:
            # Every row is still read and counted, as text that it is not.
            form, problem = "text", error
    account = Account("rows", Ledger(work / "q.jsonl"), Ledger(work / "d.jsonl"))
    plan = SourcePlan(where, form, columns, None, clean=Clean().model_dump(mode="json"))
    shelf = gather(
        [(plan, read_chunks(str(target), place=where))], work / "rows.arrow", InProcess(), account,
        max_quarantined=sys.maxsize,  # The funnel is what was asked for, however bad the rows.
    )  # fmt: skip
    account.quarantine.close()
    funnel = Funnel(read=account.read)
    funnel.lose("quarantined", account.quarantined)
    funnel.lose("cleaned", account.cleaned)
    verdicts = selection.Verdicts(np.zeros(len(shelf), np.int16))
    selection.exact_duplicates(shelf, verdicts, "report")
    balance = selection.class_balance(shelf, verdicts, Clean().balance.model_dump())
    funnel.details.update(account.details)
    funnel.details.update(verdicts.details)
    funnel.details.update(_reasons(work / "q.jsonl"))
    funnel.kept = len(shelf)
    require_sum({"rows": funnel})
    facts = {
        "sources": [{"split": "rows", "name": target.name, "format": form, **account.sources[0]}],
        "funnel": {"rows": funnel.to_json()},
        "balance": balance,
        "notes": list(notes),
        "folder": "",
    }
    return facts, problem


def _reasons(file: Path) -> dict[str, int]:
    """Quarantine by reason, commonest first."""
    counts: dict[str, int] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        reason = f"quarantined: {json.loads(line)['reason']}"
        counts[reason] = counts.get(reason, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1])[:10])
