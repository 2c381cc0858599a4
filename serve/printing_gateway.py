"""The gateway's line of `gradus serve --print`, without a secret in it."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from serve.addresses import masked
from serve.bundle import Bundle

if TYPE_CHECKING:
    from serve.assembly import Serving

# Field of Serving to its option; not here: what the engines' lines say, and secrets.
_OPTIONS = {
    "host": "--host",
    "port": "--port",
    "keys": "--keys",
    "access_log": "--access-log",
    "drain_s": "--drain-seconds",
    "in_flight": "--max-in-flight",
}


def gateway_lines(bundle: Bundle, settings: Serving, urls: Sequence[str]) -> Iterator[str]:
    """The gateway before engines that run, with every setting that is not as by default."""
    defaults = {each.name: each.default for each in dataclasses.fields(settings)}
    words = [*_program(), "serve", str(bundle.root)]
    for url in urls:
        words += ["--engine-url", url]
    for field, option in _OPTIONS.items():
        value = getattr(settings, field)
        if value != defaults[field]:
            words += [option, f"{value:g}" if isinstance(value, float) else str(value)]
    if settings.log_prompts:
        words.append("--log-prompts")
    secrets = []
    yield "# The gateway"
    if settings.api_key is not None:
        secrets.append(_asked("GRADUS_API_KEY", "the key that clients send"))
    if settings.usage_url is not None:
        shown = masked(settings.usage_url)
        if shown == settings.usage_url:
            words += ["--usage-db", shown]
        else:
            yield f"# usage: {shown!r}"
            secrets.append(_asked("GRADUS_USAGE_URL", "the database with its password"))
    yield " ".join([*secrets, *map(shlex.quote, words)])


def _asked(variable: str, what: str) -> str:
    """The variable's own value, or a shell's refusal that says what is missing."""
    return f'{variable}="${{{variable}:?{what}}}"'


def _program() -> list[str]:
    script = Path(sys.executable).with_name("gradus")
    return [str(script)] if script.is_file() else [sys.executable, "-m", "pipeline.cli"]
