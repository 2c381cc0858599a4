"""What makes a version the one it is: its weights, and all of its bundle that shapes an answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from serve.bundle import Bundle, BundleAdapter, BundleBase, BundleHead

# Of a bundle: where it lies, who else is in it, and what is known about it. Whatever is not named
# here is of the identity, so that a setting which comes later cannot be forgotten. The template is
# a file: its text counts.
_NO_SETTING = {
    "name", "root", "base", "adapters", "heads", "chat_template", "gates", "ungated", "golden",
    "lineage",
}  # fmt: skip
_NO_ANSWER = {"name", "level", "path", "precision", "validation"}
# Of an engine's arguments: how much of a machine it takes, and how fast it is.
_NO_WORD = {
    "max_num_seqs", "max_num_batched_tokens", "gpu_memory_utilization", "tensor_parallel_size",
    "enable_prefix_caching",
}  # fmt: skip


def identity_of(bundle: Bundle, about: BundleAdapter | BundleHead) -> str:
    """SHA-256 of an adapter or head with the settings that it answers by.

    Two versions of the same weights that open conversations with another text, or are unsure
    below another threshold, are two versions.
    """
    tree = {
        "kind": "head" if isinstance(about, BundleHead) else "adapter",
        "model": _told(about, _NO_ANSWER),
        "base": bundle.base.digest,
        "template": None if bundle.chat_template is None else _text(bundle.chat_template),
        "settings": _told(bundle, _NO_SETTING),
    }
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def version_of(bundle: Bundle, model: BundleBase | BundleAdapter | BundleHead) -> str:
    """The eight characters by which clients, logs and usage know what answered."""
    whole = model.digest if isinstance(model, BundleBase) else identity_of(bundle, model)
    return whole[:8]


def _told(about: Any, without: set[str]) -> dict[str, Any]:
    """What is set: a setting that is not leaves the identities from before it was known."""
    told = {f.name: _plain(getattr(about, f.name)) for f in fields(about) if f.name not in without}
    return {name: value for name, value in told.items() if value not in (None, "", [], {})}


def _plain(value: Any) -> Any:
    """In words of JSON."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True, exclude=_NO_WORD)
    if is_dataclass(value):
        return _told(value, _NO_ANSWER)
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _text(template: Path) -> str:
    return template.read_text(encoding="utf-8")
