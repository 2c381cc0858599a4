"""The real vLLM, asked as `gradus eval URL` asks it, against the same weights offline."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from eval.arms.constrained import ConstrainedPredictor
from eval.arms.grammar import pieces_of
from eval.arms.likelihood import LikelihoodPredictor
from eval.arms.rendered import answers_of
from eval.endpoint.asking import Answers, ask_suite
from eval.endpoint.client import Endpoint
from eval.endpoint.items import Asked, Item
from tests.byte_grammar import greedy_label

pytestmark = pytest.mark.engine
LABELS = ("card", "card declined", "top up", "我的卡")
PROMPTS = ("My card was declined", "I want to top up", "new account by transfer", "a card", "me")
TOKENS = 12
# Of one token float32 kernels of two libraries differ by 1e-3 at most (test_vllm_engine holds
# that); the longest label has nine tokens, and a normalised score stands on two of them.
TOLERANCE = 2e-2


def asked_of(renderer: Any, with_ids: bool) -> Asked:
    items = []
    for number, text in enumerate(PROMPTS):
        messages = ({"role": "user", "content": text},)
        ids = tuple(renderer.prompt(list(messages))) if with_ids else None
        items.append(Item(str(number), LABELS[number % len(LABELS)], messages, text, ids))
    return Asked("test", "x", tuple(items), LABELS, renderer=renderer if with_ids else None)


def ask(url: str, asked: Asked, arms: Sequence[str], folder: Path) -> dict[str, Answers]:
    async def run() -> dict[str, Answers]:
        async with Endpoint(url, model="demo-l2", concurrency=4) as endpoint:
            await endpoint.choose_model()
            return await ask_suite(
                endpoint, asked, arms, folder, max_new_tokens=TOKENS, on_progress=lambda *_: None
            )

    return asyncio.run(run())


def test_free_answers_are_the_greedy_ones(
    vllm_server: Any, renderer: Any, offline: Any, tmp_path: Path
) -> None:
    found = ask(f"{vllm_server.url}/v1", asked_of(renderer, False), ["generate"], tmp_path)
    answers = found["generate"].predictions
    assert answers is not None
    for text, answer in zip(PROMPTS, answers, strict=True):
        expected = offline("demo-l2", text, TOKENS)
        assert answer.raw_text == expected.text
        ended = expected.ids[-1] == 2
        assert answer.label == (
            expected.text.strip() if ended and expected.text in LABELS else None
        )
        assert answer.prompt_tokens == len(renderer.prompt([{"role": "user", "content": text}]))


def test_constrained_answers_are_the_greedy_path_through_the_labels(
    vllm_server: Any, renderer: Any, model: Any, tmp_path: Path
) -> None:
    found = ask(f"{vllm_server.url}/v1", asked_of(renderer, False), ["constrained"], tmp_path)
    answers = found["constrained"].predictions
    assert answers is not None, found["constrained"].reason
    offline = ConstrainedPredictor(
        model,
        answers_of(renderer, LABELS, [renderer.tokenizer.eos_token_id]),
        pad_id=0,
        batch_size=2,
        pieces=pieces_of(renderer.tokenizer),
        stop_ids=[renderer.tokenizer.eos_token_id],
    )
    for text, answer in zip(PROMPTS, answers, strict=True):
        prompt = renderer.prompt([{"role": "user", "content": text}])
        row = {"example_id": text, "label": LABELS[0], "prompt_ids": prompt}
        assert answer.label == offline.predict([row])[0].label
        assert answer.label == greedy_label(model, renderer.tokenizer, prompt, LABELS)


@pytest.mark.parametrize("by_ids", [False, True], ids=["messages", "ids"])
def test_likelihoods_are_those_of_the_predictor_offline(
    engine_url: str, renderer: Any, model: Any, tmp_path: Path, by_ids: bool
) -> None:
    require_likelihoods(engine_url, asked_of(renderer, by_ids), renderer, model, tmp_path)


def test_likelihoods_through_the_gateway_are_those_too(
    vllm_server: Any, renderer: Any, model: Any, tmp_path: Path
) -> None:
    url = f"{vllm_server.url}/v1"
    require_likelihoods(url, asked_of(renderer, True), renderer, model, tmp_path)


def require_likelihoods(url: str, asked: Asked, renderer: Any, model: Any, folder: Path) -> None:
    found = ask(url, asked, ["likelihood"], folder)
    answers = answers_of(renderer, LABELS, [renderer.tokenizer.eos_token_id])
    predictor = LikelihoodPredictor(model, answers, pad_id=0, batch_size=4)
    rows = [
        {"example_id": item.example_id, "label": item.gold,
         "prompt_ids": renderer.prompt(list(item.messages))}
        for item in asked.items
    ]  # fmt: skip
    expected = predictor.predict_both(rows)
    for arm, place in (("likelihood", 0), ("likelihood_mean", 1)):
        served = found[arm].predictions
        assert served is not None, found[arm].reason
        for one, pair in zip(served, expected, strict=True):
            assert one.label == pair[place].label
            assert one.scores == pytest.approx(pair[place].scores, abs=TOLERANCE)
