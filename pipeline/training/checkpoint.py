"""Checkpoints inside a training: whole or not there, no pickle, the newest whole one wins.

``step-N`` holds a safetensors file of each process that had something to write, and
``state.json`` with their digests and which rows of each tensor stand where. So a checkpoint
that two processes wrote can be read by one, or by three.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from pipeline.core.digest import file_digest
from pipeline.core.errors import TrainingError
from pipeline.core.store import disk_errors
from pipeline.training.parallel import Parallel

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
    """

    folder: Path
    step: int
    values: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    pieces: Mapping[str, list[tuple[str, int, int]]] = field(default_factory=dict)

    def tensor(self, name: str, first: int = 0, rows: int | None = None) -> torch.Tensor:
        """The tensor, or ``rows`` of its rows from ``first`` on."""
        from safetensors import safe_open

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
    """
    from safetensors.torch import save_file

    target = folder / f"step-{checkpoint.step:08d}"
    draft = folder / _DRAFT
    with disk_errors(folder):
        if group.rank == 0:
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
        group.wait()
        mine = dict(_own_pieces(checkpoint.tensors, group.rank))
        file = f"rank-{group.rank:05d}.safetensors"
        told: dict[str, Any] = {}
        try:
            if mine:
                save_file({n: t for n, (t, _, _) in mine.items()}, str(draft / file))
                told = {
                    "file": file,
                    "sha256": file_digest(draft / file),
                    "pieces": {n: (first, rows) for n, (_, first, rows) in mine.items()},
                }
        except Exception as error:
            # The others must not wait for what will not come.
            group.gathered({"error": str(error)})
            shutil.rmtree(draft, ignore_errors=True)
            raise _as_disk_error(error) from error
        everyone = group.gathered(told)
        broken = next((t["error"] for t in everyone if "error" in t), None)
        if broken is not None:
            raise TrainingError(f"train: another process could not save its checkpoint: {broken}")
        if group.rank == 0:
            _finish(draft, target, checkpoint, everyone)
            for old in sorted(folder.glob("step-*"))[:-KEEP]:
                shutil.rmtree(old, ignore_errors=True)
    group.wait()


def _as_disk_error(error: Exception) -> Exception:
    # safetensors wraps what the disk said into an error of its own.
    if isinstance(error, OSError) or "os error 28" not in str(error):
        return error
    return OSError(28, "No space left on device")


def _finish(
    draft: Path, target: Path, checkpoint: Checkpoint, everyone: list[dict[str, Any]]
) -> None:
    pieces: dict[str, list[tuple[str, int, int]]] = {}
    for told in everyone:
        for name, (first, rows) in told.get("pieces", {}).items():
            pieces.setdefault(name, []).append((told["file"], first, rows))
    meta = {
        "step": checkpoint.step,
        "values": checkpoint.values,
        "sha256": {t["file"]: t["sha256"] for t in everyone if t},
        "shapes": {n: list(t.shape) for n, t in checkpoint.tensors.items()},
        "pieces": pieces,
    }
    (draft / _META).write_text(json.dumps(meta, sort_keys=True), encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    draft.rename(target)


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
    return None if step is None else _read(folder / f"step-{step:08d}")


def _newest_whole(folder: Path, on_torn: Callable[[str], None]) -> int | None:
    for path in sorted(folder.glob("step-*"), reverse=True):
        pickled = next((p for kind in _PICKLES for p in path.glob(kind)), None)
        if pickled is not None:
            raise TrainingError(
                f"train: {pickled}: a pickled checkpoint is not read, because it could run code; "
                "delete its folder, or write it as safetensors"
            )
        try:
            saved = _read(path)
            for file, digest in json.loads((path / _META).read_text())["sha256"].items():
                if file_digest(path / file) != digest:
                    raise ValueError(f"the bytes of {file} changed")
        except (OSError, ValueError, KeyError, TypeError) as error:
            on_torn(f"{path.name} is torn ({error}); going back to the one before")
        else:
            return saved.step
    return None


def _read(path: Path) -> Saved:
    meta = json.loads((path / _META).read_text(encoding="utf-8"))
    pieces = {n: [(f, int(a), int(b)) for f, a, b in parts] for n, parts in meta["pieces"].items()}
    shapes = {n: tuple(shape) for n, shape in meta["shapes"].items()}
    return Saved(path, int(meta["step"]), meta["values"], shapes, pieces)
