"""A disk that fills while a training saves: a real one, a tmpfs of a few hundred kilobytes."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import StoreError
from pipeline.training.loop import train
from pipeline.training.trainee import TrainJob
from tests.training.forked import Forge
from tests.training.matrix import cell_job
from tests.training.training_case import quiet

FULL = ("sft", "causal", "full")
LORA = ("sft", "causal", "lora")
SETTINGS: dict[str, Any] = {"max_steps": 6, "save_steps": 2}
_PAGE = 4096


class Disk:
    """A small disk of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._mounted = False

    def hold(self, size_bytes: int) -> None:
        """Makes room for so many bytes, at first or again."""
        option = f"size={size_bytes}"
        if self._mounted:
            self._run("mount", "-o", f"remount,{option}", str(self.folder))
        else:
            self._run("mount", "-t", "tmpfs", "-o", option, "tmpfs", str(self.folder))
            self._mounted = True

    def close(self) -> None:
        if self._mounted:
            self._run("umount", str(self.folder))

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no disk of its own here, mount is not permitted: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if shutil.which("mount") is None:
        pytest.skip("no disk of its own here: no mount")
    found = Disk(tmp_path / "disk")
    yield found
    found.close()


@pytest.fixture(scope="module")
def straight(bench: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], TrainJob]:
    """The training that ran on a disk that was large enough."""
    found: dict[Any, TrainJob] = {}

    def made(cell: Any) -> TrainJob:
        if cell not in found:
            folder = tmp_path_factory.mktemp("straight")
            found[cell] = cell_job(bench, cell, "single", folder / "job", **SETTINGS)
            train(found[cell], quiet)
        return found[cell]

    return made


def _same_result(job: TrainJob, other: TrainJob) -> None:
    files = sorted(p.name for p in Path(other.out).iterdir())
    assert sorted(p.name for p in Path(job.out).iterdir()) == files
    for name in files:
        assert (Path(job.out) / name).read_bytes() == (Path(other.out) / name).read_bytes()


def _checkpoint_bytes(job: TrainJob) -> int:
    return sum(p.stat().st_size for p in sorted(Path(job.work).glob("step-*"))[-1].iterdir())


@pytest.mark.parametrize("cell", [FULL, LORA], ids=["full", "lora"])
def test_last_good_checkpoint_stays_and_is_gone_on_from(
    cell: Any, bench: Path, disk: Disk, straight: Callable[[Any], TrainJob]
) -> None:
    other = straight(cell)
    disk.hold(int(2.5 * _checkpoint_bytes(other)))
    job = cell_job(bench, cell, "single", disk.folder / "job", **SETTINGS)
    job = replace(job, out=str(disk.folder.parent / "out"))
    Path(job.out).mkdir()
    with pytest.raises(StoreError, match=r"disk is full .*free space") as caught:
        train(job, quiet)
    assert "\n" not in str(caught.value)
    # What was half written gives its space back.
    assert [p.name for p in sorted(Path(job.work).iterdir())] == ["step-00000002", "step-00000004"]
    disk.hold(1 << 24)
    assert train(job, quiet)["resumed_from"] == 4
    _same_result(job, other)


def test_disk_that_fills_with_the_last_bytes_of_a_checkpoint(
    bench: Path, disk: Disk, straight: Callable[[Any], TrainJob]
) -> None:
    other = straight(FULL)
    tensors = sorted(Path(other.work).glob("step-*/rank-00000.safetensors"))[-1].stat().st_size
    # Room for the tensors, and for the first page of state.json.
    disk.hold((-(-tensors // _PAGE) + 1) * _PAGE)
    job = replace(other, work=str(disk.folder), out=str(disk.folder.parent / "out"))
    Path(job.out).mkdir()
    with pytest.raises(StoreError, match="disk is full"):
        train(job, quiet)
    assert not list(disk.folder.iterdir())
    disk.hold(1 << 24)
    assert train(job, quiet)["resumed_from"] is None
    _same_result(job, other)


@pytest.mark.parametrize("cell", [FULL, LORA], ids=["full", "lora"])
def test_disk_that_fills_while_the_result_is_written(
    cell: Any, bench: Path, disk: Disk, straight: Callable[[Any], TrainJob], tmp_path: Path
) -> None:
    other = straight(cell)
    weights = max(p.stat().st_size for p in Path(other.out).glob("*.safetensors"))
    disk.hold(max(_PAGE, weights // 2))
    job = cell_job(bench, cell, "single", tmp_path / "job", **SETTINGS)
    job = replace(job, out=str(disk.folder))
    with pytest.raises(StoreError, match=r"disk is full .*free space"):
        train(job, quiet)
    disk.hold(1 << 24)
    assert train(job, quiet)["resumed_from"] == 6
    _same_result(job, other)


@pytest.mark.parametrize("wrapper", ["ddp", "fsdp"])
def test_no_process_waits_for_one_whose_disk_is_full(
    wrapper: str, bench: Path, disk: Disk, forge: Forge, straight: Callable[[Any], TrainJob]
) -> None:
    disk.hold(int(2.5 * _checkpoint_bytes(straight(FULL))))
    job = cell_job(bench, FULL, wrapper, disk.folder / "job", **SETTINGS)
    job = replace(job, out=str(disk.folder.parent / "out"))
    Path(job.out).mkdir()
    ended = forge.run(job, processes=2)
    assert ended.codes == [1, 1]
    assert [kind for kind, _ in ended.errors] == ["StoreError", "StoreError"]
    assert all("disk is full" in text for _, text in ended.errors)
    assert sorted(p.name for p in Path(job.work).glob("step-*")) == [
        "step-00000002", "step-00000004"
    ]  # fmt: skip
    disk.hold(1 << 24)
    again = forge.run(job, processes=2)
    assert again.codes == [0, 0]
    assert again.facts["resumed_from"] == 4


def test_no_process_waits_for_the_one_that_writes_the_result(
    bench: Path, disk: Disk, forge: Forge, tmp_path: Path
) -> None:
    disk.hold(2 * _PAGE)
    job = cell_job(bench, FULL, "ddp", tmp_path / "job", **SETTINGS)
    ended = forge.run(replace(job, out=str(disk.folder)), processes=2)
    assert ended.codes == [1, 1]
    assert [kind for kind, _ in ended.errors] == ["StoreError", "StoreError"]
