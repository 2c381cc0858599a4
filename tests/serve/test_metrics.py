"""Counters, read by Prometheus' own parser."""

from __future__ import annotations

import math
import time
from itertools import combinations
from typing import Any

import numpy as np
import openai
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from stub_engine import Stub

from serve.drift import WINDOW, Drift
from serve.metrics import Metrics

ASKED: Any = [{"role": "user", "content": "Hello"}]


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Any, name: str, **labels: str) -> float:
    number: float = found[(name, frozenset(labels.items()))]
    return number


def test_requests_and_tokens_are_counted_and_names_of_clients_making_are_no_labels(
    gateway: Any,
) -> None:
    running = gateway(metrics=Metrics())
    client = running.client()
    for _ in range(3):
        client.chat.completions.create(model="demo-l2", messages=ASKED)
    for number in range(5):
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model=f"x{number}", messages=ASKED)
    text = requests.get(f"{running.url}/metrics", timeout=5).text
    found = samples(text)
    path = "/v1/chat/completions"
    assert value(found, "gradus_requests_total", route=path, model="demo-l2", status="200") == 3
    assert value(found, "gradus_requests_total", route=path, model="", status="404") == 5
    assert value(found, "gradus_tokens_total", model="demo-l2", kind="completion") == 24
    assert "x3" not in text
    (up,) = [v for (name, _), v in found.items() if name == "gradus_engine_up"]
    assert up == 1


def test_drift_is_what_is_answered_beside_what_validation_said() -> None:
    told = {"labels": {"a": 0.75, "b": 0.25}, "confidence": 0.6, "abstained": 0.1}
    metrics = Metrics({"intents": told})
    for label in ("a", "b", "b", "b"):
        metrics.classified("intents", label, 0.42, abstained=label == "a")
    # A head of no validation, as of an old bundle: counted, and compared with nothing.
    metrics.classified("other", "x", 0.5, abstained=True)
    found = samples(metrics.render().decode())
    assert value(found, "gradus_validation_label_share", model="intents", label="a") == 0.75
    assert value(found, "gradus_validation_abstained_share", model="intents") == 0.1
    assert value(found, "gradus_labels_total", model="intents", label="b") == 3
    assert value(found, "gradus_abstained_total", model="intents") == 1
    assert value(found, "gradus_label_drift", model="intents") == pytest.approx(0.5)
    assert value(found, "gradus_probability_drift", model="intents") == pytest.approx(-0.18)
    assert value(found, "gradus_abstained_drift", model="intents") == pytest.approx(0.15)
    assert value(found, "gradus_drift_answers", model="intents") == 4
    assert value(found, "gradus_label_probability_sum", model="intents") == pytest.approx(1.68)
    assert value(found, "gradus_label_probability_bucket", model="intents", le="0.4") == 0
    assert value(found, "gradus_label_probability_bucket", model="intents", le="0.45") == 4


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=60), st.integers(0, 9))
def test_drift_is_the_total_variation_distance(labels: list[str], part: int) -> None:
    there = {"a": part / 10, "b": 0.1, "c": 0.9 - part / 10}
    drift = Drift({"labels": there})
    for label in labels:
        drift.answered(label, 0.5, abstained=False)
    shares = np.array([labels.count(name) for name in "abc"]) / len(labels)
    # Its definition: the largest difference that any set of labels has.
    gaps = shares - np.array([there[name] for name in "abc"])
    largest = max(
        abs(gaps[list(chosen)].sum()) for n in range(4) for chosen in combinations(range(3), n)
    )
    assert drift.labels() == pytest.approx(largest)


def test_drift_forgets_what_is_long_ago_and_is_no_number_without_answers() -> None:
    drift = Drift({"labels": {"a": 1.0}, "confidence": 0.5})
    assert math.isnan(drift.labels())
    for _ in range(WINDOW):
        drift.answered("b", 0.25, abstained=False)
    assert (drift.labels(), drift.probability()) == (1.0, -0.25)
    assert math.isnan(drift.abstained()), "validation said nothing of it"
    for _ in range(WINDOW):
        drift.answered("a", 0.75, abstained=False)
    assert (drift.labels(), drift.probability(), drift.answers()) == (0.0, 0.25, WINDOW)


def test_what_began_on_the_version_before_is_no_drift_of_the_live_one() -> None:
    metrics = Metrics({"intents": {"labels": {"a": 1.0}}})
    began = time.monotonic()
    metrics.measured_by("intents", {"labels": {"b": 1.0}})
    metrics.classified("intents", "a", 0.5, abstained=False, began=began)
    metrics.classified("intents", "b", 0.5, abstained=False, began=time.monotonic())
    found = samples(metrics.render().decode())
    assert value(found, "gradus_label_drift", model="intents") == 0
    assert value(found, "gradus_drift_answers", model="intents") == 1
    assert value(found, "gradus_labels_total", model="intents", label="a") == 1


def test_time_to_the_first_byte_is_that_of_streams(gateway: Any) -> None:
    running = gateway(Stub(delay_s=0.3, tokens=4, chunk_s=0.3), metrics=Metrics())
    client = running.client()
    client.chat.completions.create(model="demo-l2", messages=ASKED)
    list(client.chat.completions.create(model="demo-l2", messages=ASKED, stream=True))
    found = samples(requests.get(f"{running.url}/metrics", timeout=5).text)
    named = {"route": "/v1/chat/completions", "model": "demo-l2"}
    assert value(found, "gradus_first_byte_seconds_count", **named) == 1
    assert 0.3 <= value(found, "gradus_first_byte_seconds_sum", **named) < 1.0
    assert value(found, "gradus_request_seconds_count", **named) == 2


def test_a_database_that_is_away_shows_before_a_row_is_lost() -> None:
    metrics, waits = Metrics(), [0]
    metrics.usage_waiting(lambda: waits[0])
    waits[0] = 7
    assert value(samples(metrics.render().decode()), "gradus_usage_waiting") == 7


def test_names_with_quotes_and_line_ends_are_read_back_whole() -> None:
    name = 'a"b\\c\nd'
    found = samples(Metrics({"x": {"labels": {name: 1.0}}}).render().decode())
    assert value(found, "gradus_validation_label_share", model="x", label=name) == 1
