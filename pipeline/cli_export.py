"""`gradus export install`, the environment of exports in fewer bits; `gradus push`, to a hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click

from pipeline.cli_options import json_option, reported, require_place


@click.group()
def export() -> None:
    """Exports in fewer bits (a recipe's `export`): their own environment."""


@export.command()
@json_option
@reported
def install(as_json: bool) -> None:
    """Build or find llm-compressor in an environment of its own, from its lock file."""
    from pipeline.stages.quantise_install import install_export

    echo: Callable[[str], None] = (lambda _text: None) if as_json else click.echo
    home = install_export(echo)
    if as_json:
        click.echo(json.dumps({"home": str(home)}))


@click.command()
@click.argument("target", metavar="MODEL|BUNDLE")
@click.argument("repo", metavar="OWNER/NAME")
@click.option("--export", "exported", is_flag=True, help="A model's export in fewer bits.")
@click.option("--private", is_flag=True, help="Where the repository is made.")
@click.option("--dry-run", is_flag=True, help="Send nothing: list the files, print the card.")
@json_option
@reported
def push(
    target: str, repo: str, exported: bool, private: bool, dry_run: bool, as_json: bool
) -> None:
    """Push a gated bundle or export to the hub, with its model card."""
    from pipeline.core.hub_push import push_files
    from pipeline.core.store import Store
    from pipeline.push import parcel_of, require_repo

    require_repo(repo)
    require_place(Path(target))
    parcel = parcel_of(target, Store(), export=exported)
    sizes, url = parcel.sizes(), None
    if not dry_run:
        url = push_files(repo, parcel.files, private=private, message=f"{parcel.name}, by gradus")
    if as_json:
        card = parcel.card if dry_run else None
        click.echo(json.dumps({"repo": repo, "url": url, "files": sizes, "card": card}))
        return
    for name, size in sizes.items():
        click.echo(f"{size:>14,}  {name}")
    if dry_run:
        click.echo(
            f"\n{parcel.card}\nnothing was sent: {len(sizes)} files, {sum(sizes.values()):,} bytes"
        )
    else:
        click.echo(f"pushed {len(sizes)} files, {sum(sizes.values()):,} bytes: {url}")
