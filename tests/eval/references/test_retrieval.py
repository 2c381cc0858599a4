"""Passages by BM25, and a base that reads them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from reference_case import make_data, run

from eval.record import read_predictions
from eval.references.prompted import Base, Prompted
from eval.references.retrieval import Passages, passages_of
from eval.references.task import Item, Task, read_task
from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError

TEXTS = ["the ship left the harbour", "the oven is hot", "a ship and a crane in the rain", "salt"]


def by_hand(question: list[str], number: int) -> float:
    """Robertson and Zaragoza 2009, equation 3.15, with Lucene's weight of a term."""
    documents = [text.split() for text in TEXTS]
    mean = sum(map(len, documents)) / len(documents)
    total = 0.0
    for term in question:
        holding = sum(term in document for document in documents)
        if not holding:
            continue
        weight = math.log(1 + (len(documents) - holding + 0.5) / (holding + 0.5))
        often = documents[number].count(term)
        norm = 1.5 * (1 - 0.75 + 0.75 * len(documents[number]) / mean)
        total += weight * often / (often + norm)
    return total


@pytest.mark.parametrize("question", ["Ship, in the rain?", "the the ship", "oven", "nothing"])
def test_a_passages_score_is_bm25s_formula(question: str) -> None:
    words = [word.strip(",?") for word in question.casefold().split()]
    expected = [by_hand(words, number) for number in range(len(TEXTS))]
    assert Passages(TEXTS).scores(question).tolist() == pytest.approx(expected, rel=1e-5)


def test_only_passages_that_share_a_term_are_given_the_best_first() -> None:
    found = Passages(TEXTS).best("a ship in the rain", 3)
    assert found[0] == TEXTS[2]
    assert Passages(TEXTS).best("ships", 3) == []
    assert "salt" not in found


def test_chinese_passages_are_found_by_pairs_of_characters() -> None:
    passages = ["股市今日大涨", "球队赢得比赛", "天气预报有雨"]
    assert Passages(passages).best("哪支球队赢了", 2) == [passages[1]]


def test_a_corpus_is_read_by_line_or_by_paragraph(tmp_path: Path) -> None:
    task = Task((), False, (), (), (Item("a", "where?", ("there",)),))
    lines, plain = tmp_path / "c.jsonl", tmp_path / "c.txt"
    lines.write_text('{"text": "one"}\n\n{"text": "two\\n\\nparts"}\n')
    plain.write_text("one\nline\n\n  \ntwo\n")
    assert passages_of(task, lines) == ["one", "two\n\nparts"]
    assert passages_of(task, plain) == ["one\nline", "two"]
    lines.write_text('{"text": "one"}\n{"title": "two"}\n')
    with pytest.raises(DataError, match=r"c\.jsonl:2: is no passage"):
        passages_of(task, lines)
    plain.write_text("\n\n")
    with pytest.raises(DataError, match="holds no passage"):
        passages_of(task, plain)


def test_a_corpus_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "corpus.txt"
    path.write_bytes(b"\xff\xfe\x00")
    for corpus in (path, tmp_path):
        with pytest.raises(DataError, match=r"cannot be read .*; name a text file"):
            passages_of(Task((), False, (), (), ()), corpus)


def test_questions_without_passages_need_a_corpus() -> None:
    task = Task((), False, (), (), (Item("a", "where?", ("there",)),))
    with pytest.raises(DataError, match="no corpus is given"):
        passages_of(task, None)


def question(passage: str, asked: str, answer: str) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": f"{passage}\n\n{asked}"},
            {"role": "assistant", "content": answer},
        ]
    }


def open_data(folder: Path, base: Artifact) -> Artifact:
    """Two questions on each of two passages."""
    passages = [
        "The old ship left the harbour at dawn with a load of salt and rope for the north.",
        "The oven in the kitchen is new and the plate on it is hot all day in the frost.",
    ]
    asked = [
        ("When did the ship leave?", "at dawn"), ("What was the load?", "salt"),
        ("What is hot?", "the plate"), ("How new is the oven?", "new"),
    ]  # fmt: skip
    test = [question(passages[i // 2], *pair) for i, pair in enumerate(asked)]
    return make_data(folder, base, {"test": test}, source={"format": "messages"})


def test_passages_of_all_questions_are_looked_in(base: Artifact, tmp_path: Path) -> None:
    task = read_task(open_data(tmp_path, base).path)
    passages = passages_of(task, None)
    assert len(passages) == 2
    rung = Prompted(
        "retrieved", task, Base(base.path, 4), {"system": None, "chat_template_kwargs": {}},
        {"seed": 0, "shots": 4, "max_new_tokens": 8, "answer_after": None},
    )  # fmt: skip
    asked = Base(base.path, 4).tokenizer.decode(rung.prompt(task.test[0]))
    assert asked.index("Passage: The old ship") < asked.index("Question: When did the ship leave?")
    assert asked.count("When did the ship leave?") == 1


def test_open_answers_are_written_and_judged_by_both_figures(
    base: Artifact, tmp_path: Path
) -> None:
    made = open_data(tmp_path / "data", base)
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    inputs = {"data": made, "root": base}
    out, facts = run(tmp_path / "r", inputs, "retrieved", files={"corpus": corpus})
    found = read_predictions(out / "predictions-test.jsonl")
    assert [p.gold for p in found] == ["at dawn", "salt", "plate", "new"]
    assert all(p.scores is None and p.raw_text is not None for p in found)
    assert facts["reference"]["passages"] == 3
    assert facts["reference"]["looked_in"] == len(TEXTS)
    assert 0 <= facts["reference"]["exact_match"] <= facts["reference"]["token_f1"] <= 1
    assert not (out / "validation-test.jsonl").exists()


def test_open_questions_are_shown_with_their_answers(base: Artifact, tmp_path: Path) -> None:
    shown = [
        question("Salt and rope.", f"What is load {i}?", f"load {i} of salt") for i in range(6)
    ]
    data = make_data(
        tmp_path, base, {"train": shown, "test": shown_apart()}, source={"format": "messages"}
    )
    task = read_task(data.path)
    rung = Prompted(
        "few_shot", task, Base(base.path, 4), {"system": None, "chat_template_kwargs": {}},
        {"seed": 0, "shots": 2, "max_new_tokens": 8, "answer_after": None},
    )  # fmt: skip
    text = Base(base.path, 4).tokenizer.decode(rung.prompt(task.test[0]))
    assert text.count("<|im_start|>assistant\nload ") == 2
    assert text.endswith("the crane?<|im_end|>\n<|im_start|>assistant\n")
    assert rung.told["asked_by"] == "writing"


def shown_apart() -> list[dict[str, Any]]:
    return [question("The crane is old, near the frost and tide.", "How old is the crane?", "old")]


def test_data_with_labels_is_not_looked_up(base: Artifact, data: Artifact, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="it answers open questions, and the data has labels"):
        run(tmp_path, {"data": data, "root": base}, "retrieved")
