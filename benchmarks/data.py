"""The data benchmarks: near duplicates, `prepare` against TRL, memory, packing.

python -m benchmarks.data [--json] [--rows N] [--texts N] [--long N]

Both sides of each ratio are measured in this run, on the same rows, with two processes each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.data_rows import REAL, conversations
from benchmarks.near_duplicates import measure as near_duplicates
from benchmarks.peer import ROOT, peer_python

TRL = "trl==1.16.0"
MAX_LENGTH = 2048
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}"
    "{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}"
    "{% else %}{{ message['content'] + '<|im_end|>\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def main() -> None:
    """Measures everything, prints a table, and with --json one line of quotients."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rows", type=int, default=100_000, help="conversations to prepare")
    parser.add_argument("--long", type=int, default=1_000_000, help="rows of the memory run")
    parser.add_argument("--texts", type=int, default=200_000, help="texts with near copies")
    asked = parser.parse_args()
    place = Path(tempfile.gettempdir()) / "gradus-benchmark"
    place.mkdir(exist_ok=True)
    tokenizer = _tokenizer(place)
    rows = conversations(place / f"rows-{asked.rows}.jsonl", asked.rows)
    ours, memory = _own(rows, tokenizer)
    peers = {mode: _trl(rows, tokenizer, mode) for mode in ("assistant_only", "prompt_completion")}
    fastest = min(peers, key=lambda mode: peers[mode]["seconds"])
    long = conversations(place / f"rows-{asked.long}.jsonl", asked.long)
    longer, more = _own(long, tokenizer)
    near = near_duplicates(asked.texts)
    quotients = {
        **{name: round(float(near[name]), 4) for name in (
            "near_duplicate_speedup", "near_duplicate_recall", "near_duplicate_precision")},
        "prepare_speedup": round(peers[fastest]["seconds"] / ours["seconds"], 3),
        "memory_growth": round(more / memory, 3),
        "packing_efficiency": ours["packing"]["real_tokens"],
    }  # fmt: skip
    print(f"prepare, {asked.rows:,} conversations, tokenised, masked, packed to {MAX_LENGTH}:")
    measured = {"gradus": ours, **{f"{TRL} {mode}": peer for mode, peer in peers.items()}}
    for name, found in measured.items():
        print(f"  {name:<30}{found['seconds']:8.1f} s {asked.rows / found['seconds']:9.0f}/s")
    print(f"  slots with real tokens {ours['packing']['real_tokens']:8.4f}")
    print(f"peak memory, processes together, {asked.rows:,} rows: {memory / 1e6:,.0f} MB")
    print(f"peak memory, processes together, {asked.long:,} rows: {more / 1e6:,.0f} MB")
    print(f"  ({asked.long / longer['seconds']:,.0f} rows/s)")
    for name, value in near.items():
        print(f"near duplicates: {name}: {value}")
    if asked.json:
        print(json.dumps(quotients))


def _tokenizer(place: Path) -> Path:
    """GPT-2's tokenizer where it is at hand, else a small one of our own; with chat markup."""
    folder = place / "tokenizer"
    if (folder / "config.json").is_file():
        return folder
    from transformers import AddedToken, PreTrainedTokenizerFast

    gpt2 = REAL / "tokenizers" / "gpt2"
    if gpt2.is_dir():
        from tokenizers import ByteLevelBPETokenizer

        core = ByteLevelBPETokenizer(str(gpt2 / "vocab.json"), str(gpt2 / "merges.txt"))
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=core._tokenizer,
            eos_token="<|im_end|>",  # noqa: S106
            pad_token="<|endoftext|>",  # noqa: S106
        )
        tokenizer.add_tokens([AddedToken("<|im_start|>", special=True)], special_tokens=True)
    else:
        from pipeline.stages.scratch import train_tokenizer

        small = conversations(place / "rows-5000.jsonl", 5000)
        with small.open(encoding="utf-8") as stream:
            texts = [m["content"] for line in stream for m in json.loads(line)["messages"]]
        tokenizer = train_tokenizer(texts, 8192)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(str(folder))
    config = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def _own(rows: Path, tokenizer: Path) -> tuple[dict[str, Any], int]:
    command = [sys.executable, "-m", "benchmarks.own_prepare"]
    return _measured([*command, str(rows), str(tokenizer), str(MAX_LENGTH), "2"])


def _trl(rows: Path, tokenizer: Path, mode: str) -> dict[str, Any]:
    python = peer_python("trl", [TRL], beside_main=True)
    script = Path(__file__).with_name("trl_prepare.py")
    return _measured([str(p) for p in (python, script, rows, tokenizer, MAX_LENGTH, mode)])[0]


def _measured(command: Sequence[str]) -> tuple[dict[str, Any], int]:
    """(the command's last line as JSON, peak bytes of its processes together)."""
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        list(command), cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    peak = [0]
    watch = threading.Thread(target=_watch, args=(process.pid, process, peak), daemon=True)
    watch.start()
    out, _ = process.communicate()
    watch.join()
    if process.returncode:
        raise SystemExit(f"{command[0]}: ended with {process.returncode}")
    return json.loads(out.strip().splitlines()[-1]), peak[0]


def _watch(pid: int, process: subprocess.Popen[str], peak: list[int]) -> None:
    while process.poll() is None:
        peak[0] = max(peak[0], sum(_resident(one) for one in _family(pid)))
        time.sleep(0.1)


def _family(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        try:
            for task in Path(f"/proc/{one}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        except OSError:
            continue
    return found


def _resident(pid: int) -> int:
    """Proportional set size: pages that forked workers share are counted once."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return 0
    return 0


if __name__ == "__main__":
    main()
