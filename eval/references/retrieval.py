"""Passages for a question: BM25 (Robertson and Zaragoza 2009) in Lucene's variant, by bm25s.

A term's weight is ln(1 + (N - n + 0.5) / (n + 0.5)) times f / (f + k1 (1 - b + b length / mean
length)): n of N passages hold it, f times in this one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from eval.references.task import Task, unspaced
from pipeline.core.errors import DataError

K1, B = 1.5, 0.75
# bm25s takes no passage without a term.
_NO_TERM = ""
_WORD = re.compile(r"\w+")
_LINE_BREAK = re.compile(r"\n\s*\n")


class Passages:
    """Passages by how well they fit a question."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Indexes the passages.

        Raises:
            DataError: none of them holds a word.
        """
        import bm25s

        self.texts = list(texts)
        self.characters = unspaced(self.texts)
        terms = [self._terms(text) or [_NO_TERM] for text in self.texts]
        if all(found == [_NO_TERM] for found in terms):
            raise DataError("reference retrieved: no passage holds a word; look at the corpus")
        self._index = bm25s.BM25(method="lucene", k1=K1, b=B)
        self._index.index(terms, show_progress=False)

    def scores(self, question: str) -> np.ndarray:
        """BM25 of every passage, in their order; 0 where it shares no term with the question."""
        known = self._index.vocab_dict
        terms = [term for term in self._terms(question) if term in known]
        if not terms:
            return np.zeros(len(self.texts), dtype=np.float32)
        return np.asarray(self._index.get_scores(terms))

    def best(self, question: str, count: int) -> list[str]:
        """The best passages, the best first; only such as share a term with the question."""
        scores = self.scores(question)
        order = np.argsort(-scores, kind="stable")[:count]
        return [self.texts[index] for index in order.tolist() if scores[index] > 0]

    def _terms(self, text: str) -> list[str]:
        """Words; of a script without blanks pairs of neighbouring characters."""
        words = _WORD.findall(text.casefold())
        if not self.characters:
            return words
        return [word[start : start + 2] for word in words for start in range(max(1, len(word) - 1))]


def passages_of(task: Task, corpus: Path | None) -> list[str]:
    """The corpus where one is given; else the passages that the test questions bring.

    Args:
        corpus: ``.jsonl`` with a field ``text`` in each line, or plain text whose passages
            stand apart by a blank line.

    Raises:
        DataError: there are no passages.
    """
    if corpus is None:
        # Every question's passage, for all of them: finding the right one is the task.
        found = list(dict.fromkeys(item.context for item in task.test if item.context))
        if found:
            return found
        raise DataError(
            "reference retrieved: no corpus is given, and no questions share a passage to look "
            "in; name a corpus, or take it out of evaluate.references"
        )
    try:
        text = corpus.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{corpus}: cannot be read ({error}); name a text file") from None
    lines = corpus.suffix == ".jsonl"
    pieces = _json_lines(corpus, text) if lines else _LINE_BREAK.split(text)
    found = list(dict.fromkeys(piece.strip() for piece in pieces if piece.strip()))
    if not found:
        raise DataError(f"{corpus}: holds no passage; give a corpus with text")
    return found


def _json_lines(path: Path, text: str) -> list[str]:
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            found.append(str(json.loads(line)["text"]))
        except (ValueError, KeyError, TypeError):
            raise DataError(
                f'{path}:{number}: is no passage; write one JSON object a line, {{"text": ...}}'
            ) from None
    return found
