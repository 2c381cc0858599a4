"""The whole document around a page's sections: its policy, its contents, its script."""

from __future__ import annotations

import re
from collections.abc import Sequence

from eval.report.live import Spec
from eval.report.markup import Markup, joined, tag
from eval.report.script import scripts
from eval.report.style import STYLE

# Fewer sections are seen at once.
_CONTENTS_FROM = 6


def document(title: str, above: Markup, body: Markup, specs: Sequence[Spec]) -> str:
    """The page as text. It loads nothing, and runs no script but its own: its policy says so.

    Args:
        above: what stands before the contents.
        specs: the live plots, in the order of their places in ``body``.
    """
    script, allowed = scripts(specs)
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        f"form-action 'none'; script-src {allowed}"
    )
    head = joined(
        [
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=policy),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("title", title),
            Markup(f"<style>{STYLE}</style>"),
        ]
    )
    main = tag("main", above, _contents(body), body)
    page = tag("html", tag("head", head), tag("body", main, script), lang="en")
    return f"<!doctype html>\n{page.text}\n"


def _contents(body: Markup) -> Markup | None:
    """Links to the sections."""
    found = re.findall(r'<section id="([^"]+)"><h2>([^<]+)</h2>', body.text)
    if len(found) < _CONTENTS_FROM:
        return None
    # The headings are escaped already.
    links = [tag("a", Markup(name), href=f"#{place}") for place, name in found]
    return tag("nav", links, aria_label="Contents")
