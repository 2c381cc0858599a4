"""`gradus usage`: what keys and models have used."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

import click

from pipeline.cli_keys import span_s
from pipeline.cli_options import json_option, reported
from pipeline.core.errors import UserError


@click.command()
@click.option("--by", type=click.Choice(["key", "model"]), default="key", show_default=True)
@click.option("--since", help="A span: 30d, 12h; else all there is.")
@click.option("--usage-db", "url", envvar="GRADUS_USAGE_URL", metavar="URL",
              help="As of `gradus serve`.")  # fmt: skip
@json_option
@reported
def usage(by: str, since: str | None, url: str | None, as_json: bool) -> None:
    """Requests and tokens, by key or by model."""
    from serve.usage import UsageStore

    place = usage_place(url)
    if place is None:
        raise UserError("--usage-db none: nothing is kept there; name a database")
    store = UsageStore(place)
    began = 0.0 if since is None else time.time() - span_s("--since", since)
    totals = store.totals(by, began)
    store.close()
    if as_json:
        click.echo(json.dumps([asdict(total) for total in totals]))
        return
    if not totals:
        click.echo("nothing was asked yet")
    for total in totals:
        click.echo(
            f"{total.name or '(no key)'}: {total.requests:,} requests, {total.prompt_tokens:,} "
            f"prompt tokens, {total.completion_tokens:,} written"
        )


def usage_place(url: str | None) -> str | None:
    """SQLAlchemy's URL of the database of usage; None where none is wanted."""
    from pipeline.core.store import Store

    if url == "none":
        return None
    if url:
        return url
    place = Store().root / "usage.db"
    Path(place).parent.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{place}"
