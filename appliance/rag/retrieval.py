"""What the API asks of retrieval, whatever engine answers: documents in, passages out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from appliance.format import Grade  # noqa: TC001 - records are read from JSON by their annotations

if TYPE_CHECKING:
    from appliance.rag.passages import Hit


@dataclass(frozen=True, slots=True)
class Ingested:
    """What taking a document in came to; ``already``: these very bytes were in, nothing changed."""

    document: str  # SHA-256 of the bytes, hexadecimal
    name: str
    passages: int
    already: bool


@dataclass(frozen=True, slots=True)
class DocumentRecord:
    """One document of the collection."""

    document: str
    name: str
    grade: Grade
    passages: int
    size_bytes: int
    ingested_at: str  # ISO 8601, UTC


class Retrieval(Protocol):
    """A collection of documents; safe to call from many threads."""

    def ingest(self, name: str, content: bytes, grade: Grade) -> Ingested:
        """Parse, cut, embed and store a document; when it returns, a power cut no longer loses it.

        Raises ``BadInput`` for a file that cannot be read, and for bytes that are in under another grade;
        ``UnfitServer`` where the embedding service does not answer.
        """

    def documents(self) -> tuple[DocumentRecord, ...]:
        """Return every document of the collection, whatever its grade, the oldest first."""

    def remove(self, document: str) -> bool:
        """Remove a document by its id; False where there is none."""

    def search(self, question: str, *, clearance: Grade, limit: int) -> tuple[Hit, ...]:
        """Return at most ``limit`` passages, the best first, of grades that the clearance may read.

        The grade is part of every query to the engine, never a filter over its answer.
        Raises ``UnfitServer`` where the embedding service does not answer.
        """

    def state(self) -> dict[str, Any]:
        """Return engine, versions, embedding model and its digest, counts: for /health and /v1/release."""
