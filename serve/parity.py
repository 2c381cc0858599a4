"""The parity gate: a running engine makes training's ids and gives the models' own answers.

Asked before anything is let through, of every golden conversation of the bundle (`golden_file`)
and every model: the ids of the prompt; the log-probabilities of a target, teacher-forced; the
greedy continuation and its log-probabilities, base and adapters batched together as traffic is
(vllm #48421); and whether what ends an answer ends it. Speaks HTTP only.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.core.errors import EngineError
from pipeline.core.token_table import side_by_side
from serve.attached import AttachedEngine
from serve.bundle import Bundle
from serve.engine import Engine
from serve.golden_file import Conversation, Golden, Said, Tolerance, read_golden, tolerance_of
from serve.heads import read_head
from serve.parity_engine import AT_ONCE, AskedEngine, Continued
from serve.parity_heads import HeadsReport, check_heads, served_heads

__all__ = ["HeadsReport", "ParityReport", "announce", "check", "check_heads"]


@dataclass(frozen=True)
class ParityReport:
    """What was compared, and how far apart it was.

    Attributes:
        conversations: golden conversations; 0: the bundle has none, and nothing was compared.
        models: how many models each was asked of.
        tokens: log-probabilities that were compared.
        largest, mean: their differences, in nats; ``mean`` is that of the model furthest off.
        allowed: what they may be.
        greedy: tokens of greedy continuations that were found equal.
        undecided: tokens that were not compared, from the first step at which the margin of the
            top two does not exceed the tolerance.
    """

    conversations: int
    models: int
    tokens: int
    largest: float
    mean: float
    allowed: Tolerance
    greedy: int
    undecided: int

    def line(self) -> str:
        """All of it for a person."""
        if not self.conversations:
            return "parity: the bundle holds no golden conversations; nothing was compared"
        left = f" ({self.undecided} too close to tell)" if self.undecided else ""
        return (
            f"parity: {self.conversations} conversations, {self.models} models: ids equal; "
            f"{self.tokens} log-probabilities differ by {self.largest:.2g} at most, "
            f"{self.mean:.2g} on average (allowed {self.allowed.largest:.2g}, "
            f"{self.allowed.mean:.2g}); {self.greedy} greedy tokens equal{left}"
        )


class _Token(NamedTuple):
    """One log-probability, offline and served."""

    place: int
    shown: str
    offline: float
    served: float

    @property
    def apart(self) -> float:
        return abs(self.offline - self.served)


class _Answer(NamedTuple):
    """What was compared of one model's answer to one conversation."""

    conversation: Conversation
    name: str
    what: str
    tokens: list[_Token]

    @property
    def largest(self) -> float:
        """NaN is the largest of all."""
        apart = (math.inf if math.isnan(token.apart) else token.apart for token in self.tokens)
        return max(apart, default=0.0)


def check(
    bundle: Bundle,
    engine_url: str,
    models: Mapping[str, str],
    *,
    alone: bool = True,
    timeout: float = 600.0,
) -> ParityReport:
    """Compares a running vLLM with a bundle's golden conversations.

    Args:
        bundle: what the engine was started with.
        engine_url: where it listens, without a path.
        models: public name to the engine's name; all of them are asked.
        alone: nobody else asks the engine. Where others do, no target is forced: with adapters
            loaded, log-probabilities of a prompt beside other requests end the engine.
        timeout: seconds for everything.

    Raises:
        EngineError: the engine makes other ids, says something else, does not stop where training
            stops, or does not answer; shows the tokens.
        UserError: golden.json is torn.
    """
    golden = read_golden(bundle.root)
    if golden is None:
        return ParityReport(0, 0, 0, 0.0, 0.0, Tolerance(0.0, 0.0), 0, 0)
    for name in models:
        if any(name not in conversation.models for conversation in golden.conversations):
            raise EngineError(
                f"parity: {bundle.root}: golden.json does not know {name}; build the bundle again"
            )
    engine = AskedEngine(bundle, engine_url, time.monotonic() + timeout)
    asked = [(c, name) for c in golden.conversations for name in models]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            _require_ids(golden, models, engine, pool)
            forced = [
                _forced(*job, engine.logprobs(job[0], models[job[1]]))
                for job in (asked if alone else ())
            ]
            continued = list(pool.map(lambda job: engine.greedy(job[0], models[job[1]]), asked))
            _require_ends(golden, models, engine, pool)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    allowed = tolerance_of(golden)
    decided = [_decided(c.models[name], allowed) for c, name in asked]
    mixed = [
        _mixed(c, name, told, steps)
        for (c, name), told, steps in zip(asked, continued, decided, strict=True)
    ]
    largest, mean = _require_near([*forced, *mixed], allowed)
    for (c, name), told, steps in zip(asked, continued, decided, strict=True):
        _require_greedy(c, name, told, golden.ends, steps)
    return ParityReport(
        conversations=len(golden.conversations),
        models=len(models),
        tokens=sum(len(answer.tokens) for answer in [*forced, *mixed]),
        largest=largest,
        mean=mean,
        allowed=allowed,
        greedy=sum(decided),
        undecided=sum(len(c.models[name].greedy) for c, name in asked) - sum(decided),
    )


def announce(bundle: Bundle, engines: Sequence[Engine], echo: Callable[[str], None]) -> None:
    """Checks engines that have just become ready, and says in a line each what was seen.

    Args:
        engines: those that write, and those that pool states for heads.

    Raises:
        EngineError, UserError: as ``check`` and ``check_heads``.
    """
    engines = [engine for engine in engines if not getattr(engine, "away", False)]
    if engines[0].name != "vllm":
        echo(f"parity: not compared: {engines[0].name} tells no ids and no log-probabilities")
        return
    pools = {way: e for e in engines if (way := getattr(e, "pooling", None)) is not None}
    for engine in engines:
        if getattr(engine, "pooling", None) is None:
            # Other gateways may ask an engine that runs elsewhere.
            alone = not isinstance(engine, AttachedEngine)
            where = "" if alone else f"{engine.base_url}: "
            echo(where + check(bundle, engine.base_url, engine.models, alone=alone).line())
    if not pools:
        return
    missing = {read_head(head).pooling for head in bundle.heads} - pools.keys()
    if missing:
        echo(f"parity: heads are not compared: no engine pools {', '.join(sorted(missing))}")
        return
    echo(check_heads(bundle, served_heads(bundle, list(pools.values()))).line())


def _require_ids(
    golden: Golden, models: Mapping[str, str], engine: AskedEngine, pool: ThreadPoolExecutor
) -> None:
    jobs = [(c, name) for c in golden.conversations for name in models]
    made = pool.map(lambda job: engine.ids(job[0], models[job[1]]), jobs)
    different = [
        (conversation, name, ids, strings)
        for (conversation, name), (ids, strings) in zip(jobs, made, strict=True)
        if ids != conversation.ids
    ]
    if not different:
        return
    conversation, name, ids, strings = different[0]
    where = f"of {len({id(each[0]) for each in different})} of {len(golden.conversations)}"
    table = side_by_side(conversation.ids, conversation.strings, ids, strings, "server")
    raise EngineError(
        f"parity: {name}: the server makes other ids than training {where} golden conversations, "
        f"{conversation.name!r} first; start it with the bundle's own chat template, system text "
        f"and tokenizer\n{table}"
    )


def _require_ends(
    golden: Golden, models: Mapping[str, str], engine: AskedEngine, pool: ThreadPoolExecutor
) -> None:
    """What ends an answer in training ends it, and no other special token does."""
    ids = golden.conversations[0].ids
    jobs = [(token, name) for token in (*golden.ends, *golden.others) for name in models]
    stopped = pool.map(lambda job: engine.stops_at(ids, job[0], models[job[1]]), jobs)
    for (token, name), stops in zip(jobs, stopped, strict=True):
        if stops != (token in golden.ends):
            how = "goes on after" if token in golden.ends else "stops at"
            raise EngineError(
                f"parity: {name}: the server {how} token id {token}, and in training an answer "
                f"ends with {golden.ends} alone; give it the bundle's base with its own "
                "generation_config.json"
            )


def _forced(conversation: Conversation, name: str, served: Sequence[float]) -> _Answer:
    said, start = conversation.models[name], len(conversation.ids)
    shown = zip(conversation.target, conversation.target_strings, strict=True)
    tokens = [
        _Token(start + place, f"{token} {string!r}", offline, found)
        for place, ((token, string), offline, found) in enumerate(
            zip(shown, said.logprobs, served, strict=True)
        )
    ]
    return _Answer(conversation, name, "asked alone", tokens)


def _mixed(conversation: Conversation, name: str, told: Continued, steps: int) -> _Answer:
    """Of the continuation, while it is the same text."""
    said, start = conversation.models[name], len(conversation.ids)
    tokens = []
    for place in range(min(steps, len(told.ids), len(told.logprobs))):
        if told.ids[place] != said.greedy[place]:
            break
        offline, served = said.greedy_logprobs[place], told.logprobs[place]
        tokens.append(_Token(start + place, str(said.greedy[place]), offline, served))
    return _Answer(conversation, name, "in a batch with other models", tokens)


def _decided(said: Said, allowed: Tolerance) -> int:
    """Steps before the first at which both tokens could be the likeliest.

    After that step the continuations are of two texts.
    """
    close = (step for step, margin in enumerate(said.margins) if margin <= allowed.largest)
    return next(close, len(said.margins))


def _require_near(answers: Sequence[_Answer], allowed: Tolerance) -> tuple[float, float]:
    """The largest difference, and the mean of the model that is furthest off."""
    worst = max(answers, key=lambda answer: answer.largest)
    if worst.largest > allowed.largest:
        raise EngineError(_apart(worst, f"by {worst.largest:.3g} (allowed {allowed.largest:.2g})"))
    means = {}
    for name in {answer.name for answer in answers}:
        apart = [
            token.apart for answer in answers if answer.name == name for token in answer.tokens
        ]
        # None at all where every first step was too close to tell.
        means[name] = sum(apart) / max(1, len(apart))
    name = max(means, key=lambda each: means[each])
    if means[name] > allowed.mean:
        seen = max((a for a in answers if a.name == name), key=lambda answer: answer.largest)
        how = f"by {means[name]:.3g} on average over all (allowed {allowed.mean:.2g})"
        raise EngineError(_apart(seen, how))
    return worst.largest, means[name]


def _apart(answer: _Answer, how: str) -> str:
    lines = [f"  {'position':>8}  {'token':<24}  {'offline':>10}  {'server':>10}  difference"]
    lines += [
        f"  {t.place:>8}  {t.shown:<24}  {t.offline:>10.4f}  {t.served:>10.4f}  {t.apart:.3g}"
        for t in answer.tokens
    ]
    return (
        f"parity: {answer.name}, {answer.what}: log-probabilities of golden conversation "
        f"{answer.conversation.name!r} differ from offline {how}; the server does not serve the "
        "bundle's weights under this name\n" + "\n".join(lines)
    )


def _require_greedy(
    conversation: Conversation, name: str, told: Continued, ends: Sequence[int], steps: int
) -> None:
    said = conversation.models[name]
    expected, found = said.greedy[:steps], told.ids[:steps]
    if told.stopped and expected and expected[-1] in ends and len(found) == len(expected) - 1:
        # An engine may leave the token that ended the answer out.
        expected = expected[:-1]
    if found == expected:
        return
    table = side_by_side(expected, [], found, [], "server")
    raise EngineError(
        f"parity: {name}: the server's greedy continuation of golden conversation "
        f"{conversation.name!r} is another than offline; it serves other weights or ends "
        f"elsewhere than the bundle says\n{table}"
    )
