"""An artifact: an immutable folder with a manifest that was written last."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.core.digest import file_digest, files_below, tree_digest
from pipeline.core.errors import IntegrityError

Kind = Literal["Model", "Dataset", "Adapter", "Report", "Bundle"]
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """What an artifact is and how it came to be.

    Attributes:
        kind: the artifact's type.
        key: identity by cause (see core.stage.stage_key).
        digest: identity by content: SHA-256 over sorted (path, SHA-256) of its files.
        stage, stage_version, config, packages: what made it; all of it is in the key.
        inputs: role to {key, digest} of the artifacts that went in.
        local_files: role to SHA-256 of local input files.
        files: relative path to SHA-256.
        facts: what the stage learned (rows, steps, loss, licences); not identity.
        run: who made it when, on what; never identity.
    """

    kind: Kind
    key: str
    digest: str
    stage: str
    stage_version: int
    config: Mapping[str, Any]
    packages: Mapping[str, str]
    inputs: Mapping[str, Mapping[str, str]]
    local_files: Mapping[str, str]
    files: Mapping[str, str]
    facts: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Artifact:
    """A whole artifact on disk."""

    path: Path
    manifest: Manifest

    @property
    def key(self) -> str:
        """The manifest's key."""
        return self.manifest.key

    @property
    def digest(self) -> str:
        """The manifest's digest."""
        return self.manifest.digest

    def check(self, reads: Callable[[str], bool] = lambda _name: True) -> list[str]:
        """Recomputes every digest.

        Args:
            reads: of a file's relative path, whether its bytes are read; that it is there is
                looked at in any case.

        Returns:
            One line for each file that is missing, changed or not in the manifest.
        """
        found = {p.relative_to(self.path).as_posix(): p for p in files_below(self.path)}
        found.pop(MANIFEST, None)
        expected = self.manifest.files
        problems = [f"{self.path / name}: missing" for name in expected if name not in found]
        problems += [f"{p}: not in the manifest" for n, p in found.items() if n not in expected]
        for name in filter(reads, sorted(set(expected) & set(found))):
            actual = file_digest(found[name])
            if actual != expected[name]:
                problems.append(
                    f"{found[name]}: changed (sha256 {actual[:12]}, manifest {expected[name][:12]})"
                )
        if tree_digest(expected) != self.manifest.digest:
            problems.append(f"{self.path / MANIFEST}: its digest does not follow from its files")
        return problems

    def require_whole(self) -> None:
        """Raises IntegrityError, with the first problem, unless every byte is as written."""
        problems = self.check()
        if problems:
            raise IntegrityError(f"{problems[0]}; delete that folder and run again")


def scan_files(folder: Path) -> dict[str, str]:
    """Relative path to SHA-256 of every file below ``folder`` but the manifest."""
    found = {p.relative_to(folder).as_posix(): file_digest(p) for p in files_below(folder)}
    found.pop(MANIFEST, None)
    return found


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes the manifest last, flushed to disk, so that its presence means whole."""
    with (folder / MANIFEST).open("w", encoding="utf-8") as stream:
        json.dump(asdict(manifest), stream, indent=1, sort_keys=True, ensure_ascii=False)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())


def _sound(manifest: Manifest) -> Manifest:
    """Its fields are of the kinds that its readers take.

    Raises:
        TypeError: they are not.
    """
    inputs = manifest.inputs.values() if isinstance(manifest.inputs, dict) else [None]
    maps = (manifest.config, manifest.facts, manifest.run, manifest.packages, manifest.local_files)
    whole = (
        all(isinstance(each, dict) for each in (manifest.files, *maps))
        and all(isinstance(each, str) for each in (manifest.key, manifest.digest, manifest.stage))
        and all(isinstance(digest, str) for digest in manifest.files.values())
        and all(isinstance(ref, dict) and {"key", "digest"} <= ref.keys() for ref in inputs)
    )
    if not whole:
        raise TypeError("its fields are of other kinds")
    return manifest


def read_artifact(folder: Path) -> Artifact | None:
    """The artifact in ``folder``, or None where no whole one is.

    Raises:
        IntegrityError: a manifest that cannot be read.
    """
    file = folder / MANIFEST
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
        return Artifact(folder, _sound(Manifest(**tree)))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, OSError, RecursionError) as error:
        raise IntegrityError(
            f"{file}: not a manifest ({error}); delete that folder and run again"
        ) from None
