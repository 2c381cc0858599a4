"""Any OpenAI-compatible endpoint: requests are tried again within a limit, then one clear error.

Legend of its ways to fail: 408, 429 and 5xx, a connection that is refused or dropped, silence
and nonsense are tried again, each time after a longer pause; anything else is told at once.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from eval.endpoint.address import endpoint_url
from pipeline.core.errors import EngineError, UserError

if TYPE_CHECKING:
    import aiohttp

Found = TypeVar("Found")

TIMEOUT_S = 120.0
RETRIES, _RETRIES_UNMET = 5, 2
CONCURRENCY = 16
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_OF_THE_MOMENT = frozenset({0, 408, 425, 429})
_OF_THE_REQUEST = frozenset({400, 413, 422})
_LONGEST_PAUSE_S = 60.0
_SAID = 200
_SECRET_LENGTH = 8
# What reading an answer that is not what it should be may raise; int() of 1e999 overflows.
_MISREAD = (ValueError, LookupError, TypeError, AttributeError, OverflowError)


class Refused(Exception):
    """The endpoint will not answer this one request: 400, 413 or 422. Never leaves ``eval``."""


class Unanswered(EngineError):
    """No answer of use after all tries.

    Attributes:
        status: of the last; 0 where nothing came.
    """

    def __init__(self, told: str, status: int = 0) -> None:
        super().__init__(told)
        self.status = status

    @property
    def passes(self) -> bool:
        """Whether it tells of the moment (silence, too many requests) and not of what was asked."""
        return self.status in _OF_THE_MOMENT


class _Missing(UserError):
    """404: no such path, or no such model."""


@dataclass(frozen=True)
class Patience:
    """How long an endpoint is waited for.

    Attributes:
        timeout_s: of one try, from the request to the answer's last byte.
        retries: tries after the first; None: RETRIES, and 2 while not even a connection stood.
        pause_s: before the second try; twice as long before each further one.
    """

    timeout_s: float = TIMEOUT_S
    retries: int | None = None
    pause_s: float = 0.5


class Endpoint:
    """One model behind one address; an asynchronous context manager.

    Attributes:
        model: the name that is asked for, once ``choose_model`` has settled it.
        adapters: whether the engine holds LoRA adapters, as vLLM's list of models tells.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        concurrency: int = CONCURRENCY,
        patience: Patience | None = None,
    ) -> None:
        """Takes an address as ``endpoint_url`` does.

        Args:
            api_key: sent as a bearer token and to be found nowhere else.
            concurrency: requests under way at once.

        Raises:
            UserError: no such address, or a key that cannot be sent.
        """
        self.url, self.model = endpoint_url(url), model or ""
        if api_key is not None and not api_key.isprintable():
            raise UserError("--api-key: holds a character that no header may hold; check the key")
        self.concurrency = concurrency
        self.adapters = False
        self._key = api_key
        self._patience = patience or Patience()
        self._gate = asyncio.Semaphore(concurrency)
        self._resume_at = 0.0
        self._met = False
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Endpoint:
        import aiohttp

        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        connections = aiohttp.TraceConfig()
        connections.on_connection_create_end.append(self._connected)
        self._session = aiohttp.ClientSession(
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=self._patience.timeout_s),
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[connections],
        )
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def choose_model(self) -> str:
        """Settles which model is asked: the one that was named, or the only one there is.

        Raises:
            UserError: the endpoint has no model of that name, or several and none was named.
        """
        try:
            cards, _ = await self._ask("GET", "/models", None, _model_cards, "its list of models")
        except Refused as refusal:
            raise UserError(f"{self.url}: refuses to list its models ({refusal})") from None
        except _Missing:
            # A server without that list still answers: the name is then taken as it stands.
            if not self.model:
                raise
            return self.model
        names = [str(card["id"]) for card in cards]
        self.adapters = any(card.get("parent") for card in cards)
        known = ", ".join(names[:20]) or "none"
        if self.model and self.model not in names:
            raise UserError(f"{self.url}: has no model {self.model!r}; it has: {known}")
        if not self.model and len(names) != 1:
            raise UserError(f"{self.url}: which model? Give --model; it has: {known}")
        self.model = self.model or names[0]
        return self.model

    async def post(
        self, path: str, body: Mapping[str, Any], read: Callable[[Any], Found], who: str
    ) -> tuple[Found, float]:
        """What ``read`` finds in the answer to a request, and the seconds that it took.

        Args:
            read: takes the answer's JSON; ValueError, LookupError, TypeError or OverflowError
                where it is not what was asked for.
            who: the row that asks, for errors.

        Raises:
            Refused: the endpoint will not answer this request.
            Unanswered: it is away, or answers nonsense, after all tries.
            UserError: it refuses the key, or has no such model.
        """
        return await self._ask("POST", path, {"model": self.model, **body}, read, who)

    async def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        read: Callable[[Any], Found],
        who: str,
    ) -> tuple[Found, float]:
        problem, status, pause_s, tries = "", 0, self._patience.pause_s, 0
        while tries <= self._retries():
            if tries:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            tries += 1
            await self._permitted()
            async with self._gate:
                began = time.perf_counter()
                status, wait, data = await self._once(method, path, body)
                seconds = time.perf_counter() - began
            if status == 200:
                try:
                    return read(_parsed(data)), seconds
                except _MISREAD as error:
                    problem = f"answers nonsense ({self._line(error)})"
                continue
            problem = self._line(data) if status == 0 else f"answers {status} ({self._told(data)})"
            if status and status not in _AGAIN:
                raise self._final(status, path, self._told(data))
            if wait is not None:
                # Whoever asks too much is asked to wait as a whole, not request by request.
                self._resume_at = max(self._resume_at, time.monotonic() + wait)
        raise Unanswered(
            f"{self.url}: {who}: {problem}, after {tries} tries; see that it "
            "runs and that the URL is its own (it ends in /v1), or lower --concurrency; what was "
            "answered is kept: run again to go on",
            status,
        )

    def _retries(self) -> int:
        """Fewer at an address that no connection ever reached: most such are wrong, not slow."""
        if self._patience.retries is not None:
            return self._patience.retries
        return RETRIES if self._met else _RETRIES_UNMET

    async def _connected(self, *_: object) -> None:
        self._met = True

    async def _permitted(self) -> None:
        while (left := self._resume_at - time.monotonic()) > 0:
            await asyncio.sleep(left)

    async def _once(
        self, method: str, path: str, body: Mapping[str, Any] | None
    ) -> tuple[int, float | None, bytes]:
        """Status, seconds to wait as the endpoint says, and bytes; status 0: no answer, and why."""
        import aiohttp

        assert self._session is not None
        try:
            # A redirect would carry the key to wherever it points.
            async with self._session.request(
                method, self.url + path, json=body, allow_redirects=False
            ) as answer:
                return answer.status, _retry_after(answer.headers), await answer.read()
        except TimeoutError:
            return 0, None, f"no answer within {self._patience.timeout_s:g} s".encode()
        except (aiohttp.ClientError, OSError) as error:
            return 0, None, f"cannot be reached ({self._line(error)})".encode()

    def _final(self, status: int, path: str, told: str) -> Exception:
        if status in _OF_THE_REQUEST:
            return Refused(f"{status}: {told}")
        if status in (401, 403):
            return UserError(f"{self.url}: refuses the key ({status}: {told}); give --api-key")
        if status == 404:
            return _Missing(f"{self.url}{path}: not there ({told}); check the URL and --model")
        if 300 <= status < 400:
            return UserError(f"{self.url}: answers {status} and points elsewhere; give that URL")
        return UserError(f"{self.url}{path}: answers {status} ({told}); check the URL")

    def _told(self, data: bytes) -> str:
        """The endpoint's own words, short: most send {error: {message}}."""
        try:
            body = json.loads(data)
        except (ValueError, RecursionError):
            return self._line(data)
        inner = body.get("error", body) if isinstance(body, dict) else body
        said = inner.get("message", inner) if isinstance(inner, dict) else inner
        return self._line(said)

    def _line(self, said: object) -> str:
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        line = next(iter(text.strip().splitlines()), "") or type(said).__name__
        return self.without_key(line)[:_SAID]

    def without_key(self, text: str) -> str:
        """An endpoint may repeat the key that it was sent; no file is to hold it.

        A word such as ``none``, which local servers are given, is no secret, and may be a label.
        """
        secret = self._key is not None and len(self._key) >= _SECRET_LENGTH
        return text.replace(self._key or "", "***") if secret else text


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:
        begin = data[:40].decode("utf-8", "replace").split("\n")[0]
        raise ValueError(f"no JSON, it begins {begin!r}") from None


def _model_cards(body: Any) -> list[dict[str, Any]]:
    cards = [dict(card) for card in body["data"]]
    return [card for card in cards if card["id"]]


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from a number or a date (RFC 9110, section 10.2.3); None where it says nothing."""
    text = headers.get("Retry-After", "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), _LONGEST_PAUSE_S) if seconds == seconds else None
