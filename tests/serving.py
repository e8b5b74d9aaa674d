"""The Banip API as a real process on loopback."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(folder: Path, model: str) -> Iterator[int]:
    """Run the API for a release folder until the block ends; yield its port."""
    port = free_port()
    words = ["--release", str(folder), "--model", model, "--port", str(port)]
    argv = [sys.executable, "-m", "appliance.rag", *words]
    with subprocess.Popen(argv, cwd=PROJECT, stderr=subprocess.PIPE) as process:
        try:
            wait_for(process, port)
            yield port
        finally:
            process.terminate()


def wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        if _is_open(port):
            return
        time.sleep(0.05)
    process.kill()
    raise AssertionError(process.stderr.read() if process.stderr else b"")


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ask(port: int, path: str) -> tuple[int, dict[str, Any]]:
    """Return status and JSON of a GET."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()
