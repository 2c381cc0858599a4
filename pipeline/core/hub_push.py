"""One commit to a hub's model repository: files as they lie, and files that are made for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.core.errors import GradusError, HubError
from pipeline.core.hub import hub_endpoint, require_online
from pipeline.core.hub_errors import Asked, translated
from pipeline.core.lock import DEFAULT_REVISION

_ELSEWHERE = ", or point the recipe at local files"


def push_files(repo: str, files: Mapping[str, Path | bytes], *, private: bool, message: str) -> str:
    """Makes the repository where there is none, and one commit of all files.

    Args:
        repo: ``owner/name``.
        files: path in the repository to a file, or to its content.
        private: of a repository that is made.
        message: the commit's first line.

    Returns:
        The commit's page.

    Raises:
        HubError: no token; away, refused; in one line with what to do.
    """
    asked = Asked("model", repo, DEFAULT_REVISION, hub_endpoint())
    require_online(asked)
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    if get_token() is None:
        raise HubError(
            f"{repo}: the hub takes nothing without a token; set HF_TOKEN to one that may write "
            f"(from {asked.endpoint}/settings/tokens), or see what would go with --dry-run"
        )
    api = HfApi(endpoint=asked.endpoint)
    try:
        api.create_repo(repo, repo_type="model", private=private, exist_ok=True)
        done = api.create_commit(
            repo,
            repo_type="model",
            operations=[
                CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
                for name, content in sorted(files.items())
            ],
            commit_message=message,
        )
    except Exception as error:
        raise _told(translated(error, asked)) from error
    return str(done.commit_url)


def _told(error: GradusError) -> GradusError:
    """Without the remedies of somebody who downloads."""
    text, found, _ = str(error).partition(_ELSEWHERE)
    return type(error)(text) if found else error
