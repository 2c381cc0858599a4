"""golden.json: conversations whose ids and answers a running engine has to repeat.

Written while a bundle is made, read when an engine starts. Holds rows of the data that the
family was trained on and judged by: whoever may not read those may not read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.core.errors import UserError
from pipeline.core.validation import first_problem
from serve.bundle_file import DType

GOLDEN_FILE = "golden.json"
# float32: what two libraries' kernels leave between them is 1e-5 and less; a wrong template,
# text or weight leaves far more.
_EXACT_LARGEST, _EXACT_MEAN = 1e-3, 1e-4
# Of a 16-bit type: offline and engine each round differently, and each rounding alone moves an
# answer as far as `Rounding` was measured to. Two of them in opposite directions give twice that
# on average over tokens; the largest of many draws of theirs goes further than one's.
_ROUNDINGS_LARGEST, _ROUNDINGS_MEAN = 4.0, 2.0
# Where a model happens to round to nothing on the golden tokens: one last place of a logit
# between 8 and 16 in bfloat16 (2^-4) and in float16 (2^-7), and a quarter of it on average.
_LAST_PLACE: Mapping[str, float] = {"bfloat16": 2**-4, "float16": 2**-7}

Id = Annotated[int, Field(ge=0)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Edge(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Said(_Edge):
    """What one model says to one conversation, offline, in the type that is served.

    Attributes:
        logprobs: of each token of the target after those before it, in nats.
        greedy: ids of the likeliest continuation of the prompt; an id that ends it is in it.
        greedy_logprobs: of each of its tokens, in nats.
        margins: at each of them, how far it is above the second likeliest, in nats.
    """

    logprobs: list[Finite]
    greedy: list[Id]
    greedy_logprobs: list[Finite]
    margins: list[Finite]


class Conversation(_Edge):
    """One golden conversation.

    Attributes:
        name: the row's id, or what the probe is for.
        witness: ``training``: the ids are those that training read, from the Dataset; or
            ``renderer``: no row holds it, and the renderer of training made them.
        messages: as a client sends them; None where the prompt is plain text.
        text: the plain text of a prompt; None where there are messages.
        ids, strings: the prompt's ids and their tokens.
        target, target_strings: ids after the prompt whose log-probabilities are compared.
        models: public name to what that model says.
        heads: name of a head to its uncalibrated logits for the conversation.
    """

    name: str
    witness: Literal["training", "renderer"]
    messages: list[dict[str, Any]] | None
    text: str | None
    ids: Annotated[list[Id], Field(min_length=1)]
    strings: list[str]
    target: Annotated[list[Id], Field(min_length=1)]
    target_strings: list[str]
    models: dict[str, Said]
    heads: dict[str, list[Finite]] = {}

    @model_validator(mode="after")
    def _fits(self) -> Conversation:
        if (self.messages is None) == (self.text is None):
            raise ValueError("needs messages or text")
        if len(self.ids) != len(self.strings) or len(self.target) != len(self.target_strings):
            raise ValueError("ids and tokens differ in number")
        for name, said in self.models.items():
            steps = {len(said.greedy), len(said.greedy_logprobs), len(said.margins)}
            if len(said.logprobs) != len(self.target) or len(steps) > 1:
                raise ValueError(f"{name}: ids and numbers differ in number")
        return self


class Rounding(_Edge):
    """How far the served type moves the family's own log-probabilities from float32's, in nats."""

    largest: Finite
    mean: Finite


class Golden(_Edge):
    """All of the file.

    Attributes:
        dtype: the type that the answers were computed in.
        ends: ids at which an answer ends; every one must end it in the engine.
        others: special tokens that must not.
        rounding: of a 16-bit type; None in float32.
    """

    dtype: DType
    ends: list[Id]
    others: list[Id]
    rounding: Rounding | None
    conversations: Annotated[list[Conversation], Field(min_length=1)]


@dataclass(frozen=True)
class Tolerance:
    """Allowed differences of log-probabilities, in nats.

    Attributes:
        largest: of one token.
        mean: of a model's tokens.
    """

    largest: float
    mean: float


def tolerance_of(golden: Golden) -> Tolerance:
    """What two right computations in the served type may differ by."""
    if golden.rounding is None:
        return Tolerance(_EXACT_LARGEST, _EXACT_MEAN)
    place = _LAST_PLACE.get(golden.dtype, _EXACT_LARGEST)
    return Tolerance(
        max(place, _ROUNDINGS_LARGEST * golden.rounding.largest),
        max(place / 4, _ROUNDINGS_MEAN * golden.rounding.mean),
    )


def read_golden(bundle: Path) -> Golden | None:
    """The golden conversations in a bundle's folder; None where it has none.

    Raises:
        UserError: the file is torn or does not make sense.
    """
    place = bundle / GOLDEN_FILE
    try:
        raw = place.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{place}: cannot be read ({error.strerror})") from None
    try:
        return Golden.model_validate_json(raw)
    except ValidationError as error:
        raise UserError(f"{place}: {first_problem(error)}; build the bundle again") from None
