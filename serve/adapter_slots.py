"""Adapters of one running vLLM: loaded and taken out while it answers."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.core.errors import EngineError
from serve.bundle import BundleAdapter, BundleHead

Adapter = BundleAdapter | BundleHead
_LOAD_S = 120.0
_GONE_S = 5.0


class EngineAway(EngineError):
    """It cannot be done now, and may be in a moment."""


class AdapterSlots:
    """What an engine holds, by its own names.

    vLLM forgets the name of an adapter that it unloads and leaves the weights in their slot. On
    a CPU a base request beside adapter requests gets what lies in the last slot (vllm #48421), so
    there the weights have to leave too, by the worker's own call.
    """

    def __init__(
        self, url: str, own: Mapping[str, Adapter], *, room: int, rank: int, removes: bool
    ) -> None:
        """
        Args:
            url: The engine's, without a path.
            own: What it is started with.
            room: How many more may be held at a time; 0: nothing can be loaded later.
            rank: The largest that a slot holds.
            removes: Weights leave their slot with their name.
        """
        self._url = url
        self._held: dict[str, Adapter] = dict(own)
        self._places: dict[str, Path] = {}
        self._ids: dict[str, int] = {}
        self._copy: Callable[[str, Adapter], Path] | None = None
        self._removes = removes
        self._lock = threading.Lock()
        self.room = room
        self.rank = rank
        self.capacity = len(own) + room

    @property
    def held(self) -> Mapping[str, Adapter]:
        """The engine's name to what it stands for."""
        return self._held

    @property
    def full(self) -> bool:
        """Nothing more can be loaded before something is taken out."""
        return len(self._held) >= self.capacity

    def placed(self, copy: Callable[[str, Adapter], Path]) -> dict[str, Path]:
        """Copies of all that is held, for the engine's start, and the way of later copies.

        Args:
            copy: Writes an adapter as the engine reads it; gives its folder.
        """
        with self._lock:
            self._copy = copy
            self._places = {name: copy(name, each) for name, each in self._held.items()}
            # vLLM numbers its adapters in the order in which it is told of them.
            self._ids = {name: place for place, name in enumerate(self._places, start=1)}
            return dict(self._places)

    def load(self, name: str, adapter: Adapter) -> None:
        """Has the engine hold an adapter under ``name``; requests under way keep theirs.

        Raises:
            EngineAway: No slot is free, or the engine does not answer.
            EngineError: No slot is large enough, or the engine will not.
        """
        with self._lock:
            if name in self._held:
                return
            if self.full or self._copy is None:
                raise EngineAway(
                    f"{name}: the engine holds {len(self._held)} versions and has room for no "
                    "more; end a trial with `gradus rollback`, or wait until old ones are unused"
                )
            if adapter.rank > self.rank:
                raise EngineError(
                    f"{name}: rank {adapter.rank}, and the engine was started for {self.rank}; "
                    "start it again"
                )
            place = self._copy(name, adapter)
            before = self._listed() if self._removes else set()
            self._post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(place)})
            # Whoever looks at what is held sees one state of it.
            self._held = {**self._held, name: adapter}
            self._places[name] = place
            if self._removes:
                # Numbers grow, and what a request brings back has an old one.
                self._ids[name] = max(self._listed() - before, default=0)

    def unload(self, name: str) -> None:
        """Takes an adapter out that no request uses.

        Raises:
            EngineError: The engine will not.
        """
        with self._lock:
            if name not in self._held:
                return
            self._post("/v1/unload_lora_adapter", {"lora_name": name})
            number = self._ids.pop(name, 0)
            if self._removes and number:
                self._remove(name, number)
            self._held = {held: each for held, each in self._held.items() if held != name}
            self._places.pop(name, None)

    def _remove(self, name: str, number: int) -> None:
        """Until it has left: a batch that was being built may have brought it back."""
        ends = time.monotonic() + _GONE_S
        while number in self._listed():
            self._post("/collective_rpc", {"method": "remove_lora", "args": [number]})
            if time.monotonic() > ends:
                raise EngineError(f"{name}: the engine does not let its weights go; restart it")

    def _listed(self) -> set[int]:
        told = json.loads(self._post("/collective_rpc", {"method": "list_loras"}))
        return {int(number) for number in told["results"][0]}

    def _post(self, path: str, body: Mapping[str, Any]) -> bytes:
        # A proxy from the environment must not see this traffic.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(  # noqa: S310, an address that gradus made
            self._url + path, json.dumps(body).encode(), headers
        )
        try:
            with opener.open(request, timeout=_LOAD_S) as answer:
                whole: bytes = answer.read()
                return whole
        except urllib.error.HTTPError as error:
            told = error.read()[:300].decode("utf-8", "replace")
            raise EngineError(
                f"the engine's {path} was answered with {error.code}: {told}"
            ) from None
        except OSError as error:
            raise EngineAway(f"the engine's {path} does not answer ({error})") from None
