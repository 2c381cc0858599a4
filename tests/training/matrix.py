"""Every objective x method on models of a few thousand weights: jobs, and where they ran."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from pipeline.core.objectives import OBJECTIVES, cell_problem
from pipeline.data.arrow import write_split
from pipeline.data.packing import pack_stream
from pipeline.stages.scratch import train_tokenizer
from pipeline.training.trainee import TrainJob
from tests.training.training_case import TEXTS, job

# Made by `python -m tests.training.matrix golden`.
GOLDEN = Path(__file__).parents[1] / "golden" / "training_losses.json"
# bitsandbytes has a kernel of its own for four-bit weights on CPUs with AVX-512. On others they are
# exactly the nearest code times the block's largest; losses differ by up to 0.06 between the two.
GOLDEN_WITHOUT_AVX512 = GOLDEN.with_name("training_losses_qlora_without_avx512.json")
METHODS = ("full", "lora", "qlora")
WRAPPERS = ("single", "ddp", "fsdp")
COLOURS = ["blue", "grey", "red"]
TAGS = ["O", "B-thing", "I-thing"]
FSDP_ON_CPUS = "distributed_type: FSDP\nuse_cpu: true\nfsdp_config: {fsdp_version: 2}\n"
# Of a head each kind of base is tried, and of a classifier several labels too.
VARIANTS = {
    "classify": ("causal", "encoder", "causal-multi", "encoder-multi"),
    "tag": ("causal", "encoder"),
    "regress": ("causal", "encoder"),
    "mlm": ("encoder",),
}


def cells() -> Iterator[tuple[str, str, str]]:
    """(objective, variant, method) of every cell that is not refused."""
    for objective in OBJECTIVES:
        for variant in VARIANTS.get(objective, ("causal",)):
            for method in METHODS:
                if cell_problem(objective, method, "single") is None:
                    yield objective, variant, method


def name_of(cell: Sequence[str]) -> str:
    return " ".join(cell)


def write_roots(folder: Path) -> dict[str, Path]:
    """A decoder and an encoder, and a launch file for FSDP on CPUs."""
    tokenizer = train_tokenizer(TEXTS, 300)
    tokenizer.add_special_tokens({"mask_token": "<mask>"})
    torch.manual_seed(0)
    models = {
        "causal": Qwen3ForCausalLM(Qwen3Config(
            vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, head_dim=16, intermediate_size=48,
            tie_word_embeddings=True, eos_token_id=tokenizer.eos_token_id)),
        "encoder": BertForMaskedLM(BertConfig(
            vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2,
            num_attention_heads=2, intermediate_size=48, hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0)),
    }  # fmt: skip
    for name, model in models.items():
        model.save_pretrained(str(folder / name))
        tokenizer.save_pretrained(str(folder / name))
    (folder / "fsdp.yaml").write_text(FSDP_ON_CPUS)
    return {name: folder / name for name in models}


def write_data(folder: Path, tokenizer: Any) -> None:
    """One Dataset for each render."""
    for render in {info.render for info in OBJECTIVES.values()} | {"multi", "packed"}:
        target = folder / render
        target.mkdir(parents=True)
        rows = [_row(render, index, text, tokenizer) for index, text in enumerate(TEXTS)]
        if render == "packed":
            rows = list(pack_stream(rows, 48))
        write_split(target / "train.arrow", rows)
        write_split(target / "validation.arrow", rows[:5])
        labels = {"tag": TAGS, "classify": COLOURS, "hybrid": COLOURS, "multi": COLOURS}
        (target / "labels.json").write_text(json.dumps(labels.get(render, [])))
        (target / "render.json").write_text(json.dumps({"multi_label": render == "multi"}))


def _row(render: str, index: int, text: str, tokenizer: Any) -> dict[str, Any]:
    ids = tokenizer(text)["input_ids"]
    colour, thing = text.split()[1:3]
    row: dict[str, Any] = {
        "example_id": str(index), "text": text, "label": colour, "input_ids": ids,
        "supervised": [int(i > 2) for i in range(len(ids))], "prompt": 3,
    }  # fmt: skip
    if render == "text":
        row["supervised"] = [1] * len(ids)
    elif render == "preference":
        other = [*ids[:3], *reversed(ids[3:]), ids[3]]
        row |= {"rejected_ids": other, "rejected_supervised": [int(i > 2) for i, _ in
                                                               enumerate(other)]}  # fmt: skip
    elif render == "tag":
        row["tags"] = [-100, *(i % 3 for i in range(1, len(ids)))]
    elif render == "regress":
        row["value"] = float(len(thing)) + index / 10
    elif render == "multi":
        row |= {"label": None, "labels": sorted({colour, COLOURS[index % 3]})}
    if render in {"classify", "multi", "tag", "regress"}:
        row["supervised"] = []
    return row


def cell_job(
    place: Path,
    cell: tuple[str, str, str],
    wrapper: str,
    folder: Path | None = None,
    **settings: Any,
) -> TrainJob:
    """The job of a cell; ``place`` holds roots and data."""
    objective, variant, method = cell
    base, _, multi = variant.partition("-")
    data = place / "data" / (multi or OBJECTIVES[objective].render)
    launch: dict[str, Any] = {"num_processes": 1 if wrapper == "single" else 2}
    if wrapper == "fsdp":
        launch["config"] = str(place / "fsdp.yaml")
    folder = folder or place / wrapper / name_of(cell).replace(" ", "-")
    options = {"max_steps": 5, "method": method, "launch": launch, "eval_steps": 3, **settings}
    if method == "full":
        options.pop("lora_r", None)
    return job(place / base, data, folder, objective, **options)


def trained_alone(
    place: Path, some: Sequence[tuple[str, str, str]], folder: Path
) -> dict[str, TrainJob]:
    """Each cell by its name, trained in this process below ``folder``."""
    from pipeline.training.loop import train

    done = {name_of(c): cell_job(place, c, "single", folder / name_of(c)) for c in some}
    for one in done.values():
        train(one, lambda _event: None)
    return done


def run_group(place: Path, wrapper: str, jobs: dict[str, TrainJob]) -> dict[str, Any]:
    """Runs jobs in one group of two processes; name to facts, or to {"error": text}."""
    file = place / f"{wrapper}-jobs.json"
    file.write_text(json.dumps({name: asdict(one) for name, one in jobs.items()}))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
               "--nproc_per_node", "2", "-m", "tests.training.matrix", str(file)]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[2]
    )
    found: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            found |= json.loads(line)
    if len(found) != len(jobs):
        raise AssertionError(f"{len(found)} of {len(jobs)} cells ended: {done.stderr[:6000]}")
    return found


def main(file: str) -> None:
    """One of two processes: all jobs in one process group."""
    from torch import distributed

    from pipeline.core.errors import GradusError
    from pipeline.training.loop import train

    distributed.init_process_group("gloo")
    first = distributed.get_rank() == 0
    for name, tree in json.loads(Path(file).read_text()).items():
        try:
            facts = train(TrainJob(**tree), lambda _event: None)
        except GradusError as error:
            facts = {"error": str(error)}
        if first:
            print(json.dumps({name: facts}), flush=True)
    distributed.destroy_process_group()


def made(folder: Path) -> Path:
    """Roots and data below ``folder``."""
    write_roots(folder)
    write_data(folder / "data", AutoTokenizer.from_pretrained(str(folder / "causal")))
    return folder


def _has_avx512() -> bool:
    # As bitsandbytes asks.
    return torch.backends.cpu.get_cpu_capability() == "AVX512"


def golden() -> dict[str, list[float]]:
    """Losses of every cell on such a CPU as this one."""
    found: dict[str, list[float]] = json.loads(GOLDEN.read_text())
    if not _has_avx512():
        found |= json.loads(GOLDEN_WITHOUT_AVX512.read_text())
    return found


def write_golden() -> None:
    """Writes the losses of one process; what changes them on purpose says so in its commit.

    Where there is no AVX-512, those that depend on it alone.
    """
    import tempfile

    from tests.training.training_case import losses

    place, which = GOLDEN, list(cells())
    if not _has_avx512():
        place, which = GOLDEN_WITHOUT_AVX512, [cell for cell in which if cell[2] == "qlora"]
    with tempfile.TemporaryDirectory() as folder:
        done = trained_alone(made(Path(folder)), which, Path(folder) / "alone")
        found = {name: [round(loss, 4) for loss in losses(one)] for name, one in done.items()}
    lines = [f" {json.dumps(name)}: {json.dumps(found[name])}" for name in found]
    place.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def table() -> str:
    """The README's table: what runs, and why the rest does not."""
    lines = ["| objective | minimises | " + " | ".join(METHODS) + " |",
             "| --- | --- |" + " --- |" * len(METHODS)]  # fmt: skip
    for objective, info in OBJECTIVES.items():
        shown = []
        for method in METHODS:
            words = []
            for wrapper, name in (("single", "1"), ("ddp", "DDP"), ("fsdp", "FSDP")):
                problem = cell_problem(objective, method, wrapper)
                if problem is None:
                    words.append(name)
            shown.append(", ".join(words) or "refused")
        lines.append(f"| `{objective}` | {info.loss} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1] == "table":
        print(table())
    elif sys.argv[1] == "golden":
        write_golden()
    else:
        main(sys.argv[1])
