"""What would stop a run an hour in, found before anything is written: rows, labels, templates.

Small local files are read whole here. Large ones, and what is fetched, are read by `prepare`,
which comes before any training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.core.digest import files_below
from pipeline.core.errors import DataError, GradusError, ModelError
from pipeline.core.objectives import OBJECTIVES
from pipeline.core.recipe import LoadedRecipe
from pipeline.core.recipe_problems import said
from pipeline.core.store import Store
from pipeline.data.template import has_chat_template
from pipeline.plan import Node, Plan

_SMALL_BYTES = 8 << 20
_CHATS = {"messages", "sharegpt", "alpaca", "prompt_completion", "question_answer", "preference"}
_WRITTEN = {info.render: name for name, info in OBJECTIVES.items() if info.chats}


def rehearse(plan: Plan, store: Store) -> None:
    """Reads the small sources of missing `prepare` stages, and looks for chat templates.

    Raises:
        DataError, ModelError: one line that opens with the recipe's line where it has one.
    """
    # The recipe's own rows first: what is wrong with them is what its lines can mend.
    for node in sorted(plan.wanted(store), key=lambda node: "/suite." in node.id):
        if node.stage == "risks":
            from eval.risks.given import require_readable

            try:
                require_readable(node.files)
            except DataError as error:
                raise placed(error, plan.recipe, node.id) from None
        # A point of a learning curve reads the rows that the recipe's own `prepare` reads.
        if node.stage == "prepare" and "thin" not in node.config:
            try:
                if _is_small(node):
                    from pipeline.stages.prepare import rehearse_rows

                    rehearse_rows(node.config, node.files)
                _require_template(node, plan, store)
            except (DataError, ModelError) as error:
                raise placed(error, plan.recipe, node.id) from None


def _is_small(node: Node) -> bool:
    """Whether every source is a generator or a file of a few megabytes."""
    sources = _sources(node.config["sources"])
    if any("repo" in source or "url" in source or "made" in source for source in sources):
        return False
    files = [path for role, path in node.files.items() if role != "chat_template"]
    lying = [inner for path in files for inner in (files_below(path) if path.is_dir() else [path])]
    return sum(path.stat().st_size for path in lying) <= _SMALL_BYTES


def placed(error: GradusError, loaded: LoadedRecipe, node: str | None) -> GradusError:
    """The error with the recipe's line before it, where its text opens with a key.

    Args:
        node: the stage that failed; only the recipe's own stages speak of its own keys.
    """
    key = str(error).partition(":")[0]
    own = node is not None and node.startswith(f"{loaded.recipe.name}/")
    if not own or key not in loaded.places:
        return error
    return type(error)(said(loaded.place(key), str(error)))


def _require_template(node: Node, plan: Plan, store: Store) -> None:
    chats = any(source["format"] in _CHATS for source in _sources(node.config["sources"]))
    render = node.config["render"]
    # Entities stand at characters of a plain text: no template is read.
    if "chat_template" in node.files or render == "tag" or not (chats or render in _WRITTEN):
        return
    root = plan.nodes[node.inputs["tokenizer"]]
    folder = root.files.get("folder")
    if folder is None and root.key is not None and store.get(root.key) is not None:
        folder = store.path_of(root.key)
    if folder is not None and not has_chat_template(folder):
        raise ModelError(
            f"base: {folder.name}: its tokenizer has no chat_template, which objective "
            f"{_WRITTEN.get(render, 'sft')} needs; "
            "set data.chat_template to a Jinja file or choose a base with one"
        )


def _sources(sources: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    flat: list[Mapping[str, Any]] = []
    for value in sources.values():
        flat += value if isinstance(value, list) else [value]
    return flat
