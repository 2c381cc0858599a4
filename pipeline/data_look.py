"""What `gradus data` does: prepares a recipe's rows, or looks at files that no recipe names."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from pipeline.core.errors import DataError, UserError
from pipeline.core.recipe import shown
from pipeline.core.schema_data import Clean
from pipeline.core.store import Store
from pipeline.data.formats import label_problems
from pipeline.data_sources import placed_rows, shape_of
from pipeline.data_view import data_facts, print_data, print_rows
from pipeline.plan import Plan
from pipeline.stages.prepare_desk import SEVERAL_LABELS

_RECIPES = (".yaml", ".yml")
_MOST_REASONS = 10
# As a Path shows it: of two slashes one is left.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_MOST_NOTES = 5


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
    if show:
        raise UserError("--show: rows are rendered by a recipe's tokenizer; name a recipe")
    if _URL.match(str(target)):
        raise UserError(f"{target}: a URL is read by a recipe; name it there: data.train.path")
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
    for about in facts.values():
        about["notes"] = _notes(plan)
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


def _notes(plan: Plan) -> list[str]:
    """What the training rows' formats leave out, so that nobody learns it from the model."""
    data = plan.recipe.recipe.data
    found: list[str] = []
    for number, source in enumerate(data.train if data is not None else ()):
        key = f"data.train.{number}"
        shape = shape_of(plan.recipe, key if key in plan.recipe.places else "data.train", source)
        found += [f"{source.path or source.generator}: {note}" for note in shape.notes]
        train = plan.recipe.recipe.train
        if shape.form == "preference" and train is not None and "dpo" not in train.objective:
            found.append(f"{source.path}: chosen answers are learned; rejected ones play no part")
    return found


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
    from pipeline.data.gathering import SourcePlan, gather
    from pipeline.data.ledger import Account, Ledger
    from pipeline.data.sources import peek, read_chunks

    where = shown(target)
    problem: DataError | None = None
    columns: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    if form is None:
        try:
            found = detect(placed_rows(peek(str(target), place="rows"), where), where)
            form, columns, notes = found.form, dict(found.columns), found.notes
        except DataError as error:
            # Every row is still read and counted, as text that it is not.
            form, problem = "text", error
    plan = SourcePlan("rows", form, columns, None, clean=Clean().model_dump(mode="json"))
    with closing(Ledger(work / "q.jsonl")) as refusals, closing(Ledger(work / "d.jsonl")) as lost:
        account = Account("rows", refusals, lost)
        shelf = gather(
            [(plan, read_chunks(str(target), place="rows"))], work / "rows.arrow", InProcess(),
            account,
            max_quarantined=sys.maxsize,  # The funnel is asked for, however bad the rows are.
        )  # fmt: skip
    funnel = Funnel(read=account.read)
    funnel.lose("quarantined", account.quarantined)
    funnel.lose("cleaned", account.cleaned)
    joined = form == "tagging" or bool(account.details[SEVERAL_LABELS])
    verdicts = selection.Verdicts(np.zeros(len(shelf), np.int16))
    selection.exact_duplicates(shelf, verdicts, "report")
    balance = selection.class_balance(shelf, verdicts, Clean().balance.model_dump(), joined=joined)
    funnel.details.update(account.details)
    funnel.details.update(verdicts.details)
    refused = _refused(work / "q.jsonl", funnel.details)
    funnel.kept = len(shelf)
    require_sum({"rows": funnel})
    if problem is None and account.quarantined == account.read:
        problem = DataError(
            f"{where}: no row reads as {form}; leave --format out, or mend the rows"
        )
    facts = {
        "sources": [
            {
                "split": "rows",
                "name": target.name,
                "format": form,
                "columns": columns,
                **account.sources[0],
            }
        ],
        "funnel": {"rows": funnel.to_json()},
        "balance": balance,
        "notes": [*notes, *_labels(balance.get("counts", {}), funnel.details)],
        "refused": refused,
        "folder": "",
    }
    return facts, problem


def _refused(file: Path, details: Counter[str]) -> list[dict[str, Any]]:
    """Counts what was refused by its reason, commonest first, with the place of its first row."""
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    with file.open(encoding="utf-8") as stream:
        for line in stream:
            entry = json.loads(line)
            counts[entry["reason"]] += 1
            first.setdefault(entry["reason"], entry["place"])
    shown = {f"quarantined: {reason}": count for reason, count in counts.most_common(_MOST_REASONS)}
    if len(counts) > len(shown):
        shown["quarantined: for other reasons"] = counts.total() - sum(shown.values())
    details.update(shown)
    return [
        {"rows": count, "reason": reason, "first": first[reason]}
        for reason, count in counts.most_common(_MOST_REASONS)
    ]


def _labels(counts: Mapping[str, int], details: Mapping[str, int]) -> list[str]:
    """What would stop a recipe with these labels."""
    if details.get(SEVERAL_LABELS):
        return []
    problems = label_problems(counts)
    more = len(problems) - _MOST_NOTES
    return [
        *problems[:_MOST_NOTES],
        *([f"and {more:,} more labels like these"] if more > 0 else []),
    ]
