"""A recipe's own chat template: every form of asking writes by it, and no other Dataset does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from choosing_case import LABELS, SYSTEM, loaded, rows_of

from eval.arms.choosing import CHOOSING
from eval.arms.rendered import answers_of
from eval.endpoint.prepared import asked_of_dataset
from eval.harness.suites import own_task
from pipeline.core.artifact import Artifact
from pipeline.data.arrow import read_rows
from pipeline.data.rendering import own_template, renderer_of, tokenizer_of
from pipeline.modeling.loading import load_tokenizer
from tests.data.preparing import prepare


@pytest.fixture(scope="module")
def template(base: Artifact) -> str:
    """Each turn opens with another line than by the tokenizer's own template."""
    usual: str = load_tokenizer(base.path).chat_template
    own = usual.replace("message['role']", "'my ' + message['role']")
    own = own.replace("<|im_start|>assistant", "<|im_start|>my assistant")
    assert own != usual
    return own


@pytest.fixture(scope="module")
def own(base: Artifact, template: str, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    splits = {"train": rows_of("train", 40), "test": rows_of("test", 9)}
    folder = tmp_path_factory.mktemp("own") / "data"
    return prepare(
        folder, base, splits, render="sft", system=SYSTEM, max_length=200, chat_template=template
    )[0]


def prompt_of(base: Artifact, template: str, text: str) -> list[int]:
    """As transformers writes it."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]
    found: list[int] = load_tokenizer(base.path).apply_chat_template(
        messages, chat_template=template, add_generation_prompt=True, return_dict=False
    )
    return found


def test_it_lies_beside_the_rows_and_the_rows_follow_it(
    base: Artifact, own: Artifact, template: str, suites: dict[str, Path]
) -> None:
    kept = own_template(own.path)
    assert kept is not None
    assert kept.read_text() == template
    assert own_template(suites["sft"]) is None
    for row in read_rows(own.path / "test.arrow"):
        assert row["input_ids"][: row["prompt"]] == prompt_of(base, template, row["text"])


def test_what_reads_the_dataset_has_it_and_the_tokenizer_at_hand_stays_as_it_was(
    base: Artifact, own: Artifact, template: str, suites: dict[str, Path]
) -> None:
    tokenizer = load_tokenizer(base.path)
    usual = tokenizer.chat_template
    question: Any = [{"role": "user", "content": "ships at dawn"}]
    asked = prompt_of(base, template, "ships at dawn")
    assert renderer_of(own.path, tokenizer, causal=True).prompt(question) == asked
    plain = renderer_of(suites["sft"], tokenizer, causal=True).prompt(question)
    assert plain == prompt_of(base, usual, "ships at dawn") != asked
    assert tokenizer.chat_template == usual
    assert tokenizer_of(suites["sft"], tokenizer) is tokenizer


def test_every_form_asks_by_it(
    base: Artifact, own: Artifact, suites: dict[str, Path], tmp_path: Path
) -> None:
    """Rows whose template was not read are refused by these arms: their ids would be others."""
    asked = loaded(base, tmp_path)
    rows = read_rows(own.path / "test.arrow")
    for arm in [arm for arm in CHOOSING if not arm.startswith("joint")]:
        _, found = asked.answers(rows, LABELS, arm=arm, data=own.path)
        assert len(found[arm]) == len(rows)
        _, found = asked.answers(
            read_rows(suites["sft"] / "test.arrow"), LABELS, arm=arm, data=suites["sft"]
        )
        assert len(found[arm]) == len(rows)


def test_harness_and_endpoint_ask_by_it_too(base: Artifact, own: Artifact) -> None:
    renderer = renderer_of(own.path, load_tokenizer(base.path), causal=True)
    task = own_task("test", own.path, base.path, None)
    stop = load_tokenizer(base.path).eos_token_id
    assert dict(task.answers) == answers_of(renderer, sorted(LABELS), [stop])
    told = replace(own, manifest=replace(own.manifest, config={"sources": {"test": {}}}))
    suite = asked_of_dataset(told, base.path, suite="test", answer_after=None)
    prompts = [tuple(renderer.prompt(item.messages)) for item in suite.items]
    assert prompts == [row["prompt_ids"] for row in task.rows]
