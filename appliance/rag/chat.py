"""The chat model behind the API: an OpenAI-compatible service on this server, vLLM.

What it says is passed on piece by piece. Whatever goes wrong with it is one ``UnfitServer``.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from appliance.errors import UnfitServer
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

_PROBE_S = 3.0
_CONNECT_S = 5.0
_SILENCE_S = 120.0  # a CPU may think that long before its first word
#: Qwen3 would spend the answer's tokens on thinking aloud; templates that do not know the word ignore it.
_TEMPLATE = {"chat_template_kwargs": {"enable_thinking": False}}


@dataclass(frozen=True, slots=True)
class Piece:
    """The next words of an answer; ``finish`` on the last one, ``usage`` when all is said."""

    words: str = ""
    finish: str | None = None
    usage: Mapping[str, int] | None = None


def make_client() -> httpx.AsyncClient:
    """Return a client that talks to this server only: no proxy, no variable, no netrc of the environment."""
    timeout = httpx.Timeout(_SILENCE_S, connect=_CONNECT_S)
    return httpx.AsyncClient(trust_env=False, timeout=timeout, follow_redirects=False)


class ChatModel:
    """The service at ``url`` that serves ``model``."""

    def __init__(self, client: httpx.AsyncClient, url: str, model: str) -> None:
        self._client = client
        self._url = url.rstrip("/")
        self.model = model

    async def context_tokens(self) -> int:
        """Return how many tokens prompt and answer may have together, as the service is set up now."""
        with _naming_faults(self._url):
            answer = await self._client.get(f"{self._url}/v1/models")
            told = _json_of(answer, self._url)
        models = {each.get("id"): each for each in told.get("data", [])}
        length = models.get(self.model, {}).get("max_model_len")
        if not isinstance(length, int):
            raise _unfit(self._url, f"max_model_len of {self.model}: {length!r}")
        return length

    async def count(self, messages: Sequence[Mapping[str, str]]) -> int:
        """Return the tokens of a prompt as the model's own template and tokenizer make them."""
        body = {"model": self.model, "messages": list(messages), **_TEMPLATE}
        with _naming_faults(self._url):
            answer = await self._client.post(f"{self._url}/tokenize", json=body)
            count = _json_of(answer, self._url).get("count")
        if not isinstance(count, int):
            raise _unfit(self._url, f"count of tokens: {count!r}")
        return count

    @asynccontextmanager
    async def answering(
        self, messages: Sequence[Mapping[str, str]], options: Mapping[str, Any]
    ) -> AsyncIterator[AsyncIterator[Piece]]:
        """Ask, and yield the answer's pieces; on entry the service has accepted the question.

        Leaving the block early ends the work over there too.
        """
        body = {
            "model": self.model,
            "messages": list(messages),
            **options,
            "stream": True,
            "stream_options": {"include_usage": True},
            **_TEMPLATE,
        }
        with _naming_faults(self._url):
            async with self._client.stream("POST", f"{self._url}/v1/chat/completions", json=body) as answer:
                if answer.status_code != httpx.codes.OK:
                    await answer.aread()
                    _json_of(answer, self._url)
                yield _pieces(answer, self._url)

    async def fault(self) -> str | None:
        """Return why it cannot answer now, or None."""
        return await fault_of(self._client, self._url)


async def fault_of(client: httpx.AsyncClient, url: str) -> str | None:
    """Ask a service for its health; return what is wrong in one line, or None."""
    try:
        answer = await client.get(f"{url.rstrip('/')}/health", timeout=_PROBE_S)
    except httpx.HTTPError as error:
        return f"{type(error).__name__}: {error}".rstrip(": ")
    return None if answer.status_code == httpx.codes.OK else f"HTTP {answer.status_code}"


async def _pieces(answer: httpx.Response, url: str) -> AsyncIterator[Piece]:
    """Yield the pieces of a stream of server-sent events; a stream that stops before its end is a fault."""
    async for line in answer.aiter_lines():
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            return
        yield _piece(data, url)
    raise _unfit(url, "the stream ended before [DONE]")


def _piece(data: str, url: str) -> Piece:
    try:
        event = json.loads(data)
        if "error" in event:
            raise _unfit(url, str(event["error"])[:500])
        choice: dict[str, Any] = next(iter(event.get("choices") or []), {})
        words = (choice.get("delta") or {}).get("content") or ""
        return Piece(words, choice.get("finish_reason"), event.get("usage"))
    except (ValueError, AttributeError, TypeError) as error:
        raise _unfit(url, f"{error}: {data[:200]}") from error


@contextmanager
def _naming_faults(url: str) -> Iterator[None]:
    """Turn every failure of the connection into ``UnfitServer`` with the service's address."""
    try:
        yield
    except httpx.HTTPError as error:
        raise _unfit(url, f"{type(error).__name__}: {error}".rstrip(": ")) from error


def _json_of(answer: httpx.Response, url: str) -> dict[str, Any]:
    if answer.status_code != httpx.codes.OK:
        raise _unfit(url, f"HTTP {answer.status_code}: {answer.text[:500]}")
    try:
        told = answer.json()
    except ValueError as error:
        raise _unfit(url, answer.text[:200]) from error
    if not isinstance(told, dict):
        raise _unfit(url, answer.text[:200])
    return told


def _unfit(url: str, seen: str) -> UnfitServer:
    return UnfitServer(
        text("the chat model does not answer as it should"),
        where=url,
        seen=seen,
        remedy=text("look at `appliance status` and the journal of banip-vllm.service"),
    )
