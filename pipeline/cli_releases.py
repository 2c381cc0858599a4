"""`gradus promote`, `gradus rollback`, `gradus releases`: which version a name stands for."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli_options import reported
from pipeline.core.errors import GradusError, UserError
from pipeline.core.terminal import visible

if TYPE_CHECKING:
    from serve.release_file import Release
    from serve.releases import Releases

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
    file = _file(path)
    release = file.read().get(name)
    if release is not None and release.canary is None and release.before:
        _require_servable(file, name, release.before[-1])
    _say(name, file.rollback(name))


@click.command("releases")
@click.argument("name", required=False)
@_FILE
@reported
def releases_of(name: str | None, path: Path | None) -> None:
    """Versions of every model, or of NAME with the log of its changes."""
    file = _file(path)
    found = file.read()
    if not found:
        text = f"{file.path}: nothing was released yet; `gradus run RECIPE` adds versions"
        click.echo(visible(text))
    elif name is not None and name not in found:
        there = ", ".join(sorted(found))
        raise UserError(f"{name}: no released model of that name; there are {there}")
    for each, release in sorted(found.items()):
        if name in {None, each}:
            _say(each, release)
            _say_refused(file, each, release)
            for version in sorted(release.versions.values(), key=lambda v: v.number):
                gate = "gated" if version.gated else "UNGATED"
                told = (version.identity or version.digest)[:8]
                at = time.strftime("%Y-%m-%d %H:%M", time.localtime(version.added_at))
                weights = f"weights {version.digest[:8]}"
                click.echo(f"  {version.number}  {told}  {weights}  {gate}  {at}")
    for line in file.log() if name is not None else ():
        if line["name"] == name:
            at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(line["at"]))
            why = f": {line['reason']}" if "reason" in line else ""
            old, new = line["from"], line["to"]
            moved = f"live: {new}" if old is None else f"{new} stays live" if old == new else ""
            what = line["what"] + (f" version {line['version']}" if "version" in line else "")
            click.echo(f"  {at}  {line['by']}: {what}, {moved or f'{old} to {new}'}{why}")


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
    held = find_held(name, version)
    live = release.version(release.live)
    if live is None or live.number == number:
        return
    beside = None
    with contextlib.suppress(GradusError):
        # One that is gone or torn must not keep another from taking its place.
        beside = find_held(name, live).bundle
    if beside is not None:
        require_beside(held, beside)


def _say(name: str, release: Release) -> None:
    trial = release.canary
    more = "" if trial is None else f", version {trial.version} for {trial.percent:g} % of callers"
    click.echo(f"{name}: version {release.live} is live{more}")


def _say_refused(file: Releases, name: str, release: Release) -> None:
    """What a server has written of versions that should be served, and are not."""
    for number, line in sorted(file.refused(name).items()):
        if number in release.wanted:
            at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(line.at))
            click.echo(
                f"  REFUSED: a server could not serve version {number} at {at}, and serves "
                f"version {line.new}: {line.reason}"
            )
