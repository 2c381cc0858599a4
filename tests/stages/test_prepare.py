"""Rows to ids through the stage itself: what is judged is kept out of what is trained on."""

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
from tests.data.preparing import TEXTS, adds_up, documents, entries, names, prepare, tiny_base


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return tiny_base(tmp_path_factory.mktemp("store") / "root")


def test_a_prompt_does_not_hide_a_copy(root: Artifact, tmp_path: Path) -> None:
    others = documents([f"{n} gulls above the pier" for n in ("five", "six", "seven", "eight")])
    made, facts = prepare(
        tmp_path, root, {"train": documents(TEXTS), "test": [*documents(TEXTS[:2]), *others]},
        source={"prompt": "Customer: {text}"},
    )  # fmt: skip
    assert facts["contaminated"] >= 2
    assert adds_up(facts)
    kept = {row for row in names(made, "train")}
    assert not kept & {"0", "1"}
    hits = entries(made, "contaminated")
    assert {(h["row"], h["item"]) for h in hits if h["kind"] == "exact"} == {("0", "0"), ("1", "1")}
    assert all(h["dropped"] and h["where"] == "own" for h in hits)


def test_a_recipe_that_trains_on_its_own_test_split_is_stopped(
    root: Artifact, tmp_path: Path
) -> None:
    for policy in ("drop", "report", "error"):
        with pytest.raises(DataError, match=r"trains on its own test split|stand in an evaluation"):
            prepare(
                tmp_path / policy, root, {"train": documents(TEXTS), "test": documents(TEXTS)},
                contamination=policy,
            )  # fmt: skip


def test_policy_report_keeps_the_row_and_says_so(root: Artifact, tmp_path: Path) -> None:
    others = documents([f"{n} gulls above the pier" for n in ("five", "six", "seven")])
    made, facts = prepare(
        tmp_path, root, {"train": documents(TEXTS[:4]), "test": [*documents(TEXTS[:1]), *others]},
        contamination="report",
    )  # fmt: skip
    assert facts["contaminated"] == 0
    assert len(names(made, "train")) == 4
    assert [h["dropped"] for h in entries(made, "contaminated") if h["kind"] == "exact"] == [False]


def test_a_test_row_in_an_ancestors_training_rows_fails_and_names_both(
    root: Artifact, tmp_path: Path
) -> None:
    below, _ = prepare(tmp_path / "l1", root, {"train": documents(TEXTS)})
    splits = {"train": documents(["gulls cry"]), "test": documents(TEXTS[3:4])}
    with pytest.raises(DataError, match=r"test row 0 stands in the training rows.*row 3.*ancestor"):
        prepare(tmp_path / "l2", root, splits, {"ancestor0": below})
    made, facts = prepare(
        tmp_path / "told", root, splits, {"ancestor0": below}, contamination="report"
    )
    assert sum(facts["contamination"]["ancestors"].values()) >= 1
    assert {h["where"] for h in entries(made, "contaminated")} != {"own"}


def test_rows_of_train_that_an_ancestor_is_judged_on_are_dropped(
    root: Artifact, tmp_path: Path
) -> None:
    apart = documents([f"{n} gulls above the pier" for n in ("five", "six", "seven")])
    below, _ = prepare(
        tmp_path / "l1", root,
        {"train": documents(["cranes"]), "test": [*documents(TEXTS[:1]), *apart]},
    )  # fmt: skip
    made, facts = prepare(tmp_path / "l2", root, {"train": documents(TEXTS[:3])},
                          {"ancestor0": below})  # fmt: skip
    assert facts["contaminated"] >= 1
    assert "0" not in names(made, "train")


def test_replayed_rows_that_are_judged_are_refused(root: Artifact, tmp_path: Path) -> None:
    pool, _ = prepare(tmp_path / "pool", root, {"train": documents(TEXTS)})
    with pytest.raises(DataError, match=r"stands in the training rows of"):
        prepare(
            tmp_path / "leak", root,
            {"train": documents(["other words"]), "test": documents(TEXTS[:1])},
            {"replay": pool}, replay={"share": 0.5, "seed": 1},
        )  # fmt: skip


def test_replayed_rows_count_as_trained_on(root: Artifact, tmp_path: Path) -> None:
    pool, _ = prepare(tmp_path / "pool", root, {"train": documents(TEXTS)})
    made, facts = prepare(
        tmp_path / "l1", root, {"train": documents(["other words"])},
        {"replay": pool}, replay={"share": 0.5, "seed": 1},
    )  # fmt: skip
    assert facts["examples"]["replay"]["examples"] >= 1
    with pytest.raises(DataError, match="an ancestor is never rewritten"):
        prepare(
            tmp_path / "l2", root,
            {"train": documents(["third words"]), "test": documents(TEXTS[:1])},
            {"ancestor0": made},
        )  # fmt: skip


def test_more_replay_than_there_is_is_refused(root: Artifact, tmp_path: Path) -> None:
    pool, _ = prepare(tmp_path / "pool", root, {"train": documents(TEXTS[:1])})
    with pytest.raises(DataError, match=r"lower data\.replay\.share"):
        prepare(
            tmp_path / "l1", root, {"train": documents(TEXTS[1:])},
            {"replay": pool}, replay={"share": 0.9, "seed": 1},
        )  # fmt: skip


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


def test_a_carved_test_split_shares_no_group_with_train(root: Artifact, tmp_path: Path) -> None:
    rows = [{"text": f"{text} {n}", "doc": n % 8} for n, text in enumerate(TEXTS * 4)]
    carve = {"carve": 0.2, "by": "doc", "time": None, "seed": 1}
    made, facts = prepare(
        tmp_path, root, {"train": rows}, carve=carve, carve_test={**carve, "seed": 2},
        contamination="report",
    )  # fmt: skip
    docs = {
        split: {int(name) % 8 for name in names(made, split)}
        for split in ("train", "validation", "test")
    }
    assert not docs["train"] & docs["validation"]
    assert not docs["train"] & docs["test"]
    assert not docs["test"] & docs["validation"]
    assert adds_up(facts)


def test_a_split_by_time_holds_out_the_latest(root: Artifact, tmp_path: Path) -> None:
    rows = [{"text": text, "day": f"2026-01-{30 - n:02d}"} for n, text in enumerate(TEXTS)]
    made, _ = prepare(
        tmp_path, root, {"train": rows}, carve={"carve": 0.25, "by": None, "time": "day", "seed": 1}
    )  # fmt: skip
    assert names(made, "validation") == ["0", "1", "2", "3"]


def test_a_row_without_the_column_of_the_split_is_quarantined(
    root: Artifact, tmp_path: Path
) -> None:
    rows = [{"text": text, "doc": n} for n, text in enumerate(TEXTS)]
    del rows[2]["doc"]
    with pytest.raises(DataError, match=r"train\.jsonl:3: .*doc"):
        prepare(
            tmp_path, root, {"train": rows},
            carve={"carve": 0.2, "by": "doc", "time": None, "seed": 1},
        )  # fmt: skip


def test_exact_and_near_duplicates_are_dropped_where_asked(root: Artifact, tmp_path: Path) -> None:
    text = "the old ship with the torn sail left the grey harbour before the storm came up"
    rows = documents([text, text, text.replace("storm", "storms"), "a gull", "a crane"])
    made, facts = prepare(
        tmp_path, root, {"train": rows}, clean={"duplicates": "drop", "near_duplicates": "drop"}
    )
    assert {name.partition("#")[0] for name in names(made, "train")} == {"0", "3", "4"}
    told = {entry["id"]: (entry["reason"], entry["because"]) for entry in entries(made, "dropped")}
    assert told == {"1": ("duplicate", "0"), "2": ("near-duplicate", "0")}
    assert adds_up(facts)


def test_conflicts_of_label_among_copies_are_listed(root: Artifact, tmp_path: Path) -> None:
    rows = [{"text": text, "label": "ab"[n % 2]} for n, text in enumerate([*TEXTS, TEXTS[0]])]
    rows[-1]["label"] = "b"
    made, facts = prepare(tmp_path, root, {"train": rows})
    conflict = entries(made, "findings")[0]
    assert (conflict["rows"], conflict["labels"]) == (["0", "16"], ["a", "b"])
    assert facts["funnel"]["train"]["details"]["label conflicts"] == 1


def test_weights_of_classes_are_written_for_training(root: Artifact, tmp_path: Path) -> None:
    rows = [{"text": text, "label": "a" if n < 12 else "b"} for n, text in enumerate(TEXTS)]
    made, _ = prepare(tmp_path, root, {"train": rows}, clean={"balance": "weights"})
    weights = json.loads((made.path / "class_weights.json").read_text())
    assert weights == pytest.approx({"a": 16 / 24, "b": 16 / 8})


def test_sources_are_mixed_in_the_ratio_of_their_weights(root: Artifact, tmp_path: Path) -> None:
    rows = documents([f"{text} {n}" for n in range(5) for text in TEXTS])
    made, facts = prepare(tmp_path, root, {"train": rows}, source={"fraction": 0.5})
    assert len(names(made, "train")) == 40
    assert facts["funnel"]["train"]["sampled out"] == 40


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


def test_rows_that_differ_anywhere_are_no_duplicates(root: Artifact, tmp_path: Path) -> None:
    """Answers like -5 and 5 are the same letters and digits, and not the same row."""
    asked = {"role": "user", "content": "what is it"}
    answers = ("-5", "5", "1.5", "15", "x+y", "x-y")
    rows = [{"messages": [asked, {"role": "assistant", "content": a}]} for a in answers]
    made, _ = prepare(
        tmp_path, root, {"train": rows}, render="sft", source={"format": "messages"},
        clean={"duplicates": "drop"},
    )  # fmt: skip
    assert len(names(made, "train")) == 6


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


def test_a_source_without_rows_left_cannot_be_mixed(root: Artifact, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.train\.0: has no rows left to be mixed"):
        prepare(
            tmp_path, root, {"train": documents(["same words"] * 3)}, source={"weight": 1.0},
            clean={"min_characters": 100}, max_quarantined=1,
        )  # fmt: skip


def test_near_copies_never_stand_on_both_sides_of_a_carve(root: Artifact, tmp_path: Path) -> None:
    apart = [" ".join(f"{letter}{number}" for number in range(12)) for letter in "abcdefghijklmnop"]
    rows = documents([f"{text}{mark}" for text in apart for mark in ("", "!!", " now")])
    made, _ = prepare(
        tmp_path, root, {"train": rows}, max_length=256,
        carve={"carve": 0.2, "by": None, "time": None, "seed": 1},
    )  # fmt: skip
    sides = [{int(name) // 3 for name in names(made, split)} for split in ("train", "validation")]
    assert not sides[0] & sides[1]


def test_rows_of_train_that_an_ancestors_suite_holds_are_dropped(
    root: Artifact, tmp_path: Path
) -> None:
    apart = documents([f"{n} gulls above the grey pier" for n in ("five", "six", "seven")])
    exam, _ = prepare(tmp_path / "exam", root, {"test": [*documents(TEXTS[:1]), *apart]})
    made, facts = prepare(
        tmp_path / "l2", root, {"train": documents([TEXTS[0], "cranes stand on the quay at noon"])},
        {"below0.suite.exam": exam},
    )  # fmt: skip
    assert names(made, "train") == ["1"]
    assert facts["contamination"]["checked"] == {"exam (below0)": 4}


def test_one_turn_of_a_test_conversation_is_recognised_in_train(
    root: Artifact, tmp_path: Path
) -> None:
    def talk(*turns: str) -> dict[str, Any]:
        answer = {"role": "assistant", "content": "aye"}
        asked = [{"role": "user", "content": turn} for turn in turns]
        return {"messages": [message for one in asked for message in (one, answer)]}

    first = "which of the seven ships left the western harbour before the storm"
    second = "and how many of her crew came back from the journey in the spring"
    others = [talk(f"{n} gulls above the grey pier at noon") for n in ("five", "six", "seven")]
    made, _ = prepare(
        tmp_path, root, {"train": [talk(second), talk("cranes stand on the quay at noon")],
                         "test": [talk(first, second), *others]},
        render="sft", source={"format": "messages"},
    )  # fmt: skip
    assert names(made, "train") == ["1"]
