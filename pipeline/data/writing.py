"""Examples to files: each split's Arrow file, the texts that recipes above compare with."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.errors import DataError
from pipeline.data.arrow import Split, SplitWriter
from pipeline.data.examples import Example
from pipeline.data.funnel import Funnel
from pipeline.data.ledger import Ledger
from pipeline.data.packing import pack_stream, windows
from pipeline.data.rows import Row

_DECIMALS = 4


@dataclass
class Tally:
    """What was written of one split.

    Attributes:
        tokens, supervised: over its examples.
        lengths: examples by length: the upper end of a power of two to their number.
    """

    examples: int = 0
    tokens: int = 0
    supervised: int = 0
    lengths: Counter[int] = field(default_factory=Counter)

    def add(self, row: Row) -> None:
        """Counts one example."""
        rejected = row.get("rejected_ids")
        # Two answers to one prompt are two sequences.
        lengths = [len(row["input_ids"]), *([] if rejected is None else [len(rejected)])]
        length = max(lengths)
        self.examples += 1
        self.tokens += sum(lengths)
        for name in ("supervised", "rejected_supervised"):
            flags = row.get(name)
            self.supervised += int(np.sum(flags)) if flags is not None and len(flags) else 0
        self.lengths[1 << max(0, length - 1).bit_length()] += 1

    def to_json(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "examples": self.examples,
            "tokens": self.tokens,
            "supervised_tokens": self.supervised,
            "lengths": {str(end): n for end, n in sorted(self.lengths.items())},
        }


class Writing:
    """Writes the examples of all splits in one stream."""

    def __init__(self, out: Path, funnels: Mapping[str, Funnel], dropped: Ledger,
                 quarantine: Ledger) -> None:  # fmt: skip
        self._out, self._funnels = out, funnels
        self._dropped, self._quarantine = dropped, quarantine
        self.tallies: dict[str, Tally] = {}
        self.packing: dict[str, Any] | None = None
        # By split: what could not be rendered, and why.
        self.refused: dict[str, list[str]] = defaultdict(list)

    def write(
        self,
        batches: Iterable[list[Example]],
        *,
        pack_to: int | None = None,
        replay: Mapping[str, Any] | None = None,
        replayed: Path | None = None,
        max_length: int = 0,
    ) -> None:
        """Writes every example.

        Args:
            pack_to: rows of train share blocks of this many tokens; None: one row each.
            replay: ``share`` and ``seed`` of replayed rows; they come from ``replayed``.

        Raises:
            DataError: a split that ends without rows, or too few rows to replay.
        """
        with contextlib.ExitStack() as stack:
            writers: dict[str, SplitWriter] = {}

            def writer(name: str) -> SplitWriter:
                if name not in writers:
                    path = self._out / f"{name}.arrow"
                    writers[name] = stack.enter_context(SplitWriter(path))
                return writers[name]

            rows = self._train_rows(batches, writer)
            if replay is not None and replayed is not None:
                rows = self._with_replay(rows, replay, replayed, max_length)
            if pack_to is not None:
                rows = self._packed(rows, pack_to)
            for row in rows:
                writer("train").write([row])

    def _train_rows(self, batches: Iterable[list[Example]], writer: Any) -> Iterator[Row]:
        """Rows of train, one at a time; those of other splits are written on the way."""
        for batch in batches:
            for example in batch:
                split = example.split
                self._account(example)
                tally = self.tallies.setdefault(split, Tally())
                for row in example.rows:
                    tally.add(row)
                    if split == "train":
                        yield row
                if split != "train" and example.rows:
                    writer(split).write(example.rows)

    def _account(self, example: Example) -> None:
        funnel = self._funnels[example.split]
        if example.note is not None:
            funnel.details[example.note] += 1
        if example.lost is None:
            funnel.kept += 1
        else:
            funnel.lose(example.lost)
        if example.entry is None:
            return
        entry = {"split": example.split, **example.entry}
        if example.lost == "quarantined":
            self._quarantine.add(entry, example.split)
            self.refused[example.split].append(f"row {entry['id']}: {entry['reason']}")
            return
        self._dropped.add(entry, "over-length")
        if example.lost is None:
            funnel.details["cut or split: over-length"] += 1

    def _packed(self, rows: Iterable[Row], length: int) -> Iterator[Row]:
        blocks = tokens = 0
        for block in pack_stream(rows, length):
            blocks, tokens = blocks + 1, tokens + len(block["input_ids"])
            yield block
        if blocks:
            share = round(tokens / (blocks * length), _DECIMALS)
            self.packing = {"blocks": blocks, "length": length, "real_tokens": share}

    def _with_replay(
        self, rows: Iterable[Row], replay: Mapping[str, Any], folder: Path, max_length: int
    ) -> Iterator[Row]:
        """The rows, then seeded ones of another recipe until they hold the wished share."""
        own = 0
        for row in rows:
            own += len(row["input_ids"])
            yield row
        pool = Split(folder / "train.arrow")
        order = np.random.default_rng(replay["seed"]).permutation(len(pool))
        wanted = own * replay["share"] / (1 - replay["share"])
        tally = self.tallies.setdefault("replay", Tally())
        for index in order:
            if tally.tokens >= wanted:
                return
            for part in segments(pool[int(index)]):
                for window in windows(part, max_length):
                    row = {**window, "example_id": f"replay/{window['example_id']}"}
                    tally.add(row)
                    yield row
        if tally.tokens < wanted:
            raise DataError(
                f"data.replay: {tally.tokens} tokens are all there is, and share "
                f"{replay['share']} asks for {round(wanted)}; lower data.replay.share"
            )


def segments(row: Row) -> Iterator[Row]:
    """The rows that were packed into a block; a row by itself is its only one."""
    lengths = row.get("lengths")
    if not lengths:
        yield row
        return
    start, names = 0, row.get("members")
    for number, length in enumerate(lengths):
        part = slice(start, start + length)
        yield {
            **row,
            "example_id": names[number] if names else f"{row['example_id']}.{number}",
            "members": None,
            "input_ids": row["input_ids"][part],
            "supervised": row["supervised"][part],
            "lengths": None,
        }
        start += length
