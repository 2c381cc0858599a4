"""Checkpoints inside a training: whole or not there, no pickle, the newest whole one wins."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.core.digest import file_digest
from pipeline.core.store import disk_errors

_FILE = "state.safetensors"
_META = "state.json"
KEEP = 2


@dataclass(frozen=True)
class Checkpoint:
    """What a training needs to go on as if nothing had happened.

    Attributes:
        step: updates done.
        tensors: ``model.*``, ``optimizer.*`` and ``rng`` tensors.
        values: numbers that are no tensors, history included.
    """

    step: int
    tensors: Mapping[str, torch.Tensor]
    values: Mapping[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Writes ``step-N`` beside the others: draft, digest, rename; the two newest stay."""
    from safetensors.torch import save_file

    target = folder / f"step-{checkpoint.step:08d}"
    draft = folder / "draft-checkpoint"
    shutil.rmtree(draft, ignore_errors=True)
    with disk_errors(folder):
        draft.mkdir(parents=True)
        tensors = {n: t.detach().cpu().clone() for n, t in checkpoint.tensors.items()}
        save_file(tensors, str(draft / _FILE))
        meta = {
            "step": checkpoint.step,
            "values": checkpoint.values,
            "sha256": file_digest(draft / _FILE),
        }
        (draft / _META).write_text(json.dumps(meta, sort_keys=True), encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        draft.rename(target)
    for old in sorted(folder.glob("step-*"))[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)


def load_newest(folder: Path, on_torn: Callable[[str], None]) -> Checkpoint | None:
    """The newest whole checkpoint; torn ones are named through ``on_torn`` and passed over."""
    from safetensors.torch import load_file

    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            meta = json.loads((path / _META).read_text(encoding="utf-8"))
            if file_digest(path / _FILE) != meta["sha256"]:
                raise ValueError("its bytes changed")
            return Checkpoint(meta["step"], load_file(str(path / _FILE)), meta["values"])
        except (OSError, ValueError, KeyError) as error:
            on_torn(f"{path.name} is torn ({error}); going back to the one before")
    return None
