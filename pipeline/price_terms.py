"""What a price hangs on: the user's terms, and a training with the settings that it has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.core.errors import RecipeError
from pipeline.core.launch import LaunchSettings
from pipeline.devices import Device, device
from pipeline.price_rows import Rows

# What a program holds before any model: on a CPU torch, transformers and PEFT; on a GPU the CUDA
# context and the libraries' workspaces.
PROGRAM_BYTES = {"cpu": 0.6e9, "gpu": 0.8e9}
MFU = 0.4


@dataclass(frozen=True)
class Terms:
    """What the user states.

    Attributes:
        device: where it would run.
        mfu: share of the device's rate that training reaches.
        price_per_hour: of one device; None: no cost is told.
    """

    device: Device
    mfu: float = MFU
    price_per_hour: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.mfu <= 1:
            raise RecipeError(
                f"--mfu {self.mfu:g}: a share of the peak rate; give 0 to 1, e.g. 0.4"
            )
        price = self.price_per_hour
        if price is not None and not 0 <= price < 1e6:
            raise RecipeError(f"--price-per-hour {price:g}: give the price of one device, e.g. 2.5")

    @classmethod
    def of(
        cls, gpu: str | None, memory_gb: float | None, mfu: float, price_per_hour: float | None
    ) -> Terms:
        """As the command line gives them."""
        return cls(device(gpu, memory_gb), mfu, price_per_hour)


@dataclass(frozen=True)
class Case:
    """One training with what its price hangs on; a remedy is a case with other settings.

    Attributes:
        shape: config.json of the base.
        config, options: of the training's node.
        launch: its processes.
        over_length: what `prepare` does to rows that are longer than max_length.
        parent_rank: of the frozen adapter that it stands on; 0: there is none.
    """

    shape: Mapping[str, Any]
    config: Mapping[str, Any]
    options: Mapping[str, Any]
    launch: LaunchSettings
    rows: Rows
    over_length: str = "error"
    parent_rank: int = 0

    @property
    def length(self) -> int:
        """Tokens of the longest row, as it is padded."""
        longest = int(self.config["max_length"])
        if self.rows.lengths is not None and len(self.rows.lengths):
            longest = min(longest, int(self.rows.lengths.max()))
        return max(8, math.ceil(longest / 8) * 8)
