"""/v1/classify of a model that writes its label: what evaluation says of it, through the door."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import requests
from golden_bundle import prepared
from stub_engine import Stub
from stub_gateway import Running, serving_door
from test_eval_of_served import LABELS, PROMPTS

from eval.arms.likelihood import LikelihoodPredictor
from eval.arms.rendered import answers_of
from pipeline.core.controls import Controls
from serve.bundle import BundleLabels, read_bundle
from serve.gateway.classify import Reading
from serve.gateway.directory import table_of
from serve.gateway.door import Door
from serve.gateway.errors import ApiError
from serve.gateway.label_scores import LabelScores
from serve.gateway.upstreams import Upstream, UpstreamGroup
from serve.label_answers import label_answers

TEMPERATURE = 2.0
READING = Reading("m", True, None, Controls(), {})


@pytest.fixture(scope="module")
def door(family: Any, engine_url: str, renderer: Any) -> Iterator[Running]:
    """A gateway whose demo-l2 is known to write LABELS."""
    bundle = read_bundle(family.bundle)
    answers = answers_of(renderer, LABELS, [renderer.tokenizer.eos_token_id])
    labels = BundleLabels((), answers, TEMPERATURE, 0.4, 0.9)
    first, last = bundle.adapters
    bundle = replace(bundle, adapters=(first, replace(last, labels=labels)))
    names = {each.name: each.name for each in bundle.models}
    engine = SimpleNamespace(name="vllm", models=names, echoes=names, request=lambda body: body)
    group = UpstreamGroup([Upstream(engine_url.removesuffix("/v1"), scores_alone=True)])
    with serving_door(Door(directory=table_of(bundle, engine, group)), Stub()) as running:
        yield running


@pytest.mark.engine
def test_probabilities_are_those_that_evaluation_gives(
    door: Running, renderer: Any, model: Any
) -> None:
    body = {"model": "demo-l2", "input": list(PROMPTS)}
    told = requests.post(f"{door.url}/v1/classify", json=body, timeout=60).json()
    answers = answers_of(renderer, LABELS, [renderer.tokenizer.eos_token_id])
    offline = LikelihoodPredictor(model, answers, pad_id=0, batch_size=4)
    rows = [
        {"example_id": text, "label": LABELS[0],
         "prompt_ids": renderer.prompt([{"role": "user", "content": text}])}
        for text in PROMPTS
    ]  # fmt: skip
    for one, expected in zip(told["data"], offline.predict(rows), strict=True):
        assert expected.scores is not None
        scaled = np.array([expected.scores[label] for label in LABELS]) / TEMPERATURE
        shares = np.exp(scaled) / np.exp(scaled).sum()
        found = [one["probabilities"][label] for label in LABELS]
        assert found == pytest.approx(shares.tolist(), abs=2e-3)
        likeliest = LABELS[int(shares.argmax())]
        assert one["likeliest"] == likeliest
        assert one["abstained"] == bool(shares.max() < 0.4)
        assert one["label"] == (None if one["abstained"] else likeliest)
    assert {one["abstained"] for one in told["data"]} <= {True, False}
    assert told["usage"]["prompt_tokens"] > sum(len(row["prompt_ids"]) for row in rows)


@pytest.mark.engine
def test_beside_chats_and_scored_prompts_nothing_breaks(door: Running) -> None:
    """It asks nothing of a prompt's own tokens, so it need not be alone (vllm #16668)."""

    async def run() -> list[int]:
        def post(path: str, body: dict[str, Any]) -> int:
            return requests.post(f"{door.url}{path}", json=body, timeout=60).status_code

        chat = {"model": "demo-l0", "messages": [{"role": "user", "content": "x"}]}
        calls = [
            asyncio.to_thread(post, "/v1/chat/completions", {**chat, "max_tokens": 8})
            for _ in range(6)
        ]
        calls += [
            asyncio.to_thread(post, "/v1/classify", {"model": "demo-l2", "input": text})
            for text in PROMPTS
        ]
        return list(await asyncio.gather(*calls))

    assert set(asyncio.run(run())) == {200}


@pytest.mark.engine
def test_its_card_says_that_it_classifies(door: Running) -> None:
    cards = requests.get(f"{door.url}/v1/models", timeout=5).json()["data"]
    told = {card["id"]: card["metadata"] for card in cards}
    assert told["demo-l2"]["classifies"] is True
    assert (told["demo-l2"]["threshold"], told["demo-l2"]["precision"]) == (0.4, 0.9)
    assert "classifies" not in told["demo-l1"]
    refused = requests.post(
        f"{door.url}/v1/classify", json={"model": "demo-l1", "input": "x"}, timeout=5
    )
    assert refused.status_code == 400
    features = {"model": "demo-l2", "input": "x", "features": {"amount": 1}}
    refused = requests.post(f"{door.url}/v1/classify", json=features, timeout=5)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "features")


def test_the_bundles_labels_are_the_answers_that_evaluation_weighs(
    family: Any, tmp_path: Path, renderer: Any
) -> None:
    data = prepared(family.base, tmp_path)
    made = label_answers(family.base, data)
    assert made is not None
    labels = json.loads((data.path / "labels.json").read_text())
    expected = answers_of(renderer, labels, [renderer.tokenizer.eos_token_id])
    assert {label: tuple(ids) for label, ids in made["answers"].items()} == expected
    assert made["opening"] == []


def test_rows_without_labels_have_none(family: Any, tmp_path: Path) -> None:
    data = prepared(family.base, tmp_path)
    (data.path / "labels.json").write_text('["one"]')
    assert label_answers(family.base, data) is None


class Told:
    """An engine of which every next token is known: id t has the log-probability -t / 100."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    async def __call__(self, path: str, data: bytes) -> tuple[int, bytes]:
        body = json.loads(data)
        if path == "/tokenize":
            return 200, b'{"tokens": [7, 8]}'
        self.asked.append(body)
        assert len(body["logprob_token_ids"]) <= 128
        after = {f"token_id:{token}": -token / 100 for token in body["logprob_token_ids"]}
        choices = [
            {"index": index, "logprobs": {"top_logprobs": [after]}}
            for index in range(len(body["prompt"]))
        ]
        return 200, json.dumps({"choices": choices[::-1]}).encode()


@pytest.mark.parametrize("count", [2, 40, 300])
def test_many_labels_are_asked_for_within_the_engines_bounds(count: int) -> None:
    """300 first tokens are more than one request may name."""
    answers = {f"label{n}": (1000 + n, 5, 2) for n in range(count)}
    engine = Told()
    scores = LabelScores(BundleLabels((9,), answers, temperature=1.0))
    answer, _ = asyncio.run(scores.answer(READING, [{"role": "user", "content": "x"}], engine))
    assert answer.probabilities is not None
    logs = np.array([-(1000 + n + 5 + 2) / 100 for n in range(count)])
    shares = np.exp(logs - logs.max()) / np.exp(logs - logs.max()).sum()
    assert list(answer.probabilities.values()) == pytest.approx(shares.tolist())
    prompts = [tuple(prompt) for body in engine.asked for prompt in body["prompt"]]
    assert {prompt[:3] for prompt in prompts} == {(7, 8, 9)}
    assert {prompt[3:] for prompt in prompts} >= {(), (1000,), (1000, 5)}


@pytest.mark.parametrize(
    "said",
    [
        b"{}", b"[]", b'{"choices": [{"index": 5, "logprobs": {"top_logprobs": [{}]}}]}',
        b'{"choices": [{"index": 0, "logprobs": null}]}',
        b'{"choices": [{"index": 0, "logprobs": {"top_logprobs": [{"token_id:1": NaN, '
        b'"token_id:2": -1, "token_id:3": -1}]}}]}', b"no json",
    ],
)  # fmt: skip
def test_an_engine_that_gives_no_numbers_is_a_502(said: bytes) -> None:
    async def ask(path: str, _: bytes) -> tuple[int, bytes]:
        return 200, b'{"tokens": [7]}' if path == "/tokenize" else said

    scores = LabelScores(BundleLabels((), {"a": (1,), "b": (3,)}))
    with pytest.raises(ApiError) as caught:
        asyncio.run(scores.answer(READING, [{"role": "user", "content": "x"}], ask))
    assert caught.value.status == 502
