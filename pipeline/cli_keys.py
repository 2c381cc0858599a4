"""`gradus keys`: who may ask a gateway, and how much."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli_options import json_option, reported
from pipeline.core.errors import UserError

if TYPE_CHECKING:
    from serve.keys import Key

_FILE = click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file of keys; by default keys.json in the store.",
)
_SPAN = re.compile(r"([1-9][0-9]{0,3})([mhdw])")
_SPAN_S = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@click.group()
def keys() -> None:
    """Keys of a gateway: made, listed, revoked. A running server follows within a second.

    What a key has begun to stream runs to its end.
    """


@keys.command()
@click.argument("name")
@click.option("--models", help="Names that it may ask, with commas between; else all.")
@click.option("--rpm", type=int, help="Requests a minute.")
@click.option("--tpm", type=int, help="Tokens a minute.")
@click.option("--concurrency", type=int, help="Requests at once.")
@click.option("--metrics", is_flag=True, help="It may read /metrics, which tells of all traffic.")
@click.option("--expires", help="A span (30d, 12h) or a day (2027-01-31).")
@_FILE
@json_option
@reported
def add(
    name: str,
    models: str | None,
    rpm: int | None,
    tpm: int | None,
    concurrency: int | None,
    metrics: bool,
    expires: str | None,
    path: Path | None,
    as_json: bool,
) -> None:
    """Make a key for NAME; its token is shown once, and kept nowhere."""
    from serve.keys import add_key

    listed = tuple(each.strip() for each in models.split(",")) if models is not None else ()
    if models is not None and not all(listed):
        raise UserError(f"--models {models}: give names with commas between")
    place = _place(path)
    token, key = add_key(
        place, name, models=listed, rpm=rpm, tpm=tpm, concurrency=concurrency, metrics=metrics,
        expires_at=None if expires is None else ends_at(expires, time.time()),
    )  # fmt: skip
    if as_json:
        click.echo(json.dumps({**_told(key), "token": token}))
        return
    click.echo(f"{place}: key {key.id} for {key.name}; its token, shown this once:", err=True)
    click.echo(token)


@keys.command("list")
@_FILE
@json_option
@reported
def list_keys(path: Path | None, as_json: bool) -> None:
    """Every key with its bounds; tokens are not known here."""
    from pipeline.core.terminal import visible
    from serve.keys import read_keys

    now = time.time()
    found = read_keys(_place(path))
    if as_json:
        click.echo(json.dumps([_told(key) for key in found]))
        return
    for key in found:
        bounds = [f"models {', '.join(key.models)}" if key.models else "all models"]
        bounds += [f"{value} {what}" for what, value in (
            ("requests/min", key.rpm), ("tokens/min", key.tpm), ("at once", key.concurrency),
        ) if value is not None]  # fmt: skip
        bounds += ["reads /metrics"] if key.metrics else []
        if key.expires_at is not None:
            day = datetime.fromtimestamp(key.expires_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
            bounds.append(("EXPIRED " if key.expires_at <= now else "until ") + day)
        click.echo(visible(f"{key.id}  {key.name}: {'; '.join(bounds)}"))


@keys.command()
@click.argument("key_id")
@_FILE
@reported
def revoke(key_id: str, path: Path | None) -> None:
    """Take the key of this id away."""
    from serve.keys import revoke_key

    key = revoke_key(_place(path), key_id)
    click.echo(f"revoked {key.id} ({key.name})")


def ends_at(text: str, now: float) -> float:
    """Seconds since the epoch of a span from now, or of a day's beginning (UTC).

    Raises:
        UserError: it is neither, or lies in the past.
    """
    if _SPAN.fullmatch(text):
        return now + span_s("--expires", text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(f"--expires {text}: give a span (30d, 12h) or a day (2027-01-31)") from None
    ends = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    if ends <= now:
        raise UserError(f"--expires {text}: lies in the past")
    return ends


def span_s(option: str, text: str) -> float:
    """Seconds of a span such as 30d, 12h, 45m, 2w.

    Raises:
        UserError: it is none.
    """
    span = _SPAN.fullmatch(text)
    if span is None:
        raise UserError(f"{option} {text}: give a span of up to four digits, such as 30d or 12h")
    return float(int(span[1]) * _SPAN_S[span[2]])


def _told(key: Key) -> dict[str, Any]:
    """All of a key that may be shown."""
    return key.model_dump(exclude={"sha256"})


def _place(path: Path | None) -> Path:
    from pipeline.core.store import Store

    if path is not None and not path.name:
        raise UserError("--file: names no file; give one, or leave it out")
    return path or Store().root / "keys.json"
