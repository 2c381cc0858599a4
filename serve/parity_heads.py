"""The parity gate of classifier heads: served probabilities are those of the offline logits."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.core.errors import EngineError
from serve.attached import engine_headers
from serve.bundle import Bundle, BundleHead
from serve.engine import Engine
from serve.gateway.classify import Asked, Reading, classify
from serve.gateway.directory import renders
from serve.gateway.errors import ApiError
from serve.golden_file import Conversation, read_golden
from serve.heads import read_head

Ask = Callable[[str, Sequence[Mapping[str, Any]]], Mapping[str, float]]
"""A head's name and a client's messages to label and calibrated probability, as POST /v1/classify
answers; of a head that tells a number, ``{"value": number}``."""

# Of probabilities. In float32 what kernels leave; states in bfloat16 have a relative step of
# 2^-8, and a logit of some units moves by some hundredths.
_ALLOWED: Mapping[str, tuple[float, float]] = {
    "float32": (1e-3, 1e-4),
    "float16": (1e-2, 3e-3),
    "bfloat16": (5e-2, 1.5e-2),
}
_VALUE = "value"


@dataclass(frozen=True)
class HeadsReport:
    """What was compared: answers, and the differences of their probabilities.

    Attributes:
        answers: conversations times heads.
        largest, mean: of probabilities; of a number in standard deviations of its data.
    """

    answers: int
    largest: float
    mean: float

    def line(self) -> str:
        """All of it for a person."""
        if not self.answers:
            return "parity: no head has golden answers; nothing was compared"
        return (
            f"parity: {self.answers} answers of heads: probabilities differ by {self.largest:.2g} "
            f"at most, {self.mean:.2g} on average"
        )


def check_heads(bundle: Bundle, ask: Ask) -> HeadsReport:
    """Compares what served heads answer with their offline logits, calibrated as the bundle says.

    Args:
        ask: asks the served head.

    Raises:
        EngineError: an answer is further off than the served type explains; shows the labels.
        UserError: golden.json is torn.
    """
    golden = read_golden(bundle.root)
    apart: list[float] = []
    answers = 0
    for about in bundle.heads if golden is not None else ():
        assert golden is not None
        asked = [c for c in golden.conversations if about.name in c.heads and c.messages]
        own = _of_head(about, asked, ask, *_ALLOWED[golden.dtype])
        apart, answers = apart + own, answers + len(asked)
    if not apart:
        return HeadsReport(0, 0.0, 0.0)
    return HeadsReport(answers, max(apart), sum(apart) / len(apart))


def _of_head(
    about: BundleHead, asked: Sequence[Conversation], ask: Ask, largest: float, mean: float
) -> list[float]:
    """Every difference of one head's answers."""
    head = read_head(about)
    found: list[float] = []
    for conversation in asked:
        answer = head.answer(np.asarray(conversation.heads[about.name], dtype=np.float64))
        offline = dict(answer.probabilities or {_VALUE: answer.value or 0.0})
        served = ask(about.name, conversation.messages or ())
        if served.keys() != offline.keys():
            raise EngineError(
                f"parity: head {about.name}: the server answers {sorted(served)[:8]}, and the "
                f"head has {sorted(offline)[:8]}; it serves another head"
            )
        scale = 1.0 if answer.probabilities else head.value_std
        differences = {name: abs(offline[name] - served[name]) / scale for name in offline}
        if not max(differences.values()) <= largest:
            raise EngineError(
                f"parity: head {about.name}: its answer to golden conversation "
                f"{conversation.name!r} differs from offline by {max(differences.values()):.3g} "
                f"(allowed {largest:.2g}); the server does not serve the bundle's head\n"
                + _table(offline, served, differences)
            )
        found += differences.values()
    if found and not sum(found) / len(found) <= mean:
        raise EngineError(
            f"parity: head {about.name}: its answers differ from offline by "
            f"{sum(found) / len(found):.3g} on average (allowed {mean:.2g}); the server does not "
            "serve the bundle's head"
        )
    return found


def _table(
    offline: Mapping[str, float], served: Mapping[str, float], differences: Mapping[str, float]
) -> str:
    first = sorted(offline, key=lambda name: -differences[name])[:8]
    lines = [f"  {'label':<24}  {'offline':>8}  {'server':>8}"]
    lines += [f"  {name:<24}  {offline[name]:>8.4f}  {served[name]:>8.4f}" for name in first]
    return "\n".join(lines)


def served_heads(bundle: Bundle, engines: Sequence[Engine], *, timeout: float = 60.0) -> Ask:
    """Asks running engines as POST /v1/classify does.

    Args:
        engines: those that pool states; each names the heads it holds.
        timeout: seconds for one answer.

    Raises:
        EngineError: where the engine does not answer, or not with states; raised by what is
            returned.
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    places = {
        name: (engine.base_url, served)
        for engine in engines
        for name, served in engine.models.items()
    }
    about = {each.name: each for each in bundle.heads}
    chat = renders(bundle)

    def post(url: str, body: bytes) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json", **engine_headers()}
        request = urllib.request.Request(url, body, headers)  # noqa: S310, an engine's own address
        try:
            with opener.open(request, timeout=timeout) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def ask(name: str, messages: Sequence[Mapping[str, Any]]) -> Mapping[str, float]:
        url, served = places[name]

        async def send(path: str, body: bytes) -> tuple[int, bytes]:
            return await asyncio.to_thread(post, url + path, body)

        reading = Reading(served, chat, bundle.system, bundle.controls, bundle.chat_template_kwargs)
        asked = Asked(([dict(message) for message in messages],), ({},))
        try:
            _, (answer,), _ = asyncio.run(
                classify(name, "", read_head(about[name]), reading, asked, send)
            )
        except (ApiError, OSError) as error:
            raise EngineError(
                f"parity: head {name}: {url} does not answer with states ({error}); look "
                "at the engine's log"
            ) from None
        return dict(answer.probabilities or {_VALUE: answer.value or 0.0})

    return ask
