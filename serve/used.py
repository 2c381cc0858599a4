"""What one request has used, as it is kept."""

from __future__ import annotations

from typing import NamedTuple


class Used(NamedTuple):
    """One answered request, in the order of the table's columns behind the row's own number.

    Attributes:
        at: seconds since the epoch, when it was over.
        request_id: as in the log and in x-request-id.
        key_id: of the key, empty without keys.
        model, version, route: what was asked.
        prompt_tokens, completion_tokens: as the engine counts them.
        status: of the answer; 499 where the client went first.
        latency_s: from the request's head to the last byte.
        stream: the answer came in pieces.
    """

    at: float
    request_id: str
    key_id: str
    model: str
    version: str
    route: str
    prompt_tokens: int
    completion_tokens: int
    status: int
    latency_s: float
    stream: bool
