"""``python -I -m appliance.rag.embed``: the process behind ``banip-embed.service``.

Vectors and reranking by FlagEmbedding, on loopback. ``POST /v1/embeddings`` is shaped as OpenAI's,
``POST /v1/rerank`` as Jina's and Cohere's; ``GET /health`` and ``GET /metrics`` for whoever watches.
Models come from the release's folder and from nowhere else; no text is ever logged.

Only dense vectors are made. A bge-m3 model without ``sparse_linear.pt`` would get random sparse heads from
FlagEmbedding, other ones at each start and without a word; the words half is ``sparse.py``.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

import click
import msgspec
from msgspec import Meta

from appliance.errors import BadInput, UnfitServer
from appliance.format import release_from_bytes
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from appliance.format import Release

    _Answer = Callable[["Models", "Served", bytes], tuple[dict[str, Any], int]]

TEXTS_MAX = 64
TEXT_MAX_CHARACTERS = 8000
BODY_MAX_BYTES = 4 << 20
TOKENS_MAX = 1024  # of a text, or of question and passage together; longer ones are cut
#: FlagEmbedding turns tokens into text and back; unknown characters double on that way, and a question that
#: leaves its passage no room is an exception there. So far below TOKENS_MAX, it cannot.
QUESTION_TOKENS_MAX = 256
_BATCH = 16

#: Before the first import: no hub, no telemetry, no threads that a fork would break.
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
}

_Text = Annotated[str, Meta(min_length=1, max_length=TEXT_MAX_CHARACTERS)]
_Texts = Annotated[list[_Text], Meta(max_length=TEXTS_MAX)]


_Asked = TypeVar("_Asked")


class _ToEmbed(msgspec.Struct, frozen=True):
    input: _Text | _Texts
    model: str | None = None


class _ToRerank(msgspec.Struct, frozen=True):
    query: _Text
    documents: _Texts
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """What this process answers with; ``digest`` is over the embedding model's files."""

    release: str
    embedding_model: str
    embedding_digest: str
    rerank_model: str


class Models(Protocol):
    """The two models, one call at a time; neither is called with nothing."""

    def encode(self, texts: Sequence[str]) -> list[list[float]]:
        """Return vectors of length 1."""

    def score(self, question: str, texts: Sequence[str]) -> list[float]:
        """Return scores between 0 and 1."""


class FlagModels:
    """``Models`` by FlagEmbedding."""

    def __init__(self, embedding: Path, rerank: Path, device: str) -> None:
        os.environ.update(_OFFLINE)
        from FlagEmbedding import BGEM3FlagModel, FlagReranker  # noqa: PLC0415 - torch: seconds and gigabytes

        half = device.startswith("cuda")
        common = {"devices": device, "use_fp16": half, "batch_size": _BATCH}
        self._embedder = BGEM3FlagModel(str(embedding), normalize_embeddings=True, **common)
        lengths = {"max_length": TOKENS_MAX, "query_max_length": QUESTION_TOKENS_MAX}
        self._reranker = FlagReranker(str(rerank), normalize=True, **lengths, **common)
        self._lock = threading.Lock()  # both keep state between calls

    def encode(self, texts: Sequence[str]) -> list[list[float]]:
        """Return a dense vector for each text."""
        with self._lock:
            found = self._embedder.encode(list(texts), max_length=TOKENS_MAX, return_dense=True)
        vectors: list[list[float]] = found["dense_vecs"].astype("float32").tolist()
        return vectors

    def score(self, question: str, texts: Sequence[str]) -> list[float]:
        """Return a score for each text."""
        with self._lock:
            scores = self._reranker.compute_score([(question, each) for each in texts])
        return [float(score) for score in scores]


@click.command()
@click.option("--release", "folder", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--embedding-model", required=True)
@click.option("--rerank-model", required=True)
@click.option("--device", default="cpu", show_default=True, help="As torch names it: cpu, cuda:1.")
@click.option("--port", type=click.IntRange(1, 65535), default=8602, show_default=True)
def main(folder: Path, embedding_model: str, rerank_model: str, device: str, port: int) -> None:
    """Answer on loopback with models of the release in the folder RELEASE."""
    import uvicorn  # noqa: PLC0415 - serving only

    release = release_from_bytes((folder / "metadata" / "release.json").read_bytes())
    served = Served(release.id, embedding_model, model_digest(release, embedding_model), rerank_model)
    model_digest(release, rerank_model)  # it is there
    models = FlagModels(folder / "models" / embedding_model, folder / "models" / rerank_model, device)
    uvicorn.run(create_app(models, served), host="127.0.0.1", port=port, log_level="info", access_log=False)


def model_digest(release: Release, model: str) -> str:
    """Return the SHA-256 over path and digest of each of the model's files, in the order of their names.

    Raises ``UnfitServer`` where the release has no model of that name.
    """
    prefix = f"models/{model}/"
    files = sorted((file.path, file.sha256) for file in release.files if file.path.startswith(prefix))
    if not files:
        names = sorted({file.path.split("/")[1] for file in release.files if file.path.startswith("models/")})
        raise UnfitServer(
            text("the release has no model of this name"), expected=", ".join(names), seen=model
        )
    lines = (f"{digest}  {path.removeprefix(prefix)}\n" for path, digest in files)  # as sha256sum writes them
    return sha256("".join(lines).encode()).hexdigest()


def create_app(models: Models, served: Served) -> Starlette:
    """Make the application; it encodes once before it answers, so that a model that cannot is no service."""
    from starlette.applications import Starlette  # noqa: PLC0415 - serving only
    from starlette.responses import Response  # noqa: PLC0415
    from starlette.routing import Route  # noqa: PLC0415

    meter = _Meter()
    health = _as_plain(served) | {"status": "ok", "dimension": len(models.encode([served.release])[0])}

    def work(endpoint: str, answer: _Answer) -> Route:
        said = meter.measured(endpoint, lambda body: answer(models, served, body))
        return Route(f"/v1/{endpoint}", _posted(said), methods=["POST"])

    def say_health(_: Request) -> Response:
        return _json(health)

    def say_metrics(_: Request) -> Response:
        return Response(meter.page(), media_type="text/plain; version=0.0.4")

    watched = [Route("/health", say_health), Route("/metrics", say_metrics)]
    return Starlette(routes=[*watched, work("embeddings", embeddings), work("rerank", ranking)])


class _Meter:
    """Counts requests, their time and their texts, for Prometheus."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Histogram  # noqa: PLC0415 - serving only

        self._registry = CollectorRegistry()
        common: dict[str, Any] = {"labelnames": ["endpoint"], "registry": self._registry}
        self._seconds = Histogram("banip_embed_seconds", "Time of a request.", **common)
        self._texts = Histogram("banip_embed_texts", "Texts of a request.", buckets=(1, 4, 16, 64), **common)

    def measured(
        self, endpoint: str, answer: Callable[[bytes], tuple[dict[str, Any], int]]
    ) -> Callable[[bytes], dict[str, Any]]:
        """Return the answer without its count, which is kept here."""

        def measuring(body: bytes) -> dict[str, Any]:
            start = time.monotonic()
            said, count = answer(body)
            self._seconds.labels(endpoint).observe(time.monotonic() - start)
            self._texts.labels(endpoint).observe(count)
            return said

        return measuring

    def page(self) -> bytes:
        """Return what ``/metrics`` answers."""
        from prometheus_client import generate_latest  # noqa: PLC0415 - serving only

        return generate_latest(self._registry)


def embeddings(models: Models, served: Served, body: bytes) -> tuple[dict[str, Any], int]:
    """Return the answer to ``/v1/embeddings`` and the number of texts; raises ``BadInput``."""
    asked = _decoded(body, _ToEmbed)
    _check_model(asked.model, served.embedding_model)
    texts = [asked.input] if isinstance(asked.input, str) else asked.input
    vectors = models.encode(texts) if texts else []  # FlagEmbedding fails on an empty list
    rows = [
        {"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": 0, "total_tokens": 0}  # OpenAI's clients want them; nobody here counts tokens
    names = {"model": served.embedding_model, "embedding_digest": served.embedding_digest}
    return {"object": "list", "data": rows, "usage": usage, **names}, len(texts)


def ranking(models: Models, served: Served, body: bytes) -> tuple[dict[str, Any], int]:
    """Return the answer to ``/v1/rerank``, in the order asked, and the number of texts; or ``BadInput``."""
    asked = _decoded(body, _ToRerank)
    _check_model(asked.model, served.rerank_model)
    scores = models.score(asked.query, asked.documents) if asked.documents else []
    results = [{"index": index, "relevance_score": score} for index, score in enumerate(scores)]
    return {"results": results, "model": served.rerank_model}, len(asked.documents)


def _decoded(body: bytes, kind: type[_Asked]) -> _Asked:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(text("this is not a request for vectors or scores"), seen=error) from error


def _check_model(asked: str | None, served: str) -> None:
    if asked not in (None, served):
        raise BadInput(text("another model is served here"), expected=served, seen=asked)


def _posted(answer: Callable[[bytes], dict[str, Any]]) -> Callable[[Request], Awaitable[Response]]:
    from starlette.concurrency import run_in_threadpool  # noqa: PLC0415 - serving only

    async def handle(request: Request) -> Response:
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > BODY_MAX_BYTES:
                return _json({"error": {"message": f"more than {BODY_MAX_BYTES} bytes"}}, 413)
        try:
            return _json(await run_in_threadpool(answer, body))
        except BadInput as error:
            return _json(
                {"error": {"message": "\n".join(error.lines()), "type": "invalid_request_error"}}, 400
            )

    return handle


def _json(said: object, status: int = 200) -> Response:
    from starlette.responses import Response  # noqa: PLC0415 - serving only

    return Response(msgspec.json.encode(said), status, media_type="application/json")


def _as_plain(served: Served) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(served)
    return plain


if __name__ == "__main__":
    main()
