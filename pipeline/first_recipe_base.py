"""What `gradus init` can say of a base without loading it: its kind, its length, its template."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pipeline.core.errors import UserError
from pipeline.core.model_config import model_kind
from pipeline.core.recipe import load_recipe, looks_like_hub_id
from pipeline.data.template import has_chat_template

# Models that read and do not write. A hub id is judged by its name: nothing is fetched here.
_ENCODERS = re.compile(r"bert|electra|mpnet|minilm|canine|\be5\b|\bbge\b|\bgte\b", re.I)
_ENCODER_LENGTH = 512
_CAUSAL_LENGTH = 2048


@dataclass(frozen=True)
class FirstBase:
    """A base as a first recipe sees it.

    Attributes:
        written: as the recipe names it.
        kind: ``causal`` writes, ``encoder`` only reads.
        limit: tokens it can hold.
        template: False where its tokenizer is known to have no chat template.
        names: names of the recipes below, which a new one must not take.
    """

    written: str
    kind: Literal["causal", "encoder"]
    limit: int
    template: bool = True
    names: frozenset[str] = frozenset()


def look_at_base(base: str, folder: Path) -> FirstBase:
    """Looks at a recipe, a model folder or a hub id.

    Args:
        base: as the user named it, relative to the working folder.
        folder: where the new recipe will lie.

    Raises:
        UserError: it is none of the three, or cannot be read.
    """
    target = Path(base).expanduser()
    if base.endswith((".yaml", ".yml")):
        if not target.is_file():
            raise UserError(f"--base {base}: no such recipe; check the path")
        return replace(_below_recipe(target.resolve()), written=_relative(target, folder))
    if target.is_dir():
        return replace(_folder(target), written=_relative(target, folder))
    if looks_like_hub_id(base):
        if _ENCODERS.search(base):
            return FirstBase(base, "encoder", _ENCODER_LENGTH)
        return FirstBase(base, "causal", _CAUSAL_LENGTH)
    raise UserError(
        f"--base {base}: no recipe, no folder and no hub id (owner/name); check the path"
    )


def _below_recipe(path: Path) -> FirstBase:
    """Follows a recipe down to the model that its family stands on."""
    names: set[str] = set()
    while True:
        loaded = load_recipe(path)
        recipe = loaded.recipe
        if recipe.name in names:
            raise loaded.error("base", "the bases make a circle; remove one link")
        names.add(recipe.name)
        if recipe.scratch is not None:
            limit = recipe.scratch.max_position_embeddings
            return FirstBase("", "causal", limit, True, frozenset(names))
        base = recipe.base or ""
        local = loaded.local(base)
        if not base.endswith((".yaml", ".yml")):
            found = look_at_base(str(local) if local.is_dir() else base, path.parent)
            return replace(found, names=frozenset(names))
        path = local


def _folder(folder: Path) -> FirstBase:
    try:
        text = (folder / "config.json").read_text(encoding="utf-8")
        config: dict[str, Any] = json.loads(text)
        limit = int(config.get("max_position_embeddings") or _CAUSAL_LENGTH)
        kind = model_kind(config)
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"--base {folder}: config.json cannot be read ({reason}); name a model folder"
        ) from None
    if kind == "encoder":
        # RoBERTa's positions start behind its padding id: two fewer than it says.
        return FirstBase("", "encoder", limit - 2, has_chat_template(folder))
    return FirstBase("", "causal", limit, has_chat_template(folder))


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder)).as_posix()
