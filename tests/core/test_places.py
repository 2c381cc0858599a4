"""Places to write to are refused in one line, before anything is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.core.errors import UserError
from pipeline.core.places import require_file, require_folder


def test_a_folder_may_be_there_or_be_made_and_a_file_is_none(tmp_path: Path) -> None:
    require_folder("--out", tmp_path)
    require_folder("--out", tmp_path / "new" / "deeper")
    require_folder("--out", Path("surely-not-here"))
    (tmp_path / "file").write_text("", encoding="utf-8")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=r"^--out .*file is a file and no folder"):
            require_folder("--out", place)


def test_a_file_needs_its_folder_and_is_none(tmp_path: Path) -> None:
    require_file("--out", tmp_path / "new.json")
    require_file("--out", Path("new.json"))
    with pytest.raises(UserError, match="is a folder; name a file"):
        require_file("--out", tmp_path)
    with pytest.raises(UserError, match="its folder is not there"):
        require_file("--out", tmp_path / "nowhere" / "new.json")
