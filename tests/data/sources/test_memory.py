"""Memory stays flat on files larger than what may be held."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
MEASURE = """
import pathlib, re, sys
from pipeline.data.sources import read_chunks
rows = sum(1 for chunk in read_chunks(sys.argv[1], place="p") for _ in chunk.rows())
# Not getrusage: that one remembers how large the process was that started this one.
status = pathlib.Path("/proc/self/status").read_text()
print(rows, re.search(r"VmHWM:\\s+(\\d+)", status)[1])
"""


def _peak(path: Path, rows: int) -> int:
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    read, peak = run.stdout.split()
    assert int(read) == rows
    return int(peak)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.csv", "x.txt"])
def test_peak_memory_is_that_of_a_file_an_eighth_as_long(tmp_path: Path, name: str) -> None:
    text = "a text of some words, as they stand in data " * 20
    line = json.dumps({"text": text})
    between = {"x.jsonl": "\n", "x.json": ",\n", "x.csv": "\n", "x.txt": "\n\n"}[name]
    row = line if "json" in name else f'"{text}"'
    begin = {"x.json": "[", "x.csv": "text\n"}.get(name, "")
    peaks = []
    for rows in (4_000, 32_000):
        end = "]" if name == "x.json" else ""
        (tmp_path / name).write_text(begin + between.join([row] * rows) + end)
        peaks.append(_peak(tmp_path / name, rows))
    assert peaks[1] < 1.2 * peaks[0]
