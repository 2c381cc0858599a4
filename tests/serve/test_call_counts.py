"""Counters of calls beside the library's own."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from serve.call_counts import CallCounts

BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
CALLS = st.lists(
    st.tuples(
        st.sampled_from(["/v1/chat/completions", "/v1/completions"]),
        st.sampled_from(["", "a", 'b"\\\n']),
        st.sampled_from([200, 404, 503]),
        st.one_of(st.sampled_from(BUCKETS), st.floats(0, 1000)),
        st.integers(0, 2**40),
        st.integers(0, 2**40),
        st.none() | st.floats(0, 1000),
    )
)


def samples(registry: CollectorRegistry) -> dict[Any, float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@given(CALLS)
def test_what_is_told_is_what_the_library_would_tell(calls: Any) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    counts = CallCounts()
    ours.register(counts)
    which = ["route", "model"]
    started = Counter("gradus_requests_started", "-", which, registry=theirs)
    over = Counter("gradus_requests", "-", [*which, "status"], registry=theirs)
    tokens = Counter("gradus_tokens", "-", ["model", "kind"], registry=theirs)
    times = Histogram("gradus_request_seconds", "-", which, registry=theirs, buckets=BUCKETS)
    first = Histogram("gradus_first_byte_seconds", "-", which, registry=theirs, buckets=BUCKETS)
    for route, model, status, seconds, prompt, answer, first_s in calls:
        counts.started(route, model)
        counts.finished(route, model, status, seconds, prompt, answer, first_s)
        started.labels(route, model).inc()
        over.labels(route, model, str(status)).inc()
        if model:
            times.labels(route, model).observe(seconds)
            tokens.labels(model, "prompt").inc(prompt)
            tokens.labels(model, "completion").inc(answer)
            if first_s is not None:
                first.labels(route, model).observe(first_s)
    assert samples(ours) == samples(theirs)
