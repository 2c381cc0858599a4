"""Energy that a machine tells of: of its processors by RAPL, of its NVIDIA GPUs by NVML.

Sources: the kernel's Documentation/power/powercap (energy_uj, max_energy_range_uj), and NVML's
nvmlDeviceGetTotalEnergyConsumption. Both count since long before: what is told is a difference.
It is the whole machine's, whoever else works on it.
"""

from __future__ import annotations

import ctypes
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

RAPL = Path("/sys/class/powercap")
# A processor's counter starts again after some hundred kilojoules: minutes under full load.
_EVERY_S = 30.0


class EnergyMeter:
    """Joules between entry and exit; a context manager.

    Attributes:
        joules: name of the counter to joules so far; empty where the machine does not tell.
    """

    def __init__(self, rapl: Path = RAPL) -> None:
        self.joules: dict[str, float] = {}
        self._packages = [p for p in sorted(rapl.glob("*-rapl:*")) if p.name.count(":") == 1]
        self._last: dict[str, float] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._gpus: list[tuple[str, Any]] = []

    def __enter__(self) -> EnergyMeter:
        self._gpus = _gpus()
        self._last = self._read()
        self.joules = dict.fromkeys(self._last, 0.0)
        if self._last:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        if self._last:
            self._thread.join()
            self._add()

    @property
    def total(self) -> float | None:
        """Joules of all counters; None where there is none."""
        return sum(self.joules.values()) if self.joules else None

    def _watch(self) -> None:
        while not self._done.wait(_EVERY_S):
            self._add()

    def _add(self) -> None:
        for name, now in self._read().items():
            gone = now - self._last.get(name, now)
            if gone < 0:
                gone += self._range(name)
            self.joules[name] = self.joules.get(name, 0.0) + gone
            self._last[name] = now

    def _read(self) -> dict[str, float]:
        """Counter to joules; those that may not be read are not there."""
        found = {}
        for package in self._packages:
            value = _micro(package / "energy_uj")
            if value is not None:
                found[package.name] = value
        for name, ask in self._gpus:
            value = ask()
            if value is not None:
                found[name] = value
        return found

    def _range(self, name: str) -> float:
        whole = next((p for p in self._packages if p.name == name), None)
        return 0.0 if whole is None else _micro(whole / "max_energy_range_uj") or 0.0


def _micro(path: Path) -> float | None:
    try:
        return int(path.read_text()) / 1e6
    except (OSError, ValueError):
        return None


def _gpus() -> list[tuple[str, Any]]:
    """Name and counter of each NVIDIA GPU that its driver tells of."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return []
    count = ctypes.c_uint()
    if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        return []
    found: list[tuple[str, Any]] = []
    for index in range(count.value):
        handle = ctypes.c_void_p()
        if not nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)):
            found.append((f"gpu:{index}", _counter(nvml, handle)))
    return found


def _counter(nvml: Any, handle: Any) -> Any:
    def ask() -> float | None:
        millijoules = ctypes.c_ulonglong()
        failed = nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules))
        return None if failed else millijoules.value / 1e3

    return ask
