"""Fields that nobody filled in, and code that only looks like them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.data.cleaning.unfilled import unfilled_fields

SHARED = Path(__file__).resolve().parents[4] / "shared/data"


@pytest.mark.parametrize(
    "field",
    [
        "{{name}}", "{{ user.first_name }}", "{{姓名}}", "${name}", "${first_name}",
        "${companyName}", "<<NAME>>", "<<FIRST NAME>>", "[INSERT NAME]", "[insert date here]",
        "[Your Name]", "[Company Name]", "[Recipient's Name]", "[您的姓名]", "【请填写公司名称】",
    ],
)  # fmt: skip
def test_a_field_is_found_as_it_stands(field: str) -> None:
    assert unfilled_fields(f"I am {field}, and {field} I stay.") == (field,)


@pytest.mark.parametrize(
    "text",
    [
        "Use `{{name}}` in Jinja.",
        "```\nHello {{name}}, [Your Name]\n```",
        "env: ${{ secrets.GITHUB_TOKEN }}",
        r"\frac{{ab}}{{cd}} and x^{{in}}",
        "{{cite web|url=x}} and {{ . }} and {{...}} and style={{ fontWeight: 'bold' }}",
        "echo ${HOME} ${PATH} ${namespace}",
        "cout << NAME << endl; cin >> n; 8 <<EOF",
        "[link text](http://x.org), [Your Name](x), arr[name], List[Person]",
        "[Person] [TEACHER] [int] [1] [citation needed] [Question]",
        "They write to <<EMAIL_ADDRESS>> and <<PHONE_NUMBER>>.",
        "【标题】：今日新闻 [图]",
        "a set {name}",
    ],
)
def test_code_and_other_brackets_are_no_fields(text: str) -> None:
    assert unfilled_fields(text) == ()


def test_the_identity_rows_have_85_of_91() -> None:
    path = SHARED / "alpaca_gpt4_demo/identity.jsonl"
    if not path.is_file():
        pytest.skip("needs alpaca_gpt4_demo")
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    found = [row for row in rows if unfilled_fields(row["output"])]
    assert (len(found), len(rows)) == (85, 91)
