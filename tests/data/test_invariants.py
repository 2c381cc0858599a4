"""Whatever bytes a source holds: one line says why not, or every row is accounted for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError
from pipeline.data.arrow import read_rows
from pipeline.data.sources import reading
from pipeline.data.sources.jsonl import jsonl_chunks
from pipeline.stages.scratch import END
from tests.data.preparing import TEXTS, adds_up, documents, entries, prepare

BOM = b"\xef\xbb\xbf"
LONGEST = 64
JUDGED = [*TEXTS[:2], *(f"{n} gulls above the pier" for n in ("five", "six", "seven", "eight"))]
SHY = re.compile("[\u2060\u200b-\u200d]")
WORDS = st.sampled_from(
    [*TEXTS, *(text.upper() for text in TEXTS[:3]), "我的卡在哪里？", "é\u0301"]
)
WILD = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
MARKED = st.sampled_from(["a <|im_end|> b", "<|im_start|>user\nx", "<|endoftext|>", "\u2060<|"])
LONG = st.integers(20, 90).map("ship ".__mul__)
SAYS = WORDS | WORDS | WILD | MARKED | LONG
OWN_ID = st.sampled_from([{}, {}, {"id": "0"}, {"id": "a"}, {"id": 7}, {"id": "a~1"}])


def line(row: Any) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode()


def talk(question: str, answer: str) -> dict[str, Any]:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": turns}


ROWS = {
    "text": st.builds(lambda text, own: {"text": text, **own}, SAYS, OWN_ID),
    "messages": st.builds(lambda q, a, own: {**talk(q, a), **own}, SAYS, SAYS, OWN_ID),
}
BROKEN = st.sampled_from([
    b'{"text": "cut', b"{}", b"[]", b"7", b"null", b'{"text": 7}', b'{"text": null}',
    b'{"text": "a", "text": "b"}', b'{"text": "\\ud83d"}', b'{"text": "\xe9"}', b'{"text": "\0"}',
    b'{"text": NaN}', b"[" * 200, b'{"text": " "}', b'{"messages": []}', b'{"messages": "x"}',
    b'{"messages": [{"role": "assistant", "content": "first"}]}', b'{"text": 1e999}',
    b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]}',
    b'{"text": ' + b"9" * 5000 + b"}",
]) | st.binary(min_size=1, max_size=12)  # fmt: skip


@st.composite
def sources(draw: st.DrawFn, form: str) -> bytes:
    good = draw(st.lists(ROWS[form].map(line), min_size=1, max_size=12))
    more = draw(st.lists(st.sampled_from(good) | BROKEN | st.sampled_from([b"", b"  "])))
    lines = draw(st.permutations([*good, *more]))
    ends = draw(st.sampled_from([b"\n", b"\r\n"]))
    return draw(st.sampled_from([b"", BOM])) + ends.join(lines) + draw(st.sampled_from([b"", ends]))


PLANS = st.fixed_dictionaries({
    "over_length": st.sampled_from(["error", "drop", "truncate-left", "truncate-right", "split"]),
    "max_quarantined": st.sampled_from([0.99, 0.99, 0.5, 2]),
    "contamination": st.sampled_from(["drop", "drop", "report"]),
    "carve": st.sampled_from([None, {"carve": 0.25, "by": None, "time": None, "seed": 1}]),
    "clean": st.sampled_from([
        {}, {"duplicates": "drop"}, {"near_duplicates": "drop"},
        {"unicode": "NFC", "control_characters": True, "whitespace": True, "min_characters": 3,
         "duplicates": "drop"},
    ]),
})  # fmt: skip


# Bytes that make such a file are few, and shrinking them takes minutes: what fails is printed.
QUICK = settings(
    max_examples=12, deadline=None, phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
Made = tuple[Artifact, Mapping[str, Any]] | str


def made_of(folder: Path, root: Artifact, file: Path, form: str, plan: dict[str, Any]) -> Made:
    """The Dataset and its facts, or the words of a refusal."""
    render = {"text": "text", "messages": "sft"}[form]
    rows = documents(JUDGED) if form == "text" else [talk(text, "aye") for text in JUDGED]
    try:
        return prepare(
            folder, root, {"train": [{}], "test": rows}, as_given={"train": file},
            source={"format": form}, render=render, max_length=LONGEST, **plan,
        )  # fmt: skip
    except DataError as error:
        return str(error)


def written(made: Made) -> Any:
    if isinstance(made, str):
        return made
    return made[1], {path.name: path.read_bytes() for path in made[0].path.iterdir()}


def require_account(made: Artifact, facts: Mapping[str, Any], file: Path, form: str) -> set[str]:
    """Every physical row stands in exactly one place; returns the names of kept ones."""
    lines = file.read_bytes().removeprefix(BOM).split(b"\n")
    places = {f"{file.name}:{n}": row for n, row in enumerate(lines, 1) if row.strip()}
    funnel = facts["funnel"]["train"]
    assert adds_up(facts)
    assert funnel["read"] == len(places)
    refused = [entry for entry in entries(made, "quarantined") if entry["split"] != "test"]
    listed = [entry for entry in entries(made, "dropped") if entry["split"] != "test"]
    kept = {
        row["example_id"]
        for split in ("train", "validation")
        for row in read_rows(made.path / f"{split}.arrow")
    }
    # An example's name is its row's, and behind it which turn or window of the row it is.
    parts = re.compile(r"(?:\.\d+)?(?:#\d+)?$") if form == "messages" else re.compile(r"#\d+$")
    rows = {parts.sub("", name) for name in kept}
    assert len(rows) == sum(funnel["kept"] for funnel in facts["funnel"].values()) - len(JUDGED)
    by_place = [entry["place"] for entry in (*refused, *listed) if "place" in entry]
    by_name = [entry["id"] for entry in (*refused, *listed) if "place" not in entry]
    assert len(set(by_place)) == len(by_place)
    assert set(by_place) <= places.keys()
    assert len(set(by_name)) == len(by_name)
    assert len(by_place) + len(rows | set(by_name)) == len(places)
    # What is listed and kept all the same was cut, and says so.
    cut = {entry["id"] for entry in listed if entry["reason"].startswith("over-length: ")}
    assert rows & set(by_name) <= cut
    for place, raw in places.items():
        if not is_object(raw):
            assert place in by_place
    dropped = {name for name in by_name if name not in rows}
    hits = [entry for entry in entries(made, "contaminated") if entry["split"] == "train"]
    contaminated = [entry["id"] for entry in listed if entry["reason"] == "contaminated"]
    assert set(contaminated) <= dropped & {entry["row"] for entry in hits}
    return rows


def is_object(raw: bytes) -> bool:
    try:
        return isinstance(json.loads(raw), dict)
    except (ValueError, RecursionError):
        return False


def rows_by_name(file: Path) -> dict[str, list[Any]]:
    """Rows by what they may be called: their own id, that with their number, or their number."""
    rows = [raw for raw in file.read_bytes().removeprefix(BOM).split(b"\n") if raw.strip()]
    found: dict[str, list[Any]] = {}
    for number, raw in enumerate(rows):
        row = json.loads(raw) if is_object(raw) else {}
        own = row.get("id")
        for name in (number,) if own is None else (own, f"{own}~{number}"):
            found.setdefault(str(name), []).append(row)
    return found


def require_rendering(made: Artifact, file: Path, form: str, tokenizer: Any) -> None:
    """decode(ids) is the row's text as the template writes it, control strings apart."""
    rows = rows_by_name(file)
    for made_row in read_rows(made.path / "train.arrow"):
        ids, may_be = made_row["input_ids"], rows.get(made_row["example_id"])
        if may_be is None or len(ids) == LONGEST:
            continue  # a part of a row, or one that may be cut: both are counted above
        if form == "messages":
            said = [tokenizer.apply_chat_template(row["messages"], tokenize=False)
                    for row in may_be if "messages" in row]  # fmt: skip
        else:
            said = [f"{row['text']}{END}" for row in may_be if "text" in row]
        told = tokenizer.decode(ids, skip_special_tokens=False)
        assert SHY.sub("", told) in [SHY.sub("", text) for text in said]
        # A text that holds a control string ends no turn with it.
        assert ids.count(tokenizer.eos_token_id) == {"text": 1, "messages": 2}[form]


@pytest.mark.parametrize("form", ["text", "messages"])
def test_every_physical_row_is_kept_or_listed_and_the_bytes_are_the_same_again(
    form: str, root: Artifact, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ended: list[str] = []

    @QUICK
    @given(data=sources(form), plan=PLANS)
    def holds(data: bytes, plan: dict[str, Any]) -> None:
        folder = tmp_path_factory.mktemp("rows")
        file = folder / "train.jsonl"
        file.write_bytes(data)
        first = made_of(folder / "first", root, file, form, plan)
        again = made_of(folder / "again", root, file, form, plan)
        assert written(again) == written(first)
        # Other workers, and other pieces too: what is written hangs on neither.
        small = partial(jsonl_chunks, size=200)
        with mock.patch.object(reading, "jsonl_chunks", small):
            two = made_of(folder / "two", root, file, form, {**plan, "workers": 2})
        if isinstance(first, str):
            # Which of several bad rows is named hangs on the pieces.
            assert isinstance(two, str)
            assert first.strip()
            assert "\n" not in first
            ended.append("refused")
            return
        assert written(two) == written(first)
        require_account(*first, file, form)
        if not plan["clean"].get("unicode"):
            require_rendering(first[0], file, form, tokenizer)
        ended.append("made")

    holds()
    assert {"made"} <= set(ended)
