"""`gradus eval`: a model of the store, a recipe, or a served model behind a URL."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click

from pipeline.core.errors import UserError
from pipeline.core.places import require_folder
from pipeline.core.store import Store
from pipeline.eval_plan import Wishes

_RECIPES = (".yaml", ".yml")
# What is meant as an address: localhost:8000, 10.0.0.1:80/v1, host.example/v1.
_ADDRESS = re.compile(r"(?:localhost|[\w.-]+\.[\w-]+|[\w.-]+:\d+)(?::\d+)?(?:/.*)?", re.ASCII)
_OF_ENDPOINTS = (
    "recipe", "prompt", "system", "model", "concurrency", "timeout_s", "retries", "max_new_tokens",
    "earlier",
)  # fmt: skip


def evaluate(target: str, wishes: Wishes, *, as_json: bool) -> int:
    """Evaluates what ``target`` names, and prints its figures.

    Raises:
        UserError: it names nothing, or an option has no meaning for it.
    """
    if wishes.data is not None and wishes.suite is not None:
        raise UserError("--suite: names a suite of a recipe; leave it out beside --data")
    if wishes.form is not None and wishes.data is None:
        raise UserError("--format: is that of --data; give it, or leave --format out")
    if wishes.out is not None:
        require_folder("--out", wishes.out)
    store = Store()
    if wishes.harness:
        from pipeline.eval_harness import evaluate_by_harness, print_harness

        tree, folder = evaluate_by_harness(target, wishes, store)
        if as_json:
            click.echo(json.dumps({**tree, "folder": str(folder)}))
        else:
            print_harness(tree, str(folder))
        return 0
    if "://" in target:
        from pipeline.eval_endpoint import evaluate_endpoint

        tree, folder = evaluate_endpoint(target, wishes, store)
    else:
        idle = wishes.given(_OF_ENDPOINTS)
        if store.model(target) is None and not target.endswith(_RECIPES):
            _require_no_address(target)
        if idle:
            raise UserError(f"{idle[0]}: has a meaning for a URL only; leave it out")
        if target.endswith(_RECIPES) and not _narrowed(wishes):
            from pipeline.conduct import evaluate_recipe

            return evaluate_recipe(
                Path(target), wishes.overrides, jobs=wishes.jobs, as_json=as_json
            )
        from pipeline.eval_model import evaluate_model, evaluate_models_of

        if target.endswith(_RECIPES):
            tree, folder = evaluate_models_of(Path(target), wishes, store)
        else:
            tree, folder = evaluate_model(target, wishes, store)
    if as_json:
        click.echo(json.dumps({**tree, "folder": str(folder)}))
    else:
        from pipeline.eval_view import print_answered

        print_answered(tree, str(folder))
    return 0


def _narrowed(wishes: Wishes) -> bool:
    """Whether something else is asked than a recipe's whole report."""
    return bool(wishes.given(("arms", "suite", "data", "labels", "limit", "out")))


def _require_no_address(target: str) -> None:
    if _ADDRESS.fullmatch(target):
        raise UserError(
            f"{target}: no such model, and no URL without its scheme; write http://{target}"
        )
