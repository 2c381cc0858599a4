"""Where a verb is told to write: a place that is none is refused before hours of work."""

from __future__ import annotations

from pathlib import Path

from pipeline.core.errors import UserError


def require_folder(option: str, path: Path) -> None:
    """Refuses a folder that could not be made.

    Raises:
        UserError: a file stands there, or above it.
    """
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not there.is_dir():
        raise UserError(f"{option} {path}: {there} is a file and no folder; name another folder")


def require_file(option: str, path: Path) -> None:
    """Refuses a file that could not be written.

    Raises:
        UserError: a folder stands there, or its own folder does not.
    """
    if path.is_dir():
        raise UserError(f"{option} {path}: is a folder; name a file")
    if not path.absolute().parent.is_dir():
        raise UserError(f"{option} {path}: its folder is not there; make it, or name another file")
