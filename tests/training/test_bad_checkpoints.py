"""Checkpoints that cannot be gone on from: torn, foreign, pickled."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.core.digest import file_digest
from pipeline.core.errors import TrainingError
from pipeline.training import checkpoint
from pipeline.training.loop import train
from pipeline.training.trainee import TrainJob
from tests.training.matrix import cell_job
from tests.training.training_case import broken_at, losses, quiet, weights

LORA = ("sft", "causal", "lora")
TENSORS = "rank-00000.safetensors"


@pytest.fixture(scope="module")
def saved(bench: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainJob:
    """A training that ended, with checkpoints of updates 4 and 6."""
    done = cell_job(bench, LORA, "single", tmp_path_factory.mktemp("saved"), max_steps=6,
                    save_steps=2)  # fmt: skip
    train(done, quiet)
    assert [p.name for p in _steps(done)] == ["step-00000004", "step-00000006"]
    return done


def _steps(done: TrainJob) -> list[Path]:
    return sorted(Path(done.work).glob("step-*"))


@pytest.fixture
def again(saved: TrainJob, tmp_path: Path) -> TrainJob:
    """The same training about to go on, in folders of its own."""
    shutil.copytree(saved.work, tmp_path / "work")
    (tmp_path / "out").mkdir()
    return replace(saved, work=str(tmp_path / "work"), out=str(tmp_path / "out"))


def _cut_short(folder: Path) -> None:
    file = folder / TENSORS
    file.write_bytes(file.read_bytes()[:-7])


def _cut_within_header(folder: Path) -> None:
    file = folder / TENSORS
    file.write_bytes(file.read_bytes()[:40])


def _header_of_many_bytes(folder: Path) -> None:
    file = folder / TENSORS
    file.write_bytes(struct.pack("<Q", 1 << 62) + file.read_bytes()[8:])


def _one_byte(name: str, at: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[at] ^= 1
        (folder / name).write_bytes(bytes(content))

    return change


def _one_digit_of_history(folder: Path) -> None:
    file = folder / "state.json"
    text = file.read_text()
    at = text.index('"loss": ') + 12
    changed = text[:at] + ("1" if text[at] != "1" else "2") + text[at + 1 :]
    json.loads(changed)
    file.write_text(changed)


def _state_of_another(folder: Path) -> None:
    shutil.copy(folder.parent / "step-00000004" / "state.json", folder)


def _all_of_another(folder: Path) -> None:
    for file in (folder.parent / "step-00000004").iterdir():
        shutil.copy(file, folder)


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("no folder")


def _json(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "state.json").write_text(text) and None


TEARS: dict[str, Callable[[Path], Any]] = {
    "cut short": _cut_short, "cut within the header": _cut_within_header,
    "header too long": _header_of_many_bytes, "byte of a tensor": _one_byte(TENSORS, -100),
    "byte of the header": _one_byte(TENSORS, 30), "byte of the state": _one_byte("state.json", 200),
    "digit of the history": _one_digit_of_history, "state of another": _state_of_another,
    "another under its name": _all_of_another, "empty folder": _empty, "a file": _a_file,
    "no tensors": lambda folder: (folder / TENSORS).unlink(),
    "no state": lambda folder: (folder / "state.json").unlink(),
    "state is a list": _json("[]"), "state is null": _json("null"), "state is no text": lambda f: (
        f / "state.json").write_bytes(b"\xff\xfe{"), "state is empty": _json(""),
}  # fmt: skip


@pytest.mark.parametrize("tear", TEARS)
def test_torn_newest_falls_back_to_the_one_before(
    tear: str, again: TrainJob, saved: TrainJob
) -> None:
    TEARS[tear](_steps(again)[-1])
    told: list[str] = []
    facts = train(again, lambda event: told.append(str(event.get("message", ""))))
    assert facts["resumed_from"] == 4
    assert any("step-00000006 is torn" in text and "\n" not in text for text in told)
    for file in Path(saved.out).iterdir():
        assert (Path(again.out) / file.name).read_bytes() == file.read_bytes()
    # What replaced it is whole.
    assert train(again, quiet)["resumed_from"] == 6


def test_all_torn_starts_at_update_0_and_says_so(again: TrainJob, saved: TrainJob) -> None:
    for folder in _steps(again):
        _cut_short(folder)
    told: list[str] = []
    facts = train(again, lambda event: told.append(str(event.get("message", ""))))
    assert facts["resumed_from"] is None
    assert sum("is torn" in text for text in told) == 2
    assert any("starts at update 0" in text for text in told)
    expected = weights(saved)
    assert all(torch.equal(t, expected[n]) for n, t in weights(again).items())


def test_torn_ones_do_not_push_out_what_is_saved_next(again: TrainJob) -> None:
    for folder in _steps(again):
        _cut_short(folder)
    broken_at(again, 3)
    assert train(again, quiet)["resumed_from"] == 2


def _of_another_base(job: TrainJob, bench: Path, folder: Path) -> TrainJob:
    base = folder / "base"
    shutil.copytree(bench / "causal", base)
    tensors = load_file(str(base / "model.safetensors"))
    save_file({n: t + 0.01 for n, t in tensors.items()}, str(base / "model.safetensors"),
              {"format": "pt"})  # fmt: skip
    return replace(job, root=str(base))


def _of_another_rank(job: TrainJob, _bench: Path, _folder: Path) -> TrainJob:
    return replace(job, config={**job.config, "lora_r": 8})


def _of_other_targets(job: TrainJob, _bench: Path, _folder: Path) -> TrainJob:
    return replace(job, config={**job.config, "target_modules": ["q_proj"]})


@pytest.mark.parametrize(
    ("other", "words"),
    [(_of_another_base, "stands on another base"), (_of_another_rank, "of another rank"),
     (_of_other_targets, "is not trained here")],
)  # fmt: skip
def test_checkpoint_of_another_model_is_refused_with_a_remedy(
    other: Any, words: str, again: TrainJob, bench: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=words) as caught:
        train(other(again, bench, tmp_path), quiet)
    text = str(caught.value)
    assert "\n" not in text
    assert "set train.resume: false" in text
    assert len(_steps(again)) == 2


@pytest.mark.parametrize(("objective", "method"), [("classify", "lora"), ("mlm", "full")])
def test_weights_that_a_base_lacks_are_the_same_after_a_break(
    objective: str, method: str, bench: Path, tmp_path: Path
) -> None:
    """As all-MiniLM-L6-v2 comes: an encoder whose language-model head nobody saved."""
    base = tmp_path / "base"
    shutil.copytree(bench / "encoder", base)
    tensors = load_file(str(base / "model.safetensors"))
    kept = {name: t for name, t in tensors.items() if not name.startswith("cls.")}
    assert len(kept) < len(tensors)
    save_file(kept, str(base / "model.safetensors"), {"format": "pt"})
    cell = (objective, "encoder", method)
    made = {
        name: replace(
            cell_job(bench, cell, "single", tmp_path / name, max_steps=5, save_steps=2),
            root=str(base),
        )
        for name in ("through", "broken")
    }
    train(made["through"], quiet)
    broken_at(made["broken"], 4)
    assert _steps(made["broken"])
    train(made["broken"], quiet)
    assert losses(made["broken"]) == losses(made["through"])


def test_checkpoint_of_another_head_size_is_refused(bench: Path, tmp_path: Path) -> None:
    cell = ("classify", "causal", "lora")
    done = cell_job(bench, cell, "single", tmp_path / "job", max_steps=2, save_steps=1)
    train(done, quiet)
    data = tmp_path / "data"
    shutil.copytree(done.data, data)
    labels = json.loads((data / "labels.json").read_text())
    (data / "labels.json").write_text(json.dumps([*labels, "violet"]))
    with pytest.raises(TrainingError, match=r"\[3, 32\] there and \[4, 32\] here.*another head"):
        train(replace(done, data=str(data)), quiet)


def test_resume_false_starts_again_and_its_checkpoints_are_its_own(
    again: TrainJob, saved: TrainJob
) -> None:
    """Those of the training before would be newer than any that it saves."""
    fresh = replace(again, options={**again.options, "resume": False})
    broken_at(fresh, 3)
    assert [p.name for p in _steps(again)] == ["step-00000002"]
    assert train(fresh, quiet)["resumed_from"] is None
    name = "adapter_model.safetensors"
    assert (Path(again.out) / name).read_bytes() == (Path(saved.out) / name).read_bytes()


@pytest.mark.parametrize("name", ["optimizer.pt", "pytorch_model.bin", "x.pkl", "__0_0.distcp",
                                  "sub/rng_state.pth"])  # fmt: skip
def test_pickled_checkpoint_is_refused(name: str, again: TrainJob) -> None:
    (_steps(again)[-1] / name).parent.mkdir(exist_ok=True)
    torch.save({"step": 6}, _steps(again)[-1] / name)
    with pytest.raises(TrainingError, match="could run code") as caught:
        train(again, quiet)
    assert "\n" not in str(caught.value)


def test_tensors_that_do_not_keep_their_word_are_one_line(again: TrainJob) -> None:
    """Sealed anew by somebody: digests hold, and the tensors are not those that it lists."""
    folder = _steps(again)[-1]
    save_file({"x": torch.zeros(3)}, str(folder / TENSORS))
    state = json.loads((folder / "state.json").read_text())["state"]
    state["sha256"] = {TENSORS: file_digest(folder / TENSORS)}
    sealed = {"state": state, "sha256": checkpoint._digest(state)}
    (folder / "state.json").write_text(json.dumps(sealed))
    with pytest.raises(TrainingError, match="cannot be read") as caught:
        train(again, quiet)
    assert "\n" not in str(caught.value)
