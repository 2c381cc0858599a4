"""What the gateway asks of an engine, and the choice between those that are there."""

from __future__ import annotations

import http.client
import json
import time
import urllib.parse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from pipeline.core.errors import EngineError, UserError
from serve.bundle import Bundle
from serve.engine_install import EngineHome, find_home

EngineChoice = Literal["auto", "vllm", "transformers"]


class Unsupported(Exception):
    """A request field that this engine cannot honour: the client is told, nothing is ignored."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field
        self.why = why


class Engine(Protocol):
    """An inference server on loopback that speaks OpenAI's chat protocol.

    Attributes:
        name: ``vllm`` or ``transformers``.
        base_url: ``http://127.0.0.1:PORT``, without a path.
        models: The closed table: public model name to the engine's name for it.
        echoes: Engine's name to how its answers spell it in ``model``; where a spelling
            differs from the public name, the gateway writes the public name back.
    """

    @property
    def name(self) -> str: ...

    @property
    def base_url(self) -> str: ...

    @property
    def models(self) -> Mapping[str, str]: ...

    @property
    def echoes(self) -> Mapping[str, str]: ...

    @property
    def log_path(self) -> Path | None:
        """Where the log can be followed while the engine runs."""
        ...

    def request(self, body: dict[str, Any]) -> dict[str, Any]:
        """A checked chat request in this engine's words (``model`` is already mapped).

        Raises:
            Unsupported: The engine would ignore or misread a field.
        """
        ...

    def start(self) -> None:
        """Start the engine's processes; returns at once."""
        ...

    def wait_ready(self, timeout_s: float = 600.0) -> None:
        """Return when every model has answered a warm-up request.

        Raises:
            EngineError: The engine died (with the end of its log) or took too long.
        """
        ...

    def alive(self) -> bool:
        """Whether the engine's main process runs."""
        ...

    def log_tail(self) -> str:
        """The end of the engine's log."""
        ...

    def stop(self) -> None:
        """End every process of the engine; may be called twice."""
        ...


def choose_engine(bundle: Bundle, choice: EngineChoice, *, room: int = 0, rank: int = 0) -> Engine:
    """An engine for the bundle, not yet started.

    Args:
        bundle: What to serve.
        choice: ``auto`` takes vLLM where `gradus engine install` put it, else transformers.
        room: Versions that it can load later, where it is vLLM.
        rank: The largest of theirs.

    Raises:
        EngineError: vLLM was asked for and is not installed.
        UserError: ``choice`` is not one of the three.
    """
    if choice not in ("auto", "vllm", "transformers"):
        raise UserError(f"--engine {choice}: not an engine; use auto, vllm or transformers")
    home: EngineHome | None = None if choice == "transformers" else find_home()
    if home is not None:
        from serve.vllm_engine import VllmEngine

        return VllmEngine(bundle, home, room=room, rank=rank)
    if choice == "vllm":
        raise EngineError("engine vllm: not installed; run `gradus engine install` first")
    from serve.transformers_engine import TransformersEngine

    return TransformersEngine(bundle)


def head_engines(bundle: Bundle, engine: Engine, *, room: int = 0, rank: int = 0) -> list[Engine]:
    """The engines that pool states for a bundle's heads, not yet started; none without vLLM.

    One for each way of pooling: an engine has one. ``room`` and ``rank`` as of `choose_engine`.
    """
    home = find_home()
    if engine.name != "vllm" or home is None:
        return []
    from serve.heads import read_head
    from serve.vllm_engine import VllmEngine

    ways = sorted({read_head(head).pooling for head in bundle.heads})
    return [VllmEngine(bundle, home, pooling, room=room, rank=rank) for pooling in ways]


def await_http(engine: Engine, path: str, deadline: float) -> None:
    """Until ``path`` answers 200, the engine dies, or ``deadline`` (monotonic) passes."""
    while True:
        status = 0
        try:
            status, _ = _http(engine, "GET", path, None, timeout_s=2.0)
        except (OSError, http.client.HTTPException):
            time.sleep(0.2)
        if status == 200:
            return
        if not engine.alive():
            raise EngineError(
                f"engine {engine.name}: died at start; its log ends:\n{_tail(engine)}"
            )
        if time.monotonic() > deadline:
            raise EngineError(
                f"engine {engine.name}: not ready in time; its log ends:\n{_tail(engine)}"
            )


def warm_up(
    engine: Engine,
    deadline: float,
    path: str = "/v1/chat/completions",
    names: Iterable[str] | None = None,
) -> None:
    """Ask every model once, so that no client pays for the first request.

    Args:
        path: ``/pooling`` for an engine that reads for heads.
        names: The engine's own, where it holds others than it was made for.
    """
    for served in engine.models.values() if names is None else names:
        body: dict[str, Any] = {"model": served, "input": "Hello"}
        if path != "/pooling":
            messages = [{"role": "user", "content": "Hello"}]
            body = engine.request(
                {"model": served, "messages": messages, "max_tokens": 1, "temperature": 0}
            )
        left_s = max(1.0, deadline - time.monotonic())
        try:
            status, answer = _http(engine, "POST", path, body, timeout_s=left_s)
        except (OSError, http.client.HTTPException) as error:
            raise EngineError(
                f"engine {engine.name}: {served} did not answer its warm-up ({error}); "
                f"the log ends:\n{_tail(engine)}"
            ) from None
        if status != 200:
            raise EngineError(
                f"engine {engine.name}: {served} answered its warm-up with {status}: "
                f"{answer[:300].decode('utf-8', 'replace')}; the log ends:\n{_tail(engine)}"
            )


def _tail(engine: Engine) -> str:
    return engine.log_tail() or "(empty)"


def _http(
    engine: Engine, method: str, path: str, body: dict[str, Any] | None, timeout_s: float
) -> tuple[int, bytes]:
    # http.client and not urllib: a proxy from the environment must not see loopback traffic.
    parts = urllib.parse.urlsplit(engine.base_url)
    # One that runs elsewhere may be behind TLS.
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=timeout_s)
    try:
        data = None if body is None else json.dumps(body).encode()
        connection.request(method, path, data, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
