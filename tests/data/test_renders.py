"""Rows to ids for the objectives beside sft: pairs, texts from labels, both heads, numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError
from pipeline.data.arrow import read_rows
from pipeline.data.rendering import Renderer
from pipeline.modeling.loading import load_tokenizer
from tests.data.preparing import TEXTS, adds_up, entries, names, prepare, tiny_base

PREFERENCE = {"format": "preference"}
SHARED = Path(__file__).resolve().parents[3] / "shared/data/preference_demo"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return tiny_base(tmp_path_factory.mktemp("store") / "root")


@pytest.fixture(scope="module")
def tokenizer(root: Artifact) -> Any:
    return load_tokenizer(root.path)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def pairs(texts: list[str] = TEXTS) -> list[dict[str, Any]]:
    """TRL's conversational preference, with one and with two exchanges."""
    return [
        {
            "prompt": [user("one ship"), assistant("home"), user(text)] if n % 2 else [user(text)],
            "chosen": [assistant("sails at dawn")],
            "rejected": [assistant("alone" + " boat" * (n % 3))],
        }
        for n, text in enumerate(texts)
    ]


def classes(texts: list[str] = TEXTS) -> list[dict[str, Any]]:
    return [{"text": text, "label": "ab"[n % 2]} for n, text in enumerate(texts)]


def read(made: Artifact, split: str = "train") -> list[dict[str, Any]]:
    return read_rows(made.path / f"{split}.arrow")


def told(made: Artifact, name: str) -> Any:
    return json.loads((made.path / f"{name}.json").read_text())


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


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_channel_row_asks_the_label_and_learns_the_text(
    root: Artifact, tokenizer: Any, tmp_path: Path, split: str
) -> None:
    """Oracle: transformers' rendering of the turned exchange."""
    given = [{"text": text, "label": ["calm sea", "storm"][n % 2]} for n, text in enumerate(TEXTS)]
    made, _ = prepare(tmp_path, root, {split: given}, render="channel")
    for row, one in zip(read(made, split), given, strict=True):
        turns = [user(one["label"]), assistant(one["text"])]
        whole = tokenizer.apply_chat_template(turns, return_dict=True)["input_ids"]
        asked = tokenizer.apply_chat_template(turns[:1], add_generation_prompt=True,
                                              return_dict=True)["input_ids"]  # fmt: skip
        ids = row["input_ids"]
        assert ids == whole[: len(ids)]
        assert row["supervised"] == [0] * len(asked) + [1] * (len(ids) - len(asked))
        assert row["label"] == one["label"]
        assert row["prompt"] == (len(asked) if split == "test" else None)
    assert told(made, "labels") == ["calm sea", "storm"]


def test_a_channel_row_has_all_its_labels_and_not_the_recipes_prompt(
    root: Artifact, tokenizer: Any, tmp_path: Path
) -> None:
    rows = [{"text": text, "labels": ["sea", "calm"]} for text in TEXTS]
    made, _ = prepare(
        tmp_path, root, {"train": rows}, render="channel",
        source={"format": "classification", "prompt": "Which? {text}"},
    )  # fmt: skip
    decoded = tokenizer.decode(read(made)[0]["input_ids"])
    assert "calm, sea" in decoded
    assert TEXTS[0] in decoded
    assert "Which?" not in decoded


def test_a_conversation_has_no_text_to_write_for_a_label(root: Artifact, tmp_path: Path) -> None:
    rows = [{"messages": [user("a"), assistant("b")], "label": "ab"[n % 2]} for n in range(4)]
    with pytest.raises(DataError, match=r"row 0: objective channel needs format classification"):
        prepare(tmp_path, root, {"train": rows}, render="channel")


@pytest.mark.parametrize("system", [None, "be brief"])
def test_a_hybrid_row_opens_with_what_the_classifier_reads_in_every_split(
    root: Artifact, tokenizer: Any, tmp_path: Path, system: str | None
) -> None:
    carve = {"carve": 0.2, "by": None, "time": None, "seed": 0}
    rows = classes([*TEXTS, *(f"{text} {n}" for n, text in enumerate(TEXTS))])
    test = classes([f"gulls above pier {n}" for n in range(6)])
    made, _ = prepare(
        tmp_path / "h", root, {"train": rows, "test": test}, render="hybrid", system=system,
        carve=carve, max_length=128,
    )  # fmt: skip
    read_by_head, _ = prepare(
        tmp_path / "c", root, {"train": rows, "test": test}, render="classify", system=system,
        carve=carve, max_length=128,
    )  # fmt: skip
    written, _ = prepare(
        tmp_path / "s", root, {"train": rows, "test": test}, render="sft", system=system,
        carve=carve, max_length=128,
    )  # fmt: skip
    renderer = Renderer(tokenizer, causal=True, system=system)
    for split in ("train", "validation", "test"):
        three = (read(one, split) for one in (made, read_by_head, written))
        for both, head, writer in zip(*three, strict=True):
            assert both["input_ids"][: both["prompt"]] == head["input_ids"]
            assert {**both, "prompt": None} == {**writer, "prompt": None}
            assert both["label"] == head["label"]
            assert not any(both["supervised"][: both["prompt"]])
    assert told(made, "labels") == ["a", "b"]
    asked = renderer.question({"text": test[0]["text"]})
    assert read(made, "test")[0]["input_ids"][: len(asked)] == asked


def test_a_hybrid_row_has_one_label(root: Artifact, tmp_path: Path) -> None:
    rows = [{"text": text, "labels": ["a", "b"]} for text in TEXTS]
    with pytest.raises(DataError, match="objective hybrid needs format classification with one"):
        prepare(tmp_path, root, {"train": rows}, render="hybrid",
                source={"format": "classification"})  # fmt: skip


SEVERAL = [
    {"text": text, "labels": ["sea", "dawn", "calm"][: n % 4]} for n, text in enumerate(TEXTS)
]


def test_several_labels_are_a_sorted_union_for_a_head(root: Artifact, tmp_path: Path) -> None:
    source = {"format": "classification"}
    made, facts = prepare(
        tmp_path / "c", root, {"train": SEVERAL}, render="classify", source=source
    )
    assert told(made, "labels") == ["calm", "dawn", "sea"]
    assert told(made, "render")["multi_label"] is True
    assert [row["labels"] for row in read(made)] == [sorted(row["labels"]) for row in SEVERAL]
    counts = {label: sum(label in row["labels"] for row in SEVERAL) for label in ("sea", "dawn")}
    assert counts.items() <= facts["balance"]["counts"].items()
    written, _ = prepare(tmp_path / "s", root, {"train": SEVERAL}, render="sft", source=source)
    assert told(written, "labels") == []
    assert told(written, "render")["multi_label"] is False
    one, _ = prepare(tmp_path / "o", root, {"train": classes()}, render="classify")
    assert told(one, "render")["multi_label"] is False
    assert {row["labels"] is None for row in read(one)} == {True}


@pytest.mark.parametrize(("row", "words"), [
    ({"text": "a gull", "labels": ["gull", "sea"]}, "data.test: label 'gull' is unseen"),
    ({"text": "a gull", "label": "sea"}, "write labels, a list, in every row"),
])  # fmt: skip
def test_labels_that_no_head_could_tell_are_refused(
    root: Artifact, tmp_path: Path, row: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError, match=words.replace(".", r"\.")):
        prepare(tmp_path, root, {"train": SEVERAL, "test": [row]}, render="classify",
                source={"format": "classification"})  # fmt: skip


def test_one_of_several_labels_written_in_two_ways_is_refused(
    root: Artifact, tmp_path: Path
) -> None:
    rows = [*SEVERAL, {"text": "a gull", "labels": ["Sea", "calm"]}]
    with pytest.raises(DataError, match=r"data\.train: labels .* differ by case"):
        prepare(tmp_path, root, {"train": rows}, render="classify",
                source={"format": "classification"})  # fmt: skip


def test_no_label_at_all_leaves_a_head_nothing(root: Artifact, tmp_path: Path) -> None:
    rows = [{"text": text, "labels": []} for text in TEXTS]
    with pytest.raises(DataError, match="no row has a label"):
        prepare(tmp_path, root, {"train": rows}, render="classify",
                source={"format": "classification"})  # fmt: skip


def test_a_number_stands_beside_the_question(root: Artifact, tmp_path: Path) -> None:
    rows = [{"text": text, "value": n / 3} for n, text in enumerate(TEXTS)]
    made, facts = prepare(
        tmp_path / "r", root, {"train": rows, "test": [{"text": "a gull", "value": "-2.5e1"}]},
        render="regress", source={"format": "regression"},
    )  # fmt: skip
    asked, _ = prepare(tmp_path / "c", root, {"train": classes()}, render="classify")
    assert [row["value"] for row in read(made)] == [n / 3 for n in range(16)]
    assert [row["value"] for row in read(made, "test")] == [-25.0]
    assert [row["input_ids"] for row in read(made)] == [row["input_ids"] for row in read(asked)]
    assert told(made, "labels") == []
    assert {row["label"] for row in read(made)} == {None}
    assert adds_up(facts)


@pytest.mark.parametrize("render", ["sft", "classify", "tag", "preference", "hybrid", "channel"])
def test_a_number_is_no_answer_for_another_objective(
    root: Artifact, tmp_path: Path, render: str
) -> None:
    rows = [{"text": text, "value": 1.5} for text in TEXTS]
    with pytest.raises(DataError, match=r"row 0:? .*(needs|no answer)"):
        prepare(tmp_path, root, {"train": rows}, render=render, source={"format": "regression"})


FEATURES = [
    {"name": "amount", "column": "amount"},
    {"name": "digits", "pattern": r"\d"},
    {"name": "shouts", "pattern": "[A-Z]{2,}|!"},
]


def test_features_are_columns_and_counts_in_the_rows_own_text(
    root: Artifact, tmp_path: Path
) -> None:
    given: list[dict[str, Any]] = [
        {"text": f"{text} {n}!", "label": "ab"[n % 2], "amount": [n, n + 0.5, f" {n}.25 "][n % 3]}
        for n, text in enumerate(TEXTS)
    ]
    judged = [{"text": "GULLS above 12 piers!", "label": "a", "amount": "-7e2"}]
    made, _ = prepare(
        tmp_path / "f", root, {"train": given, "test": judged}, render="classify",
        features=FEATURES, source={"prompt": "NOT 123 COUNTED! {text}"}, max_length=128,
    )  # fmt: skip
    wanted = [
        [float(row["amount"]), float(sum(c.isdigit() for c in row["text"])), 1.0] for row in given
    ]
    assert [row["features"] for row in read(made)] == wanted
    assert [row["features"] for row in read(made, "test")] == [[-700.0, 2.0, 2.0]]
    assert told(made, "features") == FEATURES
    plain, _ = prepare(tmp_path / "plain", root, {"train": classes()}, render="classify")
    assert not (plain.path / "features.json").exists()


@pytest.mark.parametrize(("value", "reason"), [
    ("high", "amount is text, not a number"),
    (True, "amount is true, not a number"),
    (None, "amount is null"),
    ([1], "amount is no number"),
    (float("nan"), "NaN is not JSON"),
    ("1e999", "amount is no finite number"),
])  # fmt: skip
def test_a_row_without_a_features_number_is_quarantined(
    root: Artifact, tmp_path: Path, value: Any, reason: str
) -> None:
    rows = [{**row, "amount": n} for n, row in enumerate(classes())]
    rows[5]["amount"] = value
    made, facts = prepare(tmp_path, root, {"train": rows}, render="classify",
                          features=FEATURES[:1], max_quarantined=1)  # fmt: skip
    assert len(read(made)) == 15
    (entry,) = entries(made, "quarantined")
    assert reason in entry["reason"]
    assert adds_up(facts)


def test_the_same_bytes_whatever_the_number_of_workers(root: Artifact, tmp_path: Path) -> None:
    many = [f"{TEXTS[n % 16]} {n}" for n in range(2500)]
    several = [{"text": text, "labels": ["a", "b", "c"][: n % 4]} for n, text in enumerate(many)]
    marked = [{"text": text, "entities": [{"start": 0, "end": 3, "label": "N"}] * (n % 2)}
              for n, text in enumerate(many)]  # fmt: skip
    carve = {"carve": 0.1, "by": None, "time": None, "seed": 3}
    alone = {"action": "report", "threshold": 1.0}
    for render, rows, source in (
        ("preference", pairs(many), PREFERENCE),
        ("classify", several, {"format": "classification"}),
        ("tag", marked, {"format": "tagging"}),
    ):
        features = FEATURES[1:] if render == "classify" else []
        made = [
            prepare(tmp_path / f"{render}{workers}", root, {"train": rows}, render=render,
                    source=source, carve=carve, workers=workers, features=features,
                    max_length=128, clean={"near_duplicates": alone})[0]
            for workers in (1, 2)
        ]  # fmt: skip
        files = [{p.name: p.read_bytes() for p in sorted(one.path.iterdir())} for one in made]
        assert files[0] == files[1]
        assert 240 <= len(read(made[0], "validation")) <= 260
