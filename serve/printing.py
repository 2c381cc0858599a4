"""`gradus serve --print`: what a start would run, as lines for a shell; nothing is started."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core.errors import EngineError, UserError
from serve.adapter_folder import ADAPTER_FILES, adapter_config
from serve.addresses import engine_address
from serve.bundle import Bundle, BundleAdapter, BundleHead
from serve.child import DROPPED, own_environment
from serve.engine_install import EngineHome, find_home
from serve.heads import read_head
from serve.printing_gateway import gateway_lines
from serve.releases import Releases
from serve.versions import room_for
from serve.whole import read_whole

if TYPE_CHECKING:
    from serve.assembly import Serving

# Stands for the engine's private folder until it is written as a shell's variable.
_FOLDER = Path("\0")


def print_serving(bundle_path: Path, settings: Serving, echo: Callable[[str], None]) -> int:
    """Print the engines' commands with the variables that gradus sets, and the gateway's.

    A start takes free ports for its engines; the printed ones follow the gateway's.

    Args:
        bundle_path: The bundle's folder.
        settings: As of ``serve.run.serve``. Keys and passwords are never printed: the lines name
            the variables that have to hold them.
        echo: Told the whole text.

    Returns:
        0.

    Raises:
        UserError: The bundle, the port or an engine's address will not do.
        IntegrityError: The bundle is not what was made.
        EngineError: vLLM was asked for and is not installed.
    """
    bundle = read_whole(bundle_path)
    home = None if settings.engine == "transformers" else find_home()
    lines = [f"# {bundle.name}: {bundle.root}; its base: {bundle.base.path}"]
    # vLLM is told to have no sampling of its own: this is all there is.
    told = json.dumps(bundle.sampling.stated(), sort_keys=True)
    lines.append(f"# sampling, which the gateway adds where a client says nothing: {told}")
    if bundle.stop or bundle.stop_token_ids:
        ends = json.dumps({"stop": bundle.stop, "stop_token_ids": bundle.stop_token_ids})
        lines.append(f"# what ends an answer beside the base's own: {ends}")
    if settings.engine_urls:
        lines += gateway_lines(
            bundle, settings, [engine_address(url) for url in settings.engine_urls]
        )
    elif home is not None:
        ways = sorted({read_head(head).pooling for head in bundle.heads})
        ports = range(settings.port + 1, settings.port + 2 + len(ways))
        if ports[-1] > 65535:
            raise UserError(f"--port {settings.port}: the engines' ports follow it; lower it")
        releases = None if settings.releases is None else Releases(settings.releases)
        room = room_for(releases, bundle)
        for port, pooling in zip(ports, [None, *ways], strict=True):
            lines += _vllm(bundle, home, pooling, port, *room)
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        lines += [f"until curl -sf {url}/health; do sleep 1; done" for url in urls]
        lines += gateway_lines(bundle, settings, urls)
    elif settings.engine == "vllm":
        raise EngineError("engine vllm: not installed; run `gradus engine install` first")
    else:
        lines += _transformers(bundle, settings.port + 1)
        lines += ["# The gateway starts that by itself, and attaches to vLLM alone."]
    echo("\n".join(lines))
    return 0


def _vllm(
    bundle: Bundle, home: EngineHome, pooling: str | None, port: int, room: int, rank: int
) -> Iterator[str]:
    from serve.vllm_engine import ADAPTERS, command_line, served, variables

    adapters = served(bundle, pooling)
    places = {each.name: _FOLDER / ADAPTERS / each.name for each in adapters}
    what = "writes" if pooling is None else f"reads for heads, pooling {pooling}"
    yield f"# vLLM {home.vllm} ({home.device}) that {what}: 127.0.0.1:{port}"
    yield _NEW_FOLDER
    for each in adapters:
        yield from _copy(each, bundle, places[each.name])
    room = room if adapters else 0
    command = command_line(bundle, home, places, port, pooling, room=room, rank=rank)
    yield _started(own_environment(**variables(home, room=room)), command)


def _transformers(bundle: Bundle, port: int) -> Iterator[str]:
    from serve.transformers_engine import command_line, links, variables

    yield f"# transformers serve: 127.0.0.1:{port}; its models are folders"
    yield _NEW_FOLDER
    own: list[BundleAdapter] = list(bundle.adapters)
    places = [_FOLDER / "models" / adapter.name for adapter in own]
    for adapter, place in zip(own, places, strict=True):
        yield from _copy(adapter, bundle, place)
    if bundle.chat_template is not None:
        places.append(_FOLDER / "models" / bundle.base.name)
        yield _line(["mkdir", "-p", str(places[-1])])
    for place in places:
        for name, file in links(bundle).items():
            yield _line(["ln", "-s", str(file), str(place / name)])
    yield _started(own_environment(**variables(_FOLDER)), command_line(bundle, port))


_NEW_FOLDER = 'folder="$(mktemp -d)"'


def _copy(adapter: BundleAdapter | BundleHead, bundle: Bundle, place: Path) -> Iterator[str]:
    """What ``serve.adapter_folder.copy_adapter`` does."""
    config, weights = ADAPTER_FILES
    yield _line(["mkdir", "-p", str(place)])
    text = adapter_config(adapter, bundle.base.path)
    yield f"{_line(['printf', '%s', text])} > {_word(str(place / config))}"
    yield _line(["cp", str(adapter.path / weights), str(place / weights)])


def _started(environment: Mapping[str, str], command: Sequence[str]) -> str:
    """In the background, for the next engine's lines are pasted with it."""
    words = ["env", *(f"-u {name}" for name in DROPPED)]
    words += [f"{name}={_word(value)}" for name, value in environment.items()]
    return " ".join(words) + " \\\n  " + _line(command) + " &"


def _line(words: Sequence[str]) -> str:
    return " ".join(_word(word) for word in words)


def _word(text: str) -> str:
    """One word of a shell, the private folder as its variable."""
    parts = text.split(str(_FOLDER))
    return '"$folder"'.join(shlex.quote(part) if part or len(parts) == 1 else "" for part in parts)
