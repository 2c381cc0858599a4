"""The golden set: what is exported answers as what was trained, or it is no artifact.

Both are asked in float32, with the parent's adapter and the own one side by side in PEFT's
layers as training had them; what is compared is all that a reader can use: states, token
logits where the model writes, the head's logits where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from pipeline.core.errors import IntegrityError
from pipeline.data.arrow import read_rows
from pipeline.modeling.adapters import attach_frozen
from pipeline.modeling.heads import HEAD_CONFIG, load_classifier
from pipeline.modeling.loading import backbone, load_model, model_kind, plain_model

ROWS, TOKENS = 16, 256
# Of the largest logit. Sums in another order differ by about 1e-6 of it in float32; an update
# that is lost, doubled or wrongly scaled by far more.
TOLERANCE = 1e-4
# Of what the adapters change at all: a small update must not hide below the tolerance. Never less
# than rounding, as a share of the largest logit.
_OF_THE_CHANGE, _ROUNDING = 0.05, 4e-6


@dataclass(frozen=True)
class GoldenRow:
    """Ids of one row, cut to TOKENS, and which of them are learned."""

    ids: tuple[int, ...]
    supervised: tuple[int, ...]


@dataclass
class Answers:
    """What a model says to the golden rows.

    Attributes:
        values: ``states``, ``logits`` and ``head`` to a tensor for each row.
        loss: mean negative log-likelihood of the learned tokens, in nats; None where none is.
    """

    values: dict[str, list[torch.Tensor]] = field(default_factory=dict)
    loss: float | None = None


def golden_rows(data: Path) -> list[GoldenRow]:
    """The first rows of validation, else of train: the same ones each time.

    Of a block only its first row is taken: neighbours must not see each other.
    """
    for name in ("validation.arrow", "train.arrow"):
        if not (data / name).is_file():
            continue
        rows = read_rows(data / name)
        found = [_golden(rows[index]) for index in range(min(ROWS, len(rows)))]
        if found:
            return found
    return []


def _golden(row: Mapping[str, Any]) -> GoldenRow:
    lengths = row.get("lengths")
    count = min(TOKENS, int(lengths[0])) if lengths is not None and len(lengths) else TOKENS
    supervised = row.get("supervised")
    learned = [] if supervised is None else supervised[:count]
    return GoldenRow(tuple(int(i) for i in row["input_ids"][:count]), tuple(map(int, learned)))


@torch.no_grad()
def answers(
    body: Any, rows: Sequence[GoldenRow], *, causal: bool, head: Path | None = None
) -> Answers:
    """Runs the rows one by one.

    Args:
        body: a model, perhaps wrapped by PEFT.
        causal: it predicts the next token, so the rows have a loss.
        head: a folder that may hold a head.
    """
    body.eval()
    model = plain_model(body)
    classifier = None
    if head is not None and (head / HEAD_CONFIG).is_file():
        classifier = load_classifier(body, head).to(model.device).eval()
    # A vocabulary head that was drawn at random and never trained says nothing.
    writes = not getattr(model, "gradus_untrained", [])
    said, losses, count = Answers(), 0.0, 0
    for row in rows:
        ids = torch.tensor([row.ids], device=model.device)
        mask = torch.ones_like(ids)
        states = backbone(model)(input_ids=ids, attention_mask=mask).last_hidden_state
        said.values.setdefault("states", []).append(states.float().cpu())
        if writes:
            logits = model(input_ids=ids, attention_mask=mask).logits.float().cpu()
            said.values.setdefault("logits", []).append(logits)
            if causal:
                loss, learned = _loss(logits[0], row)
                losses, count = losses + loss, count + learned
        if classifier is not None:
            scale = classifier.config.features
            none = None if scale is None else states.new_zeros(1, len(scale.names))
            scores = classifier.logits(states, mask, none)
            said.values.setdefault("head", []).append(scores.float().cpu())
    said.loss = losses / count if count else None
    return said


def _loss(logits_TV: torch.Tensor, row: GoldenRow) -> tuple[float, int]:
    places = [t for t in range(1, len(row.supervised)) if row.supervised[t]]
    if not places:
        return 0.0, 0
    before = logits_TV[[t - 1 for t in places]]
    targets = torch.tensor([row.ids[t] for t in places])
    return float(torch.nn.functional.cross_entropy(before, targets, reduction="sum")), len(places)


def compared(trained: Answers, exported: Answers, base: Answers, what: str) -> dict[str, float]:
    """The largest difference of each value, as a share of the largest of its kind.

    Args:
        base: what the root says without any adapter: how much there is to lose.

    Raises:
        IntegrityError: a difference above TOLERANCE or above a twentieth of what training
            changed, or a value that is no number.
    """
    shares = {}
    for name, expected in trained.values.items():
        found = exported.values[name]
        largest = max(float(tensor.abs().max()) for tensor in expected)
        apart = max(float((a - b).abs().max()) for a, b in zip(expected, found, strict=True))
        share = apart / largest if largest else apart
        change = _largest(expected, base.values.get(name, ())) / largest if largest else 0.0
        most = min(TOLERANCE, max(_OF_THE_CHANGE * change, _ROUNDING))
        if not share <= most:
            raise IntegrityError(
                f"export: {what}: its {name} differ from the trained model's by {share:.2g} of the "
                f"largest (at most {most:.2g}) on {len(expected)} golden rows; this is a defect, "
                "and nothing was exported"
            )
        shares[name] = share
    return shares


def on_device(model: Any) -> Any:
    """On the GPU where there is one with room for the weights; else where it is."""
    if not torch.cuda.is_available():
        return model
    weights_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
    free_bytes, _ = torch.cuda.mem_get_info()
    return model.to("cuda") if free_bytes > 1.3 * weights_bytes else model


def numerics(
    root: Path,
    adapters: Mapping[str, Path],
    rows: Sequence[GoldenRow],
    served: Answers,
    config: Mapping[str, Any],
) -> dict[str, Any]:
    """How far the served model is from the trained one where their weights differ.

    Args:
        adapters: name to folder of what lay over the 4-bit base in training.
        served: the exported model's answers over full-precision weights.
        config: ``method`` and ``precision`` of the training.
    """
    if config["method"] != "qlora":
        return {"trained": "full precision", "served": "full precision"}
    model = load_model(root, quantisation="nf4", compute=config["precision"])
    if model.device.type != "cuda":
        model = on_device(model)
    for name, folder in adapters.items():
        model = attach_frozen(model, folder, name)
    trained = answers(model, rows, causal=model_kind(root) == "causal")
    pairs = zip(trained.values["states"], served.values["states"], strict=True)
    apart = [float((a - b).norm() / b.norm()) for a, b in pairs]
    return {
        "trained": "nf4",
        "served": "full precision",
        "golden_loss": {"trained": trained.loss, "served": served.loss},
        "states_apart": sum(apart) / len(apart) if apart else None,
    }


def _largest(some: Sequence[torch.Tensor], others: Sequence[torch.Tensor]) -> float:
    """The largest difference; without others, as if there were none to change."""
    return max(
        (float((a - b).abs().max()) for a, b in zip(some, others, strict=False)), default=0.0
    )


def checked(
    rows: Sequence[GoldenRow], trained: Answers, exported: Answers, base: Answers, what: str
) -> dict[str, Any]:
    """What the manifest says of the check.

    Raises:
        IntegrityError: as `compared`.
    """
    return {
        "rows": len(rows),
        "tokens": sum(len(row.ids) for row in rows),
        "tolerance": TOLERANCE,
        "largest_difference": compared(trained, exported, base, what),
        "loss": {"trained": trained.loss, "exported": exported.loss},
    }
