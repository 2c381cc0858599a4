"""Addresses that somebody typed: of an engine elsewhere, and as they may be shown."""

from __future__ import annotations

import re
import urllib.parse

from pipeline.core.errors import UserError

# A name, an IPv4 address, or an IPv6 address as urlsplit gives it, without its brackets.
_HOST = re.compile(r"[\w.:%-]+")


def engine_address(url: str) -> str:
    """The address of an engine, ``http://HOST:PORT``.

    Raises:
        UserError: it is none, or says more than that.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        # Asked for here alone: a port that is no number is told by no one before the first request.
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise UserError(
            f"--engine-url {masked(url)}: give http://HOST:PORT ({str(error).lower()})"
        ) from None
    if "@" in parts.netloc:
        raise UserError(
            f"--engine-url {masked(url)}: names a user; leave that out, and put the engine's key "
            "into GRADUS_ENGINE_KEY"
        )
    more = parts.path not in {"", "/"} or parts.query or parts.fragment
    if parts.scheme not in {"http", "https"} or more or not host or not _HOST.fullmatch(host):
        raise UserError(f"--engine-url {url}: give http://HOST:PORT, without a path")
    return f"{parts.scheme}://{parts.netloc}"


def masked(url: str) -> str:
    """A URL with stars for its password; of what is no URL, nothing but its scheme."""
    try:
        parts = urllib.parse.urlsplit(url)
        hidden = parts.password
    except ValueError:
        scheme, there, _ = url.partition("://")
        # A password may stand in what cannot be taken apart.
        return url if "@" not in url else f"{scheme}://***" if there else "***"
    if hidden is None:
        return url
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user.partition(':')[0]}:***@{host}").geturl()
