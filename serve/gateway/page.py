"""The page at /: files of this package, under a policy that lets nothing else in.

The page is a client like any other: it is given no rights, and asks under the key that is typed
into it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FOLDER = Path(__file__).with_name("page")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content Security Policy Level 3: no inline script or style, no other server, no frame."""
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Kept, and asked about each time: a new version is seen at once.
    "Cache-Control": "no-cache",
}
_SCRIPTS = ("page.js", "page-ask.js", "page-parts.js")
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    **{f"/{name}": (name, "text/javascript; charset=utf-8") for name in _SCRIPTS},
    "/page.css": ("page.css", "text/css; charset=utf-8"),
}
_KEY_NEEDED = b'data-key="needed"'


def page_routes(*, keyed: bool) -> list[Route]:
    """GET and HEAD of the page's files, which are read once, now.

    Args:
        keyed: the server asks for keys, so the page asks for one.
    """
    routes = []
    for path, (name, kind) in _FILES.items():
        data = (FOLDER / name).read_bytes()
        if not keyed:
            data = data.replace(_KEY_NEEDED, b'data-key="none"')
        routes.append(Route(path, _giving(data, kind), methods=["GET"]))
    return routes


def _giving(data: bytes, kind: str) -> Callable[[Request], Awaitable[Response]]:
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    headers = {**_HEADERS, "ETag": tag}

    async def give(request: Request) -> Response:
        if _holds(request.headers.get("if-none-match", ""), tag):
            return Response(status_code=304, headers=headers)
        return Response(data, media_type=kind, headers=headers)

    return give


def _holds(asked: str, tag: str) -> bool:
    """If-None-Match (RFC 9110, section 13.1.2), which compares weakly."""
    return any(one.strip().removeprefix("W/") in {tag, "*"} for one in asked.split(","))
