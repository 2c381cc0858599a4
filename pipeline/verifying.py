"""`gradus verify`: whether a byte changed, in the store or in folders copied out of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from pipeline.core.store import Store
from pipeline.lineage import verify_store as check_store


def verify_store(*, as_json: bool) -> int:
    """Recomputes every digest of the store. Exit code 1 where something is not as it was made."""
    checked, problems = check_store(Store())
    if as_json:
        click.echo(json.dumps({"artifacts": checked, "problems": problems}))
    else:
        for problem in problems:
            click.echo(problem, err=True)
        click.echo(f"{checked} artifacts, {len(problems)} problems")
    return 1 if problems else 0


def verify_folders(folders: Sequence[Path], *, as_json: bool) -> int:
    """Reads every byte of artifacts' folders, of a bundle its base's too; a verdict for each.

    Returns:
        Exit code 1 where something is not as it was made.

    Raises:
        UserError: no such folder.
    """
    from serve.whole import check_folder

    found = [(folder, *check_folder(folder)) for folder in folders]
    problems = [problem for _, _, told in found for problem in told]
    if as_json:
        told = [{"folder": str(f), "kind": kind, "problems": lines} for f, kind, lines in found]
        click.echo(json.dumps({"folders": told, "problems": problems}))
        return 1 if problems else 0
    for problem in problems:
        click.echo(problem, err=True)
    for folder, kind, lines in found:
        verdict = "whole" if not lines else f"{len(lines)} problems"
        click.echo(f"{folder}: {kind}: {verdict}")
    return 1 if problems else 0
