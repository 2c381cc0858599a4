"""When one adapter may be trained on as another; what is proposed is read back by a YAML parser."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from pipeline.core.adapter_form import form_of_adapter, form_of_settings, form_problem
from pipeline.core.schema_train import Train

PLAIN: dict[str, Any] = {"lora_r": 16}


def form(**settings: Any) -> dict[str, Any]:
    return form_of_settings(Train(**{**PLAIN, **settings}).model_dump())


def test_alpha_left_to_the_rank_is_twice_the_rank() -> None:
    assert form_problem(form(), form(lora_alpha=32.0)) is None
    assert form_problem(form(lora_alpha=32.0), form()) is None
    assert form_problem(form(), form(lora_alpha=16.0)) is not None


def test_order_of_names_is_no_other_form() -> None:
    assert (
        form_problem(
            form(target_modules=("q_proj", "v_proj"), modules_to_save=("a", "b")),
            form(target_modules=("v_proj", "q_proj"), modules_to_save=("b", "a")),
        )
        is None
    )


def test_what_a_config_lacks_or_leaves_null_means_its_default() -> None:
    bare = {"r": 16, "lora_alpha": 32, "use_dora": None, "rank_pattern": None}
    assert form_problem(form_of_adapter(bare), form()) is None
    assert form_problem(form_of_adapter({**bare, "use_dora": True}), form()) is not None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("method", "qlora"), ("lora_r", 8), ("lora_alpha", 64.0), ("use_rslora", True),
        ("use_dora", True), ("target_modules", ["q_proj", "v_proj"]), ("rank_pattern", {"q": 2}),
        ("alpha_pattern", {"q": 2.0}), ("modules_to_save", ["lm_head"]),
    ],
)  # fmt: skip
def test_what_is_proposed_can_be_typed_and_makes_the_forms_one(key: str, value: Any) -> None:
    alpha = {} if key == "lora_alpha" else {"lora_alpha": 32.0}
    theirs, mine = form(**{**alpha, key: value}), form(**alpha)
    problem = form_problem(theirs, mine)
    assert problem is not None
    typed = yaml.safe_load(problem.partition("; set train.")[2])
    assert typed == {key: value}
    assert form_problem(theirs, form(**{**alpha, **typed})) is None
