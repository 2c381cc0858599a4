"""What the door's handlers share, and its bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from serve.gateway.directory import Directory

if TYPE_CHECKING:
    from serve.access_log import AccessLog
    from serve.keys import KeyRing
    from serve.limits import Limiter
    from serve.metrics import Metrics
    from serve.usage import UsageStore


@dataclass(frozen=True)
class DoorLimits:
    """Bounds of one gateway.

    Attributes:
        body_bytes: of a request's body.
        body_s: in which it has to come.
        first_byte_s: until a stream's first byte, or the whole of another answer.
        total_s: of a stream, from the request's head.
        stalled_s: that a client may leave a piece of a stream untaken.
        in_flight: requests under way at once; what is more is told to come again.
    """

    body_bytes: int = 1 << 20
    body_s: float = 20.0
    first_byte_s: float = 600.0
    total_s: float = 3600.0
    stalled_s: float = 60.0
    in_flight: int = 256


@dataclass
class Door:
    """One gateway.

    Attributes:
        directory: the table of names.
        keys: who may ask; None: whoever reaches a loopback address.
        limiter, usage, log, metrics: see those modules; None: not kept.
        limits: bounds.
        draining: set while it stops: nothing new is taken.
        in_flight: requests under way.
        healthy: whether the engines' processes run.
    """

    directory: Directory
    keys: KeyRing | None = None
    limiter: Limiter | None = None
    usage: UsageStore | None = None
    log: AccessLog | None = None
    metrics: Metrics | None = None
    limits: DoorLimits = field(default_factory=DoorLimits)
    draining: bool = False
    in_flight: int = 0
    healthy: Callable[[], bool] = lambda: True

    @property
    def ready(self) -> bool:
        """Whether a request sent now will be served."""
        if self.draining or not self.healthy():
            return False
        return all(group.ready for group in self.directory.groups())
