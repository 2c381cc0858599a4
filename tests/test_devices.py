"""Which device a price is told for: by the whole name that nvidia-smi gives."""

from __future__ import annotations

import math
import subprocess

import pytest

from pipeline import devices

MEGABYTES = 81_559


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What nvidia-smi calls the first GPU: the one word of the list."""
    names: list[str] = []

    def answer(command: list[str], **_more: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 0, f"{names[0]}, {MEGABYTES}\n", "")

    monkeypatch.setattr(devices, "gpu_count", lambda: 1)
    monkeypatch.setattr(devices.subprocess, "run", answer)
    return names


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756.5),
        ("NVIDIA H200", 989.4),
        ("NVIDIA A100-SXM4-40GB", 312.0),
        ("NVIDIA A100 80GB PCIe", 312.0),
        ("NVIDIA L4", 121.0),
        ("NVIDIA L40S", 362.0),
        ("NVIDIA A10", 125.0),
        ("NVIDIA A10G", 70.0),
        ("NVIDIA GeForce RTX 4090", 165.2),
    ],
)
def test_a_known_gpu_has_the_rate_of_its_own_data_sheet(
    called: list[str], name: str, teraflops: float
) -> None:
    called.append(name)
    found = devices.device(None, None)
    assert found.flops == teraflops * 1e12
    # Memory is what the driver has, not what the sheet says.
    assert found.memory_bytes == MEGABYTES * 1024**2


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA RTX A1000", "NVIDIA L40", "NVIDIA H100 NVL", "NVIDIA H200 NVL", "NVIDIA H20",
        "NVIDIA GH200 480GB", "NVIDIA A100X", "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 3090 Ti",
    ],
)  # fmt: skip
def test_a_name_that_holds_anothers_has_no_rate(called: list[str], name: str) -> None:
    called.append(name)
    found = devices.device(None, None)
    assert found.name == name
    assert found.gpu
    assert math.isnan(found.flops)


def test_without_a_gpu_nobody_is_asked_for_its_name(
    called: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "gpu_count", lambda: 0)
    found = devices.device(None, None)
    assert not found.gpu
    assert found.flops > 1e8
