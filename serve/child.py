"""One engine process, started through the launcher, with its log and its end."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from pipeline.core.errors import EngineError
from serve.launcher import GRACE_S, PID_FILE

STOP_S = 20.0
LAUNCHER = Path(__file__).with_name("launcher.py")
# What would reach from this process's Python into another's, and secrets that are the gateway's.
DROPPED = (
    *("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"),
    *("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "VLLM_SERVER_DEV_MODE"),
    *("GRADUS_API_KEY", "GRADUS_ENGINE_KEY", "GRADUS_USAGE_URL"),
)


def launched(folder: Path, grace_s: float, command: Sequence[str]) -> list[str]:
    """The command line that runs ``command`` under the launcher; see ``serve.launcher``."""
    return [sys.executable, "-S", str(LAUNCHER), str(folder), f"{grace_s:g}", *command]


class Child:
    """An engine's processes, from start to the last one's end.

    The runtime folder is private (mode 0700), and the launcher removes it with the engine;
    the log stays readable after that, because this side holds it open.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.folder = Path(tempfile.mkdtemp(prefix=f"gradus-{name}-"))
        self._log: IO[bytes] = (self.folder / "engine.log").open("w+b")
        self._last = ""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log_path(self) -> Path:
        """Where the log can be followed while the engine runs."""
        return self.folder / "engine.log"

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start ``command`` under the launcher.

        Raises:
            EngineError: The operating system would not start it.
        """
        try:
            self._process = subprocess.Popen(
                launched(self.folder, GRACE_S, command),
                stdin=subprocess.PIPE,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                # Not in the terminal's group: ctrl-C reaches the owner alone, who stops it.
                start_new_session=True,
            )
        except OSError as error:
            raise EngineError(f"{self._name}: cannot start {command[0]}: {error}") from None

    @property
    def pid(self) -> int | None:
        """The launcher's process id; every engine process is its descendant."""
        return None if self._process is None else self._process.pid

    def alive(self) -> bool:
        """Whether the engine's main process runs."""
        return self._process is not None and self._process.poll() is None

    def log_tail(self, lines: int = 20) -> str:
        """The log's last lines, after the end too."""
        if self._log.closed:
            return "\n".join(self._last.splitlines()[-lines:])
        size = os.fstat(self._log.fileno()).st_size
        tail = os.pread(self._log.fileno(), 16_384, max(0, size - 16_384))
        return "\n".join(tail.decode("utf-8", "replace").splitlines()[-lines:])

    def stop(self) -> None:
        """End every process of the engine and remove its folder; may be called twice."""
        process = self._process
        if process is not None:
            if process.stdin is not None:
                # The end of the pipe is the launcher's word to stop; it waits, then kills.
                process.stdin.close()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._end_left_behind()
        self._last = self.log_tail(200)
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end_left_behind(self) -> None:
        """Where the launcher itself was killed, the engine's group is still there."""
        try:
            group = int((self.folder / PID_FILE).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


def free_port() -> int:
    """A TCP port on loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def own_environment(**extra: str) -> dict[str, str]:
    """The variables that an engine gets from gradus: offline, and without usage telemetry."""
    return {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "PYTHONUNBUFFERED": "1",
        **extra,
    }


def clean_environment(**extra: str) -> dict[str, str]:
    """This process's environment without ``DROPPED``, and ``own_environment`` over it."""
    kept = {key: value for key, value in os.environ.items() if key not in DROPPED}
    return {**kept, **own_environment(**extra)}
