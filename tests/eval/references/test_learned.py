"""Rungs that learn from train are scikit-learn's, and say what was chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference_case import context_in, make_data, read_json, rows, run
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from eval.record import read_predictions
from eval.references import text_models
from eval.references.learned import fit_nearest, fit_words, spread
from eval.references.neighbours import Encoder, fit_neighbours
from eval.references.stage import Reference
from eval.references.task import Item, Task, read_task
from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError

RUNGS = ("tfidf_bayes", "tfidf_logreg")


def items(found: list[dict[str, str]], split: str) -> tuple[Item, ...]:
    return tuple(Item(f"{split}{i}", r["text"], (r["label"],)) for i, r in enumerate(found))


def task_of(**more: Any) -> Task:
    splits = {
        "train": items(rows(20, 1), "train"),
        "validation": items(rows(8, 2), "validation"),
        "test": items(rows(6, 3), "test"),
    }
    given = {"labels": ("harbour", "kitchen", "weather"), "several": False, **splits, **more}
    return Task(**given)


def texts(found: tuple[Item, ...]) -> list[str]:
    return [item.text for item in found]


@pytest.mark.parametrize("name", RUNGS)
def test_the_chosen_candidate_is_the_best_of_pipelines_made_by_hand(
    name: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The loss has one lowest point, and ours walks to it from that of the value before.
    monkeypatch.setattr(text_models, "_TOLERANCE", 1e-7)
    task = task_of()
    made = fit_words(name, task, 0)
    gold = [item.labels[0] for item in task.validation]
    shares = {}
    for ngrams in ((1, 1), (1, 2)):
        for value in (1.0, 0.3, 0.1, 0.03, 0.01) if name == "tfidf_bayes" else (1.0, 10.0, 100.0):
            judge = (
                MultinomialNB(alpha=value)
                if name == "tfidf_bayes"
                else LogisticRegression(C=value, max_iter=10_000, tol=1e-7)
            )
            pipe = make_pipeline(TfidfVectorizer(ngram_range=ngrams, sublinear_tf=True), judge)
            pipe.fit(texts(task.train), [item.labels[0] for item in task.train])
            shares[(ngrams, value)] = (pipe.score(texts(task.validation), gold), pipe)
    setting = "alpha" if name == "tfidf_bayes" else "C"
    chosen = (tuple(made.told["ngrams"]), made.told[setting])
    share, pipe = shares[chosen]
    assert share == max(share for share, _ in shares.values()) == made.told["validation_accuracy"]
    assert len({share for share, _ in shares.values()}) > 1
    expected = pipe.predict_proba(texts(task.test))
    found = made.answers(task.test)
    for row, prediction in zip(expected, found, strict=True):
        assert prediction.scores is not None
        ours = [np.exp(prediction.scores[label]) for label in pipe.classes_]
        assert ours == pytest.approx(row.tolist(), rel=5e-3, abs=1e-4)
        assert prediction.label == pipe.classes_[row.argmax()]


@pytest.mark.parametrize("value", [10.0, 100.0])
def test_with_many_rows_too_each_candidate_is_its_own_fit(value: float) -> None:
    """At the product's tolerance: a start from the value before may not end where it began."""
    generator = np.random.default_rng(0)
    often = 1 / np.arange(1, 2001)
    often /= often.sum()
    targets = [int(t) for t in generator.integers(8, size=12_000)]
    found = [
        " ".join(
            [f"w{word}" for word in generator.choice(2000, size=14, p=often)]
            + [f"w{target * 200 + int(generator.integers(200))}"]
        )
        for target in targets
    ]
    terms = TfidfVectorizer(sublinear_tf=True, dtype=np.float32)
    train, test = terms.fit_transform(found[:10_000]), terms.transform(found[10_000:])
    fitted, gold = targets[:10_000], targets[10_000:]
    ours = None
    for one in (1.0, 10.0, 100.0):
        ours = text_models._estimator("tfidf_logreg", one, 0, train, fitted, ours)
        if one == value:
            break
    theirs = LogisticRegression(C=value, max_iter=5000, tol=1e-7).fit(train, fitted)
    losses = [log_loss(gold, model.predict_proba(test)) for model in (ours, theirs)]
    assert losses[0] == pytest.approx(losses[1], rel=0.03)
    assert ours.score(test, gold) == pytest.approx(theirs.score(test, gold), abs=0.01)


def test_several_labels_are_asked_one_against_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_models, "_TOLERANCE", 1e-7)
    pairs = [(a, b) for a, b in zip(rows(20, 1), rows(20, 4)[1:], strict=False)]
    several = tuple(
        Item(f"t{i}", f"{a['text']} {b['text']}", tuple(sorted({a["label"], b["label"]})))
        for i, (a, b) in enumerate(pairs)
    )
    task = task_of(several=True, train=several, validation=(), test=several[:9])
    made = fit_words("tfidf_logreg", task, 0)
    matrix = [[label in item.labels for label in task.labels] for item in several]
    pipe = make_pipeline(
        TfidfVectorizer(sublinear_tf=True),
        OneVsRestClassifier(LogisticRegression(C=1.0, max_iter=1000, tol=1e-7)),
    ).fit(texts(several), np.array(matrix, dtype=int))
    expected = pipe.predict_proba(texts(task.test))
    for row, prediction in zip(expected, made.answers(task.test), strict=True):
        assert prediction.scores is not None
        ours = [np.exp(prediction.scores[label]) for label in task.labels]
        assert ours == pytest.approx(row.tolist(), rel=1e-3)


def test_neighbours_vote_as_scikit_learns_do_with_cosine_weights(base: Artifact) -> None:
    task, encoder = task_of(), Encoder(base.path, 8)
    made = fit_neighbours(task, encoder.vectors)
    train, asked = encoder.vectors(texts(task.train)), encoder.vectors(texts(task.test))
    by_hand = KNeighborsClassifier(
        made.number, metric="cosine", algorithm="brute", weights=lambda distance: 1 - distance
    ).fit(train, [item.labels[0] for item in task.train])
    votes = np.exp(made.log_probabilities(asked))
    # One vote more is spread over all labels: taken back, scikit-learn's shares are left.
    near = np.sort(asked @ train.T, axis=1)[:, ::-1][:, : made.number].sum(axis=1, keepdims=True)
    shares = (votes * (near + 1) - 1 / 3) / near
    assert shares == pytest.approx(by_hand.predict_proba(asked), abs=1e-5)


def test_the_number_of_neighbours_is_the_best_on_validation(base: Artifact) -> None:
    task, encoder = task_of(), Encoder(base.path, 8)
    train, asked = encoder.vectors(texts(task.train)), encoder.vectors(texts(task.validation))
    gold = [item.labels[0] for item in task.validation]
    shares = {}
    for number in (1, 3, 5, 10, 20, 50):
        judge = KNeighborsClassifier(
            number, metric="cosine", algorithm="brute", weights=lambda distance: 1 - distance
        ).fit(train, [item.labels[0] for item in task.train])
        shares[number] = judge.score(asked, gold)
    told = fit_neighbours(task, encoder.vectors).told
    assert told["validation_accuracy"] == max(shares.values()) == shares[told["neighbours"]]


def test_a_vector_is_the_mean_of_transformers_own_last_states(base: Artifact) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    text = "the old ship and the tide"
    tokenizer = AutoTokenizer.from_pretrained(str(base.path))
    model = AutoModel.from_pretrained(str(base.path))
    with torch.no_grad():
        states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
    mean = states.mean(0) / states.mean(0).norm()
    ours = Encoder(base.path, 8).vectors(["a much longer text about salt and frost " * 3, text])
    assert ours[1] == pytest.approx(mean.numpy(), abs=1e-5)


def test_scores_are_shares_of_one_with_labels_that_train_has_no_row_of() -> None:
    task = task_of(labels=("absent", "harbour", "kitchen", "weather"))
    made = fit_words("tfidf_bayes", task, 0)
    assert made.told["labels_without_rows"] == ["absent"]
    for prediction in made.answers(task.test):
        assert prediction.scores is not None
        assert sum(np.exp(list(prediction.scores.values()))) == pytest.approx(1)
        assert prediction.label != "absent"
    told = spread(task, made.seen, np.log([0.5, 0.25, 0.25]).tolist())
    assert np.exp(told["absent"]) == pytest.approx(1 / (60 + 4))


def test_a_script_without_blanks_is_read_by_characters() -> None:
    train = tuple(
        Item(f"c{i}", text, (label,))
        for i, (text, label) in enumerate(
            [("今日股市大涨", "钱"), ("股市收盘下跌", "钱"), ("球队赢得比赛", "球"),
             ("比赛今晚开球", "球")]
        )
    )  # fmt: skip
    task = Task(("球", "钱"), False, train, (), (Item("a", "明日股市", ("钱",)),))
    made = fit_words("tfidf_bayes", task, 0)
    assert made.told["terms"] == "characters"
    assert [p.label for p in made.answers(task.test)] == ["钱"]


@pytest.mark.parametrize("name", RUNGS)
def test_a_class_of_one_row_is_learned(name: Any) -> None:
    whole = task_of()
    train = (*(i for i in whole.train if i.labels != ("harbour",)), whole.train[2])
    assert whole.train[2].labels == ("harbour",)
    task = task_of(train=train)
    found = fit_words(name, task, 0).answers((whole.train[2],))
    assert found[0].label == "harbour"


@pytest.mark.parametrize("name", RUNGS)
def test_train_without_rows_is_refused_with_a_remedy(name: Any) -> None:
    with pytest.raises(DataError, match=f"reference {name}: train has no rows with a label"):
        fit_words(name, task_of(train=()), 0)


def test_one_label_alone_cannot_be_told_apart() -> None:
    alone = tuple(i for i in task_of().train if i.labels == ("kitchen",))
    with pytest.raises(DataError, match="all rows of train have the label 'kitchen'"):
        fit_words("tfidf_logreg", task_of(train=alone), 0)


def test_texts_without_a_term_are_told() -> None:
    bare = (Item("a", "! ?", ("kitchen",)), Item("b", ". -", ("weather",)))
    with pytest.raises(DataError, match="no text of train holds a term"):
        fit_words("tfidf_bayes", task_of(train=bare), 0)


def test_open_answers_have_no_labels_to_choose_from() -> None:
    with pytest.raises(DataError, match="the answers are open"):
        fit_words("tfidf_bayes", task_of(labels=()), 0)


def test_without_validation_rows_nothing_is_chosen(base: Artifact) -> None:
    made = fit_words("tfidf_logreg", task_of(validation=()), 0)
    assert made.told["C"] == 1.0
    assert made.told["chosen_on"] == "nothing: no validation rows"
    near = fit_nearest(task_of(validation=()), Encoder(base.path, 8))
    assert near.told["neighbours"] == 5


def test_rows_that_share_blocks_are_the_same_rows(base: Artifact, tmp_path: Path) -> None:
    single = read_task(make_data(tmp_path / "s", base).path)
    packed = read_task(make_data(tmp_path / "p", base, packing=True).path)
    assert {(i.text, i.labels) for i in packed.train} == {(i.text, i.labels) for i in single.train}
    assert len(packed.train) == len(single.train) == 60
    assert packed.test == single.test


def test_texts_stand_without_the_recipes_prompt(base: Artifact, tmp_path: Path) -> None:
    asked = make_data(tmp_path, base, source={"prompt": "What is {text} about?"})
    task = read_task(asked.path)
    assert not any("about" in item.text for item in [*task.train, *task.validation, *task.test])


@pytest.mark.parametrize("name", [*RUNGS, "nearest"])
def test_the_report_is_laid_out_as_evaluates(
    name: str, base: Artifact, data: Artifact, tmp_path: Path
) -> None:
    out, facts = run(tmp_path, {"data": data, "root": base}, name)
    task = read_task(data.path)
    found = read_predictions(out / "predictions-test.jsonl")
    held_out = read_predictions(out / "validation-test.jsonl")
    assert [p.example_id for p in found] == [item.example_id for item in task.test]
    assert [p.gold for p in held_out] == [item.labels[0] for item in task.validation]
    assert set(found[0].scores or {}) == set(task.labels)
    assert read_json(out / "kinds.json") == {"test": "label"}
    assert set(read_json(out / "seconds.json")) == {"train", "evaluate"}
    assert read_json(out / "costs.json")["test"]["items"] == len(found)
    assert read_json(out / "groups.json") == {}
    assert facts["reference"]["chosen_on"] == "validation"
    assert (found[0].prompt_tokens > 0) == (name == "nearest")


def test_answers_of_a_killed_run_are_not_asked_again(
    base: Artifact, data: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eval.arms.likelihood import LikelihoodPredictor

    asked: list[int] = []
    whole = LikelihoodPredictor.predict

    def killed(self: Any, given: Any, **more: Any) -> Any:
        if not asked:
            asked.append(len(given))
            whole(self, given[:6], **more)
            raise KeyboardInterrupt
        asked.append(len(given))
        return whole(self, given, **more)

    monkeypatch.setattr(LikelihoodPredictor, "predict", killed)
    context = context_in(tmp_path)
    config = {"name": "zero_shot", "seed": 0, "shots": 4, "max_new_tokens": 8,
              "answer_after": None, "named": True}  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        Reference().run({"data": data, "root": base}, config, context)
    Reference().run({"data": data, "root": base}, config, context)
    assert asked[:2] == [15, 9]
    found = read_predictions(context.out / "predictions-test.jsonl")
    assert [p.example_id for p in found] == [i.example_id for i in read_task(data.path).test]
    assert read_json(context.out / "costs.json")["test"]["items"] == 15


def test_words_of_topics_are_learned(data: Artifact, tmp_path: Path) -> None:
    out, _ = run(tmp_path, {"data": data}, "tfidf_bayes")
    found = read_predictions(out / "predictions-test.jsonl")
    assert sum(p.label == p.gold for p in found) / len(found) > 0.8


def test_a_rung_that_nobody_knows_is_named(data: Artifact, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="reference oracle: no such rung; take one of tfidf_bayes"):
        run(tmp_path, {"data": data}, "oracle")
