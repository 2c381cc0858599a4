"""Files that a recipe names for its risk page, looked at before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from eval.risks.bias import read_bbq
from eval.risks.files import read_lines
from eval.risks.line import Line
from eval.risks.misuse import KEYS as HARMFUL
from eval.risks.swaps import read_swaps
from eval.risks.untrue import KEYS as QUESTIONS
from pipeline.core.errors import DataError


def require_readable(files: Mapping[str, Path]) -> None:
    """Every file has rows of its form.

    Args:
        files: name under ``evaluate.risks`` to its file.

    Raises:
        DataError: names the key, the file and the line.
    """
    if "bbq" in files:
        read_bbq(files["bbq"])
    if "swaps" in files:
        read_swaps(files["swaps"])
    for name, keys in (("harmful", HARMFUL), ("questions", QUESTIONS)):
        if name in files:
            read_lines(files[name], keys, f"evaluate.risks.{name}")
    if "audit" in files:
        read_audit(files["audit"])


def read_audit(path: Path) -> dict[str, list[Line]]:
    """Model to the lines that ``gradus audit privacy RECIPE --out FILE`` wrote of it.

    Raises:
        DataError: it is no such file.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        return {m["name"]: [Line(**line) for line in m["lines"]] for m in tree["models"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"evaluate.risks.audit: {path}: no audit ({type(error).__name__}: {error}); write it "
            "with `gradus audit privacy RECIPE --out FILE`"
        ) from None
