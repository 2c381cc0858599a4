"""Every engine that writes is compared, and heads where all of them are read."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_family import HEAD, Family, make_headed

from serve import parity
from serve.attached import AttachedEngine
from serve.bundle import read_bundle


@pytest.mark.parametrize("way", ["last", "mean", None])
def test_every_writer_is_compared_and_heads_only_where_all_are_read(
    family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str | None
) -> None:
    bundle = read_bundle(make_headed(family, tmp_path, "last"))
    asked: list[Any] = []

    def check(_bundle: Any, url: str, _models: Any, *, alone: bool) -> Any:
        asked.append((url, alone))
        return SimpleNamespace(line=lambda: "same")

    monkeypatch.setattr(parity, "check", check)
    monkeypatch.setattr(parity, "served_heads", lambda _bundle, pools: pools)
    monkeypatch.setattr(
        parity, "check_heads", lambda _bundle, pools: SimpleNamespace(line=lambda: "heads same")
    )
    names = {name: name for name in family.names}
    engines = [AttachedEngine("http://a", names), AttachedEngine("http://b", names)]
    if way is not None:
        engines.append(AttachedEngine("http://c", {HEAD: HEAD}, way, f"vllm-{way}"))
    said: list[str] = []
    parity.announce(bundle, engines, said.append)
    assert asked == [("http://a", False), ("http://b", False)]
    last = {"last": "heads same", "mean": "no engine pools last", None: "http://b: same"}[way]
    assert last in said[-1]
