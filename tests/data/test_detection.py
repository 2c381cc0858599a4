"""Detection: the majority of the rows says what a set is, and what is unclear is told."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import DataError
from pipeline.data.detection import Detected, detect, fitting_columns
from pipeline.data.formats import converter
from pipeline.data.rows import Row

SHARED = Path(__file__).resolve().parents[3] / "shared/data"
Rows = list[dict[str, Any]]
SPAN = {"start": 4, "end": 8, "label": "THING"}
WORDS = "the card has not come yet and nobody can say when it will be here"


def sentence(number: int) -> str:
    return f"{WORDS}, case {number}"


def turns(number: int, *roles: str, keys: Sequence[str] = ("role", "content")) -> Rows:
    return [dict(zip(keys, (role, f"{sentence(number)} {at}"), strict=True))
            for at, role in enumerate(roles)]  # fmt: skip


def rows_of(make: Mapping[str, Any], count: int = 60) -> Rows:
    """Rows in which each callable value is called with the row's number."""
    return [
        {name: value(i) if callable(value) else value for name, value in make.items()}
        for i in range(count)
    ]


def kind(number: int) -> str:
    return f"kind_{number % 4}"


def refusal(rows: Sequence[Row], columns: Mapping[str, str] | None = None) -> str:
    with pytest.raises(DataError) as caught:
        detect(rows, "data.train: x.jsonl", columns)
    message = str(caught.value)
    assert message.startswith("data.train: x.jsonl: ")
    assert "\n" not in message
    return message


SHAPES: list[tuple[str, Mapping[str, Any], str, Mapping[str, str]]] = [
    ("documents", {"text": sentence}, "text", {}),
    ("documents and where they are from",
     {"url": lambda i: f"https://example.org/a/long/path/{i}", "body": sentence}, "text",
     {"text": "body"}),
    ("one column of words", {"id": str, "words": sentence}, "text", {"text": "words"}),
    ("short titles", {"text": str}, "text", {}),
    ("messages", {"messages": lambda i: turns(i, "user", "assistant")}, "messages", {}),
    ("messages by another name", {"dialog": lambda i: turns(i, "user", "assistant")}, "messages",
     {"messages": "dialog"}),
    ("messages by no known name", {"thread": lambda i: turns(i, "user", "assistant")}, "messages",
     {"messages": "thread"}),
    ("roles in a sharegpt column", {"conversations": lambda i: turns(i, "user", "assistant")},
     "messages", {"messages": "conversations"}),
    ("sharegpt", {"conversations": lambda i: turns(i, "human", "gpt", keys=("from", "value"))},
     "sharegpt", {}),
    ("sharegpt in a messages column",
     {"messages": lambda i: turns(i, "human", "gpt", keys=("from", "value"))}, "sharegpt",
     {"conversations": "messages"}),
    ("tools", {"messages": lambda i: turns(i, "user", "assistant"), "tools": "[]"}, "messages", {}),
    ("alpaca", {"instruction": sentence, "input": "", "output": sentence}, "alpaca", {}),
    ("alpaca with history", {"instruction": sentence, "output": sentence, "history": [["a", "b"]]},
     "alpaca", {}),
    ("Dolly", {"instruction": sentence, "context": sentence, "response": sentence,
               "category": kind}, "alpaca", {"output": "response", "input": "context"}),
    ("alpaca with classes to tell", {"instruction": "Which?", "input": sentence, "output": kind},
     "alpaca", {}),
    ("prompt and completion", {"prompt": sentence, "completion": sentence},
     "prompt_completion", {}),
    ("prompt and response", {"prompt": sentence, "response": sentence}, "prompt_completion",
     {"completion": "response"}),
    ("conversational prompt and completion",
     {"prompt": lambda i: turns(i, "user"), "completion": lambda i: turns(i, "assistant")},
     "prompt_completion", {}),
    ("GSM8K", {"question": sentence, "answer": sentence}, "question_answer", {}),
    ("SQuAD", {"id": str, "title": kind, "context": sentence, "question": sentence,
               "answers": lambda i: {"text": [str(i)], "answer_start": [0]}}, "question_answer",
     {"answer": "answers.text"}),
    ("NQ open", {"question": sentence, "answer": lambda i: [str(i)]}, "question_answer", {}),
    ("BoolQ", {"question": sentence, "passage": sentence, "answer": lambda i: i % 2 == 0},
     "question_answer", {"context": "passage"}),
    ("MMLU", {"question": sentence, "subject": kind, "choices": ["a", "b", "c"],
              "answer": lambda i: i % 3}, "question_answer", {}),
    ("CommonsenseQA", {"id": str, "question": sentence, "answerKey": lambda i: "AB"[i % 2],
                       "choices": {"label": ["A", "B"], "text": ["x", "y"]}}, "question_answer",
     {"answer": "answerKey"}),
    ("classes", {"text": sentence, "label": kind}, "classification", {}),
    ("one class at the head of a sorted file", {"text": sentence, "label": "a"},
     "classification", {}),
    ("many classes for few rows", {"text": sentence, "label": lambda i: f"k{i % 50}"},
     "classification", {}),
    ("class numbers and their names", {"text": sentence, "label": lambda i: i % 4,
                                       "label_text": kind}, "classification",
     {"label": "label_text"}),
    ("several classes", {"text": sentence, "labels": lambda i: [kind(i), "b"]}, "classification",
     {}),
    ("several classes in label", {"text": sentence, "label": lambda i: [kind(i), "b"]},
     "classification", {"labels": "label"}),
    ("a topic", {"headline": sentence, "topic": kind}, "classification",
     {"text": "headline", "label": "topic"}),
    ("unknown names", {"words": sentence, "mood": kind}, "classification",
     {"text": "words", "label": "mood"}),
    ("yes or no", {"text": sentence, "label": lambda i: i % 2 == 0}, "classification", {}),
    ("a pair with few answers", {"input": sentence, "output": kind}, "classification",
     {"text": "input", "label": "output"}),
    ("instructions with few answers", {"instruction": sentence, "output": kind}, "classification",
     {"text": "instruction", "label": "output"}),
    ("classes of a chat", {"messages": lambda i: turns(i, "user"), "label": kind},
     "classification", {}),
    ("preference", {"prompt": sentence, "chosen": sentence, "rejected": kind}, "preference", {}),
    ("implicit preference", {"chosen": lambda i: [*turns(i, "user"), *turns(1, "assistant")],
                             "rejected": lambda i: [*turns(i, "user"), *turns(2, "assistant")]},
     "preference", {}),
    ("alpaca preference", {"instruction": sentence, "input": "", "chosen": sentence,
                           "rejected": kind}, "preference", {}),
    ("Orca's preference", {"system": WORDS, "question": sentence, "chosen": sentence,
                           "rejected": kind}, "preference", {"prompt": "question"}),
    ("LLaMA-Factory's preference",
     {"conversations": lambda i: turns(i, "human", keys=("from", "value")),
      "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}},
     "preference", {}),
]  # fmt: skip
SHAPES += [
    ("entities", {"text": sentence, "entities": lambda i: [SPAN] * (i % 2)}, "tagging", {}),
    ("spans beside a class", {"sentence": sentence, "spans": [SPAN], "topic": kind}, "tagging",
     {"text": "sentence", "entities": "spans"}),
    ("CoNLL", {"id": str, "tokens": ["Ann", "runs"], "ner_tags": ["B-PER", "O"]}, "tagging",
     {"tags": "ner_tags"}),
    ("tokens and tags", {"tokens": ["a"], "tags": ["O"]}, "tagging", {}),
    ("numbers to tell", {"text": sentence, "value": lambda i: i / 4}, "regression", {}),
    ("numbers beside a sentence", {"sentence": sentence, "value": lambda i: -i * 1.5},
     "regression", {"text": "sentence"}),
    ("few whole numbers named value", {"text": sentence, "value": lambda i: i % 3},
     "regression", {}),
    ("nine numbers that a table writes", {"text": sentence, "value": lambda i: str(1 + i % 9 / 2)},
     "regression", {}),
    ("words named value", {"text": sentence, "value": kind}, "classification",
     {"label": "value"}),
    ("scores with fractions", {"review": sentence, "score": lambda i: f"{i / 7:.2f}"},
     "regression", {"text": "review", "value": "score"}),
    ("ratings by stars", {"text": sentence, "rating": lambda i: 1 + i % 5}, "classification",
     {"label": "rating"}),
    ("what a crawl thought of its page",
     {"text": sentence, "url": lambda i: f"https://example.org/a/{i}", "score": lambda i: i / 7},
     "text", {}),
    ("a class beside a number", {"text": sentence, "label": kind, "value": lambda i: i / 4},
     "classification", {}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "form", "columns"), [case[1:] for case in SHAPES], ids=[case[0] for case in SHAPES]
)
def test_a_set_is_what_most_of_its_rows_are(
    make: Mapping[str, Any], form: str, columns: Mapping[str, str]
) -> None:
    rows = rows_of(make)
    found = detect(rows, "here")
    assert (found.form, dict(found.columns)) == (form, columns)
    assert (found.fit, found.seen) == (60, 60)
    convert = converter(found.form, columns=found.columns, prompt=None, keep=())
    assert all(convert(row) for row in rows)
    # The same set, a third of it damaged in every way at once, and half of a column gone.
    broken: Rows = [{}, {"text": None}, {"messages": 3, "label": {}}, {"x": "y"}] * 5
    spoiled = detect([*broken, *rows], "here")
    assert (spoiled.form, dict(spoiled.columns)) == (form, columns)
    assert (spoiled.fit, spoiled.seen) == (60, 80)


def test_two_of_a_thousand_rows_do_not_hide_the_format() -> None:
    rows = rows_of(
        {"conversations": lambda i: turns(i, "human", "gpt", keys=("from", "value"))}, 998
    )
    rows.insert(0, {"conversations": [{"from": "gpt", "value": "hello"}]})
    rows.insert(0, {"conversations": "lost"})
    found = detect(rows, "here")
    assert (found.form, found.fit, found.seen) == ("sharegpt", 998, 1000)


def test_a_column_that_half_of_the_rows_lack_is_still_that_column() -> None:
    rows = rows_of({"text": sentence, "label": kind}, 100)
    for row in rows[::2]:
        del row["label"]
    found = detect(rows, "here")
    assert (found.form, found.fit) == ("classification", 50)


def test_labels_are_counted_commonest_first() -> None:
    rows = rows_of({"text": sentence, "label": lambda i: "ab"[i % 3 == 0]}, 60)
    assert list(detect(rows, "here").labels.items()) == [("a", 40), ("b", 20)]
    rows = rows_of({"text": sentence, "labels": lambda i: ["x", "y"][: i % 3]}, 60)
    assert detect(rows, "here").labels == {"x": 40, "y": 20}


def test_a_column_that_groups_rows_is_named() -> None:
    make = {"question": sentence, "answer": sentence, "doc_id": lambda i: f"d{i // 3}"}
    assert detect(rows_of(make), "here").by == "doc_id"
    assert detect(rows_of({**make, "doc_id": str}), "here").by is None
    # A row without its group could not be split by it.
    assert detect([*rows_of(make), {"question": "a", "answer": "b"}] * 2, "here").by is None


def test_what_the_recipe_names_already_is_not_looked_for() -> None:
    rows = rows_of({"body": sentence, "mood": kind, "place": lambda i: "xy"[i % 2]})
    assert "mood, place could each be the label" in refusal(rows)
    found = detect(rows, "here", {"label": "mood"})
    assert (found.form, found.columns) == ("classification", {"text": "body", "label": "mood"})
    rows = rows_of({"first": sentence, "second": sentence})
    assert "first, second could each be the text" in refusal(rows)
    assert detect(rows, "here", {"text": "second"}).columns == {"text": "second"}
    nested = rows_of({"data": lambda i: {"ask": sentence(i), "say": sentence(i)}})
    asked = {"question": "data.ask", "answer": "data.say"}
    assert detect(nested, "here", asked).columns == asked


def test_a_verdict_on_an_answer_is_no_class_and_is_told() -> None:
    chat = {"messages": lambda i: turns(i, "user", "assistant"), "label": lambda i: i % 2 == 0}
    pair = {"prompt": sentence, "completion": sentence, "label": lambda i: i % 2 == 0}
    asked = {"instruction": sentence, "output": sentence, "kto_tag": lambda i: i % 2 == 0}
    for make, form in ((chat, "messages"), (pair, "prompt_completion"), (asked, "alpaca")):
        found = detect(rows_of(make), "here")
        assert (found.form, found.labels) == (form, {})
        assert "unpaired preference" in found.notes[0]


def test_a_text_that_is_left_aside_is_told() -> None:
    found = detect(rows_of({"title": sentence, "body": sentence, "label": kind}), "here")
    assert found.columns == {"text": "title"}
    assert "body plays no part: a prompt can" in found.notes[0]


UNCLEAR: list[tuple[str, Rows, str]] = [
    ("nothing", [], "holds no rows; point it at a file"),
    ("no text", rows_of({"n": lambda i: i}), "no column reads as text (found n)"),
    ("empty rows", [{}] * 30, "no column reads as text (found nothing)"),
    ("two labels", rows_of({"text": sentence, "topic": kind, "tag": lambda i: "xy"[i % 2]}),
     "tag, topic could each be the label; rename one to label, or name it"),
    ("two texts", rows_of({"one": sentence, "two": sentence}), "one, two could each be the text"),
    ("two conversations", rows_of({"a": lambda i: turns(i, "user", "assistant"),
                                   "b": lambda i: turns(i, "user", "assistant")}),
     "a, b could each be the conversation"),
    ("prompts", rows_of({"prompt": sentence}), "prompt without answers (found prompt)"),
    ("questions", rows_of({"question": sentence, "choices": ["a", "b"]}), "nothing to learn"),
    ("texts to prefer", rows_of({"chosen": sentence, "rejected": kind}),
     "chosen and rejected are texts without a prompt"),
    ("other turns", rows_of({"dialog": lambda i: [{"speaker": "a", "line": sentence(i)}]}),
     "dialog: turns have speaker, line; write them as role and content"),
    ("tags by number", rows_of({"tokens": ["a", "b"], "ner_tags": [0, 3]}),
     "ner_tags are numbers, and the rows do not say what they stand for; write names: B-PER"),
    ("no row that fits", rows_of({"messages": lambda i: turns(i, "assistant")}),
     "looks like format messages, and none of 60 rows fits it (60: turn 1: the assistant's comes"),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "words"), [c[1:] for c in UNCLEAR], ids=[c[0] for c in UNCLEAR])
def test_what_is_unclear_is_one_line_with_a_remedy(rows: Rows, words: str) -> None:
    assert words in refusal(rows)


REAL: list[tuple[str, str, str]] = [
    ("ag_news/*.jsonl", "classification", ""),
    ("alpaca_gpt4_demo/*.jsonl", "alpaca", ""),
    ("banking77/*.jsonl", "classification", ""),
    ("bbq/*.jsonl", "question_answer", ""),
    ("c4_wiki_demo/*.jsonl", "text", ""),
    ("mt_bench/dummy_conversation.jsonl", "sharegpt", ""),
    ("mt_bench/test.jsonl", "", "turns without answers"),
    ("mt_bench/vicuna_bench.jsonl", "", "turns without answers"),
    ("mt_bench/reference_gpt4.jsonl", "", "no column reads as text"),
    ("mt_bench/judge_prompts.jsonl", "", "could each be the text"),
    ("preference_demo/dpo_*.jsonl", "preference", ""),
    ("preference_demo/kto_en.jsonl", "messages", ""),
    ("tatqa_finance/corpus_*.jsonl", "text", ""),
    ("tatqa_finance/qa_*.jsonl", "question_answer", ""),
    ("thucnews_titles/*.jsonl", "classification", ""),
    ("wikitext2_part/*.jsonl", "text", ""),
]


@pytest.fixture(scope="module")
def real() -> Mapping[Path, Rows]:
    """The first 2,000 rows of every file."""
    if not SHARED.is_dir():
        pytest.skip("the shared data sets are not beside this repository")
    files: dict[Path, Rows] = {}
    for path in sorted(SHARED.glob("*/*.jsonl")):
        with path.open(encoding="utf-8") as stream:
            files[path] = [json.loads(line) for line, _ in zip(stream, range(2000), strict=False)]
    return files


@pytest.mark.parametrize(("pattern", "form", "words"), REAL)
def test_real_sets_are_what_their_documents_say(
    real: Mapping[Path, Rows], pattern: str, form: str, words: str
) -> None:
    such = [path for path in real if path.match(pattern)]
    assert such
    for path in such:
        for sample in (real[path][:200], real[path]):
            if words:
                assert words in refusal(sample)
                continue
            found = detect(sample, path.name)
            assert (found.form, found.columns) == (form, {})
            assert found.fit == found.seen == len(sample)
            assert bool(found.labels) == (form == "classification")
            assert (found.by == "doc_id") == path.name.startswith("qa_")


def test_every_real_set_is_in_the_table(real: Mapping[Path, Rows]) -> None:
    assert [p for p in real if not any(p.match(pattern) for pattern, _, _ in REAL)] == []


def test_real_choices_are_answered_by_the_choices_own_words(real: Mapping[Path, Rows]) -> None:
    for path, rows in real.items():
        if path.parent.name != "bbq":
            continue
        convert = converter("question_answer", columns={}, prompt=None, keep=("condition",))
        for row in rows[:300]:
            asked, answered = convert(row)["messages"]
            assert answered["content"] == row["choices"][row["answer"]]
            assert asked["content"].startswith(f"{row['context']}\n\n{row['question']}\nA. ")


def test_columns_that_rows_carry_already_are_not_mapped() -> None:
    mapping = {"text": "body", "label": "kind", "answer": "answers.text"}
    theirs: Rows = [{"body": "a", "kind": "b", "answers": {"text": "c"}}]
    assert fitting_columns(mapping, theirs, "here") == mapping
    ours: Rows = [{"text": "a", "label": "b", "answer": "c"}]
    assert fitting_columns(mapping, ours, "here") == {}
    with pytest.raises(DataError, match=r"^here: columns: label: 'kind' is no column of any row "):
        fitting_columns(mapping, [{"body": "a", "answers": 1}], "here")


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["text", "label", "messages", "prompt", "chosen", "rejected", "choices",
                             "question", "answer", "answers", "instruction", "output", "doc_id"]),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.text(max_size=30)
                | st.floats(),
                lambda inner: st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["role", "content", "text"]), inner, max_size=3),
                max_leaves=4,
            ),
            max_size=4,
        ),
        max_size=12,
    )
)  # fmt: skip
def test_any_rows_are_detected_or_refused_in_one_line(rows: Rows) -> None:
    try:
        found = detect(rows, "here")
    except DataError as error:
        found = Detected("text", {}, fit=1)
        assert "\n" not in str(error)  # noqa: PT017
    assert found.fit > 0


def test_numbers_too_long_to_write_are_no_labels() -> None:
    rows = rows_of({"text": sentence, "label": 10**5000, "doc_id": 10**5000, "tag": -(10**5000)})
    assert (detect(rows, "here").form, detect(rows, "here").by) == ("text", None)
