"""DeepSpeed ZeRO-2 and ZeRO-3 where the package is installed: an engine that steps by itself.

Checkpoints of its own are pickled, so none are written inside a training: a killed one starts
again. The result is gathered whole, as everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from pipeline.core.errors import TrainingError
from pipeline.core.launch import LaunchSettings, own_config, to_paste
from pipeline.training.parallel import Group

# Only how the work is shared is taken from a file; precision, clipping and accumulation are the
# recipe's, since a launch changes no result.
_SHARED = ("offload_optimizer_device", "offload_param_device", "zero_stage")


class DeepSpeed(Group):
    """Gradients and optimiser states in shards (ZeRO-2), weights too (ZeRO-3).

    Source: Rajbhandari et al. 2020, ZeRO, section 5.
    """

    wrapper = "DeepSpeedEngine"
    saves = False

    def __init__(self, settings: LaunchSettings) -> None:
        super().__init__(settings)
        self._given: Mapping[str, Any] = settings.settings.get("deepspeed_config") or {}
        self._module: nn.Module = nn.Identity()
        self._engine: Any = None
        self._last = True

    def wrap(self, module: nn.Module, body: Any) -> None:
        """Keeps the module: the engine is made together with the optimiser."""
        self._module = self.module = module.to(self.device)

    def adopt(self, optimizer: torch.optim.Optimizer, longest: float) -> torch.optim.Optimizer:
        """Makes the engine; the optimiser whose groups hold the learning rates."""
        import deepspeed

        trained = [p for p in self._module.parameters() if p.requires_grad]
        self._engine, wrapped, _, _ = deepspeed.initialize(
            model=self._module,
            optimizer=optimizer,
            model_parameters=trained,
            config=_config(self._given, longest),
        )
        self.module = self._engine
        made: torch.optim.Optimizer = wrapped
        return made

    def accumulating(self, last: bool) -> AbstractContextManager[Any]:
        self._last = last
        self._engine.set_gradient_accumulation_boundary(last)
        return nullcontext()

    def backward(self, loss: torch.Tensor) -> None:
        self._engine.backward(loss)
        if not self._last:
            # Counts the micro-batch; nothing is updated before the boundary.
            self._engine.step()

    def update(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[nn.Parameter],
        longest: float,
    ) -> torch.Tensor:
        self._engine.step()
        norm = self._engine.get_global_grad_norm()
        if norm is None:
            raise TrainingError(
                "train.launch.config: DeepSpeed made no update; see its log, or use "
                f"{to_paste(own_config('fsdp'))}"
            )
        return torch.as_tensor(norm, dtype=torch.float32, device=self.device)

    def whole(self, tensors: Iterable[tuple[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Copies on the CPU, gathered in float32."""
        from deepspeed import zero
        from deepspeed.utils import safe_get_full_fp32_param

        found: dict[str, torch.Tensor] = {}
        for name, tensor in tensors:
            full = safe_get_full_fp32_param(tensor) if tensor.requires_grad else None
            if full is None:
                with zero.GatheredParameters([tensor]):
                    full = tensor.detach().clone()
            found[name] = full.detach().cpu().clone()
        return found


def _config(given: Mapping[str, Any], longest: float) -> dict[str, Any]:
    stage = int(given.get("zero_stage", 2))
    zero: dict[str, Any] = {"stage": stage, "overlap_comm": False}
    for ours, theirs in (("optimizer", "offload_optimizer"), ("param", "offload_param")):
        device = given.get(f"offload_{ours}_device", "none")
        if device != "none":
            zero[theirs] = {"device": device}
    return {
        "train_micro_batch_size_per_gpu": 1,
        # The loop divides by the targets of the global batch itself.
        "gradient_accumulation_steps": 1,
        "gradient_clipping": longest,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }
