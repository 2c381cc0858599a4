"""How several processes share one training: alone, DDP, FSDP2 (``fully_shard``).

The loop speaks to `Parallel` only, so that an update is the same code whatever the wrapper.
Each process may stand on a host of its own: what it knows of the others it takes from the
launcher's environment (RANK, WORLD_SIZE, LOCAL_RANK) and from collective operations.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import distributed, nn
from torch.distributed.tensor import DTensor

from pipeline.core.errors import TrainingError
from pipeline.core.launch import LaunchSettings
from pipeline.modeling.loading import decoder_layers

# Called from outside forward; under FSDP they must gather weights as a forward does.
SHARDED_METHODS = ("outputs", "log_probabilities")


class Parallel(Protocol):
    """What the loop needs of the processes.

    Attributes:
        rank, world: this process and how many there are.
        device: where this process computes.
        module: what is called for a loss, wrapped.
        wrapper: the wrapper's type, as a word for the manifest.
        saves: whether a training can be written down while it runs.
    """

    saves: bool
    rank: int
    world: int
    device: torch.device
    module: nn.Module
    wrapper: str

    def wrap(self, module: nn.Module, body: Any) -> None:
        """Moves the module to its device and wraps it."""

    def adopt(self, optimizer: torch.optim.Optimizer, longest: float) -> torch.optim.Optimizer:
        """The optimiser to set learning rates on, ``longest`` the norm that is clipped to."""

    def accumulating(self, last: bool) -> AbstractContextManager[Any]:
        """Around the forward and backward of one micro-batch; gradients meet in the last."""

    def backward(self, loss: torch.Tensor) -> None:
        """The gradient of one micro-batch, added to those before."""

    def update(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[nn.Parameter],
        longest: float,
    ) -> torch.Tensor:
        """Clips the gradient's global norm, steps, forgets the gradient; the norm before."""

    def total(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, in place."""

    def gathered(self, value: Any) -> list[Any]:
        """One value of each process, by rank."""

    def whole(self, tensors: Iterable[tuple[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Copies on the CPU, shards gathered; every process calls it in the same order, and the
        first one is given them."""

    def wait(self) -> None:
        """Until every process has come here."""

    def close(self) -> None:
        """Leaves the group."""


class Single:
    """One process."""

    rank, world, wrapper, saves = 0, 1, "none", True

    def __init__(self, settings: LaunchSettings) -> None:
        self.device = _device(settings)
        self.module: nn.Module = nn.Identity()

    def wrap(self, module: nn.Module, body: Any) -> None:
        self.module = module.to(self.device)

    def adopt(self, optimizer: torch.optim.Optimizer, longest: float) -> torch.optim.Optimizer:
        return optimizer

    def accumulating(self, last: bool) -> AbstractContextManager[Any]:
        return nullcontext()

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()

    def update(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[nn.Parameter],
        longest: float,
    ) -> torch.Tensor:
        norm: Any = nn.utils.clip_grad_norm_(parameters, longest, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        found: torch.Tensor = norm.full_tensor() if isinstance(norm, DTensor) else norm
        return found

    def total(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor

    def gathered(self, value: Any) -> list[Any]:
        return [value]

    def whole(self, tensors: Iterable[tuple[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = {}
        for name, tensor in tensors:
            full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
            # One copy of the model in main memory is enough: the first process writes it.
            if self.rank == 0:
                found[name] = full.detach().cpu().clone()
        return found

    def wait(self) -> None:
        return

    def close(self) -> None:
        return


class Group(Single):
    """Several processes: gloo between CPUs, NCCL between GPUs."""

    def __init__(self, settings: LaunchSettings) -> None:
        super().__init__(settings)
        self._own = not distributed.is_initialized()
        if self._own:
            if "RANK" not in os.environ:
                # No launcher has started this process: it is alone.
                return
            backend = "nccl" if self.device.type == "cuda" else "gloo"
            distributed.init_process_group(backend)
        self.rank, self.world = distributed.get_rank(), distributed.get_world_size()

    def total(self, tensor: torch.Tensor) -> torch.Tensor:
        distributed.all_reduce(tensor)
        return tensor

    def gathered(self, value: Any) -> list[Any]:
        found: list[Any] = [None] * self.world
        distributed.all_gather_object(found, value)
        return found

    def wait(self) -> None:
        distributed.barrier()

    def close(self) -> None:
        # DDP holds its group without Python knowing: left for later, the group would go with it
        # and wait for its threads while they wait for Python.
        self.module = nn.Identity()
        gc.collect()
        if self._own and distributed.is_initialized():
            distributed.destroy_process_group()


class Ddp(Group):
    """Every process holds the whole model; gradients are averaged."""

    wrapper = "DistributedDataParallel"

    def wrap(self, module: nn.Module, body: Any) -> None:
        module.to(self.device)
        self.module = nn.parallel.DistributedDataParallel(
            module,
            device_ids=[self.device.index] if self.device.type == "cuda" else None,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
        )

    def accumulating(self, last: bool) -> AbstractContextManager[Any]:
        module: Any = self.module
        return nullcontext() if last else module.no_sync()


class Fsdp(Group):
    """Every process holds its share of each weight (FSDP2; Zhao et al. 2023, section 3)."""

    wrapper = "FSDPModule"

    def __init__(self, settings: LaunchSettings, *, bf16: bool) -> None:
        super().__init__(settings)
        self._reshard = settings.reshard_after_forward
        # What is trained stays float32 in its shards and travels as bf16: half the traffic, no
        # rounding of what is updated. A CPU casts under autocast alone.
        self._bf16 = bf16 and self.device.type == "cuda"

    def wrap(self, module: nn.Module, body: Any) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import (
            MixedPrecisionPolicy,
            fully_shard,
            register_fsdp_forward_method,
        )

        mesh = init_device_mesh(self.device.type, (self.world,))
        policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16 if self._bf16 else None, reduce_dtype=torch.float32
        )
        settings: dict[str, Any] = {"mesh": mesh, "mp_policy": policy}
        for layer in decoder_layers(body):
            fully_shard(layer, reshard_after_forward=self._reshard, **settings)
        fully_shard(module, **settings)
        for name in SHARDED_METHODS:
            if hasattr(module, name):
                register_fsdp_forward_method(module, name)
        self.module = module.to(self.device) if self.device.type == "cuda" else module
        sharded = [p for p in module.parameters() if isinstance(p, DTensor)]
        if not sharded:
            raise TrainingError("train.launch.config: FSDP was asked for, and no weight is sharded")

    def accumulating(self, last: bool) -> AbstractContextManager[Any]:
        module: Any = self.module
        module.set_requires_gradient_sync(last)
        return nullcontext()


def parallel(settings: LaunchSettings, *, bf16: bool) -> Parallel:
    """The processes of this training.

    Args:
        settings: the launch.
        bf16: `train.precision` is bf16.

    Raises:
        TrainingError: fewer processes came up than were asked for.
    """
    came = int(os.environ.get("WORLD_SIZE", "1")) if not distributed.is_initialized() else 0
    if settings.wrapper == "single" and came > 1:
        raise TrainingError(
            f"train.launch.num_processes: 1 asked for, {came} came up; each would write over the "
            "others: start one, or set train.launch.num_processes"
        )
    made: Parallel
    if settings.wrapper == "deepspeed":
        from pipeline.training.deepspeed import DeepSpeed

        made = DeepSpeed(settings)
    elif settings.wrapper == "fsdp":
        made = Fsdp(settings, bf16=bf16)
    elif settings.processes > 1:
        made = Ddp(settings)
    else:
        made = Single(settings)
    if made.world != settings.processes:
        raise TrainingError(
            f"train.launch.num_processes: {settings.processes} asked for, {made.world} came up; "
            "the launcher lost some"
        )
    return made


def restarted() -> bool:
    """Whether the launcher has started these processes again after one had died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def _device(settings: LaunchSettings) -> torch.device:
    if settings.use_cpu or not torch.cuda.is_available():
        return torch.device("cpu")
    index = int(os.environ.get("LOCAL_RANK", "0"))
    torch.cuda.set_device(index)
    return torch.device("cuda", index)
