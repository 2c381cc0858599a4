"""What the gateway counts, in Prometheus' text."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from serve.bundle import BundleHead

_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_SHARES = tuple(share / 20 for share in range(1, 21))
NO_LABEL = "(none)"


class Metrics:
    """Counters of one gateway, in a registry of their own."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, heads: Sequence[BundleHead] = ()) -> None:
        """
        Args:
            heads: what validation said of them stands beside what is answered.
        """
        self._registry = made = CollectorRegistry()
        self._started = Counter(
            "gradus_requests_started", "Requests admitted", ["route", "model"], registry=made
        )
        self._finished = Counter(
            "gradus_requests", "Requests over", ["route", "model", "status"], registry=made
        )
        self._seconds = Histogram(
            "gradus_request_seconds", "From a request's head to the last byte", ["route", "model"],
            buckets=_SECONDS, registry=made,
        )  # fmt: skip
        self._tokens = Counter(
            "gradus_tokens", "Tokens, as the engine counts them", ["model", "kind"], registry=made
        )
        self._shed = Counter("gradus_shed", "Requests told to come again", ["why"], registry=made)
        self._lost = Counter("gradus_lost", "Rows or lines not kept", ["what"], registry=made)
        self._restarts = Counter("gradus_engine_restarts", "Engines started again", registry=made)
        self._well = Gauge("gradus_engine_up", "Whether it answers", ["engine"], registry=made)
        self._flight = Gauge(
            "gradus_engine_in_flight", "Requests under way", ["engine"], registry=made
        )
        self._labels = Counter(
            "gradus_labels", "Answers of a head by label", ["model", "label"], registry=made
        )
        self._sure = Histogram(
            "gradus_label_probability", "Calibrated probability of the likeliest label", ["model"],
            buckets=_SHARES, registry=made,
        )  # fmt: skip
        share = Gauge(
            "gradus_validation_label_share", "Share of each label on validation",
            ["model", "label"], registry=made,
        )  # fmt: skip
        sure = Gauge(
            "gradus_validation_probability", "Mean probability of the likeliest on validation",
            ["model"], registry=made,
        )  # fmt: skip
        silent = Gauge(
            "gradus_validation_abstained_share", "Share of validation without a label", ["model"],
            registry=made,
        )  # fmt: skip
        for head in heads:
            told = head.validation or {}
            for label, value in (told.get("labels") or {}).items():
                share.labels(head.name, label).set(value)
            if told.get("confidence") is not None:
                sure.labels(head.name).set(told["confidence"])
            if told.get("abstained") is not None:
                silent.labels(head.name).set(told["abstained"])

    def started(self, route: str, model: str) -> None:
        """A request of a known model is admitted."""
        self._started.labels(route, model).inc()

    def finished(
        self,
        route: str,
        model: str,
        status: int,
        latency_s: float,
        prompt_tokens: int,
        completion_tokens: int,
    ) -> None:
        """A request is over. ``model`` is empty where none was found: names of clients' own
        making are no labels."""
        self._finished.labels(route, model, str(status)).inc()
        if not model:
            return
        self._seconds.labels(route, model).observe(latency_s)
        self._tokens.labels(model, "prompt").inc(prompt_tokens)
        self._tokens.labels(model, "completion").inc(completion_tokens)

    def shed(self, why: str) -> None:
        """A request was told to come again."""
        self._shed.labels(why).inc()

    def lost(self, what: str) -> None:
        """A row of usage or a line of the log was not kept."""
        self._lost.labels(what).inc()

    def engine_restarts(self) -> None:
        """An engine is back after it fell."""
        self._restarts.inc()

    def upstream(self, url: str, well: bool, in_flight: int) -> None:
        """How an engine is now."""
        self._well.labels(url).set(well)
        self._flight.labels(url).set(in_flight)

    def classified(self, model: str, label: str | None, probability: float) -> None:
        """A head has answered; without a label it abstained."""
        self._labels.labels(model, NO_LABEL if label is None else label).inc()
        self._sure.labels(model).observe(probability)

    def render(self) -> bytes:
        """All of it, as /metrics gives it."""
        return generate_latest(self._registry)
