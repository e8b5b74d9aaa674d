"""The Banip API in full: answers with checked sources, search, documents, feedback, and the web page.

What is under ``/v1`` wants a key (``Authorization: Bearer ...``), answers in OpenAI's shapes, and shows a key
only what is at or below its clearance, which is never above the grade of the server itself.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from anyio import to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation
from starlette.responses import JSONResponse, Response, StreamingResponse

from appliance.errors import BanipError
from appliance.rag.access import Access, is_through_the_gateway
from appliance.rag.chat import fault_of
from appliance.rag.feedback import Feedback, Opinion
from appliance.rag.guard import CHAT_PATH, DOCUMENTS_PATH, ApiError, Bounds, Guard, trace_of
from appliance.rag.metrics import Metrics
from appliance.rag.page import page_files
from appliance.rag.service import bare_app, release_facts
from appliance.rag.shapes import as_api_error, body_of, error_shape, event, language_of
from appliance.rag.turn import Answers, ChatRequest, Limits
from appliance.rag.upload import read_upload
from appliance.rag.users import within
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    import httpx
    from fastapi import FastAPI
    from starlette.types import Receive, Scope, Send

    from appliance.format import Release
    from appliance.rag.chat import ChatModel, Piece
    from appliance.rag.feedback import FeedbackFile
    from appliance.rag.retrieval import Retrieval
    from appliance.rag.turn import Turn
    from appliance.rag.users import LiveUsers

#: Releases of this product carry a generated chat model that has learned nothing; the page says so.
DEMO_PRODUCT = "demo"


class SearchRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A search without an answer."""

    query: Annotated[str, msgspec.Meta(min_length=1, max_length=4000)]
    limit: Annotated[int, msgspec.Meta(ge=1, le=50)] = 10


@dataclass(frozen=True)
class Parts:
    """What the API is put together from."""

    release: Release
    retrieval: Retrieval
    client: httpx.AsyncClient
    chat: ChatModel
    embed_url: str
    users: LiveUsers
    feedback: FeedbackFile
    limits: Limits = field(default_factory=Limits)
    bounds: Bounds = field(default_factory=Bounds)
    #: Whether questions go to the access log: the site's decision, or None for "on a server of grade O only".
    log_questions: bool | None = None
    metrics: Metrics = field(default_factory=Metrics)


class EventStream(StreamingResponse):
    """A stream that is opened before its first byte goes out, so that a failure there has its status."""

    def __init__(self, opened: AbstractAsyncContextManager[AsyncIterator[bytes]]) -> None:
        super().__init__((), media_type="text/event-stream", headers={"x-accel-buffering": "no"})
        self._opened = opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; when the client goes away, the work for it ends too."""
        async with self._opened as self.body_iterator:
            await super().__call__(scope, receive, send)


class Api:
    """The handlers; each says first who may come in."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._access = Access(parts.users, parts.release.grade)
        self._answers = Answers(parts.retrieval, parts.chat, parts.limits)
        decided = parts.log_questions
        self._logs_questions = parts.release.grade == "O" if decided is None else decided

    async def me(self, request: Request) -> Response:
        """Say who the key is, and what it may read here."""
        user = self._access.user(request)
        return JSONResponse({"name": user.name, "role": user.role, "grade": self._access.clearance(user)})

    async def models(self, request: Request) -> Response:
        """List the one model that answers."""
        self._access.user(request)
        release = self._parts.release
        model = {
            "id": self._parts.chat.model,
            "object": "model",
            "created": int(release.built.timestamp()),
            "owned_by": "banip",
            "banip": {"release": release.id, "demo": release.product == DEMO_PRODUCT},
        }
        return JSONResponse({"object": "list", "data": [model]})

    # --- Answers -------------------------------------------------------------------------------------------

    async def chat(self, request: Request) -> Response:
        """Answer the last question of a conversation with numbered sources."""
        user = self._access.user(request)
        asked = await body_of(request, ChatRequest)
        trace = trace_of(request.scope)
        trace.question = asked.question() if self._logs_questions else None
        turn = await self._answers.turn(asked, self._access.clearance(user))
        trace.answer, trace.documents = turn.id, turn.documents
        if asked.stream:
            return EventStream(self._opened(turn, request))
        words, finish, usage = "", None, None
        async with self._answers.answering(turn) as pieces:
            async for piece in pieces:
                words += piece.words
                finish, usage = piece.finish or finish, piece.usage or usage
        self._count(turn, words)
        return JSONResponse(turn.completion(words, finish, usage))

    @asynccontextmanager
    async def _opened(self, turn: Turn, request: Request) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self._answers.answering(turn) as pieces:
            yield self._events(turn, pieces, request)

    async def _events(
        self, turn: Turn, pieces: AsyncIterator[Piece], request: Request
    ) -> AsyncIterator[bytes]:
        """Yield sources first, then words, then what the citations are worth."""
        words, finish, usage = "", None, None
        yield event(turn.chunk({"role": "assistant", "content": ""}, banip=turn.banip()))
        try:
            async for piece in pieces:
                words += piece.words
                finish, usage = piece.finish or finish, piece.usage or usage
                if piece.words:
                    yield event(turn.chunk({"content": piece.words}))
        except BanipError as error:  # the status is long out: the stream itself has to say it
            self._note(request, error)
            yield event(error_shape(as_api_error(error), language_of(request)))
            return
        self._count(turn, words)
        more = {"usage": dict(usage)} if usage else {}
        yield event(turn.chunk({}, finish or "stop", banip=turn.banip(turn.check(words)), **more))
        yield b"data: [DONE]\n\n"

    def _count(self, turn: Turn, words: str) -> None:
        outcome = "answered" if turn.prompt.sources else "nothing_found"
        self._parts.metrics.answer(outcome, turn.check(words))

    def _note(self, request: Request, error: BanipError) -> None:
        trace_of(request.scope).fault = " ".join(error.lines())
        if request.url.path == CHAT_PATH:
            self._parts.metrics.answer("failed")

    async def search(self, request: Request) -> Response:
        """Return passages for a query, the best first."""
        clearance = self._access.clearance(self._access.user(request))
        asked = await body_of(request, SearchRequest)
        found = await to_thread.run_sync(
            lambda: self._parts.retrieval.search(asked.query, clearance=clearance, limit=asked.limit)
        )
        trace = trace_of(request.scope)
        trace.question = asked.query if self._logs_questions else None
        trace.documents = tuple(dict.fromkeys(hit.passage.document for hit in found))
        results = [asdict(hit.passage) | {"score": hit.score} for hit in found]
        return JSONResponse({"results": results})

    async def opinion(self, request: Request) -> Response:
        """Keep what somebody thought of an answer."""
        user = self._access.user(request)
        given = await body_of(request, Feedback)
        opinion = Opinion(
            time=datetime.now(timezone.utc),
            user=user.name,
            release=self._parts.release.id,
            answer=given.id,
            verdict=given.verdict,
            comment=given.comment,
        )
        await to_thread.run_sync(self._parts.feedback.append, opinion)
        trace_of(request.scope).answer = given.id
        return JSONResponse({"kept": True}, status_code=201)

    # --- Documents -----------------------------------------------------------------------------------------

    async def documents(self, request: Request) -> Response:
        """List the documents that the key may read."""
        clearance = self._access.clearance(self._access.user(request))
        records = await to_thread.run_sync(self._parts.retrieval.documents)
        shown = [asdict(record) for record in records if within(record.grade, clearance)]
        return JSONResponse({"documents": shown})

    async def ingest(self, request: Request) -> Response:
        """Take one file in; the same bytes again change nothing."""
        clearance = self._access.clearance(self._access.admin(request))
        given = await read_upload(request, clearance)
        taken = await to_thread.run_sync(
            lambda: self._parts.retrieval.ingest(given.name, given.content, given.grade)
        )
        trace_of(request.scope).documents = (taken.document,)
        told = asdict(taken) | {"grade": given.grade}
        return JSONResponse(told, status_code=200 if taken.already else 201)

    async def remove(self, request: Request) -> Response:
        """Remove a document; one above the key's clearance is not there."""
        clearance = self._access.clearance(self._access.admin(request))
        document = request.path_params["document"]
        trace_of(request.scope).documents = (document,)
        records = await to_thread.run_sync(self._parts.retrieval.documents)
        grades = {record.document: record.grade for record in records}
        if document not in grades or not within(grades[document], clearance):
            raise ApiError(404, "no_such_document", text("there is no such document"))
        removed = await to_thread.run_sync(self._parts.retrieval.remove, document)
        return JSONResponse({"document": document, "removed": removed})

    # --- State ---------------------------------------------------------------------------------------------

    async def health(self, request: Request) -> Response:
        """Say whether every part can do its work: 200, or 503 naming those that cannot.

        Why a part cannot, which may name files and versions, is said on this server only.
        """
        parts = self._parts
        chat, embed = await asyncio.gather(parts.chat.fault(), fault_of(parts.client, parts.embed_url))
        faults = {"chat": chat, "embed": embed}
        faults["documents"] = await to_thread.run_sync(_fault, parts.retrieval.state)
        faults["users"] = await to_thread.run_sync(_fault, self._access.check)
        unfit = {name: fault for name, fault in faults.items() if fault is not None}
        told: dict[str, Any] = {"status": "unfit" if unfit else "ok", "release": parts.release.id}
        if unfit and is_through_the_gateway(request):
            told["unfit"] = dict.fromkeys(unfit, "unfit")
        elif unfit:
            told |= {"fault": "; ".join(f"{name}: {fault}" for name, fault in unfit.items()), "unfit": unfit}
        return JSONResponse(told, status_code=503 if unfit else 200)

    async def release(self, request: Request) -> Response:
        """Say what is installed, and what the collection is made of."""
        self._access.inside(request)
        state = await to_thread.run_sync(self._parts.retrieval.state)
        return JSONResponse(release_facts(self._parts.release, self._parts.chat.model) | {"retrieval": state})

    async def metrics(self, request: Request) -> Response:
        """Give Prometheus its numbers."""
        self._access.inside(request)
        return Response(self._parts.metrics.exposition(), media_type="text/plain; version=0.0.4")

    # --- Errors --------------------------------------------------------------------------------------------

    async def refuse(self, request: Request, error: Exception) -> Response:
        """Answer an error in OpenAI's shape, in the client's language."""
        told = ApiError(500, "server_fault", text("this is a fault of the API itself"))
        if isinstance(error, BanipError):
            self._note(request, error)
            told = as_api_error(error)
        elif isinstance(error, ApiError):
            told = error
        elif isinstance(error, HTTPException) and error.status_code == 400:  # noqa: PLR2004 - its own name
            told = ApiError(
                400, "invalid_request", text("the form cannot be read: {reason}", reason=error.detail)
            )
        elif isinstance(error, HTTPException):
            told = ApiError(error.status_code, "no_such_address", text("there is nothing at this address"))
        headers = {"retry-after": "2"} if told.status == 429 else {}  # noqa: PLR2004 - its own name
        return JSONResponse(error_shape(told, language_of(request)), told.status, headers)


def _fault(check: Callable[[], object]) -> str | None:
    """Return what a check says is wrong, or None."""
    try:
        check()
    except BanipError as error:
        return " ".join(error.lines())
    return None


def create_full_app(parts: Parts) -> Guard:
    """Put the API together, guarded."""

    @asynccontextmanager
    async def living(_app: FastAPI) -> AsyncIterator[None]:
        async with parts.client:
            yield

    app, api = bare_app(parts.release, living), Api(parts)
    for kind in (ApiError, BanipError, HTTPException, Exception):
        app.add_exception_handler(kind, api.refuse)
    _add_routes(app, api)
    _add_page(app)
    return Guard(app, parts.bounds, parts.metrics)


def _add_routes(app: FastAPI, api: Api) -> None:
    app.post(CHAT_PATH)(api.chat)
    app.post("/v1/search")(api.search)
    app.post("/v1/feedback")(api.opinion)
    app.get(DOCUMENTS_PATH)(api.documents)
    app.post(DOCUMENTS_PATH)(api.ingest)
    app.delete(DOCUMENTS_PATH + "/{document}")(api.remove)
    app.get("/v1/models")(api.models)
    app.get("/v1/me")(api.me)
    app.get("/v1/release")(api.release)
    app.get("/health")(api.health)
    app.get("/metrics")(api.metrics)


def _add_page(app: FastAPI) -> None:
    for path, (kind, content) in page_files().items():
        page = Response(content, media_type=kind, headers={"cache-control": "no-cache"})
        app.get(path, response_model=None)(partial(_give, page))


async def _give(page: Response) -> Response:
    return page
