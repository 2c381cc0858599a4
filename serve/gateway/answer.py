"""A whole answer to a call, sent without a framework between."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Receive, Scope, Send

from serve.gateway.errors import ApiError
from serve.gateway.wire import WIRE


@dataclass
class Answer:
    """JSON to one client.

    Attributes:
        status: HTTP status.
        body: JSON, as bytes.
        headers: beside the two of the body itself.
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        headers = {"content-type": "application/json", **self.headers}
        # Of refusals some end the connection, and have headers of other kinds.
        wire = scope.get(WIRE) if self.status == 200 else None
        if wire is not None and wire.answers(send, self.status, headers, self.body):
            return
        head = [*pairs(headers), (b"content-length", b"%d" % len(self.body))]
        await send({"type": "http.response.start", "status": self.status, "headers": head})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})


def pairs(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI takes them."""
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]


def told(status: int, tree: Any) -> Answer:
    """An answer of our own."""
    text = json.dumps(tree, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Answer(status, text.encode())


def refused(error: ApiError, call_id: str) -> Answer:
    """A refusal, which names the call that it refuses."""
    made = told(error.status, error.body())
    made.headers = {"x-request-id": call_id, **error.headers}
    return made
