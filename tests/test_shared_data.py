"""`gradus data` on real data sets with real traps: every funnel adds up to the rows of the file.

The files are no part of the repository; without them these tests are skipped. The figures were
counted by hand beforehand, and lines are counted here: the oracles are not our own code.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from sklearn.feature_extraction.text import CountVectorizer
from transformers import Qwen3Config

from pipeline.core.artifact import Artifact, Manifest
from pipeline.core.stage import StageContext
from pipeline.core.store import Store
from pipeline.data.arrow import read_rows
from pipeline.data_view import print_data
from pipeline.ladder import make_plan
from pipeline.stages.prepare import Prepare
from pipeline.stages.scratch import train_tokenizer

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
FILES = sorted(SHARED.glob("*/*.jsonl"))
# Questions or prompts without answers: told as such, and every row stands in quarantine.
NO_FORMAT = {"judge_prompts", "reference_gpt4", "mt_bench/test", "vicuna_bench"}
pytestmark = pytest.mark.skipif(
    not FILES, reason="the shared data sets are not beside the checkout"
)
Gradus = Callable[..., Result]


def held(path: Path) -> int:
    return sum(1 for line in path.read_bytes().split(b"\n") if line.strip())


def rows_of(name: str) -> list[dict[str, Any]]:
    text = (SHARED / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


def require_sum(funnel: dict[str, Any]) -> None:
    lost = sum(v for k, v in funnel.items() if k not in {"read", "received", "kept", "details"})
    assert funnel["read"] + funnel.get("received", 0) == funnel["kept"] + lost


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_file_prints_a_funnel_that_adds_up(path: Path, gradus: Gradus) -> None:
    result = gradus("data", path, "--json")
    unknown = any(f"{path.parent.name}/{path.stem}".endswith(name) for name in NO_FORMAT)
    assert result.exit_code == (2 if unknown else 0), result.output
    facts = json.loads(result.stdout.splitlines()[-1])
    funnel = facts["funnel"]["rows"]
    require_sum(funnel)
    assert funnel["read"] == held(path)
    assert funnel["kept"] == (0 if unknown else held(path))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("thucnews_titles/train.jsonl", "found: damaged: 161"),
        ("alpaca_gpt4_demo/identity.jsonl", "found: unfilled_fields: 85"),
        ("banking77/train.jsonl", "labels: 77, from 35 to 187 rows"),
        ("preference_demo/kto_en.jsonl", "answers marked false are learned too"),
    ],
)
def test_a_known_trap_is_told_of_the_file(name: str, words: str, gradus: Gradus) -> None:
    assert words in " ".join(gradus("data", SHARED / name).stdout.split())


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with a small tokenizer of its own."""
    folder = tmp_path_factory.mktemp("base") / "model"
    texts = [row["text"] for row in rows_of("banking77/test.jsonl")][:500]
    train_tokenizer(texts, 500).save_pretrained(str(folder))
    Qwen3Config(
        architectures=["Qwen3ForCausalLM"], hidden_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, intermediate_size=64,
        max_position_embeddings=1 << 20,
    ).save_pretrained(str(folder))  # fmt: skip
    (folder / "model.safetensors").write_bytes(bytes(64))
    return folder


def near_copies(test: str, train: str) -> set[str]:
    """Test rows with a train row at Jaccard >= 0.8 over character 5-grams, by scikit-learn."""
    texts = [
        [
            re.sub(r"\W+", " ", unicodedata.normalize("NFKC", row["text"]).casefold()).strip()
            for row in rows_of(name)
        ]
        for name in (test, train)
    ]
    grams = CountVectorizer(analyzer="char", ngram_range=(5, 5), binary=True, lowercase=False)
    grams.fit(texts[0] + texts[1])
    left, right = (grams.transform(side) for side in texts)
    shared = (left @ right.T).tocoo()
    sizes = [np.asarray(side.sum(axis=1)).ravel() for side in (left, right)]
    union = sizes[0][shared.row] + sizes[1][shared.col] - shared.data
    return {str(row) for row in shared.row[shared.data >= 0.8 * union]}


class Prepared:
    """What `prepare` made of a recipe, in this process: a worker's start takes seconds."""

    def __init__(self, folder: Path, base: Path, data: str, train: str) -> None:
        recipe = folder / "mine.yaml"
        recipe.write_text(
            f"name: mine\nlevel: L1\nbase: {base}\ndata:\n{data.format(at=SHARED)}"
            f"train: {{{train}}}\nevaluate: {{forgetting: false}}\n"
        )
        plan = make_plan(recipe, Store(folder / "store"), ())
        node = next(node for node in plan.nodes.values() if node.stage == "prepare")
        self.out = folder / "out"
        self.out.mkdir()
        context = StageContext(self.out, folder, {}, node.files, lambda _event: None)
        tokenizer = Artifact(base, Manifest("Model", "base", "", "", 1, {}, {}, {}, {}, {}))
        facts = Prepare().run({"tokenizer": tokenizer}, node.config, context)
        self.facts = {**facts, "folder": str(self.out)}
        self.funnel: dict[str, dict[str, Any]] = self.facts["funnel"]

    def require_rows(self, **names: Iterable[str]) -> None:
        """Every split adds up, and its sources give every row of their files."""
        for funnel in self.funnel.values():
            require_sum(funnel)
        for split, files in names.items():
            assert self.funnel[split]["read"] == sum(held(SHARED / name) for name in files)

    def entries(self, name: str) -> list[dict[str, Any]]:
        text = (self.out / f"{name}.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def shown(self, capsys: pytest.CaptureFixture[str]) -> str:
        capsys.readouterr()
        print_data({"mine": self.facts})
        return capsys.readouterr().out


@pytest.fixture
def prepared(tmp_path: Path, base: Path) -> Callable[[str, str], Prepared]:
    return lambda data, train: Prepared(tmp_path, base, data, train)


Prepare_ = Callable[[str, str], Prepared]


def test_banking77_finds_the_test_rows_that_stand_in_train(
    prepared: Prepare_, capsys: pytest.CaptureFixture[str]
) -> None:
    made = prepared(
        "  train: {{path: {at}/banking77/train.jsonl}}\n"
        "  test: {{path: {at}/banking77/test.jsonl}}\n",
        "objective: classify, max_length: 4096",
    )
    made.require_rows(train=["banking77/train.jsonl"], test=["banking77/test.jsonl"])
    hits = made.entries("contaminated")
    exact = {hit["item"] for hit in hits if hit["kind"] == "exact"}
    near = {hit["item"] for hit in hits if hit["kind"] == "near" and hit["score"] >= 0.8}
    assert len(exact) == 29
    oracle = near_copies("banking77/test.jsonl", "banking77/train.jsonl")
    assert len(oracle) == 151
    # Four exact copies differ in blanks so much that their Jaccard index is below 0.8.
    assert exact | near == exact | oracle
    assert made.funnel["train"]["contaminated"] == len({hit["row"] for hit in hits})
    told = made.shown(capsys)
    assert "compared with evaluation sets: test (3,080)" in told
    assert "labels: 77" in told


@pytest.mark.long
def test_thucnews_finds_the_test_rows_that_stand_in_train(prepared: Prepare_) -> None:
    made = prepared(
        "  train: {{path: {at}/thucnews_titles/train.jsonl}}\n"
        "  test: {{path: {at}/thucnews_titles/test.jsonl}}\n",
        "objective: classify, max_length: 4096",
    )
    made.require_rows(train=["thucnews_titles/train.jsonl"], test=["thucnews_titles/test.jsonl"])
    hits = [hit for hit in made.entries("contaminated") if hit["kind"] == "exact"]
    assert len({hit["item"] for hit in hits}) == 31
    assert len({hit["item"] for hit in hits if hit["row_text"] == hit["item_text"]}) == 30
    assert made.funnel["train"]["details"]["found: damaged"] == 161


def test_ag_news_is_cleaned_of_its_entities(
    prepared: Prepare_, capsys: pytest.CaptureFixture[str]
) -> None:
    made = prepared(
        "  train: {{path: {at}/ag_news/train.jsonl, fraction: 0.2}}\n"
        "  test: {{path: {at}/ag_news/test_small.jsonl}}\n"
        "  clean: {{html: true, whitespace: true}}\n",
        "objective: sft, max_length: 4096",
    )
    made.require_rows(train=["ag_news/train.jsonl"], test=["ag_news/test_small.jsonl"])
    assert made.funnel["train"]["sampled out"] == 4000
    # 30 % hold entities; more hold the tags or the backslashes of the feed.
    assert made.funnel["train"]["details"]["changed: html"] >= 0.25 * 5000
    assert "changed: html: " in made.shown(capsys)


def test_alpaca_through_the_command_line_drops_what_nobody_filled_in(
    tmp_path: Path, base: Path, gradus: Gradus
) -> None:
    names = [f"alpaca_gpt4_demo/{name}.jsonl" for name in ("en", "zh", "identity")]
    recipe = tmp_path / "mine.yaml"
    listed = "".join(f"    - {{path: {SHARED}/{name}}}\n" for name in names)
    recipe.write_text(
        f"name: mine\nlevel: L1\nbase: {base}\ndata:\n  train:\n{listed}"
        "  clean: {unfilled_fields: drop, duplicates: drop}\n"
        "train: {objective: sft, max_length: 2048, over_length: drop, packing: true}\n"
    )
    result = gradus("data", recipe, "--json")
    assert result.exit_code == 0, result.output
    (facts,) = json.loads(result.stdout.splitlines()[-1]).values()
    for funnel in facts["funnel"].values():
        require_sum(funnel)
    train = facts["funnel"]["train"]
    assert train["read"] == sum(held(SHARED / name) for name in names)
    assert train["details"]["cleaned: unfilled_fields"] == train["cleaned"]
    text = (Path(facts["folder"]) / "dropped.jsonl").read_text(encoding="utf-8")
    entries = [json.loads(line) for line in text.splitlines()]
    gone = [e for e in entries if e["reason"].startswith("cleaned: unfilled_fields")]
    assert sum("identity.jsonl:" in entry["place"] for entry in gone) == 85
    assert facts["packing"]["real_tokens"] >= 0.97


@pytest.mark.parametrize(
    ("name", "more", "train"),
    [
        ("mt_bench/dummy_conversation", "  test: {{carve: 0.1}}\n", "max_length: 8192"),
        ("preference_demo/dpo_en", "", "max_length: 4096, over_length: truncate-right"),
        ("bbq/test_Religion", "", "max_length: 4096"),
    ],
)
def test_conversations_of_other_shapes_add_up(
    name: str, more: str, train: str, prepared: Prepare_
) -> None:
    made = prepared(
        f"  train: {{{{path: {{at}}/{name}.jsonl}}}}\n{more}", f"objective: sft, {train}"
    )
    made.require_rows(train=[f"{name}.jsonl"])
    assert made.facts["examples"]["train"]["supervised_tokens"] > 0


def test_tatqa_keeps_the_questions_of_a_document_together(prepared: Prepare_) -> None:
    made = prepared(
        "  train: {{path: {at}/tatqa_finance/qa_train.jsonl}}\n"
        "  validation: {{carve: 0.1, by: doc_id}}\n",
        "objective: sft, max_length: 16384",
    )
    made.require_rows(train=["tatqa_finance/qa_train.jsonl"])
    document = {row["id"]: row["doc_id"] for row in rows_of("tatqa_finance/qa_train.jsonl")}
    found = {
        split: {document[row["example_id"]] for row in read_rows(made.out / f"{split}.arrow")}
        for split in ("train", "validation")
    }
    assert found["validation"]
    assert not found["train"] & found["validation"]


def test_text_is_packed_and_adds_up(prepared: Prepare_, capsys: pytest.CaptureFixture[str]) -> None:
    made = prepared(
        "  train:\n    - {{path: {at}/c4_wiki_demo/c4.jsonl, fraction: 0.5}}\n"
        "    - {{path: {at}/wikitext2_part/train.jsonl, fraction: 0.2}}\n"
        "  test: {{path: {at}/wikitext2_part/test.jsonl, fraction: 0.1}}\n",
        "objective: cpt, max_length: 512, over_length: split, packing: true",
    )
    made.require_rows(
        train=["c4_wiki_demo/c4.jsonl", "wikitext2_part/train.jsonl"],
        test=["wikitext2_part/test.jsonl"],
    )
    assert made.facts["packing"]["real_tokens"] >= 0.97
    assert "of the slots real tokens" in made.shown(capsys)
