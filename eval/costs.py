"""What answering costs: wall-clock and processor seconds, memory, tokens."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from eval.record import Prediction

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
# proc(5): 5 resets the peak resident size to the present one.
_RESET_PEAK = "5"


@dataclass(frozen=True)
class Cost:
    """What one suite cost in one arm.

    Attributes:
        items: that were answered.
        wall_s: seconds by the clock, the model being in memory already.
        cpu_s: processor seconds of the process, all threads; on a GPU the seconds that a
            processor helped it.
        peak_bytes: the most memory at once: resident of the process, on a GPU that of the GPU.
        device: where the model lay.
        prompt_tokens: read, over all items.
        output_tokens: written, over all items.
    """

    items: int
    wall_s: float
    cpu_s: float
    peak_bytes: int
    device: Literal["cpu", "cuda"]
    prompt_tokens: int
    output_tokens: int

    @property
    def compute_s(self) -> float:
        """Seconds of the device that is paid for: of processors, or of the GPU."""
        return self.wall_s if self.device == "cuda" else self.cpu_s

    def plus(self, other: Cost) -> Cost:
        """Both together: what a killed evaluation spent before, and after."""
        return Cost(
            self.items + other.items,
            self.wall_s + other.wall_s,
            self.cpu_s + other.cpu_s,
            max(self.peak_bytes, other.peak_bytes),
            self.device,
            self.prompt_tokens + other.prompt_tokens,
            self.output_tokens + other.output_tokens,
        )


class Meter:
    """Reads clocks and memory between one batch and the next."""

    def __init__(self, device: Literal["cpu", "cuda"]) -> None:
        """Starts now."""
        self.device = device
        self._reset_peak()
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def spent(self, predictions: Iterable[Prediction]) -> Cost:
        """What was spent on ``predictions``: all since the start, or since the last call."""
        wall, cpu = time.perf_counter(), time.process_time()
        told = list(predictions)
        cost = Cost(
            len(told),
            wall - self._wall,
            cpu - self._cpu,
            self._peak(),
            self.device,
            sum(p.prompt_tokens for p in told),
            sum(p.output_tokens for p in told),
        )
        self._wall, self._cpu = wall, cpu
        return cost

    def _reset_peak(self) -> None:
        if self.device == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats()
            return
        try:
            _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
        except OSError:
            # Not Linux, or not allowed: the peak since the process began stands in.
            return

    def _peak(self) -> int:
        if self.device == "cuda":
            import torch

            return int(torch.cuda.max_memory_allocated())
        try:
            lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
        except OSError:
            unit = 1 if sys.platform == "darwin" else 1024
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
