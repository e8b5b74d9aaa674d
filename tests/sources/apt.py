"""A real apt repository of a few tiny packages, made by dpkg-deb, flat, over file:// or loopback HTTP.

``essential`` packages stand for what every system has. The server understands ranges and can cut the line, so
that apt's own way of going on is what is tried.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_RANGE = re.compile(r"bytes=(\d+)-")


@dataclass
class AptRepository:
    """Packages in a folder; change them, then ``publish`` again."""

    folder: Path
    stanzas: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"file://{self.folder}/repository"

    def add(self, name: str, version: str = "1.0", payload: bytes = b"", **fields: str) -> Path:
        """Make a package; ``fields`` are those of its control file, ``Pre_Depends`` for ``Pre-Depends``."""
        tree = self.folder / "trees" / f"{name}-{version}"
        (tree / "DEBIAN").mkdir(parents=True, exist_ok=True)
        (tree / "usr/share/doc" / name).mkdir(parents=True, exist_ok=True)
        (tree / "usr/share/doc" / name / "content").write_bytes(payload or name.encode())
        given = {"Architecture": "all"} | {key.replace("_", "-"): value for key, value in fields.items()}
        control = {"Package": name, "Version": version, **given, "Installed-Size": "4"}
        control |= {"Maintainer": "Tests <tests@localhost>", "Description": f"{name}\n and more of {name}"}
        text = "".join(f"{key}: {value}\n" for key, value in control.items())
        (tree / "DEBIAN" / "control").write_text(text, "utf-8")
        (self.folder / "repository").mkdir(exist_ok=True)
        architecture = given["Architecture"]
        path = self.folder / "repository" / f"{name}_{version.replace(':', '%3a')}_{architecture}.deb"
        _run("dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(path))
        self.stanzas[name] = f"{text}Filename: ./{path.name}\n{_sums(path)}"
        return path

    def publish(self) -> None:
        """Write the index and the Release file that names its digest."""
        repository = self.folder / "repository"
        (repository / "Packages").write_text("\n".join(self.stanzas.values()), "utf-8")
        raw = (repository / "Packages").read_bytes()
        head = "Origin: Tests\nLabel: Tests\nSuite: stable\nDate: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n"
        listed = f" {hashlib.sha256(raw).hexdigest()} {len(raw)} Packages\n"
        (repository / "Release").write_text(head + listed, "utf-8")

    def sign(self, home: Path) -> Path:
        """Sign the Release file with a key of its own, kept in ``home``; return the keyring that knows it."""
        home.mkdir(mode=0o700, exist_ok=True)
        gpg = ("gpg", "--homedir", str(home), "--batch", "--pinentry-mode", "loopback", "--passphrase", "")
        if not list(home.glob("*.gpg")):
            _run(*gpg, "--quick-generate-key", "tests@localhost", "ed25519", "sign", "never")
            _run(*gpg, "--output", str(home / "tests.gpg"), "--export")
        repository = self.folder / "repository"
        (repository / "InRelease").unlink(missing_ok=True)
        _run(*gpg, "--output", str(repository / "InRelease"), "--clearsign", str(repository / "Release"))
        return home / "tests.gpg"

    @contextmanager
    def serving(self) -> Iterator[AptServer]:
        """Serve the repository on loopback until the block ends."""
        with AptServer(self.folder / "repository") as server:
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            try:
                yield server
            finally:
                server.shutdown()
                thread.join()


class AptServer(ThreadingHTTPServer):
    """Remembers what was asked for from where on; of a file in ``cut`` sends only so many bytes, once."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.asked: list[tuple[str, int]] = []
        self.cut: dict[str, int] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: AptServer

    def do_GET(self) -> None:
        name = unquote(self.path.strip("/").removeprefix("./"))
        path = self.server.folder / name
        if not path.is_file():
            self.send_error(404)
            return
        whole = path.read_bytes()
        found = _RANGE.match(self.headers.get("Range", ""))
        start = int(found[1]) if found else 0
        self.server.asked.append((name, start))
        self.send_response(206 if found else 200)
        if found:
            self.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
        self.send_header("Content-Length", str(len(whole) - start))
        self.send_header("Last-Modified", self.date_time_string(int(path.stat().st_mtime)))
        self.end_headers()
        end = self.server.cut.pop(name, len(whole))
        self.wfile.write(whole[start:end])
        self.close_connection = end < len(whole)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _sums(path: Path) -> str:
    raw = path.read_bytes()
    return f"Size: {len(raw)}\nSHA256: {hashlib.sha256(raw).hexdigest()}\n"


def _run(*argv: str) -> None:
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (argv, done.stderr)
