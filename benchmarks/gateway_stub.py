"""Our gateway, LiteLLM's and the least one possible before one stub upstream, and no gateway.

The stub and the client share one core, the gateway under test has the other. The sides take
turns; each quotient is the median over turns. Our gateway has everything switched on: a file of
keys with limits, usage in SQLite, an access log, metrics; LiteLLM has a key and no database; the
bare proxy nothing.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import gateway_sides as sides
from benchmarks.gateway_sides import Side

FIGURES = (
    "added_p50_vs_litellm", "added_p50_vs_bare", "rps_vs_litellm", "rps_vs_direct",
    "chunks_vs_direct", "memory_vs_litellm",
)  # fmt: skip
TURNS, SECONDS = 5, 4.0
CONNECTIONS, STREAMS, TOKENS = 32, 16, 200
# Of an answer that is not streamed.
ANSWER_TOKENS = 8
# Below this the client or the stub is what is measured.
_CLIENT_MARGIN = 2.0


@dataclass
class Measured:
    """One side's figures, one of each for each turn."""

    p50_s: list[float] = field(default_factory=list)
    answers_per_s: list[float] = field(default_factory=list)
    words_per_s: list[float] = field(default_factory=list)
    answers: int = 0
    pss_bytes: float = 0.0


def measure(
    turns: int = TURNS, seconds: float = SECONDS, peers: Sequence[str] = ("bare", "litellm")
) -> dict[str, float]:
    """Measures all sides, prints a table, and returns the quotients that these peers give.

    Args:
        seconds: of each of the three measurements of a side in a turn.

    Raises:
        EngineError: a side did not start, or LiteLLM's environment cannot be made.
        Broken: a side's answer was none, or was not what the stub said.
    """
    if "litellm" in peers:
        from benchmarks.gateway_litellm import install_litellm

        print(f"LiteLLM {install_litellm()}")
    if len(os.sched_getaffinity(0)) == 1:
        print("one core only: client, stub and gateway share it, and the quotients say little")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gradus-benchmark-")))
        with sides.pinned(0):
            direct = stack.enter_context(sides.stub(folder, TOKENS))
        upstream = f"http://127.0.0.1:{direct.port}"
        with sides.pinned(1):
            raced = [direct, stack.enter_context(sides.ours(folder, upstream))]
            if "bare" in peers:
                raced.append(stack.enter_context(sides.bare(folder, upstream)))
            if "litellm" in peers:
                raced.append(stack.enter_context(sides.litellm(folder, upstream)))
        with sides.pinned(0):
            found = _raced(raced, turns, seconds)
        _require_everything_on(folder, found["ours"].answers)
    _print(found)
    return _quotients(found)


def _raced(raced: Sequence[Side], turns: int, seconds: float) -> dict[str, Measured]:
    from benchmarks.gateway_client import drive, request_bytes

    found = {side.name: Measured() for side in raced}
    for side in raced:
        _require_right(side)
    for turn in range(-1, turns):
        for side in raced:
            whole = request_bytes(side.port, sides.chat_body(ANSWER_TOKENS, stream=False), side.key)
            streamed = request_bytes(side.port, sides.chat_body(TOKENS, stream=True), side.key)
            # The first turn warms everything up.
            window_s = seconds if turn >= 0 else min(seconds, 1.0)

            def load(request: bytes, connections: int, port: int = side.port, s: float = window_s):
                return sides.run_loop(drive(port, request, connections=connections, seconds=s))

            alone, many = load(whole, 1), load(whole, CONNECTIONS)
            streams = load(streamed, STREAMS)
            of = found[side.name]
            of.answers += sum(len(each.latencies_s) for each in (alone, many, streams))
            if turn >= 0:
                of.p50_s.append(statistics.median(alone.latencies_s))
                of.answers_per_s.append(many.answers_per_s)
                of.words_per_s.append(streams.words_per_s)
    for side in raced:
        found[side.name].pss_bytes = side.pss_bytes
    return found


def _require_right(side: Side) -> None:
    """Both forms of answer hold what the stub says, whole."""
    from benchmarks.gateway_client import Broken, fetch, request_bytes, stream_of, words_in

    def asked(tokens: int, *, stream: bool) -> bytes:
        body = sides.chat_body(tokens, stream=stream)
        found: bytes = sides.run_loop(fetch(side.port, request_bytes(side.port, body, side.key)))
        return found

    if b"alpha beta gamma" not in asked(ANSWER_TOKENS, stream=False):
        raise Broken(f"{side.name}: its answer is not what the stub says")
    events = stream_of(asked(TOKENS, stream=True))
    if words_in(events) != TOKENS or b"data: [DONE]" not in events:
        raise Broken(
            f"{side.name}: a stream of {TOKENS} words came with {words_in(events)}, or without end"
        )


def _require_everything_on(folder: Path, requests: int) -> None:
    """Usage and log of our gateway hold what was asked: nothing was switched off, or lost."""
    from benchmarks.gateway_client import Broken

    # Usage is written twice a second.
    time.sleep(1.2)
    counted, logged = sides.usage_counted(folder), sides.lines_logged(folder)
    if min(counted, logged) < requests:
        raise Broken(f"ours: usage holds {counted} requests and the log {logged} of {requests}")


def _quotients(found: dict[str, Measured]) -> dict[str, float]:
    direct, own = found["direct"], found["ours"]

    def added_s(of: Measured) -> float:
        pairs = zip(of.p50_s, direct.p50_s, strict=True)
        return statistics.median(with_it - without for with_it, without in pairs)

    def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
        return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))

    quotients = {
        "rps_vs_direct": ratio(own.answers_per_s, direct.answers_per_s),
        "chunks_vs_direct": ratio(own.words_per_s, direct.words_per_s),
    }
    if "bare" in found:
        quotients["added_p50_vs_bare"] = added_s(own) / added_s(found["bare"])
    if "litellm" in found:
        theirs = found["litellm"]
        quotients["added_p50_vs_litellm"] = added_s(own) / added_s(theirs)
        quotients["rps_vs_litellm"] = ratio(own.answers_per_s, theirs.answers_per_s)
        quotients["memory_vs_litellm"] = own.pss_bytes / theirs.pss_bytes
    return quotients


def _print(found: dict[str, Measured]) -> None:
    direct = found["direct"]
    print(
        f"{'':<10}{'p50 ms':>9}{'added ms':>10}{f'requests/s at {CONNECTIONS}':>18}"
        f"{f'chunks/s of {STREAMS}':>16}{'MB':>7}"
    )
    for name, of in found.items():
        pairs = zip(of.p50_s, direct.p50_s, strict=True)
        added = "" if of is direct else f"{1e3 * statistics.median(a - b for a, b in pairs):.3f}"
        memory = "" if of is direct else f"{of.pss_bytes / 1e6:.0f}"
        print(
            f"{name:<10}{1e3 * statistics.median(of.p50_s):>9.3f}{added:>10}"
            f"{statistics.median(of.answers_per_s):>18,.0f}"
            f"{statistics.median(of.words_per_s):>16,.0f}{memory:>7}"
        )
    for what, figures in (
        ("requests/s", {n: statistics.median(of.answers_per_s) for n, of in found.items()}),
        ("chunks/s", {n: statistics.median(of.words_per_s) for n, of in found.items()}),
    ):
        best = max(figure for name, figure in figures.items() if name != "direct")
        if figures["direct"] < _CLIENT_MARGIN * best:
            print(
                f"note: {what}: direct shows {figures['direct'] / best:.2f} times the fastest "
                "gateway: here the client and the stub are the bound"
            )
