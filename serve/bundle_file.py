"""bundle.json as it lies on disk: unknown keys refused, every value bounded."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from pipeline.core.controls import Controls
from pipeline.core.errors import ModelError, UserError
from pipeline.core.schema_serve import MAX_STOPS, EngineArguments, Sampling
from pipeline.core.validation import first_problem

if TYPE_CHECKING:
    from serve.bundle import Bundle

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"

Level = Literal["L0", "L1", "L2"]
DType = Literal["float32", "bfloat16", "float16"]
Name = Annotated[str, StringConstraints(pattern=_NAME)]


class _Edge(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class BaseFile(_Edge):
    """The base."""

    path: str
    name: Name
    level: Level
    digest: str


_Id = Annotated[int, Field(ge=0)]


class LabelsFile(_Edge):
    """The labels that an adapter writes."""

    opening: list[_Id] = []
    answers: dict[str, Annotated[list[_Id], Field(min_length=1)]] = Field(min_length=2)
    temperature: float = Field(1.0, gt=0)
    threshold: float | None = Field(None, ge=0, le=1)
    precision: float | None = None
    validation: dict[str, Any] | None = None


class AdapterFile(_Edge):
    """One adapter."""

    name: Name
    level: Level
    path: str
    rank: int = Field(ge=1, le=512)
    digest: str
    temperatures: dict[str, Annotated[float, Field(gt=0)]] = {}
    labels: LabelsFile | None = None


class HeadFile(_Edge):
    """One adapter with a head."""

    name: Name
    level: Level
    path: str
    rank: int = Field(ge=1, le=512)
    digest: str
    temperature: float = Field(1.0, gt=0)
    threshold: float | None = Field(None, ge=0, le=1)
    precision: float | None = None
    validation: dict[str, Any] | None = None


class StageFile(_Edge):
    """One artifact on the way from the base to what is served.

    Attributes:
        stage, kind: empty of one that was deleted before the bundle was made.
        inputs: role to the key of the artifact that went in.
    """

    stage: str
    kind: str
    key: str
    digest: str
    inputs: dict[str, str] = {}


class LineageFile(_Edge):
    """What a bundle was made of.

    Attributes:
        recipe: SHA-256 over all settings that change the result.
        stages: every artifact that it stands on, each after those that went into it.
    """

    recipe: str
    stages: list[StageFile] = []


def _rule(tree: Any) -> Controls:
    """A base that nothing was rendered for has no rule."""
    return Controls() if tree is None else Controls.from_json(tree)


class BundleFile(_Edge):
    """All of it."""

    name: Name
    base: BaseFile
    adapters: list[AdapterFile] = []
    heads: list[HeadFile] = []
    chat_template: Literal["chat_template.jinja"] | None = None
    max_model_len: int = Field(ge=1)
    system: str | None = None
    chat_template_kwargs: dict[str, Any] = {}
    controls: Annotated[Controls, BeforeValidator(_rule)] = Controls()
    stop_token_ids: list[Annotated[int, Field(ge=0)]] = []
    stop: list[str] = Field([], max_length=MAX_STOPS)
    # Null in bundles that older versions made: then the base's own counts.
    sampling: Sampling | None = None
    engine: EngineArguments = EngineArguments()
    lineage: LineageFile | None = None
    # False: golden.json was left out where it was pushed, or there is nothing to hold it to.
    golden: bool = True
    gates: list[dict[str, Any]] = []
    ungated: bool = False
    dtype: DType = "float32"


def refusing_broken(read: Callable[[Path], Bundle]) -> Callable[[Path], Bundle]:
    """Turns what an operating system or a parser says of a bundle's files into one line.

    A path of 5,000 letters or with a NUL, links in a circle, a folder that may not be read.
    """

    @wraps(read)
    def reading(path: Path) -> Bundle:
        try:
            return read(path)
        except (OSError, ValueError, ArithmeticError, RuntimeError) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise ModelError(
                f"{path}: the bundle cannot be read ({why}); build it again, or mend its files"
            ) from None

    return reading


def parse(place: Path) -> BundleFile:
    """Reads and checks the file.

    Raises:
        UserError: it is missing, or does not make sense.
    """
    try:
        raw = place.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{place}: no such file; point at a folder made by `gradus run`") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"{place}: cannot be read ({why})") from None
    try:
        return BundleFile.model_validate_json(raw)
    except ValidationError as error:
        raise UserError(f"{place}: {first_problem(error)}; build the bundle again") from None
