"""The report page in a real browser: nothing leaves it, nothing runs over, every plot is drawn."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, Page, browse, program
from report_case import comparison, facts
from test_report import HOSTILE

from eval.report import write_report

WIDTHS = (1280, 390)
SCHEMES = ("light", "dark")

pytestmark = pytest.mark.skipif(program() is None, reason="no Chromium is installed here")

_PLOTS = "[...document.querySelectorAll('[data-live]')]"
_DRAWN = f"{_PLOTS}.every(node => node.parentNode.classList.contains('drawn'))"
_MARKS = f"""{_PLOTS}.map(node => node.querySelectorAll(
  '.scatterlayer .point, .scatterlayer .js-line, .heatmaplayer image').length)"""
_OPEN = "document.querySelectorAll('details').forEach(part => part.open = true)"
# The height of what lies below a fold's heading, of those that are seen at all.
_FOLDED = """[...document.querySelectorAll('details')].map(part =>
  part.lastElementChild.checkVisibility() ?
    part.offsetHeight - part.querySelector('summary').offsetHeight : 0)"""
_OPENED = "[...document.querySelectorAll('details')].map(part => part.open)"
_CLOSE = "document.querySelectorAll('details').forEach((part, n) => part.open = n === 0)"
_OVER = "document.documentElement.scrollWidth - window.innerWidth"
_WIDER = """[...document.querySelectorAll('.live .main-svg')].filter(
  svg => svg.getBoundingClientRect().right > window.innerWidth + 0.5).length"""
_SCALES = """[...document.querySelectorAll('figure > svg')].map(
  svg => svg.getBoundingClientRect().width / svg.viewBox.baseVal.width)"""
# Of the second plot: the frontier, whose line has the page's first colour.
_INK = """getComputedStyle(document.querySelector(
  '[data-live="1"] .scatterlayer .trace .lines path')).stroke"""
_VARIABLE = """(() => { const probe = document.createElement('i');
  probe.style.color = getComputedStyle(document.documentElement).getPropertyValue('--a');
  document.body.append(probe); const found = getComputedStyle(probe).color; probe.remove();
  return found; })()"""
_SHOWN = """['.still', '.live'].map(kind => [...document.querySelectorAll('.chart ' + kind)].filter(
  part => getComputedStyle(part).display !== 'none' && part.offsetHeight > 1).length)"""
_HOVER = """(() => { const box = document.querySelector(
  '[data-live="1"] .scatterlayer .trace:last-child .points path').getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2]; })()"""
_SAID = """[...document.querySelectorAll('[data-live="1"] .hoverlayer text')].map(
  text => text.textContent).join(' ')"""


def written(folder: Path, name: str, tree: dict[str, Any], title: str) -> Path:
    place = folder / name
    place.mkdir()
    write_report(tree, title, facts(), place)
    return place / "report.html"


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the browser saw, by page, width and scheme: one start for all tests."""
    folder = tmp_path_factory.mktemp("pages")
    chinese = [f"账户余额为什么没有更新的问题第{index}类" for index in range(149)]
    pages = {
        "whole": written(folder, "whole", comparison(), "banking-intents"),
        "hostile": written(
            folder, "hostile", comparison([*chinese, f"{HOSTILE}{'long_label_' * 20}"]), HOSTILE
        ),
    }
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        yield browse(_all(Path(profile), pages))


async def _all(profile: Path, pages: dict[str, Path]) -> dict[str, Any]:
    async with Browser(profile) as browser:
        page = await browser.page()
        found: dict[str, Any] = {}
        for width in WIDTHS:
            await page.open(pages["whole"], width, 800, "light")
            found["whole", width] = await _looked(page)
            if width == 1280:
                found["hover"] = await _hovered(page)
                found["legend"] = await _toggled(page)
                found["print"] = await _printed(page)
        await page.open(pages["hostile"], 390, 800, "dark")
        found["hostile", 390] = await _looked(page)
        found["alone"] = (list(page.requests), list(page.complaints))
        await page.call("Emulation.setScriptExecutionDisabled", value=True)
        await page.open(pages["whole"], 390, 800, "light")
        found["still"] = (await page.run(_SHOWN), await page.run(_OVER))
        return found


async def _looked(page: Page) -> dict[str, Any]:
    """The whole page in view at once, both schemes in turn."""
    await page.run(_OPEN)
    width = await page.run("window.innerWidth")
    await page.resize(width, await page.run("document.documentElement.scrollHeight"))
    await page.until(_DRAWN)
    found: dict[str, Any] = {"marks": await page.run(_MARKS)}
    for scheme in SCHEMES:
        await page.scheme(scheme)
        await page.until(f"{_INK} === {_VARIABLE}")
        found[scheme] = [await page.run(script) for script in (_OVER, _WIDER, _INK)]
    found["pictures"] = await page.run(_SHOWN)
    found["scales"] = await page.run(_SCALES)
    return found


async def _hovered(page: Page) -> str:
    x, y = await page.run(_HOVER)
    for step in (4, 0):
        await page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x - step, y=y - step)
    await page.until(f"{_SAID} !== ''")
    return str(await page.run(_SAID))


async def _toggled(page: Page) -> tuple[int, int]:
    """How many lines of a plot with a legend are drawn, before a key is clicked and after."""
    key = "document.querySelectorAll('.legend')[2].querySelector('li')"
    lines = f"{key}.closest('figure').querySelectorAll('.scatterlayer .lines path.js-line').length"
    before = int(await page.run(lines))
    await page.run(f"{key}.click()")
    await page.until(f"{lines} !== {before}")
    return before, int(await page.run(lines))


async def _printed(page: Page) -> dict[str, Any]:
    await page.run(_CLOSE)
    folded = {"screen": await page.run(_FOLDED), "open": [await page.run(_OPENED)]}
    for event in ("beforeprint", "afterprint"):
        await page.run(f"dispatchEvent(new Event('{event}'))")
        folded["open"].append(await page.run(_OPENED))
    await page.scheme("dark", media="print")
    paper = await page.run("getComputedStyle(document.body).backgroundColor")
    shown = await page.run(_SHOWN)
    folded["paper"] = await page.run(_FOLDED)
    await page.scheme("light")
    await page.run(_OPEN)
    return {"shown": shown, "paper": paper, "folded": folded}


def test_nothing_leaves_the_page_and_nothing_is_complained_of(seen: dict[str, Any]) -> None:
    requests, complaints = seen["alone"]
    assert complaints == []
    assert requests
    assert {url.partition(":")[0] for url in requests} <= {"file", "data"}
    assert {url.rpartition("/")[2] for url in requests if url[:4] == "file"} == {"report.html"}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("view", [("whole", 1280), ("whole", 390), ("hostile", 390)])
def test_nothing_runs_over_the_window(
    seen: dict[str, Any], view: tuple[str, int], scheme: str
) -> None:
    over, wider, _ = seen[view][scheme]
    assert over <= 0
    assert wider == 0


@pytest.mark.parametrize("view", [("whole", 1280), ("whole", 390), ("hostile", 390)])
def test_every_plot_is_drawn(seen: dict[str, Any], view: tuple[str, int]) -> None:
    marks = seen[view]["marks"]
    assert len(marks) >= 17
    assert min(marks) >= 1
    assert sum(count > 4 for count in marks) >= 14
    still, live = seen[view]["pictures"]
    assert (still, live) == (0, len(marks))


def test_letters_of_a_plot_are_about_as_large_as_those_around_it(seen: dict[str, Any]) -> None:
    scales = [scale for scale in seen["whole", 1280]["scales"] if scale]
    assert len(scales) > 2
    assert max(scales) < 1.2


def test_colours_follow_the_scheme_while_the_page_is_open(seen: dict[str, Any]) -> None:
    assert seen["whole", 1280]["light"][2] == "rgb(29, 95, 209)"
    assert seen["whole", 1280]["dark"][2] == "rgb(122, 171, 255)"


def test_a_point_tells_its_figures_and_a_key_hides_its_line(seen: dict[str, Any]) -> None:
    assert "TF-IDF naive Bayes: 0.784, 0.210 s for 1,000" in seen["hover"]
    before, after = seen["legend"]
    assert after == before - 1


def test_paper_has_the_still_pictures_on_white(seen: dict[str, Any]) -> None:
    still, live = seen["print"]["shown"]
    assert live == 0
    assert still == len(seen["whole", 1280]["marks"])
    assert seen["print"]["paper"] == "rgb(255, 255, 255)"


def test_paper_has_what_lies_folded_on_the_screen(seen: dict[str, Any]) -> None:
    folded = seen["print"]["folded"]
    assert len(folded["paper"]) > 1
    # So that it can fail: all but the first are closed, and show nothing on the screen.
    assert max(folded["screen"][1:]) == 0
    assert min(folded["paper"]) > 5
    # Where the style cannot, the page itself opens them, and closes them again.
    before, within, after = folded["open"]
    assert before == after == [True, *[False] * (len(before) - 1)]
    assert all(within)


def test_without_a_script_the_still_pictures_are_there(seen: dict[str, Any]) -> None:
    (still, live), over = seen["still"]
    assert live == 0
    assert still > 5
    assert over <= 0
