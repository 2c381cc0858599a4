"""Gopher's and C4's heuristics, each at its published threshold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.data.cleaning import c4, gopher
from pipeline.data.cleaning.words import by_characters, words

SHARED = Path(__file__).resolve().parents[4] / "shared/data"
# Sixty different words, with stop words: nothing to object to.
FILLER = [f"word{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(58)]
GOOD = " ".join(["the", "and", *FILLER])


def in_lines(form: str, size: int) -> str:
    words = GOOD.split()
    return "\n".join(form.format(" ".join(words[i : i + size])) for i in range(0, 60, size))


CHINESE = "".join(chr(0x4E00 + 7 * i) for i in range(120)) + "。"


def test_a_plain_document_passes() -> None:
    assert gopher.refuse_document(GOOD) is None
    assert gopher.refuse_document(CHINESE) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (" ".join(GOOD.split()[:49]), "49 words"),
        ("the and " * 50_001, "100002 words"),
        (" ".join(["a", "of", *(chr(97 + i % 26) for i in range(58))]), "mean word length 1.0"),
        (" ".join([*GOOD.split(), "x" * 700]), "mean word length 17."),
        (GOOD + " #" * 7, "0.12 # per word"),
        (GOOD + " ..." * 7, "0.12 ellipsis per word"),
        (" ".join([*GOOD.split()[:40], *map(str, range(1000, 1020))]), "0.67 of words alphabetic"),
        (in_lines("- {}", 5), "1.00 of lines are bullets"),
        (in_lines("{}...", 20), "1.00 of lines end in an ellipsis"),
        (GOOD + "\nsame line\nsame line", "duplicate line fraction 0.33"),
        ("\n".join([GOOD, GOOD, *FILLER[:3]]), "duplicate line character fraction 0.4"),
        (" ".join([*GOOD.split(), *["very well"] * 20]), "top 2-gram fraction 0."),
        (" ".join([*FILLER, "the", "and", *FILLER[:20]]), "duplicate 5-gram fraction 0.2"),
        (" ".join([*FILLER, "lorem"]), None),
    ],
)  # fmt: skip
def test_each_heuristic_of_gopher(text: str, reason: str | None) -> None:
    found = gopher.refuse_document(text)
    assert found is not None if reason else found is None
    assert found is None or found.startswith(reason or "")


def test_thresholds_are_those_of_the_paper() -> None:
    """Rae et al. 2021, appendix A.1.1 and Table A1, as FineWeb's datatrove has them too."""
    assert (gopher.FEWEST_WORDS, gopher.MOST_WORDS) == (50, 100_000)
    assert (gopher.SHORTEST_MEAN, gopher.LONGEST_MEAN) == (3, 10)
    assert gopher.MOST_TOP_GRAM == {2: 0.20, 3: 0.18, 4: 0.16}
    assert gopher.MOST_DUPLICATE_GRAMS == {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.1}


def test_stop_words_are_asked_of_english_only() -> None:
    english = (
        "Yesterday our football club won another match against its oldest rivals before twenty "
        "thousand cheering people who sang loudly until midnight. Three players scored goals "
        "while one goalkeeper saved several difficult shots. Coaches praised everyone afterwards "
        "because nobody expected such success this season. Local newspapers printed large "
        "pictures next morning; many children bought them happily."
    )
    german = (
        "Gestern gewann unser Fußballverein wieder ein Spiel gegen seine ältesten Gegner vor "
        "zwanzigtausend jubelnden Menschen, die bis Mitternacht laut sangen. Drei Spieler "
        "schossen Tore, während ein Torwart mehrere schwierige Bälle hielt. Die Trainer lobten "
        "danach alle, weil niemand in diesem Jahr solchen Erfolg erwartet hatte. Am nächsten "
        "Morgen druckten die Zeitungen große Bilder, und viele Kinder kauften sie fröhlich."
    )
    assert gopher.refuse_document(english) == "0 of Gopher's English stop words"
    assert gopher.refuse_document(german) is None


def test_chinese_counts_by_characters_and_repeats_by_twice_as_many() -> None:
    assert words("我爱AI，hello world！") == ["我", "爱", "AI，hello", "world！"]
    assert by_characters(words("机器学习很有趣 AI"))
    assert not by_characters(words("machine learning 很"))
    assert gopher.refuse_document("今天天气很好" * 20) is not None


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("One two three four five.\nMenu\nSix seven eight nine ten!\nIs it not so, you ask?",
         "One two three four five.\nSix seven eight nine ten!\nIs it not so, you ask?"),
        ("A b c d e.[1]\nA b c d f.[citation needed]\n\nA b c d g.",
         "A b c d e.\nA b c d f.\n\nA b c d g."),
        ("A b c d e.\nPlease enable Javascript to see it.\nRead our privacy policy here, please.\n"
         "A b c d f.\nA b c d g...\nToo short.\nA b c d h.", "A b c d e.\nA b c d f.\nA b c d h."),
        ("今天天气很好。\n首页\n我们一起去公园！\n你想不想去呢？",
         "今天天气很好。\n我们一起去公园！\n你想不想去呢？"),
    ],
)  # fmt: skip
def test_c4_keeps_lines_that_are_sentences(text: str, kept: str) -> None:
    assert c4.clean_page(text) == (kept, None)
    assert c4.clean_page(kept) == (kept, None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("One two three four five. Six seven eight!", "2 sentences, fewer than 3"),
        ("Lorem Ipsum dolor sit amet. A b c. D e f. G h i.", "lorem ipsum"),
        ("function() { return; } is code. A b c. D e f.", "a curly bracket"),
    ],
)
def test_c4_drops_pages(text: str, reason: str) -> None:
    assert c4.clean_page(text)[1] == reason


def test_c4s_own_pages_pass_c4() -> None:
    path = SHARED / "c4_wiki_demo/c4.jsonl"
    if not path.is_file():
        pytest.skip("needs c4_wiki_demo")
    with path.open(encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    assert all(c4.clean_page(text)[1] is None for text in texts)
    assert sum(c4.clean_page(text)[0] == text for text in texts) / len(texts) >= 0.98
