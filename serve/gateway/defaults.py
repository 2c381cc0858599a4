"""What a bundle adds to a request where its client said nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serve.bundle import Bundle

_CHAT = "/v1/chat/completions"
# The routes whose answers are written, and by which fields a client bounds one.
_BOUNDS: Mapping[str, tuple[str, ...]] = {
    _CHAT: ("max_tokens", "max_completion_tokens"),
    "/v1/completions": ("max_tokens",),
    "/v1/responses": ("max_output_tokens",),
}


class Defaults:
    """The sampling and the ends of one bundle's answers; empty ones cost a request nothing.

    Attributes:
        longest: tokens of an answer that its client does not bound; None: nor does the bundle.
    """

    def __init__(
        self,
        sampling: Mapping[str, Any] | None = None,
        stop: tuple[str, ...] = (),
        stop_token_ids: tuple[int, ...] = (),
    ) -> None:
        """
        Args:
            sampling: as of ``pipeline.core.schema_serve.Sampling``, what is stated of it.
            stop: texts that end an answer, beside a client's.
            stop_token_ids: ids that end an answer, beside the base's.
        """
        told = dict(sampling or {})
        self.longest: int | None = told.pop("max_tokens", None)
        self._stop, self._ids = stop, list(stop_token_ids)
        self._added: dict[str, dict[str, Any]] = {
            path: told if self.longest is None else {bounds[0]: self.longest, **told}
            for path, bounds in _BOUNDS.items()
        }
        self.empty = not (told or self.longest or stop or stop_token_ids)

    @classmethod
    def of(cls, bundle: Bundle) -> Defaults:
        """A bundle's own."""
        return cls(bundle.sampling.stated(), bundle.stop, bundle.stop_token_ids)

    def added(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """A checked request with them; what it says itself stays."""
        bounds = _BOUNDS.get(path)
        if self.empty or bounds is None:
            return body
        made = {**self._added[path], **body}
        if len(bounds) > 1 and bounds[1] in body and bounds[0] not in body:
            made.pop(bounds[0], None)
        # Who asks for an answer of a fixed length does not want it ended.
        if self._ids and not body.get("ignore_eos"):
            made["stop_token_ids"] = self._ids
        if self._stop:
            own = body.get("stop") or []
            own = [own] if isinstance(own, str) else own
            made["stop"] = list(dict.fromkeys([*own, *self._stop]))
        return made
