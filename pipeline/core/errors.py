"""The whole exception tree.

Every message is one line that names the place, the value and the remedy, e.g.
``recipes/x.yaml:4: level: L1 stands over an L2 base; point base at an L0 or L1 recipe``.
The command line prints the message and exits with ``exit_code``; only a defect of
gradus itself shows a traceback.
"""

from __future__ import annotations


class GradusError(Exception):
    """Anything that gradus reports in one line. Exit code 1.

    Attributes:
        node: the stage of a plan in which it came up, where there is one.
    """

    exit_code = 1
    node: str | None = None


class UserError(GradusError):
    """Input that the user can mend: a recipe, data, an argument. Exit code 2."""

    exit_code = 2


class RecipeError(UserError):
    """A recipe that cannot be read or does not make sense."""


class DataError(UserError):
    """Rows that are missing, empty or do not fit their format."""


class LockError(UserError):
    """A hub revision that is not locked, or a lock file that cannot be read."""


class HubError(UserError):
    """A hub that is away, refuses (gated, not found), or sent bytes that do not match."""


class ModelError(UserError):
    """A base model, tokenizer or adapter that cannot do what the recipe asks."""


class StoreError(GradusError):
    """The store cannot be written (full disk, no permission) or is held by another run."""


class IntegrityError(GradusError):
    """Bytes of an artifact that do not match its manifest."""


class TrainingError(GradusError):
    """Training that went wrong: non-finite loss, nothing supervised, a worker that died."""


class OutOfMemory(TrainingError):
    """A device or machine whose memory does not hold the micro-batch.

    Attributes:
        rows: of the micro-batch that did not fit.
    """

    rows: int = 1


class EngineError(GradusError):
    """An inference engine that is missing, does not start or died."""


class GateFailed(GradusError):
    """A gate ended in fail or undecided: the report is written, promotion stops. Exit code 3."""

    exit_code = 3
