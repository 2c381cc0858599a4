"""Versions of a name: found in the bundles that hold them, and what may stand in one engine."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.core.errors import GradusError, UserError
from serve.bundle import Bundle, BundleAdapter, BundleHead, read_bundle
from serve.heads import read_head
from serve.identity import identity_of
from serve.release_file import Version
from serve.releases import Releases
from serve.whole import read_whole

RELEASES_FILE = "releases.json"
"""In the store: what every name stands for."""
ROOM = 2
"""Versions that an engine has room for beyond one of each name: one on trial, one coming in."""


@dataclass(frozen=True)
class Held:
    """One version of a name, with the bundle that it came in.

    Attributes:
        name: Public.
        number: Of the version.
        about: The adapter or head.
        bundle: Its own: system text, controls and golden answers are of it.
    """

    name: str
    number: int
    about: BundleAdapter | BundleHead
    bundle: Bundle


def register_all(releases: Releases, bundle: Bundle, *, served: bool) -> dict[str, int]:
    """Writes a bundle's adapters and heads down as versions of their names.

    Args:
        served: It is being served: a name that nobody promoted stands for it from now on.

    Returns:
        Name to number.
    """
    return {
        each.name: releases.register(
            each.name, each.digest, bundle.root, identity=identity_of(bundle, each),
            gated=bundle.gated, served=served, stands=partial(_stands, each.name),
        )
        for each in bundle.trained
    }  # fmt: skip


def _stands(name: str, version: Version) -> bool:
    try:
        find_held(name, version)
    except GradusError:
        return False
    return True


def room_for(releases: Releases | None, bundle: Bundle) -> tuple[int, int]:
    """How many versions an engine has to have room for beside the bundle's, and of which rank.

    The rank is the largest of all that the bundle's names could stand for by now.

    Raises:
        UserError: the file is none of releases.
    """
    if releases is None or bundle.ungated:
        return 0, 0
    names = {each.name for each in bundle.trained}
    ranks = [each.rank for each in bundle.trained]
    for name, release in releases.read().items():
        for version in release.versions.values() if name in names else ():
            # One that is gone or torn is told when somebody promotes it.
            with contextlib.suppress(GradusError):
                ranks.append(find_held(name, version, whole=False).about.rank)
    return ROOM, max(ranks, default=0)


def find_held(name: str, version: Version, *, whole: bool = True) -> Held:
    """A version in the bundle that the file of releases names.

    Args:
        whole: every byte of the bundle is held to its digest; without it only what it says is read.

    Raises:
        UserError: the bundle is gone, or holds another version by now.
        ModelError: it is not safe.
        GateFailed: it says that its gates passed, and they did not.
        IntegrityError: it is not what was made.
    """
    root = Path(version.bundle)
    if not _is_folder(root):
        raise UserError(
            f"{name}: version {version.number}: {root} is gone; run its recipe again, and the "
            "number stays"
        )
    bundle = read_whole(root) if whole else read_bundle(root)
    for about in bundle.trained:
        if about.name == name and is_version(version, bundle, about):
            return Held(name, version.number, about, bundle)
    raise UserError(
        f"{name}: version {version.number}: {root} holds other weights or settings by now; run the "
        "recipe of that version again"
    )


def is_version(version: Version, bundle: Bundle, about: BundleAdapter | BundleHead) -> bool:
    """Whether an adapter or head of a bundle is that version."""
    return version.is_of(about.digest, identity_of(bundle, about), str(bundle.root))


def _is_folder(place: Path) -> bool:
    try:
        return place.is_dir()
    except OSError:
        # A name that no file system takes.
        return False


def require_beside(held: Held, running: Bundle) -> None:
    """Pass where an engine that serves ``running`` can serve a version of another bundle too.

    Raises:
        UserError: what differs is the whole engine's.
    """
    other = held.bundle
    if other.root == running.root:
        return
    differs = next(
        (
            what
            for what, a, b in (
                ("way of answering", *_kinds(held, running)),
                ("base", other.base.digest, running.base.digest),
                ("chat template", _text(other.chat_template), _text(running.chat_template)),
                ("type of weights", other.dtype, running.dtype),
                ("longer context", other.max_model_len > running.max_model_len, False),
                ("way of pooling", *_pooling(held, running)),
                # By these the engine reads every answer, whichever adapter gave it.
                (
                    "tool call parser",
                    other.engine.tool_call_parser,
                    running.engine.tool_call_parser,
                ),
                (
                    "reasoning parser",
                    other.engine.reasoning_parser,
                    running.engine.reasoning_parser,
                ),
                ("type of cache", other.engine.kv_cache_dtype, running.engine.kv_cache_dtype),
            )
            if a != b
        ),
        None,
    )
    if differs is not None:
        raise UserError(
            f"{held.name}: version {held.number} has another {differs} than {running.root}; one "
            f"engine cannot serve both: start its own with `gradus serve {other.root}`"
        )


def _kinds(held: Held, running: Bundle) -> tuple[type, type]:
    """Of a version, and of what stands under its name: one writes, the other reads."""
    same = next((each for each in running.trained if each.name == held.name), held.about)
    return type(held.about), type(same)


def _pooling(held: Held, running: Bundle) -> tuple[str | None, str | None]:
    """Of a head, and of what serves heads of its name."""
    same = next((head for head in running.heads if head.name == held.name), None)
    if same is None or not isinstance(held.about, BundleHead):
        return None, None
    return read_head(held.about).pooling, read_head(same).pooling


def _text(template: Path | None) -> str | None:
    return None if template is None else template.read_text(encoding="utf-8")
