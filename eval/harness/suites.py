"""A recipe's own rows as a task of the harness: exactly our prompts, exactly our answers.

A row's prompt and the labels' answers are written as ids, a blank between two: what the harness
scores are the very tokens that arm `likelihood` scores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.arms.likelihood import scored_prediction
from eval.arms.rendered import answers_of, offered, with_prompts
from eval.drawing import drawn
from eval.record import OUT_OF_SCOPE, Prediction
from pipeline.core.errors import DataError, IntegrityError
from pipeline.data.arrow import read_rows
from pipeline.data.rendering import renderer_of
from pipeline.modeling.endings import ends_in

_ASKED = ("sft", "hybrid")


@dataclass(frozen=True)
class OwnTask:
    """One suite as a task.

    Attributes:
        suite: as the recipe calls it.
        rows: ``example_id``, ``prompt_ids`` and ``label`` of each item.
        answers: label to the ids of its answer, end of turn included.
    """

    suite: str
    rows: Sequence[Mapping[str, Any]]
    answers: Mapping[str, tuple[int, ...]]

    @property
    def name(self) -> str:
        """As the harness calls it: no name of its own tasks begins so."""
        return f"gradus_{self.suite}"

    def write(self, folder: Path) -> None:
        """Writes the task: its rows as JSON lines, and the YAML that says how they are asked."""
        import yaml

        labels = list(self.answers)
        choices = [_written(self.answers[label]) for label in labels]
        data = folder / f"{self.name}.jsonl"
        with data.open("w", encoding="utf-8") as out:
            for row in self.rows:
                line = {
                    "example_id": row["example_id"],
                    "prompt": _written(row["prompt_ids"]),
                    "choices": choices,
                    "gold": labels.index(row["label"]),
                }
                out.write(json.dumps(line) + "\n")
        task = {
            "task": self.name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(data.absolute())}},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "prompt",
            "doc_to_choice": "choices",
            "doc_to_target": "gold",
            "target_delimiter": "",
            "num_fewshot": 0,
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
            "metadata": {"version": 1.0},
        }
        (folder / f"{self.name}.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")

    def predictions(self, samples: Sequence[Mapping[str, Any]], seconds: float) -> list[Prediction]:
        """What the harness found of each item, as our own record.

        Args:
            samples: as it logs them.
            seconds: of the whole run.

        Raises:
            IntegrityError: an item is missing, or a label of one.
        """
        labels = list(self.answers)
        found: dict[str, list[float]] = {}
        for sample in samples:
            sums = [float(one[0]) for one in sample["filtered_resps"]]
            if len(sums) != len(labels):
                raise IntegrityError(
                    f"harness: {self.name}: {len(sums)} answers of {len(labels)} were scored; "
                    "run it again"
                )
            found[sample["doc"]["example_id"]] = sums
        asked = [row for row in self.rows if row["example_id"] in found]
        written = sum(map(len, self.answers.values())) - len(labels)
        return [
            scored_prediction(
                row,
                labels,
                found[row["example_id"]],
                seconds=seconds / len(asked),
                tokens=len(labels) * len(row["prompt_ids"]) + written,
            )
            for row in asked
        ]


def own_task(
    suite: str,
    folder: Path,
    tokenizer_folder: Path,
    limit: int | None,
    *,
    context: int | None = None,
    train: Path | None = None,
) -> OwnTask:
    """The test rows of a prepared Dataset as a task.

    Args:
        folder: of the Dataset.
        tokenizer_folder: of the model, or of the tokenizer that the Dataset was prepared with.
        limit: at most so many rows, drawn; None: all.
        context: tokens that the model takes; the harness would cut what is longer.
        train: the Dataset that the model was trained on: its labels are offered, as arm
            `likelihood` has it.

    Raises:
        DataError: its rows are not asked for one label of a closed set, or one is too long.
    """
    settings = json.loads((folder / "render.json").read_text(encoding="utf-8"))
    labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    closed = bool(labels) and OUT_OF_SCOPE not in labels and not settings.get("multi_label")
    if settings["render"] not in _ASKED or not closed:
        raise DataError(
            f"harness: suite {suite}: its rows are not asked for one of several labels in "
            "writing, so they make no multiple choice; name another suite, or a known task"
        )
    from pipeline.modeling.loading import load_tokenizer

    tokenizer = load_tokenizer(tokenizer_folder)
    stops = ends_in(tokenizer_folder, tokenizer)
    renderer = renderer_of(folder, tokenizer, causal=True)
    answers = answers_of(renderer, offered(labels, train), stops)
    rows = drawn(read_rows(folder / "test.arrow"), limit)
    if not rows:
        raise DataError(f"harness: suite {suite} has no test rows; give data.test")
    asked = with_prompts(rows, answers, stops)
    room = max(map(len, answers.values()))
    for row in asked:
        if context is not None and len(row["prompt_ids"]) + room > context:
            raise DataError(
                f"harness: suite {suite}: {row['example_id']}: {len(row['prompt_ids'])} tokens and "
                f"{room} for the answer exceed the model's context of {context}, and the harness "
                "would cut them; shorten the row"
            )
    return OwnTask(suite, asked, answers)


def _written(ids: Sequence[int]) -> str:
    return " ".join(map(str, ids))
