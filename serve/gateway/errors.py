"""How a client is told no: in OpenAI's own shape."""

from __future__ import annotations

import random
import re
import secrets
from collections.abc import Mapping
from typing import Any

# Ids are no secrets: they are only to differ, and to tell nothing of how many there were.
_RANDOM = random.Random(secrets.randbits(256))
_OWN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


class ApiError(Exception):
    """A refusal in OpenAI's error shape (platform reference, "Error codes").

    Attributes:
        status: HTTP status.
        param: The field at fault, or None.
        code: OpenAI's word for it, or None.
        headers: sent with it, such as Retry-After.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The answer's JSON."""
        kind = "api_error" if self.status >= 500 else "invalid_request_error"
        return {
            "error": {
                "message": self.message,
                "type": _KINDS.get(self.status, kind),
                "param": self.param,
                "code": self.code,
            }
        }


def own_id(given: str) -> str:
    """The id of a request: the client's x-request-id where it is a plain word, else a new one."""
    if given and _OWN_ID.fullmatch(given):
        return given
    return f"{_RANDOM.getrandbits(128):032x}"


def no_model(name: str) -> ApiError:
    """A name that is not in the table, or not in this caller's."""
    message = f"The model {name[:200]!r} does not exist or you do not have access to it"
    return ApiError(404, message, param="model", code="model_not_found")


def away(message: str = "The engine is away; try again later") -> ApiError:
    """No engine takes the request now."""
    return ApiError(503, message, code="engine_away", headers={"Retry-After": "2"})
