"""What would stop a run an hour in, found before anything is written: rows, labels, template.

Only what lies here is read: local files and generators. A hub data set is read when it is
fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core.errors import DataError, ModelError
from pipeline.core.stage import StageContext
from pipeline.core.store import Store
from pipeline.data.template import has_chat_template
from pipeline.plan import Node, Plan


def rehearse(plan: Plan, store: Store) -> None:
    """Reads the rows that missing `prepare` stages will read, and looks for chat templates.

    Raises:
        DataError, ModelError: one line that opens with the recipe's line where it has one.
    """
    from pipeline.stages.prepare import label_set, read_splits

    loaded = plan.recipe
    for node in plan.wanted(store):
        if node.stage != "prepare":
            continue
        try:
            if _is_local(node):
                files = StageContext(Path(), Path(), {}, node.files, lambda _event: None)
                label_set(read_splits({}, node.config, files))
            _require_template(node, plan, store)
        except (DataError, ModelError) as error:
            key = str(error).partition(":")[0]
            known = node.id.startswith(f"{loaded.recipe.name}/") and key in loaded.places
            place = f"{loaded.place(key)}: " if known else ""
            raise type(error)(f"{place}{error}") from None


def _is_local(node: Node) -> bool:
    """Whether no source of the node comes from a stage before it."""
    fetched = {role for role in node.inputs if role.startswith("train")}
    return not fetched and not {"validation", "test"} & set(node.inputs)


def _require_template(node: Node, plan: Plan, store: Store) -> None:
    chats = any(source["format"] == "messages" for source in _sources(node.config["sources"]))
    if "chat_template" in node.files or not (chats or node.config["render"] == "sft"):
        return
    root = plan.nodes[node.inputs["tokenizer"]]
    folder = root.files.get("folder")
    if folder is None and root.key is not None and store.get(root.key) is not None:
        folder = store.path_of(root.key)
    if folder is not None and not has_chat_template(folder):
        raise ModelError(
            f"base: {folder.name}: its tokenizer has no chat_template, which objective sft needs; "
            "set data.chat_template to a Jinja file or choose a base with one"
        )


def _sources(sources: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    flat: list[Mapping[str, Any]] = []
    for value in sources.values():
        flat += value if isinstance(value, list) else [value]
    return flat
