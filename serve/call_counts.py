"""What every request adds to: plain numbers, made into Prometheus' families when somebody looks.

The library's own counters take a lock and several calls each, and a request has eight of them.
These are for one thread, the gateway's loop.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class _Times:
    """A histogram's buckets, each on its own, and their sum."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts, self.total = [0] * (len(_SECONDS) + 1), 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(_SECONDS, seconds)] += 1
        self.total += seconds


class CallCounts(Collector):
    """Requests by route, model and status, how long they took, and their tokens.

    Without the library's ``_created`` series, which tell when each began to be counted.
    """

    def __init__(self) -> None:
        self._started: dict[tuple[str, str], int] = defaultdict(int)
        self._finished: dict[tuple[str, str, str], int] = defaultdict(int)
        self._seconds: dict[tuple[str, str], _Times] = defaultdict(_Times)
        self._first: dict[tuple[str, str], _Times] = defaultdict(_Times)
        self._tokens: dict[tuple[str, str], int] = defaultdict(int)

    def started(self, route: str, model: str) -> None:
        """A request of a known model is admitted."""
        self._started[route, model] += 1

    def finished(
        self,
        route: str,
        model: str,
        status: int,
        latency_s: float,
        prompt_tokens: int,
        completion_tokens: int,
        first_byte_s: float | None = None,
    ) -> None:
        """A request is over. ``model`` is empty where none was found: names of clients' own
        making are no labels. ``first_byte_s``: of a stream."""
        self._finished[route, model, str(status)] += 1
        if not model:
            return
        self._seconds[route, model].add(latency_s)
        if first_byte_s is not None:
            self._first[route, model].add(first_byte_s)
        self._tokens[model, "prompt"] += prompt_tokens
        self._tokens[model, "completion"] += completion_tokens

    def collect(self) -> Iterable[Metric]:
        """See ``Collector``."""
        for name, what, labels, counts in (
            ("gradus_requests_started", "Requests admitted", ("route", "model"), self._started),
            ("gradus_requests", "Requests over", ("route", "model", "status"), self._finished),
            ("gradus_tokens", "Tokens, as the engine counts them", ("model", "kind"),
             self._tokens),
        ):  # fmt: skip
            yield _counter(name, what, labels, counts)
        for name, what, times in (
            ("gradus_request_seconds", "From a request's head to the last byte", self._seconds),
            ("gradus_first_byte_seconds", "From a request's head to a stream's first byte",
             self._first),
        ):  # fmt: skip
            yield _histogram(name, what, times)


def _counter(name: str, what: str, labels: tuple[str, ...], counts: Mapping[Any, int]) -> Metric:
    made = CounterMetricFamily(name, what, labels=labels)
    for values, count in counts.items():
        made.add_metric(values, count)
    return made


def _histogram(name: str, what: str, times: Mapping[tuple[str, str], _Times]) -> Metric:
    made = HistogramMetricFamily(name, what, labels=("route", "model"))
    for values, each in times.items():
        under, buckets = 0, []
        for bound, count in zip((*_SECONDS, float("inf")), each.counts, strict=True):
            under += count
            le: str = floatToGoString(bound)  # type: ignore[no-untyped-call]
            buckets.append((le, under))
        made.add_metric(values, buckets, each.total)
    return made
