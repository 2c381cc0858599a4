"""Stages `fetch` and `fetch-data`: a base model or a data set, from a folder or the hub."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.core.artifact import Artifact
from pipeline.core.digest import files_below
from pipeline.core.stage import StageContext
from pipeline.modeling.loading import MARKER, PICKLED, allow_own_code, require_loadable


class Fetch:
    """Brings a base model into the store: weights as safetensors, nothing pickled."""

    def run(
        self, inputs: Mapping[str, Artifact], config: Mapping[str, Any], context: StageContext
    ) -> Mapping[str, Any]:
        """File ``folder``, or config ``repo`` and ``commit``; ``trust_remote_code`` if told."""
        facts = self._brought(config, context)
        if config.get("trust_remote_code"):
            allow_own_code(context.out)
            facts["trust_remote_code"] = True
        require_loadable(context.out)
        return facts

    def _brought(self, config: Mapping[str, Any], context: StageContext) -> dict[str, Any]:
        if config.get("folder"):
            return _copy(context.files["folder"], context.out)
        from pipeline.core.hub import download_snapshot

        fetched = context.work / "snapshot"
        names = download_snapshot(
            "model", config["repo"], config["commit"], fetched, on_progress=_bytes(context)
        )
        # Nobody but the recipe says whether a model's own code may run.
        names = [name for name in names if Path(name).name != MARKER]
        _move(fetched, names, context.out)
        return {"origin": f"{config['repo']}@{config['commit']}", "files": len(names)}


class FetchData:
    """Brings a hub data set into the store, as its files are."""

    def run(
        self, inputs: Mapping[str, Artifact], config: Mapping[str, Any], context: StageContext
    ) -> Mapping[str, Any]:
        """Config ``repo`` and ``commit``."""
        from pipeline.core.hub import download_snapshot

        fetched = context.work / "snapshot"
        names = download_snapshot(
            "dataset",
            config["repo"],
            config["commit"],
            fetched,
            allow_patterns=config["files"] or None,
            on_progress=_bytes(context),
        )
        _move(fetched, names, context.out)
        return {"origin": f"{config['repo']}@{config['commit']}", "files": len(names)}


def _bytes(context: StageContext) -> Callable[[int, int], None]:
    return lambda done, total: context.progress({"step": done, "total": total})


def _copy(folder: Path, out: Path) -> dict[str, Any]:
    names = [path.relative_to(folder) for path in files_below(folder)]
    if not any(name.suffix == ".safetensors" for name in names):
        require_loadable(folder)
    # Nobody but the recipe says whether a model's own code may run.
    kept = [name for name in names if name.suffix not in PICKLED and name.name != MARKER]
    for name in kept:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, out / name)
    return {"origin": folder.name, "files": len(kept)}


def _move(fetched: Path, names: list[str], out: Path) -> None:
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (fetched / name).replace(out / name)
