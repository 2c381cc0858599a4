"""Explanation: which tokens a head's answer stands on, by integrated gradients.

Source: Sundararajan et al. 2017, "Axiomatic attribution for deep networks": equation 1, taken over
the input embeddings from the embedding of the padding token at every place; completeness
(proposition 1): the attributions sum to the logit less the logit of that baseline.

Legend: B rows of a batch, T tokens, D features.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eval.clusters import clusters_of
from eval.loaded import question_ids
from eval.risks.line import Line, Topic, not_measured, share

if TYPE_CHECKING:
    import torch

    from pipeline.modeling.heads import Classifier

_TOPIC: Topic = "explanation"
TOLERANCE = 0.05
# The least that 5 % is taken of: a difference near 0 would make rounding a miss.
_LEAST = 0.1
STEPS = (64, 256)
SHOWN_ITEMS, SHOWN_TOKENS = 3, 5
DELETED = 0.2
_WHAT = "tokens that the head's answers stand on"


@dataclass(frozen=True)
class Attribution:
    """One item's answer taken apart.

    Attributes:
        target: the answer whose logit is explained.
        values: one for each token, in units of the logit.
        difference: the logit less that of the baseline.
    """

    ids: tuple[int, ...]
    target: int
    values: tuple[float, ...]
    difference: float

    @property
    def missed(self) -> float:
        """How far the attributions are from summing to the difference, as a share of it."""
        return abs(sum(self.values) - self.difference) / max(abs(self.difference), _LEAST)


class Explainer:
    """Attributes a head's logits to tokens, one row at a time."""

    def __init__(self, classifier: Classifier, pad_id: int) -> None:
        from pipeline.modeling.loading import backbone, plain_model

        self.classifier = classifier.eval()
        self.pad_id = pad_id
        body = plain_model(classifier.body)
        self._embed, self._backbone = body.get_input_embeddings(), backbone(body)
        # Weights take no gradient: only the path through the embeddings is asked for.
        for parameter in classifier.parameters():
            parameter.requires_grad_(False)

    def explain(self, ids: Sequence[int]) -> Attribution:
        """Attributions of the likeliest label's logit, with as many steps as they need."""
        embedded, baseline = self._embedded(ids), self._embedded([self.pad_id] * len(ids))
        logits = self.logits(embedded)[0]
        target = int(logits.argmax())
        difference = float(logits[target] - self.logits(baseline)[0, target])
        for steps in STEPS:
            values = self._values(embedded, baseline, target, steps)
            found = Attribution(tuple(ids), target, values, difference)
            if found.missed <= TOLERANCE:
                break
        return found

    def without(self, ids: Sequence[int], places: Sequence[int], target: int) -> float:
        """The logit of ``target`` with padding in the place of some tokens."""
        gone = set(places)
        kept = [self.pad_id if place in gone else token for place, token in enumerate(ids)]
        return float(self.logits(self._embedded(kept))[0, target])

    def logits(self, embedded_BTD: torch.Tensor) -> torch.Tensor:
        """[B, labels] of input embeddings, every token read."""
        import torch

        mask_BT = torch.ones(embedded_BTD.shape[:2], dtype=torch.long, device=embedded_BTD.device)
        states = self._backbone(inputs_embeds=embedded_BTD, attention_mask=mask_BT)
        return self.classifier.logits(states.last_hidden_state, mask_BT)

    def _embedded(self, ids: Sequence[int]) -> torch.Tensor:
        import torch

        device = self.classifier.score.weight.device
        embedded: torch.Tensor = self._embed(torch.tensor([list(ids)], device=device))
        return embedded.detach()

    def _values(
        self, embedded: torch.Tensor, baseline: torch.Tensor, target: int, steps: int
    ) -> tuple[float, ...]:
        from captum.attr import IntegratedGradients

        found = IntegratedGradients(self.logits).attribute(
            embedded, baselines=baseline, target=target, n_steps=steps, internal_batch_size=16
        )
        return tuple(found[0].double().sum(dim=-1).tolist())


def explanation_lines(
    classifier: Classifier | None,
    rows: Sequence[Mapping[str, Any]],
    tokenizer: Any,
    *,
    pad_id: int,
    seed: int,
) -> list[Line]:
    """The most telling tokens of a few items, completeness, and a deletion check.

    Args:
        classifier: None of a form without a head.
        rows: the test rows whose answers are taken apart, each by itself.
    """
    refusal = _refusal(classifier, rows)
    if refusal is not None or classifier is None:
        return [not_measured(_TOPIC, _WHAT, refusal or "")]
    explainer = Explainer(classifier, pad_id)
    found = [explainer.explain(question_ids(row)) for row in rows]
    worst = max(one.missed for one in found)
    if worst > TOLERANCE:
        missing = sum(one.missed > TOLERANCE for one in found)
        why = (
            f"completeness missed by {worst:.1%} ({missing} of {len(found)} items are over "
            f"{TOLERANCE:.0%}, with {STEPS[-1]} steps)"
        )
        return [not_measured(_TOPIC, _WHAT, why)]
    how = (
        "integrated gradients (Sundararajan et al. 2017) from padding at every place, of the "
        f"likeliest label's logit; completeness within {TOLERANCE:.0%} in all {len(found)} items "
        f"(worst {worst:.2%})"
    )
    shown = "; ".join(_told(one, classifier.config.labels, tokenizer) for one in
                      found[:SHOWN_ITEMS])  # fmt: skip
    line = Line(_TOPIC, _WHAT, f"{shown} (n = {len(found)} items)", how, n=len(found))
    return [line, _deletion(explainer, found, clusters_of(rows), seed)]


def _refusal(classifier: Classifier | None, rows: Sequence[Mapping[str, Any]]) -> str | None:
    if classifier is None:
        return "attributions are of a head, and this form has none"
    if classifier.config.kind != "single":
        return "the head gives several labels, tags or a number, and one logit is explained here"
    if classifier.config.features is not None:
        return "the head reads hand-made features, to which no token belongs"
    return None if rows else "no suite asks this head for one label of a known set"


def _told(one: Attribution, labels: Sequence[str], tokenizer: Any) -> str:
    """The tokens that speak most for the answer, and how much."""
    order = sorted(range(len(one.ids)), key=lambda place: -one.values[place])[:SHOWN_TOKENS]
    words = [f"{tokenizer.decode([one.ids[p]]).strip()!r} {one.values[p]:+.2f}" for p in order]
    return f"{labels[one.target]}: {', '.join(words)}"


def _deletion(
    explainer: Explainer, found: Sequence[Attribution], clusters: Sequence[str] | None, seed: int
) -> Line:
    """Padding over the most telling fifth, against padding over as many drawn tokens."""
    rng = random.Random(seed)
    won = []
    for one in found:
        count = max(1, round(DELETED * len(one.ids)))
        order = sorted(range(len(one.ids)), key=lambda place: -one.values[place])
        telling = explainer.without(one.ids, order[:count], one.target)
        drawn = explainer.without(one.ids, rng.sample(range(len(one.ids)), count), one.target)
        won.append(telling < drawn)
    what = "deletion check: the most telling tokens matter more than drawn ones"
    how = (
        f"padding over the {DELETED:.0%} of tokens with the highest attributions lowers the logit "
        f"further than padding over as many drawn with seed {seed}"
    )
    return share(_TOPIC, what, won, how, clusters=clusters)
