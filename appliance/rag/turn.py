"""One question and its answer: passages found, a prompt that fits, the model's words, citations checked.

The shapes are those of OpenAI's chat completions, with one more member, ``banip``.
"""

from __future__ import annotations

import secrets
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from anyio import to_thread

from appliance.rag.answer import NOTHING_FOUND, Prompt, citations, prompts
from appliance.rag.chat import Piece
from appliance.rag.guard import ApiError
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from appliance.format import Grade
    from appliance.rag.answer import Citations
    from appliance.rag.chat import ChatModel
    from appliance.rag.retrieval import Retrieval

_TEMPERATURE = 0.2
_PASSED_ON = ("top_p", "seed", "stop")
#: vLLM refuses an empty one; without this bound that would look like a fault of the model's.
_Stop = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class ChatMessage(msgspec.Struct, frozen=True):
    """A message in OpenAI's shape: words, or parts of which some are words."""

    role: str
    content: str | list[dict[str, Any]] | None = None

    def words(self) -> str:
        """Return what it says; pictures and the like say nothing here."""
        if isinstance(self.content, list):
            return "\n".join(str(part.get("text", "")) for part in self.content if part.get("type") == "text")
        return self.content or ""


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a client asks. Members of OpenAI's that are not named here are ignored.

    Only the last message of the user is answered: each question stands alone.
    """

    messages: Annotated[list[ChatMessage], msgspec.Meta(min_length=1, max_length=200)]
    model: str | None = None
    stream: bool = False
    n: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    seed: Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)] | None = None
    stop: _Stop | Annotated[list[_Stop], msgspec.Meta(max_length=16)] | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None

    def question(self) -> str:
        """Return the last message of the user."""
        asked = (message.words().strip() for message in reversed(self.messages) if message.role == "user")
        question = next(asked, "")
        if not question:
            raise ApiError(400, "no_question", text("there is no question: no message of the role user"))
        return question

    def options(self) -> dict[str, Any]:
        """Return what the model is told about how to answer, but for the length."""
        given = {name: getattr(self, name) for name in _PASSED_ON}
        given["temperature"] = _TEMPERATURE if self.temperature is None else self.temperature
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Limits:
    """How many passages go into a prompt at most, and how long an answer may be."""

    passages: int = 6
    answer_tokens: int = 512


@dataclass(frozen=True)
class Turn:
    """A question that is ready to be put to the model."""

    model: str
    prompt: Prompt
    options: Mapping[str, Any]
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(16)}")
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def documents(self) -> tuple[str, ...]:
        """The documents that the model is shown, each once."""
        return tuple(dict.fromkeys(source.hit.passage.document for source in self.prompt.sources))

    def banip(self, checked: Citations | None = None) -> dict[str, Any]:
        """Return our own member of the response: sources, and the citations once they can be checked."""
        cited = checked.valid if checked else ()
        told = {"sources": [source.as_json(cited) for source in self.prompt.sources]}
        return told | ({"citations": checked.as_json()} if checked else {})

    def check(self, answer: str) -> Citations:
        """Check what the answer cites."""
        return citations(answer, self.prompt.sources)

    def chunk(self, delta: Mapping[str, str], finish: str | None = None, **more: object) -> dict[str, Any]:
        """Return one event of a stream."""
        choice = {"index": 0, "delta": dict(delta), "finish_reason": finish}
        return self._shape("chat.completion.chunk", choice) | more

    def completion(self, answer: str, finish: str | None, usage: Mapping[str, int] | None) -> dict[str, Any]:
        """Return the whole answer at once."""
        message = {"role": "assistant", "content": answer}
        choice = {"index": 0, "message": message, "finish_reason": finish or "stop"}
        more = {"usage": dict(usage or _NO_USAGE), "banip": self.banip(self.check(answer))}
        return self._shape("chat.completion", choice) | more

    def _shape(self, kind: str, choice: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": [dict(choice)],
        }


_NO_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


class Answers:
    """Turns questions into turns, and turns into words."""

    def __init__(self, retrieval: Retrieval, chat: ChatModel, limits: Limits) -> None:
        self._retrieval = retrieval
        self._chat = chat
        self._limits = limits

    async def turn(self, asked: ChatRequest, clearance: Grade) -> Turn:
        """Find passages that the clearance may read, and make the largest prompt that the model takes."""
        if asked.model not in (None, self._chat.model):
            words = text("this server has no model {model}", model=asked.model)
            raise ApiError(404, "model_not_found", words)
        question = asked.question()
        hits = await to_thread.run_sync(
            lambda: self._retrieval.search(question, clearance=clearance, limit=self._limits.passages)
        )
        if not hits:
            return Turn(self._chat.model, Prompt((), ()), {})
        room = await self._chat.context_tokens()
        length = min(asked.max_completion_tokens or asked.max_tokens or self._limits.answer_tokens, room // 2)
        for prompt in prompts(question, hits):
            if await self._chat.count(prompt.messages) + length <= room:
                return Turn(self._chat.model, prompt, {**asked.options(), "max_tokens": length})
        raise ApiError(400, "context_length_exceeded", text("the question is too long for the chat model"))

    @asynccontextmanager
    async def answering(self, turn: Turn) -> AsyncIterator[AsyncIterator[Piece]]:
        """Put the question and yield the answer's pieces; without passages nobody is asked."""
        if not turn.prompt.sources:
            yield _nothing_found()
            return
        async with self._chat.answering(turn.prompt.messages, turn.options) as pieces:
            yield pieces


async def _nothing_found() -> AsyncIterator[Piece]:
    yield Piece(NOTHING_FOUND, "stop")
