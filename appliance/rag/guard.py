"""What holds for every request: bounded in size and in number, counted, and told to the log in one line.

A line says who (the name of the key), when, what, how it ended and which documents were shown; never a key,
and the question only where the site has decided so.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from appliance.rag.metrics import Metrics
    from appliance.text import Text

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Application = Callable[[Scope, Receive, Send], Awaitable[None]]

ACCESS_LOG = logging.getLogger("banip.access")
CHAT_PATH = "/v1/chat/completions"
DOCUMENTS_PATH = "/v1/documents"
_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'; "
        "require-trusted-types-for 'script'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class ApiError(Exception):
    """An answer in OpenAI's error shape: status, a stable code, words for a person, what explains them."""

    def __init__(self, status: int, code: str, words: Text, *details: object) -> None:
        super().__init__(str(words))
        self.status = status
        self.code = code
        self.words = words
        self.details = details


@dataclass
class Trace:
    """What one request leaves in the log; handlers fill it in."""

    id: str = field(default_factory=lambda: secrets.token_hex(8))
    user: str | None = None
    answer: str | None = None
    documents: tuple[str, ...] = ()
    question: str | None = None
    fault: str | None = None


def trace_of(scope: Scope) -> Trace:
    """Return the trace of the request in work."""
    trace: Trace = scope["state"]["trace"]
    return trace


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bytes of a JSON request and of an upload, and how many answers may be under way at once."""

    json_bytes: int = 256 * 1024
    upload_bytes: int = 65 * 1024 * 1024  # the largest document, and the form around it
    answers: int = 8


class Guard:
    """The outermost layer of the API, an ASGI application around another."""

    def __init__(self, app: Application, bounds: Bounds, metrics: Metrics) -> None:
        self._app = app
        self._bounds = bounds
        self._metrics = metrics
        self._answering: set[_Visit] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, whatever becomes of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = _Visit(scope, send, self._answering)
        try:
            refusal = self._refusal(scope)
            limited = _refusing(refusal) if refusal else self._bounded(scope, receive)
            await self._app(scope, limited, visit.send)
        finally:
            self._answering.discard(visit)
            self._tell(visit)

    def _refusal(self, scope: Scope) -> ApiError | None:
        if len(self._answering) > self._bounds.answers and scope["path"] == CHAT_PATH:
            return ApiError(429, "busy", text("too many questions at once; ask again in a moment"))
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._limit(scope):
            return _too_large(self._limit(scope))
        return None

    def _limit(self, scope: Scope) -> int:
        is_upload = scope["path"] == DOCUMENTS_PATH
        return self._bounds.upload_bytes if is_upload else self._bounds.json_bytes

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        """Count what arrives: a request may state no length, or a false one."""
        left = self._limit(scope)

        async def bounded() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise _too_large(self._limit(scope))
            return message

        return bounded

    def _tell(self, visit: _Visit) -> None:
        line = visit.line()
        self._metrics.request(visit.route, line["method"], line["status"], line["duration_ms"] / 1000)
        ACCESS_LOG.info(json.dumps(line, ensure_ascii=False))


def _refusing(refusal: ApiError) -> Receive:
    """Give a request that is refused as soon as somebody asks for its body."""

    async def refuse() -> Message:
        raise refusal

    return refuse


def _too_large(limit: int) -> ApiError:
    words = text("the request is larger than the {limit} bytes that are taken", limit=limit)
    return ApiError(413, "request_too_large", words)


class _Visit:
    """One request from its first byte to its last."""

    def __init__(self, scope: Scope, send: Send, answering: set[_Visit]) -> None:
        self._scope = scope
        self._send = send
        self._answering = answering
        if (scope["method"], scope["path"]) == ("POST", CHAT_PATH):
            answering.add(self)
        self._began = time.monotonic()
        self._status = 0  # nobody was answered: the client went away
        self.trace = Trace()
        scope.setdefault("state", {})["trace"] = self.trace

    @property
    def route(self) -> str:
        """The route's pattern, so that ids and wrong addresses do not become names of metrics."""
        return str(getattr(self._scope.get("route"), "path", "other"))

    async def send(self, message: Message) -> None:
        """Pass a message on; every answer gets the same headers."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            own = {name for name, _ in message["headers"]}
            more = _HEADERS | {"cache-control": "no-store", "x-request-id": self.trace.id}
            message["headers"] += [
                (name.encode(), value.encode()) for name, value in more.items() if name.encode() not in own
            ]
        elif not message.get("more_body"):
            self._answering.discard(
                self
            )  # before the client knows, so that its next question is not one too many
        await self._send(message)

    def line(self) -> dict[str, Any]:
        """Return what the log says of it."""
        client = self._scope.get("client")
        told = {
            "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "request": self.trace.id,
            "client": client[0] if client else None,
            "user": self.trace.user,
            "method": self._scope["method"],
            "path": self._scope["path"],
            "status": self._status,
            "duration_ms": round(1000 * (time.monotonic() - self._began), 1),
        }
        more = {name: getattr(self.trace, name) for name in ("answer", "documents", "question", "fault")}
        return told | {name: value for name, value in more.items() if value}
