"""The report's section on data: each row accounted for in a picture, and nothing told twice."""

from __future__ import annotations

import copy
import json
import re
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.report import report_page
from eval.report.data import data_parts

NODE = "demo/prepare.sft"
FACTS: dict[str, Any] = {
    # Keys as a manifest has them: sorted.
    "balance": {"counts": {"a": 300, "体育": 600}, "effective_number": 1.9,
                "imbalance_ratio": 2.0, "max_per_class": None},
    "cleaning": ["unicode: normalised to NFKC"],
    "contaminated": 10,
    "contamination": {"ancestors": {"demo-l1": 3}, "checked": {"general": 8, "test": 1200},
                      "hits": 10, "not_checkable": ["some/base"], "policy": "report"},
    "examples": {
        "train": {"examples": 900, "lengths": {"1024": 3, "128": 700, "256": 197},
                  "supervised_tokens": 20250, "tokens": 90000},
    },
    "funnel": {
        "train": {"cleaned": 20, "contaminated": 10, "details": {"label conflicts": 7},
                  "duplicate": 30, "kept": 900, "quarantined": 5, "read": 1065,
                  "to validation": 100},
        "validation": {"details": {}, "kept": 100, "read": 0, "received": 100},
    },
    "kept": {"train": 900, "validation": 100},
    "labels": 2,
    "over_length": 0,
    "packing": {"blocks": 45, "length": 2048, "real_tokens": 0.9766},
    "read": {"train": 1065, "validation": 0},
    "sources": [
        {"format": "classification", "quarantined": 0, "read": 1200, "split": "test",
         "url": "memory://test"},
        {"format": "sharegpt", "licence": "CC-BY-4.0", "name": "rows.jsonl",
         "origin": "the archive", "quarantined": 5, "read": 1065, "split": "train"},
    ],
}  # fmt: skip


def section(data: object) -> ElementTree.Element:
    """The section, read by an XML parser: it must be well formed."""
    made, _ = data_parts(data)
    assert made is not None
    return ElementTree.fromstring(f"<div>{made.text}</div>")  # noqa: S314


def changed(**parts: Any) -> dict[str, Any]:
    return {**copy.deepcopy(FACTS), **parts}


def plots(root: ElementTree.Element) -> dict[str, ElementTree.Element]:
    """Plots by what they show: the words before the figures."""
    return {str(plot.get("aria-label")).partition(":")[0]: plot for plot in root.iter("svg")}


def bars(plot: ElementTree.Element) -> list[tuple[float, float]]:
    """Left and right end of each bar."""
    found = [(float(bar.attrib["x"]), float(bar.attrib["width"])) for bar in plot.iter("rect")]
    return [(x, x + width) for x, width in found]


def words(root: ElementTree.Element) -> str:
    return " ".join(root.itertext())


def test_losses_stand_in_the_order_of_the_steps_with_their_counts() -> None:
    plot = plots(section({NODE: FACTS}))["Rows of train"]
    assert [text.text for text in plot.iter("text")] == [
        "read", "1,065", "100 %", "quarantined", "−5", "0.5 %", "cleaned", "−20", "1.9 %",
        "duplicate", "−30", "2.8 %", "contaminated", "−10", "0.9 %",
        "to validation", "−100", "9.4 %", "kept", "900", "84.5 %",
    ]  # fmt: skip


def test_losses_and_what_is_kept_tile_the_bar_of_what_was_read() -> None:
    funnel = {"train": {"read": 100, "quarantined": 25, "duplicate": 15, "kept": 60}}
    read, *losses, kept = bars(plots(section({NODE: {"funnel": funnel}}))["Rows of train"])
    edges = [kept[0], kept[1], *(end for loss in reversed(losses) for end in loss)]
    assert edges[0] == read[0]
    assert edges[-1] == pytest.approx(read[1], abs=0.2)
    assert edges[1::2][:-1] == pytest.approx(edges[2::2], abs=0.2)


def test_figures_are_in_the_words_that_a_screen_reader_says() -> None:
    told = plots(section({NODE: FACTS}))["Rows of validation"].get("aria-label")
    assert told == "Rows of validation: received +100 (100 %); kept 100 (100 %)"


def test_one_row_of_a_million_is_seen() -> None:
    funnel = {"train": {"read": 1_000_000, "quarantined": 1, "kept": 999_999}}
    plot = plots(section({NODE: {"funnel": funnel}}))["Rows of train"]
    assert min(right - left for left, right in bars(plot)) >= 1
    assert "−1 (<0.1 %); kept 999,999 (>99.9 %)" in str(plot.get("aria-label"))


def test_lengths_are_in_order_of_size_with_their_gaps() -> None:
    plot = plots(section({NODE: FACTS}))["Examples of train by length in tokens"]
    found = [text.text for text in plot.iter("text")]
    assert found[::3] == ["to 128", "129 to 256", "257 to 512", "513 to 1,024"]
    assert found[1::3] == ["700", "197", "0", "3"]


def test_share_of_tokens_in_the_loss_is_told() -> None:
    plot = plots(section({NODE: FACTS}))["Tokens in the loss"]
    assert plot.get("aria-label") == "Tokens in the loss: train 20,250 (22.5 %)"
    (left, all_tokens), (_, in_loss) = bars(plot)
    assert (in_loss - left) / (all_tokens - left) == pytest.approx(0.225, abs=0.01)


def test_data_without_marked_tokens_has_no_empty_bars_of_loss() -> None:
    tally = {**FACTS["examples"]["train"], "supervised_tokens": 0}
    root = section({NODE: changed(examples={"train": tally})})
    assert "Tokens in the loss" not in plots(root)
    assert "No tokens are marked for the loss" in words(root)


def test_of_many_labels_the_largest_and_the_smallest_are_drawn() -> None:
    counts = {f"label-{size:02}": size for size in range(10, 87)}
    root = plots(section({NODE: changed(balance={"counts": counts})}))
    large = [text.text for text in root["Rows of the largest labels"].iter("text")][::3]
    small = [text.text for text in root["Rows of the smallest labels"].iter("text")][::3]
    assert large == [f"label-{size}" for size in range(86, 80, -1)]
    assert small == [f"label-{size}" for size in range(15, 9, -1)]
    assert "65 lie between" in words(section({NODE: changed(balance={"counts": counts})}))


def test_long_names_that_differ_at_the_end_can_be_told_apart() -> None:
    counts = {f"{'name' * 30}-{end}": 5 for end in ("left", "right")}
    plot = plots(section({NODE: changed(balance={"counts": counts})}))["Rows of train by label"]
    names = [str(text.text) for text in plot.iter("text")][::3]
    assert len(set(names)) == 2
    assert all(len(name) <= 60 for name in names)


def test_every_mark_lies_inside_its_picture() -> None:
    odd = {"train": {"read": 5, "received": 9, "duplicate": 70, "kept": 800}}
    counts = {"标签" * 20: 5, "b": 900}
    root = section({NODE: FACTS, "x": changed(funnel=odd, balance={"counts": counts})})
    for plot in root.iter("svg"):
        _, _, width, height = (float(edge) for edge in str(plot.get("viewBox")).split())
        assert all(0 <= left <= right <= width for left, right in bars(plot))
        for mark in [*plot.iter("rect"), *plot.iter("text")]:
            assert 0 < float(mark.attrib["y"]) + float(mark.get("height", 0)) <= height


def test_sources_tell_format_licence_and_origin_or_that_none_was_given() -> None:
    table = section({NODE: FACTS}).find(".//table")
    assert table is not None
    rows = [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")]
    assert rows == [
        ["split", "source", "read as", "licence", "origin", "rows", "quarantined"],
        ["train", "rows.jsonl", "sharegpt", "CC-BY-4.0", "the archive", "1,065", "5"],
        ["test", "memory://test", "classification", "not given", "not given", "1,200", "0"],
    ]


def test_contamination_names_what_was_compared_and_what_cannot_be() -> None:
    told = words(section({NODE: FACTS}))
    assert "evaluation sets general (8), test (1,200): 10 hits. Policy: report." in told
    assert "Training rows of demo-l1 hold 3 evaluation rows." in told
    assert "Not checkable: what some/base was pretrained on." in told


def test_what_is_drawn_is_not_listed_and_the_rest_is() -> None:
    new = {"synthetic": {"rows": 12}, "packing": {**FACTS["packing"], "window": 4}}
    data = {NODE: changed(**new), "other": changed()}
    assert data_parts(data)[1] == {NODE: {"synthetic": {"rows": 12}, "packing": {"window": 4}}}


def test_one_data_set_rendered_twice_has_its_rows_drawn_once() -> None:
    tally = {"examples": 900, "lengths": {"64": 900}, "supervised_tokens": 0, "tokens": 40000}
    classify = changed(examples={"train": tally}, packing=None)
    root = section({NODE: FACTS, "demo/prepare.classify": classify})
    names = [head.text for head in root.iter("h4")]
    assert names == ["What became of the rows", "Lengths in tokens, sft",
                     "Lengths in tokens, classify", "Tokens in the loss",
                     "Sizes of labels"]  # fmt: skip
    other = changed(funnel={"train": {"read": 1, "kept": 1}})
    assert len(list(section({NODE: FACTS, "other": other}).iter("h3"))) == 2


@pytest.mark.parametrize(
    "data",
    [None, [], "rows", 3, {}, {NODE: None}, {NODE: {"train": {"kept": 3}}}, {NODE: [1]}],
)
def test_facts_of_another_shape_are_listed_as_before(data: object) -> None:
    made, rest = data_parts(data)
    assert made is None
    assert rest == (data if data != {NODE: None} else {})


@pytest.mark.parametrize("name", sorted(FACTS))
@pytest.mark.parametrize("value", [None, {}, [], "odd", -1, {"train": "odd"}, [{"a": []}]])
def test_a_fact_that_is_missing_or_odd_takes_nothing_else_with_it(name: str, value: object) -> None:
    for part in (changed(**{name: value}), {k: v for k, v in FACTS.items() if k != name}):
        names = {head.text for head in section({NODE: part}).iter("h4")}
        drawn = {"funnel": "What became of the rows", "balance": "Sizes of labels",
                 "examples": "Tokens in the loss"}  # fmt: skip
        assert {told for fact, told in drawn.items() if fact != name} <= names


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 10**7) | st.floats(0, 2) | st.text("a1<&'{字"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["read", "kept", "details", "train", "counts", "lengths",
                                           "64", "7", "0", "split", "checked", "hits"]),
                          inner, max_size=4)
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(FACTS)), JSON, max_size=5))
def test_any_facts_make_a_well_formed_section(facts: dict[str, Any]) -> None:
    made, rest = data_parts({NODE: {**FACTS, **facts}, "other": facts})
    json.dumps(rest)
    if made is not None:
        ElementTree.fromstring(f"<div>{made.text}</div>")  # noqa: S314


def test_hostile_data_is_escaped_and_loads_nothing() -> None:
    hostile = '"><script>alert(1)</script><img src=x>'
    facts = changed(
        funnel={hostile: {"read": 1, hostile: 1, "kept": 0, "details": {hostile: 1}}},
        balance={"counts": {hostile: 1}},
        sources=[{"split": hostile, "name": hostile, "licence": hostile, hostile: hostile}],
        contamination={"checked": {hostile: 1}, "not_checkable": [hostile]},
        notes=[hostile],
    )
    names = {element.tag for element in section({hostile: facts}).iter()}
    assert not names & {"script", "img", "link", "a", "image", "use", "style"}


def test_page_draws_the_data_before_how_it_was_made() -> None:
    comparison = {"gates": [], "verdict": "ungated", "heads": {}, "levels": {}, "sentences": [],
                  "chance": None, "clean": [], "models": [], "tasks": [],
                  "classes": {}}  # fmt: skip
    page = report_page(comparison, "Demo", {"hardware": {"cores": 2}, "data": {NODE: FACTS}})
    assert re.findall(r"<h2>(.*?)</h2>", page) == ["All models", "Data", "How it was made"]
    made = page.partition("<h2>How it was made</h2>")[2]
    assert re.findall(r"<summary>(.*?)</summary>", made) == ["Hardware"]
