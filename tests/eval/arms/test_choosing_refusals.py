"""Labels and rows that cannot be asked are refused by name; rows out of scope are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from choosing_case import LABELS, SYSTEM, loaded, rows_of

from eval.arms.choosing import Choosing
from eval.arms.rendered import answers_of, prompts_of
from eval.record import OUT_OF_SCOPE
from eval.suite import Suite
from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError, ModelError
from pipeline.data.arrow import read_rows
from pipeline.data.rendering import Renderer
from pipeline.modeling import heads
from pipeline.modeling.heads import Classifier, HeadConfig
from pipeline.modeling.loading import load_tokenizer
from tests.data.preparing import prepare


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
