"""How a recipe's merged model is exported in fewer bits, and what that may cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from pipeline.core.schema_section import Section, Seed

Scheme = Literal["fp8", "awq"]

DTYPES: Mapping[Scheme, Literal["bfloat16", "float16"]] = {"fp8": "bfloat16", "awq": "float16"}
"""The type that an export's other weights are kept in, and an engine computes in.

AWQ's is float16: on a CPU with AMX vLLM 0.32 dies where it multiplies 4-bit weights in bfloat16
(its kernel uses AMX's tiles without asking the kernel of the operating system for them first).
"""


class Quantised(Section):
    """The merged model in fewer bits, in compressed-tensors' format, gated again."""

    scheme: Scheme = Field(
        description="fp8: weights and, as they come, activations in 8 bits (FP8_DYNAMIC); awq: "
        "weights in 4 bits (W4A16), scaled by what training rows activate"
    )
    not_worse_by: float = Field(
        0.02, gt=0, lt=1, description="Gate: accuracy that it may lose against the model before"
    )
    at_most_ratio: float = Field(
        1.02, ge=1, le=10, description="Gate: its loss on texts over that of the model before"
    )
    calibration_rows: int | None = Field(
        None, ge=1, le=4096, description="awq: training rows, drawn; default 256"
    )
    seed: Seed = Field(0, description="awq: of the draw")

    @model_validator(mode="after")
    def _read(self) -> Quantised:
        if self.scheme == "fp8" and self.calibration_rows is not None:
            raise ValueError("calibration_rows are for scheme awq; fp8 looks at no rows")
        return self
