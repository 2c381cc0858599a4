"""What makes a version the one it is: its weights, and all of its bundle that shapes an answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from serve.bundle import Bundle, BundleAdapter, BundleBase, BundleHead

# Of a bundle: where it lies, who else is in it, and what was found out about it. Whatever is not
# named here is of the identity, so that a setting which comes later cannot be forgotten.
_NO_SETTING = {"name", "root", "base", "adapters", "heads", "gates", "ungated", "chat_template"}
_NO_ANSWER = {"name", "level", "path", "precision", "validation"}


def identity_of(bundle: Bundle, about: BundleAdapter | BundleHead) -> str:
    """SHA-256 of an adapter or head with the settings that it answers by.

    Two versions of the same weights that open conversations with another text, or are unsure
    below another threshold, are two versions.
    """
    settings = {
        each.name: value
        for each in fields(bundle)
        if each.name not in _NO_SETTING and _says_something(value := getattr(bundle, each.name))
    }
    tree = {
        "kind": "head" if isinstance(about, BundleHead) else "adapter",
        "model": _answering(about),
        "base": bundle.base.digest,
        "template": None if bundle.chat_template is None else _text(bundle.chat_template),
        "settings": settings,
    }
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def version_of(bundle: Bundle, model: BundleBase | BundleAdapter | BundleHead) -> str:
    """The eight characters by which clients, logs and usage know what answered."""
    whole = model.digest if isinstance(model, BundleBase) else identity_of(bundle, model)
    return whole[:8]


def _answering(told: Any) -> dict[str, Any]:
    return {
        each.name: _answering(value) if is_dataclass(value) else value
        for each in fields(told)
        if each.name not in _NO_ANSWER and _says_something(value := getattr(told, each.name))
    }


def _says_something(value: Any) -> bool:
    """A setting that is not set leaves the identities of versions from before it was known."""
    return value is not None and value not in ((), [], {}, "")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} has no place in an identity")


def _text(template: Path) -> str:
    return template.read_text(encoding="utf-8")
