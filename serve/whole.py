"""Whether a bundle is what was made: every digest, the gates and the golden conversations.

A bundle's own files are always hashed. Its base lies beside it and may be many gigabytes, which
every start would read twice: of it the small files are hashed and the digest of the whole is
compared; weights are read where somebody asks (`gradus verify FOLDER`, `gradus serve RECIPE`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.core.artifact import MANIFEST, read_artifact, scan_files
from pipeline.core.digest import tree_digest
from pipeline.core.errors import GradusError, IntegrityError, UserError
from pipeline.core.sums import SUMS, check_sums
from serve.bundle import BUNDLE_FILE, Bundle, read_bundle
from serve.golden_file import GOLDEN_FILE, read_golden


def read_whole(path: Path, echo: Callable[[str], None] | None = None) -> Bundle:
    """``serve.bundle.read_bundle`` of a bundle whose bytes are those that were made.

    Args:
        path: The bundle's folder.
        echo: Told where nothing says what the folder should hold.

    Raises:
        UserError: It makes no sense, or has no golden conversations.
        ModelError: It is not safe.
        GateFailed: It says that its gates passed, and they did not.
        IntegrityError: A byte is another than was written, or a digest is not that of its files.
    """
    bundle = read_bundle(path)
    problems = _problems(bundle, weights=False)
    if problems:
        raise IntegrityError(f"{problems[0]}; fetch that folder again, or run its recipe again")
    if not _kept(bundle.root) and echo is not None:
        echo(f"bundle {bundle.root}: no {MANIFEST} and no {SUMS}: not compared with what was made")
    if not bundle.ungated and bundle.golden and read_golden(bundle.root) is None:
        raise UserError(
            f"{bundle.root / GOLDEN_FILE}: missing: nothing would be compared with what was "
            "trained; fetch it again, or run the recipe again"
        )
    return bundle


def check_folder(folder: Path) -> tuple[str, list[str]]:
    """Reads every byte of an artifact's folder: of a bundle its base's too.

    Returns:
        Its kind, and one line for each thing that is not as it was made.

    Raises:
        UserError: no such folder.
    """
    root = folder.resolve()
    if not root.is_dir():
        raise UserError(f"{folder}: no such folder; name a bundle's, or any artifact's")
    try:
        artifact = read_artifact(root)
        if not (root / BUNDLE_FILE).is_file():
            return "folder" if artifact is None else artifact.manifest.kind, _own(root, None)
        return "Bundle", list(dict.fromkeys(_all_problems(root)))
    except IntegrityError as error:
        # A manifest or a list that is none.
        return "folder", [str(error)]


def _all_problems(root: Path) -> list[str]:
    """All that can be said of a bundle's folder."""
    try:
        bundle = read_bundle(root)
        problems = [] if _kept(root) else [_unkept(root)]
        problems += _problems(bundle, weights=True)
        if bundle.golden and not bundle.ungated and read_golden(root) is None:
            problems.append(f"{root / GOLDEN_FILE}: missing: nothing would be compared")
        return problems
    except GradusError as error:
        # What is torn may be why it cannot be read: the bytes say more.
        return [str(error), *_own(root, None)]


def _problems(bundle: Bundle, *, weights: bool) -> list[str]:
    """What is not as it was made.

    Args:
        weights: Read those of a base that lies beside the bundle too.
    """
    inside = bundle.base.path.is_relative_to(bundle.root)
    problems = _own(bundle.root, bundle, weights=weights) if _kept(bundle.root) else []
    for each in bundle.trained:
        found = tree_digest(scan_files(each.path))
        if found != each.digest:
            problems.append(
                f"{each.path}: {each.name}: its files give digest {found[:12]}, and {BUNDLE_FILE} "
                f"says {each.digest[:12]}"
            )
    if not inside or (bundle.base.path != bundle.root and not _listed(bundle)):
        problems += _base(bundle, weights=weights)
    return problems + _lineage(bundle)


def _own(root: Path, bundle: Bundle | None, *, weights: bool = True) -> list[str]:
    """The folder's own files against its manifest, or against the list that a hub brings."""
    artifact = read_artifact(root)
    if artifact is not None:
        return artifact.check()
    if not (root / SUMS).is_file():
        return [_unkept(root)]
    base = None if bundle is None or bundle.base.path == root else bundle.base.path
    below = None
    if base is not None and base.is_relative_to(root):
        below = base.relative_to(root).as_posix()

    def reads(name: str) -> bool:
        return weights or below is None or not _is_weights(name) or not name.startswith(f"{below}/")

    # A base that a hub has is fetched by itself, and the list names none of its files.
    return check_sums(
        root, reads, beside=below if bundle is not None and not _listed(bundle) else None
    )


def _listed(bundle: Bundle) -> bool:
    """Whether the list of a bundle that came over a hub names its base's files."""
    if not (bundle.root / SUMS).is_file() or not bundle.base.path.is_relative_to(bundle.root):
        return False
    below = bundle.base.path.relative_to(bundle.root).as_posix()
    return f"  {below}/" in (bundle.root / SUMS).read_text(encoding="utf-8", errors="replace")


def _base(bundle: Bundle, *, weights: bool) -> list[str]:
    """The base beside a bundle: its digest, and its files."""
    path, told = bundle.base.path, bundle.base.digest
    artifact = read_artifact(path)
    if artifact is None:
        if not weights:
            return []
        found = tree_digest(scan_files(path))
        if found == told:
            return []
        return [
            f"{path}: no {MANIFEST}, and its files give digest {found[:12]}, where {BUNDLE_FILE} "
            f"says {told[:12]}"
        ]
    if artifact.digest != told:
        return [f"{path}: is base {artifact.digest[:12]}, and {BUNDLE_FILE} says {told[:12]}"]
    return artifact.check(lambda name: weights or not _is_weights(name))


def _lineage(bundle: Bundle) -> list[str]:
    """What is served is in its own lineage."""
    if bundle.lineage is None:
        return []
    known = {stage.digest for stage in bundle.lineage.stages}
    return [
        f"{bundle.root / BUNDLE_FILE}: lineage: knows no {each.name} of digest {each.digest[:12]}"
        for each in (bundle.base, *bundle.trained)
        if each.digest not in known
    ]


def _kept(root: Path) -> bool:
    return (root / MANIFEST).is_file() or (root / SUMS).is_file()


def _unkept(root: Path) -> str:
    return f"{root}: no {MANIFEST} and no {SUMS}: nothing says what it should hold"


def _is_weights(name: str) -> bool:
    return name.endswith(".safetensors")
