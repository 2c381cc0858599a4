"""Rows as formats have them, and a converter's answer to one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pipeline.data.formats import converter
from pipeline.data.rows import Row, RowProblem


def made(form: str, row: Mapping[str, Any], **settings: Any) -> Row:
    given_: dict[str, Any] = {"columns": {}, "prompt": None, "keep": (), **settings}
    return converter(form, **given_)(dict(row))


def refused(form: str, row: Mapping[str, Any], **settings: Any) -> str:
    with pytest.raises(RowProblem) as caught:
        made(form, row, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def user(content: Any = "hi") -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any = "yes", **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def system(content: Any = "be kind") -> dict[str, Any]:
    return {"role": "system", "content": content}


ASKED = [user(), assistant()]
