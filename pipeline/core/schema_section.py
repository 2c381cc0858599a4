"""What every part of a recipe's schema is made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

# Bounded, so that a seed times a step count stays within 64 bits.
Seed = Annotated[int, Field(ge=0, lt=2**31)]
_NUMBERS = (int, float, int | None, float | None)


class Section(BaseModel):
    """A part of a recipe: frozen, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_bool_for_number(cls, tree: Any) -> Any:
        """`lora_r: true` would otherwise be read as 1."""
        if isinstance(tree, dict):
            for name, value in tree.items():
                field = cls.model_fields.get(str(name))
                if isinstance(value, bool) and field is not None and field.annotation in _NUMBERS:
                    raise ValueError(f"{name} must be a number, and it is {str(value).lower()}")
        return tree


def as_list(value: Any) -> Any:
    """One word or number where a list may stand."""
    return [value] if isinstance(value, str | int) else value
