"""Likelihood over 77 labels: ours against every (prompt, label) pair scored by itself.

Both read the same prompts with the same model in float32, and take turns: pairs, ours, pairs,
ours. The pairs are batched at the size that was fastest in this run, sorted by length, and the
vocabulary's product is made only where labels stand. Scores must be equal to 1e-5.
"""

from __future__ import annotations

import bisect
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.data_rows import REAL

ROWS, TURNS, TOKENS = 24, 5, 120
SIZES = (8, 16, 32, 64, 128)
TOLERANCE = 1e-5
LABELS = 77
# The demo's L0 (recipes/demo/l0.yaml), and a wider one.
SHAPES: dict[str, dict[str, int]] = {
    "demo": {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4,
             "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
             "vocab_size": 2048},
    "wide": {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 4,
             "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64,
             "vocab_size": 16_384},
}  # fmt: skip
_INSTRUCTION = (
    "You read what a customer of a bank writes, and you say which matter it is about. Answer "
    "with the name of the matter and with nothing else: no greeting, no explanation, no full "
    "stop. Where two matters would do, take the one that the customer needs to have solved "
    "first. Where the text is unclear, take the matter that a colleague at the counter would "
    "ask about. Names of matters are written in small letters, and their words are joined by "
    "underscores, as they stand in the bank's own list of matters."
)


@dataclass(frozen=True)
class Case:
    """What is scored.

    Attributes:
        prompts: ids of each prompt; ``answers``: label to ids, end of turn included.
    """

    model: Any
    prompts: list[list[int]]
    answers: dict[str, tuple[int, ...]]


def measure(rows: int = ROWS, turns: int = TURNS) -> dict[str, float]:
    """Measures both shapes, prints a table, and returns the smaller speed-up.

    Raises:
        SystemExit: the scores of both sides differ.
    """
    found = []
    for name, shape in SHAPES.items():
        # A wide model's rows take ten times as long.
        case = build(shape, rows if name == "demo" else max(1, rows // 3))
        found.append(_raced(name, case, turns))
    return {"label_likelihood_speedup": round(min(found), 3)}


def build(shape: dict[str, int], rows: int) -> Case:
    """A random model of a shape, and prompts of about TOKENS tokens with 77 labels."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from eval.arms.rendered import answers_of
    from pipeline.data.generators import generate
    from pipeline.data.rendering import Renderer
    from pipeline.stages.scratch import train_tokenizer

    documents = [str(row["text"]) for row in generate("stdlib_docstrings", "train", 0)]
    tokenizer = train_tokenizer(documents, shape["vocab_size"])
    labels, texts = _task(documents, rows)
    words = _words(tokenizer, texts)
    renderer = Renderer(tokenizer, causal=True, system=_instruction(words))
    torch.manual_seed(1)
    model = Qwen3ForCausalLM(
        Qwen3Config(**{**shape, "vocab_size": len(tokenizer)}, max_position_embeddings=512)
    ).eval()
    return Case(
        model,
        [renderer.question(text) for text in texts],
        answers_of(renderer, labels, [tokenizer.eos_token_id]),
    )


def _task(documents: Sequence[str], rows: int) -> tuple[list[str], list[str]]:
    """Banking77's labels and questions; where they are not at hand, as many of like length."""
    folder = REAL / "banking77"
    if folder.is_dir():
        lines = (folder / "test.jsonl").read_text(encoding="utf-8").splitlines()
        texts = [json.loads(line)["text"] for line in lines]
        labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
        return labels, random.Random(1).sample(texts, rows)
    rng = random.Random(1)
    words = sorted({w for text in documents for w in text.lower().split() if w.isalpha()})
    made: dict[str, None] = {}
    while len(made) < LABELS:
        # Common first words, as Banking77's labels have.
        made["_".join([rng.choice(words[:20]), *rng.sample(words, rng.randint(1, 4))])] = None
    return list(made), [" ".join(rng.sample(words, 12)) for _ in range(rows)]


def _instruction(words: int) -> str:
    return " ".join(_INSTRUCTION.split()[:words])


def _words(tokenizer: Any, texts: Sequence[str]) -> int:
    """How many words of the instruction make prompts of about TOKENS tokens."""
    from pipeline.data.rendering import Renderer

    def tokens(words: int) -> float:
        renderer = Renderer(tokenizer, causal=True, system=_instruction(words))
        return statistics.median(len(renderer.question(text)) for text in texts)

    return bisect.bisect_left(range(len(_INSTRUCTION.split())), TOKENS, key=tokens)


def _raced(name: str, case: Case, turns: int) -> float:
    from eval.arms.likelihood import LikelihoodPredictor

    pairs = [(prompt, ids) for prompt in case.prompts for ids in case.answers.values()]
    asked = [
        {"example_id": str(number), "prompt_ids": prompt, "label": next(iter(case.answers))}
        for number, prompt in enumerate(case.prompts)
    ]
    predictor = LikelihoodPredictor(case.model, case.answers, pad_id=0, batch_size=64)
    few = pairs[: 4 * len(case.answers)]
    speeds = {size: _seconds(lambda size=size: _pairs(case, few, size))[0] for size in SIZES}
    best = min(speeds, key=lambda size: speeds[size])
    sides: dict[str, Callable[[], Any]] = {
        "pairs": lambda: _pairs(case, pairs, best),
        "ours": lambda: predictor.predict(asked),
    }
    sides["ours"]()
    timed: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    for _ in range(turns):
        for side, work in sides.items():
            timed[side].append(_seconds(work))
    worst = _difference(case, pairs, best)
    median = statistics.median(len(prompt) for prompt in case.prompts)
    print(
        f"likelihood of {len(case.answers)} labels ({len(predictor.trie.edges)} tokens "
        f"in the trie of {sum(predictor.trie.lengths)}), {len(asked)} "
        f"prompts of {median:.0f} tokens (median), {name}: hidden "
        f"{case.model.config.hidden_size} x {case.model.config.num_hidden_layers}"
    )
    print(f"  {'':<8}{'items/s':>10}{'CPU s an item':>16}   seconds of every turn")
    for side, figures in timed.items():
        wall = statistics.median(w for w, _ in figures)
        cpu = statistics.median(c for _, c in figures) / len(asked)
        every = " ".join(f"{w:.2f}" for w, _ in figures)
        more = f" (batches of {best}, the best of {SIZES})" if side == "pairs" else ""
        print(f"  {side:<8}{len(asked) / wall:>10.2f}{cpu:>16.4f}   {every}{more}")
    quotients = [p[0] / o[0] for p, o in zip(timed["pairs"], timed["ours"], strict=True)]
    speedup = statistics.median(quotients)
    print(f"  speed-up {speedup:.2f} (at least 5); scores differ by {worst:.1e} (at most 1e-5)")
    if not predictor.in_one_pass or worst > TOLERANCE:
        raise SystemExit(f"{name}: the two sides do not score the same: their speeds say nothing")
    return speedup


def _pairs(case: Case, pairs: Sequence[Any], size: int) -> list[float]:
    import torch

    from eval.arms.scoring import score_pairs

    with torch.inference_mode():
        return score_pairs(case.model, pairs, batch_size=size, pad_id=0)


def _difference(case: Case, pairs: Sequence[Any], size: int) -> float:
    """The largest relative difference of the two sides' log-probabilities."""
    import torch

    from eval.arms.scoring import TrieScorer
    from eval.arms.trie import Trie

    apart = torch.tensor(_pairs(case, pairs, size), dtype=torch.float64)
    with torch.inference_mode():
        scorer = TrieScorer(case.model, Trie(case.answers), pad_id=0)
        joined = torch.cat([scorer.scores([prompt]) for prompt in case.prompts]).flatten()
    return float(((joined - apart) / apart).abs().max())


def _seconds(work: Callable[[], Any]) -> tuple[float, float]:
    """(seconds, processor seconds) of a piece of work."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu
