"""Which rows of a prepared Dataset are golden, and the proof that evaluation renders them alike.

Training is the witness: a prompt's ids are those that stand in the Dataset.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pipeline.core.artifact import Artifact
from pipeline.core.errors import GradusError, IntegrityError, ModelError
from pipeline.core.token_table import side_by_side
from pipeline.data.arrow import Split
from pipeline.data.rows import Row, RowProblem

CONVERSATIONS = 16
TARGET = 16
_SPLITS = ("validation", "test", "train")
# Rows of a split that are looked at: the first ones of a large one are as good as any.
_LOOKED_AT = 2048
# Answers of a split whose end is looked at: one recipe renders all of them.
_ENDS_SEEN = 64
# Longer prompts show nothing more of a template, and cost every start of an engine.
_PROMPT = 384
# Of a document that stands by itself: enough to read, and the rest is the target.
_OPENING = 64
_CUTS = 8
_ASKED = ("sft", "preference", "hybrid", "channel")
_READ = ("classify", "regress")
# Formats whose rows are one text: rendering that text has to give the row's ids.
_OF_ONE_TEXT = frozenset({"classification", "regression", "text"})
# Rows of a recipe below, which rendered them.
_REPLAYED = "replay/"
_GAP = re.compile(r"(?<=\S)\s")


@dataclass(frozen=True)
class GoldenRow:
    """A prompt, and what follows it; ``target`` is empty where the row holds no answer."""

    name: str
    witness: str
    messages: tuple[Mapping[str, Any], ...] | None
    text: str | None
    ids: tuple[int, ...]
    target: tuple[int, ...] = ()


def golden_rows(
    data: Artifact, renderer: Any, ends: Sequence[int], max_model_len: int
) -> list[GoldenRow]:
    """At most CONVERSATIONS rows: validation first, then test and train, over lengths and labels.

    Args:
        renderer: the one of the Dataset (``renderer_of``).
        ends: ids at which an answer ends.
        max_model_len: tokens of a prompt and its answer together.

    Raises:
        IntegrityError: evaluation makes other ids of a row than training read; shows both.
    """
    reader = _Reader(data, renderer, frozenset(ends), min(_PROMPT, max_model_len - 2 * TARGET))
    found: list[GoldenRow] = []
    for split in _SPLITS:
        found += reader.chosen(split, CONVERSATIONS - len(found))
    return found


class _Reader:
    def __init__(self, data: Artifact, renderer: Any, ends: frozenset[int], longest: int) -> None:
        config = data.manifest.config
        self._data, self._renderer, self._ends, self._longest = data, renderer, ends, longest
        self._render: str = config["render"]
        self._sources: Mapping[str, Any] = config["sources"]
        self._cut_at = int(config["max_length"])

    def chosen(self, split: str, count: int) -> list[GoldenRow]:
        rows = Split(self._data.path / f"{split}.arrow")
        looked_at = (rows[index] for index in range(min(_LOOKED_AT, len(rows))))
        usable = [row for row in looked_at if self._asked(row) is not None]
        if not self._strict(split):
            # Of a conversation the Dataset keeps the user's texts alone: some cannot be made again.
            usable = [row for row in usable if self._golden(row, strict=False) is not None]
        made = (self._golden(row, strict=True) for row in spread(usable, count))
        return [row for row in made if row is not None]

    def _strict(self, split: str) -> bool:
        """Whether every row of the split is one text."""
        given = self._sources.get(split) or self._sources.get("train") or []
        sources = given if isinstance(given, list) else [given]
        return all(
            source["format"] in _OF_ONE_TEXT and "messages" not in (source.get("columns") or {})
            for source in sources
        )

    def _asked(self, row: Row) -> tuple[int, tuple[int, ...]] | None:
        """How many ids of a row are its prompt, and the ids after it; None: no use."""
        ids, place = row["input_ids"], row.get("prompt")
        if row.get("members") or row["example_id"].startswith(_REPLAYED):
            return None
        if not (row["label"] if self._render == "channel" else row["text"]):
            return None
        if self._render in _ASKED:
            if place is None or not 0 < place <= self._longest:
                return None
            return place, self._answer(ids[place:])
        if self._render in _READ:
            # A row that fills the length may have been cut.
            whole = len(ids) <= self._longest and len(ids) != self._cut_at
            return (len(ids), ()) if whole else None
        return (0, ()) if self._render == "text" and len(ids) > 1 else None

    def _answer(self, ids: Sequence[int]) -> tuple[int, ...]:
        """Up to what ends it."""
        end = next((place for place, token in enumerate(ids) if token in self._ends), len(ids))
        return tuple(ids[: min(end + 1, TARGET)])

    def _golden(self, row: Row, *, strict: bool) -> GoldenRow | None:
        asked = self._asked(row)
        if asked is None:
            return None
        if self._render == "text":
            return self._document(row, strict=strict)
        count, target = asked
        said = row["label"] if self._render == "channel" else row["text"]
        stored = row["input_ids"][:count]
        spoken = self._renderer.tokenizer.chat_template is not None
        made = self._made(row, said)
        if made != stored:
            if strict:
                raise self._apart(row["example_id"], stored, made)
            return None
        messages = ({"role": "user", "content": said},) if spoken else None
        text = None if spoken else said
        return GoldenRow(row["example_id"], "training", messages, text, tuple(stored), target)

    def _made(self, row: Row, said: str) -> list[int]:
        try:
            if self._renderer.tokenizer.chat_template is None:
                return list(self._renderer.question(said))
            return list(self._renderer.prompt(self._renderer.messages(said)))
        except RowProblem as problem:
            raise IntegrityError(
                f"golden: row {row['example_id']}: training rendered it, and now it cannot be "
                f"({problem}); prepare the data again"
            ) from None

    def _document(self, row: Row, *, strict: bool) -> GoldenRow | None:
        """The opening of a document as prompt: its ids must open the row's."""
        text, stored = row["text"], row["input_ids"]
        whole = self._renderer.text(text).input_ids
        if whole != stored:
            if strict:
                raise self._apart(row["example_id"], stored, whole)
            return None
        eos = self._renderer.tokenizer.eos_token_id
        wanted = min(_OPENING, len(stored) // 2, self._longest)
        near = round(wanted * len(text) / len(stored))
        gaps = [gap.start() for gap in _GAP.finditer(text[: near + 1])]
        for place in reversed(gaps[-_CUTS:]):
            ids = self._renderer.text(text[:place]).input_ids
            ids = ids[:-1] if ids and ids[-1] == eos else ids
            if 0 < len(ids) <= self._longest and stored[: len(ids)] == ids:
                target = self._answer(stored[len(ids) :])
                name = row["example_id"]
                return GoldenRow(name, "training", None, text[:place], tuple(ids), target)
        return None

    def _apart(self, name: str, stored: Sequence[int], made: Sequence[int]) -> IntegrityError:
        tokens = self._renderer.tokenizer.convert_ids_to_tokens
        table = side_by_side(
            list(stored), tokens(list(stored)), list(made), tokens(list(made)), "evaluation"
        )
        return IntegrityError(
            f"golden: row {name}: evaluation renders other ids than training read; prepare the "
            f"data again\n{table}"
        )


def spread(rows: Sequence[Row], count: int) -> list[Row]:
    """``count`` rows over all labels and, within them, from the shortest to the longest."""
    count = min(count, len(rows))
    by_label: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (len(row["input_ids"]), row["example_id"])):
        by_label.setdefault(_label(row), []).append(row)
    groups = [by_label[label] for label in sorted(by_label)]
    found: list[Row] = []
    for pick in range(count):
        # With more labels than picks those that are taken lie evenly among them.
        place = pick % len(groups) if len(groups) <= count else pick * len(groups) // count
        while not groups[place]:
            place = (place + 1) % len(groups)
        group = groups[place]
        share = pick / max(1, count - 1)
        found.append(group.pop(round(share * (len(group) - 1))))
    return found


def _label(row: Row) -> str:
    several = row.get("labels")
    return "\n".join(several) if several else str(row.get("label") or "")


def probes(renderer: Any) -> Iterator[GoldenRow]:
    """Conversations that no row needs to hold: a text that attacks the template, several turns.

    Args:
        renderer: with the bundle's own system text and template arguments.
    """
    if renderer.tokenizer.chat_template is None:
        return
    attack = " ".join(["Hello", *renderer.controls.always[:8], "and goodbye"])
    turns = [("user", "Hello, who are you?"), ("assistant", "I am here."), ("user", " And\nnow? ")]
    told: dict[str, list[dict[str, Any]]] = {
        "control tokens in a text": [{"role": "user", "content": attack}],
        "several turns": [{"role": role, "content": content} for role, content in turns],
    }
    for name, messages in told.items():
        try:
            ids = renderer.prompt(messages)
        except (RowProblem, GradusError):
            # A template may know one turn only; clients are then refused by it too.
            continue
        yield GoldenRow(name, "renderer", tuple(messages), None, tuple(ids))


def require_end(data: Artifact, ends: Sequence[int], tokenizer: Any) -> None:
    """Refuses answers that were learned with an end at which nothing stops.

    Raises:
        ModelError: names the token that ends them.
    """
    for split in _SPLITS:
        for row in islice(Split(data.path / f"{split}.arrow"), _ENDS_SEEN):
            learned = [
                t for t, on in zip(row["input_ids"], row["supervised"] or (), strict=False) if on
            ]
            if row.get("prompt") is None or not learned or {*learned} & {*ends}:
                continue
            # A template may learn a line break after what ends the turn.
            added = tokenizer.added_tokens_decoder
            end = next((token for token in reversed(learned) if token in added), learned[-1])
            token = tokenizer.convert_ids_to_tokens([end])[0]
            raise ModelError(
                f"golden: row {row['example_id']}: its answer was learned to end with {token!r} "
                f"(id {end}), and the base stops at {ends}: what is served would never "
                "stop; add that id to serve.stop_token_ids, or to eos_token_id in the base's "
                "generation_config.json"
            )
