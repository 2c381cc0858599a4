"""The report: one file that loads nothing, escapes everything, and never changes by itself."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from ladder_case import answerer, ladder, reader
from report_case import comparison, facts

from eval.compare import compare
from eval.gates import Gate
from eval.known_items import Known
from eval.report import report_page, write_report

GATES = [
    Gate("test", "accuracy", None, "control", superior_by=0.0),
    Gate("general", "loss", None, "base", at_most_ratio=1.03),
]
FACTS = {"hardware": {"cpu": "2 cores"}, "plan": [{"stage": "train", "seconds": 22.5}]}


class Reader(HTMLParser):
    """Every start tag, and whether each was closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "wbr"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif self.open and self.open[-1] != "style":
            self.text.append(data)


def record(**changes: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "results": ladder(),
        "gates": GATES,
        "contamination": Known(),
        "domain_suite": "domain",
        "general_suite": "general",
        "task_suite": "test",
    }
    settings.update(changes)
    results = settings.pop("results")
    return compare(results, **settings).to_json()


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert not reader.open
    return reader


def test_page_is_well_formed_and_loads_nothing() -> None:
    page = report_page(record(), "Demo", FACTS)
    check_alone(page)


def check_alone(page: str) -> Reader:
    """Nothing is fetched, and no script but the page's own may run."""
    found = read(page)
    names = {name for name, _ in found.tags}
    assert not names & {"link", "img", "iframe", "object", "base", "form"}
    for name, attributes in found.tags:
        assert not attributes.keys() & {"src", "onload", "onclick", "onerror"}
        if "href" in attributes:
            assert name == "a"
            assert str(attributes["href"]).startswith("#")
    style = re.findall(r"<style>(.*?)</style>", page, flags=re.DOTALL)
    assert len(style) == 1
    assert not re.search(r"url\(|@import", style[0])
    (policy,) = [a["content"] for _, a in found.tags if a.get("http-equiv")]
    assert str(policy).startswith("default-src 'none';")
    allowed = str(policy).partition("script-src ")[2].split()
    assert "'unsafe-inline'" not in allowed
    kinds = ["type" not in a for name, a in found.tags if name == "script"]
    runs = [text for text, run in zip(found.scripts, kinds, strict=True) if run]
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in runs]
    assert digests
    # The library's script is made by ours; all others stand in the page.
    assert len(allowed) == len(digests) + (len(runs) > 1)
    assert {f"'sha256-{digest}'" for digest in digests} <= {*allowed}
    return found


def test_page_tells_every_gate_and_conclusion() -> None:
    told = record()
    text = "".join(read(report_page(told, "Demo", FACTS)).text)
    for line in told["sentences"]:
        assert line in text
    for gate in told["gates"]:
        # Its status stands before it, and not once more at its end.
        figure, _, status = gate["text"].rpartition(": ")
        assert status == gate["status"]
        assert figure in text
        assert gate["text"] not in text
    assert "✓ pass" in text
    assert "✕ fail" in text
    assert "22.50" in text


def test_plots_are_well_formed_svg_with_a_mark_for_each_figure() -> None:
    for part, expected in (("levels", 6), ("heads", 4)):
        told = {**record(), "arms": [], "recommendation": None, "classes": {}}
        other = {"levels": "heads", "heads": "levels"}[part]
        page = report_page({**told, other: {}}, "Demo", FACTS)
        plots = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
        marks = [len(ElementTree.fromstring(plot).findall("circle")) for plot in plots]  # noqa: S314
        assert marks == [expected]


def test_hostile_names_are_escaped() -> None:
    hostile = '</style><script>alert("x")</script>&'
    told = record()
    told["models"][0]["name"] = hostile
    told["sentences"] = [hostile]
    told["gates"][0]["text"] = hostile
    told["gates"][0]["status"] = hostile
    told["classes"]["generative"]["mistakes"][0]["label"] = hostile
    page = report_page(told, hostile, {hostile: {hostile: [hostile, {hostile: hostile}]}})
    assert "<script>alert" not in page
    check_alone(page)


HOSTILE = '</script></style><img src=x onerror="alert(1)">&amp;{{x}}%{y}\u2028<!--'


def poisoned(tree: Any) -> Any:
    """The same tree with every word in it made hostile."""
    if isinstance(tree, dict):
        return {key: poisoned(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [poisoned(value) for value in tree]
    return HOSTILE + tree if isinstance(tree, str) else tree


def test_no_word_of_a_comparison_ends_a_script_or_opens_a_tag() -> None:
    told = comparison()
    keep = {"level": ("L0", "L1", "L2"), "role": ("model", "control", "reference")}
    bad = poisoned(told)
    for name in ("arms", "models"):
        for clean, row in zip(told[name], bad[name], strict=True):
            row |= {part: clean[part] for part in keep if clean[part] in keep[part]}
    page = report_page(bad, HOSTILE, poisoned({"model": facts()["model"]}))
    found = check_alone(page)
    names = {name for name, _ in found.tags}
    assert "img" not in names
    assert page.count("<img") == 0
    assert page.count("</script") == 4
    # What plotly would read as tags is escaped a second time.
    plots = json.loads(found.scripts[0])
    assert "<img" not in json.dumps(plots)
    assert "&lt;img" in json.dumps(plots)


def test_every_part_of_a_comparison_is_told() -> None:
    text = "".join(check_alone(report_page(comparison(), "Banking", facts())).text)
    told = comparison()
    lines = [*told["recommendation"]["words"], *told["sentences"], told["verdict"]]
    lines += [pair["words"] for pair in told["pairs"]]
    lines += told["learning_curve"]["claims"]
    lines += [line["shown"] or line["why"] for line in told["risks"][0]["lines"]]
    lines += [item["text"] for item in told["disagreements"]["items"]]
    lines += ["Quality", "Diversity", "Speed", "won, ties as half", "0.987", "[0.910, 0.931]"]
    lines += ["[+0.053, +0.079]", "1.022 times", "no change shown"]
    for line in lines:
        assert line in text, line
    assert text.index(lines[0]) < text.index("What was found")


def test_a_rung_that_did_not_fit_is_named_with_its_reason() -> None:
    told = comparison()
    told["not_asked"] = [{"arm": "zero_shot", "why": "<b>its prompt</b> does not fit"}]
    page = report_page(told, "Banking", facts())
    check_alone(page)
    assert "&lt;b&gt;its prompt&lt;/b&gt; does not fit" in page
    assert "Not asked: zero-shot base: " in page


@pytest.mark.parametrize(
    "part",
    ["arms", "pairs", "disagreements", "recommendation", "learning_curve", "gap", "generated",
     "risks", "forgetting"],
)  # fmt: skip
@pytest.mark.parametrize("gone", ["absent", "none"])
def test_what_was_not_compared_has_no_section(part: str, gone: str) -> None:
    told = comparison()
    if gone == "absent":
        del told[part]
    else:
        told[part] = None
    short = check_alone(report_page(told, "Banking", facts()))
    whole = check_alone(report_page(comparison(), "Banking", facts()))
    count = [sum(name in ("section", "li", "article", "tr") for name, _ in page.tags)
             for page in (short, whole)]  # fmt: skip
    assert count[0] < count[1]


def test_a_figure_that_is_no_number_is_a_dash_and_null(tmp_path: Path) -> None:
    told = comparison()
    told["arms"][0]["macro_f1"] = math.nan
    told["arms"][0]["accuracy"]["high"] = math.inf
    told["arms"][0]["cost"] = told["arms"][1]["calibration"] = None
    write_report(told, "Banking", {"speed": math.nan}, tmp_path)
    record = (tmp_path / "report.json").read_text(encoding="utf-8")
    assert not re.search(r"NaN|Infinity", record)
    assert json.loads(record)["comparison"]["arms"][0]["macro_f1"] is None
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "nan" not in {word for text in read(page).text for word in text.split()}


def test_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    pages = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_report(record(), "Demo", FACTS, tmp_path / name)
        written = sorted((tmp_path / name).iterdir())
        assert [path.name for path in written] == ["README.md", "report.html", "report.json"]
        pages.append([path.read_bytes() for path in written])
    assert pages[0] == pages[1]


def test_a_page_leaves_its_input_as_it_was() -> None:
    told = comparison()
    before = copy.deepcopy(told)
    report_page(told, "Banking", facts())
    assert told == before


def test_json_holds_the_whole_comparison(tmp_path: Path) -> None:
    told = record()
    write_report(told, "Demo 汉字", FACTS, tmp_path)
    written = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert written == {"title": "Demo 汉字", "comparison": told, "facts": FACTS}


@pytest.mark.parametrize(
    "part",
    [
        {"results": [reader("L0", "base"), reader("L1", "model")], "task_suite": None},
        {
            "results": [answerer("classifier", "model", 0, 0.7)],
            "domain_suite": None,
            "general_suite": None,
        },
        {"results": [reader("L0", "model")], "gates": [], "task_suite": None},
    ],
)
def test_part_of_a_ladder_has_a_page_too(part: dict[str, Any]) -> None:
    read(report_page(record(**part), "Part", {}))


def test_a_model_over_no_l1_is_not_its_own_control() -> None:
    told = {**comparison(), "arms": []}
    (first, *_) = told["heads"]
    told["heads"] = {first: {**told["heads"][first], "with_l1": None, "difference": None}}
    text = "".join(check_alone(report_page(told, "Banking", facts())).text)
    assert "Controlthe same training" not in text
    assert f"accuracy, {first}" in text


def test_a_small_rate_is_not_rounded_to_nothing() -> None:
    page = report_page(comparison(), "Banking", {"model": {"rate": 2e-4, "size": 596_049_920}})
    assert "<span>0.0002</span>" in page
    assert "<span>596,049,920</span>" in page
