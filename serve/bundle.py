"""A bundle: everything that an engine may be given, in one folder.

``bundle.json`` names the base (a folder, absolute or seen from the bundle: artifacts lie
side by side) and the adapters (folders inside the bundle, one immutable name per version).
It is read once, checked, and turned into frozen dataclasses; nothing that is not in it
reaches an engine.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

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

BUNDLE_FILE = "bundle.json"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
# Formats that run code when they are read.
PICKLED = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".npy", ".npz", ".py"})
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"

Level = Literal["L0", "L1", "L2"]
DType = Literal["float32", "bfloat16", "float16"]
Name = Annotated[str, StringConstraints(pattern=_NAME)]


@dataclass(frozen=True)
class BundleBase:
    """The one copy of the base that every model of the family shares.

    Attributes:
        name: Public model name.
        level: Its place in the family.
        path: Absolute folder: config.json, tokenizer, safetensors weights.
        digest: SHA-256 of the weights' artifact.
    """

    name: str
    level: Level
    path: Path
    digest: str


@dataclass(frozen=True)
class BundleAdapter:
    """One version of one adapter over the base.

    Attributes:
        name: Public model name.
        level: Its place in the family.
        path: Absolute folder inside the bundle: a plain PEFT LoRA.
        rank: LoRA rank (the scale is folded in: lora_alpha == rank).
        digest: SHA-256 of the adapter's artifact.
        temperatures: Way of asking to the number that its log-probabilities are divided by to be
            what they say, fitted on validation items.
    """

    name: str
    level: Level
    path: Path
    rank: int
    digest: str
    temperatures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Bundle:
    """A family ready to be served.

    Attributes:
        name: The bundle's name, usually that of its last model.
        root: The bundle's folder.
        base: The shared base.
        adapters: What grew from it, in order of level.
        max_model_len: Prompt and answer together, in tokens.
        system: System text added where a request has none, or None.
        chat_template_kwargs: Passed to the chat template with every request.
        controls: How a caller's text is kept from speaking for the chat template.
        stop_token_ids: Token ids that end an answer, beside the base's own.
        gates: The gates' results, as the evaluation wrote them.
        ungated: True where somebody overrode the gates; shown to clients.
        dtype: Type of the weights inside the engine.
    """

    name: str
    root: Path
    base: BundleBase
    adapters: tuple[BundleAdapter, ...]
    max_model_len: int
    system: str | None
    chat_template_kwargs: Mapping[str, Any]
    controls: Controls
    stop_token_ids: tuple[int, ...]
    gates: tuple[Mapping[str, Any], ...]
    ungated: bool
    dtype: DType

    @property
    def models(self) -> tuple[BundleBase | BundleAdapter, ...]:
        """Base and adapters, in the order they are listed to clients."""
        return (self.base, *self.adapters)

    @property
    def max_rank(self) -> int:
        """The largest adapter rank; 0 without adapters."""
        return max((adapter.rank for adapter in self.adapters), default=0)


class _Edge(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _BaseFile(_Edge):
    path: str
    name: Name
    level: Level
    digest: str


class _AdapterFile(_Edge):
    name: Name
    level: Level
    path: str
    rank: int = Field(ge=1, le=512)
    digest: str
    temperatures: dict[str, Annotated[float, Field(gt=0)]] = {}


def _rule(tree: Any) -> Controls:
    """A base that nothing was rendered for has no rule."""
    return Controls() if tree is None else Controls.from_json(tree)


class _BundleFile(_Edge):
    name: Name
    base: _BaseFile
    adapters: list[_AdapterFile] = []
    max_model_len: int = Field(ge=1)
    system: str | None = None
    chat_template_kwargs: dict[str, Any] = {}
    controls: Annotated[Controls, BeforeValidator(_rule)] = Controls()
    stop_token_ids: list[Annotated[int, Field(ge=0)]] = []
    gates: list[dict[str, Any]] = []
    ungated: bool = False
    dtype: DType = "float32"


def read_bundle(path: Path) -> Bundle:
    """Read and check a bundle's folder.

    Args:
        path: The folder that holds ``bundle.json``.

    Returns:
        The bundle, every path absolute and inside its bounds.

    Raises:
        UserError: ``bundle.json`` is missing or does not make sense.
        ModelError: The base or an adapter is not what ``bundle.json`` says, or not safe.
    """
    root = Path(path).resolve()
    place = root / BUNDLE_FILE
    parsed = _parse(place)
    names = [parsed.base.name, *(adapter.name for adapter in parsed.adapters)]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{place}: the model name {name} stands twice; make each name unique")
    return Bundle(
        name=parsed.name,
        root=root,
        base=_base(parsed.base, root, place),
        adapters=tuple(_adapter(adapter, root, place) for adapter in parsed.adapters),
        max_model_len=parsed.max_model_len,
        system=parsed.system,
        chat_template_kwargs=parsed.chat_template_kwargs,
        controls=parsed.controls,
        stop_token_ids=tuple(parsed.stop_token_ids),
        gates=tuple(parsed.gates),
        ungated=parsed.ungated,
        dtype=parsed.dtype,
    )


def _parse(place: Path) -> _BundleFile:
    try:
        raw = place.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{place}: no such file; point at a folder made by `gradus run`") from None
    except OSError as error:
        raise UserError(f"{place}: cannot be read ({error.strerror})") from None
    try:
        return _BundleFile.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "file"
        raise UserError(
            f"{place}: {where}: {first['msg'].lower()}; build the bundle again"
        ) from None


def _base(base: _BaseFile, root: Path, place: Path) -> BundleBase:
    folder = (root / base.path).resolve()
    if not (folder / "config.json").is_file():
        raise ModelError(f"{place}: base.path {folder} holds no config.json; run the recipe again")
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{place}: base.path {folder} holds no safetensors weights; run the recipe again"
        )
    return BundleBase(name=base.name, level=base.level, path=folder, digest=base.digest)


def _adapter(adapter: _AdapterFile, root: Path, place: Path) -> BundleAdapter:
    relative = Path(adapter.path)
    if relative.is_absolute() or ".." in relative.parts or not relative.parts:
        raise ModelError(
            f"{place}: adapter {adapter.name}: path {adapter.path} leaves the bundle; "
            "keep adapters under adapters/"
        )
    folder = root / relative
    _refuse_links_and_pickles(folder, root, adapter.name)
    for name in ADAPTER_FILES:
        if not (folder / name).is_file():
            raise ModelError(
                f"{folder}: adapter {adapter.name} has no {name}; run the recipe again"
            )
    _check_config(folder / ADAPTER_FILES[0], adapter)
    return BundleAdapter(
        name=adapter.name,
        level=adapter.level,
        path=folder,
        rank=adapter.rank,
        digest=adapter.digest,
        temperatures=adapter.temperatures,
    )


def _refuse_links_and_pickles(folder: Path, root: Path, name: str) -> None:
    steps = [folder, *folder.parents]
    for step in [*steps[: steps.index(root)], *folder.rglob("*")]:
        if step.is_symlink():
            raise ModelError(f"{step}: adapter {name} holds a symbolic link; copy the file instead")
        if step.suffix in PICKLED and step.is_file():
            raise ModelError(f"{step}: adapter {name} holds code or pickled data; safetensors only")


def _check_config(place: Path, adapter: _AdapterFile) -> None:
    try:
        config = json.loads(place.read_bytes())
    except ValueError:
        raise ModelError(f"{place}: not JSON; run the recipe again") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ModelError(f"{place}: not a LoRA adapter; engines serve LoRA over a base")
    if config.get("r") != adapter.rank or config.get("lora_alpha") != adapter.rank:
        raise ModelError(
            f"{place}: r is {config.get('r')} and lora_alpha {config.get('lora_alpha')}, and "
            f"bundle.json says rank {adapter.rank}; export it with the scale folded in"
        )
    for option in ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "modules_to_save"):
        if config.get(option):
            raise ModelError(f"{place}: {option} is set, which the engine would misread; export it")


def copy_adapter(adapter: BundleAdapter, base: Path, into: Path) -> Path:
    """Copy an adapter into ``into``, its config naming the absolute base.

    The bundle travels, so its configs name no real base; engines look the base up.

    Args:
        adapter: The adapter in the bundle.
        base: Absolute folder of the base.
        into: Folder to write; made where it is missing.

    Returns:
        ``into``.
    """
    into.mkdir(parents=True, exist_ok=True)
    config = json.loads((adapter.path / ADAPTER_FILES[0]).read_bytes())
    config["base_model_name_or_path"] = str(base)
    (into / ADAPTER_FILES[0]).write_text(json.dumps(config, indent=2))
    shutil.copyfile(adapter.path / ADAPTER_FILES[1], into / ADAPTER_FILES[1])
    return into
