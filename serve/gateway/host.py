"""Which hosts are this machine's own."""

from __future__ import annotations

import ipaddress
import re

from serve.gateway.errors import ApiError


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only be reached from this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_own_host(header: str) -> None:
    """Without keys: a web page can point its own name at 127.0.0.1; its Host then betrays it.

    Raises:
        ApiError: 403 for a Host that is not this machine's.
    """
    host = header.rpartition("@")[2]
    if not is_loopback(re.sub(r":\d*$", "", host).strip("[]")):
        raise ApiError(403, "Without an API key, only loopback host names are answered")
