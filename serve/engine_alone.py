"""vLLM alone, without a gateway above it: what runs in an engine's container."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import NoReturn

from pipeline.core.errors import EngineError, UserError
from serve.child import clean_environment, launched
from serve.engine_install import find_home
from serve.telling import tell
from serve.vllm_engine import command_line, copies, require_current, served, variables
from serve.whole import read_whole

_MORE_S = 5.0
"""Beyond the drain, until what still runs is killed."""


def become_engine(
    bundle_path: Path, *, host: str, port: int, pooling: str | None, drain_s: int
) -> NoReturn:
    """Replace this process by one that holds vLLM for a bundle: same process id.

    SIGTERM drains it, and whatever does not end then is ended: vLLM that is told while it starts
    waits for ever. Its folder goes with it.

    vLLM has no key and answers whoever reaches it: a network must keep everybody but the
    gateway out where ``host`` is not loopback.

    Args:
        bundle_path: The bundle's folder.
        host: Address to listen on.
        port: TCP port.
        pooling: The engine reads for the heads that pool so; None: it writes.
        drain_s: Seconds that requests under way have after SIGTERM.

    Raises:
        UserError: The bundle will not do, or no head of it pools so.
        IntegrityError: The bundle is not what was made.
        EngineError: vLLM is not installed, or made from another lock file.
    """
    bundle = read_whole(bundle_path, tell)
    adapters = served(bundle, pooling)
    if pooling is not None and not adapters:
        raise UserError(f"--pooling {pooling}: no head of {bundle.name} pools so; leave it out")
    home = find_home()
    if home is None:
        raise EngineError("engine vllm: not installed; run `gradus engine install` first")
    require_current(home)
    folder = Path(tempfile.mkdtemp(prefix="gradus-engine-"))
    command = command_line(
        bundle, home, copies(bundle, adapters, folder), port, pooling=pooling, host=host
    )
    command += ["--shutdown-timeout", str(drain_s)]
    # The launcher goes when its standard input ends, and this one has no owner: it holds both ends.
    read, write = os.pipe()
    os.dup2(read, 0)
    os.set_inheritable(write, True)
    held = launched(folder, drain_s + _MORE_S, command)
    os.execve(held[0], held, clean_environment(**variables(home)))  # noqa: S606
