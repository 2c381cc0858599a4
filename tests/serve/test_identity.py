"""A version is what it answers by: what moves an answer makes another, and nothing else does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_family import Family, make_headed

from pipeline.core.controls import Controls
from pipeline.core.schema_serve import EngineArguments, Sampling
from serve.bundle import Bundle, BundleAdapter, BundleHead, BundleLabels, read_bundle
from serve.bundle_file import LineageFile
from serve.identity import identity_of, version_of

LABELS = BundleLabels((5,), {"a": (1, 2), "b": (3, 2)}, 2.0, 0.4, 0.9, {"labels": {"a": 1.0}})


@pytest.fixture(scope="module")
def bundle(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return read_bundle(make_headed(family, tmp_path_factory.mktemp("headed")))


def test_every_setting_of_a_bundle_that_moves_an_answer_makes_another_version(
    bundle: Bundle, tmp_path: Path
) -> None:
    (tmp_path / "one.jinja").write_text("{{ messages }}")
    (tmp_path / "two.jinja").write_text("{{ messages[0] }}")
    (tmp_path / "again.jinja").write_text("{{ messages }}")
    changes: list[dict[str, Any]] = [
        {},
        {"system": "Be brief."},
        {"system": "Be kind."},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"controls": Controls()},
        {"stop_token_ids": (2, 3)},
        {"max_model_len": 64},
        {"dtype": "bfloat16"},
        {"base": replace(bundle.base, digest="another")},
        {"stop": ("END",)},
        {"sampling": Sampling(temperature=0.5)},
        {"sampling": Sampling(temperature=0.0)},
        {"engine": EngineArguments(reasoning_parser="qwen3")},
        {"engine": EngineArguments(kv_cache_dtype="fp8")},
        {"chat_template": tmp_path / "one.jinja"},
        {"chat_template": tmp_path / "two.jinja"},
    ]
    for about in (bundle.adapters[-1], bundle.heads[0]):
        found = [identity_of(replace(bundle, **change), about) for change in changes]
        assert len(set(found)) == len(changes)
        again = replace(bundle, chat_template=tmp_path / "again.jinja")
        assert identity_of(again, about) == found[-2], "of a template the text counts"


def test_a_models_own_settings_make_another_version(bundle: Bundle) -> None:
    adapter, head = bundle.adapters[-1], bundle.heads[0]
    adapters: list[BundleAdapter] = [
        adapter,
        replace(adapter, digest="another"),
        replace(adapter, temperatures={"likelihood": 2.0}),
        replace(adapter, labels=LABELS),
        replace(adapter, labels=replace(LABELS, threshold=0.5)),
        replace(adapter, labels=replace(LABELS, temperature=1.0)),
        replace(adapter, labels=replace(LABELS, opening=())),
        replace(adapter, labels=replace(LABELS, answers={"a": (1, 2), "c": (3, 2)})),
    ]
    heads: list[BundleHead] = [
        head,
        replace(head, digest="another"),
        replace(head, temperature=2.0),
        replace(head, threshold=None),
    ]
    models: list[BundleAdapter | BundleHead] = [*adapters, *heads]
    found = [identity_of(bundle, about) for about in models]
    assert len(set(found)) == len(found)


def test_where_it_lies_who_is_beside_it_and_what_was_found_out_make_no_other_version(
    bundle: Bundle,
) -> None:
    adapter, head = replace(bundle.adapters[-1], labels=LABELS), bundle.heads[0]
    moved = replace(
        bundle, name="other", root=Path("/elsewhere"), adapters=(adapter,), heads=(),
        gates=({"status": "pass"},), ungated=True, golden=False,
        engine=EngineArguments(max_num_seqs=8, gpu_memory_utilization=0.5),
        lineage=LineageFile(recipe="x"),
    )  # fmt: skip
    seen = replace(LABELS, precision=0.8, validation=None)
    told = replace(adapter, path=Path("/elsewhere/a"), labels=seen)
    assert identity_of(moved, told) == identity_of(bundle, adapter)
    judged = replace(head, precision=0.8, validation={"labels": {}}, path=Path("/elsewhere/h"))
    assert identity_of(moved, judged) == identity_of(bundle, head)
    # No labels at all are no setting.
    assert identity_of(bundle, replace(head, validation=None)) == identity_of(bundle, head)


def test_clients_are_told_the_identity_and_of_a_base_its_digest(bundle: Bundle) -> None:
    (adapter, *_), base = bundle.adapters, bundle.base
    assert version_of(bundle, adapter) == identity_of(bundle, adapter)[:8]
    other = replace(bundle, system="Be brief.")
    assert version_of(other, adapter) != version_of(bundle, adapter)
    assert version_of(other, base) == version_of(bundle, base) == base.digest[:8]
