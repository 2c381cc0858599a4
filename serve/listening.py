"""The socket that clients come to."""

from __future__ import annotations

import errno
import socket

from pipeline.core.errors import UserError


def bind(host: str, port: int) -> socket.socket:
    """A TCP socket on ``host``; port 0 takes a free one.

    Raises:
        UserError: in use, or no address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError, ValueError, TypeError) as error:
        listener.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise UserError(f"--port {port}: in use on {host}; give another, or 0") from None
        raise UserError(f"--host {host} --port {port}: cannot listen there ({error})") from None
    return listener


def shown_url(host: str, port: int) -> str:
    """As a person on this machine would write it."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
