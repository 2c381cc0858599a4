"""Whether a tokenizer has a chat template, told from its files: nothing is loaded."""

from __future__ import annotations

from pathlib import Path


def has_chat_template(folder: Path) -> bool:
    """False where the files in ``folder`` show that there is none.

    A folder without a tokenizer's configuration tells nothing, and counts as having one.
    """
    settings = folder / "tokenizer_config.json"
    if (folder / "chat_template.jinja").is_file() or not settings.is_file():
        return True
    return '"chat_template"' in settings.read_text(encoding="utf-8", errors="replace")
