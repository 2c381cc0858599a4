"""How likely a model holds answers for, after prompts: each pair by itself, or all in one pass.

Legend: B rows, T tokens, V vocabulary, L answers, N nodes of their trie, E its edges.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from eval.batching import batches, device_of, padded
from pipeline.modeling.loading import plain_model

if TYPE_CHECKING:
    import torch

    from eval.arms.trie import Trie

Ids = Sequence[int]
# Logits in memory at a time, in numbers: what fits a CPU's caches well, and a GPU's memory.
_LOGITS = {"cpu": 1 << 23, "cuda": 1 << 28}


def score_pairs(
    model: Any, pairs: Sequence[tuple[Ids, Ids]], *, batch_size: int, pad_id: int
) -> list[float]:
    """log p(answer | prompt) in nats of each pair, by a plain forward pass over both.

    Padding stands on the right, so whatever looks at nothing that follows is scored exactly.

    Args:
        model: a transformers causal language model in evaluation mode.
        pairs: prompt and answer, one token each at least.
        batch_size: pairs at a time.
        pad_id: any id of the vocabulary.
    """
    found = [0.0] * len(pairs)
    for batch in batches([len(prompt) + len(answer) for prompt, answer in pairs], batch_size):
        chosen = [pairs[index] for index in batch]
        for index, score in zip(batch, _scored(model, chosen, pad_id), strict=True):
            found[index] = score
    return found


def _scored(model: Any, pairs: Sequence[tuple[Ids, Ids]], pad_id: int) -> list[float]:
    import torch

    # The last token of an answer is foreseen, and foresees nothing: it is not read.
    read = [[*prompt, *answer[:-1]] for prompt, answer in pairs]
    ids_BT, mask_BT = padded(read, pad_id, left=False, device=device_of(model))
    first = min(len(prompt) for prompt, _ in pairs) - 1
    logits_BTV = last_logits(
        model, ids_BT.shape[1] - first, input_ids=ids_BT, attention_mask=mask_BT, use_cache=False
    )
    scores = []
    for logits_TV, (prompt, answer) in zip(logits_BTV, pairs, strict=True):
        start = len(prompt) - 1 - first
        answer_A = torch.tensor(answer, device=logits_TV.device)
        rows_AV = logits_TV[start : start + len(answer)].float()
        told_A = rows_AV.gather(1, answer_A[:, None]).squeeze(1) - rows_AV.logsumexp(dim=-1)
        scores.append(float(told_A.double().sum()))
    return scores


def score_trie(model: Any, trie: Trie, prompts: Sequence[Ids], *, pad_id: int) -> torch.Tensor:
    """log p(answer | prompt) in nats of every answer after every prompt, in one forward pass.

    A prompt and all nodes of the trie are one row; a node sees the prompt and the nodes before
    it on its way, and has the position that it would have after them (tree attention, Miao et
    al. 2024, SpecInfer, section 4.2). So a prompt is read once, and so is what answers share.

    Args:
        model: one for which ``reads_trees`` holds.
        prompts: B rows of one token at least.

    Returns:
        [B, L] in float64, on the CPU.
    """
    import torch

    device = device_of(model)
    ids_BT, real_BT = padded(prompts, pad_id, left=True, device=device)
    nodes = len(trie.tokens)
    tokens_N = torch.tensor(trie.tokens, dtype=torch.long, device=device)
    depths_N = torch.tensor(trie.depths, dtype=torch.long, device=device)
    rows = len(prompts)
    positions_BT = (real_BT.cumsum(dim=1) - 1).clamp(min=0)
    logits_BNV = last_logits(
        model,
        nodes + 1,
        input_ids=torch.cat([ids_BT, tokens_N.expand(rows, nodes)], dim=1),
        attention_mask=_as_kernel_takes(model, _sight(trie, real_BT)),
        position_ids=torch.cat([positions_BT, positions_BT[:, -1:] + depths_N], dim=1),
        use_cache=False,
    )
    starts_E = torch.tensor([edge.start for edge in trie.edges], device=device)
    tokens_E = torch.tensor([edge.token for edge in trie.edges], device=device)
    told_BE = logits_BNV[:, starts_E, tokens_E].float()
    told_BE -= logits_BNV.float().logsumexp(dim=-1)[:, starts_E]
    return told_BE.double().cpu() @ _paths(trie).T


def rows_at_once(model: Any, positions: int, batch_size: int) -> int:
    """How many rows of so many scored positions are taken together: ``batch_size`` at most."""
    vocabulary: int = model.get_output_embeddings().weight.shape[0]
    most = _LOGITS["cuda" if device_of(model).type == "cuda" else "cpu"]
    return max(1, min(batch_size, most // (positions * vocabulary)))


def reads_trees(model: Any, longest: int) -> bool:
    """Whether a model can be given positions and sight, so that tokens stand side by side.

    Every layer must look at all that came before, by position: windows that are shorter than
    the row, states that run along it and positions that are counted from masks do not do.

    Args:
        longest: tokens of the longest prompt with its answer.
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    plain = plain_model(model)
    if getattr(plain, "_is_stateful", False) or not _takes(plain, "position_ids"):
        return False
    if plain.config._attn_implementation not in ("sdpa", "eager"):
        return False
    for layer in DynamicCache(config=plain.config).layers:
        if isinstance(layer, DynamicSlidingWindowLayer):
            if layer.sliding_window < longest:
                return False
        elif type(layer) is not DynamicLayer:
            return False
    return True


def last_logits(model: Any, positions: int, **inputs: Any) -> torch.Tensor:
    """Logits of the last ``positions`` tokens of a forward pass, [B, positions, V]."""
    if _takes(plain_model(model), "logits_to_keep"):
        # The vocabulary's product is most of a small model's work: only where it is asked.
        logits: torch.Tensor = model(**inputs, logits_to_keep=positions).logits
        return logits
    logits = model(**inputs).logits
    return logits[:, -positions:]


def _sight(trie: Trie, real_BT: torch.Tensor) -> torch.Tensor:
    """Who sees whom, [B, 1, T + N, T + N]: True where a query (row) sees a key (column)."""
    import torch

    rows, width = real_BT.shape
    nodes = len(trie.tokens)
    whole = width + nodes
    causal = torch.zeros(whole, whole, dtype=torch.bool, device=real_BT.device)
    causal[:, :width] = torch.ones(whole, width, dtype=torch.bool, device=real_BT.device).tril()
    before_NN = torch.zeros(nodes, nodes, dtype=torch.bool)
    for node, parent in enumerate(trie.parents):
        if parent:
            before_NN[node] = before_NN[parent - 1]
        before_NN[node, node] = True
    causal[width:, width:] = before_NN.to(real_BT.device)
    keys = torch.cat([real_BT.bool(), real_BT.new_ones(rows, nodes).bool()], dim=1)
    seen = causal & keys[:, None, :]
    # Padding sees itself: a softmax over nothing gives NaN, which would spread.
    seen |= torch.eye(whole, dtype=torch.bool, device=real_BT.device)
    return seen[:, None]


def _as_kernel_takes(model: Any, seen: torch.Tensor) -> torch.Tensor:
    import torch

    if plain_model(model).config._attn_implementation == "sdpa":
        return seen
    kind = plain_model(model).dtype
    return torch.zeros(seen.shape, dtype=kind, device=seen.device).masked_fill_(
        ~seen, torch.finfo(kind).min
    )


def _paths(trie: Trie) -> torch.Tensor:
    """[L, E] of float64: 1 where an edge is on an answer's way."""
    import torch

    on_LE = torch.zeros(len(trie.paths), len(trie.edges), dtype=torch.float64)
    for row, path in enumerate(trie.paths):
        on_LE[row, path] = 1
    return on_LE


def _takes(model: Any, name: str) -> bool:
    return name in inspect.signature(model.forward).parameters
