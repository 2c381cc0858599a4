"""Hand-made features of a row, on one scale: that of the training split."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.core.errors import DataError, ModelError

FEATURES_FILE = "features.json"


@dataclass(frozen=True)
class FeatureScale:
    """Features in their order, and how each becomes (value - mean) / std.

    Attributes:
        names: of the features.
        specs: how each was made of a row, as in features.json: serving makes them again.
        mean, std: of the training split; a feature that never varies there has std 1.
    """

    names: tuple[str, ...]
    specs: tuple[Mapping[str, Any], ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def scaled(self, rows: Sequence[Sequence[float] | None]) -> torch.Tensor:
        """Raw features of each row, standardised: [B, F] in float32.

        Raises:
            DataError: another number of features, or one that is no finite number.
        """
        for row in rows:
            if row is None or len(row) != len(self.names):
                raise DataError(
                    f"data.features: a row has {0 if row is None else len(row)} features and the "
                    f"head takes {len(self.names)} ({', '.join(self.names)}); prepare the data "
                    "with the same features"
                )
            for name, value in zip(self.names, row, strict=True):
                if not math.isfinite(value):
                    raise DataError(f"data.features: {name}: {value} is no finite number")
        # In float64: what is left of a large number less its mean must not be rounding.
        raw = np.asarray(rows, dtype=np.float64)
        scaled = (raw - np.asarray(self.mean)) / np.asarray(self.std)
        return torch.tensor(scaled, dtype=torch.float32)

    def as_tree(self) -> dict[str, Any]:
        """As head.json keeps it."""
        return {
            "names": list(self.names),
            "specs": [dict(spec) for spec in self.specs],
            "mean": list(self.mean),
            "std": list(self.std),
        }

    @staticmethod
    def of_tree(tree: Mapping[str, Any]) -> FeatureScale:
        """From head.json.

        Raises:
            ValueError: lists that do not go together.
        """
        names, specs = tuple(tree["names"]), tuple(tree["specs"])
        mean = tuple(float(value) for value in tree["mean"])
        std = tuple(float(value) for value in tree["std"])
        if not names or {len(specs), len(mean), len(std)} != {len(names)} or 0.0 in std:
            raise ValueError("features: names, specs, mean and std do not go together")
        return FeatureScale(names, specs, mean, std)


def fit_features(data: Path, rows: Sequence[Sequence[float] | None]) -> FeatureScale | None:
    """The scale of a Dataset's features; None where it has no features.json.

    Args:
        data: the Dataset's folder.
        rows: raw features of the training split.

    Raises:
        DataError: a row whose features are not those of features.json.
    """
    file = data / FEATURES_FILE
    if not file.is_file():
        return None
    try:
        specs = json.loads(file.read_text(encoding="utf-8"))
        names = tuple(str(spec["name"]) for spec in specs)
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file}: cannot be read ({error!r}); prepare the data again") from None
    unscaled = FeatureScale(names, tuple(specs), (0.0,) * len(names), (1.0,) * len(names))
    for row in rows:
        unscaled.scaled([row])
    mean, std = moments(np.asarray(rows, dtype=np.float64).reshape(len(rows), len(names)))
    return FeatureScale(names, tuple(specs), mean, std)


def moments(values: np.ndarray[Any, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(means, standard deviations) of the columns; 1 for a column that does not vary.

    The population's deviation, as scikit-learn's StandardScaler takes it.
    """
    mean, std = values.mean(axis=0), values.std(axis=0)
    # Equal large numbers leave a rounding that is no spread.
    still = std <= 1e-12 * np.abs(mean)
    return tuple(mean.tolist()), tuple(np.where(still, 1.0, std).tolist())
