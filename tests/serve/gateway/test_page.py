"""The page's files: what is sent, under which headers, and what they may never hold."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import requests

from eval.report.style import STYLE
from serve.gateway.page import FOLDER
from serve.keys import OneKey

ROOT = Path(__file__).resolve().parents[3]
PATHS = {
    "/": "index.html", "/page.js": "page.js", "/page-ask.js": "page-ask.js",
    "/page-parts.js": "page-parts.js", "/page.css": "page.css",
}  # fmt: skip
# Written out, so that a weaker policy in the code is not a weaker one here.
POLICY = {
    "default-src": "'none'", "script-src": "'self'", "style-src": "'self'",
    "connect-src": "'self'", "img-src": "'self' data:", "base-uri": "'none'",
    "form-action": "'none'", "frame-ancestors": "'none'",
}  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_a_file_comes_whole_under_strict_headers_and_without_a_key(gateway: Any, path: str) -> None:
    running = gateway(keys=OneKey("gradus-right"))
    answer = requests.get(f"{running.url}{path}", timeout=10)
    assert answer.status_code == 200
    assert answer.content == (FOLDER / PATHS[path]).read_bytes()
    told = answer.headers
    directives = [
        part.strip().partition(" ") for part in told["content-security-policy"].split(";")
    ]
    assert {name: rest for name, _, rest in directives} == POLICY
    assert told["x-content-type-options"] == "nosniff"
    assert told["referrer-policy"] == "no-referrer"
    assert told["cache-control"] == "no-cache"
    kinds = {"html": "text/html", "js": "text/javascript", "css": "text/css"}
    assert told["content-type"] == f"{kinds[PATHS[path].rpartition('.')[2]]}; charset=utf-8"


def test_what_a_browser_holds_already_is_not_sent_again(gateway: Any) -> None:
    url = f"{gateway().url}/page.js"
    first = requests.get(url, timeout=10)
    tag = first.headers["etag"]
    # Strong: the same tag is the same bytes.
    assert re.fullmatch(r'"[0-9a-f]+"', tag)
    assert hashlib.sha256(first.content).hexdigest().startswith(tag.strip('"'))
    for held in (tag, f'"other", W/{tag}', "*"):
        again = requests.get(url, headers={"If-None-Match": held}, timeout=10)
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert "content-security-policy" in again.headers
    assert requests.get(url, headers={"If-None-Match": '"other"'}, timeout=10).ok
    head = requests.head(url, timeout=10)
    assert (head.headers["content-length"], head.content) == (str(len(first.content)), b"")


def test_the_page_knows_whether_keys_are_asked_for(gateway: Any) -> None:
    keyed, open_ = gateway(keys=OneKey("gradus-right")), gateway()
    pages = [requests.get(f"{one.url}/", timeout=10) for one in (keyed, open_)]
    assert ["data-key=" + re.findall(r"data-key=(\S+?)>", p.text)[0] for p in pages] == [
        'data-key="needed"', 'data-key="none"',
    ]  # fmt: skip
    assert pages[0].headers["etag"] != pages[1].headers["etag"]


@pytest.mark.parametrize("path", ["/page", "/page/", "/page/page.js", "/index.html", "/page.py"])
def test_nothing_else_of_the_folder_is_reachable(gateway: Any, path: str) -> None:
    answer = requests.get(f"{gateway().url}{path}", timeout=10)
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "not_found_error"
    assert requests.post(f"{gateway().url}/", timeout=10).status_code == 405


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str | None]] = []
        self.scripts: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if self._inside in {"script", "style"} and data.strip():
            self.scripts.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""


def test_the_page_has_no_inline_script_or_style_and_links_to_itself_alone() -> None:
    tags = _Tags()
    tags.feed((FOLDER / "index.html").read_text())
    assert tags.scripts == []
    assert not [name for _, name, _ in tags.attributes if name == "style" or name[:2] == "on"]
    linked = {value or "" for _, name, value in tags.attributes if name in {"src", "href"}}
    assert {link for link in linked if not link.startswith("data:")} == {"page.js", "page.css"}


@pytest.mark.parametrize("name", ["page.js", "page-ask.js", "page-parts.js"])
def test_no_script_reads_text_as_html_or_as_code(name: str) -> None:
    script = (FOLDER / name).read_text()
    ways = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|Function\("
    assert not re.search(rf"{ways}|createContextualFragment|setHTML|srcdoc|localStorage", script)
    assert "://" not in script
    assert len(script.splitlines()) < 300


def test_colours_are_those_of_the_report() -> None:
    def schemes(style: str) -> list[dict[str, str]]:
        roots = re.findall(r":root\{([^}]*)\}", style)[:2]
        return [dict(re.findall(r"(--[\w-]+):(#\w+)", root)) for root in roots]

    ours, theirs = schemes((FOLDER / "page.css").read_text()), schemes(STYLE)
    assert len(ours) == len(theirs) == 2
    for own, report in zip(ours, theirs, strict=True):
        assert len(own) > 10
        assert own == {name: report[name] for name in own}


def test_an_installed_copy_has_the_page(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "serve", tmp_path / "serve", ignore=ignored)
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", build, tmp_path], cwd=tmp_path, check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        for name in PATHS.values():
            assert packed.read(f"serve/gateway/page/{name}") == (FOLDER / name).read_bytes()
