"""A model hub on loopback that the real huggingface_hub client takes for one: commits, LFS digests, ranges.

It answers what the client asks on its way from a name to bytes: a revision's files with the SHA-256 of the
large ones, the place of a file of a commit with ``ETag`` and ``X-Linked-*``, and the bytes, from any offset.
Small files are answered directly, large ones by a redirect, as the public hub does. It can be told to break
off in the middle of a file, or to serve other bytes than it promised.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from tests.sources.models import WRITERS

if TYPE_CHECKING:
    from collections.abc import Iterator

HUB_PORT = 8650
OWNER = "banip"
_LARGE_SUFFIXES = (".safetensors", ".bin", ".pt", ".onnx")  # in LFS by name, as the public hub's default
_PIECE_BYTES = 64 * 1024


@dataclass(frozen=True)
class Commit:
    """The files of a repository at one commit, by path."""

    id: str
    files: dict[str, bytes]


@dataclass
class LocalHub:
    """What the hub has and how it behaves; the tests change it while it serves."""

    port: int = 0
    commits: dict[str, list[Commit]] = field(default_factory=dict)
    #: Path of a file -> bytes after which the connection is cut, once.
    cuts: dict[str, int] = field(default_factory=dict)
    #: Paths of files that the hub cannot serve any more after it cut the connection.
    last_words: set[str] = field(default_factory=set)
    #: Path of a file -> what is served instead, under the promise made for the right content.
    lies: dict[str, bytes] = field(default_factory=dict)
    #: Paths of files that the hub cannot serve for now.
    away: set[str] = field(default_factory=set)
    #: Requests for bytes: path and first byte.
    served: list[tuple[str, int]] = field(default_factory=list)
    #: Hosts, as the client called them, that were shown a token.
    shown_tokens: set[str] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def publish(self, repository: str, folder: Path) -> str:
        """Make a commit of everything in a folder, the branch main from now on, and return its id."""
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
        said = "".join(f"{hashlib.sha256(content).hexdigest()}  {path}\n" for path, content in files.items())
        commit = Commit(hashlib.sha1(said.encode(), usedforsecurity=False).hexdigest(), files)
        self.commits.setdefault(repository, []).append(commit)
        return commit.id

    def find(self, repository: str, revision: str) -> Commit | None:
        """Return the commit of that id, or the newest for ``main``."""
        commits = self.commits.get(repository, [])
        if revision == "main":
            return commits[-1] if commits else None
        return next((commit for commit in commits if commit.id == revision), None)


@contextmanager
def local_hub(port: int = 0) -> Iterator[LocalHub]:
    """Serve a hub, empty at first, on a loopback port (0: any) until the block ends."""
    hub = LocalHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        server.daemon_threads = True
        hub.port = server.server_address[1]
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


def publish_model(hub: LocalHub, name: str, seed: str) -> str:
    """Make one of the demo's models and publish it as ``banip/NAME``; return its commit."""
    folder = Path(tempfile.mkdtemp(prefix="banip-model-"))
    try:
        return hub.publish(f"{OWNER}/{name}", WRITERS[name](folder, seed))
    finally:
        shutil.rmtree(folder)


def is_large(path: str) -> bool:
    """Tell whether the hub keeps a file in LFS, where it has a SHA-256."""
    return path.endswith(_LARGE_SUFFIXES)


class _Handler(BaseHTTPRequestHandler):
    hub: LocalHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        """Say nothing: what was asked is counted."""

    def _answer(self) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if self.headers.get("Authorization"):
            self.hub.shown_tokens.add(self.headers["Host"].partition(":")[0])
        match parts:
            case ["api", "models", owner, name, "revision", revision]:
                self._information(f"{owner}/{name}", revision)
            case [owner, name, "resolve", revision, *path]:
                self._resolve(f"{owner}/{name}", revision, "/".join(path))
            case ["lfs", owner, name, revision, *path]:
                self._bytes(f"{owner}/{name}", revision, "/".join(path))
            case _:
                self._refuse("EntryNotFound")

    def _information(self, repository: str, revision: str) -> None:
        commit = self.hub.find(repository, revision)
        if commit is None:
            known = repository in self.hub.commits
            self._refuse("RevisionNotFound" if known else "RepoNotFound")
            return
        siblings = [_sibling(path, content) for path, content in commit.files.items()]
        found = {"_id": "0", "id": repository, "sha": commit.id, "private": False, "siblings": siblings}
        self._send(HTTPStatus.OK, {"Content-Type": "application/json"}, json.dumps(found).encode())

    def _resolve(self, repository: str, revision: str, path: str) -> None:
        commit = self.hub.find(repository, revision)
        if commit is None or path not in commit.files:
            self._refuse("EntryNotFound" if commit else "RevisionNotFound")
            return
        headers = {"X-Repo-Commit": commit.id, "ETag": f'"{_etag(path, commit.files[path])}"'}
        if is_large(path):
            headers |= {"X-Linked-ETag": headers["ETag"], "X-Linked-Size": str(len(commit.files[path]))}
            # Another host, as the public hub's store is: the client must not follow when it only asks.
            headers |= {"Location": f"http://localhost:{self.hub.port}/lfs/{repository}/{commit.id}/{path}"}
            self._send(HTTPStatus.FOUND, headers, b"")
        else:
            self._bytes(repository, revision, path, headers)

    def _bytes(
        self, repository: str, revision: str, path: str, headers: dict[str, str] | None = None
    ) -> None:
        commit = self.hub.find(repository, revision)
        if commit is None or path not in commit.files:
            self._refuse("EntryNotFound")
            return
        if path in self.hub.away and self.command == "GET":
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, {}, b"")
            return
        content = self.hub.lies.get(path, commit.files[path])
        start = self._first_byte()
        if self.command == "GET":
            self.hub.served.append((path, start))
        headers = {**(headers or {}), "Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        status = HTTPStatus.PARTIAL_CONTENT if start else HTTPStatus.OK
        self._send(status, headers, content[start:], cut=self._cut(path))

    def _first_byte(self) -> int:
        asked = self.headers.get("Range", "").removeprefix("bytes=").partition("-")[0]
        return int(asked) if asked else 0

    def _cut(self, path: str) -> int | None:
        if self.command != "GET" or path not in self.hub.cuts:
            return None
        if path in self.hub.last_words:
            self.hub.away.add(path)
        return self.hub.cuts.pop(path)

    def _refuse(self, code: str) -> None:
        self._send(HTTPStatus.NOT_FOUND, {"X-Error-Code": code, "X-Error-Message": code}, b"")

    def _send(
        self, status: HTTPStatus, headers: dict[str, str], content: bytes, cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        for start in range(0, len(content if cut is None else content[:cut]), _PIECE_BYTES):
            end = start + _PIECE_BYTES if cut is None else min(start + _PIECE_BYTES, cut)
            self.wfile.write(content[start:end])
        if cut is not None:
            self.close_connection = True


def _sibling(path: str, content: bytes) -> dict[str, object]:
    found: dict[str, object] = {"rfilename": path, "size": len(content), "blobId": _git_blob(content)}
    if is_large(path):
        digest = hashlib.sha256(content).hexdigest()
        found["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
    return found


def _etag(path: str, content: bytes) -> str:
    return hashlib.sha256(content).hexdigest() if is_large(path) else _git_blob(content)


def _git_blob(content: bytes) -> str:
    said = f"blob {len(content)}\0".encode() + content
    return hashlib.sha1(said, usedforsecurity=False).hexdigest()
