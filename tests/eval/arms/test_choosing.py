"""Labels of a prepared suite, asked of a model from its folder: ids are those of `prepare`."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from arms_case import alone
from scipy.special import log_softmax, logsumexp
from transformers import Qwen3Config, Qwen3ForCausalLM

from eval.arms.choosing import Choosing
from eval.arms.rendered import answers_of, label_counts, prompts_of
from eval.endpoint.prepared import asked_of_dataset
from eval.harness.suites import own_task
from eval.loaded import Loaded
from eval.record import OUT_OF_SCOPE
from eval.stage import Suite
from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError, ModelError
from pipeline.core.stage import StageContext
from pipeline.data.arrow import read_rows
from pipeline.data.rendering import Renderer
from pipeline.data.writing import segments
from pipeline.modeling import heads
from pipeline.modeling.heads import Classifier, HeadConfig
from pipeline.modeling.loading import load_tokenizer
from tests.data.preparing import prepare, tiny_base
from tests.data.rendering_cases import CASES, case

LABELS = ["card", "card_arrival", "lost <|im_end|> pin", "转账", "转账 限额"]
SYSTEM = "Which matter is it?"


def rows_of(split: str, number: int) -> list[dict[str, Any]]:
    # Uneven, so that a prior of equal shares would be seen.
    return [
        {"text": f"{split} {n} sails at dawn" + " alone" * (n % 4),
         "label": LABELS[min(n % 7, len(LABELS) - 1)]}
        for n in range(number)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A tiny random model with its tokenizer, in a folder."""
    found = tiny_base(tmp_path_factory.mktemp("choosing") / "root")
    tokenizer = load_tokenizer(found.path)
    torch.manual_seed(5)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, head_dim=16, initializer_range=0.3,
            max_position_embeddings=256, eos_token_id=tokenizer.eos_token_id,
        )
    )  # fmt: skip
    model.save_pretrained(str(found.path))
    return found


@pytest.fixture(scope="module")
def suites(base: Artifact, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same rows, to be answered and to be told by their label; train packed and not."""
    folder = tmp_path_factory.mktemp("suites")
    splits = {"train": rows_of("train", 40), "test": rows_of("test", 9)}
    made = {
        "sft": {"render": "sft", "system": SYSTEM},
        "channel": {"render": "channel"},
        "packed": {"render": "channel", "packing": True},
    }
    return {
        name: prepare(folder / name, base, splits, max_length=200, **config)[0].path
        for name, config in made.items()
    }


def loaded(base: Artifact, folder: Path, batch_size: int = 4) -> Loaded:
    context = StageContext(folder, folder, {"batch_size": batch_size}, {}, lambda _event: None)
    return Loaded(base, None, {"answer_after": None, "max_new_tokens": 24}, context)


def renderer_of(base: Artifact, data: Path) -> Renderer:
    settings = json.loads((data / "render.json").read_text())
    return Renderer(load_tokenizer(base.path), causal=True, system=settings["system"])


def learned(row: Any, stop: int) -> tuple[int, ...]:
    ids = [i for i, on in zip(row["input_ids"], row["supervised"], strict=True) if on]
    return tuple(ids[: ids.index(stop) + 1])


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


def test_labels_that_differ_between_model_and_data_are_refused_with_the_row(
    base: Artifact, suites: dict[str, Path], tmp_path: Path
) -> None:
    asked = loaded(base, tmp_path)
    for arm, name in (("constrained", "sft"), ("likelihood", "sft"), ("joint", "channel")):
        rows = read_rows(suites[name] / "test.arrow")
        with pytest.raises(DataError, match=r": its label '.+' is none of the 2 labels"):
            asked.answers(rows, ["card", "loan"], arm=arm, data=suites[name])
    rows = [row for row in read_rows(suites["channel"] / "test.arrow") if row["label"] == "card"]
    with pytest.raises(DataError, match=r"train: row \d+ is told no label of this suite"):
        asked.answers(rows, ["card"], arm="joint", data=suites["channel"])


def test_a_head_is_not_asked_for_labels_that_it_never_learned(
    base: Artifact, suites: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = HeadConfig(("card", "loan"), "last", 0.0, 32)

    def headed(model: Any, _folder: Path) -> Classifier:
        return Classifier(model.model, config)

    monkeypatch.setattr(heads, "load_classifier", headed)
    rows = read_rows(suites["sft"] / "test.arrow")
    with pytest.raises(DataError, match=r"'card_arrival' is a label of these rows and none of"):
        loaded(base, tmp_path).answers(rows, LABELS, arm="classifier")
    known = [row for row in rows if row["label"] == "card"]
    _, found = loaded(base, tmp_path).answers(known, ["card"], arm="classifier")
    assert {p.gold for p in found["classifier"]} == {"card"}


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
    asked = asked_of_dataset(made, base.path, suite="few", train=suites["sft"])
    assert asked.labels == tuple(sorted(LABELS))
    assert asked.prior == Counter(row["label"] for row in rows_of("train", 40))
    assert asked_of_dataset(made, base.path, suite="few").labels == ("card",)
    task = own_task("few", made.path, base.path, None, train=suites["sft"])
    assert sorted(task.answers) == sorted(LABELS)


def test_rows_out_of_scope_are_scored_by_the_labels_of_train_and_no_answer_is_right(
    base: Artifact, suites: dict[str, Path], tmp_path: Path
) -> None:
    strange = [{"text": f"nothing {n} of the kind", "label": OUT_OF_SCOPE} for n in range(3)]
    for arm, name in (("likelihood", "sft"), ("joint", "channel"), ("constrained", "sft")):
        system = {"system": SYSTEM} if name == "sft" else {}
        made, _ = prepare(tmp_path / arm, base, {"test": strange}, render=name, **system)
        rows = read_rows(made.path / "test.arrow")
        _, found = loaded(base, tmp_path).answers(
            rows, [OUT_OF_SCOPE], arm=arm, data=made.path, train=suites[name]
        )
        for prediction in found[arm]:
            assert (prediction.gold, prediction.label in LABELS) == (OUT_OF_SCOPE, True)
            if arm != "constrained":
                assert prediction.scores is not None
                assert sorted(prediction.scores) == sorted(LABELS)
        assert all((p.evidence is not None) == (arm == "joint") for p in found[arm])


@pytest.mark.parametrize("policy", ["truncate-left", "truncate-right", "split"])
def test_rows_that_were_cut_are_not_asked_beside_the_test(
    base: Artifact, tmp_path: Path, policy: str
) -> None:
    rows = rows_of("train", 12)
    # Cut within the answer, whatever the label: the question alone fills the length.
    rows[3]["text"] = "sails " * 80
    ids = Renderer(load_tokenizer(base.path), causal=True).question(rows[3]["text"])
    made, _ = prepare(
        tmp_path / "cut", base, {"train": rows, "test": rows_of("test", 3)}, render="sft",
        max_length=len(ids) + 2, over_length=policy,
    )  # fmt: skip
    suite = Suite.read("test", made)
    asked = suite.held_out("train")
    assert {row["example_id"] for row in asked} == {str(n) for n in range(12)} - {"3"}
    _, found = loaded(base, tmp_path).answers(asked, LABELS, arm="likelihood", data=made.path)
    assert len(found["likelihood"]) == 11


def test_rows_of_another_template_are_refused(
    base: Artifact, suites: dict[str, Path], tmp_path: Path
) -> None:
    asked = loaded(base, tmp_path)
    tokenizer = load_tokenizer(base.path)
    tokenizer.chat_template = tokenizer.chat_template.replace("'\\n'", "'\\n '")
    assert tokenizer.chat_template != asked.tokenizer.chat_template
    asked.tokenizer = tokenizer
    for arm, name in (("likelihood", "sft"), ("joint", "channel")):
        with pytest.raises(DataError, match=r"has other ids than label .* prepare the data again"):
            asked.answers(
                read_rows(suites[name] / "test.arrow"), LABELS, arm=arm, data=suites[name]
            )


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ([], "there are none to choose from"),
        ([*LABELS, "card"], "'card' stands twice"),
        ([*LABELS, ""], "'' is empty"),
        ([*LABELS, "\ud800"], "cannot be rendered"),
    ],
)
def test_labels_that_are_no_set_of_answers_are_refused(
    base: Artifact, suites: dict[str, Path], tmp_path: Path, labels: list[str], why: str
) -> None:
    asked = loaded(base, tmp_path)
    for arm, name in (("constrained", "sft"), ("joint", "channel")):
        rows = read_rows(suites[name] / "test.arrow")
        with pytest.raises(DataError, match=why):
            asked.answers(rows, labels, arm=arm, data=suites[name])


def test_a_blank_before_a_label_makes_another_label_and_a_template_that_trims_it_is_refused(
    base: Artifact, suites: dict[str, Path]
) -> None:
    tokenizer = load_tokenizer(base.path)
    stops = [tokenizer.eos_token_id]
    pair = ["card", " card"]
    answers = answers_of(Renderer(tokenizer, causal=True), pair, stops)
    assert answers["card"] != answers[" card"]
    trimming = tokenizer.chat_template.replace("message['content']", "message['content'] | trim")
    assert trimming != tokenizer.chat_template
    tokenizer.chat_template = trimming
    choosing = Choosing(
        None, tokenizer, pair, suites["sft"], stop_ids=stops, pad_id=0, batch_size=1
    )
    with pytest.raises(DataError, match="' card' and 'card' have the same ids"):
        choosing.answers([], "constrained", suites["sft"])
    with pytest.raises(DataError, match="' card' and 'card' have the same ids"):
        prompts_of(Renderer(tokenizer, causal=True), pair, stops)


def test_arms_and_renders_that_do_not_go_together_are_refused(
    base: Artifact, suites: dict[str, Path], tmp_path: Path
) -> None:
    asked = loaded(base, tmp_path)
    for arm, name in (("joint", "sft"), ("likelihood", "channel")):
        with pytest.raises(DataError, match=f"arm {arm}: the rows are rendered for {name}"):
            asked.answers([], LABELS, arm=arm, data=suites[name])


def test_an_answer_that_nothing_ends_is_refused(base: Artifact) -> None:
    with pytest.raises(ModelError, match="ends the answer 'card' with none of the ids that end"):
        answers_of(Renderer(load_tokenizer(base.path), causal=True), LABELS, [7])
