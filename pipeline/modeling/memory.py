"""What one process of a training holds at its peak, in bytes.

Follows the loop: weights and optimiser states stay; gradients of a micro-batch are added to those
of the ones before; the loss is made in chunks of the vocabulary; backward gives activations
back while it makes gradients. The peak is the largest of three moments: the loss, the start of
backward (all activations), its end (all gradients).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from pipeline.modeling.at_once import CHUNK_ELEMENTS
from pipeline.modeling.outline_parts import Kept, Outline, Tensor

# NF4 with double quantisation (Dettmers et al. 2023, section 3): 4 bits a value, 8 for each 64
# values, 32 for each 256 of those.
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
# bitsandbytes: 8 bits a state, and a float32 scale for each 256 values; small tensors stay float32.
_STATE_8BIT = 1 + 4 / 256
_SMALL = 4096
_FLOAT32 = 4
# What backward holds beside what was kept: gradients by the widest tensor of a gated layer (its
# product, and its two factors).
_WIDE_GRADIENTS = 3
_LOGIT_COPIES = 2
# Of compiled layers under LoRA; without a budget 0.60 (a Qwen3-8B shape) to 0.76 (small ones) were
# seen, and with one of 0.7, 0.5, 0.3 and 0.1 of the former 0.39, 0.38, 0.33 and 0.28.
_COMPILED = 0.76
_COMPILED_LEAST = 0.27


@dataclass(frozen=True)
class Layout:
    """How a training is spread over time and processes.

    Attributes:
        micro_rows: rows of one forward pass.
        sequences: of each row (two where answers are compared).
        targets: tokens of a row that are predicted.
        accumulates: an update has several micro-batches in each process.
        world: processes.
        wrapper: single, ddp, fsdp or deepspeed.
        shards_weights: a process holds its share of them only (FSDP, ZeRO-3; not ZeRO-2).
        reshard: FSDP gives a layer's weights back between forward and backward.
        checkpointing: layers keep their inputs only and are run again.
        compiled: layers with adapters are compiled, with this activation memory budget; None:
            they are not, or all of their weights are trained (nobody has measured that).
        optim: the optimiser's name.
        pages: the device can move paged states to the host's memory: a GPU.
        quantised: the base's linear layers lie in NF4.
        compute_bytes: of a value that layers are multiplied in.
        keeps_best: the best weights so far lie beside those that are trained on; not on a GPU.
        fused_loss: the vocabulary's projection is a plain matrix, so its loss is made in chunks.
        chunk_logits: how many logits a chunk holds.
    """

    micro_rows: int
    targets: int
    sequences: int = 1
    accumulates: bool = True
    world: int = 1
    wrapper: str = "single"
    shards_weights: bool = False
    reshard: bool = True
    checkpointing: bool = False
    compiled: float | None = None
    optim: str = "adamw"
    pages: bool = False
    quantised: bool = False
    compute_bytes: int = 4
    keeps_best: bool = False
    fused_loss: bool = True
    chunk_logits: int = CHUNK_ELEMENTS["cpu"]


@dataclass(frozen=True)
class Memory:
    """Bytes of one process. They are not all there at the same moment: see ``peak``.

    Attributes:
        weights: as they lie, adapters included; under FSDP the own share and what is gathered.
        gradients, optimizer: of what is trained.
        activations: what backward needs of one micro-batch.
        loss: logits of a chunk and the gradients that the loss makes at once.
        working: gradients by activations, weights read out of NF4.
        best: the best weights so far, where they are kept in the same memory.
        peak: the most that is held at once.
        paged: optimiser states that may be moved to the host's memory; not in ``peak``.
    """

    weights: float
    gradients: float
    optimizer: float
    activations: float
    loss: float
    working: float
    peak: float
    paged: float = 0.0
    best: float = 0.0

    def to_json(self) -> dict[str, int]:
        """Whole bytes by name."""
        return {name: round(value) for name, value in asdict(self).items()}


def memory(outline: Outline, layout: Layout) -> Memory:
    """The account of one process."""
    trained = [t for t in outline.tensors if t.trainable]
    share = layout.world if layout.wrapper in {"fsdp", "deepspeed"} else 1
    weights = _weights(outline, layout)
    if layout.shards_weights:
        weights = weights / share + _gathered(outline, layout)
    gradients = sum(t.size * t.itemsize for t in trained) / share
    states = sum(_state_bytes(t, layout.optim) for t in trained) / share
    paged = states if layout.pages and layout.optim.startswith("paged") else 0.0
    optimizer = states - paged
    rows = layout.micro_rows * layout.sequences
    kept = outline.kept or by_formula(outline, layout)
    activations = _activations(kept, rows, layout)
    own, later = _loss(outline, layout, rows)
    working = _working(outline, layout, kept, rows)
    best = gradients if layout.keeps_best else 0.0
    stays = weights + optimizer + best
    # DDP's buckets are the gradients, and stay; else they come anew with each update.
    before = gradients if layout.accumulates or layout.wrapper == "ddp" else 0.0
    largest = max((t.size * t.itemsize for t in trained), default=0) / share
    first = activations / max(1, outline.layers) if kept else 0.0
    moments = (
        stays + before + activations + own + later,
        stays + before + activations + later + working,
        # The last gradient made is held beside the one that it is added to.
        stays + gradients + first + working + largest,
    )
    return Memory(
        weights, gradients, optimizer, activations, own + later, working, max(moments), paged, best
    )


def _weights(outline: Outline, layout: Layout) -> float:
    quantised = {m.name for m in outline.matrices if m.linear} if layout.quantised else set()
    return sum(
        t.size * (NF4_BYTES if t.name in quantised and not t.trainable else t.itemsize)
        for t in outline.tensors
    )


def _gathered(outline: Outline, layout: Layout) -> float:
    """What FSDP2 gathers: two layers (one computes, the next one travels), and all outside."""
    inside: dict[int, int] = {}
    for matrix in outline.matrices:
        if matrix.layer is not None:
            inside[matrix.layer] = inside.get(matrix.layer, 0) + matrix.size
    outside = outline.parameters - sum(inside.values())
    layers = 2 * max(inside.values(), default=0) if layout.reshard else sum(inside.values())
    return float(layout.compute_bytes * (layers + outside))


def _state_bytes(tensor: Tensor, optim: str) -> float:
    if optim.endswith("8bit") and tensor.size >= _SMALL:
        return 2 * _STATE_8BIT * tensor.size
    return 2 * _FLOAT32 * tensor.size


def _activations(kept: Kept, rows: int, layout: Layout) -> float:
    if not layout.checkpointing:
        if layout.compiled is None:
            return rows * kept.row + kept.fixed
        inside = rows * (kept.row - kept.outside_row)
        # What is computed again is whole for one layer at a time.
        whole = rows * kept.layer_row * (1 - _compiled_share(layout.compiled))
        kept_inside = inside * _compiled_share(layout.compiled) + whole
        return rows * kept.outside_row + kept.fixed + kept_inside
    # One layer at a time is whole: the one that is being run again.
    once = rows * kept.layer_row + kept.layer_fixed
    return rows * (kept.between_row + kept.outside_row) + kept.outside_fixed + once


def _compiled_share(budget: float) -> float:
    """What compiled layers keep, of what they would keep operation by operation."""
    return _COMPILED if budget == 1 else _COMPILED_LEAST * (1 + budget)


def _loss(outline: Outline, layout: Layout, rows: int) -> tuple[float, float]:
    """(held while the loss is made, held until backward has used it)."""
    head = [m for m in outline.matrices if m.role == "vocabulary"]
    if not head:
        return 0.0, 0.0
    projection = max(head, key=lambda m: m.size)
    targets = rows * layout.targets
    chunk = (
        targets
        if not layout.fused_loss
        else min(targets, layout.chunk_logits // outline.vocabulary)
    )
    logits = max(1, chunk) * outline.vocabulary * _FLOAT32
    cast = projection.size * layout.compute_bytes if layout.compute_bytes < _FLOAT32 else 0
    own = logits * _LOGIT_COPIES + cast
    by_weight = 0.0
    if _is_trained(outline, projection.name):
        by_weight = projection.size * _FLOAT32 + cast
    states = targets * outline.hidden * (layout.compute_bytes + _FLOAT32)
    return float(own), float(states + by_weight)


def _is_trained(outline: Outline, name: str) -> bool:
    return any(m.name == name and m.trainable for m in outline.matrices)


def _working(outline: Outline, layout: Layout, kept: Kept, rows: int) -> float:
    wide = _WIDE_GRADIENTS * rows * kept.widest_row
    stream = 2 * rows * outline.length * outline.hidden * layout.compute_bytes
    read = 0
    if layout.quantised:
        read = max((m.size for m in outline.matrices if m.linear), default=0)
    return float(wide + stream + read * layout.compute_bytes)


def by_formula(outline: Outline, layout: Layout) -> Kept:
    """Where a pass could not be followed: Korthikanti et al. 2022, equations 1 and 2, adapted.

    A layer keeps, for each token: its input, the norms' outputs, queries, keys, values, the
    attention's output (some 8 of the hidden size), and three tensors of the gated inner size; no
    scores, which fused kernels never write.
    """
    size, tokens = layout.compute_bytes, outline.length
    layer = float(size * tokens * (8 * outline.hidden + 4 * outline.inner))
    between = float(size * tokens * outline.hidden)
    return Kept(
        row=layer * outline.layers,
        fixed=0.0,
        layer_row=layer,
        layer_fixed=0.0,
        between_row=between * outline.layers,
        outside_row=2 * between,
        outside_fixed=0.0,
        widest_row=float(size * tokens * outline.inner),
    )
