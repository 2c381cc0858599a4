"""`report_to`: the curves of a training sent to trackers as well, through accelerate's own.

What the report page draws does not come from here: history and speed lie with the model. So a
tracker that cannot be reached costs one warning and its own curves, never the training.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from pipeline.core.tracking import missing_tracker

Warn = Callable[[str], None]
# A server that is away shall not hold up a training for the minutes that its client would wait.
_IMPATIENT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
_WANDB_WAIT_S = 20


class Trackers:
    """The trackers of one training."""

    def __init__(self, opened: Mapping[str, Any], warn: Warn) -> None:
        self._opened = dict(opened)
        self._warn = warn

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Sends figures of one update.

        Args:
            step: updates done, never less than before.
            values: name to figure, e.g. loss, learning_rate, grad_norm, tokens_per_s.
        """
        for name, tracker in list(self._opened.items()):
            with self._forgiven(name):
                tracker.log(dict(values), step=step)

    def close(self) -> None:
        """Flushes and ends each; a second call does nothing."""
        for name, tracker in list(self._opened.items()):
            with self._forgiven(name):
                tracker.finish()
        self._opened.clear()

    @contextlib.contextmanager
    def _forgiven(self, name: str) -> Iterator[None]:
        """One failure is told, and the tracker is asked no more."""
        try:
            with _silenced():
                yield
        except Exception as error:
            self._opened.pop(name, None)
            self._warn(_lost(name, error))


def open_trackers(
    names: Sequence[str],
    run_name: str,
    folder: Path,
    config: Mapping[str, Any],
    *,
    first_step: int = 0,
    warn: Warn = lambda _text: None,
) -> Trackers:
    """Opens the trackers of ``train.report_to`` on the main process; on others it opens none.

    What they write locally goes below ``folder``: ``tensorboard`` (point it there), and
    ``mlflow.db``, ``wandb`` and ``trackio``, unless MLFLOW_TRACKING_URI, WANDB_DIR or
    TRACKIO_DIR name another place.

    Args:
        names: tensorboard, mlflow, wandb, trackio.
        run_name: ``PROJECT/RUN``; RUN is unique to the training and the same when it resumes.
        config: the settings of the training, any JSON values.
        first_step: updates that were done before this start; what was sent beyond is replaced.
        warn: takes one line where a tracker is lost.

    Raises:
        UserError: one that is not installed.
    """
    from accelerate import PartialState

    problem = missing_tracker(names)
    if problem is not None:
        raise UserError(problem)
    opened: dict[str, Any] = {}
    if not PartialState().is_main_process:
        return Trackers({}, warn)
    project, _, run = run_name.rpartition("/")
    for name in names:
        try:
            with _silenced():
                folder.mkdir(parents=True, exist_ok=True)
                opened[name] = _OPEN[name](project or run, run, folder, first_step)
                _tell_config(name, opened[name], config)
        except Exception as error:
            opened.pop(name, None)
            warn(_lost(name, error))
    return Trackers(opened, warn)


def _tensorboard(project: str, run: str, folder: Path, first_step: int) -> Any:
    from accelerate.tracking import TensorBoardTracker

    # Without purging, a resumed training would draw over what a killed one had drawn.
    tracker = TensorBoardTracker(
        f"{project}/{run}", folder / "tensorboard", purge_step=first_step + 1
    )
    tracker.start()
    return tracker


def _mlflow(project: str, run: str, folder: Path, _first_step: int) -> Any:
    for name, value in _IMPATIENT.items():
        os.environ.setdefault(name, value)
    import mlflow
    from accelerate.tracking import MLflowTracker

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    artifacts = None
    if "MLFLOW_TRACKING_URI" not in os.environ:
        mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
        artifacts = (folder / "mlflow-artifacts").as_uri()
    tracker = MLflowTracker(experiment_name=project, run_name=run, logging_dir=artifacts)
    # Trainings side by side would make the tables of a new data base both at once.
    with (folder / ".mlflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tracker.start()
    return tracker


def _wandb(project: str, run: str, folder: Path, _first_step: int) -> Any:
    import wandb
    from accelerate.tracking import WandBTracker

    tracker = WandBTracker(
        os.environ.get("WANDB_PROJECT", project),
        name=run,
        id=_short(f"{project}/{run}"),
        resume="allow" if os.environ.get("WANDB_MODE") != "offline" else None,
        dir=os.environ.get("WANDB_DIR", str(folder)),
        settings=wandb.Settings(init_timeout=_WANDB_WAIT_S, silent=True),
    )
    tracker.start()
    return tracker


def _trackio(project: str, run: str, folder: Path, _first_step: int) -> Any:
    # Read when trackio is imported.
    os.environ.setdefault("TRACKIO_DIR", str(folder / "trackio"))
    from accelerate.tracking import TrackioTracker

    tracker = TrackioTracker(project, name=run, resume="allow", embed=False)
    tracker.start()
    return tracker


_OPEN: Mapping[str, Callable[[str, str, Path, int], Any]] = {
    "tensorboard": _tensorboard,
    "mlflow": _mlflow,
    "wandb": _wandb,
    "trackio": _trackio,
}


def _tell_config(name: str, tracker: Any, config: Mapping[str, Any]) -> None:
    if name == "tensorboard":
        # accelerate's way makes a second run, named after the clock, for the settings.
        text = json.dumps(config, indent=1, sort_keys=True, default=str)
        tracker.writer.add_text("settings", f"```\n{text}\n```")
        tracker.writer.flush()
    else:
        tracker.store_init_configuration(_flat(config))


def _flat(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested settings under dotted keys; lists as JSON."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{above}{key}.")
        else:
            plain = value is None or isinstance(value, str | int | float | bool)
            found[f"{above}{key}"] = value if plain else json.dumps(value, default=str)
    return found


def _lost(name: str, error: Exception) -> str:
    told = str(error).strip().splitlines()[:1] or [type(error).__name__]
    return f"{name} takes no curves ({told[0][:200]}); training goes on without it"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Trackers greet on stdout, which belongs to `--json`."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield
