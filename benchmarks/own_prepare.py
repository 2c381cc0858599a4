"""`prepare` by itself, for the benchmarks: its seconds and what it wrote.

python -m benchmarks.own_prepare ROWS.jsonl TOKENIZER MAX_LENGTH WORKERS -> one JSON line.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from pipeline.core.schema_data import Clean
from pipeline.core.stage import StageContext


def main() -> None:
    """Reads, cleans, renders, masks and packs; prints seconds, rows and efficiency."""
    rows, folder, max_length, workers = sys.argv[1:5]
    # Both sides are measured with their imports done.
    import torch  # noqa: F401
    from transformers import AutoTokenizer

    from pipeline.stages.prepare import Preparation

    AutoTokenizer.from_pretrained(folder)

    config = {
        "sources": {"train": [{"format": "messages", "columns": {}, "seed": 0}]},
        "carve": None, "carve_test": None, "replay": None, "clean": Clean().model_dump(mode="json"),
        "contamination": "drop", "not_checkable": [], "features": [], "max_quarantined": 0,
        "render": "sft", "system": None, "chat_template_kwargs": {}, "max_length": int(max_length),
        "over_length": "drop", "packing": True, "loss_on": "assistant",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        out, work = Path(place) / "out", Path(place) / "work"
        out.mkdir()
        work.mkdir()
        context = StageContext(
            out, work, {"threads": int(workers)}, {"train0": Path(rows)}, lambda _event: None
        )
        inputs = {"tokenizer": _Folder(Path(folder))}
        began = time.perf_counter()
        facts = Preparation(inputs, config, context, work).run()  # type: ignore[arg-type]
        seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "kept": facts["kept"], "packing": facts["packing"]}))


class _Folder:
    """A tokenizer's folder in place of an artifact."""

    def __init__(self, path: Path) -> None:
        self.path = path


if __name__ == "__main__":
    main()
