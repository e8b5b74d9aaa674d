"""The API as the command line on the same server uses it: standard library only, for a quick start."""

from __future__ import annotations

import http.client
import json
import secrets
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from appliance.errors import BadInput, UnfitServer
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from appliance.format import Grade
    from appliance.text import Language

#: Not the port beside it: while the service is down a port can be anybody's, and would be given the key.
DEFAULT_URL = "unix:/run/banip-api/api.sock"
_HERE = {"127.0.0.1", "::1", "localhost"}
_SILENCE_S = 300.0
FILE_MAX_BYTES = 64 << 20  # as the API: said before, for a server that refuses early looks like one that died
_BUSY = 429


class Declined(BadInput):
    """The API does not take what it was given; ``seen`` is why, in its own words."""


class KeyRefused(BadInput):
    """The API does not know the key, or the key may not do this."""


@dataclass(frozen=True)
class Client:
    """The API at ``url`` (its socket or loopback: the key must not leave this server), asked with ``key``."""

    url: str
    key: str
    language: Language = "en"

    def ask(self, question: str) -> Iterator[dict[str, Any]]:
        """Yield the events of an answer: sources first, then words, then the check of its citations.

        Raises ``UnfitServer`` where it breaks off.
        """
        body = {"messages": [{"role": "user", "content": question}], "stream": True}
        with self._asking("POST", "/v1/chat/completions", *_json(body)) as answer:
            for line in answer:
                data = line.decode().strip().removeprefix("data:").strip()
                if data == "[DONE]":
                    return
                if data:
                    yield _event(data, self.url)
        raise _broken_off(self.url)

    def documents(self) -> list[dict[str, Any]]:
        """Return the records of all documents that the key may read."""
        found: list[dict[str, Any]] = self._call("GET", "/v1/documents")["documents"]
        return found

    def ingest(self, name: str, content: bytes, grade: Grade | None) -> dict[str, Any]:
        """Send one file; return its id, name, number of passages, and whether it was there already."""
        return self._call("POST", "/v1/documents", *_form(name, content, {"grade": grade} if grade else {}))

    def ingest_file(self, path: Path, grade: Grade | None) -> dict[str, Any]:
        """Send a file of this disk. Raises ``BadInput`` for one too large, ``OSError`` for none."""
        size_bytes = path.stat().st_size
        if size_bytes > FILE_MAX_BYTES:
            expected = text("at most {limit} bytes", limit=FILE_MAX_BYTES)
            raise BadInput(text("the file is too large"), where=path, expected=expected, seen=size_bytes)
        return self.ingest(path.name, path.read_bytes(), grade)

    def remove(self, document: str) -> None:
        """Remove a document by its id."""
        self._call("DELETE", f"/v1/documents/{quote(document, safe='')}")

    def feedback(self, answer: str, verdict: str, comment: str) -> None:
        """Say what an answer was worth."""
        self._call("POST", "/v1/feedback", *_json({"id": answer, "verdict": verdict, "comment": comment}))

    def me(self) -> dict[str, Any]:
        """Return whose key it is; raises ``KeyRefused`` where it is nobody's."""
        return self._call("GET", "/v1/me")

    def _call(self, method: str, path: str, body: bytes = b"", kind: str = "") -> dict[str, Any]:
        with self._asking(method, path, body, kind) as answer:
            told: dict[str, Any] = json.loads(answer.read())
            return told

    @contextmanager
    def _asking(self, method: str, path: str, body: bytes = b"", kind: str = "") -> Iterator[Any]:
        connection = _connection(self.url)
        headers = {"Authorization": f"Bearer {self.key}", "Accept-Language": self.language}
        try:
            connection.request(method, path, body, headers | ({"Content-Type": kind} if kind else {}))
            answer = connection.getresponse()
            if answer.status >= http.client.BAD_REQUEST:
                raise _refusal(answer.status, answer.read(), self.url)
            yield answer
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise UnfitServer(
                text("the API does not answer"),
                where=self.url,
                seen=str(error) or type(error).__name__,
                remedy=text("look at `appliance status` and the journal of banip-api.service"),
            ) from error
        finally:
            connection.close()


def _connection(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    if parts.scheme == "unix" and not parts.netloc:
        return _UnixConnection(parts.path)
    if parts.scheme != "http" or parts.hostname not in _HERE or parts.path.strip("/"):
        raise BadInput(text("the API is asked on this server only"), expected=DEFAULT_URL, seen=url)
    return http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=_SILENCE_S)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_SILENCE_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket; ``OSError`` where nobody listens."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_SILENCE_S)
        self.sock.connect(self._path)


def _json(value: Mapping[str, Any]) -> tuple[bytes, str]:
    return json.dumps(value).encode(), "application/json"


def _form(name: str, content: bytes, fields: Mapping[str, str]) -> tuple[bytes, str]:
    """Return a form (RFC 7578) with one file; its name travels as UTF-8, quoted as browsers do it."""
    mark = secrets.token_hex(16)
    quoted = name.replace("\\", "/").rpartition("/")[2].replace('"', "%22")
    quoted = "".join(letter for letter in quoted if letter.isprintable())
    lines = [
        f'--{mark}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{fields[key]}\r\n' for key in fields
    ]
    lines.append(f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="{quoted}"\r\n')
    lines.append("Content-Type: application/octet-stream\r\n\r\n")
    head = "".join(lines).encode("utf-8", "replace")
    return head + content + f"\r\n--{mark}--\r\n".encode(), f"multipart/form-data; boundary={mark}"


def _event(data: str, url: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(data)
    if "error" in event:
        raise _broken_off(url, event["error"].get("message"))
    return event


def _broken_off(url: str, reason: str | None = None) -> UnfitServer:
    return UnfitServer(
        text("the answer broke off"), where=url, seen=reason, remedy=text("ask again; see `appliance status`")
    )


def _refusal(status: int, body: bytes, url: str) -> BadInput | UnfitServer:
    try:
        error = json.loads(body)["error"]
        seen = "; ".join(filter(None, (error["message"], error.get("details"))))
    except (ValueError, KeyError, TypeError):
        seen = body[:200].decode("utf-8", "replace")
    if status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
        return KeyRefused(text("the API refuses the key"), where=url, seen=seen)
    if status >= http.client.INTERNAL_SERVER_ERROR or status == _BUSY:
        remedy = text("look at `appliance status` and ask again")
        return UnfitServer(text("the API cannot do this now"), where=url, seen=seen, remedy=remedy)
    return Declined(text("the API does not take this"), seen=seen)
