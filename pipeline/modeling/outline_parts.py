"""What a training is made of: matrices, attentions, parameters, and what autograd keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["body", "vocabulary", "head"]


@dataclass(frozen=True)
class Matrix:
    """One weight that tokens are multiplied with.

    Attributes:
        name: of the parameter.
        size: its number of values; a token costs twice as many FLOPs.
        trainable: an update changes it.
        flows: what it reads needs a gradient, so one is sent through it.
        role: ``body`` sees every token, ``vocabulary`` only what is predicted, ``head`` rows.
        layer: the decoder layer that it belongs to, or None.
        active: share of tokens that it sees (experts).
        linear: an nn.Linear of the base: what 4-bit quantisation replaces.
    """

    name: str
    size: int
    trainable: bool
    flows: bool
    role: Role = "body"
    layer: int | None = None
    active: float = 1.0
    linear: bool = False


@dataclass(frozen=True)
class AttentionShape:
    """One layer's attention: ``heads * (query + value)`` products for each pair of tokens."""

    heads: int
    query_dim: int
    value_dim: int
    causal: bool
    window: int | None = None
    flows: bool = True


@dataclass(frozen=True)
class Tensor:
    """A parameter: how many values, of how many bytes each, and whether it is trained.

    Attributes:
        added: of an adapter or a head, and not the base's own.
    """

    name: str
    size: int
    itemsize: int
    trainable: bool
    added: bool = False


@dataclass(frozen=True)
class Kept:
    """Bytes that autograd keeps of one forward pass over the body.

    Attributes:
        row: for each row.
        fixed: whatever the number of rows (weights cast for autocast).
        layer_row, layer_fixed: the share of the layer that keeps most.
        between_row: what enters the layers: all that gradient checkpointing keeps of them.
        outside_row, outside_fixed: what is kept outside the layers.
        widest_row: the largest single tensor: backward holds a few of its size.
    """

    row: float
    fixed: float
    layer_row: float
    layer_fixed: float
    between_row: float
    outside_row: float
    outside_fixed: float
    widest_row: float


@dataclass(frozen=True)
class Outline:
    """A model as training sees it.

    Attributes:
        matrices, attentions, tensors: all of them.
        kept: at ``length`` tokens a row; None where the pass could not be followed (see
            ``reason``).
        vocabulary, hidden, layers, inner: sizes.
    """

    matrices: tuple[Matrix, ...]
    attentions: tuple[AttentionShape, ...]
    tensors: tuple[Tensor, ...]
    kept: Kept | None
    length: int
    vocabulary: int
    hidden: int
    layers: int
    inner: int
    reason: str = ""

    @property
    def parameters(self) -> int:
        """All values, adapters and heads included."""
        return sum(tensor.size for tensor in self.tensors)

    @property
    def base(self) -> int:
        """Values of the base alone."""
        return sum(tensor.size for tensor in self.tensors if not tensor.added)

    @property
    def trainable(self) -> int:
        """Values that an update changes."""
        return sum(tensor.size for tensor in self.tensors if tensor.trainable)
