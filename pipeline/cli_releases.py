"""`gradus promote`, `gradus rollback`, `gradus releases`: which version a name stands for."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli_options import reported

if TYPE_CHECKING:
    from serve.releases import Release, Releases

_FILE = click.option(
    "--releases",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file of releases; by default releases.json in the store.",
)


@click.command()
@click.argument("name")
@click.argument("version", type=click.IntRange(min=1))
@click.option("--canary", type=float, help="Percent of the callers that are given it; else all.")
@_FILE
@reported
def promote(name: str, version: int, canary: float | None, path: Path | None) -> None:
    """Make VERSION of NAME live, or try it on some callers; running servers follow."""
    file = _file(path)
    _require_servable(file, name, version)
    _say(name, file.promote(name, version, canary))


@click.command()
@click.argument("name")
@_FILE
@reported
def rollback(name: str, path: Path | None) -> None:
    """End a trial of NAME, or go back to the version that was live before."""
    _say(name, _file(path).rollback(name))


@click.command("releases")
@click.argument("name", required=False)
@_FILE
@reported
def releases_of(name: str | None, path: Path | None) -> None:
    """Versions of every model, or of NAME with the log of its changes."""
    file = _file(path)
    found = file.read()
    if not found:
        click.echo(f"{file.path}: nothing was released yet; `gradus serve RECIPE` adds versions")
    for each, release in sorted(found.items()):
        if name in {None, each}:
            _say(each, release)
            for version in sorted(release.versions.values(), key=lambda v: v.number):
                gate = "gated" if version.gated else "UNGATED"
                at = time.strftime("%Y-%m-%d %H:%M", time.localtime(version.added_at))
                click.echo(f"  {version.number}  {version.digest[:8]}  {gate}  {at}")
    for line in file.log() if name is not None else ():
        if line["name"] == name:
            at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(line["at"]))
            click.echo(f"  {at}  {line['by']}: {line['what']}, {line['from']} to {line['to']}")


def releases_file() -> Path:
    """Where a store keeps what its names stand for."""
    from pipeline.core.store import Store
    from serve.versions import RELEASES_FILE

    return Store().root / RELEASES_FILE


def _file(path: Path | None) -> Releases:
    from serve.releases import Releases

    return Releases(path or releases_file())


def _require_servable(file: Releases, name: str, number: int) -> None:
    """Before anything changes: a version that no server could bring beside the live one."""
    from serve.versions import find_held, require_beside

    release = file.read().get(name)
    version = None if release is None else release.version(number)
    if release is None or version is None or not version.gated:
        # The change itself says it better.
        return
    live = release.version(release.live)
    held = find_held(name, version)
    if live is not None and live.number != number:
        require_beside(held, find_held(name, live).bundle)


def _say(name: str, release: Release) -> None:
    trial = release.canary
    more = "" if trial is None else f", version {trial.version} for {trial.percent:g} % of callers"
    click.echo(f"{name}: version {release.live} is live{more}")
