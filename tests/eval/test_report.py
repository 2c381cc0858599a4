"""The report: one file that loads nothing, escapes everything, and never changes by itself."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from ladder_case import answerer, ladder, reader

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

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
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
    found = read(page)
    names = {name for name, _ in found.tags}
    assert not names & {"script", "link", "img", "iframe", "object"}
    for _, attributes in found.tags:
        assert not attributes.keys() & {"src", "href", "onload", "onclick"}
    assert not re.search(r"https?:|url\(|@import", page)


def test_page_tells_every_gate_and_conclusion() -> None:
    told = record()
    text = " ".join(read(report_page(told, "Demo", FACTS)).text)
    for line in [*told["sentences"], *(gate["text"] for gate in told["gates"])]:
        assert line in text
    assert "✓ pass" in text
    assert "✕ fail" in text
    assert "22.50" in text


def test_plots_are_well_formed_svg_with_a_mark_for_each_figure() -> None:
    plots = re.findall(r"<svg.*?</svg>", report_page(record(), "Demo", FACTS), flags=re.DOTALL)
    marks = [len(ElementTree.fromstring(plot).findall("circle")) for plot in plots]  # noqa: S314
    assert marks == [6, 4]


def test_hostile_names_are_escaped() -> None:
    hostile = '</style><script>alert("x")</script>&'
    told = record()
    told["models"][0]["name"] = hostile
    told["sentences"] = [hostile]
    told["gates"][0]["text"] = hostile
    told["gates"][0]["status"] = hostile
    told["classes"]["generative"]["mistakes"][0]["label"] = hostile
    page = report_page(told, hostile, {hostile: {hostile: [hostile, {hostile: hostile}]}})
    assert "<script" not in page
    assert "script" not in {name for name, _ in read(page).tags}


def test_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    pages = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_report(record(), "Demo", FACTS, tmp_path / name)
        written = sorted((tmp_path / name).iterdir())
        assert [path.name for path in written] == ["report.html", "report.json"]
        pages.append([path.read_bytes() for path in written])
    assert pages[0] == pages[1]


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
