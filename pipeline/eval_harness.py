"""`gradus eval --harness TASK`: known benchmarks, and a recipe's own rows, by another's code."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from pipeline.core.errors import UserError
from pipeline.core.objectives import OBJECTIVES
from pipeline.core.store import Store
from pipeline.core.terminal import visible
from pipeline.display import LiveDisplay
from pipeline.eval_plan import SUITE, Wishes, evaluations_of, named_model, suites_of

if TYPE_CHECKING:
    from eval.harness.run import Checkpoint, Served

_OTHERWISE = (
    "arms", "suite", "data", "form", "labels", "prompt", "system", "max_new_tokens",
)  # fmt: skip
_BATCH, _NODE = 16, "harness"
_LONGEST_NAME = 80


def evaluate_by_harness(target: str, wishes: Wishes, store: Store) -> tuple[dict[str, Any], Path]:
    """Asks a model of the store or a served one; figures, and the folder of answers.

    Raises:
        UserError: no such model or task, or an option that has no meaning here.
    """
    from eval.answered import Answered, write_answered
    from eval.answered import Table as Answers
    from eval.harness.run import run_harness
    from eval.journal import held

    # A checkpoint's answers are known by its weights: nothing is to be settled.
    idle = wishes.given(_OTHERWISE if "://" in target else (*_OTHERWISE, "earlier"))
    if idle:
        raise UserError(f"{idle[0]}: has no meaning beside --harness; leave it out")
    asked: Checkpoint | Served
    if "://" in target:
        asked, suites, name = _served(target, wishes, store)
    else:
        asked, suites, name = _checkpoint(target, store)
    folder = wishes.out or store.root / "evals" / _folder_name(asked, suites, name, wishes.harness)
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder):
        with LiveDisplay.of_stages({_NODE: "evaluate"}) as display:
            run = run_harness(
                asked,
                wishes.harness,
                out=folder,
                suites=suites,
                limit=wishes.limit,
                batch_size=_BATCH,
                earlier=wishes.earlier,
                echo=lambda line: click.echo(line, err=True),
                on_progress=lambda done, total: display.on_event(
                    {"node": _NODE, "kind": "progress", "step": done, "total": total}
                ),
            )
            display.on_event({"node": _NODE, "kind": "finished", "seconds": run.seconds})
        tables = [
            Answers(suite, "likelihood", "label", found, groups=_groups(suites, suite))
            for suite, found in run.answers.items()
        ]
        answered = Answered(name, target, tables, notes=run.notes, limit=wishes.limit)
        tree = write_answered(folder, answered)
    return {**tree, **run.to_json()}, folder


def _folder_name(
    asked: Checkpoint | Served, suites: Mapping[str, Path], name: str, tasks: Sequence[str]
) -> str:
    """The same for the same question, so that a second run goes on; another for any other.

    A model of the store is told by its name. The name of a served one may stand for many: its
    address and the rows of our own tell more.
    """
    from eval.harness.run import Served
    from pipeline.core.digest import canonical_json, text_digest

    told = "+".join(Path(task).stem for task in tasks)
    plain = "".join(c if c.isalnum() or c in "-_.+" else "-" for c in f"{name}-{told}")
    url = asked.url if isinstance(asked, Served) else None
    if url is None and len(plain) <= _LONGEST_NAME:
        return f"{plain}-harness"
    ours = {task: suites[task].name for task in tasks if task in suites}
    digest = text_digest(canonical_json([url, name, list(tasks), ours]))[:8]
    return f"{plain[:_LONGEST_NAME]}-{digest}-harness"


def _groups(suites: Mapping[str, Path], suite: str) -> dict[str, str]:
    """What the items of an own suite share with others."""
    from eval.suite import shared_by
    from pipeline.data.arrow import read_rows

    return shared_by(read_rows(suites[suite] / "test.arrow")) if suite in suites else {}


def print_harness(tree: Mapping[str, Any], folder: str) -> None:
    """The harness's own figures, a line each, and where its answers lie."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("task", "figure"):
        table.add_column(name)
    for name in ("value", "standard error", "items", "shots"):
        table.add_column(name, justify="right")
    for task, found in tree["tasks"].items():
        figures = found["figures"]
        for key, value in figures.items():
            metric, _, how = key.partition(",")
            if metric.endswith("_stderr") or not isinstance(value, (int, float)):
                continue
            error = figures.get(f"{metric}_stderr,{how}")
            items = found["items"]
            table.add_row(
                visible(task),
                metric if how in ("", "none") else f"{metric} ({how})",
                f"{value:.4f}",
                f"{error:.4f}" if isinstance(error, float) else "",
                "" if items is None else f"{items:,}",
                "" if found["shots"] is None else str(found["shots"]),
            )
    console.print(table)
    for line in tree["notes"]:
        print(visible(line))
    print(f"lm-evaluation-harness {tree['harness']}; samples and figures: {folder}")


def _checkpoint(target: str, store: Store) -> tuple[Any, dict[str, Path], str]:
    """A model of the store, and the suites of its report that make a multiple choice."""
    from eval.harness.run import Checkpoint

    if target.endswith((".yaml", ".yml")):
        raise UserError(
            "--harness: asks one model; name it in the place of its recipe (see `gradus models`)"
        )
    entry = named_model(store, target)
    if not OBJECTIVES[entry["objective"]].writes:
        raise UserError(f"--harness: {target} writes no text, and the harness asks models that do")
    keys = entry["keys"]
    root = store.need(keys["root"]).path
    adapter = store.need(keys["adapter"]).path if keys.get("adapter") else None
    suites: dict[str, Path] = {}
    if "report" in keys:
        for artifact in evaluations_of(store, entry):
            for role, ref in artifact.manifest.inputs.items():
                if role.startswith(SUITE):
                    _add(suites, role.removeprefix(SUITE), store.need(ref["key"]).path)
    return Checkpoint(root, adapter), suites, target


def _add(suites: dict[str, Path], name: str, folder: Path) -> None:
    render = json.loads((folder / "render.json").read_text(encoding="utf-8"))["render"]
    if render in ("sft", "hybrid"):
        suites.setdefault(name, folder)


def _served(target: str, wishes: Wishes, store: Store) -> tuple[Any, dict[str, Path], str]:
    """A served model, and the suites of the recipe that is named beside it."""
    from eval.endpoint.client import Endpoint, Patience
    from eval.harness.run import Served

    async def chosen() -> tuple[str, str]:
        patience = Patience(timeout_s=wishes.timeout_s, retries=wishes.retries)
        async with Endpoint(
            target, model=wishes.model, api_key=wishes.api_key, patience=patience
        ) as endpoint:
            return endpoint.url, await endpoint.choose_model()

    url, model = asyncio.run(chosen())
    suites: dict[str, Path] = {}
    tokenizer = None
    if wishes.recipe is not None:
        suites, tokenizer = _of_recipe(wishes.recipe, wishes, store)
    served = Served(url, model, wishes.api_key, tokenizer, wishes.concurrency)
    return served, suites, model


def _of_recipe(recipe: Path, wishes: Wishes, store: Store) -> tuple[dict[str, Path], Path]:
    """The recipe's suites, prepared first where they are not yet, and its tokenizer."""
    from pipeline.conduct import planned, prepared_only
    from pipeline.plan import Plan

    plan = planned(recipe, store, wishes.overrides)
    nodes = suites_of(plan, None)
    goal = Plan(plan.recipe, plan.nodes, (), tuple(nodes.values()))
    with LiveDisplay(goal, store) as display:
        prepared_only(goal, store, None, display)
    suites: dict[str, Path] = {}
    tokenizer = None
    for name, node in nodes.items():
        _add(suites, name, store.path_of(plan.nodes[node].key or ""))
        source = plan.nodes[plan.nodes[node].inputs["tokenizer"]]
        tokenizer = store.path_of(source.key or "")
    assert tokenizer is not None
    return suites, tokenizer
