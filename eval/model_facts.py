"""What a model is, read from the manifests of its training and of all below it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.risks.origins import TRAINS, licence_of_card, made_of, trained_on
from pipeline.core.artifact import Artifact
from pipeline.core.model_config import model_kind
from pipeline.data.rendering.kept import own_template
from pipeline.data.template import has_chat_template

_SETTINGS = (
    "method", "lora_r", "learning_rate", "num_train_epochs", "max_steps", "global_batch_size",
    "max_length", "precision",
)  # fmt: skip


def model_facts(trained: Sequence[Artifact]) -> dict[str, Any]:
    """Base, architecture, size and training of a recipe's own models.

    What no manifest says is None: a card or a page then says that it is not known.

    Args:
        trained: what the recipe trained, one for each objective and seed, the first one first.

    Returns:
        ``base`` (hub id, folder's name, or the recipe that made it from nothing), ``base_kind``
        (``hub``, ``folder``, ``scratch``), ``revision``, ``base_licence``, ``architecture``,
        ``causal`` (whether the base writes), ``over_base`` (whether it was trained over the base
        itself, not over weights made of it), ``chat`` (its tokenizer has a chat template),
        ``own_template`` (the recipe has one), ``system``, ``chat_template_kwargs``, ``heads``
        (objective to kind, pooling and features of its head), ``parameters``,
        ``trainable_parameters``, ``objectives``, ``training`` (settings), ``seeds``, ``below``
        (recipes that were trained before, from the base up), ``languages`` (that rows were kept
        in; None: no row was left out for its language) and ``sources`` (of every training row,
        those of the recipes below included); {} where
        nothing was trained.
    """
    if not trained:
        return {}
    first = trained[0]
    family = made_of([first])
    config = first.manifest.config
    own = _recipe(first)
    trainings = [artifact for artifact in family if artifact.manifest.stage in TRAINS]
    # Whatever stands on another is made of more.
    trainings.sort(key=lambda artifact: len(made_of([artifact])))
    below = [_recipe(artifact) for artifact in trainings if _recipe(artifact) != own]
    data = trained_on(family)
    return {
        **_base(family),
        **_asking(first, {artifact.key: artifact for artifact in family}),
        "heads": {
            a.manifest.config["objective"]: _head(a.path / "head.json")
            for a in reversed(trained)
            if (a.path / "head.json").is_file()
        },
        "parameters": first.manifest.facts.get("all_parameters"),
        "trainable_parameters": first.manifest.facts.get("trainable_parameters"),
        "objectives": list(dict.fromkeys(a.manifest.config["objective"] for a in trained)),
        "training": {name: config[name] for name in _SETTINGS if config.get(name) is not None},
        "seeds": sorted({a.manifest.config["seed"] for a in trained}),
        "below": list(dict.fromkeys(below)),
        "languages": _languages(data),
        "sources": [
            {**source, "for": _recipe(artifact)}
            for artifact in data
            for source in artifact.manifest.facts.get("sources", ())
            if source.get("split") == "train"
        ],
    }


def _recipe(artifact: Artifact) -> str:
    return str(artifact.manifest.run["node"]).partition("/")[0]


def _base(family: Sequence[Artifact]) -> dict[str, Any]:
    """The family's L0: fetched, or made from nothing."""
    found: dict[str, Any] = dict.fromkeys(
        ("base", "base_kind", "revision", "base_licence", "architecture")
    )
    for artifact in family:
        stage, path = artifact.manifest.stage, artifact.path
        if stage not in ("fetch", "scratch"):
            continue
        found["architecture"] = _architecture(path / "config.json")
        if stage == "scratch":
            return {**found, "base": _recipe(artifact), "base_kind": "scratch"}
        origin = str(artifact.manifest.facts.get("origin", ""))
        name, at, revision = origin.rpartition("@")
        card = path / "README.md"
        return {
            **found,
            "base": name if at else origin or None,
            "base_kind": "hub" if at else "folder",
            "revision": revision if at else None,
            "base_licence": licence_of_card(card.read_text("utf-8")) if card.is_file() else None,
        }
    return found


def _asking(trained: Artifact, family: Mapping[str, Artifact]) -> dict[str, Any]:
    """What must be known to load it and to ask it as its rows were rendered."""
    refs = trained.manifest.inputs
    root = family.get(refs["root"]["key"]) if "root" in refs else None
    data = family.get(refs["data"]["key"]) if "data" in refs else None
    config = None if root is None else _json(root.path / "config.json")
    rendering = {} if data is None else data.manifest.config
    return {
        "causal": (model_kind(config) if config else None) != "encoder",
        "over_base": root is not None and root.manifest.stage == "fetch",
        "chat": root is not None and has_chat_template(root.path),
        "own_template": data is not None and own_template(data.path) is not None,
        "system": rendering.get("system"),
        "chat_template_kwargs": dict(rendering.get("chat_template_kwargs") or {}),
    }


def _head(file: Path) -> dict[str, Any]:
    tree = _json(file) or {}
    return {
        "kind": tree.get("kind"),
        "pooling": tree.get("pooling"),
        "features": bool(tree.get("features")),
    }


def _json(file: Path) -> dict[str, Any] | None:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def _architecture(config: Path) -> str | None:
    tree = _json(config)
    if tree is None:
        return None
    named = next(iter(tree.get("architectures") or ()), tree.get("model_type"))
    return None if named is None else str(named)


def _languages(data: Sequence[Artifact]) -> list[str] | None:
    """Languages that the last training's rows were kept in."""
    for artifact in data[:1]:
        cleaning = artifact.manifest.config.get("clean") or {}
        kept = (cleaning.get("language") or {}).get("keep")
        return list(kept) if kept else None
    return None
