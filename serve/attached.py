"""Engines that run elsewhere: found by what they serve, never started or stopped from here."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from pipeline.core.errors import EngineError, UserError
from serve.addresses import engine_address
from serve.bundle import Bundle
from serve.engine import await_http
from serve.heads import read_head

# Whoever listens there may be no engine, or speak something else than HTTP.
_NO_ANSWER = (OSError, HTTPException, ValueError, KeyError, TypeError, RecursionError)
KEY_VARIABLE = "GRADUS_ENGINE_KEY"
"""The bearer that engines elsewhere ask for, where they do."""


@dataclass(frozen=True)
class AttachedEngine:
    """One vLLM elsewhere; see ``serve.engine.Engine``.

    Attributes:
        base_url: without a path.
        models: public name to its name there, which is the same.
        pooling: it reads for heads, and pools states so; None: it writes.
        away: it did not answer yet: what it serves is looked at when it does.
    """

    base_url: str
    models: Mapping[str, str]
    pooling: str | None = None
    name: str = "vllm"
    log_path: Path | None = None
    away: bool = False

    @property
    def echoes(self) -> Mapping[str, str]:
        """Names in answers are the public ones."""
        return self.models

    def request(self, body: dict[str, Any]) -> dict[str, Any]:
        """vLLM takes every field that the gateway lets through."""
        return body

    def start(self) -> None:
        """It runs already."""

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Return when it answers.

        Raises:
            EngineError: it does not.
        """
        import time

        if self.away:
            return
        await_http(self, "/health", time.monotonic() + timeout_s)

    def alive(self) -> bool:
        """Its health is looked at by the gateway."""
        return True

    def log_tail(self) -> str:
        """Its log is elsewhere."""
        return ""

    def stop(self) -> None:
        """Others stop it."""


def engine_headers() -> dict[str, str]:
    """What every request to an engine elsewhere carries."""
    key = os.environ.get(KEY_VARIABLE)
    return {"Authorization": f"Bearer {key}"} if key else {}


def attach(
    bundle: Bundle, urls: Sequence[str], told: Callable[[str], None] = lambda _: None
) -> list[AttachedEngine]:
    """The engines at these URLs, each with the part of the bundle that it serves.

    Args:
        told: of each that does not answer. It counts when it does, as one that writes: a gateway
            starts with the replicas that are there.

    Raises:
        UserError: a URL that is none, an engine that serves something else, or none that writes.
        EngineError: nobody answers there.
    """
    plain = [engine_address(url) for url in urls]
    found, silent = [], []
    for base in plain:
        try:
            found.append(_part(bundle, base, _served(base)))
        except EngineError as error:
            silent.append((base, error))
    if silent and (not found or {e.pooling for e in found} < {None, *_ways(bundle)}):
        # It may be the very one without which a part of the family is not served.
        raise silent[0][1]
    if all(engine.pooling is not None for engine in found):
        raise UserError("--engine-url: none of them writes; name one that serves the base")
    for base, why in silent:
        told(f"{why}; it is asked again, and counts when it serves what the others do")
        writers = {model.name: model.name for model in bundle.models}
        found.append(AttachedEngine(base, writers, away=True))
    return found


def require_same(bundle: Bundle, engine: AttachedEngine) -> None:
    """Pass where an engine serves the part of the bundle that it is known for.

    Raises:
        UserError: it serves another.
        EngineError: it does not answer.
    """
    now = _part(bundle, engine.base_url, _served(engine.base_url))
    if now.models != engine.models:
        raise UserError(
            f"--engine-url {engine.base_url}: serves {', '.join(now.models)} now, and "
            f"{', '.join(engine.models)} before; start the gateway again"
        )


def _part(bundle: Bundle, base: str, served: set[str]) -> AttachedEngine:
    """What of the bundle an engine is for that serves these names."""
    writers = {model.name: model.name for model in bundle.models}
    if writers.keys() <= served:
        return AttachedEngine(base, writers)
    for way, names in _ways(bundle).items():
        if names.keys() <= served:
            return AttachedEngine(base, names, way, name=f"vllm-{way}")
    raise UserError(
        f"--engine-url {base}: serves {', '.join(sorted(served)) or 'nothing'}; the bundle "
        f"has {', '.join(writers)}; start it with `gradus engine start BUNDLE`"
    )


def _ways(bundle: Bundle) -> dict[str, dict[str, str]]:
    """Ways of pooling to the names of the heads that read so."""
    found: dict[str, dict[str, str]] = {}
    for head in bundle.heads:
        found.setdefault(read_head(head).pooling, {})[head.name] = head.name
    return found


def _served(base: str) -> set[str]:
    request = urllib.request.Request(f"{base}/v1/models", headers=engine_headers())  # noqa: S310
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as answer:
            return {str(model["id"]) for model in json.load(answer)["data"]}
    except _NO_ANSWER as error:
        raise EngineError(f"--engine-url {base}: /v1/models does not answer ({error})") from None
