"""Near duplicates of short texts: ours against datasketch's MinHashLSH, in the same run.

    python -m benchmarks.near_duplicates [ROWS]

Both run in a process of their own on one thread. Recall and precision are those against exact
Jaccard similarity over all pairs of a sample, counted by a product of sparse matrices.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.near_duplicate_texts import made_texts
from benchmarks.peer import ROOT, peer_python

THRESHOLD = 0.8
SAMPLE = 5_000
DATASKETCH = "datasketch==2.0.0"
PEER = Path(__file__).with_name("near_duplicates_peer.py")

PairSet = set[tuple[int, int]]


def measure(rows: int = 200_000) -> dict[str, Any]:
    """Runs both over the same texts.

    Returns:
        near_duplicate_speedup (wall seconds, against the faster of the peer's two settings),
        near_duplicate_speedup_cpu (the same in processor seconds, which neighbours on the
        machine disturb less), near_duplicate_recall, near_duplicate_precision,
        near_duplicate_bytes_per_row (peak memory above the imports, pages of the mapped texts
        included), and beside them the seconds and the peer's figures.
    """
    texts, families = made_texts(rows)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _write_column(texts, place / "texts.arrow")
        (place / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
        our_command = [sys.executable, "-m", "benchmarks.near_duplicates", "--ours"]
        ours = _ran(our_command, place / "texts.arrow")
        peer_command = [str(peer_python("datasketch", [DATASKETCH])), str(PEER)]
        peer = _ran(peer_command, place / "texts.json")
    sample = _sample(families)
    truth = exact_pairs([texts[row] for row in sample], THRESHOLD)
    number = {row: place for place, row in enumerate(sample)}
    found = _within(ours["pairs"], number)
    figures: dict[str, Any] = {
        "rows": rows,
        "sample_pairs": len(truth),
        "near_duplicate_recall": len(found & truth) / len(truth),
        "near_duplicate_precision": len(found & truth) / len(found),
        "near_duplicate_bytes_per_row": ours["peak_bytes"] / rows,
        "ours_s": ours["seconds"],
        "ours_cpu_s": ours["cpu_s"],
        "ours_pairs": len(ours["pairs"]),
        "datasketch_hash_s": peer["hash_s"],
    }
    for name in ("default", "recall"):
        theirs = peer[name]
        figures |= {
            f"datasketch_{name}_s": theirs["seconds"],
            f"datasketch_{name}_cpu_s": theirs["cpu_s"],
            f"datasketch_{name}_bands": theirs["bands"],
            f"datasketch_{name}_pairs": len(theirs["pairs"]),
            f"datasketch_{name}_recall": len(_within(theirs["pairs"], number) & truth) / len(truth),
        }
    for key, clock in (("", "seconds"), ("_cpu", "cpu_s")):
        fastest = min(peer["default"][clock], peer["recall"][clock])
        figures[f"near_duplicate_speedup{key}"] = fastest / ours[clock]
    return figures


def exact_pairs(texts: list[str], threshold: float) -> PairSet:
    """All pairs of non-empty texts at or above the threshold, with none of our own code."""
    import re
    import unicodedata

    import numpy as np
    from sklearn.feature_extraction.text import CountVectorizer

    def shingles(text: str) -> list[str]:
        words = re.sub(r"\W+", " ", unicodedata.normalize("NFKC", text).casefold()).strip()
        return [words[i : i + 5] for i in range(max(1, len(words) - 4)) if words]

    table = CountVectorizer(analyzer=shingles, binary=True, dtype=np.int32).fit_transform(texts)
    shared = (table @ table.T).tocoo()
    sizes = np.asarray(table.sum(axis=1)).ravel()
    union = sizes[shared.row] + sizes[shared.col] - shared.data
    near = (shared.data / union >= threshold) & (shared.row < shared.col)
    return set(zip(shared.row[near].tolist(), shared.col[near].tolist(), strict=True))


def _sample(families: list[int]) -> list[int]:
    """About SAMPLE rows, whole families: a sample of single rows would hold hardly a pair."""
    bound = sorted(families)[min(SAMPLE, len(families)) - 1]
    return [row for row, family in enumerate(families) if family <= bound]


def _within(pairs: list[list[int]], number: dict[int, int]) -> PairSet:
    return {
        (number[left], number[right]) for left, right in pairs if left in number and right in number
    }


def _ran(command: list[str], texts: Path) -> dict[str, Any]:
    """What a process of its own says about the texts."""
    result = texts.with_name("result.json")
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    subprocess.run(
        [*command, str(texts), str(result), str(THRESHOLD)],
        check=True,
        cwd=ROOT,
        env={**os.environ, **single},
    )
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return found


def _ours(column: str, result: str, threshold: str) -> None:
    """Our side, in a process of its own: from an Arrow file on disk to pairs."""
    import pyarrow as pa

    from pipeline.data.near_duplicates import near_duplicate_pairs

    with pa.memory_map(column) as source:
        texts = pa.ipc.open_file(source).read_all()["text"]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        clocks = time.perf_counter(), time.process_time()
        pairs = near_duplicate_pairs(texts, threshold=float(threshold))
        seconds, cpu_s = time.perf_counter() - clocks[0], time.process_time() - clocks[1]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    found = list(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))
    figures = {"seconds": seconds, "cpu_s": cpu_s, "peak_bytes": peak * 1024, "pairs": found}
    Path(result).write_text(json.dumps(figures), encoding="utf-8")


def _write_column(texts: list[str], path: Path) -> None:
    import pyarrow as pa

    table = pa.table({"text": pa.array(texts)})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=10_000)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ours"]:
        _ours(*sys.argv[2:5])
    else:
        print(json.dumps(measure(*map(int, sys.argv[1:2])), indent=2))
