"""A stub of the few endpoints by which huggingface_hub makes a repository and a commit.

It is no hub: it keeps what is sent, in memory, and refuses what a hub would: another token, bytes
that do not match their checksum, a file in a commit that was never uploaded.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import urlsplit

from tests.hub_stand_in import GOOD_TOKEN

COMMIT = "c0ffee" + "0" * 34


class HubPushStub:
    """The server and what it was sent.

    Attributes:
        made: repository to whether it is private.
        files: repository to path to bytes, as committed.
        paths: of all requests, in order.
    """

    def __init__(self) -> None:
        self.made: dict[str, bool] = {}
        self.files: dict[str, dict[str, bytes]] = {}
        self.blobs: dict[str, bytes] = {}
        self.paths: list[str] = []
        stub = self

        class Handler(_Handler):
            hub = stub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def endpoint(self) -> str:
        """What HF_ENDPOINT is to be set to."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> HubPushStub:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: HubPushStub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: what came lies in ``HubPushStub``."""

    def do_POST(self) -> None:
        path, body = self._asked()
        parts = path.strip("/").split("/")
        if not path:
            return
        if path == "/api/repos/create":
            told = json.loads(body)
            repo = f"{told['organization']}/{told['name']}"
            self.hub.made.setdefault(repo, told.get("visibility") == "private")
            self._answer({"url": f"{self.hub.endpoint}/{repo}", "id": "1"})
        elif path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif parts[:2] == ["api", "models"] and parts[4] == "preupload":
            files = [
                {
                    "path": file["path"], "shouldIgnore": False, "oid": None,
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                }
                for file in json.loads(body)["files"]
            ]  # fmt: skip
            self._answer({"files": files})
        elif path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.hub.endpoint}/blob/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            self._answer({"transfer": "basic", "objects": objects})
        elif parts[:2] == ["api", "models"] and parts[4] == "commit":
            self._commit("/".join(parts[2:4]), body)
        else:
            self._answer({"error": "no such endpoint in the stub"}, 404)

    def do_PUT(self) -> None:
        path, body = self._asked()
        oid = path.rpartition("/")[2]
        right = hashlib.sha256(body).hexdigest() == oid
        if right:
            self.hub.blobs[oid] = body
        self._answer({}, 200 if right else 400)

    def _commit(self, repo: str, body: bytes) -> None:
        files = self.hub.files.setdefault(repo, {})
        for line in body.splitlines():
            told = json.loads(line)
            value = told["value"]
            if told["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif told["key"] == "lfsFile":
                if value["oid"] not in self.hub.blobs:
                    self._answer({"error": "a file that was never uploaded"}, 400)
                    return
                files[value["path"]] = self.hub.blobs[value["oid"]]
        page = f"{self.hub.endpoint}/{repo}/commit/{COMMIT}"
        self._answer({"success": True, "commitOid": COMMIT, "commitUrl": page})

    def _asked(self) -> tuple[str, bytes]:
        length = self.headers.get("Content-Length")
        body = self.rfile.read(int(length)) if length else self._chunks()
        path = urlsplit(self.path).path
        self.hub.paths.append(path)
        token = self.headers.get("Authorization")
        if token != f"Bearer {GOOD_TOKEN}" and not path.startswith("/blob/"):
            self._answer({"error": "Invalid credentials in Authorization header"}, 401)
            return "", b""
        return path, body

    def _chunks(self) -> bytes:
        found = b""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return found
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _answer(self, tree: object, status: int = 200) -> None:
        content = json.dumps(tree).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
