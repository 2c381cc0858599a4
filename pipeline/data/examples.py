"""Rows to training examples: ids and flags, windows, blocks, and an account of what did not fit."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.errors import DataError
from pipeline.data.arrow import read_rows
from pipeline.data.contamination import row_text
from pipeline.data.rendering import Rendered, Renderer
from pipeline.data.rows import Row


class Examples:
    """Renders split by split and keeps account of what did not fit."""

    def __init__(
        self,
        config: Mapping[str, Any],
        renderer: Renderer,
        dropped: list[dict[str, Any]],
        context: int | None,
    ) -> None:
        """Takes the settings of `prepare` and the base's context in tokens, if it has one."""
        self.config, self.renderer, self.dropped = config, renderer, dropped
        self._context = context
        self.counts: dict[str, int] = {}
        self.tokens: dict[str, int] = {}
        self.over_length = 0

    def render(self, name: str, rows: Sequence[Row]) -> list[Row]:
        """Rows of one split as ids; over-length ones as the recipe says, each listed."""
        done: list[Row] = []
        for row in rows:
            done += self._one(name, row)
        if self.config["packing"] and name != "test":
            done = pack(done, self.config["max_length"])
        if not done:
            raise DataError(f"data.{name}: no rows are left; see dropped.jsonl or max_length")
        self.tokens[name] = sum(len(row["input_ids"]) for row in done)
        return done

    def _one(self, name: str, row: Row) -> list[Row]:
        rendered, longest = self._ids(row), self.config["max_length"]
        whole = {
            "example_id": row["id"],
            "text": str(row.get("text") or row_text(row)),
            "label": _gold(row) if self.config["render"] != "text" else None,
            "input_ids": rendered.input_ids,
            "supervised": rendered.supervised,
        }
        if name == "test" and self.config["render"] != "text":
            self._require_context(row, len(rendered.input_ids))
        if len(rendered.input_ids) <= longest or self.config["packing"] or name == "test":
            return [whole]
        if self.config["render"] == "text":
            return windows(whole, longest)
        return self._too_long(name, row, whole, longest)

    def _require_context(self, row: Row, length: int) -> None:
        """A test row is never cut, so it has to fit; found here, not after the training."""
        if self._context is not None and length > self._context:
            raise DataError(
                f"data.test: row {row['id']} has {length} tokens, and the base's context is "
                f"{self._context}; shorten the row or choose a base with a longer context"
            )

    def _too_long(self, name: str, row: Row, whole: Row, longest: int) -> list[Row]:
        length = len(whole["input_ids"])
        policy = self.config["over_length"]
        if policy == "error":
            raise DataError(
                f"data.{name}: row {row['id']} has {length} tokens, train.max_length is {longest}; "
                "raise it, or set train.over_length: drop or truncate"
            )
        self.over_length += 1
        self.dropped.append({"split": name, "id": row["id"], "reason": f"over-length, {policy}",
                             "tokens": length})  # fmt: skip
        if policy == "drop":
            return []
        cut = {key: whole[key][:longest] for key in ("input_ids", "supervised")}
        if whole["supervised"] and not any(cut["supervised"]):
            raise DataError(
                f"data.{name}: row {row['id']} keeps no supervised token when cut to {longest}; "
                "set train.over_length: drop or raise train.max_length"
            )
        return [{**whole, **cut}]

    def _ids(self, row: Row) -> Rendered:
        render, renderer = self.config["render"], self.renderer
        if render == "classify" and ("label" not in row or "messages" in row):
            raise DataError(
                f"data: row {row['id']}: objective classify needs format classification"
            )
        if "messages" in row:
            messages = renderer.with_system(row["messages"])
            return renderer.conversation(messages, all_supervised=render == "text")
        if render == "text":
            return renderer.text(str(row["text"]))
        if render == "classify":
            return Rendered(renderer.question(str(row["text"])), [])
        user, answer = exchange(row)
        return renderer.conversation(renderer.messages(user, answer), all_supervised=False)

    def with_replay(self, rows: list[Row], folder: Path) -> list[Row]:
        """Adds seeded rows of another recipe until they hold the wished share of tokens."""
        replay = self.config["replay"]
        pool = read_rows(folder / "train.arrow")
        random.Random(replay["seed"]).shuffle(pool)
        own = sum(len(row["input_ids"]) for row in rows)
        wanted = own * replay["share"] / (1 - replay["share"])
        taken: list[Row] = []
        count = 0
        for row in pool:
            if count >= wanted:
                break
            taken += windows({**row, "example_id": f"replay/{row['example_id']}"},
                              self.config["max_length"])  # fmt: skip
            count += len(row["input_ids"])
        if count < wanted:
            raise DataError(
                f"data.replay: {count} tokens are all there is, and share {replay['share']} asks "
                f"for {round(wanted)}; lower data.replay.share"
            )
        self.counts["replay"] = len(taken)
        return rows + taken


def exchange(row: Row) -> tuple[str, str]:
    """(user's text, assistant's answer) of a row of any single-turn format."""
    if "label" in row:
        return str(row["text"]), str(row["label"])
    if "question" in row:
        context = row.get("context")
        return (f"{context}\n\n{row['question']}" if context else row["question"]), row["answer"]
    if "prompt" in row:
        return row["prompt"], row["completion"]
    raise DataError(f"data: row {row['id']}: format text has no answer; objective sft needs one")


def _gold(row: Row) -> str:
    """What is to be answered: the label, or the open answer."""
    return str(row["messages"][-1]["content"]) if "messages" in row else exchange(row)[1]


def windows(row: Row, longest: int) -> list[Row]:
    """Consecutive windows of a document; a single token left over would have no target."""
    ids, flags = row["input_ids"], row["supervised"]
    if len(ids) <= longest:
        return [row]
    return [
        {**row, "example_id": f"{row['example_id']}#{start}", "text": row["text"],
         "input_ids": ids[start : start + longest], "supervised": flags[start : start + longest]}
        for start in range(0, len(ids), longest)
        if len(ids) - start > 1
    ]  # fmt: skip


def pack(rows: Sequence[Row], length: int) -> list[Row]:
    """Documents joined in order into blocks of ``length`` tokens; the last may be shorter."""
    blocks: list[Row] = []
    ids: list[int] = []
    flags: list[int] = []
    for row in rows:
        ids, flags = ids + row["input_ids"], flags + row["supervised"]
        while len(ids) >= length:
            blocks.append(_block(len(blocks), ids[:length], flags[:length]))
            ids, flags = ids[length:], flags[length:]
    if len(ids) > 1:
        blocks.append(_block(len(blocks), ids, flags))
    return blocks


def _block(index: int, ids: list[int], flags: list[int]) -> Row:
    block: Row = {"example_id": f"block-{index}", "text": "", "label": None}
    return {**block, "input_ids": ids, "supervised": flags}
