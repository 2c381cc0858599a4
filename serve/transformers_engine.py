"""`transformers serve` as the embedded default, where vLLM is not installed.

Chat only, one request at a time per model, one copy of the base in memory per model.
It loads whatever path a client names, so it stands behind the gateway's closed table only.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from serve.adapter_folder import ADAPTER_FILES, copy_adapter
from serve.bundle import TEMPLATE_FILE, Bundle
from serve.child import Child, clean_environment, free_port
from serve.engine import Unsupported, await_http, warm_up

# What it honours (5.19). It ignores the other OpenAI fields with a line in its log, and reads
# frequency_penalty as a repetition penalty, so they are refused rather than passed on.
_HONOURED = frozenset(
    {"model", "messages", "stream", "max_tokens", "temperature", "top_p", "seed", "stop", "tools"}
)
# Fields whose usual values change nothing.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "parallel_tool_calls": (True,),
    "response_format": ({"type": "text"},),
    "tool_choice": ("auto", "none"),
    "ignore_eos": (False,),
    "return_token_ids": (False,),
}
# Words about the request, not about the answer; it puts usage on every stream as it is.
_DROPPED = frozenset({"user", "metadata", "stream_options"})


def command_line(bundle: Bundle, port: int) -> list[str]:
    """The command that starts `transformers serve` for a bundle."""
    return [
        *(sys.executable, str(Path(sys.executable).with_name("transformers")), "serve"),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--dtype", bundle.dtype, "--model-timeout", "-1"),
    ]


def variables(folder: Path) -> dict[str, str]:
    """What its environment has beyond that of any engine; ``folder`` is its private one."""
    # A cache folder of its own: it must not find other models by name.
    return {"HF_HOME": str(folder / "hub")}


def links(bundle: Bundle) -> dict[str, Path]:
    """Name to file: what lies, as links, beside an adapter's own files in a model's folder."""
    found = {
        file.name: file
        for file in sorted(bundle.base.path.iterdir())
        if file.name not in ADAPTER_FILES and file.is_file()
    }
    if bundle.chat_template is not None:
        found[TEMPLATE_FILE] = bundle.chat_template
    return found


class TransformersEngine:
    """`transformers serve` as a supervised child; see ``serve.engine.Engine``."""

    def __init__(self, bundle: Bundle) -> None:
        """
        Args:
            bundle: What to serve.

        Raises:
            UserError: Its sampling asks for what no request could be given.
        """
        self.name = "transformers"
        self._bundle = bundle
        for penalty in ("presence_penalty", "frequency_penalty"):
            if value := getattr(bundle.sampling, penalty):
                raise UserError(
                    f"{bundle.root}: sampling.{penalty} is {value:g}, which the transformers "
                    "engine cannot do; install vLLM (`gradus engine install`), or leave it out"
                )
        self._port = free_port()
        self._child = Child(self.name)
        laid_out = self._child.folder / "models"
        folders = {adapter.name: laid_out / adapter.name for adapter in bundle.adapters}
        own = bundle.chat_template is not None
        # With a template that is not its own, the base needs a folder too.
        base = laid_out / bundle.base.name if own else bundle.base.path
        folders = {bundle.base.name: base, **folders}
        self.models: Mapping[str, str] = {name: str(path) for name, path in folders.items()}
        self.echoes: Mapping[str, str] = {path: f"{path}@main" for path in self.models.values()}

    @property
    def base_url(self) -> str:
        """Where the engine listens."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int | None:
        """Process id of the launcher above the engine's processes."""
        return self._child.pid

    @property
    def log_path(self) -> Path | None:
        """Where the log can be followed while the engine runs."""
        return self._child.log_path

    def request(self, body: dict[str, Any]) -> dict[str, Any]:
        """The request as `transformers serve` takes it.

        Everything about generation goes through its ``generation_config`` field: with the
        plain fields it stays greedy at any temperature, and knows no stop ids.

        Raises:
            Unsupported: It would ignore or misread a field.
        """
        given = {key: value for key, value in body.items() if value is not None}
        limit = given.pop("max_completion_tokens", given.get("max_tokens"))
        stop_token_ids = given.pop("stop_token_ids", [])
        chat_template_kwargs = given.pop("chat_template_kwargs", {})
        sampling: dict[str, Any] = {
            key: given.pop(key) for key in ("top_k", "min_p", "repetition_penalty") if key in given
        }
        for key in list(given):
            if key in _HONOURED:
                continue
            if key not in _DROPPED and given[key] not in _NEUTRAL.get(key, ()):
                raise Unsupported(key, "the transformers engine cannot do this; use vLLM")
            del given[key]
        most = self._bundle.max_model_len
        given["max_tokens"] = most if limit is None else min(limit, most)
        config = self._generation(given, sampling, stop_token_ids)
        given["generation_config"] = json.dumps(config)
        if chat_template_kwargs:
            given["chat_template_kwargs"] = chat_template_kwargs
        return given

    def _generation(
        self, given: Mapping[str, Any], sampling: Mapping[str, Any], stop_token_ids: list[int]
    ) -> dict[str, Any]:
        ends, pad = _end_tokens(self._bundle.base.path)
        temperature = given.get("temperature", 1.0)
        return {
            # OpenAI's defaults, not transformers': temperature 1 and no cut at the 50 likeliest.
            "do_sample": temperature > 0,
            "top_k": max(0, sampling.get("top_k", 0)),
            "min_p": sampling.get("min_p"),
            "repetition_penalty": sampling.get("repetition_penalty", 1.0),
            "max_new_tokens": given["max_tokens"],
            "eos_token_id": sorted({*ends, *stop_token_ids}) or None,
            "pad_token_id": pad,
        }

    def start(self) -> None:
        """Lay out one folder per model and start the server."""
        for adapter in self._bundle.adapters:
            folder = Path(self.models[adapter.name])
            copy_adapter(adapter, self._bundle.base.path, folder)
            self._link_base(folder)
        if self._bundle.chat_template is not None:
            self._link_base(Path(self.models[self._bundle.base.name]))
        self._child.start(
            command_line(self._bundle, self._port),
            clean_environment(**variables(self._child.folder)),
        )

    def _link_base(self, folder: Path) -> None:
        """Links to the base's files beside an adapter's: "a model with an embedded adapter".

        A plain adapter folder with an absolute base is answered 500 (it looks for config.json
        there); this form is loaded as base plus adapter.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for name, file in links(self._bundle).items():
            (folder / name).symlink_to(file)

    def wait_ready(self, timeout_s: float = 120.0) -> None:
        """Return when every model is loaded and has answered."""
        deadline = time.monotonic() + timeout_s
        await_http(self, "/health", deadline)
        warm_up(self, deadline)

    def alive(self) -> bool:
        """Whether the server's process runs."""
        return self._child.alive()

    def log_tail(self) -> str:
        """The end of the server's log."""
        return self._child.log_tail()

    def stop(self) -> None:
        """End the server and remove the private folder."""
        self._child.stop()


def _end_tokens(base: Path) -> tuple[list[int], int | None]:
    """The base's own end-of-text ids and its padding id."""
    for name in ("generation_config.json", "config.json"):
        place = base / name
        if not place.is_file():
            continue
        config = json.loads(place.read_bytes())
        ends = config.get("eos_token_id")
        if ends is not None:
            ends = ends if isinstance(ends, list) else [ends]
            return ends, config.get("pad_token_id", ends[0])
    return [], None
