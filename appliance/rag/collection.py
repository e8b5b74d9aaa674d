"""The collection: documents on disk, their passages in Qdrant Edge, found by meaning and by words together.

::

    FOLDER/collection.json    which encoder and which sparse scheme made it; written once, before the shard
    FOLDER/documents/<id>     the file's bytes, and <id>.json its record: a document is in when that is there
    FOLDER/shard/             Qdrant's own; what is of documents without a record is swept at the next start

One process has a collection open at a time. What is slow, parsing and embedding, holds no lock.
"""

from __future__ import annotations

import fcntl
import os
import threading
from contextlib import contextmanager
from datetime import datetime, timezone
from hashlib import sha256
from importlib import metadata
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from appliance.durable import make_folder, remove_file, write_file
from appliance.errors import AlreadyRunning, BadInput, Tampered, UnfitServer
from appliance.rag.documents import clean_name, read_document
from appliance.rag.passages import Hit, Passage, normalise, readable_grades
from appliance.rag.ranking import BALANCED, rerank_order
from appliance.rag.retrieval import DocumentRecord, Ingested
from appliance.rag.shard import Shard
from appliance.rag.sparse import SCHEME
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from appliance.format import Grade
    from appliance.rag.embedding import Embedding
    from appliance.rag.ranking import Ranking

_Value = TypeVar("_Value")

FORMAT = 1
CANDIDATES = 20  # passages that are fused and reranked, at least
QUESTION_MAX_CHARACTERS = 2000


class Made(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a collection was made with; vectors of another model would be compared like apples and pears."""

    format: int
    model: str
    digest: str  # of the embedding model's files
    dimension: int
    sparse: str


class Collection:
    """``Retrieval`` over one folder; use ``open_collection``."""

    def __init__(
        self, folder: Path, embedding: Embedding, ranking: Ranking, now: Callable[[], datetime]
    ) -> None:
        self._folder, self._embedding, self._ranking, self._now = folder, embedding, ranking, now
        self._lock = threading.RLock()  # of the fields below and of the two folders
        self._records = _records(folder / "documents")
        self._made = _made(folder)
        self._shard = Shard.load(folder / "shard") if self._made else None
        _sweep(folder / "documents", self._records)
        if self._shard:
            self._shard.sweep(self._records.keys())
            self._shard.optimise()

    def ingest(self, name: str, content: bytes, grade: Grade) -> Ingested:
        """Take a document in; see ``Retrieval``."""
        document, name = sha256(content).hexdigest(), clean_name(name)
        with self._lock:
            found = self._records.get(document)
        if found is None:
            passages = read_document(document, name, grade, content)
            vectors = self._embedding.embed([passage.text for passage in passages])
            with self._lock:
                found = self._records.get(document)  # somebody may have been faster
                if found is None:
                    return self._keep(content, passages, vectors)
        if found.grade != grade:
            raise BadInput(
                text("this document is in the collection under another grade"),
                where=found.name,
                expected=found.grade,
                seen=grade,
                remedy=text("remove it first, then take it in under its new grade"),
            )
        return Ingested(document, found.name, found.passages, already=True)

    def documents(self) -> tuple[DocumentRecord, ...]:
        """Return every document, the oldest first."""
        with self._lock:
            return tuple(sorted(self._records.values(), key=lambda each: (each.ingested_at, each.name)))

    def remove(self, document: str) -> bool:
        """Remove a document: its record first, so that a power cut cannot leave half of one that is in."""
        with self._lock:
            if document not in self._records:
                return False
            remove_file(self._file(document, ".json"))
            del self._records[document]
            if self._shard:
                self._shard.remove(document)
            remove_file(self._file(document))
            return True

    def content(self, document: str) -> bytes | None:
        """Return the bytes of a document as they were taken in, None where there is none."""
        with self._lock:
            return self._file(document).read_bytes() if document in self._records else None

    def search(self, question: str, *, clearance: Grade, limit: int) -> tuple[Hit, ...]:
        """Search by vectors and by words, fuse, then let the reranker vote; see ``Retrieval``."""
        if len(question) > QUESTION_MAX_CHARACTERS:
            expected = text("1 to {limit} characters", limit=QUESTION_MAX_CHARACTERS)
            raise BadInput(text("the question is too long"), expected=expected, seen=len(question))
        question = normalise(question)
        with self._lock:
            shard = self._shard
        if shard is None or not question:
            return ()
        self._agree()
        (vector,) = self._embedding.embed([question])
        grades = readable_grades(clearance)
        hits = shard.search(question, vector, grades, self._ranking, max(CANDIDATES, limit))
        if self._ranking.rerank and hits:
            scores = self._embedding.rerank(question, [hit.passage.text for hit in hits])
            hits = rerank_order(hits, scores, self._ranking.rerank)
        return hits[:limit]

    def vector(self, document: str, number: int) -> list[float] | None:
        """Return the stored dense vector of a passage, of length 1, None where there is none."""
        with self._lock:
            return self._shard.vector(document, number) if self._shard else None

    def state(self) -> dict[str, Any]:
        """Return what answers, and how much of it there is."""
        with self._lock:
            made = self._made
            return {
                "engine": "qdrant-edge",
                "engine_version": metadata.version("qdrant-edge-py"),
                "format": FORMAT,
                "sparse": SCHEME,
                "ranking": msgspec.to_builtins(self._ranking),
                "embedding_model": made.model if made else None,
                "embedding_digest": made.digest if made else None,
                "dimension": made.dimension if made else None,
                "documents": len(self._records),
                "passages": self._shard.count() if self._shard else 0,
            }

    def close(self) -> None:
        """Close the shard; nothing is lost without it, a kill is as good."""
        with self._lock:
            if self._shard:
                self._shard.close()
                self._shard = None

    def _keep(self, content: bytes, passages: tuple[Passage, ...], vectors: list[list[float]]) -> Ingested:
        """Store passages, then bytes, then the record; what fails in between is taken back."""
        first = passages[0]
        shard = self._ready()
        record = DocumentRecord(
            first.document, first.name, first.grade, len(passages), len(content), self._now().isoformat()
        )
        try:
            shard.add(passages, vectors)
            write_file(self._file(first.document), content, 0o600)
            write_file(self._file(first.document, ".json"), msgspec.json.encode(record), 0o600)
        except BaseException:
            shard.remove(first.document)
            raise
        self._records[first.document] = record
        return Ingested(first.document, first.name, len(passages), already=False)

    def _ready(self) -> Shard:
        """Return the shard, made anew for the encoder that answers now while there is no document in it."""
        encoder = self._embedding.encoder()
        if self._shard is None or (not self._records and self._made and self._made.digest != encoder.digest):
            if self._shard:
                self._shard.close()
            remove_file(self._folder / "collection.json")
            self._shard = Shard.create(self._folder / "shard", encoder.dimension)
            self._made = Made(FORMAT, encoder.model, encoder.digest, encoder.dimension, SCHEME)
            write_file(self._folder / "collection.json", msgspec.json.encode(self._made), 0o600)
        self._agree()
        return self._shard

    def _agree(self) -> None:
        encoder, made = self._embedding.encoder(), self._made
        if made is not None and made.digest != encoder.digest:
            raise UnfitServer(
                text("the collection was made with another embedding model"),
                where=self._folder,
                expected=f"{made.model} {made.digest}",
                seen=f"{encoder.model} {encoder.digest}",
                remedy=text(
                    "go back to the release with that model, or remove all documents and take them in again"
                ),
            )

    def _file(self, document: str, ending: str = "") -> Path:
        return self._folder / "documents" / f"{document}{ending}"


@contextmanager
def open_collection(
    folder: Path,
    embedding: Embedding,
    ranking: Ranking = BALANCED,
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
) -> Iterator[Collection]:
    """Open the collection in a folder, made if it is not there; the embedding service need not answer yet.

    Raises ``AlreadyRunning`` where another process has it open, ``UnfitServer`` for one of another format.
    """
    make_folder(folder, 0o700)
    make_folder(folder / "documents", 0o700)
    with _alone(folder / "lock"):
        collection = Collection(folder, embedding, ranking, now)
        try:
            yield collection
        finally:
            collection.close()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunning(
                text("another process has the collection open"),
                where=path,
                remedy=text("only the API opens it: use its interface, or stop banip-api first"),
            ) from error
        yield
    finally:
        os.close(descriptor)


def _records(folder: Path) -> dict[str, DocumentRecord]:
    records = (_decoded(path, DocumentRecord) for path in sorted(folder.glob("*.json")))
    return {record.document: record for record in records}


def _sweep(folder: Path, kept: Iterable[str]) -> None:
    """Remove the bytes of documents without a record: a power cut came between the record and them."""
    known = {*kept}
    for path in folder.iterdir():
        if path.suffix != ".json" and path.name not in known:
            remove_file(path)


def _decoded(path: Path, kind: type[_Value]) -> _Value:
    """Read one of the collection's own files. Raises ``Tampered`` for a damaged one, with its name."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # ValidationError is one
        raise Tampered(
            text("a file of the document collection is damaged"),
            where=path,
            seen=error,
            remedy=text("put its folder back from a copy, or move it away and take the documents in again"),
        ) from error


def _made(folder: Path) -> Made | None:
    path = folder / "collection.json"
    if not path.exists():
        return None
    seen = _decoded(path, dict[str, Any])
    if (seen.get("format"), seen.get("sparse")) != (FORMAT, SCHEME):
        raise UnfitServer(
            text("the collection was made by another version of this program"),
            where=path,
            expected=f"{FORMAT} {SCHEME}",
            seen=f"{seen.get('format')} {seen.get('sparse')}",
            remedy=text("go back to the release that made it, or make it again from its documents"),
        )
    return msgspec.convert(seen, Made)
