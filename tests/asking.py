"""The full API as a real process, with a real collection, between two small services made here.

``Upstream`` speaks as vLLM does and says what a test tells it to; ``Embedder`` makes vectors of letter pairs.
The real ones are in the test of the whole stack.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx

from appliance.clock import utc_now
from appliance.format import release_to_bytes
from appliance.rag.users import UserFile
from tests.serving import PROJECT, free_port, wait_for
from tests.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from appliance.format import Grade
    from appliance.rag.users import Role

MODEL = "tiny-chat"
DIMENSION = 256


@dataclass
class Upstream:
    """A chat model that says ``words``; ``fault`` is how it fails; ``asked`` is what reached it."""

    words: list[str] = field(default_factory=lambda: ["출장비는 ", "10일 안에 정산합니다 [1]."])
    context_tokens: int = 4096
    fault: str | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    #: Set: the words may flow. A test that clears it holds the answer back.
    flowing: threading.Event = field(default_factory=threading.Event)
    gone: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.flowing.set()

    def prompt(self) -> str:
        """Everything that the last question put before the model."""
        return "\n".join(message["content"] for message in self.asked[-1]["messages"])

    def get(self, path: str) -> tuple[int, Any]:
        if path == "/health":
            return (503 if self.fault == "unfit" else 200), {}
        return 200, {"data": [{"id": MODEL, "max_model_len": self.context_tokens}]}

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/tokenize":
            return 200, {"count": sum(len(message["content"]) for message in body["messages"])}
        self.asked.append(body)
        if self.fault == "refuses":
            return 500, {"error": {"message": "engine dead"}}
        return 200, self._stream()

    def _stream(self) -> Iterator[bytes]:
        for word in self.words:
            yield _event({"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})
            self.flowing.wait(20)
            if self.fault == "breaks off":
                return
            if self.fault == "babbles":
                yield b"data: {\n\n"
        yield _event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        yield _event(
            {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}}
        )
        yield b"data: [DONE]\n\n"


@dataclass
class Embedder:
    """An embedding service: texts that share letter pairs are near each other."""

    fault: str | None = None

    def get(self, _path: str) -> tuple[int, Any]:
        told = {
            "status": "ok",
            "embedding_model": "pairs",
            "embedding_digest": "ab" * 32,
            "dimension": DIMENSION,
        }
        return (503 if self.fault else 200), told

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if self.fault:
            return 500, {}
        if path == "/v1/embeddings":
            rows = [{"index": at, "embedding": vector(words)} for at, words in enumerate(body["input"])]
            return 200, {"data": rows, "embedding_digest": "ab" * 32}
        asked = pairs(body["query"])
        shares = [len(asked & pairs(words)) / max(len(asked), 1) for words in body["documents"]]
        return 200, {"results": [{"index": at, "relevance_score": share} for at, share in enumerate(shares)]}


def pairs(words: str) -> set[str]:
    letters = "".join(words.split())
    return {letters[at : at + 2] for at in range(len(letters) - 1)}


def vector(words: str) -> list[float]:
    found = [1e-3] * DIMENSION
    for pair in pairs(words):
        found[zlib.crc32(pair.encode()) % DIMENSION] += 1.0
    return found


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


@contextmanager
def service(world: Upstream | Embedder) -> Iterator[str]:
    """Serve it on loopback; yield its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._give(*world.get(self.path))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._give(*world.post(self.path, body))

        def _give(self, status: int, value: Any) -> None:  # noqa: ANN401
            if isinstance(value, dict):
                self._whole(status, json.dumps(value).encode())
                return
            self.send_response(status)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            try:
                for piece in value:
                    self.wfile.write(piece)
                    self.wfile.flush()
            except OSError:
                assert isinstance(world, Upstream)
                world.gone.set()

        def _whole(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@dataclass
class Desk:
    """A running API and what is around it; ``root`` is Banip's root on its server."""

    root: Path
    port: int
    upstream: Upstream
    embedder: Embedder
    process: subprocess.Popen[bytes]
    log: Path
    keys: dict[tuple[str, str, str], str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def socket(self) -> str:
        """Where the command line on the same server asks."""
        return f"unix:{self.root}/api.sock"

    @property
    def data(self) -> Path:
        return self.root / "data" / "api"

    @property
    def users(self) -> UserFile:
        return UserFile(self.data / "users.json")

    def key(self, name: str, grade: Grade = "S", role: Role = "user") -> str:
        """The key of that name, made at first."""
        wanted = (name, grade, role)
        if wanted not in self.keys:
            self.keys[wanted] = self.users.replace(name, grade, role, utc_now())
        return self.keys[wanted]

    def client(self, key: str | None = None, **headers: str) -> httpx.Client:
        known = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=known | headers, trust_env=False, timeout=30)

    def put(self, key: str, name: str, words: str, grade: Grade | None = None) -> httpx.Response:
        """Take a document in."""
        with self.client(key) as client:
            fields = {"grade": grade} if grade else {}
            return client.post("/v1/documents", files={"file": (name, words.encode())}, data=fields)

    def line(self, response: httpx.Response) -> dict[str, Any]:
        """What the access log says of a request; it is written after the last byte has gone out."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for line in self.log.read_text("utf-8").splitlines():
                if line.startswith("{") and response.headers["x-request-id"] in line:
                    told: dict[str, Any] = json.loads(line)
                    return told
            time.sleep(0.02)
        raise AssertionError(self.log.read_text("utf-8"))


def question(words: str, **more: object) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": words}], **more}


def events(response: httpx.Response) -> list[dict[str, Any]]:
    """Return a stream's events; the last must be its end."""
    data = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    return [json.loads(each) for each in data if each != "[DONE]"] + [{"done": True}] * (data[-1] == "[DONE]")


@contextmanager
def desk(root: Path, *options: str) -> Iterator[Desk]:
    """Run the API over a fresh root, graded S, until the block ends."""
    folder, data, log = root / "release", root / "data" / "api", root / "log"
    (folder / "metadata").mkdir(parents=True)
    (folder / "metadata" / "release.json").write_bytes(release_to_bytes(World().release))
    data.mkdir(parents=True)
    upstream, embedder, port = Upstream(), Embedder(), free_port()
    with service(upstream) as chat_url, service(embedder) as embed_url, log.open("wb") as out:
        argv = [sys.executable, "-m", "appliance.rag", "--release", str(folder), "--port", str(port)]
        argv += ["--chat-url", chat_url, "--chat-model", MODEL, "--embed-url", embed_url, "--data", str(data)]
        argv += ["--socket", str(root / "api.sock")]
        with subprocess.Popen([*argv, *options], cwd=PROJECT, stderr=out) as process:
            try:
                wait_for(process, port)
                yield Desk(root, port, upstream, embedder, process, log)
            finally:
                upstream.flowing.set()
                process.terminate()
