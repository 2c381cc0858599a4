"""How fast an endpoint writes: time to first token and tokens a second, alone and under load."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.endpoint.answers import CHAT
from eval.endpoint.client import Endpoint
from pipeline.core.errors import EngineError

if TYPE_CHECKING:
    import aiohttp

LEVELS = (1, 8, 32)
TIMEOUT_S = 300.0
# Fewer would make a 95th percentile of two or three figures.
_FEWEST, _ROUNDS = 8, 2
_SAID = 120


@dataclass(frozen=True)
class Stream:
    """One streamed answer.

    Attributes:
        first_s: from the request to the first text.
        total_s: to the end.
        tokens: written.
        counted: the endpoint counted them; else its pieces of text stand for tokens.
    """

    first_s: float
    total_s: float
    tokens: int
    counted: bool

    @property
    def between_s(self) -> float | None:
        """Mean seconds from one token to the next; None of a single one."""
        later = self.tokens - 1
        return (self.total_s - self.first_s) / later if later > 0 else None


def speed(
    url: str,
    questions: Sequence[str],
    *,
    model: str | None = None,
    api_key: str | None = None,
    max_tokens: int = 64,
    levels: Sequence[int] = LEVELS,
    timeout_s: float = TIMEOUT_S,
) -> dict[str, Any]:
    """Asks an endpoint for streams, after one request to warm it up, which is not counted.

    Each level keeps so many requests under way, twice as many in all and eight at least. Nothing
    is tried again: a second try would hide what a user waits for.

    Args:
        questions: users' turns, taken in turn.
        model: as the endpoint names it; None takes its only one.

    Returns:
        ``model``, ``max_tokens``, ``tokens_by`` (``the endpoint``, or ``pieces``), and
        ``levels``: for each ``concurrency``, ``requests``, ``failed``, ``first_token_p50_s`` and
        ``_p95_s``, ``between_tokens_p50_s`` and ``_p95_s``, ``tokens_per_s`` (of all requests
        together).

    Raises:
        EngineError: no stream of a level came to its end; why the first did not.
        UserError: the URL is none, the key is refused, or there is no such model.
    """
    return asyncio.run(_measured(url, questions, model, api_key, max_tokens, levels, timeout_s))


async def _measured(
    url: str,
    questions: Sequence[str],
    model: str | None,
    api_key: str | None,
    max_tokens: int,
    levels: Sequence[int],
    timeout_s: float,
) -> dict[str, Any]:
    import aiohttp

    async with Endpoint(url, model=model, api_key=api_key) as endpoint:
        name = await endpoint.choose_model()
        address = endpoint.url + CHAT
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    async with aiohttp.ClientSession(
        headers=headers,
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        connector=aiohttp.TCPConnector(limit=0),
    ) as session:
        load = _Load(session, address, name, max_tokens, list(questions))
        _require_some(url, await load.run(1, 1))
        found, counted = [], True
        for level in levels:
            began = time.perf_counter()
            streams = await load.run(level, max(_FEWEST, _ROUNDS * level))
            wall_s = time.perf_counter() - began
            whole = _require_some(url, streams)
            counted = counted and all(stream.counted for stream in whole)
            found.append(_figures(level, streams, whole, wall_s))
    return {
        "model": name,
        "max_tokens": max_tokens,
        "tokens_by": "the endpoint" if counted else "pieces",
        "levels": found,
    }


@dataclass
class _Load:
    """Requests to one model; questions are taken in turn over all levels."""

    session: aiohttp.ClientSession
    address: str
    model: str
    max_tokens: int
    questions: list[str]
    asked: int = 0

    async def run(self, concurrency: int, requests: int) -> list[Stream | str]:
        """So many requests, so many of them at once; a string is why one failed."""
        found: list[Stream | str] = []
        waiting = [self._body() for _ in range(requests)]

        async def client() -> None:
            while waiting:
                found.append(await self._one(waiting.pop()))

        await asyncio.gather(*(client() for _ in range(concurrency)))
        return found

    def _body(self) -> Mapping[str, Any]:
        question = self.questions[self.asked % len(self.questions)]
        self.asked += 1
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": self.max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    async def _one(self, body: Mapping[str, Any]) -> Stream | str:
        import aiohttp

        try:
            return await self._stream(body)
        except TimeoutError:
            return f"no end within {self.session.timeout.total:g} s"
        except (
            aiohttp.ClientError, OSError, ValueError, LookupError, TypeError, AttributeError,
            OverflowError,  # a count such as 1e999 is infinite
        ) as error:  # fmt: skip
            return str(error)[:_SAID] or type(error).__name__

    async def _stream(self, body: Mapping[str, Any]) -> Stream:
        began = time.perf_counter()
        first_s, pieces, tokens = None, 0, None
        async with self.session.post(self.address, json=body, allow_redirects=False) as answer:
            if answer.status != 200:
                said = (await answer.text())[:_SAID].replace("\n", " ")
                raise ValueError(f"it answers {answer.status} ({said})")
            async for line in answer.content:
                for event in _events(line):
                    usage = event.get("usage")
                    tokens = usage["completion_tokens"] if usage else tokens
                    if any(_text(choice) for choice in event.get("choices") or ()):
                        first_s = first_s or time.perf_counter() - began
                        pieces += 1
        if first_s is None:
            raise ValueError("a stream without text")
        total_s = time.perf_counter() - began
        return Stream(
            first_s, total_s, pieces if tokens is None else int(tokens), tokens is not None
        )


def _events(line: bytes) -> Iterator[dict[str, Any]]:
    """What a line of server-sent events holds."""
    data = line.decode("utf-8", "replace").strip().removeprefix("data:").strip()
    if not line.startswith(b"data:") or data == "[DONE]":
        return
    event = json.loads(data)
    if "error" in event:
        raise ValueError(f"it breaks off: {event['error']}")
    yield event


def _text(choice: Mapping[str, Any]) -> str:
    delta = choice.get("delta") or {}
    return str(
        delta.get("content") or delta.get("reasoning_content") or delta.get("reasoning") or ""
    )


def _require_some(url: str, streams: Sequence[Stream | str]) -> list[Stream]:
    whole = [stream for stream in streams if isinstance(stream, Stream)]
    if not whole:
        why = next(stream for stream in streams if isinstance(stream, str))
        raise EngineError(
            f"{url}: none of {len(streams)} streams came to its end ({why}); see that it runs and "
            "streams chat completions"
        )
    return whole


def _figures(
    level: int, streams: Sequence[Stream | str], whole: Sequence[Stream], wall_s: float
) -> dict[str, Any]:
    between = [stream.between_s for stream in whole if stream.between_s is not None]
    return {
        "concurrency": level,
        "requests": len(streams),
        "failed": len(streams) - len(whole),
        **_ends("first_token", [stream.first_s for stream in whole]),
        **_ends("between_tokens", between),
        "tokens_per_s": sum(stream.tokens for stream in whole) / wall_s,
    }


def _ends(name: str, seconds: Sequence[float]) -> dict[str, float | None]:
    middle, high = np.quantile(seconds, [0.5, 0.95]) if seconds else (None, None)
    return {
        f"{name}_p50_s": None if middle is None else float(middle),
        f"{name}_p95_s": None if high is None else float(high),
    }
