"""Qdrant's engine in this process: points in, ranked points out. The only module that knows qdrant_edge.

A point is a passage: vector ``dense`` (cosine), vector ``sparse`` (``sparse.py``, modifier idf), and the
payload of ``_payload``, which has a ``schema`` number. Each change is flushed before its call returns.
"""

from __future__ import annotations

import shutil
import threading
import uuid
from typing import TYPE_CHECKING, Any

from qdrant_edge import (
    CountRequest,
    Distance,
    EdgeConfig,
    EdgeShard,
    EdgeSparseVectorParams,
    EdgeVectorParams,
    FacetRequest,
    FieldCondition,
    Filter,
    Fusion,
    IdfParams,
    MatchAny,
    MatchValue,
    Modifier,
    PayloadSchemaType,
    Point,
    Prefetch,
    Query,
    QueryRequest,
    SearchParams,
    SparseVector,
    UpdateOperation,
)

from appliance.durable import make_folder, sync_folder
from appliance.rag.passages import Hit, Passage
from appliance.rag.ranking import RANK_CONSTANT
from appliance.rag.sparse import sparse_of_passage, sparse_of_question

if TYPE_CHECKING:
    from collections.abc import Collection as Ids
    from collections.abc import Sequence
    from pathlib import Path

    from appliance.format import Grade
    from appliance.rag.ranking import Ranking

SCHEMA = 1
_POINTS_AT_ONCE = 256
_FACETS = 1_000_000  # documents of one collection
_NAMESPACE = uuid.UUID("6c1d2f0e-4a53-4c35-9d0b-7e1f6c1f2b11")  # of point ids; any fixed one


class Shard:
    """One open shard; calls take turns, a search takes milliseconds."""

    def __init__(self, engine: EdgeShard) -> None:
        self._engine = engine
        self._lock = threading.Lock()

    @classmethod
    def create(cls, folder: Path, dimension: int) -> Shard:
        """Make a shard for vectors of that dimension, in place of what is in the folder."""
        shutil.rmtree(folder, ignore_errors=True)
        make_folder(folder, 0o700)
        config = EdgeConfig(
            vectors={"dense": EdgeVectorParams(size=dimension, distance=Distance.Cosine)},
            sparse_vectors={"sparse": EdgeSparseVectorParams(modifier=Modifier.Idf)},
        )
        engine = EdgeShard.create(str(folder), config)
        for field in ("grade", "document"):
            engine.update(UpdateOperation.create_field_index(field, PayloadSchemaType.Keyword))
        engine.flush()
        sync_folder(folder)
        return cls(engine)

    @classmethod
    def load(cls, folder: Path) -> Shard:
        """Open a shard that is there."""
        return cls(EdgeShard.load(str(folder), None))

    def add(self, passages: Sequence[Passage], vectors: Sequence[Sequence[float]]) -> None:
        """Store passages with their vectors, one each; the same passage again replaces itself."""
        points = [_point(*pair) for pair in zip(passages, vectors, strict=True)]
        with self._lock:
            for start in range(0, len(points), _POINTS_AT_ONCE):
                self._engine.update(UpdateOperation.upsert_points(points[start : start + _POINTS_AT_ONCE]))
            self._engine.flush()

    def remove(self, document: str) -> None:
        """Remove the passages of a document."""
        with self._lock:
            self._engine.update(UpdateOperation.delete_points_by_filter(_only("document", [document])))
            self._engine.flush()

    def sweep(self, documents: Ids[str]) -> None:
        """Remove the passages of all other documents: what a killed run began and did not finish."""
        with self._lock:
            found = self._engine.facet(FacetRequest("document", limit=_FACETS, exact=True)).hits
        for value in {str(hit.value) for hit in found} - set(documents):
            self.remove(value)

    def search(
        self, question: str, vector: Sequence[float], grades: Sequence[Grade], ranking: Ranking, limit: int
    ) -> tuple[Hit, ...]:
        """Return at most ``limit`` passages of those grades, by fused rank of both halves."""
        words = sparse_of_question(question)
        allowed = _only("grade", grades)
        halves = [
            Prefetch(limit=limit, query=Query.Nearest(list(vector), using="dense"), filter=allowed),
            Prefetch(
                limit=limit,
                query=Query.Nearest(SparseVector(list(words.indices), list(words.values)), using="sparse"),
                filter=allowed,
                # How rare a word is among what the reader may not see must not show either.
                params=SearchParams(idf=IdfParams(corpus=allowed)),
            ),
        ]
        fusion: Any = Fusion.Rrf(k=RANK_CONSTANT, weights=[ranking.dense, ranking.sparse])
        asked = QueryRequest(limit=limit, prefetches=halves, query=fusion, with_payload=True)
        with self._lock:
            found = self._engine.query(asked)
        return tuple(Hit(_passage(point.payload or {}), point.score) for point in found)

    def vector(self, document: str, number: int) -> list[float] | None:
        """Return the dense vector of a passage as it is stored: of length 1."""
        with self._lock:
            found = self._engine.retrieve([_id(document, number)], with_payload=False, with_vector=True)
        stored: Any = found[0].vector if found else None
        return list(stored["dense"]) if stored else None

    def count(self) -> int:
        """Return the number of passages."""
        with self._lock:
            return self._engine.count(CountRequest(exact=True))

    def optimise(self) -> None:
        """Let the engine index what came in since the last time; nobody else is served meanwhile."""
        with self._lock:
            self._engine.optimize()

    def close(self) -> None:
        """Flush and close."""
        with self._lock:
            self._engine.flush()
            self._engine.close()


def _only(field: str, values: Sequence[str]) -> Filter:
    match = MatchAny(list(values)) if len(values) > 1 else MatchValue(values[0])
    return Filter(must=[FieldCondition(field, match=match)])


def _point(passage: Passage, vector: Sequence[float]) -> Point:
    words = sparse_of_passage(passage.text)
    vectors: dict[str, Any] = {
        "dense": list(vector),
        "sparse": SparseVector(list(words.indices), list(words.values)),
    }
    return Point(_id(passage.document, passage.number), vectors, _payload(passage))


def _id(document: str, number: int) -> str:
    return str(uuid.uuid5(_NAMESPACE, f"{document} {number}"))


def _payload(passage: Passage) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "document": passage.document,
        "name": passage.name,
        "grade": passage.grade,
        "number": passage.number,
        "place": passage.place,
        "text": passage.text,
    }


def _passage(payload: dict[str, Any]) -> Passage:
    return Passage(**{name: value for name, value in payload.items() if name != "schema"})
