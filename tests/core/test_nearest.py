"""What somebody may have meant: near names are offered, strange ones are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.core.nearest import nearest, nearest_path


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("demo-intent", "demo-intents"),
        ("DEMO-INTENTS", "demo-intents"),
        ("dmeo-intents", "demo-intents"),
        ("l2", "l2.yaml"),
        ("banking", None),
        ("", None),
        ("demo-intents" * 100_000, None),
    ],
)
def test_a_near_name_is_offered_and_a_strange_one_is_not(name: str, told: str | None) -> None:
    found = nearest(name, ["demo-intents", "l2.yaml", "zebra"])
    assert found == ("" if told is None else f", did you mean {told}?")


def test_of_a_path_what_lies_beside_it_is_offered(tmp_path: Path) -> None:
    (tmp_path / "intents.yaml").touch()
    assert nearest_path(tmp_path / "intnets.yaml") == ", did you mean intents.yaml?"
    for strange in (tmp_path / "nowhere" / "x", tmp_path / "intents.yaml" / "x", Path("a\0/b")):
        assert nearest_path(strange) == ""
