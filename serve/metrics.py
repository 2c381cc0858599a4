"""What the gateway counts, in Prometheus' text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from serve.call_counts import CallCounts
from serve.drift import Drift

_SHARES = tuple(share / 20 for share in range(1, 21))


class Metrics:
    """Counters of one gateway, in a registry of their own.

    Attributes:
        calls: what every request adds to.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, validations: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """
        Args:
            validations: of each name that classifies, what it answered on validation: that
                stands beside what is answered.
        """
        self._registry = made = CollectorRegistry()
        self.calls = CallCounts()
        made.register(self.calls)
        self._shed = Counter("gradus_shed", "Requests told to come again", ["why"], registry=made)
        self._lost = Counter("gradus_lost", "Rows or lines not kept", ["what"], registry=made)
        self._waiting = Gauge(
            "gradus_usage_waiting", "Rows of usage that are not written yet", registry=made
        )
        self._restarts = Counter("gradus_engine_restarts", "Engines started again", registry=made)
        self._well = Gauge("gradus_engine_up", "Whether it answers", ["engine"], registry=made)
        self._flight = Gauge(
            "gradus_engine_in_flight", "Requests under way", ["engine"], registry=made
        )
        self._labels = Counter(
            "gradus_labels", "Answers of a head by the likeliest label", ["model", "label"],
            registry=made,
        )  # fmt: skip
        self._silent = Counter(
            "gradus_abstained", "Answers of a head without a label", ["model"], registry=made
        )
        self._sure = Histogram(
            "gradus_label_probability", "Calibrated probability of the likeliest label", ["model"],
            buckets=_SHARES, registry=made,
        )  # fmt: skip
        self._drift = {name: Drift(told) for name, told in (validations or {}).items()}
        self._validation = _Validation(made)
        for name, told in (validations or {}).items():
            self._validation.show(name, told)
        _show_drift(self._drift, made)

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

    def usage_waiting(self, count: Callable[[], int]) -> None:
        """Asks ``count`` at every look: a database that is away shows before a row is lost."""
        self._waiting.set_function(count)

    def classified(
        self, model: str, label: str, probability: float, *, abstained: bool,
        began: float | None = None,
    ) -> None:  # fmt: skip
        """A head has answered.

        Args:
            label: the likeliest, also where it was not told: validation's shares are of that.
            abstained: it was not told.
            began: by ``time.monotonic``: what began before another version was live is no drift
                of that one.
        """
        self._labels.labels(model, label).inc()
        self._sure.labels(model).observe(probability)
        if abstained:
            self._silent.labels(model).inc()
        if (drift := self._drift.get(model)) is not None:
            drift.answered(label, probability, abstained=abstained, began=began)

    def measured_by(self, name: str, validation: Mapping[str, Any]) -> None:
        """Another version of a name is live: its answers are held against its own validation."""
        if (drift := self._drift.get(name)) is not None:
            drift.measure_by(validation)
            self._validation.show(name, validation)

    def render(self) -> bytes:
        """All of it, as /metrics gives it."""
        return generate_latest(self._registry)


class _Validation:
    """Gauges of what heads answered on validation."""

    def __init__(self, made: CollectorRegistry) -> None:
        self._share = Gauge(
            "gradus_validation_label_share",
            "Share of validation for which a label is the likeliest", ["model", "label"],
            registry=made,
        )  # fmt: skip
        self._sure = Gauge(
            "gradus_validation_probability", "Mean probability of the likeliest on validation",
            ["model"], registry=made,
        )  # fmt: skip
        self._silent = Gauge(
            "gradus_validation_abstained_share", "Share of validation without a label", ["model"],
            registry=made,
        )  # fmt: skip

    def show(self, name: str, told: Mapping[str, Any]) -> None:
        for label, value in (told.get("labels") or {}).items():
            self._share.labels(name, label).set(value)
        if told.get("confidence") is not None:
            self._sure.labels(name).set(told["confidence"])
        if told.get("abstained") is not None:
            self._silent.labels(name).set(told["abstained"])


def _show_drift(heads: Mapping[str, Drift], made: CollectorRegistry) -> None:
    """Gauges that are worked out when somebody looks."""
    far = Gauge(
        "gradus_label_drift", "Total variation distance of the last answers' labels from "
        "validation's, 0 to 1", ["model"], registry=made,
    )  # fmt: skip
    sure = Gauge(
        "gradus_probability_drift", "Mean probability of the last answers less validation's",
        ["model"], registry=made,
    )  # fmt: skip
    silent = Gauge(
        "gradus_abstained_drift", "Abstained share of the last answers less validation's",
        ["model"], registry=made,
    )  # fmt: skip
    count = Gauge(
        "gradus_drift_answers", "Answers that the drift is worked out from, the last 1,000",
        ["model"], registry=made,
    )  # fmt: skip
    for name, drift in heads.items():
        far.labels(name).set_function(drift.labels)
        sure.labels(name).set_function(drift.probability)
        silent.labels(name).set_function(drift.abstained)
        count.labels(name).set_function(drift.answers)
