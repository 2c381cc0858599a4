"""Checkpoints inside a training: whole or not there, no pickle, the newest whole one wins.

``step-N`` holds a safetensors file of each process that had something to write, and
``state.json`` with their digests, its own, and which rows of each tensor stand where. So a
checkpoint that two processes wrote can be read by one, or by three.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

from pipeline.core.digest import file_digest
from pipeline.core.errors import TrainingError
from pipeline.training.parallel import Parallel
from pipeline.training.together import together

_META = "state.json"
_DRAFT = "draft-checkpoint"
_PICKLES = ("*.pt", "*.pth", "*.bin", "*.pkl", "*.ckpt", "*.distcp")
KEEP = 2


@dataclass(frozen=True)
class Checkpoint:
    """What a training needs to go on as if nothing had happened.

    Attributes:
        step: updates done.
        tensors: ``model.*``, ``optimizer.*``, ``best.*`` and ``reference.*``; a DTensor stands
            for this process's share of it.
        values: numbers that are no tensors, history included.
    """

    step: int
    tensors: Mapping[str, torch.Tensor]
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Saved:
    """A checkpoint on disk; tensors are read when they are asked for.

    Attributes:
        pieces: tensor name to [(file, first row, rows)]; no rows: the tensor whole.
        digests: file to SHA-256.
    """

    folder: Path
    step: int
    values: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    pieces: Mapping[str, list[tuple[str, int, int]]] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)

    def tensor(self, name: str, first: int = 0, rows: int | None = None) -> torch.Tensor:
        """The tensor, or ``rows`` of its rows from ``first`` on."""
        parts = []
        shape = self.shapes[name]
        last = (shape[0] if shape else 0) if rows is None else first + rows
        for file, start, count in self.pieces[name]:
            low, high = max(first, start), min(last, start + count)
            with safe_open(str(self.folder / file), framework="pt") as stored:
                if not shape or not shape[0]:
                    return torch.as_tensor(stored.get_tensor(name))
                if low < high:
                    parts.append(stored.get_slice(name)[low - start : high - start])
        if not parts:
            return torch.zeros((0, *shape[1:]))
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def names(self, prefix: str) -> list[str]:
        """Tensors whose name opens with ``prefix``, without it."""
        return [n[len(prefix) :] for n in self.shapes if n.startswith(prefix)]


def save_checkpoint(folder: Path, checkpoint: Checkpoint, group: Parallel) -> None:
    """Writes ``step-N`` beside the others: draft, digests, rename; the two newest stay.

    Every process calls it; the folder is one that all of them see.

    Raises:
        StoreError: on every process, where the disk of one is full; what was saved before stays.
    """
    draft = folder / _DRAFT
    first = group.rank == 0
    try:
        together(group, folder, lambda: _emptied(draft) if first else None)
        everyone = together(group, folder, lambda: _write_own(draft, checkpoint, group.rank))
        together(group, folder, lambda: _finish(draft, checkpoint, everyone) if first else None)
    except Exception:
        if first:
            shutil.rmtree(draft, ignore_errors=True)
        raise


def _emptied(draft: Path) -> None:
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)


def _write_own(draft: Path, checkpoint: Checkpoint, rank: int) -> dict[str, Any]:
    """Writes what this process holds; what the others must know of it."""
    mine = dict(_own_pieces(checkpoint.tensors, rank))
    if not mine:
        return {}
    file = f"rank-{rank:05d}.safetensors"
    save_file({n: t for n, (t, _, _) in mine.items()}, str(draft / file))
    return {
        "file": file,
        "sha256": file_digest(draft / file),
        "pieces": {n: (first, rows) for n, (_, first, rows) in mine.items()},
    }


def _finish(draft: Path, checkpoint: Checkpoint, everyone: list[dict[str, Any]]) -> None:
    pieces: dict[str, list[tuple[str, int, int]]] = {}
    for told in everyone:
        for name, (first, rows) in told.get("pieces", {}).items():
            pieces.setdefault(name, []).append((told["file"], first, rows))
    state = {
        "step": checkpoint.step,
        "values": checkpoint.values,
        "sha256": {t["file"]: t["sha256"] for t in everyone if t},
        "shapes": {n: list(t.shape) for n, t in checkpoint.tensors.items()},
        "pieces": pieces,
    }
    sealed = json.dumps({"sha256": _digest(state), "state": state}, sort_keys=True)
    (draft / _META).write_text(sealed, encoding="utf-8")
    target = draft.parent / _name(checkpoint.step)
    _remove(target)
    draft.rename(target)
    forget(draft.parent, checkpoint.step)


def forget(folder: Path, after: int = -1) -> None:
    """Deletes the checkpoints of updates after ``after``, and all but the newest of the others.

    What is newer than the state of a training was passed over by it; left there, it would push
    out what the training saves.
    """
    found = sorted(folder.glob("step-*"))
    kept = [path for path in found if path.name <= _name(after)]
    for path in [*found[len(kept) :], *kept[:-KEEP]]:
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _digest(state: Any) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _own_pieces(
    tensors: Mapping[str, torch.Tensor], rank: int
) -> Mapping[str, tuple[torch.Tensor, int, int]]:
    """What this process writes: its shard of a DTensor; the first one writes what all have."""
    mine: dict[str, tuple[torch.Tensor, int, int]] = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, DTensor):
            local, first = own_rows(tensor)
            if local.numel():
                mine[name] = (local.detach().cpu().clone(), first, local.shape[0])
        elif rank == 0:
            rows = tensor.shape[0] if tensor.ndim else 0
            mine[name] = (tensor.detach().cpu().clone().contiguous(), 0, rows)
    return mine


def local_part(tensor: torch.Tensor) -> torch.Tensor:
    """What this process holds of a tensor: its shard, or all of it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def own_rows(tensor: DTensor) -> tuple[torch.Tensor, int]:
    """This process's share of a tensor that is cut by rows, and the first of them."""
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    _, offset = compute_local_shape_and_global_offset(
        tensor.shape, tensor.device_mesh, tensor.placements
    )
    return tensor.to_local(), int(offset[0]) if offset else 0


def load_newest(folder: Path, on_torn: Callable[[str], None], group: Parallel) -> Saved | None:
    """The newest whole checkpoint; torn ones are named through ``on_torn`` and passed over.

    Raises:
        TrainingError: a checkpoint that is pickled: it could run code.
    """
    step = None
    # The first process reads every byte once; the others take its word.
    found: Any = None
    if group.rank == 0:
        try:
            step = _newest_whole(folder, on_torn)
        except TrainingError as error:
            found = str(error)
    step, refused = group.gathered((step, found))[0]
    if refused is not None:
        raise TrainingError(refused)
    return None if step is None else _read(folder / _name(step))


def _newest_whole(folder: Path, on_torn: Callable[[str], None]) -> int | None:
    found = sorted(folder.glob("step-*"), reverse=True)
    for path in found:
        pickled = next((p for kind in _PICKLES for p in path.rglob(kind)), None)
        if pickled is not None:
            raise TrainingError(
                f"train: {pickled}: a pickled checkpoint is not read, because it could run code; "
                "delete its folder, or write it as safetensors"
            )
        try:
            saved = _read(path)
            for file, digest in saved.digests.items():
                if file_digest(path / file) != digest:
                    raise ValueError(f"the bytes of {file} changed")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            said = (str(error).splitlines() or [type(error).__name__])[0]
            on_torn(f"{path.name} is torn ({said}); going back to the one before")
        else:
            return saved.step
    if found:
        on_torn("no checkpoint is whole: the training starts at update 0")
    return None


def _read(path: Path) -> Saved:
    tree = json.loads((path / _META).read_text(encoding="utf-8"))
    state = tree["state"]
    if _digest(state) != tree["sha256"]:
        raise ValueError(f"the bytes of {_META} changed")
    step = int(state["step"])
    if path.name != _name(step):
        raise ValueError(f"its {_META} is of update {step}")
    pieces = {n: [(f, int(a), int(b)) for f, a, b in parts] for n, parts in state["pieces"].items()}
    shapes = {n: tuple(shape) for n, shape in state["shapes"].items()}
    return Saved(path, step, state["values"], shapes, pieces, state["sha256"])
