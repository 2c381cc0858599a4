"""Any OpenAI-compatible endpoint, asked for many texts: retried, in order, each answer kept.

Calls cost money: an answer is written down the moment it is there, and is not asked for again.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pipeline.core.digest import canonical_json, text_digest
from pipeline.core.errors import DataError
from pipeline.data.journal import Answer, Journal

Item = TypeVar("Item")
# Tries after the first: half a second, then twice as long each time, at most eight seconds.
RETRIES = 5
TIMEOUT_S = 120.0
_AHEAD = 4
_OF_THE_REQUEST = frozenset({400, 413, 422})
_HOPELESS = 20
_LONGEST_PAUSE_S = 120.0
_SAID = 160
_GO_ON = "what was answered so far is kept: run again to go on"


def endpoint_problem(url: str) -> str | None:
    """Why a URL cannot be an endpoint, with the remedy; None where it can.

    What is checked before anything is written: a password in it would end up in a manifest.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is no URL; write one such as http://127.0.0.1:8000/v1"
    if parts.username is not None or parts.password is not None:
        return "holds a user or password; take it out and name the key's variable in api_key_env"
    if parts.scheme not in ("http", "https") or not host:
        return "is no http(s) URL; write one such as http://127.0.0.1:8000/v1"
    if parts.query or parts.fragment:
        return "holds more than an address; end it with its path, e.g. /v1"
    return None


class Endpoint:
    """``/chat/completions`` of one server, one model.

    Args:
        url: as in ``augment.endpoint``, e.g. ``http://127.0.0.1:8000/v1``.
        api_key: sent as a bearer token and to be found nowhere else; None for a server without.

    Raises:
        DataError: a URL that cannot be an endpoint.
    """

    def __init__(
        self,
        url: str,
        model: str,
        api_key: str | None = None,
        *,
        retries: int = RETRIES,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        problem = endpoint_problem(url)
        if problem is not None:
            raise DataError(f"data.augment.endpoint: {_without_user(url)} {problem}")
        self.url, self.model = url.rstrip("/"), model
        self._api_key, self._retries, self._timeout_s = api_key, retries, timeout_s
        self._stopped = False

    def answers(
        self,
        asks: Iterable[tuple[Item, Mapping[str, Any]]],
        journal: Journal,
        concurrency: int = 1,
    ) -> Iterator[tuple[Item, Answer]]:
        """Answers in the order of ``asks``, whatever the concurrency.

        Args:
            asks: something of the caller's, and the body of its request without the model.
            concurrency: requests at once; a few answers for each wait in memory.

        Raises:
            DataError: the endpoint is away or refuses; what was answered is in the journal.
        """
        with asyncio.Runner() as runner:
            client, gate = self._client(), asyncio.Semaphore(concurrency)
            waiting: deque[tuple[Item, asyncio.Task[Answer]]] = deque()
            texts = unusable = 0
            self._stopped = False
            rest = iter(asks)

            async def next_one() -> tuple[Item, Answer] | None:
                while len(waiting) < concurrency * _AHEAD:
                    found = next(rest, None)
                    if found is None:
                        break
                    item, body = found
                    one = self._one(client, {"model": self.model, **body}, journal, gate)
                    waiting.append((item, asyncio.create_task(one)))
                if not waiting:
                    return None
                item, task = waiting[0]
                answer = await task
                waiting.popleft()
                return item, answer

            try:
                while (pair := runner.run(next_one())) is not None:
                    texts += pair[1].problem is None
                    unusable += pair[1].problem is not None
                    if not texts and unusable == _HOPELESS:
                        raise self._error(
                            f"none of the first {_HOPELESS} requests came to a text "
                            f"({pair[1].problem})",
                            "check augment.model and the endpoint",
                        )
                    yield pair
            finally:
                runner.run(_close(client, [task for _, task in waiting]))

    async def _one(
        self, client: Any, body: Mapping[str, Any], journal: Journal, gate: asyncio.Semaphore
    ) -> Answer:
        request = text_digest(canonical_json([self.url, body]))
        known = journal.get(request)
        if known is not None:
            return known
        async with gate:
            if self._stopped:
                return Answer(problem="not asked: the endpoint has refused another request")
            try:
                answer = await self._ask(client, body)
            except DataError:
                self._stopped = True
                raise
        if answer.problem is None:
            journal.add(request, answer)
        return answer

    def _client(self) -> Any:
        import openai

        # A key that is None would be read from the environment, where another service's lies.
        client = openai.AsyncOpenAI(
            base_url=self.url,
            api_key=self._api_key or "none",
            max_retries=self._retries,
            timeout=self._timeout_s,
        )
        client.organization = client.project = None
        return client

    async def _ask(self, client: Any, body: Mapping[str, Any]) -> Answer:
        import openai

        # A server that sends a byte now and then never runs into the client's own limit.
        most_s = (self._timeout_s + _LONGEST_PAUSE_S) * (self._retries + 1)
        try:
            async with asyncio.timeout(most_s):
                raw = await client.chat.completions.with_raw_response.create(**body)
                return self._answer(raw.http_response)
        except openai.APIStatusError as error:
            if error.status_code in _OF_THE_REQUEST:
                said = self._said(error)
                return Answer(problem=f"the endpoint refuses the request ({said})")
            raise self._refused(error) from None
        except (openai.APIConnectionError, TimeoutError) as error:
            raise self._away(error) from None
        except (openai.OpenAIError, UnicodeError, ValueError) as error:
            raise self._error(
                f"the request cannot be sent ({self._line(error)})",
                "check augment.endpoint and the key",
            ) from None

    def _answer(self, response: Any) -> Answer:
        try:
            body = response.json()
            choice = body["choices"][0]
            text, finish = choice["message"].get("content"), choice.get("finish_reason")
        except (ValueError, RecursionError):
            return Answer(problem="the answer is no JSON")
        except (LookupError, TypeError, AttributeError):
            return Answer(problem="the answer holds no choice")
        finish = finish if isinstance(finish, str) else None
        if text is None and finish in ("length", "content_filter"):
            text = ""
        if not isinstance(text, str):
            return Answer(problem="the answer holds no text")
        return Answer(self._without_key(text), finish)

    def _refused(self, error: Any) -> DataError:
        status, said = error.status_code, self._said(error)
        if status in (401, 403):
            return self._error(
                f"the key is refused ({said})",
                "set augment.api_key_env to the environment variable that holds a valid one",
            )
        if status == 404:
            return self._error(
                f"has no model {self.model!r}, or no /chat/completions ({said})",
                "check augment.model, and that augment.endpoint ends with its path, e.g. /v1",
            )
        tries = (
            f" after {self._retries + 1} tries"
            if status in (408, 409, 429) or status >= 500
            else ""
        )
        return self._error(
            f"answers {status}{tries} ({said})",
            f"wait, or lower augment.concurrency; {_GO_ON}",
        )

    def _away(self, error: BaseException) -> DataError:
        import openai

        tries = f"in {self._retries + 1} tries"
        if isinstance(error, (openai.APITimeoutError, TimeoutError)):
            return self._error(
                f"does not answer within {self._timeout_s:g} s {tries}",
                f"lower augment.concurrency or max_new_tokens; {_GO_ON}",
            )
        reason = self._line(error.__cause__ or error)
        return self._error(
            f"cannot be reached {tries} ({reason})",
            f"start it, or mend augment.endpoint; {_GO_ON}",
        )

    def _error(self, what: str, remedy: str) -> DataError:
        return DataError(f"data.augment: {self.url}: {what}; {remedy}")

    def _said(self, error: Any) -> str:
        """The endpoint's own words, short: most send {error: {message}}."""
        body = error.body
        said = body.get("message") if isinstance(body, dict) else None
        return f"{error.status_code}: {self._line(said)}" if said else str(error.status_code)

    def _line(self, said: object) -> str:
        line = next(iter(str(said).strip().splitlines()), "") or type(said).__name__
        return self._without_key(line)[:_SAID]

    def _without_key(self, text: str) -> str:
        """An endpoint may repeat the key that it was sent; no file is to hold it."""
        return text.replace(self._api_key, "***") if self._api_key else text


async def _close(client: Any, tasks: Sequence[asyncio.Task[Answer]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.close()


def _without_user(url: str) -> str:
    """A URL for a message: nothing before the host, nothing after the path."""
    return re.sub(r"//[^/]*@", "//***@", url).partition("?")[0].partition("#")[0]
