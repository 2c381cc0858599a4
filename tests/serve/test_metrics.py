"""Counters, read by Prometheus' own parser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from serve.bundle import BundleHead
from serve.metrics import NO_LABEL, Metrics

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
    head = BundleHead(
        "intents", "L2", Path(), 4, "0" * 64,
        validation={"labels": {"a": 0.75, "b": 0.25}, "confidence": 0.6, "abstained": 0.1},
    )  # fmt: skip
    metrics = Metrics([head])
    for label in ("a", "b", "b", None):
        metrics.classified("intents", label, 0.42)
    found = samples(metrics.render().decode())
    assert value(found, "gradus_validation_label_share", model="intents", label="a") == 0.75
    assert value(found, "gradus_validation_abstained_share", model="intents") == 0.1
    assert value(found, "gradus_labels_total", model="intents", label="b") == 2
    assert value(found, "gradus_labels_total", model="intents", label=NO_LABEL) == 1
    assert value(found, "gradus_label_probability_sum", model="intents") == pytest.approx(1.68)
    assert value(found, "gradus_label_probability_bucket", model="intents", le="0.4") == 0
    assert value(found, "gradus_label_probability_bucket", model="intents", le="0.45") == 4
