"""The embedding service as the API sees it: texts in, vectors and scores out, over loopback."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import httpx
import msgspec

from appliance.errors import UnfitServer
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Sequence

BATCH_TEXTS = 16  # a passage costs a CPU about a tenth of a second: a batch stays far below the timeout
TIMEOUT = httpx.Timeout(120, connect=5)


@dataclass(frozen=True, slots=True)
class Encoder:
    """Which model makes the vectors: ``digest`` is over its files, so the same name cannot hide another."""

    model: str
    digest: str  # SHA-256, hexadecimal
    dimension: int


class Embedding(Protocol):
    """What turns texts into vectors, and orders passages for a question."""

    def encoder(self) -> Encoder:
        """Return the model that answers now; raises ``UnfitServer`` where none does."""

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return a vector of ``encoder().dimension`` numbers for each text; none for none."""

    def rerank(self, question: str, texts: Sequence[str]) -> list[float]:
        """Return how well each text answers the question, larger is better; none for none."""


_Said = TypeVar("_Said")
_Found = TypeVar("_Found")


class _Health(msgspec.Struct, frozen=True):
    embedding_model: str
    embedding_digest: str
    dimension: int


class _Row(msgspec.Struct, frozen=True):
    index: int
    embedding: list[float]


class _Embeddings(msgspec.Struct, frozen=True):
    data: list[_Row]
    embedding_digest: str


class _Score(msgspec.Struct, frozen=True):
    index: int
    relevance_score: float


class _Ranking(msgspec.Struct, frozen=True):
    results: list[_Score]


class EmbeddingService:
    """``Embedding`` by HTTP; safe to use from many threads."""

    def __init__(self, url: str) -> None:
        # trust_env: a proxy of the surroundings must not see what the documents say.
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT, trust_env=False)
        self._encoder: Encoder | None = None

    def __enter__(self) -> EmbeddingService:  # noqa: PYI034 - Self is younger than Python 3.10
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def encoder(self) -> Encoder:
        """Ask the service which model it serves, once."""
        if self._encoder is None:
            said = self._ask("GET", "/health", _Health)
            self._encoder = Encoder(said.embedding_model, said.embedding_digest, said.dimension)
        return self._encoder

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Ask in batches; an answer of another model than ``encoder()`` is refused."""
        vectors: list[list[float]] = []
        for start in range(0, len(texts), BATCH_TEXTS):
            vectors += self._batch(list(texts[start : start + BATCH_TEXTS]))
        return vectors

    def rerank(self, question: str, texts: Sequence[str]) -> list[float]:
        """Ask once for all texts."""
        if not texts:
            return []
        asked = {"query": question, "documents": list(texts)}
        said = self._ask("POST", "/v1/rerank", _Ranking, asked)
        scores = {each.index: each.relevance_score for each in said.results}
        return _in_order(scores, len(texts))

    def _batch(self, texts: list[str]) -> list[list[float]]:
        encoder = self.encoder()
        said = self._ask("POST", "/v1/embeddings", _Embeddings, {"input": texts, "model": encoder.model})
        vectors = _in_order({row.index: row.embedding for row in said.data}, len(texts))
        if said.embedding_digest != encoder.digest or any(len(each) != encoder.dimension for each in vectors):
            self._encoder = None  # it was restarted with another model: the next call sees which
            raise UnfitServer(
                text("the embedding service changed its model while it was asked"),
                expected=encoder.digest,
                seen=said.embedding_digest,
                remedy=text("ask again"),
            )
        return vectors

    def _ask(self, method: str, path: str, kind: type[_Said], body: dict[str, Any] | None = None) -> _Said:
        try:
            answer = self._http.request(method, path, json=body)
            answer.raise_for_status()
            return msgspec.json.decode(answer.content, type=kind)
        except (httpx.HTTPError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _silent(self._http.base_url.join(path), error) from error


def _in_order(found: dict[int, _Found], count: int) -> list[_Found]:
    if found.keys() != set(range(count)):
        seen = text("{seen} answers for {count} texts", seen=len(found), count=count)
        raise _silent(None, seen)
    return [found[index] for index in range(count)]


def _silent(where: object, seen: object) -> UnfitServer:
    # httpx names address and status, never what was sent.
    return UnfitServer(
        text("the embedding service gives no answer that can be used"),
        where=where,
        seen=seen,
        remedy=text("look at `systemctl status banip-embed`; after a start it loads its models for a while"),
    )
