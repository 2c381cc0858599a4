"""What a gateway keeps: keys, usage, its log and its counters, opened as the command line says."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from pipeline.core.errors import UserError
from serve.bundle import validation_of
from serve.keys import KeyFile, KeyRing, OneKey
from serve.limits import Limiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from serve.access_log import AccessLog
    from serve.assembly import Serving
    from serve.bundle import Bundle
    from serve.metrics import Metrics
    from serve.usage import UsageStore


BOTH = (
    "--api-key beside --keys: the file says who may ask; leave --api-key out, or add a key to the "
    "file by `gradus keys add`"
)


class Kept(TypedDict):
    """Parts of a door, by the names of its fields."""

    keys: KeyRing | None
    limiter: Limiter
    usage: UsageStore | None
    log: AccessLog | None
    metrics: Metrics


def ring_of(api_key: str | None, keys: Path | None, told: Callable[[str], None]) -> KeyRing | None:
    """Who may ask; None: whoever reaches a loopback address.

    Raises:
        UserError: the file is missing or none of keys, or there are a key and a file of them.
    """
    if api_key is not None and (api_key != api_key.strip() or not api_key.isprintable()):
        # No header brings it back as it is.
        raise UserError("--api-key: begins, ends or is written with what no header carries")
    if api_key == "":
        raise UserError("--api-key: is empty, which nobody can send; give one, or leave it out")
    if keys is None:
        return None if api_key is None else OneKey(api_key)
    if api_key is not None:
        raise UserError(BOTH)
    return KeyFile(keys, told)


@contextlib.contextmanager
def kept_open(bundle: Bundle, told: Serving, tell: Callable[[str], None]) -> Iterator[Kept]:
    """All that a gateway keeps, opened; written and closed at the end, however that comes.

    Args:
        tell: of keys and files that change while it serves.

    Raises:
        UserError: a file or database that cannot be opened; those opened before it are closed.
    """
    from serve.access_log import AccessLog
    from serve.metrics import Metrics
    from serve.usage import UsageStore

    ring = ring_of(told.api_key, told.keys, tell)
    metrics = Metrics(
        {each.name: seen for each in bundle.trained if (seen := validation_of(each)) is not None}
    )
    log, usage = None, None
    with contextlib.ExitStack() as opened:
        if told.usage_url is not None:
            usage = UsageStore(told.usage_url, metrics.lost)
            opened.callback(usage.close)
            metrics.usage_waiting(usage.waiting)
        if told.access_log is not None:
            place = None if str(told.access_log) == "-" else told.access_log
            log = AccessLog(place, prompts=told.log_prompts, lost=metrics.lost)
            opened.callback(log.close)
        if usage is not None:
            usage.start()
        yield {
            "keys": ring, "limiter": Limiter(), "usage": usage, "log": log, "metrics": metrics
        }  # fmt: skip
