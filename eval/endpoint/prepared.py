"""What a served model is asked of a recipe's suite: the test rows of a prepared Dataset.

They keep their ids, and the recipe's renderer tells the exact tokens of each question.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.arms.rendered import answers_of, label_counts, offered, prompts_of, turn_of
from eval.endpoint.items import Asked, Item
from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError
from pipeline.modeling.endings import ends_in

WRITTEN = ("sft", "hybrid", "classify")
"""Renders of rows that are asked for their answer."""


def asked_of_dataset(
    dataset: Artifact,
    tokenizer: Path,
    *,
    suite: str,
    answer_after: str | None = None,
    max_new_tokens: int | None = None,
    train: Path | None = None,
    counted: Path | None = None,
) -> Asked:
    """The test rows of a prepared Dataset, with the ids that the recipe renders.

    Args:
        tokenizer: the folder whose tokenizer rendered it.
        answer_after, max_new_tokens: as the recipe's ``evaluate`` has them.
        train: the Dataset that the model was trained on, whose labels are offered as
            ``eval.arms.rendered.offered`` has it; None: this one.
        counted: the Dataset whose training rows are the prior; None: nobody asks for it.

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
    channel = settings["render"] == "channel"
    if not (channel or settings["render"] in WRITTEN) or settings.get("multi_label"):
        raise DataError(
            f"suite {suite}: its rows are rendered for {settings['render']}, and an endpoint is "
            "asked for one answer in writing; name another suite"
        )
    loaded = load_tokenizer(tokenizer)
    renderer = renderer_of(folder, loaded, causal=True)
    if channel:
        items = tuple(_told_item(row) for row in rows)
    else:
        items = tuple(_prepared_item(row, renderer, suite) for row in rows)
    # What a channel was told to write it is asked for, a prompt around it too.
    if not channel and (dataset.manifest.config["sources"].get("test") or {}).get("prompt"):
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
        prior=None if counted is None else _prior(counted, loaded, ends_in(tokenizer, loaded)),
        renderer=renderer,
        channel=channel,
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


def _told_item(row: Mapping[str, Any]) -> Item:
    """A row of a channel: its label is asked, and its text is weighed."""
    return Item(row["example_id"], row["label"], (), row["text"], group=row["group"])


def _prior(folder: Path, tokenizer: Any, stop_ids: Sequence[int]) -> dict[str, int] | None:
    """Label to its rows in train, as the joint arm of a local model counts them.

    Rows that share a block have no label beside them: their ids tell it. Replayed rows have
    none of these labels.
    """
    from pipeline.data.rendering import renderer_of

    labels = _json(folder / "labels.json")
    if not labels or not (folder / "train.arrow").is_file():
        return None
    renderer = renderer_of(folder, tokenizer, causal=True)
    if _json(folder / "render.json")["render"] == "channel":
        counts = label_counts(folder, prompts_of(renderer, labels, stop_ids))
    else:
        counts = _answered_counts(folder, answers_of(renderer, labels, stop_ids), stop_ids)
    return counts if any(counts.values()) else None


def _answered_counts(
    folder: Path, answers: Mapping[str, Sequence[int]], stop_ids: Sequence[int]
) -> dict[str, int]:
    """Rows of train by label, of rows that are answered with it or have it beside them."""
    from pipeline.data.arrow import Split
    from pipeline.data.writing import segments

    owner = {tuple(ids): label for label, ids in answers.items()}
    counts = dict.fromkeys(answers, 0)
    for block in Split(folder / "train.arrow"):
        alone = block["members"] is None
        for row in segments(block):
            label = row["label"] if alone else owner.get(turn_of(row, stop_ids).answer)
            if label in counts:
                counts[label] += 1
    return counts


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
