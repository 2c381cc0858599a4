"""What a served model is asked of a recipe's suite: the test rows of a prepared Dataset.

They keep their ids, and the recipe's renderer tells the exact tokens of each question.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.arms.rendered import offered
from eval.endpoint.items import Asked, Item
from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError


def asked_of_dataset(
    dataset: Artifact,
    tokenizer: Path,
    *,
    suite: str,
    answer_after: str | None = None,
    max_new_tokens: int | None = None,
    train: Path | None = None,
) -> Asked:
    """The test rows of a prepared Dataset, with the ids that the recipe renders.

    Args:
        tokenizer: the folder whose tokenizer rendered it.
        answer_after, max_new_tokens: as the recipe's ``evaluate`` has them.
        train: the Dataset that the model was trained on, whose labels are offered and whose rows
            are the prior, as ``eval.arms.rendered.offered`` has it; None: this one.

    Raises:
        DataError: no test rows, rows that cannot be asked, or a conversation that the
            prepared rows do not keep.
    """
    from pipeline.data.arrow import read_rows
    from pipeline.data.rendering import renderer_of
    from pipeline.modeling.loading import load_tokenizer

    folder = dataset.path
    settings = _json(folder / "render.json")
    rows = read_rows(folder / "test.arrow")
    if not rows:
        raise DataError(f"suite {suite}: has no test rows; give data.test")
    if settings["render"] not in ("sft", "hybrid", "classify") or settings.get("multi_label"):
        raise DataError(
            f"suite {suite}: its rows are rendered for {settings['render']}, and an endpoint is "
            "asked for one answer in writing; name another suite"
        )
    renderer = renderer_of(folder, load_tokenizer(tokenizer), causal=True)
    items = tuple(_prepared_item(row, renderer, suite) for row in rows)
    if (dataset.manifest.config["sources"].get("test") or {}).get("prompt"):
        items = tuple(replace(item, text="") for item in items)
    labels = tuple(offered(_json(folder / "labels.json"), train)) or None
    return Asked(
        suite,
        dataset.digest,
        items,
        labels,
        template_kwargs=settings["chat_template_kwargs"],
        answer_after=answer_after,
        max_new_tokens=max_new_tokens,
        prior=_prior(train or folder),
        renderer=renderer,
    )


def _prepared_item(row: Mapping[str, Any], renderer: Any, suite: str) -> Item:
    messages = renderer.messages(row["text"])
    ids = list(row["input_ids"])
    ids = ids if row.get("prompt") is None else ids[: row["prompt"]]
    if renderer.prompt(messages) != ids:
        raise DataError(
            f"suite {suite}: row {row['example_id']}: the prepared rows do not keep its whole "
            "conversation; give the rows themselves: --data FILE"
        )
    name, group = row["example_id"], row["group"]
    return Item(name, row["label"], tuple(messages), row["text"], tuple(ids), group)


def _prior(folder: Path) -> dict[str, int] | None:
    from pipeline.data.arrow import Split

    counts: dict[str, int] = {}
    for row in Split(folder / "train.arrow"):
        if row["label"] is None:
            return None
        counts[row["label"]] = counts.get(row["label"], 0) + 1
    return counts or None


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
