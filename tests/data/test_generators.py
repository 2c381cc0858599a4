"""The demo's data: the same for the same seed, near balance, and disjoint where it says so."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter, defaultdict
from typing import Any

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer  # type: ignore[import-untyped,unused-ignore]
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped,unused-ignore]

from pipeline.core.errors import DataError
from pipeline.data.generators import GENERATORS, generate, generator_identity
from pipeline.data.generators import retail_banking as bank
from pipeline.data.generators.banking_matter import lines
from pipeline.data.generators.retail_banking import find_overlap, phrases, templates

EVERY_PART = [(name, part) for name, info in GENERATORS.items() for part in info.parts]
BANK_TRAINING = ("knowledge", "intents_train")


def texts(name: str, part: str, seed: int = 0) -> list[str]:
    return [str(row["text"]) for row in generate(name, part, seed)]


def everything_trained_on(seed: int = 0) -> list[str]:
    general = [text for part in ("train", "test") for text in texts("stdlib_docstrings", part)]
    return general + [
        text for part in BANK_TRAINING for text in texts("retail_banking", part, seed)
    ]


@pytest.mark.parametrize(("name", "part"), EVERY_PART)
def test_the_same_seed_gives_the_same_bytes_in_another_process(name: str, part: str) -> None:
    # Another process has another hash seed: an order taken from a set would show.
    script = (
        "import hashlib, json; from pipeline.data.generators import generate; "
        f"rows = generate({name!r}, {part!r}, 7); "
        "print(hashlib.sha256(json.dumps(rows).encode()).hexdigest())"
    )
    made = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert made[0].stdout == made[1].stdout


@pytest.mark.parametrize(("name", "part"), EVERY_PART)
def test_another_seed_gives_other_rows(name: str, part: str) -> None:
    assert json.dumps(generate(name, part, 0)) != json.dumps(generate(name, part, 1))


@pytest.mark.parametrize(("name", "part"), EVERY_PART)
def test_ids_are_unique_and_no_slot_or_choice_is_left_unfilled(name: str, part: str) -> None:
    rows = generate(name, part, 0)
    assert len({row["id"] for row in rows}) == len(rows)
    if name == "retail_banking":
        assert not [row for row in rows if re.search(r"[\[\]{}|]|  ", str(row["text"]))]


def test_no_text_of_the_bank_is_repeated() -> None:
    for part in GENERATORS["retail_banking"].parts:
        counted = Counter(texts("retail_banking", part))
        assert [text for text, times in counted.items() if times > 1] == []


def test_docstrings_are_of_the_promised_size_and_a_tenth_at_most_is_held_out() -> None:
    train, test = (texts("stdlib_docstrings", part) for part in ("train", "test"))
    size, held = (sum(len(text) for text in part) for part in (train, test))
    assert 1_000_000 < size + held < 2_500_000
    assert 0.02 < held / (size + held) < 0.2
    assert min(len(" ".join(text.split())) for text in train + test) >= 40


def test_docstrings_share_no_module_and_no_text_between_train_and_test() -> None:
    train, test = (generate("stdlib_docstrings", part, 0) for part in ("train", "test"))

    def modules(rows: list[dict[str, object]]) -> set[str]:
        return {str(row["id"]).partition(":")[0] for row in rows}

    def plain(rows: list[dict[str, object]]) -> set[str]:
        return {" ".join(str(row["text"]).split()) for row in rows}

    assert not modules(train) & modules(test)
    assert not plain(train) & plain(test)
    assert len(plain(train)) == len(train)


def test_docstrings_are_those_that_python_itself_sees() -> None:
    import inspect
    import textwrap

    rows = {
        str(row["id"]): row["text"]
        for part in ("train", "test")
        for row in generate("stdlib_docstrings", part, 0)
    }
    assert rows["textwrap:TextWrapper.fill"] == inspect.getdoc(textwrap.TextWrapper.fill)


def test_no_test_folder_and_no_installed_package_is_read() -> None:
    for row in generate("stdlib_docstrings", "train", 0):
        parts = str(row["id"]).partition(":")[0].split(".")
        assert not {"test", "tests", "idle_test", "site-packages", "lib2to3"} & set(parts)


def test_documents_are_of_the_promised_number_and_length() -> None:
    documents = texts("retail_banking", "knowledge")
    assert 600 <= len(documents) <= 900
    assert 350_000 <= sum(len(text.encode()) for text in documents) <= 450_000
    assert all(25 <= len(text.split()) <= 160 for text in documents)


def test_documents_are_not_a_handful_of_sentences_repeated() -> None:
    split = re.compile(r"(?<=[.?!])\s+|\n")
    sentences = [s for text in texts("retail_banking", "knowledge") for s in split.split(text)]
    assert len(set(sentences)) > 0.6 * len(sentences)


def test_every_label_has_train_and_test_rows_near_balance() -> None:
    for part, low, high in (("intents_train", 1500, 2000), ("intents_test", 500, 700)):
        rows = generate("retail_banking", part, 0)
        counted = Counter(row["label"] for row in rows)
        assert low <= len(rows) <= high
        assert set(counted) == {matter.label for matter in bank.MATTERS}
        assert max(counted.values()) <= 1.5 * min(counted.values())
        assert max(counted.values()) / len(rows) < 0.08  # the chance level
    assert 16 <= len(bank.MATTERS) <= 20


def test_a_group_is_one_phrase_of_one_label() -> None:
    for part in ("intents_train", "intents_test"):
        labels: dict[str, set[str]] = defaultdict(set)
        found: dict[str, set[str]] = defaultdict(set)
        for row in generate("retail_banking", part, 0):
            group, text = str(row["group"]), str(row["text"]).casefold()
            labels[group].add(str(row["label"]))
            found[group].update(p for p in phrases(part) if p.casefold() in text)
        assert {len(of_one) for of_one in labels.values()} == {1}
        assert all(found.values())
        assert len(labels) == len(phrases(part))


def test_each_matter_is_told_in_enough_ways() -> None:
    for matter in bank.MATTERS:
        assert len(lines(matter.train)) >= 6
        assert len(lines(matter.test)) >= 5
        assert len(lines(matter.events)) >= 8
    assert len(templates("intents_train")) >= 6
    assert len(templates("intents_test")) >= 6


@pytest.mark.parametrize("seed", [0, 1])
def test_no_test_phrase_and_no_test_template_is_in_any_training_text(seed: int) -> None:
    found = find_overlap(
        phrases("intents_test"), templates("intents_test"), everything_trained_on(seed)
    )
    assert found == []


def test_no_test_phrase_is_in_what_the_knowledge_base_could_say_under_any_seed() -> None:
    fillers = phrases("knowledge") + phrases("intents_train")
    assert find_overlap(phrases("intents_test"), [], fillers) == []


def test_held_out_documents_share_no_line_and_no_phrase_with_the_knowledge_base() -> None:
    told = {line for text in texts("retail_banking", "knowledge") for line in text.splitlines()}
    held = {line for t in texts("retail_banking", "knowledge_test") for line in t.splitlines()}
    assert not told & held
    assert not set(templates("knowledge")) & set(templates("knowledge_test"))
    assert find_overlap(phrases("knowledge_test"), [], texts("retail_banking", "knowledge")) == []


def test_a_planted_phrase_is_found_through_case_width_and_punctuation() -> None:
    phrase = phrases("intents_test")[0]
    leak = "So, " + phrase.upper().replace(" ", " -- ").replace("A", "\uff21") + "!"
    assert find_overlap([phrase], [], ["nothing", leak]) == [phrase]


@pytest.mark.parametrize("template", templates("intents_test"))
def test_a_planted_template_is_found_around_any_filler(template: str) -> None:
    leak = template.format(phrase="the roof leaks").replace(" ", "\n")
    assert find_overlap([], [template], [leak]) == [template]


def test_halves_of_a_template_in_two_texts_are_no_leak() -> None:
    assert find_overlap([], ["Hello, {phrase}. What now?"], ["Hello, you", "What now?"]) == []


def test_every_test_phrase_planted_in_the_knowledge_base_is_found() -> None:
    rows = texts("retail_banking", "intents_test")
    assert set(find_overlap(phrases("intents_test"), [], rows)) == set(phrases("intents_test"))
    used = templates("intents_test")
    assert find_overlap([], used, rows) == used


@pytest.mark.parametrize("nothing", ["{phrase}.", "..."])
def test_a_template_without_words_cannot_be_checked(nothing: str) -> None:
    with pytest.raises(DataError, match="no letters"):
        find_overlap([], [nothing], ["any text"])


def test_the_knowledge_base_teaches_what_the_training_rows_leave_out() -> None:
    """A reference classifier, which knows nothing of this project, gains from the documents."""
    train, test = (generate("retail_banking", f"intents_{part}", 0) for part in ("train", "test"))
    documents = [
        {"text": row["text"], "label": str(row["id"]).split("/")[1]}
        for row in generate("retail_banking", "knowledge", 0)
        if "/log/" not in str(row["id"])
    ]

    def accuracy(rows: list[Any]) -> float:
        vectors = TfidfVectorizer(sublinear_tf=True)
        model = LogisticRegression(C=20, max_iter=500)
        model.fit(vectors.fit_transform([r["text"] for r in rows]), [r["label"] for r in rows])
        score = model.score(
            vectors.transform([str(r["text"]) for r in test]), [r["label"] for r in test]
        )
        return float(score)

    # Single words of the test may stand in the training rows, whole phrases may not: a bag of
    # words does well, and the documents still add to it.
    alone = accuracy(train)
    assert 0.6 < alone < 0.9
    assert accuracy([*train, *documents]) > alone + 0.03


def test_unknown_names_and_parts_are_refused_in_one_line_that_lists_those_there_are() -> None:
    there = "stdlib_docstrings, retail_banking, checkable_instructions"
    with pytest.raises(DataError, match=rf"'poems'.*{there}$"):
        generate("poems", "train", 0)
    with pytest.raises(DataError, match=r"'dev'.*intents_train, intents_test$"):
        generate("retail_banking", "dev", 0)
    with pytest.raises(DataError, match="'poems'"):
        generator_identity("poems")


def test_identity_of_docstrings_holds_the_full_python_version() -> None:
    assert generator_identity("stdlib_docstrings")["python"] == sys.version
    assert "python" not in generator_identity("retail_banking")


def test_generators_and_their_modules_need_no_torch() -> None:
    script = (
        "import sys; from pipeline.data import generators as g; "
        "assert 'pipeline.data.generators.retail_banking' not in sys.modules; "
        "g.generate('retail_banking', 'knowledge', 0); g.generate('stdlib_docstrings', 'test', 0); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
