"""An engine's events to the client: bytes as they come, and a true end.

What passes is not parsed. Two things are done to it: the engine's name for the model becomes the
public one, and the chunk of usage, which we always ask for, is taken out where the client did not.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import lru_cache

import aiohttp

from serve.gateway.errors import ApiError

_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_PROMPT = re.compile(rb'"(?:prompt|input)_tokens"\s*:\s*(\d+)')
_ANSWER = re.compile(rb'"(?:completion|output)_tokens"\s*:\s*(\d+)')
DONE = b"data: [DONE]"
# Line ends stand escaped inside JSON: no text of a client's or a model's makes an event.
_DONE_EVENT = DONE + b"\n\n"
_RESPONSE_EVENT = re.compile(
    rb"(?:\A|(?<=\n\n))event: response\.(?:completed|incomplete|failed|cancelled)\n"
    rb"data: ([^\n]*)\n\n"
)


@dataclass
class Counted:
    """Tokens of one request, as the engine tells them; None until it does.

    Attributes:
        prompt, answer: read, and made.
        first_at: when a stream's first byte came, on the monotonic clock.
        events: of a stream, passed until now: about one for each token.
        failed: the engine did not end the stream as it should.
        ended: the event that ends a stream has come.
    """

    prompt: int | None = None
    answer: int | None = None
    first_at: float | None = None
    events: int = 0
    failed: bool = False
    ended: bool = False

    def read(self, data: bytes) -> None:
        """Takes the last usage in these bytes.

        Inside a JSON string a quote is escaped, so ``"usage":{`` can only be a key.
        """
        found = list(_USAGE.finditer(data))
        if not found:
            return
        last = found[-1]
        # Details stand inside the same object under other names.
        part = data[last.end() : last.end() + 2000]
        prompt, answer = _PROMPT.search(part), _ANSWER.search(part)
        self.prompt = int(prompt[1]) if prompt else self.prompt
        self.answer = int(answer[1]) if answer else self.answer

    def read_response(self, data: bytes) -> None:
        """Takes the usage of a response, or of the event that ends its stream.

        It repeats the client's own schemas, in which a key may have any name: its own place counts.
        """
        try:
            tree = json.loads(data)
            usage = tree.get("response", tree)["usage"]
            self.prompt, self.answer = int(usage["input_tokens"]), int(usage["output_tokens"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return

    def look(self, data: bytes, *, responses: bool) -> None:
        """Looks at whole events of a stream."""
        self.events += data.count(b"\n\n")
        if responses:
            for found in _RESPONSE_EVENT.finditer(data):
                self.ended = True
                self.read_response(found[1])
            return
        if b'"usage"' in data:
            self.read(data)
        if data == _DONE_EVENT or data.endswith(b"\n\n" + _DONE_EVENT):
            self.ended = True


class Renamer:
    """Writes a public model name where an answer holds the engine's own.

    Inside a JSON string a quote is escaped, so ``"model":"..."`` can only be a key.
    """

    def __init__(self, echo: str, public: str) -> None:
        self.needed = echo != public
        quoted = json.dumps(echo, ensure_ascii=False).encode()
        self._tight = b'"model":' + quoted
        self._loose = re.compile(rb'"model"\s*:\s*' + re.escape(quoted))
        self._public = b'"model":' + json.dumps(public, ensure_ascii=False).encode()

    def __call__(self, data: bytes) -> bytes:
        """The same bytes with the public name."""
        if not self.needed:
            return data
        found = data.replace(self._tight, self._public)
        return self._loose.sub(lambda _: self._public, data) if found == data else found


renamer = lru_cache(maxsize=1024)(Renamer)
"""One that was made before, where there is one."""


async def events(
    first: bytes,
    content: aiohttp.StreamReader,
    renamed: Renamer,
    counted: Counted,
    *,
    keep_usage: bool,
    responses: bool = False,
    says_done: bool = True,
) -> AsyncIterator[bytes]:
    """The engine's events, in chunks as they come.

    Args:
        first: of the stream's bytes, those that are here.
        content: the others.
        counted: is told the usage.
        keep_usage: the client asked for the chunk of usage.
        responses: the events are those of /v1/responses, which end in one of their own, and not
            in [DONE].
        says_done: the engine says it, so what ends otherwise was cut off; else it is said here.

    Yields:
        Bytes. An error event, never a clean end, where the engine goes away.
    """
    rest, chunk = b"", first
    try:
        while chunk:
            data = rest + chunk if rest else chunk
            rest = b""
            if not data.endswith(b"\n\n"):
                # An event may come in pieces: only whole ones can be looked at.
                cut = data.rfind(b"\n\n") + 2
                data, rest = (data[:cut], data[cut:]) if cut > 1 else (b"", data)
            if data:
                counted.look(data, responses=responses)
                if not keep_usage and b'"usage"' in data:
                    data = _without_usage(data)
                if b'data: {"error"' in data:
                    counted.failed = True
                if counted.failed:
                    # An engine may say [DONE] after its error: that would be a clean end.
                    data = data.replace(_DONE_EVENT, b"")
                if data:
                    yield renamed(data)
            chunk = await content.readany()
    except (aiohttp.ClientError, TimeoutError, OSError):
        counted.failed = True
        yield gone()
        return
    if counted.ended or counted.failed:
        return
    # The connection ended as it should, or there had been an exception.
    if rest.strip() == DONE or not (responses or says_done):
        counted.ended = True
        yield (b"" if rest.strip() == DONE or not rest else renamed(rest) + b"\n\n") + _DONE_EVENT
    else:
        # An event that was cut off is none, and clients would stumble over half of it.
        counted.failed = True
        yield gone()


def _without_usage(data: bytes) -> bytes:
    """Events without the one that holds usage and nothing else."""
    kept = []
    for event in data.split(b"\n\n"):
        alone = event.startswith(b"data:") and b'"choices":[]' in event.replace(b" ", b"")
        if not (alone and _USAGE.search(event)):
            kept.append(event)
    return b"\n\n".join(kept) if any(kept) else b""


def gone(
    message: str = "The engine went away; the answer is not whole",
    status: int = 503,
    code: str = "engine_away",
) -> bytes:
    """The event that ends a stream which the engine did not end."""
    tree = ApiError(status, message, code=code).body()
    return b"data: " + json.dumps(tree).encode() + b"\n\n"
