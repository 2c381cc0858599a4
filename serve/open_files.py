"""What a gateway keeps: keys, usage, its log and its counters, opened as the command line says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from serve.bundle import validation_of
from serve.keys import KeyFile, KeyRing, OneKey
from serve.limits import Limiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from serve.access_log import AccessLog
    from serve.bundle import Bundle
    from serve.metrics import Metrics
    from serve.usage import UsageStore


class Kept(TypedDict):
    """Parts of a door, by the names of its fields."""

    limiter: Limiter
    usage: UsageStore | None
    log: AccessLog | None
    metrics: Metrics


def ring_of(api_key: str | None, keys: Path | None, told: Callable[[str], None]) -> KeyRing | None:
    """Who may ask; None: whoever reaches a loopback address.

    Raises:
        UserError: the file is missing or none of keys.
    """
    if keys is not None:
        return KeyFile(keys, told)
    return None if api_key is None else OneKey(api_key)


def kept_of(
    bundle: Bundle, usage_url: str | None, access_log: Path | None, *, prompts: bool
) -> Kept:
    """Limits, usage, log and counters.

    Raises:
        UserError: a file or database that cannot be opened.
    """
    from serve.access_log import AccessLog
    from serve.metrics import Metrics
    from serve.usage import UsageStore

    metrics = Metrics(
        {each.name: told for each in bundle.trained if (told := validation_of(each)) is not None}
    )
    log = None
    if access_log is not None:
        place = None if str(access_log) == "-" else access_log
        log = AccessLog(place, prompts=prompts, lost=metrics.lost)
    usage = None if usage_url is None else UsageStore(usage_url, metrics.lost)
    if usage is not None:
        metrics.usage_waiting(usage.waiting)
        usage.start()
    return {"limiter": Limiter(), "usage": usage, "log": log, "metrics": metrics}
