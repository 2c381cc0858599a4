"""A stand-in of the model hub's HTTP API on loopback, for the real client libraries to talk to.

It answers as the hub does as far as huggingface_hub asks: repository information with the
files' checksums, tree and paths-info, ``resolve`` with ETag, X-Repo-Commit, ranges and a
redirect of LFS files to a second server (another origin, as the hub's CDN is), gated, private
and missing repositories. Faults are set on the object: see ``HubStandIn``.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.hub_repository import LFS_SUFFIXES, Repository, git_blob_sha1, sibling, tree_entry

GOOD_TOKEN = "hf_goodtoken"  # noqa: S105


@dataclass(frozen=True)
class Request:
    """One line of the request log."""

    server: str  # "hub" or "cdn"
    method: str
    path: str
    range: str | None
    token: str | None
    status: int


class HubStandIn:
    """The two servers, the repositories, and the faults to play.

    Attributes:
        requests: the log, in order of answer.
        cut_after: path of a file to the bytes after which its next GET is cut, once.
        corrupt: paths whose bytes are sent wrong while their checksums stay right.
        fail_with: a status with which every request is answered, or None.
        extra_siblings: more entries for every list of files.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.cut_after: dict[str, int] = {}
        self.corrupt: set[str] = set()
        self.fail_with: int | None = None
        self.extra_siblings: list[dict[str, object]] = []
        self._repos: dict[tuple[str, str], Repository] = {}
        self._lock = threading.Lock()
        self._servers = {name: _Server(name, self) for name in ("hub", "cdn")}

    def __enter__(self) -> HubStandIn:
        for server in self._servers.values():
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for server in self._servers.values():
            server.shutdown()
            server.server_close()

    @property
    def endpoint(self) -> str:
        """What HF_ENDPOINT is to be set to."""
        return self._servers["hub"].address

    @property
    def cdn(self) -> str:
        """The address of the second server."""
        return self._servers["cdn"].address

    def add(
        self,
        repo_type: str,
        repo_id: str,
        files: Mapping[str, bytes],
        revision: str = "main",
        access: str = "public",
    ) -> str:
        """Adds a commit to a repository, moves the branch ``revision`` to it, returns it.

        ``access``: ``public``, ``gated`` (files need GOOD_TOKEN) or ``private`` (all does).
        """
        repo = self._repos.setdefault((repo_type, repo_id), Repository(access))
        seed = json.dumps([repo_id, sorted((p, git_blob_sha1(c)) for p, c in files.items())])
        commit = hashlib.sha1(seed.encode(), usedforsecurity=False).hexdigest()
        repo.commits[commit] = dict(files)
        repo.branches[revision] = commit
        return commit

    def fetched(self, path: str) -> list[Request]:
        """The GET requests for a file's bytes, redirects left out."""
        return [
            request
            for request in self.requests
            if request.method == "GET"
            and unquote(request.path).endswith(f"/{path}")
            and request.status in (200, 206)
        ]

    def find(self, repo_type: str, repo_id: str) -> Repository | None:
        return self._repos.get((repo_type, repo_id))

    def log(self, request: Request) -> None:
        with self._lock:
            self.requests.append(request)

    def take_cut(self, path: str) -> int | None:
        with self._lock:
            return self.cut_after.pop(path, None)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, name: str, stand_in: HubStandIn) -> None:
        self.name = name
        self.stand_in = stand_in
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news here."""


class _Refusal(Exception):
    def __init__(self, status: int, code: str | None = None, message: str = "refused") -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: the log is ``HubStandIn.requests``."""

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self._body = self.rfile.read(length)
        url = urlsplit(self.path)
        self._query = parse_qs(url.query)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        hub = self.server.stand_in
        try:
            if hub.fail_with is not None:
                raise _Refusal(hub.fail_with, None, "a fault that the test asked for")
            if self.server.name == "cdn":
                self._send_file(parts[0], parts[1], parts[2:])
            elif parts[0] == "api" and len(parts) > 2:
                self._api(parts[1].removesuffix("s"), parts[2:])
            else:
                repo_type = "dataset" if parts[0] == "datasets" else "model"
                self._resolve(repo_type, parts[1:] if repo_type == "dataset" else parts)
        except _Refusal as refusal:
            self._refuse(refusal)

    def _token(self) -> str | None:
        authorization = self.headers.get("Authorization")
        return authorization.removeprefix("Bearer ") if authorization else None

    def _repo(self, repo_type: str, repo_id: str) -> Repository:
        token = self._token()
        if token not in (None, GOOD_TOKEN):
            raise _Refusal(401, None, "Invalid credentials in Authorization header")
        repo = self.server.stand_in.find(repo_type, repo_id)
        if repo is None or (repo.access == "private" and token is None):
            # As the hub does, so that nobody learns which private repositories exist.
            raise _Refusal(401 if token is None else 404, "RepoNotFound", "Repository not found")
        return repo

    def _commit(self, repo: Repository, revision: str) -> str:
        commit = repo.branches.get(revision, revision)
        if commit not in repo.commits:
            raise _Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    def _api(self, repo_type: str, parts: list[str]) -> None:
        verbs = ("revision", "tree", "paths-info")
        at = next((i for i, part in enumerate(parts) if part in verbs), len(parts))
        repo_id, verb, rest = "/".join(parts[:at]), (parts[at:] or [""])[0], parts[at + 1 :]
        repo = self._repo(repo_type, repo_id)
        commit = self._commit(repo, rest[0] if rest else "main")
        files = repo.commits[commit]
        if verb == "tree":
            folder = "/".join(rest[1:])
            paths = [path for path in files if not folder or path.startswith(f"{folder}/")]
            self._send_json([tree_entry(path, files[path]) for path in sorted(paths)])
        elif verb == "paths-info":
            asked = parse_qs(self._body.decode()).get("paths", [])
            self._send_json([tree_entry(path, files[path]) for path in asked if path in files])
        else:
            with_blobs = "blobs" in self._query
            siblings = [sibling(path, files[path], with_blobs) for path in sorted(files)]
            self._send_json(
                {
                    "id": repo_id,
                    "sha": commit,
                    "private": repo.access == "private",
                    "gated": "manual" if repo.access == "gated" else False,
                    "siblings": siblings + self.server.stand_in.extra_siblings,
                }
            )

    def _resolve(self, repo_type: str, parts: list[str]) -> None:
        if "resolve" not in parts:
            raise _Refusal(404, None, "no such page")
        at = parts.index("resolve")
        repo_id, revision, path = "/".join(parts[:at]), parts[at + 1], "/".join(parts[at + 2 :])
        repo = self._repo(repo_type, repo_id)
        if repo.access == "gated" and self._token() is None:
            raise _Refusal(401, "GatedRepo", f"Access to {repo_type} {repo_id} is restricted")
        commit = self._commit(repo, revision)
        content = repo.commits[commit].get(path)
        if content is None:
            raise _Refusal(404, "EntryNotFound", "Entry not found")
        if not path.endswith(LFS_SUFFIXES):
            self._send_content(path, content, commit, git_blob_sha1(content))
            return
        target = quote(f"/{repo_type}/{commit}/{repo_id}/-/{path}")
        self._start(
            302,
            {
                "Location": self.server.stand_in.cdn + target,
                "X-Repo-Commit": commit,
                "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
                "X-Linked-Size": str(len(content)),
                "Content-Length": "0",
            },
        )

    def _send_file(self, repo_type: str, commit: str, parts: list[str]) -> None:
        at = parts.index("-")
        repo = self.server.stand_in.find(repo_type, "/".join(parts[:at]))
        path = "/".join(parts[at + 1 :])
        if repo is None:
            raise _Refusal(404)
        content = repo.commits[commit][path]
        self._send_content(path, content, commit, hashlib.sha256(content).hexdigest())

    def _send_content(self, path: str, content: bytes, commit: str, etag: str) -> None:
        hub = self.server.stand_in
        if path in hub.corrupt:
            content = bytes([content[0] ^ 1]) + content[1:]
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
        headers = {
            "ETag": f'"{etag}"',
            "X-Repo-Commit": commit,
            "Accept-Ranges": "bytes",
            "Content-Length": str(len(content) - start),
        }
        if asked:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._start(206 if asked else 200, headers)
        if self.command == "HEAD":
            return
        cut = hub.take_cut(path)
        self.wfile.write(content[start:] if cut is None else content[start : start + cut])
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True

    def _send_json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self._start(200, {"Content-Type": "application/json", "Content-Length": str(len(body))})
        self.wfile.write(body)

    def _refuse(self, refusal: _Refusal) -> None:
        body = json.dumps({"error": refusal.message}).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        headers["X-Error-Message"] = refusal.message
        if refusal.code:
            headers["X-Error-Code"] = refusal.code
        self._start(refusal.status, headers)
        if self.command != "HEAD":
            self.wfile.write(body)

    def _start(self, status: int, headers: dict[str, str]) -> None:
        self.server.stand_in.log(
            Request(
                self.server.name,
                self.command,
                urlsplit(self.path).path,
                self.headers.get("Range"),
                self._token(),
                status,
            )
        )
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
