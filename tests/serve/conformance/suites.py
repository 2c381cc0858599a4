"""Suites of others, each in a process of their environment's; what they say of one server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from conformance.sides import MODEL

ROOT = Path(__file__).resolve().parents[3]
HOME = ROOT / ".venv-conformance"
KEY = "none"
_TIMEOUT_S = 900.0
# Ids that a server makes up, inside a message about an answer.
_IDS = re.compile(r"\b(msg|resp|fc|chatcmpl|chatcmpl-tool|call|rs)[_-][0-9a-f]{8,}\b")


def require_suites() -> None:
    """Skips where their environment is not made."""
    stamp = HOME / ".gradus-setup"
    # The stamp says so while pip is at work.
    if not stamp.is_file() or stamp.read_text().startswith("installing"):
        pytest.skip("the suites are not installed; run `scripts/setup conformance` first")


def _run(
    *words: str | Path, cwd: Path | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False,
        timeout=_TIMEOUT_S, cwd=cwd, env={**kept, **more},
    )  # fmt: skip


def python(program: str) -> str:
    """What a program prints in their environment."""
    done = _run(HOME / "bin" / "python", "-c", program)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def llm_comply(url: str, form: str) -> dict[str, tuple[str, ...]]:
    """Check to its errors; () where it passed; those that it skips are left out."""
    done = _run(
        HOME / "bin" / "llm-comply", "--json", "--format", form, "-u", f"{url}/v1", "-k", KEY,
        "-m", MODEL,
    )  # fmt: skip
    results = json.loads(done.stdout)["results"]
    assert results, done.stderr
    return {
        each["id"]: tuple(sorted(_IDS.sub("ID", error) for error in each.get("errors", ())))
        for each in results
        if each["status"] != "skipped"
    }


def langchain(url: str, folder: Path) -> dict[str, str]:
    """Standard test to ``passed``, ``skipped`` or the kind of exception that it failed with."""
    report = folder / "langchain.xml"
    suite = Path(__file__).with_name("langchain_suite.py")
    options = {
        "asyncio_mode": "auto",
        # Its client is kept between tests, and stands in the loop that it was made in.
        "asyncio_default_test_loop_scope": "session",
        "asyncio_default_fixture_loop_scope": "session",
    }
    done = _run(
        HOME / "bin" / "python", "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider",
        "-c", os.devnull, "--rootdir", suite.parent, "--disable-socket",
        "--allow-hosts", "127.0.0.1", *(f"--override-ini={k}={v}" for k, v in options.items()),
        f"--junitxml={report}", suite,
        OPENAI_BASE_URL=f"{url}/v1", OPENAI_API_KEY=KEY, GRADUS_MODEL=MODEL,
        LANGSMITH_TRACING="false",
    )  # fmt: skip
    assert report.is_file(), done.stdout + done.stderr
    # Written a moment ago by the process above.
    cases = ElementTree.parse(report).getroot().iter("testcase")  # noqa: S314
    return {f"{case.get('classname')}::{case.get('name')}": _came_of(case) for case in cases}


def _came_of(case: ElementTree.Element) -> str:
    for child in case:
        if child.tag in {"failure", "error"}:
            return (child.get("message") or child.tag).partition(":")[0].splitlines()[0]
        if child.tag == "skipped":
            return "skipped"
    return "passed"


def schemathesis(
    url: str, document: Mapping[str, Any], folder: Path, *options: str, key: str = KEY
) -> set[tuple[str, str]]:
    """The kinds of failure and the operations that have them."""
    place, report = folder / "openapi.json", folder / "report.json"
    place.write_text(json.dumps(document))
    done = _run(
        HOME / "bin" / "st", "run", place, "--url", url, "-H", f"Authorization: Bearer {key}",
        "--phases", "coverage,fuzzing", "--generation-deterministic", "--continue-on-failure",
        "--report", "json", "--report-json-path", report, "--no-color", "--request-timeout", "60",
        *options,
        # It leaves a folder of what it sent.
        cwd=folder,
    )  # fmt: skip
    assert report.is_file(), done.stdout[-4000:] + done.stderr[-4000:]
    told = json.loads(report.read_text())
    assert told["complete"], told["stop_reason"]
    assert not told["errors"], told["errors"]
    assert told["test_cases"]["generated"] > 100, told["test_cases"]
    return {(each["type"], place) for each in told["failures"] for place in each["operations"]}
