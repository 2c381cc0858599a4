"""How likely a model holds answers for, after prompts: each pair by itself, or all in one pass.

Legend: B rows, T tokens, P of a shared opening, V vocabulary, L answers, N nodes of their trie,
E its edges.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.batching import batches, device_of, padded
from pipeline.modeling.loading import plain_model

if TYPE_CHECKING:
    import torch

    from eval.arms.trie import Trie

Ids = Sequence[int]
# In memory at a time, in numbers. Of logits a CPU is fastest with few; a GPU takes many.
_LOGITS = {"cpu": 1 << 22, "cuda": 1 << 28}
_SIGHT = {"cpu": 1 << 24, "cuda": 1 << 29}
_REMEMBERED = {"cpu": 1 << 28, "cuda": 1 << 31}
# Rows of logits whose exponentials are summed together.
_PART = 64


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
        told_A = rows_AV.log_softmax(dim=-1).gather(1, answer_A[:, None])
        scores.append(float(told_A.double().sum()))
    return scores


class TrieScorer:
    """Scores every answer of a trie after prompts, in one forward pass for each batch.

    A prompt and all nodes of the trie are one row; a node sees the prompt and the nodes before
    it on its way, and has the position that it would have after them (tree attention, Miao et
    al. 2024, SpecInfer, section 4.2). So a prompt is read once, and so is what answers share.
    """

    def __init__(self, model: Any, trie: Trie, *, pad_id: int) -> None:
        """Takes a model for which ``reads_trees`` holds, in evaluation mode."""
        import torch

        self.model, self.pad_id, self.nodes = model, pad_id, len(trie.tokens)
        self.device = device_of(model)

        def ids(numbers: Sequence[int]) -> torch.Tensor:
            return torch.tensor(numbers, dtype=torch.long, device=self.device)

        self.tokens_N, self.depths_N = ids(trie.tokens), ids(trie.depths)
        self.starts_E = ids([edge.start for edge in trie.edges])
        self.follow_E = ids([edge.token for edge in trie.edges])
        before_NN = np.eye(self.nodes, dtype=bool)
        on_LE = np.zeros((len(trie.paths), len(trie.edges)))
        for node, parent in enumerate(trie.parents):
            if parent:
                before_NN[node] |= before_NN[parent - 1]
        for row, path in enumerate(trie.paths):
            on_LE[row, path] = 1
        self.before_NN = torch.from_numpy(before_NN).to(self.device)
        self.on_LE = torch.from_numpy(on_LE)
        self._opening: list[int] = []
        self._read: list[Any] | None = None

    def opens_with(self, ids: Ids) -> None:
        """What stands before every prompt from now on, in place of what did so far.

        It is read once, with the first prompts, and what its layers remember serves all.
        """
        self._opening, self._read = list(ids), None

    def scores(self, prompts: Sequence[Ids]) -> torch.Tensor:
        """log p(answer | opening, prompt) in nats, [B, L] in float64 on the CPU.

        Args:
            prompts: B rows of one token at least, without the opening that they share.
        """
        import torch

        ids_BT, real_BT = padded(prompts, self.pad_id, left=True, device=self.device)
        rows = len(prompts)
        positions_BT = (real_BT.cumsum(dim=1) - 1).clamp(min=0) + len(self._opening)
        logits_BNV = last_logits(
            self.model,
            self.nodes + 1,
            input_ids=torch.cat([ids_BT, self.tokens_N.expand(rows, -1)], dim=1),
            attention_mask=self._sight(real_BT),
            position_ids=torch.cat([positions_BT, positions_BT[:, -1:] + self.depths_N], dim=1),
            **self._remembered(rows),
        )
        wholes_BN = log_sums(logits_BNV)
        told_BE = logits_BNV[:, self.starts_E, self.follow_E].float()
        told_BE -= wholes_BN[:, self.starts_E]
        return told_BE.double().cpu() @ self.on_LE.T

    def _remembered(self, rows: int) -> dict[str, Any]:
        """What a forward pass of as many rows is given of the opening."""
        import torch
        from transformers import DynamicCache

        if not self._opening:
            return {"use_cache": False}
        if self._read is None:
            ids_1P = torch.tensor([self._opening], device=self.device)
            cache = DynamicCache()
            last_logits(self.model, 1, input_ids=ids_1P, past_key_values=cache, use_cache=True)
            self._read = list(cache.layers)
        each = [
            (layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1))
            for layer in self._read
        ]
        return {"past_key_values": DynamicCache(each), "use_cache": True}

    def _sight(self, real_BT: torch.Tensor) -> torch.Tensor:
        """What is added to the attention of a query (row) to a key (column): 0 where it is seen.

        [B, 1, T + N, P + T + N] with P tokens of the opening, which all see.
        """
        import torch

        rows, width = real_BT.shape
        whole = width + self.nodes
        seen = torch.zeros(rows, whole, whole, dtype=torch.bool, device=self.device)
        seen[:, :, :width] = real_BT.bool()[:, None]
        seen[:, :width, :width].tril_()
        seen[:, width:, width:] = self.before_NN
        # Padding sees itself: a softmax over nothing gives NaN, which would spread.
        seen.diagonal(dim1=1, dim2=2).fill_(True)
        if self._opening:
            seen = torch.nn.functional.pad(seen, (len(self._opening), 0), value=True)
        kind = plain_model(self.model).dtype
        added = torch.zeros(seen.shape, dtype=kind, device=self.device)
        return added.masked_fill_(~seen, torch.finfo(kind).min)[:, None]


def rows_at_once(
    model: Any, positions: int, batch_size: int, *, sight: int = 0, remembered: int = 0
) -> int:
    """How many rows are taken together: ``batch_size`` at most, fewer where memory would go.

    Args:
        positions: of a row, whose logits are held over the whole vocabulary.
        sight: entries of a row's table of who sees whom.
        remembered: tokens of a row whose keys and values all layers hold.
    """
    device = "cuda" if device_of(model).type == "cuda" else "cpu"
    config = plain_model(model).config.get_text_config()
    most = min(_LOGITS[device] // (positions * config.vocab_size), _SIGHT[device] // max(1, sight))
    if remembered:
        most = min(most, _REMEMBERED[device] // (remembered * _kept_of_a_token(config)))
    return int(max(1, min(batch_size, most)))


def _kept_of_a_token(config: Any) -> int:
    """Numbers that all layers hold of one token: its keys and values."""
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    kept = getattr(config, "num_key_value_heads", None) or heads
    return int(2 * config.num_hidden_layers * kept * width)


def reads_trees(model: Any, longest: int) -> bool:
    """Whether a model can be given positions and sight, so that tokens stand side by side.

    Every layer must look at all that came before, by position: windows that are shorter than
    the row, states that run along it, positions that are counted from masks, and angles of
    positions that depend on how long the whole is do not do.

    Args:
        longest: tokens of the longest prompt with its answer.
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    plain = plain_model(model)
    if getattr(plain, "_is_stateful", False) or not _takes(plain, "position_ids"):
        return False
    if plain.config._attn_implementation not in ("sdpa", "eager"):
        return False
    if _turned_by_length(plain.config.get_text_config()):
        return False
    for layer in DynamicCache(config=plain.config).layers:
        if isinstance(layer, DynamicSlidingWindowLayer):
            if layer.sliding_window < longest:
                return False
        elif type(layer) is not DynamicLayer:
            return False
    return True


def _turned_by_length(config: Any) -> bool:
    """Rotary positions whose angles change once a text is long: what stood before it, too."""
    told = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    kinds = [one for one in (told, *told.values()) if isinstance(one, dict)]  # or by kind of layer
    return any(one.get("rope_type") in ("dynamic", "longrope") for one in kinds)


def last_logits(model: Any, positions: int, **inputs: Any) -> torch.Tensor:
    """Logits of the last ``positions`` tokens of a forward pass, [B, positions, V]."""
    if _takes(plain_model(model), "logits_to_keep"):
        # The vocabulary's product is most of a small model's work: only where it is asked.
        logits: torch.Tensor = model(**inputs, logits_to_keep=positions).logits
        return logits
    logits = model(**inputs).logits
    return logits[:, -positions:]


def log_sums(logits_BNV: torch.Tensor) -> torch.Tensor:
    """logsumexp over the vocabulary, [B, N].

    By way of log_softmax, some rows at a time: it runs several times as fast on a CPU as
    torch's logsumexp, whose exponentials lie in memory as a whole.
    """
    import torch

    flat = logits_BNV.flatten(0, 1)
    found = []
    for start in range(0, len(flat), _PART):
        exact = flat[start : start + _PART].float()
        top, where = exact.max(dim=-1, keepdim=True)
        found.append(top - exact.log_softmax(dim=-1).gather(1, where))
    return torch.cat(found).reshape(logits_BNV.shape[:2])


def _takes(model: Any, name: str) -> bool:
    return name in inspect.signature(model.forward).parameters
