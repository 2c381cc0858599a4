"""The table of objectives: what others derive from it."""

from __future__ import annotations

from typing import get_args

from pipeline.core.objectives import OBJECTIVES, OF_HEADS_ALONE
from pipeline.core.schema_data import Format
from pipeline.data.renders import RENDERS


def test_every_objective_has_a_render_and_formats_that_exist() -> None:
    for info in OBJECTIVES.values():
        assert info.render in RENDERS
        assert set(info.forms) <= set(get_args(Format))
        # A head reads rows of some format; what it would make of others nobody knows.
        assert info.forms or not info.head


def test_a_label_can_be_written_and_entities_and_numbers_cannot() -> None:
    assert OF_HEADS_ALONE == {"tagging": "tag", "regression": "regress"}


def test_what_chats_is_what_is_rendered_by_a_chat_template() -> None:
    chats = {name for name, info in OBJECTIVES.items() if info.chats}
    assert chats == {"sft", "dpo", "channel", "hybrid"}
