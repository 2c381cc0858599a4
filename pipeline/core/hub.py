"""Hub revisions: resolve one to its commit, download the files of a commit and check them all.

huggingface_hub does the talking. It is imported inside the functions, and the endpoint is read
from the environment at each call, because the library reads it only once, at its import.
"""

from __future__ import annotations

import glob
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from pipeline.core.errors import HubError, StoreError
from pipeline.core.hub_errors import Asked, away, offline, translated
from pipeline.core.hub_files import NOTES, HubFile, chosen_files, is_whole, require_whole
from pipeline.core.lock import DEFAULT_REVISION, RepoType

T = TypeVar("T")
Progress = Callable[[int, int], None]

# A hub that is away is reported within 10 s; start-up takes its part of them.
REACH_TIMEOUT_S = 8.0
# The checksums of a data set of many thousand files take the hub its time.
METADATA_TIMEOUT_S = 120.0
_WORKERS = 4


def hub_endpoint() -> str:
    """The hub's address: HF_ENDPOINT, or the public hub."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def resolve_revision(
    repo_type: RepoType,
    repo_id: str,
    revision: str | None = None,
    timeout_s: float = REACH_TIMEOUT_S,
) -> str:
    """The commit that a revision stands for now.

    One attempt. ``timeout_s`` bounds all of it: name lookup, connection, a server that
    trickles, where the client's own timeouts bound only each single read.

    Args:
        repo_type: ``model`` or ``dataset``.
        repo_id: the repository, ``owner/name``.
        revision: branch, tag or commit; None is ``main``.
        timeout_s: seconds after which the hub counts as away.

    Returns:
        40 hex digits.

    Raises:
        HubError: away, offline, not found, gated, refused; in one line with what to do.
    """
    asked = Asked(repo_type, repo_id, revision or DEFAULT_REVISION, hub_endpoint())
    commit = _info(asked, timeout_s, files_metadata=False).sha
    if not commit:
        raise HubError(f"{asked}: {asked.endpoint} names no commit; check HF_ENDPOINT")
    return str(commit)


def download_snapshot(
    repo_type: RepoType,
    repo_id: str,
    commit: str,
    out: Path,
    allow_patterns: Sequence[str] | None = None,
    ignore_patterns: Sequence[str] | None = None,
    on_progress: Progress | None = None,
) -> list[str]:
    """Downloads the files of a commit into ``out`` and checks each against the hub's checksum.

    Call it again with the same ``out`` after an interruption: whole files stay, the others
    are fetched anew. Of a model, weights come as safetensors only. Nothing that would have to
    be unpickled is fetched.

    Args:
        repo_type: ``model`` or ``dataset``.
        repo_id: the repository, ``owner/name``.
        commit: 40 hex digits, from ``resolve_revision`` or the lock file.
        out: the folder; empty, or the rest of an earlier attempt at the same commit.
        allow_patterns: only files that match one of these shell patterns, if given.
        ignore_patterns: and none that match one of these.
        on_progress: called with (bytes done, bytes in all), from several threads in turn.

    Returns:
        The paths of the snapshot's files relative to ``out``, sorted.

    Raises:
        HubError: as ``resolve_revision``; or a file whose checksum is wrong (it is removed).
        ModelError: the weights are pickled, and there are no others.
        StoreError: no room on the disk.
    """
    asked = Asked(repo_type, repo_id, commit, hub_endpoint())
    # A short question first: a hub that is away shall not take the long timeout of the next one.
    resolve_revision(repo_type, repo_id, commit, REACH_TIMEOUT_S)
    info = _info(asked, METADATA_TIMEOUT_S, files_metadata=True)
    files = chosen_files(asked, info.siblings or [], allow_patterns, ignore_patterns)
    missing = [file for file in files if not is_whole(out, file)]
    if missing:
        _fetch(asked, out, files, missing, on_progress)
    shutil.rmtree(out / NOTES, ignore_errors=True)
    if (out / ".cache").is_dir() and not any((out / ".cache").iterdir()):
        (out / ".cache").rmdir()
    return [file.path for file in files]


def _info(asked: Asked, timeout_s: float, files_metadata: bool) -> Any:
    """The hub's description of a repository at a revision (ModelInfo or DatasetInfo)."""
    require_online(asked)
    from huggingface_hub import HfApi

    def ask() -> Any:
        api = HfApi(endpoint=asked.endpoint)
        question = api.model_info if asked.repo_type == "model" else api.dataset_info
        return question(
            asked.repo_id,
            revision=asked.revision,
            timeout=timeout_s,
            files_metadata=files_metadata,
        )

    try:
        return _within(timeout_s, ask)
    except TimeoutError as error:
        raise away(asked, f"no answer within {timeout_s:g} s") from error
    except Exception as error:
        # The body of a captive portal or a wrong endpoint can break the client anywhere.
        raise translated(error, asked) from error


def require_online(asked: Asked) -> None:
    """Passes where the user has not switched the hub off.

    Raises:
        HubError: HF_HUB_OFFLINE is set.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise offline(asked)
    from huggingface_hub import constants

    # With telemetry on, the client asks the hub for a second thing (which tools call it) before
    # the first request: three more seconds when the hub is away, and a file in the user's home.
    constants.HF_HUB_DISABLE_TELEMETRY = True


def _within(timeout_s: float, call: Callable[[], T]) -> T:
    """The result of ``call``, or TimeoutError.

    A daemon thread: neither a name lookup nor a trickling read can be interrupted, and an
    executor's thread would hold the interpreter at its end.
    """
    future: Future[T] = Future()

    def body() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=body, name="hub", daemon=True).start()
    return future.result(timeout_s)


def _fetch(
    asked: Asked,
    out: Path,
    files: Sequence[HubFile],
    missing: Sequence[HubFile],
    on_progress: Progress | None,
) -> None:
    """Downloads the missing files and checks them."""
    from huggingface_hub import snapshot_download

    out.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(out, missing)
    _require_room(asked, out, missing)
    total_bytes = sum(file.size_bytes for file in files)
    done_bytes = total_bytes - sum(file.size_bytes for file in missing)
    try:
        snapshot_download(
            asked.repo_id,
            repo_type=asked.repo_type,
            revision=asked.revision,
            local_dir=out,
            endpoint=asked.endpoint,
            allow_patterns=[glob.escape(file.path) for file in missing],
            max_workers=_WORKERS,
            tqdm_class=_reporter(on_progress, done_bytes, total_bytes),
        )
    except Exception as error:
        raise translated(error, asked) from error
    require_whole(asked, out, missing)


def _clear_leftovers(out: Path, missing: Sequence[HubFile]) -> None:
    # The client names its partial files at random and never takes up those of a killed process.
    for leftover in (out / NOTES).rglob("*.incomplete"):
        leftover.unlink(missing_ok=True)
    # A file that is there and is not whole would count as done by its name.
    for file in missing:
        (out / file.path).unlink(missing_ok=True)


def _require_room(asked: Asked, out: Path, missing: Sequence[HubFile]) -> None:
    needed_bytes = sum(file.size_bytes for file in missing)
    free_bytes = shutil.disk_usage(out).free
    if needed_bytes > free_bytes:
        raise StoreError(
            f"{out}: {asked} needs {needed_bytes / 1e9:.1f} GB and {free_bytes / 1e9:.1f} GB are "
            "free; free some space, or move the store to another disk"
        )


def _reporter(on_progress: Progress | None, done_bytes: int, total_bytes: int) -> Any:
    """A progress bar class for the client that draws nothing and tells ``on_progress``."""
    from huggingface_hub.utils.tqdm import tqdm

    lock = threading.Lock()
    state = {"done_bytes": done_bytes}

    class Reporter(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            # Of the client's three bars this one counts the bytes that reached the disk.
            self._counts_bytes = kwargs.get("name") == "huggingface_hub.snapshot_download"
            quiet = {**kwargs, "disable": True}
            super().__init__(*args, **quiet)  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            if on_progress is None or not self._counts_bytes:
                return
            with lock:
                state["done_bytes"] += int(n or 0)
                on_progress(min(state["done_bytes"], total_bytes), total_bytes)

    return Reporter
