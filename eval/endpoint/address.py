"""The address of an OpenAI-compatible endpoint."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from pipeline.core.errors import UserError


def endpoint_url(text: str) -> str:
    """The address under which an endpoint's paths lie, ending in its version: ``http://h:1/v1``.

    Raises:
        UserError: it is no address of an endpoint, or holds a secret.
    """
    shown = re.sub(r"//[^/]*@", "//***@", text).partition("?")[0]
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
        # As the resolver will: a part of a name that is empty or over 63 letters stops it there.
        (host or "").encode("idna")
    except ValueError:
        raise UserError(f"{shown}: is no URL; write one such as http://127.0.0.1:8000/v1") from None
    if parts.scheme not in ("http", "https") or not host:
        raise UserError(f"{shown}: is no http(s) URL; write one such as http://127.0.0.1:8000/v1")
    if parts.username is not None or parts.password is not None:
        raise UserError(f"{shown}: holds a user or password; take it out and give --api-key")
    if parts.query or parts.fragment:
        raise UserError(f"{shown}: holds more than an address; end it with its path, e.g. /v1")
    return text.rstrip("/") + ("" if parts.path.strip("/") else "/v1")
