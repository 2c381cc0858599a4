"""The gate through the stage itself: what is judged is kept out of what is trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError
from tests.data.preparing import TEXTS, adds_up, documents, entries, names, prepare


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
