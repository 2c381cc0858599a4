"""Numeric accuracy: what counts as the same number, on cases of our own and on TAT-QA."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from eval.text.numbers import only_number, same_number, whole_number

TATQA = Path(__file__).resolve().parents[4] / "shared" / "data" / "tatqa_finance" / "qa_test.jsonl"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$1,496.5 million", "1496500000"),
        ("1.2 billion dollars", "1200000000"),
        ("3.2亿元", "320000000"),
        ("３５万", "350000"),
        ("(12.3)%", "-0.123"),
        ("$(1,234)", "-1234"),
        ("-$5", "-5"),
        ("\u22124.2 %", "-0.042"),
        ("minus 3 percent", "-0.03"),
        ("0.5 per cent", "0.005"),
        (".75", "0.75"),
        ("12.", "12"),
        ("(5", "5"),
    ],
)
def test_scale_sign_and_percent_are_read(text: str, value: str) -> None:
    found = whole_number(text)
    assert found is not None
    assert found.value == Decimal(value)
    assert found.percent == any(sign in text for sign in ("%", "percent", "per cent"))


@pytest.mark.parametrize("text", ["", "none", "1,2,3", "FY2019", "2017-2018", "in 2019 it was 5"])
def test_text_without_one_number_has_none(text: str) -> None:
    assert whole_number(text) is None
    assert only_number(text) is None


@pytest.mark.parametrize(
    ("answer", "gold", "verdict"),
    [
        ("It rose to $1,496.5 million.", "$1,496.5 million", True),
        ("1,496,500,000", "$1,496.5 million", True),
        ("1,496.54 million", "1,496.5 million", True),
        ("1,496.56 million", "1,496.5 million", False),
        ("1,496.5", "$1,496.5 million", False),
        ("1,496.5 billion", "$1,496.5 million", False),
        ("12.34%", "12.34%", True),
        ("12.344 percent", "12.34%", True),
        ("12.3%", "12.34%", False),
        ("12.34", "12.34%", False),
        ("0.1234", "12.34%", False),
        ("-12.34%", "12.34%", False),
        ("(12.34)%", "-12.34%", True),
        ("7", "7", True),
        ("7.2", "7", False),
        ("From 6 to 7", "7", False),
        ("7, yes, 7", "7", True),
        ("nothing", "7", False),
        ("7", "the seventh", None),
    ],
)
def test_the_stated_rule_decides(answer: str, gold: str, verdict: bool | None) -> None:
    assert same_number(answer, gold) is verdict


@pytest.mark.skipif(not TATQA.is_file(), reason="TAT-QA is not beside the checkout")
def test_every_computed_answer_of_tatqa_is_a_number_with_its_own_scale() -> None:
    scales = {"": 1, "thousand": 10**3, "million": 10**6, "billion": 10**9}
    seen = 0
    for line in TATQA.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["answer_type"] not in ("arithmetic", "count"):
            continue
        seen += 1
        found = whole_number(row["answer"])
        assert found is not None, row["answer"]
        assert same_number(f"The answer is {row['answer']}.", row["answer"])
        raw = Decimal(str(row["answer_raw"]).replace(",", ""))
        factor = Decimal("0.01") if row["scale"] == "percent" else scales[row["scale"]]
        assert found.value == raw * factor
        # Off by one in the last place that was written is another number.
        step = found.rounding * 2 or Decimal(1)
        off = f"{(found.value + step) * (100 if found.percent else 1):f}"
        assert not same_number(f"{off}{'%' if found.percent else ''}", row["answer"])
    assert seen == 750
