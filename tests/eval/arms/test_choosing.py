"""Labels of a prepared suite, asked of a model from its folder: ids are those of `prepare`."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from arms_case import alone
from choosing_case import LABELS, SYSTEM, learned, loaded, renderer_of, rows_of
from scipy.special import log_softmax, logsumexp

from eval.arms.rendered import answers_of, label_counts, prompts_of, with_texts
from eval.endpoint.client import Endpoint
from eval.endpoint.likely import Joint
from eval.endpoint.prepared import asked_of_dataset
from eval.harness.suites import own_task
from pipeline.core.artifact import Artifact, Manifest
from pipeline.data.arrow import read_rows
from pipeline.data.writing import segments
from pipeline.modeling.loading import load_tokenizer
from tests.data.preparing import prepare
from tests.data.rendering_cases import CASES, case


@pytest.mark.parametrize("split", ["train", "test"])
def test_ids_of_a_label_are_those_that_prepare_gave_each_row(
    base: Artifact, suites: dict[str, Path], split: str
) -> None:
    tokenizer = load_tokenizer(base.path)
    stop = tokenizer.eos_token_id
    answers = answers_of(renderer_of(base, suites["sft"]), LABELS, [stop])
    rows = read_rows(suites["sft"] / f"{split}.arrow")
    assert rows
    for row in rows:
        assert answers[row["label"]] == learned(row, stop)
    assert tokenizer.decode(answers["card_arrival"][:-1]) == "card_arrival"


@pytest.mark.parametrize("kind", ["channel", "packed"])
def test_what_a_channel_is_told_and_how_often_is_read_from_train(
    base: Artifact, suites: dict[str, Path], kind: str
) -> None:
    stop = load_tokenizer(base.path).eos_token_id
    prompts = prompts_of(renderer_of(base, suites[kind]), LABELS, [stop])
    for block in read_rows(suites["channel"] / "train.arrow"):
        for row in segments(block):
            until = row["supervised"].index(1)
            assert prompts[row["label"]] == tuple(row["input_ids"][:until])
    expected = Counter(row["label"] for row in rows_of("train", 40))
    assert label_counts(suites[kind], prompts) == expected


QUESTIONS = ["Where is it?", "", " blank", "我的卡在哪里？", "a\n\nb<|im_end|>", "1"]


@pytest.mark.parametrize("name", CASES)
def test_ids_of_a_label_do_not_depend_on_the_question(name: str) -> None:
    one = case(name)
    stops = one.tokenizer(one.end, add_special_tokens=False)["input_ids"]
    labels = ["card", "card_arrival", " blank", "转账", "lost pin"]
    answers = answers_of(one.renderer, labels, stops)
    for question in QUESTIONS:
        for label in labels:
            messages = one.renderer.messages(question, label)
            (row,) = one.renderer.conversation(messages, loss_on="last")
            ids = [i for i, on in zip(row.input_ids, row.supervised, strict=True) if on]
            assert answers[label] == tuple(ids[: ids.index(stops[0]) + 1])


def test_arms_of_a_label_writer_are_brute_force(
    base: Artifact, suites: dict[str, Path], tmp_path: Path
) -> None:
    data, rows = suites["sft"], read_rows(suites["sft"] / "test.arrow")
    asked = loaded(base, tmp_path)
    stop = asked.tokenizer.eos_token_id
    answers = answers_of(renderer_of(base, data), LABELS, [stop])
    kind, found = asked.answers(rows, LABELS, arm="likelihood", data=data)
    assert kind == "label"
    assert set(found) == {"likelihood", "likelihood_mean"}
    for row, by_sum, by_mean in zip(rows, *found.values(), strict=True):
        prompt = row["input_ids"][: row["supervised"].index(1)]
        sums = [alone(asked.model, prompt, answers[label]) for label in LABELS]
        means = [s / len(answers[label]) for s, label in zip(sums, LABELS, strict=True)]
        for prediction, scores in ((by_sum, sums), (by_mean, means)):
            assert prediction.scores is not None
            assert [prediction.scores[label] for label in LABELS] == pytest.approx(
                log_softmax(scores), abs=1e-4
            )
            assert prediction.gold == row["label"]
    _, greedy = asked.answers(rows, LABELS, arm="constrained", data=data)
    assert {p.label for p in greedy["constrained"]} <= set(LABELS)


@pytest.mark.parametrize("kind", ["channel", "packed"])
def test_joint_is_the_text_given_each_label_and_its_share_of_train(
    base: Artifact, suites: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    data, rows = suites[kind], read_rows(suites[kind] / "test.arrow")
    asked = loaded(base, tmp_path)
    stop = asked.tokenizer.eos_token_id
    prompts = prompts_of(renderer_of(base, data), LABELS, [stop])
    counts = Counter(row["label"] for row in rows_of("train", 40))
    _, found = asked.answers(rows, LABELS, arm="joint_untrained", data=data)
    for row, prediction in zip(rows, found["joint_untrained"], strict=True):
        text = learned(row, stop)
        joint = [
            alone(asked.model, list(prompts[label]), text)
            + math.log((counts[label] + 1) / (40 + len(LABELS)))
            for label in LABELS
        ]
        assert prediction.evidence == pytest.approx(logsumexp(joint), rel=1e-5)
        assert prediction.scores is not None
        assert [prediction.scores[label] for label in LABELS] == pytest.approx(
            log_softmax(joint), abs=2e-4
        )
        assert prediction.label == LABELS[joint.index(max(joint))]


def test_some_rows_are_answered_as_they_are_among_all(
    base: Artifact, suites: dict[str, Path], tmp_path: Path
) -> None:
    for arm, data in (("likelihood", suites["sft"]), ("joint", suites["channel"])):
        rows = read_rows(data / "test.arrow")
        asked = loaded(base, tmp_path)
        told: list[Any] = []
        _, all_rows = asked.answers(rows, LABELS, arm=arm, data=data, on_done=told.append)
        _, some = asked.answers(rows[4:6], LABELS, arm=arm, data=data)
        for one, other in zip(some[arm], all_rows[arm][4:6], strict=True):
            assert one.label == other.label
            assert one.scores == pytest.approx(other.scores, abs=1e-4)
        assert all(set(batch) == set(all_rows) for batch in told)
        for name, predictions in all_rows.items():
            ids = [p.example_id for batch in told for p in batch[name]]
            assert sorted(ids) == sorted(p.example_id for p in predictions)


def test_a_suite_with_some_labels_of_train_is_asked_with_all_and_another_task_with_its_own(
    base: Artifact, suites: dict[str, Path], tmp_path: Path
) -> None:
    for arm, name in (("likelihood", "sft"), ("joint", "channel")):
        system = {"system": SYSTEM} if name == "sft" else {}
        for label, offered in (("card", LABELS), ("praise", ["praise"])):
            if arm == "joint" and label == "praise":
                continue
            few = [{"text": f"row {n}", "label": label} for n in range(3)]
            made, _ = prepare(tmp_path / arm / label, base, {"test": few}, render=name, **system)
            rows = read_rows(made.path / "test.arrow")
            _, found = loaded(base, tmp_path).answers(
                rows, [label], arm=arm, data=made.path, train=suites[name]
            )
            for prediction in found[arm]:
                assert sorted(prediction.scores or {}) == sorted(offered)


def test_a_served_model_and_the_harness_are_offered_the_same_labels(
    base: Artifact, suites: dict[str, Path], tmp_path: Path
) -> None:
    few = [{"text": f"row {n}", "label": "card"} for n in range(3)]
    made, _ = prepare(tmp_path / "few", base, {"test": few}, render="sft", system=SYSTEM)
    made = replace(made, manifest=replace(made.manifest, config={"sources": {}}))
    asked = asked_of_dataset(
        made, base.path, suite="few", train=suites["sft"], counted=suites["sft"]
    )
    assert asked.labels == tuple(sorted(LABELS))
    assert asked.prior == Counter(row["label"] for row in rows_of("train", 40))
    assert asked_of_dataset(made, base.path, suite="few").labels == ("card",)
    assert (asked.max_new_tokens, asked.groups) == (None, {})
    task = own_task("few", made.path, base.path, None, train=suites["sft"])
    assert sorted(task.answers) == sorted(LABELS)


def test_a_served_model_is_asked_rows_with_their_groups_and_the_recipes_tokens(
    base: Artifact, tmp_path: Path
) -> None:
    """Intervals of a served model are over documents, as those of its report."""
    rows = [{"text": f"row {n}", "label": "card", "doc_id": f"d{n // 2}"} for n in range(4)]
    made, _ = prepare(tmp_path, base, {"test": rows}, render="sft", system=SYSTEM)
    made = replace(made, manifest=replace(made.manifest, config={"sources": {}}))
    asked = asked_of_dataset(made, base.path, suite="rows", max_new_tokens=512)
    prepared = read_rows(made.path / "test.arrow")
    assert asked.groups == {row["example_id"]: row["group"] for row in prepared}
    assert sorted(asked.groups.values()) == ["d0", "d0", "d1", "d1"]
    assert asked.max_new_tokens == 512


@pytest.mark.parametrize("kind", ["sft", "channel", "packed", "sft packed"])
def test_the_prior_of_a_served_model_is_that_of_a_local_one(
    base: Artifact, suites: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    """Rows in blocks have no label beside them, and count all the same."""
    folder = suites.get(kind)
    if folder is None:
        splits = {"train": rows_of("train", 40), "test": rows_of("test", 9)}
        packed = {"render": "sft", "system": SYSTEM, "packing": True, "max_length": 200}
        folder = prepare(tmp_path, base, splits, **packed)[0].path
        assert any(row["members"] is not None for row in read_rows(folder / "train.arrow"))
    few = [{"text": "row", "label": "card"}]
    made, _ = prepare(tmp_path / "few", base, {"test": few}, render="sft", system=SYSTEM)
    made = replace(made, manifest=replace(made.manifest, config={"sources": {}}))
    stop = load_tokenizer(base.path).eos_token_id
    prompts = prompts_of(renderer_of(base, suites["channel"]), LABELS, [stop])
    asked = asked_of_dataset(made, base.path, suite="few", counted=folder)
    assert asked.prior == label_counts(suites["packed"], prompts)
    assert asked_of_dataset(made, base.path, suite="few").prior is None


def test_a_served_channel_is_asked_for_the_ids_that_a_local_one_weighs(
    base: Artifact, suites: dict[str, Path]
) -> None:
    folder, stop = suites["channel"], load_tokenizer(base.path).eos_token_id
    config = {"sources": {"test": {"prompt": "About: {text}"}}}
    made = Artifact(folder, Manifest("Dataset", "x", "x", "", 1, config, {}, {}, {}, {}))
    asked = asked_of_dataset(made, base.path, suite="test", counted=folder)
    assert asked.channel
    joint = Joint(Endpoint("http://127.0.0.1:1"), asked)
    prompts = prompts_of(renderer_of(base, folder), asked.labels or (), [stop])
    rows = with_texts(read_rows(folder / "test.arrow"), prompts, [stop])
    for item, row in zip(asked.items, rows, strict=True):
        assert (item.example_id, item.gold) == (row["example_id"], row["label"])
        for pair, label in zip(joint.pairs(item), asked.labels or (), strict=True):
            given = [one for one, own in zip(pair.answer_ids, pair.counted, strict=True) if not own]
            assert (*pair.question_ids, *given) == prompts[label]
            assert pair.answer_ids[len(given) :] == row["text_ids"]
