"""Our likelihood arm against lm-evaluation-harness's own HF backend, on the same task.

python -m benchmarks.eval_harness [--rows N] [--turns N]

Both read the same prompts and the same 77 labels, by the same ids, with the same model in
float32, each in a process of its own with the same threads; they take turns: harness, ours,
harness, ours. The harness scores in batches of the size that was fastest in this run. Only its
scoring is timed (``loglikelihood``): what it does before and after counts for nothing. Answers
must be the same, and log-likelihoods equal to 1e-5.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.eval_labels import SHAPES, build

ROWS, TURNS = 16, 3
SIZES = (8, 32, 128)
TOLERANCE = 1e-5
_PEER = Path(__file__).with_name("eval_harness_peer.py")


class Peer:
    """The harness in its own environment, asked over a pipe.

    It answers one line of JSON for each line of JSON.
    """

    def __init__(self, case: Path, threads: int) -> None:
        """Starts it and waits until the model is in memory."""
        from eval.harness.install import harness_python

        python = harness_python(lambda line: print(line, file=sys.stderr))
        self.log = (case.parent / "peer.log").open("w")
        self.process = subprocess.Popen(
            [str(python), "-I", str(_PEER), str(case), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
            text=True,
        )
        self.version: str = self._answer()["version"]

    def scored(self, rows: int, batch_size: int) -> tuple[float, float, list[float]]:
        """Seconds and processor seconds of scoring ``rows`` prompts, and the sums of each."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"rows": rows, "batch_size": batch_size}) + "\n")
        self.process.stdin.flush()
        found = self._answer()
        return found["seconds"], found["cpu"], found["sums"]

    def stop(self) -> None:
        """Ends it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the harness ended; see {self.log.name}")
        found: dict[str, Any] = json.loads(line)
        return found


def measure(rows: int = ROWS, turns: int = TURNS) -> dict[str, float]:
    """Measures both shapes, prints a table, and returns the smaller speed-up.

    Raises:
        SystemExit: the two sides do not answer the same.
    """
    found = []
    for name, shape in SHAPES.items():
        # A wide model's rows take ten times as long.
        found.append(_raced(name, shape, rows if name == "demo" else max(2, rows // 4), turns))
    return {"lm_eval_speedup": round(min(found), 3)}


def _raced(name: str, shape: dict[str, int], rows: int, turns: int) -> float:
    import torch

    from eval.arms.likelihood import LikelihoodPredictor

    case = build(shape, rows)
    asked = [
        {"example_id": str(number), "prompt_ids": prompt, "label": next(iter(case.answers))}
        for number, prompt in enumerate(case.prompts)
    ]
    predictor = LikelihoodPredictor(case.model, case.answers, pad_id=0, batch_size=64)
    with tempfile.TemporaryDirectory(prefix="gradus-benchmark-") as folder:
        place = Path(folder)
        _write(place, case)
        peer = Peer(place / "case.json", torch.get_num_threads())
        try:
            few = max(1, rows // 4)
            speeds = {size: peer.scored(few, size)[0] for size in SIZES}
            best = min(speeds, key=lambda size: speeds[size])
            timed: dict[str, list[tuple[float, float]]] = {"harness": [], "ours": []}
            predictor.predict(asked)
            sums: list[float] = []
            for _ in range(turns):
                seconds, cpu, sums = peer.scored(rows, best)
                timed["harness"].append((seconds, cpu))
                began, spent = time.perf_counter(), time.process_time()
                answers = predictor.predict(asked)
                timed["ours"].append((time.perf_counter() - began, time.process_time() - spent))
        finally:
            peer.stop()
    pairs = zip(timed["harness"], timed["ours"], strict=True)
    speedup = statistics.median(theirs[0] / ours[0] for theirs, ours in pairs)
    print(
        f"lm-evaluation-harness {peer.version}: {len(case.answers)} labels, {rows} prompts, "
        f"{name}: hidden {case.model.config.hidden_size} x {case.model.config.num_hidden_layers}"
    )
    print(f"  {'':<8}{'items/s':>10}{'CPU s an item':>16}   seconds of every turn")
    for side, figures in timed.items():
        every = " ".join(f"{wall:.2f}" for wall, _ in figures)
        wall, cpu = (statistics.median(of) for of in zip(*figures, strict=True))
        more = f" (batches of {best}, the best of {SIZES})" if side == "harness" else ""
        print(f"  {side:<8}{rows / wall:>10.2f}{cpu / rows:>16.4f}   {every}{more}")
    worst = _difference(case, answers, sums)
    print(f"  speed-up {speedup:.2f} (at least 1.5); log-likelihoods differ by {worst:.1e}")
    return speedup


def _write(place: Path, case: Any) -> None:
    """The model as a checkpoint, and what it is asked, for the other process."""
    from pipeline.stages.scratch import train_tokenizer

    case.model.save_pretrained(str(place / "model"))
    # The harness wants one, and never asks it: prompts and answers are ids already.
    train_tokenizer(["words of no meaning"], 300).save_pretrained(str(place / "model"))
    told = {
        "model": str(place / "model"),
        "prompts": case.prompts,
        "answers": [list(ids) for ids in case.answers.values()],
    }
    (place / "case.json").write_text(json.dumps(told), encoding="utf-8")


def _difference(case: Any, answers: Sequence[Any], sums: Sequence[float]) -> float:
    """The largest relative difference of log-likelihoods; labels must be the same.

    Raises:
        SystemExit: they are not.
    """
    import torch

    from eval.arms.scoring import TrieScorer
    from eval.arms.trie import Trie

    labels = list(case.answers)
    with torch.inference_mode():
        ours = TrieScorer(case.model, Trie(case.answers), pad_id=0).scores(case.prompts)
    theirs = torch.tensor(sums, dtype=torch.float64).reshape(ours.shape)
    worst = float(((ours - theirs) / theirs).abs().max())
    theirs_told = [labels[index] for index in theirs.argmax(dim=1).tolist()]
    if [answer.label for answer in answers] != theirs_told or worst > TOLERANCE:
        raise SystemExit(
            f"the two sides do not answer the same ({worst:.1e}): their speeds say nothing"
        )
    return worst


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help="prompts to score")
    parser.add_argument("--turns", type=int, default=TURNS, help="turns of each side")
    asked = parser.parse_args()
    print(json.dumps(measure(asked.rows, asked.turns)))


if __name__ == "__main__":
    main()
