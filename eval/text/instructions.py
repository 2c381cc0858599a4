"""Suites of instructions that a program can check: strict and loose, by prompt and instruction.

The four figures of IFEval (Zhou et al. 2023, section 2.2): strict takes the answer as it stands;
loose takes it also without its first line, its last line, both, and without asterisks, and is
content where one of the eight follows.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from eval.answers import final_answer
from eval.clusters import clusters_of, ratio
from eval.jackknife import share_interval
from eval.record import Prediction
from eval.statistics import mean_interval
from eval.tasks import told
from eval.text.checkers import follows
from pipeline.core.errors import DataError
from pipeline.data.formats.instructions import is_checks

FOLLOWED, NOT_FOLLOWED = "followed", "not followed"


@dataclass(frozen=True)
class Checks:
    """The instructions of one prompt.

    Attributes:
        names: as IFEval names them.
        told: what each was told, in the same order.
    """

    names: tuple[str, ...]
    told: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Checks:
        """Those of a prepared row of format ``instructions``.

        Raises:
            DataError: the row is no such row.
        """
        if not is_checks(row.get("label")):
            raise DataError(
                f"{row.get('example_id')}: holds no instructions to check; read the rows as "
                "format instructions and prepare them again"
            )
        tree = json.loads(row["label"])
        return cls(tuple(tree["instruction_id_list"]), tuple(tree["kwargs"]))

    def strict(self, text: str) -> tuple[bool, ...]:
        """Which instructions the text follows as it stands."""
        return tuple(follows(n, t, text) for n, t in zip(self.names, self.told, strict=True))

    def loose(self, text: str) -> tuple[bool, ...]:
        """Which it follows in one of its eight forms."""
        forms = loosened(text)
        return tuple(
            any(follows(n, t, form) for form in forms)
            for n, t in zip(self.names, self.told, strict=True)
        )


def is_instructions(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether prepared rows are a suite of checkable instructions."""
    return bool(rows) and all(is_checks(row.get("label")) for row in rows)


def loosened(text: str) -> list[str]:
    """A text without its first line, its last and both, each also without asterisks."""
    lines = text.split("\n")
    cuts = [text, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return [*cuts, *(cut.replace("*", "") for cut in cuts)]


def followed(
    rows: Sequence[Mapping[str, Any]],
    answers: Sequence[Prediction],
    *,
    after: str | None = None,
) -> list[Prediction]:
    """The same answers as a task of two labels: every instruction was followed strictly, or not.

    Its accuracy is IFEval's strict accuracy of prompts; paired tests and gates read it so.
    """
    return [
        replace(
            answer,
            gold=FOLLOWED,
            label=FOLLOWED if all(Checks.of(row).strict(_text(answer, after))) else NOT_FOLLOWED,
        )
        for row, answer in zip(rows, answers, strict=True)
    ]


def instruction_figures(
    rows: Sequence[Mapping[str, Any]],
    answers: Sequence[Prediction],
    *,
    after: str | None = None,
) -> dict[str, Any]:
    """All figures of one model on one suite.

    Args:
        rows: prepared rows of format ``instructions``.
        answers: one for each, in their order, with ``raw_text``.
        after: see ``eval.answers.final_answer``: a thought is no part of the answer.

    Returns:
        ``prompts``, ``instructions`` (how many); ``prompt_strict``, ``prompt_loose``,
        ``instruction_strict``, ``instruction_loose``: ``estimate``, ``low``, ``high``,
        ``covers``; ``by_kind``: name to ``items`` and ``strict`` (share).
    """
    checks = [Checks.of(row) for row in rows]
    texts = [_text(answer, after) for answer in answers]
    pairs = list(zip(checks, texts, strict=True))
    clusters = clusters_of(rows)
    found: dict[str, Any] = {
        "prompts": len(checks),
        "instructions": sum(len(one.names) for one in checks),
    }
    kinds: dict[str, list[bool]] = defaultdict(list)
    for how in ("strict", "loose"):
        verdicts = [getattr(one, how)(text) for one, text in pairs]
        found[f"prompt_{how}"] = told(mean_interval([[float(all(v)) for v in verdicts]], clusters))
        sums = np.array([[sum(verdict), len(verdict)] for verdict in verdicts], dtype=float)
        share = share_interval(sums[None], ratio, clusters)
        found[f"instruction_{how}"] = told(share)
        for one, verdict in zip(checks, verdicts, strict=True):
            for name, right in zip(one.names, verdict, strict=True):
                if how == "strict":
                    kinds[name].append(right)
    found["by_kind"] = {
        name: {"items": len(kinds[name]), "strict": sum(kinds[name]) / len(kinds[name])}
        for name in sorted(kinds)
    }
    return found


def _text(answer: Prediction, after: str | None) -> str:
    return final_answer(answer.raw_text or "", after)
