"""A model in memory as it is served, asked in any of its forms."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.arms.choosing import CHOOSING, Choosing, OnDone
from eval.arms.rendered import offered
from eval.generation import context_of, stop_ids
from eval.record import OUT_OF_SCOPE, TEXT_WINDOW, Kind, Prediction, TextLoss
from pipeline.core.arms import ARMS
from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError
from pipeline.core.stage import StageContext

Rows = Sequence[Mapping[str, Any]]
PairLosses = list[tuple[TextLoss, TextLoss]]
OnOne = Callable[[Sequence[Prediction]], None]


class Loaded:
    """The root with its one adapter."""

    def __init__(
        self,
        root: Artifact,
        adapter: Artifact | None,
        config: Mapping[str, Any],
        context: StageContext,
    ) -> None:
        import torch

        from pipeline.modeling.adapters import attach_frozen, merge_into
        from pipeline.modeling.loading import load_model, load_tokenizer

        self.config, self.context = config, context
        self.batch_size = int(context.options["batch_size"])
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        on_gpu = self.device.type == "cuda"
        self.model = load_model(root.path, bf16_weights=on_gpu)
        self.tokenizer = load_tokenizer(root.path)
        self.pad_id = self.tokenizer.pad_token_id or 0
        self.head = root.path if adapter is None else adapter.path
        if adapter is not None and on_gpu:
            # bf16 weights would round a merged update away: it stays beside them, as served.
            self.model = attach_frozen(self.model, adapter.path)
        elif adapter is not None:
            merge_into(self.model, adapter.path)
        self.model.to(self.device).eval()

    def losses(self, rows: Rows) -> list[TextLoss]:
        """Negative log-likelihood of each document."""
        from eval.likelihood import text_losses

        limit = getattr(self.model.config, "max_position_embeddings", TEXT_WINDOW)
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        return text_losses(
            self.model,
            rows,
            batch_size=self.batch_size,
            max_length=min(limit, TEXT_WINDOW),
            first_id=eos if bos is None else bos,
            pad_id=self.pad_id,
            on_progress=self._progress,
        )

    def answer_losses(self, rows: Rows) -> list[TextLoss]:
        """Negative log-likelihood of what each row answers, given what it asks."""
        from eval.likelihood import supervised_losses

        return supervised_losses(
            self.model,
            rows,
            batch_size=self.batch_size,
            pad_id=self.pad_id,
            on_progress=self._progress,
        )

    def pair_losses(self, rows: Rows) -> PairLosses:
        """Negative log-likelihood of the chosen and the rejected answer of each row."""
        from eval.preference import pair_losses

        return pair_losses(
            self.model,
            rows,
            batch_size=self.batch_size,
            pad_id=self.pad_id,
            on_progress=self._progress,
        )

    def preferred(self, rows: Rows, below: PairLosses) -> tuple[Kind, list[Prediction]]:
        """Which answer of each pair the model came to prefer over the model below."""
        from eval.preference import preferences

        began = time.perf_counter()
        ours = self.pair_losses(rows)
        each_s = (time.perf_counter() - began) / len(rows)
        return "preference", preferences(rows, ours, below, each_s)

    def answers(
        self,
        rows: Rows,
        labels: list[str],
        *,
        arm: str,
        data: Path | None = None,
        train: Path | None = None,
        on_done: OnDone | None = None,
    ) -> tuple[Kind, dict[str, list[Prediction]]]:
        """What the items ask for, and one answer for each row in one form.

        Args:
            rows: rows of one suite, all or some of them.
            labels: of the suite's Dataset; none for open answers. With ``OUT_OF_SCOPE`` among
                them the model chooses from those of train.
            arm: of ``pipeline.core.arms.ARMS``.
            data: the suite's Dataset, whose render.json tells how its rows were rendered; needed
                where labels are.
            train: the Dataset that the model was trained on; by default the suite's. Of
                ``joint`` and ``joint_untrained`` its rows are the prior.
            on_done: called after each batch with what it finished, by arm.

        Returns:
            The kind, and answers by arm: of ``likelihood`` those of ``likelihood_mean`` too.

        Raises:
            DataError: labels that are none, or differ between model and data; rows that cannot
                be asked.
            ModelError: scores that are no numbers.
        """
        labels = offered(labels, train)
        if arm == "generate":
            return "label", {arm: self._written(rows, labels, _of_arm(on_done, arm))}
        if arm in CHOOSING:
            if data is None:
                raise ValueError(f"arm {arm} needs the suite's Dataset")
            choosing = Choosing(
                self.model,
                self.tokenizer,
                labels,
                data,
                stop_ids=stop_ids(self.model, self.tokenizer),
                pad_id=self.pad_id,
                batch_size=self.batch_size,
            )
            return "label", choosing.answers(
                rows, arm, train or data, on_progress=self._progress, on_done=on_done
            )
        kind, found = self._by_head(rows, labels, _of_arm(on_done, arm))
        return kind, {arm: found}

    def _written(self, rows: Rows, labels: list[str], on_done: OnOne | None) -> list[Prediction]:
        from eval.arms.generate import GenerativePredictor

        # A wrong answer may be any label of the data, so those of train count too.
        predictor = GenerativePredictor(
            self.model,
            self.tokenizer,
            labels=labels or None,
            answer_after=self.config["answer_after"],
            stop_ids=stop_ids(self.model, self.tokenizer),
            pad_id=self.pad_id,
            max_new_tokens=self.config["max_new_tokens"],
            batch_size=self.batch_size,
        )
        asked = [{**row, "prompt_ids": prompt_ids(row)} for row in rows]
        return predictor.predict(asked, on_progress=self._progress, on_done=on_done)

    def _by_head(
        self, rows: Rows, labels: list[str], on_done: OnOne | None
    ) -> tuple[Kind, list[Prediction]]:
        from eval.arms.classifier import KINDS, HeadPredictor
        from pipeline.modeling.heads import load_classifier
        from pipeline.modeling.predictions import predict

        classifier = load_classifier(self.model, self.head).to(self.device).eval()

        def answered(chosen: Rows) -> Sequence[Any]:
            return predict(classifier, chosen, pad_id=self.pad_id)

        kind = classifier.config.kind
        unknown = sorted({*labels} - {*classifier.config.labels, OUT_OF_SCOPE})
        if kind != "regress" and unknown:
            raise DataError(
                f"labels: {unknown[0]!r} is a label of these rows and none of the "
                f"{len(classifier.config.labels)} of the head, so their labels differ; judge it "
                "on rows with the labels that it was trained on"
            )
        predictor = HeadPredictor(
            answered,
            kind,
            batch_size=self.batch_size,
            tag_names=labels,
            context=context_of(self.model),
        )
        asked = [{**row, "input_ids": question_ids(row)} for row in rows]
        return KINDS[kind], predictor.predict(asked, on_progress=self._progress, on_done=on_done)

    def kind(self, arm: str) -> Kind:
        """What items ask for in a way of asking: a head's own, of all others one label."""
        from eval.arms.classifier import KINDS
        from pipeline.modeling.heads import read_head

        if ARMS[arm].form != "discriminative":
            return "label"
        return KINDS[read_head(self.head).kind]

    def _progress(self, done: int, total: int) -> None:
        self.context.progress({"step": done, "total": total})


def _of_arm(on_done: OnDone | None, arm: str) -> OnOne | None:
    return None if on_done is None else lambda found: on_done({arm: found})


def question_ids(row: Mapping[str, Any]) -> list[int]:
    """What a head reads of a test row: all of it, or its question where an answer follows."""
    return list(row["input_ids"]) if row.get("prompt") is None else prompt_ids(row)


def prompt_ids(row: Mapping[str, Any]) -> list[int]:
    """The ids that serving makes of a prepared test row's question.

    Not all before the first supervised token: where the template itself opens an answer with
    an empty thought, serving leaves that to the model.

    Raises:
        DataError: the row was prepared before that was kept, or for a classifier.
    """
    if row.get("prompt") is None:
        raise DataError(
            f"{row['example_id']}: it does not say where its question ends; prepare the data again"
        )
    return list(row["input_ids"][: row["prompt"]])
