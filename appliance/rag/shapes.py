"""How the API takes values in and gives them out: bodies, events, and OpenAI's error shape."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from appliance.errors import BadInput, BanipError, UnfitServer
from appliance.rag.guard import ApiError
from appliance.text import Text, printable, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from appliance.text import Language

T = TypeVar("T")
_KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CLIENT_FAULTS = range(400, 500)


async def body_of(request: Request, kind: type[T]) -> T:
    """Return the request's JSON as a value. Raises ``ApiError`` 400 naming the wrong member."""
    try:
        return msgspec.json.decode(await request.body(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        words = text("the request is not what this address takes: {reason}", reason=error)
        raise ApiError(400, "invalid_request", words) from error


def language_of(request: Request) -> Language:
    """Return the language in which the client reads errors."""
    return "ko" if request.headers.get("accept-language", "").lower().startswith("ko") else "en"


def event(value: Mapping[str, Any]) -> bytes:
    """Return one server-sent event."""
    return b"data: " + json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n\n"


def error_shape(error: ApiError, language: Language) -> dict[str, Any]:
    """Return the error as OpenAI's clients know it; ``details`` is ours."""
    server = "server_error" if error.status not in _CLIENT_FAULTS else "invalid_request_error"
    told = {
        "message": error.words.render(language),
        "type": _KINDS.get(error.status, server),
        "param": None,
        "code": error.code,
    }
    details = [_words(detail, language) for detail in error.details if detail is not None]
    return {"error": told | ({"details": "; ".join(details)} if details else {})}


def as_api_error(error: BanipError) -> ApiError:
    """Return what a client is told of an error that another part raised.

    Details go to clients only where the fault is in what they sent; ours may name files of the server.
    """
    if isinstance(error, BadInput):
        return ApiError(422, "unusable", error.happened, error.expected, error.seen, error.remedy)
    if isinstance(error, UnfitServer):
        return ApiError(502, "part_unfit", error.happened)
    return ApiError(500, "server_fault", error.happened)


def _words(detail: object, language: Language) -> str:
    return detail.render(language) if isinstance(detail, Text) else printable(str(detail))
