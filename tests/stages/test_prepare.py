"""Rows to ids through the stage itself: nothing is lost without a line that says so."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError
from pipeline.data.arrow import read_rows
from pipeline.data.writing import segments
from tests.data.preparing import TEXTS, adds_up, documents, entries, names, prepare


def test_a_classifier_reads_the_question_and_never_the_label(
    root: Artifact, tmp_path: Path
) -> None:
    rows = [{"text": text, "label": text.split()[1]} for text in TEXTS]
    asked, _ = prepare(tmp_path / "c", root, {"test": rows}, render="classify")
    told, _ = prepare(tmp_path / "g", root, {"test": rows}, render="sft")
    for question, whole in zip(
        read_rows(asked.path / "test.arrow"), read_rows(told.path / "test.arrow"), strict=True
    ):
        until = whole["supervised"].index(1)
        assert question["input_ids"] == whole["input_ids"][:until]
        assert question["label"] == whole["label"]


LONG = [{"text": "ship " * n, "label": "ab"[n % 2]} for n in (3, 4, 5, 6, 300)]


def test_over_length_rows_stop_a_run_by_default(root: Artifact, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 4 has \d+ tokens, train\.max_length is 64"):
        prepare(tmp_path, root, {"train": LONG}, render="sft")


@pytest.mark.parametrize("policy", ["drop", "truncate-left", "truncate-right", "split"])
def test_every_over_length_row_is_listed(root: Artifact, tmp_path: Path, policy: str) -> None:
    made, facts = prepare(tmp_path, root, {"train": LONG}, render="sft", over_length=policy)
    assert facts["over_length"] == 1
    assert adds_up(facts)
    listed = entries(made, "dropped")
    assert [(e["id"], e["reason"]) for e in listed] == [("4", f"over-length: {policy}")]
    rows = read_rows(made.path / "train.arrow")
    assert all(len(row["input_ids"]) <= 64 and any(row["supervised"]) for row in rows)
    # The answer stands at the end: cut from the right, nothing is left to learn from.
    kept = policy in {"truncate-left", "split"}
    assert ("4" in {row["example_id"].partition("#")[0] for row in rows}) == kept


def test_packing_loses_no_token_and_keeps_rows_whole(root: Artifact, tmp_path: Path) -> None:
    single, _ = prepare(tmp_path / "s", root, {"train": documents(TEXTS)})
    packed, facts = prepare(tmp_path / "p", root, {"train": documents(TEXTS)}, packing=True)
    rows = sorted(tuple(row["input_ids"]) for row in read_rows(single.path / "train.arrow"))
    found = [
        tuple(part["input_ids"])
        for block in read_rows(packed.path / "train.arrow")
        for part in segments(block)
    ]
    assert sorted(found) == rows
    assert facts["packing"]["blocks"] == len(read_rows(packed.path / "train.arrow")) < len(rows)


def test_the_same_bytes_whatever_the_number_of_workers(root: Artifact, tmp_path: Path) -> None:
    rows = [{"text": f"{TEXTS[n % 16]} {n}", "label": "ab"[n % 2]} for n in range(3000)]
    rows[17]["text"] = ""
    made = [
        prepare(
            tmp_path / str(workers), root, {"train": rows, "test": documents_of_label()},
            render="sft", packing=True, max_quarantined=1, workers=workers,
            carve={"carve": 0.1, "by": None, "time": None, "seed": 3},
            clean={"duplicates": "drop", "unicode": "NFC", "near_duplicates": "report"},
        )
        for workers in (1, 2, 3)
    ]  # fmt: skip
    files = [
        {path.name: path.read_bytes() for path in sorted(one.path.iterdir())} for one, _ in made
    ]
    # Only the temporary folder's name may differ, where a quarantined row's place is written.
    for name in files[0]:
        if name != "quarantined.jsonl":
            assert files[0][name] == files[1][name] == files[2][name], name
    assert made[0][1] == made[1][1] == made[2][1]
    assert adds_up(made[0][1])


def documents_of_label() -> list[dict[str, Any]]:
    return [{"text": f"gulls above pier {n}", "label": "ab"[n % 2]} for n in range(10)]


def test_labels_of_a_text_source_play_no_part(root: Artifact, tmp_path: Path) -> None:
    rows = [{"text": text, "label": f"label {index}"} for index, text in enumerate(TEXTS)]
    made, facts = prepare(
        tmp_path, root, {"train": rows, "test": [{"text": "x y z", "label": "never seen"}]},
        source={"format": "text"},
    )  # fmt: skip
    assert facts["labels"] == 0
    assert {row["label"] for row in read_rows(made.path / "train.arrow")} == {None}


def test_labels_that_look_the_same_are_refused_without_training_rows_too(
    root: Artifact, tmp_path: Path
) -> None:
    words = r"data\.test: labels 'cafe\\u0301' and 'caf\\xe9' look the same and differ by Unicode"
    alike = [{"text": text, "label": ("caf\u00e9", "cafe\u0301")[n % 2]}
             for n, text in enumerate(TEXTS)]  # fmt: skip
    with pytest.raises(DataError, match=words):
        prepare(tmp_path / "suite", root, {"test": alike}, render="sft")
    rows = [{"text": text, "label": "caf\u00e9"} for text in TEXTS]
    other = [{"text": "a text of its own", "label": "cafe\u0301"}]
    with pytest.raises(DataError, match=words):
        prepare(tmp_path / "both", root, {"train": rows, "test": other}, render="sft")


def test_a_label_that_training_never_sees_is_refused(root: Artifact, tmp_path: Path) -> None:
    rows = [{"text": text, "label": "ship"} for text in TEXTS]
    with pytest.raises(DataError, match=r"data\.test: label 'gull' is unseen in training"):
        prepare(tmp_path, root, {"train": rows, "test": [{"text": "a gull", "label": "gull"}]})


@pytest.mark.parametrize("other", ["Ship", "ship_", " SHIP "])
def test_labels_that_differ_by_case_or_space_only_are_refused(
    root: Artifact, tmp_path: Path, other: str
) -> None:
    rows = [{"text": text, "label": ["ship", other][n % 2]} for n, text in enumerate(TEXTS)]
    with pytest.raises(DataError, match=r"data\.train: labels .* differ by case"):
        prepare(tmp_path, root, {"train": rows})


def test_a_class_of_one_row_is_quarantined(root: Artifact, tmp_path: Path) -> None:
    rows = [{"text": text, "label": "ab"[n % 2]} for n, text in enumerate(TEXTS)]
    rows.append({"text": "a gull", "label": "lonely"})
    with pytest.raises(DataError, match=r'row 16: label "lonely" has one row'):
        prepare(tmp_path / "e", root, {"train": rows})
    made, facts = prepare(tmp_path / "q", root, {"train": rows}, max_quarantined=1)
    assert facts["funnel"]["train"]["quarantined"] == 1
    assert entries(made, "quarantined")[0]["reason"] == "label 'lonely' has one row"
    assert adds_up(facts)


def test_refused_rows_go_to_quarantine_with_line_and_reason(root: Artifact, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    lines = [json.dumps(row) for row in documents(TEXTS)]
    lines[3] = '{"text": "broken'
    lines[5] = '{"text": 7}'
    file.write_text("\n".join(lines))
    given = {"as_given": {"train": file}}
    with pytest.raises(DataError, match=r"rows\.jsonl:4: .*2 of 16 rows refused, 1 allowed"):
        prepare(tmp_path / "e", root, {"train": documents(["x"])}, max_quarantined=1, **given)
    made, facts = prepare(
        tmp_path / "q", root, {"train": documents(["x"])}, max_quarantined=0.2, **given
    )
    assert facts["funnel"]["train"]["quarantined"] == 2
    places = [entry["place"] for entry in entries(made, "quarantined")]
    assert [place.rpartition(":")[2] for place in places] == ["4", "6"]
    assert adds_up(facts)


def test_a_truncated_gzip_is_refused_whatever_may_be_quarantined(
    root: Artifact, tmp_path: Path
) -> None:
    whole = gzip.compress("".join(json.dumps(row) + "\n" for row in documents(TEXTS * 50)).encode())
    file = tmp_path / "rows.jsonl.gz"
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"rows\.jsonl\.gz.*broken off"):
        prepare(
            tmp_path / "o", root, {"train": documents(["x"])}, max_quarantined=0.99,
            as_given={"train": file},
        )  # fmt: skip


def test_ids_that_stand_twice_are_made_unique_and_told(root: Artifact, tmp_path: Path) -> None:
    rows = [{"id": "same", "text": text} for text in TEXTS[:3]]
    made, facts = prepare(tmp_path, root, {"train": rows})
    assert names(made, "train") == ["same", "same~1", "same~2"]
    assert facts["funnel"]["train"]["details"]["ids that stood twice, made unique"] == 2


def test_a_test_row_beyond_the_context_is_refused_before_training(
    root: Artifact, tmp_path: Path
) -> None:
    config = json.loads((root.path / "config.json").read_text())
    limit = config["max_position_embeddings"]
    rows = [{"text": "ship " * limit, "label": "a"}, {"text": "sail", "label": "b"}]
    with pytest.raises(
        DataError, match=rf"row 0 has \d+ tokens, and the base's context is {limit}"
    ):
        prepare(tmp_path, root, {"test": rows}, render="classify")


def test_a_conversation_is_no_row_for_a_classifier(root: Artifact, tmp_path: Path) -> None:
    """Its rendering holds the assistant's answer: a head would read what it should tell."""
    talk = [{"role": "user", "content": "one ship"}, {"role": "assistant", "content": "ship"}]
    rows = [{"messages": talk, "label": "ship"}]
    for form in ("messages", "classification"):
        with pytest.raises(DataError, match="format classification"):
            prepare(tmp_path / form, root, {"test": rows}, render="classify",
                    source={"format": form})  # fmt: skip


def test_chosen_answers_of_preferences_are_learned(root: Artifact, tmp_path: Path) -> None:
    rows = [{"prompt": text, "chosen": "aye", "rejected": "no"} for text in TEXTS]
    made, _ = prepare(
        tmp_path, root, {"train": rows}, render="sft", source={"format": "preference"}
    )
    assert {row["label"] for row in read_rows(made.path / "train.arrow")} == {"aye"}


def test_an_empty_file_is_refused_in_one_line(root: Artifact, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("")
    with pytest.raises(DataError, match="rows"):
        prepare(tmp_path / "o", root, {"train": documents(["x"])}, as_given={"train": file})


def test_a_refused_rendering_counts_against_the_quarantine(root: Artifact, tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "one ship"}, {"role": "assistant", "content": "ship"}]
    told = [talk[0], {**talk[1], "train": True}]
    rows = [{"messages": [talk[0], {**talk[1], "train": False}]} for _ in range(9)]
    with pytest.raises(DataError, match=r"data\.train"):
        prepare(tmp_path, root, {"train": [{"messages": told}, *rows]}, render="sft",
                source={"format": "messages"}, loss_on="flag")  # fmt: skip


def test_no_text_that_was_to_be_cleaned_of_personal_data_is_written_down(
    root: Artifact, tmp_path: Path
) -> None:
    rows = documents([*TEXTS, "my card is 4111 1111 1111 1111, mail me at jane.roe@example.com"])
    file = tmp_path / "rows.jsonl"
    lines = [json.dumps(row) for row in rows]
    file.write_text("\n".join([*lines, '{"text": 4111111111111111}']))
    made, facts = prepare(
        tmp_path / "o", root, {"train": documents(["x"])}, as_given={"train": file},
        clean={"personal_data": "drop"}, max_quarantined=1,
    )  # fmt: skip
    assert facts["funnel"]["train"]["cleaned"] == 1
    for path in made.path.glob("*.jsonl"):
        assert "4111" not in path.read_text()
        assert "jane" not in path.read_text()
