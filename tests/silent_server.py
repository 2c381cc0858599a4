"""Servers that are away: nobody listens, nobody answers, or the answer never ends."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress


@contextmanager
def silent_server(trickle_s: float | None = None) -> Iterator[str]:
    """A server that takes connections and never answers; yields its address.

    ``trickle_s``: it sends one byte of an endless header each so many seconds, so that no
    single read ever times out.
    """
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_take, args=(listener, trickle_s, over), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            thread.join()


def _take(listener: socket.socket, trickle_s: float | None, over: threading.Event) -> None:
    listener.settimeout(trickle_s or 0.05)
    with ExitStack() as taken:
        connections: list[socket.socket] = []
        while not over.is_set():
            with suppress(TimeoutError):
                connections.append(taken.enter_context(listener.accept()[0]))
                if trickle_s is not None:
                    connections[-1].sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            for connection in connections if trickle_s is not None else ():
                # A client that has given up closes its end.
                with suppress(OSError):
                    connection.sendall(b"a")


def closed_port() -> str:
    """An address on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"
