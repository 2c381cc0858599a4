"""A model that writes, asked which label a row has: constrained, likelihood and joint."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.arms.grammar import pieces_of
from eval.arms.rendered import answers_of, label_counts, prompts_of, with_prompts, with_texts
from eval.batching import OnProgress, Row
from eval.record import Prediction
from pipeline.core.errors import DataError
from pipeline.data.rendering import renderer_of

Found = dict[str, list[Prediction]]
OnDone = Callable[[Mapping[str, Sequence[Prediction]]], None]
CHOOSING = ("constrained", "likelihood", "joint", "joint_untrained")
_JOINT = ("joint", "joint_untrained")


class Choosing:
    """One model and the labels of one suite, as ids by the suite's own rendering."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        labels: Sequence[str],
        data: Path,
        *,
        stop_ids: Sequence[int],
        pad_id: int,
        batch_size: int,
    ) -> None:
        """Takes a transformers causal language model as it stands: device, dtype, adapters.

        Args:
            tokenizer: of the model.
            data: the suite's Dataset.

        Raises:
            DataError: its rows have several labels each.
        """
        settings = json.loads((data / "render.json").read_text(encoding="utf-8"))
        if settings.get("multi_label"):
            raise DataError(
                "labels: the rows have several each, and who writes one is asked for one; judge "
                "them with a head (arm classifier)"
            )
        self.model, self.labels = model, labels
        self.render: str = settings["render"]
        self.renderer = renderer_of(data, tokenizer, causal=True)
        self.stop_ids = stop_ids
        self.sizes = {"pad_id": pad_id, "batch_size": batch_size}

    def answers(
        self,
        rows: Sequence[Row],
        arm: str,
        train: Path,
        *,
        on_progress: OnProgress | None = None,
        on_done: OnDone | None = None,
    ) -> Found:
        """One answer for each row; of ``likelihood`` those of ``likelihood_mean`` too.

        Args:
            arm: one of CHOOSING.
            train: the Dataset whose training rows give the prior of a joint arm.
            on_done: called after each batch with what it finished, by arm.

        Raises:
            DataError: labels or rows that cannot be asked in this form; names the row.
            ModelError: a score is no number, or no stop id ends an answer.
        """
        if (arm in _JOINT) != (self.render == "channel"):
            raise DataError(
                f"arm {arm}: the rows are rendered for {self.render}; "
                + ("train objective channel" if arm in _JOINT else "judge a model that answers")
            )
        if arm in _JOINT:
            return self._joint(rows, arm, train, on_progress, on_done)
        answers = answers_of(self.renderer, self.labels, self.stop_ids)
        asked = with_prompts(rows, answers, self.stop_ids)
        if arm == "constrained":
            from eval.arms.constrained import ConstrainedPredictor

            constrained = ConstrainedPredictor(
                self.model,
                answers,
                pieces=pieces_of(self.renderer.tokenizer),
                stop_ids=self.stop_ids,
                **self.sizes,
            )
            done = None if on_done is None else lambda found: on_done({arm: found})
            return {arm: constrained.predict(asked, on_progress=on_progress, on_done=done)}
        from eval.arms.likelihood import LikelihoodPredictor

        predictor = LikelihoodPredictor(self.model, answers, **self.sizes)
        both = predictor.predict_both(
            asked,
            on_progress=on_progress,
            on_done=None if on_done is None else lambda found: on_done(_by_arm(found)),
        )
        return _by_arm(both)

    def _joint(
        self,
        rows: Sequence[Row],
        arm: str,
        train: Path,
        on_progress: OnProgress | None,
        on_done: OnDone | None,
    ) -> Found:
        from eval.arms.joint import JointPredictor

        prompts = prompts_of(self.renderer, self.labels, self.stop_ids)
        asked = with_texts(rows, prompts, self.stop_ids)
        counts = label_counts(train, prompts)
        predictor = JointPredictor(self.model, prompts, counts, arm=arm, **self.sizes)
        done = None if on_done is None else lambda found: on_done({arm: found})
        return {arm: predictor.predict(asked, on_progress=on_progress, on_done=done)}


def _by_arm(both: Sequence[tuple[Prediction, Prediction]]) -> Found:
    return {
        "likelihood": [by_sum for by_sum, _ in both],
        "likelihood_mean": [by_mean for _, by_mean in both],
    }
