"""What trainings are priced for: a GPU by its data sheet, or this machine."""

from __future__ import annotations

import math
import os
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.core.errors import RecipeError
from pipeline.core.gpus import gpu_count


@dataclass(frozen=True)
class Device:
    """Where a training would run.

    Attributes:
        name: as the user says it.
        memory_bytes: of one device; of a CPU, what all processes of the machine share.
        flops: operations per second: of a GPU the data sheet's, of a CPU measured.
        gpu: weights lie there as they would on a GPU.
        source: where the figures come from.
    """

    name: str
    memory_bytes: float
    flops: float
    gpu: bool
    source: str


# (GB of memory, dense bf16 TFLOP/s with float32 sums) from NVIDIA's data sheets: "Ada GPU
# architecture" (RTX 4090), "GA102" (RTX 3090), and the sheets of L4, L40S, A10, A100, H100 and
# H200; where a sheet names the figure with sparsity, half of it. The A10G's is AWS's (G5).
_GPUS = {
    "rtx3090": (24, 71.0), "rtx4090": (24, 165.2), "l4": (24, 121.0), "l40s": (48, 362.0),
    "a10": (24, 125.0), "a10g": (24, 70.0), "a100-40": (40, 312.0), "a100-80": (80, 312.0),
    "h100": (80, 989.4), "h100-pcie": (80, 756.5), "h200": (141, 989.4),
}  # fmt: skip
_DATA_SHEET = "data sheet, dense bf16"
# What nvidia-smi calls them, whole: a name that goes on (L40, H100 NVL, RTX 4090 Laptop GPU) is
# another card's.
_CALLED = {
    "GeForce RTX 3090": "rtx3090", "GeForce RTX 4090": "rtx4090", "L4": "l4", "L40S": "l40s",
    "A10": "a10", "A10G": "a10g",
    "A100-SXM4-40GB": "a100-40", "A100-PCIE-40GB": "a100-40",
    "A100-SXM4-80GB": "a100-80", "A100 80GB PCIe": "a100-80",
    "H100 80GB HBM3": "h100", "H100 PCIe": "h100-pcie", "H200": "h200",
}  # fmt: skip
_MEASURED_S = 0.2
_LARGEST_GB = 1e5


def device(gpu: str | None, memory_gb: float | None) -> Device:
    """The device that a user names, or this machine's.

    Args:
        gpu: a name of the table; None: this machine's GPU, else its CPUs.
        memory_gb: in the place of the device's own.

    Raises:
        RecipeError: a name that the table does not have, or no possible amount of memory.
    """
    if memory_gb is not None and not 0 < memory_gb < _LARGEST_GB:
        raise RecipeError(f"--memory {memory_gb:g}: give gigabytes above 0, e.g. --memory 24")
    found = _named(gpu) if gpu is not None else _own_gpu() or _own_cpu()
    return found if memory_gb is None else replace(found, memory_bytes=memory_gb * 1e9)


def _named(gpu: str) -> Device:
    key = gpu.lower().replace("_", "-").removeprefix("nvidia-")
    if key not in _GPUS:
        raise RecipeError(f"--gpu {gpu}: not in the table; use one of {', '.join(_GPUS)}")
    gigabytes, teraflops = _GPUS[key]
    return Device(key, gigabytes * 1e9, teraflops * 1e12, True, _DATA_SHEET)


def _own_gpu() -> Device | None:
    if gpu_count() == 0:
        return None
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
        name, megabytes = done.stdout.splitlines()[0].rsplit(",", 1)
        total = float(megabytes) * 1024**2
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):
        return None
    known = _CALLED.get(name.strip().removeprefix("NVIDIA "))
    if known is None:
        return Device(name.strip(), total, math.nan, True, "nvidia-smi; its rate is not known")
    return replace(_named(known), memory_bytes=total, source=f"nvidia-smi; {_DATA_SHEET}")


def _own_cpu() -> Device:
    return Device(
        f"this machine's {os.cpu_count()} CPUs", _cpu_bytes(), _cpu_flops(), False,
        "this machine; rate of a float32 matrix product, measured now",
    )  # fmt: skip


def _cpu_bytes() -> float:
    """All memory, or less where a control group allows less."""
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return float(pages)
    return float(min(pages, int(limit))) if limit.isdigit() else float(pages)


def _cpu_flops(size: int = 768) -> float:
    """The best of a few products: others may be at work on this machine."""
    import torch

    left = torch.rand(size, size)
    best, end = math.inf, time.perf_counter() + _MEASURED_S
    while time.perf_counter() < end:
        began = time.perf_counter()
        left @ left
        best = min(best, time.perf_counter() - began)
    return 2.0 * size**3 / best
