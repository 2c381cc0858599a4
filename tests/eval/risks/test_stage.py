"""The whole page of a tiny model: every line a figure with n and a rule, or a why and no figure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest

from eval.risks import stage
from eval.risks.line import Topic
from eval.risks.swaps import swap_lines
from pipeline.core.artifact import Artifact
from pipeline.core.stage import StageContext
from pipeline.data.arrow import read_rows
from tests.data.preparing import prepare, tiny_model

Page = Callable[..., list[dict[str, Any]]]


def bbq_row(number: int, condition: str) -> dict[str, Any]:
    return {
        "id": f"x-{number}", "question": "Who?", "context": "A and B met.",
        "choices": ["A", "B", "Unknown"], "answer": 2 if condition == "ambig" else number % 2,
        "polarity": ("neg", "nonneg")[number % 2], "condition": condition,
        "groups": ["a", "b", "unknown"], "stereotyped_groups": ["a"],
    }  # fmt: skip


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    rows = {
        "bbq": [bbq_row(i, c) for i in range(4) for c in ("ambig", "disambig")],
        "swaps": [{"what": "weather", "swap": [["rain", "sun"]]},
                  {"what": "writer", "say": ["I am A.", "I am B."]},
                  {"what": "absent", "swap": [["zebra", "lion"]]}],
        "questions": [{"question": f"Who {i}?", "context": f"It is {i}.", "answer": str(i)}
                      for i in range(3)],
        "harmful": [{"prompt": "Do harm."}],
    }  # fmt: skip
    found = {}
    for name, lines in rows.items():
        found[name] = tmp_path / f"{name}.jsonl"
        found[name].write_text("".join(json.dumps(line) + "\n" for line in lines))
    return found


def check(lines: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    by_topic: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        by_topic.setdefault(line["topic"], []).append(line)
        if line["measured"]:
            assert line["why"] is None
            assert line["how"], line
            assert line["n"] or line["topic"] == "property and source"
        else:
            assert line["shown"] == f"not measured: {line['why']}"
            assert (line["value"], line["low"], line["high"], line["n"]) == (None,) * 4
    assert set(by_topic) == set(get_args(Topic))
    return by_topic


def test_a_writing_model_has_a_line_for_every_topic(
    made: Mapping[str, Artifact], page: Page, files: dict[str, Path]
) -> None:
    data = made["tiny-task/prepare.sft"]
    topics = check(page(made["tiny-l0/scratch"], data, "generate", **files))
    measured = {topic for topic, lines in topics.items() if any(one["measured"] for one in lines)}
    assert measured == set(get_args(Topic)) - {"explanation", "timeliness", "untrue output"}
    swaps = [line for line in topics["bias"] if "swapped" in line["what"]]
    # Random weights write no label, so there is nothing that a swap could change.
    assert {line["why"].partition(" of ")[0] for line in swaps[:2]} == {"neither answer to any"}
    assert swaps[2]["why"] == "none of 12 asked texts holds a word of this swap"
    (verbatim,) = [line for line in topics["privacy"] if "word for word" in line["what"]]
    assert verbatim["value"] == 0.0
    assert topics["explanation"][0]["why"] == "attributions are of a head, and this form has none"


def test_a_head_is_explained_and_says_what_it_cannot_be_asked(
    made: Mapping[str, Artifact], headed: Artifact, page: Page, files: dict[str, Path]
) -> None:
    data = made["tiny-task/prepare.classify"]
    topics = check(page(headed, data, "classifier", **files))
    for topic in ("misuse", "untrue output"):
        assert not any(line["measured"] for line in topics[topic])
    swaps = [line for line in topics["bias"] if "swapped" in line["what"]]
    assert [line["measured"] for line in swaps] == [True, True, False]
    assert swaps[1]["n"] == 12
    telling, deletion = topics["explanation"]
    assert telling["measured"], telling
    assert deletion["value"] > 0.5
    measured = [line["measured"] for line in topics["robustness"]]
    # The texts hold no capitals, and the context is too short for long input.
    assert measured == [True, True, False, True, False]


def test_a_channel_is_asked_for_labels_as_a_joint_model_and_writes(
    made: Mapping[str, Artifact], page: Page, files: dict[str, Path]
) -> None:
    data = made["tiny-task/prepare.channel"]
    topics = check(page(made["tiny-l0/scratch"], data, "joint", **files))
    assert sum(line["n"] for line in topics["scale"]) == 12
    # Of the text alone, not of all labels with the text after each.
    rows = read_rows(data.path / "test.arrow")
    longest = max(len(row["input_ids"]) - row["prompt"] for row in rows)
    assert 0 < int(topics["scale"][-1]["what"].split()[6]) <= longest
    (seconds,) = [line for line in topics["cost"] if line["what"].startswith("seconds for 1,000")]
    assert seconds["n"] == 12
    for line in [*topics["robustness"], *(one for one in topics["bias"] if "swap" in one["what"])]:
        assert line["why"].startswith("a channel weighs the text after each label")
    (verbatim,) = [line for line in topics["privacy"] if "word for word" in line["what"]]
    assert verbatim["measured"]
    assert topics["misuse"][0]["why"] == "this model answers no question in words of its own"


@pytest.mark.parametrize(
    ("arm", "why"),
    [
        ("text", "the recipe asks this model for no label"),
        ("channel", "a channel weighs texts, and answers with labels as arm joint alone"),
        ("tagger", "this model gives each token a tag, and no question one label"),
        ("regressor", "this model answers with a number, and with no label"),
    ],
)
def test_a_page_without_answers_says_truly_why_there_are_none(
    made: Mapping[str, Artifact], headed: Artifact, page: Page, tmp_path: Path, arm: str, why: str
) -> None:
    swaps = tmp_path / "swaps.jsonl"
    swaps.write_text(json.dumps({"what": "weather", "swap": [["rain", "sun"]]}))
    name = {"text": "sft", "channel": "channel"}.get(arm, "classify")
    topics = check(page(headed, made[f"tiny-task/prepare.{name}"], arm, swaps=swaps))
    told = [*topics["robustness"], *topics["scale"], topics["cost"][-1]]
    told += [line for line in topics["bias"] if "swapped" in line["what"]]
    assert {line["why"][: len(why)] for line in told} == {why}
    (verbatim,) = [line for line in topics["privacy"] if "word for word" in line["what"]]
    assert verbatim["measured"] == (arm in ("text", "channel"))


def test_masked_words_tell_no_members(
    made: Mapping[str, Artifact], tmp_path: Path, page: Page
) -> None:
    from dataclasses import replace

    import torch
    from transformers import BertConfig, BertForMaskedLM

    from pipeline.modeling.loading import load_tokenizer, save_model

    root = made["tiny-l0/scratch"]
    tokenizer = load_tokenizer(root.path)
    tokenizer.chat_template = None
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(tokenizer), intermediate_size=16, **shape)
    save_model(BertForMaskedLM(config), tokenizer, tmp_path / "encoder")
    encoder = Artifact(tmp_path / "encoder", replace(root.manifest, key="encoder"))
    topics = check(page(encoder, made["tiny-l1/prepare.text"], "text"))
    privacy = {line["what"]: line["why"] for line in topics["privacy"]}
    assert privacy["membership by loss: AUROC of training rows against test rows"] == (
        "a model of masked tokens gives a whole text no likelihood"
    )
    (verbatim,) = [why for what, why in privacy.items() if "word for word" in what]
    assert verbatim == "this model writes no text"


def test_what_no_file_gives_is_not_measured_and_never_a_zero(
    made: Mapping[str, Artifact], page: Page
) -> None:
    data = made["tiny-task/prepare.sft"]
    topics = check(page(made["tiny-l0/scratch"], data, "text"))
    for topic in ("bias", "misuse", "untrue output", "robustness", "scale"):
        assert all("not measured" in line["shown"] for line in topics[topic])
    assert topics["misuse"][0]["why"] == "evaluate.risks.harmful names no file"


@pytest.mark.parametrize("arm", ["generate", "classifier"])
def test_a_swap_that_makes_texts_too_long_leaves_them_out(
    made: Mapping[str, Artifact], headed: Artifact, page: Page, tmp_path: Path, arm: str
) -> None:
    long = ["I am A. " * 200, "I am B. " * 200]
    swaps = tmp_path / "swaps.jsonl"
    swaps.write_text(json.dumps({"what": "writer", "say": long}))
    name, root = ("sft", made["tiny-l0/scratch"]) if arm == "generate" else ("classify", headed)
    lines = page(root, made[f"tiny-task/prepare.{name}"], arm, swaps=swaps)
    (line,) = [one for one in lines if "swapped" in one["what"]]
    assert line["why"] == "none of the 12 texts that it applies to fits the model's context"


@pytest.mark.parametrize("arm", ["constrained", "likelihood"])
def test_intervals_are_over_the_documents_that_rows_come_from(
    context: Callable[..., StageContext], tmp_path: Path, arm: str
) -> None:
    root = tiny_model(tmp_path / "root")
    rows = [{"text": f"{'a b ' * (1 + n % 4)}row {n}", "label": ("pin", "card")[n % 2],
             "doc_id": f"d{n // 3}"} for n in range(12)]  # fmt: skip
    train = [{"text": f"other words {n}", "label": ("pin", "card")[n % 2]} for n in range(6)]
    data, _ = prepare(tmp_path / "rows", root, {"train": train, "test": rows}, render="sft",
                      max_length=128)  # fmt: skip
    swaps = tmp_path / "swaps.jsonl"
    swaps.write_text(json.dumps({"what": "writer", "say": ["I am A.", "I am B."]}))
    place = context(swaps=swaps)
    config = {"name": "tiny", "arm": arm, "max_new_tokens": 8, "answer_after": None,
              "items": 12, "seed": 0, "price_per_hour": None}  # fmt: skip
    made_page = stage._Page({"root": root, "data": data, "suite.test": data}, config, place)
    (suite,) = made_page.suites
    assert suite.refusal is None
    clean = {"test": made_page.asked.answers(suite)}
    lines = [*made_page._robustness(clean), *made_page._scale(clean)]
    lines += swap_lines(swaps, [suite], made_page.asked.answers, made_page._most, "")
    measured = [line for line in lines if line.measured]
    assert {line.topic for line in measured} == {"robustness", "scale", "bias"}
    for line in measured:
        assert (line.how or "").endswith("groups that the items come from")


def test_explained_items_are_drawn_from_all_suites(
    made: Mapping[str, Artifact],
    headed: Artifact,
    context: Callable[..., StageContext],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, taken = made["tiny-task/prepare.classify"], []
    monkeypatch.setattr(stage, "_EXPLAINED", 6)
    monkeypatch.setattr(
        stage, "explanation_lines", lambda _head, rows, *_a, **_k: taken.append(rows) or []
    )
    config = {"name": "tiny", "arm": "classifier", "max_new_tokens": 16, "answer_after": None,
              "items": 8, "seed": 0, "price_per_hour": None}  # fmt: skip
    suites = {"suite.a": data, "suite.b": data}
    inputs = {"root": headed, "data": data, **suites}
    made_page = stage._Page(inputs, config, context())
    made_page._explanation()
    (rows,) = taken
    (asked,) = {tuple(row["example_id"] for row in suite.rows) for suite in made_page.suites}
    places = [asked.index(row["example_id"]) for row in rows]
    assert len(rows) == 6
    # Each suite's rows keep their order, so the places fall once: where the second suite begins.
    assert sum(b <= a for a, b in pairwise(places)) == 1
    assert places != list(range(6))
