"""What the hub's client raises, said in one line: what was asked, what came, what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.core.errors import GradusError, HubError, StoreError

_LOCAL = (
    "point the recipe at local files (--set base=DIR, --set data.train.path=FILE); "
    "what is locked and already in the store needs no hub"
)


@dataclass(frozen=True)
class Asked:
    """What was asked of which hub.

    Attributes:
        repo_type: ``model`` or ``dataset``.
        repo_id: the repository, ``owner/name``.
        revision: branch, tag or commit.
        endpoint: the hub's address, without a slash at its end.
    """

    repo_type: str
    repo_id: str
    revision: str
    endpoint: str

    def __str__(self) -> str:
        return f"{self.repo_type} {self.repo_id}@{self.revision}"

    @property
    def page(self) -> str:
        """The repository's page."""
        kind = "datasets/" if self.repo_type == "dataset" else ""
        return f"{self.endpoint}/{kind}{self.repo_id}"


def away(asked: Asked, reason: str) -> HubError:
    """The hub cannot be reached."""
    return HubError(
        f"{asked}: the hub at {asked.endpoint} cannot be reached ({reason}); "
        f"check the network, set HF_ENDPOINT to a mirror, or {_LOCAL}"
    )


def offline(asked: Asked) -> HubError:
    """The user has switched the hub off."""
    return HubError(
        f"{asked}: HF_HUB_OFFLINE is set, so the hub is not asked; unset it, or {_LOCAL}"
    )


def translated(error: Exception, asked: Asked) -> GradusError:
    """The GradusError for what the hub's client raised.

    Args:
        error: what was caught; its causes are looked at too, because the client wraps a
            refused or lost connection in its own "not found in the cache".
        asked: what was asked.
    """
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    for cause in _causes(error):
        if isinstance(cause, OfflineModeIsEnabled):
            return offline(asked)
        if isinstance(cause, HfHubHTTPError):
            return _refused(cause, asked)
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return StoreError(f"{asked}: the disk is full; free some space and run again")
        if isinstance(cause, (httpx2.InvalidURL, httpx2.UnsupportedProtocol)):
            return HubError(
                f"{asked}: HF_ENDPOINT is {asked.endpoint!r}, which is not an address; "
                "set it to one such as https://huggingface.co"
            )
        if isinstance(cause, (httpx2.HTTPError, TimeoutError, ConnectionError)):
            return away(asked, _first_line(cause))
    return _odd(error, asked)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _refused(error: Exception, asked: Asked) -> GradusError:
    """An HTTP status of 400 and above."""
    from huggingface_hub import errors as hub

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, hub.GatedRepoError):
        return HubError(
            f"{asked}: the repository is gated; accept its terms at {asked.page} "
            "and set HF_TOKEN to a token of that account"
        )
    if isinstance(error, hub.RevisionNotFoundError):
        return HubError(
            f"{asked}: the repository has no revision {asked.revision!r}; "
            f"choose one of those at {asked.page}/tree/main"
        )
    if isinstance(error, hub.RemoteEntryNotFoundError):
        return HubError(
            f"{asked}: the hub lists a file that it does not have "
            f"({_first_line(error)}); run again, or choose another revision"
        )
    if isinstance(error, hub.RepositoryNotFoundError):
        return HubError(
            f"{asked}: no such {asked.repo_type} at {asked.endpoint}; check the id, "
            "or set HF_TOKEN if the repository is private"
        )
    if isinstance(error, hub.DisabledRepoError):
        return HubError(f"{asked}: the hub has disabled this repository; choose another")
    if status in (401, 403):
        return HubError(
            f"{asked}: the hub refuses the token ({status}); set HF_TOKEN to a valid one "
            f"from {asked.endpoint}/settings/tokens, or unset it for a public repository"
        )
    if status == 429:
        return HubError(
            f"{asked}: the hub answers 429, too many requests; wait some minutes, "
            "or set HF_TOKEN for a higher limit"
        )
    return HubError(
        f"{asked}: the hub at {asked.endpoint} answers {status}, a fault of its own; "
        f"try again later, set HF_ENDPOINT to a mirror, or {_LOCAL}"
    )


def _odd(error: Exception, asked: Asked) -> GradusError:
    """Neither a refusal nor a lost connection."""
    from huggingface_hub.errors import HFValidationError

    if isinstance(error, HFValidationError):
        return HubError(
            f"{asked}: {asked.repo_id!r} is not a hub id; write it as owner/name, "
            "or ./folder for local files"
        )
    if isinstance(error, OSError) and error.errno is not None:
        return StoreError(f"{asked}: cannot be written to disk ({_first_line(error)})")
    return HubError(
        f"{asked}: {asked.endpoint} does not answer as a hub does "
        f"({type(error).__name__}: {_first_line(error)}); check HF_ENDPOINT and the proxy"
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
