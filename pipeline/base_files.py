"""Where a base's files lie while planning, and its config.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core.model_config import read_config, scratch_config
from pipeline.core.store import Store
from pipeline.plan import Node


def model_folder(node: Node, store: Store) -> Path | None:
    """Where the node's model lies, if it does."""
    made = store.get(node.key) if node.key is not None else None
    return node.files.get("folder") or (None if made is None else made.path)


def base_config(root: Node, nodes: Mapping[str, Node], store: Store) -> Mapping[str, Any] | None:
    """config.json of a root: its own, that of the root it is trained from, or the recipe's shape.

    Returns:
        None where the base is still to be fetched.

    Raises:
        ModelError: a file that cannot be read.
    """
    while True:
        folder = model_folder(root, store)
        if folder is not None and (folder / "config.json").is_file():
            return read_config(folder)
        if root.stage == "scratch":
            return scratch_config(root.config["shape"])
        if "root" not in root.inputs:
            return None
        root = nodes[root.inputs["root"]]
