"""From a source's own row to the canonical row of ``pipeline.data.rows``, format by format."""

from __future__ import annotations

from pipeline.data.formats.conversion import FIELDS, PROMPTED, Converter, converter
from pipeline.data.formats.labels import label_problems, require_told_apart

__all__ = ["FIELDS", "PROMPTED", "Converter", "converter", "label_problems", "require_told_apart"]
