"""A classifier's head beside its engine: pooled states in, calibrated probabilities out.

The engine pools the states of an adapter (vLLM's pooling runner); what stands over them is one
matrix, and features that are made of the text. Knows no tensor library but numpy: the same
numbers as ``pipeline.modeling.predictions``, which a test holds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import ModelError
from pipeline.core.features import feature_values
from serve.adapter_folder import HEAD_FILES
from serve.bundle import BundleHead

_SEVERAL = 0.5
"""Of several labels those at least this probable are the answer, as in training."""
_SCORE = "score.weight"


@dataclass(frozen=True)
class Answer:
    """What a head says of one text.

    Attributes:
        label: the likeliest, or None where the head is less sure than its threshold.
        labels: of a head with several labels, all that are the answer.
        probabilities: label to calibrated probability; of several labels each by itself.
        value: of a head that tells a number, in the units of its data.
        abstained: the likeliest label stayed below the threshold.
    """

    label: str | None = None
    labels: tuple[str, ...] | None = None
    probabilities: Mapping[str, float] | None = None
    value: float | None = None
    abstained: bool = False


def answer_of(
    labels: Sequence[str], scaled: npt.NDArray[np.float64], threshold: float | None
) -> Answer:
    """The answer of one label among several.

    Args:
        scaled: of each label, up to a constant; divided by the temperature already.
        threshold: below this probability no label is told.
    """
    shares = np.exp(scaled - scaled.max())
    shares /= shares.sum()
    best = int(shares.argmax())
    unsure = threshold is not None and float(shares[best]) < threshold
    named = dict(zip(labels, shares.tolist(), strict=True))
    return Answer(None if unsure else labels[best], probabilities=named, abstained=unsure)


@dataclass(frozen=True)
class Head:
    """One head, ready to answer.

    Attributes:
        kind: ``single``, ``multi`` or ``regress``.
        labels: in the order of its logits.
        pooling: ``last``, ``mean`` or ``cls``: what the engine has to do.
        weight: [outputs, D states + F features], float32.
        specs, mean, std: of the features, as in head.json; empty without.
        value_mean, value_std: of a number's scale.
        temperature, threshold: as in the bundle.
    """

    kind: str
    labels: tuple[str, ...]
    pooling: str
    weight: npt.NDArray[np.float32]
    specs: tuple[Mapping[str, Any], ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    value_mean: float
    value_std: float
    temperature: float
    threshold: float | None

    @property
    def columns(self) -> tuple[str, ...]:
        """What a client has to give beside the text."""
        named = (str(spec["column"]) for spec in self.specs if spec.get("column"))
        return tuple(dict.fromkeys(named))

    def features(self, text: str, given: Mapping[str, Any]) -> list[float]:
        """The standardised features of one text.

        Raises:
            ValueError: a column is missing or no finite number.
        """
        raw = np.asarray(feature_values(self.specs, text, given), dtype=np.float64)
        # In float64: what is left of a large number less its mean must not be rounding.
        scaled: list[float] = ((raw - np.asarray(self.mean)) / np.asarray(self.std)).tolist()
        return scaled

    def logits(
        self, states_D: Sequence[float], features_F: Sequence[float] = ()
    ) -> npt.NDArray[np.float64]:
        """[outputs] of one pooled state and its features, uncalibrated.

        Raises:
            ModelError: another number of states than the head was trained on, or one that is
                no number.
        """
        joined = np.asarray([*states_D, *features_F], dtype=np.float32)
        if joined.shape[0] != self.weight.shape[1]:
            raise ModelError(
                f"head: {joined.shape[0]} states and features from the engine, and its weight takes"
                f" {self.weight.shape[1]}; the engine serves another base"
            )
        made = (self.weight @ joined).astype(np.float64)
        if not np.isfinite(made).all():
            raise ModelError("head: a logit is no number; look at the weights")
        return made

    def answer(self, logits: npt.NDArray[np.float64]) -> Answer:
        """The calibrated answer."""
        if self.kind == "regress":
            return Answer(value=float(logits[0]) * self.value_std + self.value_mean)
        scaled = logits / self.temperature
        if self.kind == "multi":
            each = 1 / (1 + np.exp(-scaled))
            # The temperature moves no logit over zero.
            chosen = tuple(n for n, p in zip(self.labels, each, strict=True) if p >= _SEVERAL)
            return Answer(labels=chosen, probabilities=self._named(each))
        return answer_of(self.labels, scaled, self.threshold)

    def _named(self, values: npt.NDArray[np.float64]) -> dict[str, float]:
        return dict(zip(self.labels, values.tolist(), strict=True))


def read_head(about: BundleHead) -> Head:
    """The head that lies in a bundle.

    Raises:
        ModelError: its files are torn, or do not go together.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    place = about.path / HEAD_FILES[0]
    try:
        tree = json.loads(place.read_text(encoding="utf-8"))
        features = tree["features"] or {"specs": [], "mean": [], "std": []}
        weight = load_file(about.path / HEAD_FILES[1])[_SCORE].astype(np.float32)
        head = Head(
            kind=str(tree["kind"]),
            labels=tuple(str(label) for label in tree["labels"]),
            pooling=str(tree["pooling"]),
            weight=weight,
            specs=tuple(features["specs"]),
            mean=tuple(float(value) for value in features["mean"]),
            std=tuple(float(value) for value in features["std"]),
            value_mean=float(tree["value_mean"]),
            value_std=float(tree["value_std"]),
            temperature=about.temperature,
            threshold=about.threshold,
        )
        inputs = int(tree["hidden_size"]) + len(head.specs)
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError,
        SafetensorError,
    ) as error:  # fmt: skip
        what = f"{type(error).__name__}: {error}".splitlines()[0][:160]
        raise ModelError(f"{place}: cannot be read ({what}); run the recipe again") from None
    outputs = 1 if head.kind == "regress" else len(head.labels)
    whole = (
        head.kind in {"single", "multi", "regress"}
        and head.pooling in {"last", "mean", "cls"}
        and len({len(head.specs), len(head.mean), len(head.std)}) == 1
        and weight.shape == (outputs, inputs)
        and bool(np.isfinite(weight).all())
        and all(value > 0 and math.isfinite(value) for value in (*head.std, head.value_std))
    )
    if not whole:
        raise ModelError(f"{place}: its parts do not go together; run the recipe again")
    return head
