"""`gradus push`: a gated bundle or export, as a hub's model repository."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.artifact import MANIFEST, Artifact, read_artifact
from pipeline.core.errors import GateFailed, IntegrityError, UserError
from pipeline.core.nearest import nearest
from pipeline.core.store import Store
from pipeline.core.sums import SUMS, sums_of
from serve.bundle import BUNDLE_FILE, Bundle, read_bundle
from serve.golden_file import GOLDEN_FILE

CARD = "README.md"
_REPO = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
# Golden conversations are rows of the data; the manifest tells of files that stay here.
_LEFT_OUT = (GOLDEN_FILE, MANIFEST)
_BASE = "base"
_OF_TRAINING = ("history.jsonl",)
_READ = {".json", ".md", ".jinja", ".txt"}
_OF_REPORT = "Every figure above is from `report.json` and `report.html` beside this card."


@dataclass(frozen=True)
class Parcel:
    """What goes to a hub.

    Attributes:
        name: of the bundle.
        files: path in the repository to a file, or to its content.
    """

    name: str
    files: Mapping[str, Path | bytes]

    @property
    def card(self) -> str:
        """The model card."""
        card = self.files[CARD]
        return card.decode("utf-8") if isinstance(card, bytes) else card.read_text("utf-8")

    def sizes(self) -> dict[str, int]:
        """Path in the repository to bytes."""
        return {
            name: len(content) if isinstance(content, bytes) else content.stat().st_size
            for name, content in sorted(self.files.items())
        }


def require_repo(repo: str) -> None:
    """Passes for ``owner/name``.

    Raises:
        UserError: it is none.
    """
    if not _REPO.match(repo):
        raise UserError(f"{repo}: is no repository of a hub; write it as owner/name")


def parcel_of(target: str, store: Store, *, export: bool) -> Parcel:
    """What is pushed of a model's name, or of a bundle's folder.

    Args:
        export: of a name, its export in fewer bits instead of its bundle.

    Raises:
        UserError: no such model, or nothing of it that could be pushed.
        GateFailed: not all its gates passed, or somebody overrode them.
        IntegrityError: bytes that are not those of its manifest.
    """
    artifact = _artifact(target, store, export=export)
    bundle = read_bundle(artifact.path)
    _require_gated(bundle)
    artifact.require_whole()
    files: dict[str, Path | bytes] = {
        name: artifact.path / name for name in artifact.manifest.files if name not in _LEFT_OUT
    }
    if CARD not in files:
        raise UserError(f"{artifact.path}: has no model card; run its recipe again")
    card = (artifact.path / CARD).read_text(encoding="utf-8")
    tree = json.loads((artifact.path / BUNDLE_FILE).read_text(encoding="utf-8"))
    # Whoever serves it is told that nothing could be compared.
    tree["golden"] = False
    if bundle.base.path != artifact.path:
        files |= _base_files(bundle)
        # Beside the bundle, wherever it is unpacked.
        tree["base"]["path"] = _BASE
        card += _how_to_fetch(bundle)
    files[BUNDLE_FILE] = _json(tree)
    card = card.replace(_OF_REPORT, "The figures are those of the recipe's report.")
    files[CARD] = card.encode("utf-8")
    _require_no_place(files, store)
    files[SUMS] = sums_of(files)
    return Parcel(bundle.name, files)


def _artifact(target: str, store: Store, *, export: bool) -> Artifact:
    folder = Path(target)
    if (folder / BUNDLE_FILE).is_file():
        found = read_artifact(folder.resolve())
        if found is None:
            raise UserError(f"{target}: has no {MANIFEST}; only what `gradus run` made is pushed")
        return found
    model = store.model(target)
    if model is None:
        names = [m["name"] for m in store.models()]
        raise UserError(
            f"{target}: no bundle's folder and no model of the store{nearest(target, names)} "
            f"(there: {', '.join(names) or 'none yet'})"
        )
    kind = "export" if export else "bundle"
    key = model["keys"].get(kind)
    artifact = None if key is None else store.get(key)
    if artifact is None:
        why = "its recipe names none, or it was refused" if export else "its gates did not pass"
        raise UserError(f"{target}: has no {kind} ({why}); run its recipe")
    return artifact


def _require_gated(bundle: Bundle) -> None:
    broken = [
        str(gate.get("text", "a gate without its words, which no report of ours writes"))
        for gate in bundle.gates
        if gate.get("status") != "pass"
    ]
    if bundle.ungated or broken or not bundle.gates:
        why = broken[0] if broken else "its gates were overridden, or it has none"
        raise GateFailed(f"{bundle.name}: not pushed: {why}")


def _base_files(bundle: Bundle) -> dict[str, Path | bytes]:
    """The base's files, where no hub has them."""
    if _origin(bundle) is not None:
        return {}
    base = read_artifact(bundle.base.path)
    if base is None:
        raise UserError(f"{bundle.base.path}: the base has no {MANIFEST}; run its recipe again")
    base.require_whole()
    return {
        f"{_BASE}/{name}": base.path / name
        for name in base.manifest.files
        if name not in _OF_TRAINING
    }


def _origin(bundle: Bundle) -> tuple[str, str] | None:
    """Repository and commit of a base that came from a hub; None of any other."""
    base = read_artifact(bundle.base.path)
    if base is None or base.manifest.stage != "fetch":
        return None
    name, at, commit = str(base.manifest.facts.get("origin", "")).rpartition("@")
    return (name, commit) if at else None


def _how_to_fetch(bundle: Bundle) -> str:
    lines = ["", "## This repository", ""]
    origin = _origin(bundle)
    lines += [
        "`bundle.json` names all that an engine is given; `sha256sum -c SHA256SUMS` checks it."
    ]
    fetch = [] if origin is None else [
        f"hf download {origin[0]} --revision {origin[1]} --local-dir FOLDER/{_BASE}"
    ]  # fmt: skip
    lines += ["", "```", "hf download THIS_REPOSITORY --local-dir FOLDER", *fetch,
              "gradus serve FOLDER", "```", ""]  # fmt: skip
    return "\n".join(lines)


def _require_no_place(files: Mapping[str, Path | bytes], store: Store) -> None:
    """A card or a configuration that names a folder of this machine goes to nobody."""
    here = {str(place) for place in (store.root, Path.home(), Path.cwd()) if len(place.parts) > 1}
    for name, content in files.items():
        if Path(name).suffix not in _READ or Path(name).name == "tokenizer.json":
            continue
        text = (content if isinstance(content, bytes) else content.read_bytes()).decode("utf-8")
        place = next((p for p in sorted(here) if f"{p}/" in text or f'{p}"' in text), None)
        if place is not None:
            raise IntegrityError(
                f"{name}: names a folder of this machine ({place}), which nobody else has; "
                "name sources in the recipe relative to it, and run it again"
            )


def _json(tree: object) -> bytes:
    return (json.dumps(tree, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode("utf-8")
