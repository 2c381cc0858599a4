"""`gradus export install`: the environment that exports in fewer bits are made in."""

from __future__ import annotations

import json
from collections.abc import Callable

import click

from pipeline.cli_options import json_option, reported


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
