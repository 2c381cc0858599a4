"""The curves of a training: for the report, for whoever watches, for trackers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline.training.state import State
from pipeline.training.trackers import Trackers, open_trackers
from pipeline.training.trainee import TrainJob

POINTS = 200


class Curves:
    """Loss, learning rate and gradient norm by update; speed beside them; a context manager.

    The history is part of the artifact, whose bytes a rerun must make again, so it holds no
    times: tokens per second go to the manifest's facts.
    """

    def __init__(
        self,
        job: TrainJob,
        state: State,
        total: int,
        rank: int,
        progress: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._state, self._total, self._progress = state, total, progress
        self._every = max(1, total // POINTS)
        self._speed: list[list[float]] = []
        self._tokens = self._window = 0
        self._trackers = Trackers({}, lambda _text: None)
        if rank == 0 and job.options.get("report_to"):
            self._trackers = open_trackers(
                job.options["report_to"],
                str(job.options.get("run_name") or "gradus/train"),
                Path(job.options.get("trackers") or Path(job.work) / "trackers"),
                dict(job.config),
                first_step=state.step,
                warn=lambda text: progress({"message": text}),
            )

    def __enter__(self) -> Curves:
        self._began = self._mark = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.seconds = time.monotonic() - self._began
        self._trackers.close()

    def update(self, loss: float, norm: float, rate: float, tokens: int) -> None:
        """Notes one update."""
        now, step = time.monotonic(), self._state.step
        self._tokens += tokens
        self._window += tokens
        speed = self._tokens / max(now - self._began, 1e-9)
        figures = {"loss": loss, "learning_rate": rate, "grad_norm": norm}
        if (step - 1) % self._every == 0 or step == self._total:
            self._state.history.append({"step": step, **figures})
            recent = self._window / max(now - self._mark, 1e-9)
            self._speed.append([step, round(recent, 1)])
            self._mark, self._window = now, 0
            self._trackers.log(step, {**figures, "tokens_per_s": recent})
        self._progress({"step": step, "total": self._total, "loss": loss, "tokens_per_s": speed})

    def validation(self, figures: Mapping[str, float]) -> None:
        """Notes a validation."""
        step = self._state.step
        self._state.history.append({"step": step, **figures})
        self._trackers.log(step, dict(figures))
        self._progress({"step": step, "total": self._total, **figures})

    def facts(self) -> dict[str, Any]:
        """Seconds and speed."""
        return {
            "train_seconds": round(self.seconds, 2),
            "tokens_per_s": round(self._tokens / max(self.seconds, 1e-9), 1),
            "speed": self._speed,
        }
