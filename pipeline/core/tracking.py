"""Which trackers of `report_to` are there, without importing them: the plan asks too."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec


def missing_tracker(names: Sequence[str]) -> str | None:
    """The first tracker that is not installed, in words, or None."""
    for name in names:
        if find_spec(name) is None:
            return (
                f"train.report_to: {name} is not installed; `pip install {name}`, or leave it out: "
                "the report page has the curves anyway"
            )
    return None
