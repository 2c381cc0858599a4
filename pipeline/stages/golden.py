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
from pipeline.modeling.loading import (
    backbone,
    kind_of_folder,
    load_model,
    on_device,
    plain_model,
)

ROWS, TOKENS = 16, 256
# Of a row's token logits so many places are kept: a vocabulary of 150,000 would else take 150 MB
# a row, and three models are compared.
PLACES = 8
# Of the largest logit. Sums in another order differ by about 1e-6 of it in float32; an update
# that is lost, doubled or wrongly scaled by far more.
TOLERANCE = 1e-4
# Of what the adapters change at all: a small update must not hide below the tolerance. Never less
# than rounding, as a share of the largest logit.
_OF_THE_CHANGE, _ROUNDING = 0.05, 4e-6


@dataclass(frozen=True)
class GoldenRow:
    """Ids of one row, cut to TOKENS, which of them are learned, and its hand-made features."""

    ids: tuple[int, ...]
    supervised: tuple[int, ...]
    features: tuple[float, ...] = ()

    def places(self) -> list[int]:
        """Where a learned token is foretold."""
        return [t - 1 for t in range(1, len(self.supervised)) if self.supervised[t]]


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
    ids = tuple(int(i) for i in row["input_ids"][:count])
    return GoldenRow(ids, tuple(map(int, learned)), tuple(row.get("features") or ()))


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
            logits_TV = model(input_ids=ids, attention_mask=mask).logits[0].float().cpu()
            some = (row.places() or list(range(len(row.ids))))[-PLACES:]
            said.values.setdefault("logits", []).append(logits_TV[some].clone())
            if causal:
                loss, learned = _loss(logits_TV, row)
                losses, count = losses + loss, count + learned
        if classifier is not None:
            scale = classifier.config.features
            own = None if scale is None else scale.scaled([row.features]).to(model.device)
            scores = classifier.logits(states, mask, own)
            said.values.setdefault("head", []).append(scores.float().cpu())
    said.loss = losses / count if count else None
    return said


def _loss(logits_TV: torch.Tensor, row: GoldenRow) -> tuple[float, int]:
    places = row.places()
    if not places:
        return 0.0, 0
    targets = torch.tensor([row.ids[t + 1] for t in places])
    losses = torch.nn.functional.cross_entropy(logits_TV[places], targets, reduction="sum")
    return float(losses), len(places)


def compared(
    trained: Answers, exported: Answers, base: Answers, what: str
) -> dict[str, dict[str, float]]:
    """The largest difference of each value, as a share of the largest of its kind, and what was
    allowed.

    Args:
        base: what the root says without any adapter: how much there is to lose.

    Raises:
        IntegrityError: a difference above TOLERANCE or above a twentieth of what training
            changed, or a value that is no number.
    """
    shares, allowed = {}, {}
    for name, expected in trained.values.items():
        found, before = exported.values[name], base.values.get(name, [])
        largest = _largest(expected, [torch.zeros_like(tensor) for tensor in expected]) or 1.0
        share = _largest(expected, found) / largest
        change = _largest(expected, before) / largest if before else 0.0
        most = min(TOLERANCE, max(_OF_THE_CHANGE * change, _ROUNDING))
        if not share <= most:
            raise IntegrityError(
                f"export: {what}: its {name} differ from the trained model's by {share:.2g} of the "
                f"largest (at most {most:.2g}) on {len(expected)} golden rows; this is a defect, "
                "and nothing was exported"
            )
        shares[name], allowed[name] = share, most
    return {"largest_difference": shares, "allowed": allowed}


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
    trained = answers(model, rows, causal=kind_of_folder(root) == "causal")
    pairs = zip(trained.values["states"], served.values["states"], strict=True)
    apart = [float((a - b).norm() / b.norm()) for a, b in pairs]
    return {
        "trained": "nf4",
        "served": "full precision",
        "golden_loss": {"trained": trained.loss, "served": served.loss},
        "states_apart": sum(apart) / len(apart) if apart else None,
    }


def _largest(some: Sequence[torch.Tensor], others: Sequence[torch.Tensor]) -> float:
    """The largest difference; none where there is nothing to compare."""
    apart = [(a - b).abs().max() for a, b in zip(some, others, strict=True)]
    # A tensor's maximum keeps a NaN, where Python's would lose it.
    return float(torch.stack(apart).max()) if apart else 0.0


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
        **compared(trained, exported, base, what),
        "loss": {"trained": trained.loss, "exported": exported.loss},
    }
