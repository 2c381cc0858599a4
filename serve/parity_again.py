"""The parity gate once more, of one engine that was started again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from serve.bundle import Bundle
from serve.engine import Engine
from serve.parity import announce, check_heads
from serve.parity_heads import served_heads


def checked_again(bundle: Bundle, echo: Callable[[str], None]) -> Callable[[Engine], None]:
    """What compares one engine of a bundle and says in a line what was seen.

    Returns:
        For an engine that nobody else asks; raises EngineError where it gives other ids or
        answers than training's, or does not answer, and UserError where golden.json is torn.
    """

    def check(engine: Engine) -> None:
        # An engine pools for the heads of one way; the others may be away themselves.
        own = tuple(head for head in bundle.heads if head.name in engine.models)
        if own:
            part = replace(bundle, heads=own)
            echo(check_heads(part, served_heads(part, [engine])).line())
        else:
            announce(bundle, [engine], echo)

    return check
