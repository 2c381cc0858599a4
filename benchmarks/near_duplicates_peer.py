"""Near duplicates by datasketch's MinHashLSH; run with the Python of its own environment.

Its fastest reasonable use in one process: shingles made beforehand and not timed, a hash in C
for them, MinHashes from one generator, an insertion session, integer keys. What it proposes is
verified on the sets, so that both sides give true pairs only.

    python near_duplicates_peer.py TEXTS.json RESULT.json THRESHOLD
"""

from __future__ import annotations

import json
import re
import sys
import time
import unicodedata
import zlib
from pathlib import Path

from datasketch import MinHash, MinHashLSH

NUM_PERM = 128
# Its own choice of bands for the threshold, and the one that it makes where a missed pair weighs
# nine times a false one.
WEIGHTS = {"default": (0.5, 0.5), "recall": (0.1, 0.9)}


def shingles(text: str) -> frozenset[bytes]:
    """5-grams of characters of the normalised text."""
    words = re.sub(r"\W+", " ", unicodedata.normalize("NFKC", text).casefold()).strip()
    return frozenset(words[i : i + 5].encode() for i in range(max(1, len(words) - 4)) if words)


def main() -> None:
    """Reads texts, writes seconds and pairs for each weighting."""
    texts, result, threshold = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    sets = [shingles(text) for text in json.loads(texts.read_text(encoding="utf-8"))]
    start, cpu = time.perf_counter(), time.process_time()
    hashes = list(MinHash.generator(sets, num_perm=NUM_PERM, hashfunc=zlib.crc32))
    hash_s, hash_cpu_s = time.perf_counter() - start, time.process_time() - cpu
    found = {}
    for name, weights in WEIGHTS.items():
        start, cpu = time.perf_counter(), time.process_time()
        lsh = MinHashLSH(threshold=threshold, num_perm=NUM_PERM, weights=weights)
        with lsh.insertion_session() as session:
            for row, value in enumerate(hashes):
                session.insert(row, value, check_duplication=False)
        pairs = []
        for row, value in enumerate(hashes):
            for other in lsh.query(value):
                if other < row:
                    shared = len(sets[row] & sets[other])
                    union = len(sets[row]) + len(sets[other]) - shared
                    if union and shared / union >= threshold:
                        pairs.append((other, row))
        found[name] = {
            "seconds": hash_s + time.perf_counter() - start,
            "cpu_s": hash_cpu_s + time.process_time() - cpu,
            "pairs": sorted(pairs),
            "bands": [lsh.b, lsh.r],
        }
        del lsh
    result.write_text(json.dumps({"hash_s": hash_s, **found}), encoding="utf-8")


if __name__ == "__main__":
    main()
