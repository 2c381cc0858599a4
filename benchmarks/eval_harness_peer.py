"""The harness's side of benchmarks.eval_harness; runs in the harness's environment."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def main(case_file: str, threads: str) -> None:
    """Loads the model, then scores as often as it is asked."""
    answers = sys.stdout
    # What the harness prints is no answer.
    sys.stdout = sys.stderr
    from importlib.metadata import version

    import torch
    from lm_eval.api.instance import Instance  # type: ignore[import-not-found]
    from lm_eval.models.huggingface import HFLM  # type: ignore[import-not-found]

    class ByIds(HFLM):  # type: ignore[misc]
        def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
            return [int(i) for i in context.split()], [int(i) for i in continuation.split()]

    torch.set_num_threads(int(threads))
    case = json.loads(Path(case_file).read_text(encoding="utf-8"))
    model = ByIds(pretrained=case["model"], dtype="float32", device="cpu", batch_size=8)

    def told(tree: dict[str, Any]) -> None:
        answers.write(json.dumps(tree) + "\n")
        answers.flush()

    told({"version": version("lm_eval")})
    for line in sys.stdin:
        wish = json.loads(line)
        model.batch_size_per_gpu = wish["batch_size"]
        requests = [
            Instance("loglikelihood", {}, (_written(prompt), _written(ids)), number)
            for number, (prompt, ids) in enumerate(
                (prompt, ids)
                for prompt in case["prompts"][: wish["rows"]]
                for ids in case["answers"]
            )
        ]
        began, spent = time.perf_counter(), time.process_time()
        found = model.loglikelihood(requests, disable_tqdm=True)
        seconds, cpu = time.perf_counter() - began, time.process_time() - spent
        told({"seconds": seconds, "cpu": cpu, "sums": [total for total, _ in found]})


def _written(ids: list[int]) -> str:
    return " ".join(map(str, ids))


if __name__ == "__main__":
    main(*sys.argv[1:])
