"""What pydantic found wrong with a file, in the words of one line."""

from __future__ import annotations

from pydantic import ValidationError


def first_problem(error: ValidationError) -> str:
    """Place and problem of the first error: ``adapters.0.rank: input should be greater than 0``.

    The file as a whole is called ``file``; the value itself is not shown, for it may be a secret.
    """
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "file"
    return f"{where}: {first['msg'].lower()}"
