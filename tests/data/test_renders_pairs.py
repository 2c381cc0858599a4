"""Rows to ids for dpo: a prompt and two answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError
from tests.data.preparing import TEXTS, adds_up, entries, names, prepare
from tests.data.render_case import PREFERENCE, assistant, classes, pairs, read, told

SHARED = Path(__file__).resolve().parents[3] / "shared/data/preference_demo"


@pytest.mark.parametrize("system", [None, "be brief"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_pair_is_what_the_template_makes_of_prompt_and_each_answer(
    root: Artifact, tokenizer: Any, tmp_path: Path, split: str, system: str | None
) -> None:
    """Oracle: transformers' own rendering of the three conversations, as TRL takes them."""
    given = pairs()
    made, facts = prepare(tmp_path, root, {split: given}, source=PREFERENCE,
                          render="preference", system=system, max_length=200)  # fmt: skip
    before = [] if system is None else [{"role": "system", "content": system}]

    def ids(turns: list[dict[str, str]], **more: Any) -> list[int]:
        made = tokenizer.apply_chat_template([*before, *turns], return_dict=True, **more)
        return list(made["input_ids"])

    rows = read(made, split)
    assert len(rows) == len(given)
    for row, pair in zip(rows, given, strict=True):
        prompt = ids(pair["prompt"], add_generation_prompt=True)
        assert row["prompt"] == len(prompt)
        for name, flags, answer in (
            ("input_ids", "supervised", pair["chosen"]),
            ("rejected_ids", "rejected_supervised", pair["rejected"]),
        ):
            whole = ids([*pair["prompt"], *answer])
            # A row ends with its turn: what the template puts behind is never written.
            assert row[name] == whole[: len(row[name])]
            assert whole[len(row[name]) :] in ([], tokenizer("\n")["input_ids"])
            assert row[flags] == [0] * len(prompt) + [1] * (len(row[name]) - len(prompt))
    both = [len(row["input_ids"]) + len(row["rejected_ids"]) for row in rows]
    assert facts["examples"][split]["tokens"] == sum(both)
    assert told(made, "labels") == []


def test_trl_collates_our_pairs_to_the_same_masks(root: Artifact, tmp_path: Path) -> None:
    """Oracle: TRL's collator, given prompt and completions."""
    trl = pytest.importorskip("trl.trainer.dpo_trainer")
    made, _ = prepare(tmp_path, root, {"train": pairs()}, source=PREFERENCE, render="preference")
    rows = read(made)
    batch = trl.DataCollatorForPreference(pad_token_id=0)(
        [
            {
                "prompt_ids": row["input_ids"][: row["prompt"]],
                "chosen_ids": row["input_ids"][row["prompt"] :],
                "rejected_ids": row["rejected_ids"][row["prompt"] :],
            }
            for row in rows
        ]
    )
    ours = [(row["input_ids"], row["supervised"]) for row in rows]
    ours += [(row["rejected_ids"], row["rejected_supervised"]) for row in rows]
    theirs = zip(batch["input_ids"], batch["completion_mask"], strict=True)
    for (ids, flags), (their_ids, their_flags) in zip(ours, theirs, strict=True):
        assert their_ids[: len(ids)].tolist() == ids
        assert their_flags.tolist() == flags + [0] * (len(their_flags) - len(ids))


@pytest.mark.skipif(not SHARED.is_dir(), reason="shared/data is not here")
@pytest.mark.parametrize("name", ["dpo_en.jsonl", "dpo_zh.jsonl"])
def test_real_preferences_share_their_prompts_ids(
    root: Artifact, tmp_path: Path, name: str
) -> None:
    lines = (SHARED / name).read_text().splitlines()[:40]
    made, facts = prepare(tmp_path, root, {"train": [json.loads(line) for line in lines]},
                          source=PREFERENCE, render="preference", max_length=6000,
                          over_length="drop")  # fmt: skip
    rows = read(made)
    assert len(rows) > 30
    assert adds_up(facts)
    for row in rows:
        prompt = row["prompt"]
        assert row["input_ids"][:prompt] == row["rejected_ids"][:prompt]
        assert not any(row["supervised"][:prompt])
        assert all(row["supervised"][prompt:])
        assert all(row["rejected_supervised"][prompt:])


def test_a_pair_is_dropped_whole_where_one_answer_is_too_long(
    root: Artifact, tmp_path: Path
) -> None:
    given = pairs(TEXTS[:4])
    given[1]["rejected"] = [assistant("ship " * 100)]
    given[2]["chosen"] = [assistant("ship " * 100)]
    with pytest.raises(DataError, match=r"row 1 has \d+ tokens.*over_length: drop$"):
        prepare(tmp_path / "e", root, {"train": given}, source=PREFERENCE, render="preference")
    made, facts = prepare(
        tmp_path / "d", root, {"train": given}, source=PREFERENCE, render="preference",
        over_length="drop",
    )  # fmt: skip
    assert names(made, "train") == ["0", "3"]
    assert [entry["id"] for entry in entries(made, "dropped")] == ["1", "2"]
    assert adds_up(facts)


@pytest.mark.parametrize("policy", ["truncate-left", "truncate-right", "split"])
@pytest.mark.parametrize("render", ["preference", "hybrid"])
def test_what_must_stay_whole_is_never_cut(
    root: Artifact, tmp_path: Path, render: str, policy: str
) -> None:
    rows, source = (pairs(), PREFERENCE) if render == "preference" else (classes(), {})
    with pytest.raises(DataError, match=rf"train\.over_length: {policy} would cut"):
        prepare(tmp_path, root, {"train": rows}, source=source, render=render, over_length=policy)


def test_answers_that_the_template_makes_one_are_quarantined(
    root: Artifact, tmp_path: Path
) -> None:
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    rows = [{"prompt": text, "chosen": "aye", "rejected": "no"} for text in TEXTS]
    rows[3]["rejected"] = " aye"
    made, facts = prepare(
        tmp_path, root, {"train": rows}, source=PREFERENCE, render="preference",
        chat_template=template, max_quarantined=1,
    )  # fmt: skip
    assert "3" not in names(made, "train")
    assert entries(made, "quarantined")[0]["reason"] == "chosen and rejected have the same ids"
    assert adds_up(facts)


def test_rows_without_two_answers_are_no_preferences(root: Artifact, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 0: objective dpo needs format preference"):
        prepare(tmp_path, root, {"train": classes()}, render="preference")


def test_a_model_of_preferences_is_asked_anything_in_a_test(root: Artifact, tmp_path: Path) -> None:
    made, _ = prepare(tmp_path / "p", root, {"test": classes()}, render="preference")
    same, _ = prepare(tmp_path / "s", root, {"test": classes()}, render="sft")
    assert read(made, "test") == read(same, "test")
