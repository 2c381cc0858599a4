"""A bundle: everything that an engine may be given, in one folder.

``bundle.json`` names the base (a folder, absolute or seen from the bundle: artifacts lie
side by side) and the adapters (folders inside the bundle, one immutable name per version).
It is read once, checked, and turned into frozen dataclasses; nothing that is not in it
reaches an engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.core.controls import Controls
from pipeline.core.errors import GateFailed, ModelError, UserError
from pipeline.core.generation_config import sampling_of
from pipeline.core.schema_serve import EngineArguments, Sampling
from serve.adapter_folder import ADAPTER_FILES, HEAD_FILES, checked_folder
from serve.bundle_file import (
    AdapterFile,
    BaseFile,
    BundleFile,
    DType,
    HeadFile,
    Level,
    LineageFile,
    parse,
    refusing_broken,
)

BUNDLE_FILE = "bundle.json"
TEMPLATE_FILE = "chat_template.jinja"


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
class BundleLabels:
    """The labels that a model writes, as it was trained to write them.

    Attributes:
        opening: ids that the chat template puts between a prompt and its answer.
        answers: label to the ids of its answer, the end of its turn included.
        temperature, threshold, precision, validation: as of a head; the temperature divides
            log-probabilities of whole answers.
    """

    opening: tuple[int, ...]
    answers: Mapping[str, tuple[int, ...]]
    temperature: float = 1.0
    threshold: float | None = None
    precision: float | None = None
    validation: Mapping[str, Any] | None = None


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
        labels: Where it was trained to write one of them: what it may write.
    """

    name: str
    level: Level
    path: Path
    rank: int
    digest: str
    temperatures: Mapping[str, float] = field(default_factory=dict)
    labels: BundleLabels | None = None


@dataclass(frozen=True)
class BundleHead:
    """A model that reads and answers by a head: an adapter over the base, and the head's files.

    Attributes:
        name, level, path, rank, digest: as of an adapter; the folder holds the head too.
        temperature: what the head's logits are divided by, fitted on validation items.
        threshold: below this calibrated probability no label is given; None: one always is.
        precision: share of right answers that the threshold was chosen for.
        validation: what the model answered on validation items: ``labels`` (shares),
            ``confidence`` (mean), ``abstained`` (share) and ``items``.
    """

    name: str
    level: Level
    path: Path
    rank: int
    digest: str
    temperature: float = 1.0
    threshold: float | None = None
    precision: float | None = None
    validation: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Bundle:
    """A family ready to be served.

    Attributes:
        name: The bundle's name, usually that of its last model.
        root: The bundle's folder.
        base: The shared base.
        adapters: What grew from it, in order of level.
        heads: Models that read, over the same base.
        chat_template: The recipe's own template, which every prompt is rendered by; None: the
            base's.
        max_model_len: Prompt and answer together, in tokens.
        system: System text added where a request has none, or None.
        chat_template_kwargs: Passed to the chat template with every request.
        controls: How a caller's text is kept from speaking for the chat template.
        stop_token_ids: Token ids that end an answer, beside the base's own.
        gates: The gates' results, as the evaluation wrote them.
        ungated: True where somebody overrode the gates; shown to clients.
        dtype: Type of the weights inside the engine.
        stop: Texts that end an answer, beside a client's own.
        sampling: What an answer is drawn by where a client says nothing.
        engine: What vLLM is started with beside length, type and adapters.
        golden: golden.json belongs to it; False: there is none, and nobody can compare.
        lineage: What it was made of; None in bundles of older versions.
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
    heads: tuple[BundleHead, ...] = ()
    chat_template: Path | None = None
    stop: tuple[str, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    engine: EngineArguments = field(default_factory=EngineArguments)
    golden: bool = True
    lineage: LineageFile | None = None

    @property
    def gated(self) -> bool:
        """Whether every gate passed, there was one, and nobody overrode any."""
        return not self.ungated and unmet(self.gates) is None

    @property
    def models(self) -> tuple[BundleBase | BundleAdapter, ...]:
        """Base and adapters, which write, in the order they are listed to clients."""
        return (self.base, *self.adapters)

    @property
    def trained(self) -> tuple[BundleAdapter | BundleHead, ...]:
        """Adapters and heads: what has versions."""
        return (*self.adapters, *self.heads)


def unmet(gates: Sequence[Mapping[str, Any]]) -> str | None:
    """The first gate that did not pass, in words; None where all did and there was one."""
    if not gates:
        return "no gate was ever set"
    broken = (gate for gate in gates if gate.get("status") != "pass")
    return next((f"{gate.get('text')} ({gate.get('status')})" for gate in broken), None)


def validation_of(about: BundleAdapter | BundleHead) -> Mapping[str, Any] | None:
    """What a model that classifies answered on validation; None of one that does not."""
    if isinstance(about, BundleHead):
        return about.validation or {}
    return None if about.labels is None else about.labels.validation or {}


@refusing_broken
def read_bundle(path: Path) -> Bundle:
    """Read and check a bundle's folder.

    Args:
        path: The folder that holds ``bundle.json``.

    Returns:
        The bundle, every path absolute and inside its bounds.

    Raises:
        UserError: ``bundle.json`` is missing or does not make sense.
        ModelError: The base or an adapter is not what ``bundle.json`` says, or not safe.
        GateFailed: It says that its gates passed, and they did not.
    """
    root = Path(path).resolve()
    place = root / BUNDLE_FILE
    parsed = parse(place)
    names = [parsed.base.name]
    names += [adapter.name for adapter in parsed.adapters] + [head.name for head in parsed.heads]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{place}: the model name {name} stands twice; make each name unique")
    why = unmet(parsed.gates)
    if why is not None and not parsed.ungated:
        raise GateFailed(
            f"{place}: ungated: false, and its gates did not all pass: {why}; run its recipe, or "
            "have it made with --ungated"
        )
    base = _base(parsed.base, root, place)
    return Bundle(
        name=parsed.name,
        root=root,
        base=base,
        adapters=tuple(_adapter(adapter, root, place, base) for adapter in parsed.adapters),
        heads=tuple(_head(head, root, place, base) for head in parsed.heads),
        chat_template=_template(parsed, root, place),
        max_model_len=parsed.max_model_len,
        system=parsed.system,
        chat_template_kwargs=parsed.chat_template_kwargs,
        controls=parsed.controls,
        stop_token_ids=tuple(parsed.stop_token_ids),
        gates=tuple(parsed.gates),
        ungated=parsed.ungated,
        dtype=parsed.dtype,
        stop=tuple(parsed.stop),
        sampling=sampling_of(base.path) if parsed.sampling is None else parsed.sampling,
        engine=parsed.engine,
        golden=parsed.golden,
        lineage=parsed.lineage,
    )


def _base(base: BaseFile, root: Path, place: Path) -> BundleBase:
    folder = (root / base.path).resolve()
    if not (folder / "config.json").is_file():
        raise ModelError(f"{place}: base.path {folder} holds no config.json; run the recipe again")
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{place}: base.path {folder} holds no safetensors weights; run the recipe again"
        )
    return BundleBase(name=base.name, level=base.level, path=folder, digest=base.digest)


def _adapter(adapter: AdapterFile, root: Path, place: Path, base: BundleBase) -> BundleAdapter:
    return BundleAdapter(
        name=adapter.name,
        level=adapter.level,
        path=checked_folder(adapter, ADAPTER_FILES, root, place, base.path),
        rank=adapter.rank,
        digest=adapter.digest,
        temperatures=adapter.temperatures,
        labels=_labels(adapter),
    )


def _labels(adapter: AdapterFile) -> BundleLabels | None:
    told = adapter.labels
    if told is None:
        return None
    answers = {label: tuple(ids) for label, ids in told.answers.items()}
    return BundleLabels(**{**told.model_dump(), "opening": tuple(told.opening), "answers": answers})


def _head(head: HeadFile, root: Path, place: Path, base: BundleBase) -> BundleHead:
    folder = checked_folder(head, (*ADAPTER_FILES, *HEAD_FILES), root, place, base.path)
    return BundleHead(**{**head.model_dump(), "path": folder})


def _template(parsed: BundleFile, root: Path, place: Path) -> Path | None:
    if parsed.chat_template is None:
        return None
    file = root / parsed.chat_template
    if file.is_symlink() or not file.is_file():
        raise ModelError(f"{place}: chat_template: no file {file.name} here; run the recipe again")
    return file
