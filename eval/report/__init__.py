"""The report: one page that needs nothing beside itself, and the same as JSON."""

from __future__ import annotations

from eval.report.page import report_page, write_report

__all__ = ["report_page", "write_report"]
