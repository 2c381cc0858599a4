"""What the training benchmark trains: rows of alpaca lengths, a model, and both on disk.

The rows are alpaca's where `../shared/data` is at hand, else made by a seed with its lengths.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peer import ROOT

REAL = ROOT.parent / "shared" / "data"
# Tokens of 999 rows of alpaca_gpt4 (English) in GPT-2's vocabulary, chat markup counted, at
# every twentieth of the way from the shortest to the longest: questions and answers.
_SHARES = (0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1)
_QUESTIONS = (13, 15, 16, 19, 23, 30, 40, 50, 91, 158)
_ANSWERS = (3, 10, 12, 27, 109, 264, 367, 404, 518, 794)
_MARKUP = {"user": 6, "assistant": 4}


@dataclass(frozen=True)
class Case:
    """Everything that each contestant reads; all of them see every row once in a turn.

    Attributes:
        root: the base's folder; ``unpacked`` and ``packed`` are Dataset folders.
        rows: JSON lines with ``input_ids`` and ``labels``, for the peers.
        held_out: the same, rows that nobody trains on.
        shape: of the model.
        updates: of a turn (one pass over the rows); ``turns`` are timed, after one that is not.
        global_batch: rows of an update; ``micro`` of them at once, padded to the longest.
        block: tokens of a packed block; ``blocks`` of them hold all rows.
        tokens: of all rows, padding aside; ``targets`` of them are learned.
    """

    root: str
    unpacked: str
    packed: str
    rows: str
    held_out: str
    shape: dict[str, int]
    updates: int
    turns: int
    global_batch: int
    micro: int
    block: int
    blocks: int
    tokens: int
    targets: int
    padding: float
    threads: int
    learning_rate: float = 1e-3
    lora_r: int = 16
    seed: int = 1

    @property
    def blocks_at_once(self) -> int:
        """Blocks of an update, so that a pass over them takes as many updates."""
        return math.ceil(self.blocks / self.updates)

    @property
    def steps(self) -> int:
        """Updates in all."""
        return self.updates * (self.turns + 1)


def read_case(path: str) -> Case:
    """The case that ``build_case`` wrote."""
    return Case(**json.loads(Path(path).read_text(encoding="utf-8")))


def build_case(
    place: Path,
    *,
    shape: dict[str, int],
    rows: int,
    global_batch: int,
    micro: int,
    block: int,
    turns: int,
    threads: int,
) -> Path:
    """Writes model, rows and settings; the case's file."""
    from pipeline.data.arrow import write_split
    from pipeline.data.packing import pack_stream

    found = _rows(rows + max(8, rows // 3), shape["vocab_size"], block)
    # Every fourth row is held out, so both parts have the whole spread of lengths.
    held = found[3::4]
    kept = [row for index, row in enumerate(found) if index % 4 != 3][:rows]
    random.Random(1).shuffle(kept)
    _write_model(place / "root", shape)
    packed = list(pack_stream(kept, block))
    for name, made in (("unpacked", kept), ("packed", packed)):
        (place / name).mkdir(exist_ok=True)
        write_split(place / name / "train.arrow", made)
        (place / name / "labels.json").write_text("[]")
    for name, made in (("rows", kept), ("held_out", held)):
        (place / f"{name}.jsonl").write_text("".join(json.dumps(_labelled(r)) + "\n" for r in made))
    case = Case(
        root=str(place / "root"),
        unpacked=str(place / "unpacked"),
        packed=str(place / "packed"),
        rows=str(place / "rows.jsonl"),
        held_out=str(place / "held_out.jsonl"),
        shape=shape,
        updates=math.ceil(rows / global_batch),
        turns=turns,
        global_batch=global_batch,
        micro=micro,
        block=block,
        blocks=len(packed),
        tokens=sum(len(row["input_ids"]) for row in kept),
        targets=sum(sum(row["supervised"][1:]) for row in kept),
        padding=_padding([len(row["input_ids"]) for row in kept], micro),
        threads=threads,
    )
    path = place / "case.json"
    path.write_text(json.dumps(asdict(case)))
    return path


def _padding(lengths: Sequence[int], micro: int) -> float:
    """Share of the slots that hold no token, where rows are taken in random order."""
    rng, real, slots = random.Random(1), 0, 0
    for _ in range(20):
        order = rng.sample(list(lengths), len(lengths))
        for start in range(0, len(order), micro):
            part = order[start : start + micro]
            real, slots = real + sum(part), slots + max(part) * len(part)
    return 1 - real / slots


def _labelled(row: dict[str, Any]) -> dict[str, list[int]]:
    pairs = zip(row["input_ids"], row["supervised"], strict=True)
    return {"input_ids": row["input_ids"], "labels": [i if s else -100 for i, s in pairs]}


def _rows(count: int, vocabulary: int, longest: int) -> list[dict[str, Any]]:
    """Rows, shortest first, evenly spread over the lengths that there are."""
    pairs = _alpaca(vocabulary) or _made(max(2000, count), vocabulary)
    pairs = sorted((p for p in pairs if len(p[0]) + len(p[1]) <= longest), key=_length)
    chosen = [pairs[round((i + 0.5) / count * len(pairs) - 0.5)] for i in range(count)]
    return [
        {
            "example_id": f"row-{index}",
            "text": "",
            "label": None,
            "input_ids": [*asked, *told],
            "supervised": [*[0] * len(asked), *[1] * len(told)],
        }
        for index, (asked, told) in enumerate(chosen)
    ]


def _length(pair: tuple[list[int], list[int]]) -> int:
    return len(pair[0]) + len(pair[1])


def source() -> str:
    """Where the rows come from."""
    return "alpaca_gpt4 (English)" if _files() else "made by a seed, lengths of alpaca_gpt4"


def _files() -> tuple[Path, Path] | None:
    rows, gpt2 = REAL / "alpaca_gpt4_demo" / "en.jsonl", REAL / "tokenizers" / "gpt2"
    return (rows, gpt2) if rows.is_file() and gpt2.is_dir() else None


def _alpaca(vocabulary: int) -> list[tuple[list[int], list[int]]]:
    files = _files()
    if files is None:
        return []
    from tokenizers import ByteLevelBPETokenizer

    tokenizer = ByteLevelBPETokenizer(str(files[1] / "vocab.json"), str(files[1] / "merges.txt"))

    def ids(text: str, markup: int) -> list[int]:
        # Common tokens have low ids; rare ones are folded into the model's smaller vocabulary.
        return [i % (vocabulary - 8) + 8 for i in tokenizer.encode(text).ids] + [*range(1, markup)]

    found = []
    with files[0].open(encoding="utf-8") as stream:
        for row in map(json.loads, stream):
            asked = f"{row['instruction']}\n{row['input']}".strip()
            found.append((ids(asked, _MARKUP["user"]), ids(row["output"], _MARKUP["assistant"])))
    return found


def _made(count: int, vocabulary: int) -> list[tuple[list[int], list[int]]]:
    """Rows whose words follow Zipf's law, so that there is something to learn."""
    rng = np.random.default_rng(1)
    weights = 1.0 / np.arange(1, vocabulary - 7)
    weights /= weights.sum()

    def ids(sizes: Sequence[int]) -> list[int]:
        length = round(float(np.interp(rng.random(), _SHARES, sizes)))
        found: list[int] = (rng.choice(vocabulary - 8, length, p=weights) + 8).tolist()
        return found

    return [(ids(_QUESTIONS), ids(_ANSWERS)) for _ in range(count)]


def _write_model(folder: Path, shape: dict[str, int]) -> None:
    import torch
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(**shape, tie_word_embeddings=True, pad_token_id=0, eos_token_id=1)
    Qwen3ForCausalLM(config).save_pretrained(str(folder))
    words = {f"w{index}": index for index in range(shape["vocab_size"])}
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w2")),  # noqa: S106
        pad_token="w0",  # noqa: S106
        eos_token="w1",  # noqa: S106
    ).save_pretrained(str(folder))
