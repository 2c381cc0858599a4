"""What changes while training, and its way to a checkpoint and back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn
from torch.distributed.tensor import DTensor

from pipeline.core.errors import TrainingError
from pipeline.training.checkpoint import (
    Checkpoint,
    Saved,
    load_newest,
    local_part,
    save_checkpoint,
)
from pipeline.training.optimisers import optimiser_state, read_like, restore_optimiser
from pipeline.training.parallel import Parallel

_SAMPLE = 64
_REMEDY = "delete it, or set train.resume: false to start this training again"


@dataclass
class State:
    """Everything that a resumed training must have again.

    Attributes:
        step: updates done.
        history: what the curves are drawn from.
        best: (score, step) of the best validation so far.
        best_tensors: the weights it was made with.
        waited: validations since the best one.
        reference: of DPO: log-probabilities before update 0, by split.
    """

    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best: tuple[float, int] | None = None
    best_tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    waited: int = 0
    reference: dict[str, torch.Tensor] = field(default_factory=dict)


def fingerprint(module: nn.Module) -> str:
    """What a training starts from, by name, shape and a sample of each tensor: another base or
    another start differs."""
    digest = hashlib.sha256()
    for name, parameter in sorted(module.named_parameters()):
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
        sample = parameter.detach().reshape(-1)[:_SAMPLE].cpu()
        digest.update(sample.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def kept(parameter: torch.Tensor) -> torch.Tensor:
    """A copy for later, in main memory; of a shard where it is."""
    found = parameter.detach()
    return (found if isinstance(found, DTensor) else found.cpu()).clone()


def watch_weights(trainable: Mapping[str, nn.Parameter], group: Parallel) -> Callable[[], bool]:
    """A question: has any of the weights changed since now? The answer of all processes.

    It is asked of an adapter's B, without which it adds nothing, whatever a head beside it
    learns; else of matrices: a bias of zero takes any step, however small.
    """
    added = [p for name, p in trainable.items() if ".lora_B." in name]
    matrices = [p for p in trainable.values() if len(getattr(p, "ds_shape", p.shape)) > 1]
    asked = added or matrices or list(trainable.values())

    def sample() -> torch.Tensor:
        # Of ZeRO-3 a parameter is empty between its layer's calls; its share lies beside it.
        shares = (getattr(p, "ds_tensor", p).detach() for p in asked)
        found = (local_part(share).reshape(-1)[:_SAMPLE].float() for share in shares)
        return torch.cat(list(found)).clone()

    before = sample()
    return lambda: bool(group.total((sample() != before).any().float()))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


@dataclass(frozen=True)
class Keeper:
    """Saves and restores one training.

    Attributes:
        folder: where checkpoints go; every process sees it.
        base: fingerprint of what was there before update 0.
        trainable: name to parameter, as wrapped.
    """

    folder: Path
    base: str
    group: Parallel
    optimizer: torch.optim.Optimizer
    trainable: Mapping[str, nn.Parameter]

    def save(self, state: State) -> None:
        """Writes a checkpoint of this moment."""
        tensors: dict[str, torch.Tensor] = {
            f"model.{n}": p.detach() for n, p in self.trainable.items()
        }
        tensors.update({f"best.{n}": t for n, t in state.best_tensors.items()})
        tensors.update({f"reference.{n}": t for n, t in state.reference.items()})
        kept, others = optimiser_state(self.optimizer, self.trainable)
        tensors.update({f"optimizer.{n}": t for n, t in kept.items()})
        values = {
            "history": state.history,
            "best": state.best,
            "waited": state.waited,
            "optimizer": others,
            "base": self.base,
        }
        save_checkpoint(self.folder, Checkpoint(state.step, tensors, values), self.group)

    def restored(self, say: Callable[[str], None]) -> State:
        """The newest whole checkpoint's state, put back; a fresh one where there is none."""
        saved = load_newest(self.folder, say, self.group)
        if saved is None:
            return State()
        self._require_same(saved)
        try:
            state = self._read(saved)
        except (SafetensorError, RuntimeError, OSError, KeyError, TypeError, ValueError) as error:
            raise TrainingError(
                f"train: {saved.folder}: cannot be read ({_first_line(error)}); {_REMEDY}"
            ) from error
        say(f"goes on from update {saved.step}")
        return state

    def _read(self, saved: Saved) -> State:
        with torch.no_grad():
            for name, parameter in self.trainable.items():
                parameter.copy_(read_like(saved, f"model.{name}", parameter))
        restore_optimiser(self.optimizer, self.trainable, saved)
        best = saved.values["best"]
        return State(
            saved.step,
            list(saved.values["history"]),
            (best[0], best[1]) if best else None,
            {n: read_like(saved, f"best.{n}", self.trainable[n]) for n in saved.names("best.")},
            int(saved.values["waited"]),
            {n: saved.tensor(f"reference.{n}") for n in saved.names("reference.")},
        )

    def _require_same(self, saved: Saved) -> None:
        """Refuses a checkpoint that another model wrote.

        Raises:
            TrainingError: other tensors, other shapes (rank, head size), or another base.
        """
        where = f"train: {saved.folder}"
        theirs = {n: saved.shapes[f"model.{n}"] for n in saved.names("model.")}
        mine = {n: tuple(p.shape) for n, p in self.trainable.items()}
        for name in sorted(theirs.keys() ^ mine.keys()):
            side = "is not trained here" if name in theirs else "is not in it"
            raise TrainingError(f"{where}: {name} {side}: it is of another training; {_REMEDY}")
        for name, shape in mine.items():
            if theirs[name] != shape:
                kind = "rank" if "lora_" in name else "head" if ".score." in name else "model"
                raise TrainingError(
                    f"{where}: {name} is {list(theirs[name])} there and {list(shape)} here: it is "
                    f"of another {kind}; {_REMEDY}"
                )
        if saved.values["base"] != self.base:
            raise TrainingError(f"{where}: it stands on another base; {_REMEDY}")
