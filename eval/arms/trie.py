"""The answers there are, as ids, with what they have in common written once.

An answer holds its end of turn, so ``card`` and ``card_arrival`` part at the end of ``card``:
one goes on, the other ends. L answers, N nodes, E edges.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.batching import check_length
from eval.generation import context_of
from eval.record import OUT_OF_SCOPE
from pipeline.core.errors import DataError

Answers = Mapping[str, Sequence[int]]
"""Label to the ids of its answer, end of turn included."""


@dataclass(frozen=True)
class Edge:
    """One token that may follow.

    Attributes:
        start: node after which it stands; 0 is the end of the prompt.
        token: its id.
    """

    start: int
    token: int


class Trie:
    """Nodes are beginnings that go on: the last token of an answer is an edge, never a node.

    Attributes:
        labels: in the order in which they were given.
        lengths: tokens of each label's answer, L.
        tokens: last token of each node but the prompt's end, N; parents before children.
        parents: of those nodes, where 0 is the prompt's end and n + 1 the node tokens[n].
        depths: tokens from the prompt's end to each of those nodes, from 1.
        edges: all tokens that may follow somewhere, E.
        paths: for each label the numbers of its edges.
    """

    def __init__(self, answers: Answers) -> None:
        """Takes at least one answer.

        Raises:
            DataError: no answers, or two that cannot be told apart by their ids.
        """
        if not answers:
            raise DataError("labels: there are none to choose from; give rows with labels")
        self.labels = tuple(answers)
        self.lengths = tuple(len(ids) for ids in answers.values())
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.depths: list[int] = []
        self.edges: list[Edge] = []
        self.paths: list[list[int]] = []
        self._ends: list[dict[int, str]] = [{}]
        self._inner: list[dict[int, int]] = [{}]
        self._numbers: dict[Edge, int] = {}
        for label, ids in answers.items():
            self._add(label, ids)

    def next_tokens(self, node: int) -> list[int]:
        """The ids that may follow a node."""
        return [*self._ends[node], *self._inner[node]]

    def after(self, node: int, token: int) -> int | str:
        """Where a token leads: the next node, or the label that it ends."""
        found = self._inner[node].get(token)
        return self._ends[node][token] if found is None else found

    def _add(self, label: str, ids: Sequence[int]) -> None:
        if not ids:
            raise DataError(f"labels: {label!r} has no tokens; give it another name")
        node, path = 0, []
        for token in ids[:-1]:
            self._refuse_opened(label, self._ends[node].get(token))
            path.append(self._edge(node, token))
            if token not in self._inner[node]:
                self._inner[node][token] = self._node(node, token)
            node = self._inner[node][token]
        last = ids[-1]
        self._refuse(label, self._ends[node].get(last))
        if last in self._inner[node]:
            self._refuse_opened("another label", label)
        self._ends[node][last] = label
        self.paths.append([*path, self._edge(node, last)])

    def _node(self, parent: int, token: int) -> int:
        self.tokens.append(token)
        self.parents.append(parent)
        self.depths.append(1 if parent == 0 else self.depths[parent - 1] + 1)
        self._ends.append({})
        self._inner.append({})
        return len(self.tokens)

    def _edge(self, node: int, token: int) -> int:
        edge = Edge(node, token)
        if edge not in self._numbers:
            self._numbers[edge] = len(self.edges)
            self.edges.append(edge)
        return self._numbers[edge]

    def _refuse_opened(self, label: str, shorter: str | None) -> None:
        if shorter is not None:
            raise DataError(
                f"labels: the ids of {shorter!r} open those of {label!r}, so one could not be told "
                "from the other; give answers with their end of turn"
            )

    def _refuse(self, label: str, other: str | None) -> None:
        if other is not None:
            raise DataError(
                f"labels: {label!r} and {other!r} have the same ids for this tokenizer and chat "
                "template, so no answer could tell them apart; rename one"
            )


def require_labels(labels: Sequence[str]) -> None:
    """Refuses what cannot be a set of answers.

    Raises:
        DataError: there are none, one is empty, or one stands twice.
    """
    if not labels:
        raise DataError("labels: there are none to choose from; give rows with labels")
    seen: set[str] = set()
    for label in labels:
        if not label.strip():
            raise DataError(f"labels: {label!r} is empty, so no answer would be it; name it")
        if label in seen:
            raise DataError(f"labels: {label!r} stands twice; name each label once")
        seen.add(label)


def require_askable(
    model: Any,
    rows: Sequence[Mapping[str, Any]],
    column: str,
    room: int,
    labels: Collection[str],
) -> None:
    """Refuses what the model could not be asked, before anything runs.

    Args:
        column: of the ids that a row brings.
        room: tokens that what is weighed or written takes beside them, at most.
        labels: that the model chooses from.

    Raises:
        DataError: a row has no ids or leaves no room, or no label could be its answer.
    """
    limit = context_of(model)
    for row in rows:
        check_length(row["example_id"], len(row[column]), limit, room)
        require_known(row, labels)


def require_known(row: Mapping[str, Any], labels: Collection[str]) -> None:
    """Refuses a row that no label of the model could answer, unless it says so itself.

    Raises:
        DataError: names the row and its label.
    """
    if row["label"] not in labels and row["label"] != OUT_OF_SCOPE:
        raise DataError(
            f"{row['example_id']}: its label {row['label']!r} is none of the {len(labels)} labels "
            "that the model chooses from; judge it on rows with the labels of its own data"
        )
