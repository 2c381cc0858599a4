"""The closed table of public names, and what stands behind each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pipeline.core.controls import Controls
from pipeline.core.errors import ModelError
from serve.bundle import Bundle, BundleAdapter, BundleBase, BundleHead
from serve.gateway.classify import Reading
from serve.gateway.defaults import Defaults
from serve.gateway.label_scores import LabelScores
from serve.gateway.upstreams import UpstreamGroup
from serve.heads import Head, read_head
from serve.identity import version_of

Rewrite = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Rendering:
    """What the bundle adds to a client's conversation.

    Attributes:
        system: the text that opens one which has none.
        controls: how a client's text is kept from speaking for the chat template.
        template_kwargs: passed to the chat template.
        defaults: what is added to a request where its client said nothing.
        rewrite: the request in the engine's words; raises serve.engine.Unsupported.
    """

    system: str | None = None
    controls: Controls = field(default_factory=Controls)
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    defaults: Defaults = field(default_factory=Defaults)
    rewrite: Rewrite = lambda body: body


@dataclass(eq=False)
class Use:
    """Calls under way of one version: what is used is not taken out of its engine.

    Attributes:
        count: of calls.
    """

    count: int = 0


@dataclass(frozen=True)
class Route:
    """One public name.

    Attributes:
        name: as clients write it.
        version: eight characters of its identity, of the base of its digest.
        card: its entry in /v1/models.
        group: the replicas that serve it.
        served: the engine's name for it.
        echo: how the engine spells it in an answer's ``model``.
        rendering: what is added to a request.
        head: of a model that reads; None: it writes.
        scores: of a model that writes one of its labels: how likely each is.
        reading: how the engine is asked for a head's states, or for a prompt's ids.
        writes_more: the engine takes more than chat (completions, responses, embeddings).
        use: of the version, under all of its names.
        counted_as: under which name its labels are counted, where that is not its own: of a
            version on trial, whose answers say nothing of the live one's drift.
    """

    name: str
    version: str
    card: Mapping[str, Any]
    group: UpstreamGroup
    served: str
    echo: str
    rendering: Rendering = field(default_factory=Rendering)
    head: Head | None = None
    scores: LabelScores | None = None
    reading: Reading | None = None
    writes_more: bool = True
    use: Use = field(default_factory=Use)
    counted_as: str | None = None


class Directory(Protocol):
    """Who is behind a name."""

    def find(self, name: str, caller: str) -> Route | None:
        """The route of a public name for a caller (a key's id, or an address)."""
        ...

    def cards(self) -> Sequence[Mapping[str, Any]]:
        """Entries of /v1/models."""
        ...

    def groups(self) -> Sequence[UpstreamGroup]:
        """All that is asked, each once."""
        ...


class Table:
    """A fixed directory."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = {route.name: route for route in routes}

    def find(self, name: str, caller: str) -> Route | None:
        """See ``Directory``."""
        return self._routes.get(name)

    def cards(self) -> Sequence[Mapping[str, Any]]:
        """See ``Directory``."""
        return [route.card for route in self._routes.values()]

    def groups(self) -> Sequence[UpstreamGroup]:
        """See ``Directory``."""
        return list({id(r.group): r.group for r in self._routes.values()}.values())


class Speaks(Protocol):
    """What is asked of the engine that serves a bundle."""

    @property
    def name(self) -> str: ...

    @property
    def models(self) -> Mapping[str, str]: ...

    @property
    def echoes(self) -> Mapping[str, str]: ...

    def request(self, body: dict[str, Any]) -> dict[str, Any]: ...


def table_of(
    bundle: Bundle,
    engine: Speaks,
    group: UpstreamGroup,
    pools: Mapping[str, UpstreamGroup] | None = None,
) -> Table:
    """The routes of a bundle: the base, adapters and heads.

    Args:
        engine: whose words and names count.
        group: the replicas of the engine that writes.
        pools: way of pooling to the replicas that pool so; a head without one is not listed.
    """
    routes = [
        chat_route(bundle, model, engine, group, engine.models[model.name])
        for model in bundle.models
    ]
    for about in bundle.heads:
        head = read_head(about)
        pool = (pools or {}).get(head.pooling)
        if pool is not None:
            routes.append(head_route(bundle, about, head, pool, about.name))
    return Table(routes)


def chat_route(
    bundle: Bundle,
    model: BundleBase | BundleAdapter,
    engine: Speaks,
    group: UpstreamGroup,
    served: str,
) -> Route:
    """The route of a model that writes.

    Args:
        bundle: its own, whose settings are added to a request.
        served: the engine's name for it.
    """
    rendering = Rendering(
        bundle.system,
        bundle.controls,
        bundle.chat_template_kwargs,
        Defaults.of(bundle),
        engine.request,
    )
    labels = model.labels if isinstance(model, BundleAdapter) else None
    return Route(
        model.name,
        version_of(bundle, model),
        card_of(bundle, model, "chat"),
        group,
        served,
        engine.echoes.get(served, served),
        rendering,
        scores=None if labels is None or engine.name != "vllm" else LabelScores(labels),
        reading=_reading(bundle, served),
        writes_more=engine.name == "vllm",
    )


def head_route(
    bundle: Bundle, about: BundleHead, head: Head, group: UpstreamGroup, served: str
) -> Route:
    """The route of a model that reads; arguments as of ``chat_route``."""
    card = card_of(bundle, about, "classify")
    return Route(
        about.name, version_of(bundle, about), card, group, served, served, head=head,
        reading=_reading(bundle, served),
    )  # fmt: skip


def _reading(bundle: Bundle, served: str) -> Reading:
    return Reading(
        served, renders(bundle), bundle.system, bundle.controls, bundle.chat_template_kwargs
    )


def renders(bundle: Bundle) -> bool:
    """Whether prompts go through a chat template."""
    base = bundle.base.path
    told = base / "tokenizer_config.json"
    return (
        bundle.chat_template is not None
        or (base / "chat_template.jinja").is_file()
        or (told.is_file() and "chat_template" in _json(told))
    )


def _json(place: Path) -> Mapping[str, Any]:
    import json

    try:
        tree: Any = json.loads(place.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{place}: torn, or no JSON ({error}); run the recipe again") from None
    if not isinstance(tree, dict):
        raise ModelError(f"{place}: holds no object; run the recipe again")
    return tree


def card_of(bundle: Bundle, model: Any, task: str) -> dict[str, Any]:
    """One entry of /v1/models."""
    card: dict[str, Any] = {
        "id": model.name,
        "object": "model",
        "created": int((bundle.root / "bundle.json").stat().st_mtime),
        "owned_by": "gradus",
        # As vLLM has it: a client can tell that an adapter answers.
        "parent": None if isinstance(model, BundleBase) else bundle.base.name,
        "metadata": {
            "level": model.level,
            "base": None if isinstance(model, BundleBase) else bundle.base.name,
            "version": version_of(bundle, model),
            "bundle": bundle.name,
            "ungated": bundle.ungated,
            "task": task,
        },
    }
    sure = model if isinstance(model, BundleHead) else getattr(model, "labels", None)
    if sure is not None:
        # It answers POST /v1/classify, by a head or by how likely it would write each label.
        sureness = {"threshold": sure.threshold, "precision": sure.precision}
        card["metadata"] |= {"classifies": True, **sureness}
    return card
