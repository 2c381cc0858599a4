"""A journal keeps what was answered, whatever tears it."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.costs import Cost, Meter
from eval.journal import Journal, held
from eval.record import Prediction
from pipeline.core.errors import DataError, StoreError

ROWS = [
    Prediction(f"row {n}", "card", "card_arrival", {"card": -1.5, "卡": -0.25}, "卡\n", 0.25, 7, 2)
    for n in range(6)
]
COST = Cost(2, 1.0, 1.5, 1000, "cpu", 14, 4)


def filled(path: Path) -> Path:
    """Where the journal of ``path`` and key ``one`` lies, six answers in it."""
    journal = Journal(path, "one")
    for start in (0, 2, 4):
        journal.add(ROWS[start : start + 2], COST)
    return journal.path


def test_answers_come_back_as_they_were(tmp_path: Path) -> None:
    filled(tmp_path / "journal")
    again = Journal(tmp_path / "journal", "one")
    assert list(again.done().values()) == ROWS
    assert again.cost == Cost(6, 3.0, 4.5, 1000, "cpu", 42, 12)
    assert again.written_at == pytest.approx(time.time(), abs=60)


def test_another_key_leaves_what_was_answered(tmp_path: Path) -> None:
    path = filled(tmp_path / "journal.jsonl")
    kept = path.read_bytes()
    other = Journal(tmp_path / "journal.jsonl", "two")
    assert other.done() == {}
    assert other.written_at is None
    other.add(ROWS[:1])
    assert path.read_bytes() == kept
    assert list(Journal(tmp_path / "journal.jsonl", "one").done().values()) == ROWS


def test_a_journal_is_begun_anew_or_taken_away_by_its_word_alone(tmp_path: Path) -> None:
    path = filled(tmp_path / "journal")
    journal = Journal(tmp_path / "journal", "one")
    journal.begin_anew()
    assert (journal.done(), journal.cost, journal.written_at) == ({}, None, None)
    journal.add(ROWS[:1])
    assert list(Journal(tmp_path / "journal", "one").done().values()) == ROWS[:1]
    journal.remove()
    assert not path.exists()


def test_a_folder_is_held_by_one_process(tmp_path: Path) -> None:
    holder = (
        "import sys; from pathlib import Path; from eval.journal import held\n"
        "with held(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", holder, str(tmp_path)]
    root, pipe = Path(__file__).resolve().parents[2], subprocess.PIPE
    with subprocess.Popen(command, cwd=root, stdin=pipe, stdout=pipe) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(StoreError, match="another `gradus eval` writes its answers here"):
            held(tmp_path).__enter__()
        child.kill()
    with held(tmp_path):
        pass


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 10_000))
def test_whole_batches_survive_any_cut(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = filled(tmp_path_factory.mktemp("torn") / "journal")
    whole = path.read_bytes()
    kept = whole[: cut % (len(whole) + 1)]
    path.write_bytes(kept)
    batches = max(kept.count(b"\n") - 1, 0)
    torn = Journal(path.with_name("journal"), "one")
    assert list(torn.done()) == [row.example_id for row in ROWS[: 2 * batches]]
    torn.add(ROWS[2 * batches :])
    assert list(Journal(path.with_name("journal"), "one").done().values()) == ROWS


def test_rubbish_in_the_middle_ends_it_there(tmp_path: Path) -> None:
    path = filled(tmp_path / "journal")
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = b"\x00" * 20 + b"\n"
    path.write_bytes(b"".join(lines))
    assert list(Journal(tmp_path / "journal", "one").done()) == ["row 0", "row 1"]


def test_score_that_is_no_number_names_the_item(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", "one")
    with pytest.raises(DataError, match="row 0 to row 0 is no number"):
        journal.add([replace(ROWS[0], scores={"card": float("nan")})])
    assert Journal(tmp_path / "journal", "one").done() == {}


def test_meter_sees_work_and_memory() -> None:
    meter = Meter("cpu")
    before = meter.spent([]).peak_bytes
    block = bytearray(b"x" * 60_000_000)
    sum(range(400_000))
    cost = meter.spent(ROWS[:2])
    assert cost.items == 2
    assert cost.prompt_tokens == 14
    assert cost.cpu_s > 0
    assert cost.peak_bytes - before > len(block) / 2
