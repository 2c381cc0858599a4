"""Hand-made features: the same numbers from the same specification, and what is no number."""

from __future__ import annotations

import decimal
import fractions
import math
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.features import columns_of, feature_values, number, pattern_problem

SPECS = [
    {"name": "amount", "column": "amount"},
    {"name": "letters", "pattern": "[a-z]"},
    {"name": "again", "column": "amount"},
    {"name": "age", "column": "age"},
]


@given(st.text(max_size=50), st.floats(allow_nan=False, allow_infinity=False), st.integers())
def test_features_stand_in_the_order_of_their_names(text: str, amount: float, age: int) -> None:
    try:
        wanted = [amount, float(len(re.findall("[a-z]", text))), amount, float(age)]
    except OverflowError:
        return
    assert feature_values(SPECS, text, {"amount": amount, "age": age, "other": "x"}) == wanted


def test_matches_do_not_overlap_and_empty_ones_count() -> None:
    specs = [{"name": n, "pattern": n} for n in ("aa", "b*", "(?i)A")]
    assert feature_values(specs, "aaaab", {}) == [
        float(len(re.findall(spec["pattern"], "aaaab"))) for spec in specs
    ]


def test_columns_are_named_once() -> None:
    assert columns_of(SPECS) == ("amount", "age")
    assert columns_of([]) == ()


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_what_python_writes_of_a_float_is_that_float(value: float) -> None:
    assert number(repr(value), "x") == value
    assert number(f" {value!r}\n", "x") == value


NUMBERS: list[tuple[Any, float]] = [
    (3, 3.0), (-0.5, -0.5), (np.float32(1.5), 1.5), (np.int64(4), 4.0), ("7", 7.0),
    ("+.5e1", 5.0), ("1.", 1.0), (decimal.Decimal("1.25"), 1.25), (fractions.Fraction(1, 4), 0.25),
]  # fmt: skip


@pytest.mark.parametrize(("value", "wanted"), NUMBERS)
def test_numbers_of_every_kind_are_read(value: Any, wanted: float) -> None:
    assert number(value, "x") == wanted


@pytest.mark.parametrize("value", [
    None, True, False, "", " ", "nan", "inf", "-Infinity", "1_000", "1,5", "0x10", "1e999", "٣",
    math.nan, math.inf, -math.inf, 10**400, [], {}, [1.0], b"1", 1j, decimal.Decimal("NaN"),
    decimal.Decimal("1e999"), object(),
])  # fmt: skip
def test_what_is_no_finite_number_is_refused_in_a_few_words(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^x is ") as caught:
        number(value, "x")
    assert len(str(caught.value)) < 80


@pytest.mark.parametrize("pattern", ["([", "*", "(?P<a>.)(?P<a>.)", "a{2,1}", "\\", "(?z)"])
def test_a_pattern_that_does_not_compile_is_one_line(pattern: str) -> None:
    problem = pattern_problem(pattern)
    assert problem is not None
    assert "\n" not in problem
    assert pattern_problem(r"\d+") is None


def test_a_gateway_that_computes_features_loads_no_tensors() -> None:
    code = (
        "import pipeline.core.features, sys; print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["False", "False"]
