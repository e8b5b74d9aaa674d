"""Chunks: stretches of a blob that a signed digest vouches for, and which of them are not what was signed.

The same judgement serves a medium (``verify``), a half-read blob (``import``) and the store (``check``).
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from appliance.errors import BanipError, Incomplete, Tampered, UnreadableMedium
from appliance.format import CHUNK_BYTES, Blob
from appliance.pieces import digest_of, keep_memory
from appliance.text import Event, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from appliance.format import Release
    from appliance.text import Text

_THREADS_MOST = 16
#: Faults that a message for people names one by one; ``--json`` has all of them.
_NAMED_MOST = 20
_USES_NAMED_MOST = 5


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes ``start`` to ``end`` of a blob, and the SHA-256 that was signed for them."""

    blob: Blob
    number: int
    start: int
    end: int
    digest: bytes


def chunks_of(blob: Blob, digests: Sequence[bytes]) -> tuple[Chunk, ...]:
    """Cut a blob as ``chunks.bin`` does; without chunk digests it is one chunk, whose digest is its name."""
    if not digests:
        return (Chunk(blob, 0, 0, blob.size_bytes, bytes.fromhex(blob.sha256)),)
    return tuple(
        Chunk(blob, number, number * CHUNK_BYTES, min((number + 1) * CHUNK_BYTES, blob.size_bytes), digest)
        for number, digest in enumerate(digests)
    )


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long piece of work is, while ``blob`` (a digest) is being worked on."""

    blob: str
    bytes_done: int
    bytes_total: int


class Tally:
    """Progress of several threads as one number."""

    def __init__(self, bytes_total: int, progress: Callable[[Progress], None]) -> None:
        self._total, self._progress = bytes_total, progress
        self._done = 0
        self._lock = threading.Lock()

    def add(self, blob: str, bytes_more: int) -> None:
        """Count what was done; what is read a second time does not count beyond the total."""
        with self._lock:
            self._done = min(self._done + bytes_more, self._total)
            self._progress(Progress(blob, self._done, self._total))


# --- Faults -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fault:
    """A chunk that cannot be had: the medium does not give it (``unreadable``), or gives something else."""

    chunk: Chunk
    unreadable: bool
    seen: Text

    def event(self) -> Event:
        """Tell it when it occurs; what it is for is said at the end."""
        sha256, number = self.chunk.blob.sha256, self.chunk.number
        words = text(
            "blob {sha256}, chunk {number}: {seen}; going on", sha256=sha256, number=number, seen=self.seen
        )
        return Event("fault", words, {"blob": sha256, "chunk": number, "unreadable": self.unreadable})


def wrong(chunk: Chunk) -> Fault:
    """Return the fault of a chunk whose bytes are not those that were signed."""
    return Fault(chunk, unreadable=False, seen=text("other bytes than were signed"))


def unread(chunk: Chunk, error: BanipError | OSError) -> Fault:
    """Return the fault of a chunk that could not be read."""
    if isinstance(error, BanipError):
        seen = text("{happened} ({seen})", happened=error.happened, seen=error.seen)
    else:
        seen = text("the disk does not give the blob back: {error}", error=error.strerror)
    return Fault(chunk, unreadable=True, seen=seen)


def judge(
    chunks: Sequence[Chunk], read: Callable[[Chunk], Iterable[bytes]], tally: Tally | None = None
) -> tuple[Fault, ...]:
    """Hash chunks on all cores; return those that are not what was signed or cannot be read, in their order.

    ``read`` is called from several threads at once.
    """
    waiting: Iterator[tuple[int, Chunk]] = iter(enumerate(chunks))
    found: dict[int, Fault] = {}
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                number, chunk = next(waiting, (None, None))
            if number is None or chunk is None:
                return
            fault = _judge(chunk, read, tally)
            if fault is not None:
                found[number] = fault

    keep_memory()
    count = max(1, min(_THREADS_MOST, len(os.sched_getaffinity(0)), len(chunks)))
    with ThreadPoolExecutor(count) as threads:
        try:
            for each in [threads.submit(work) for _ in range(count)]:
                each.result()
        finally:
            waiting = iter(())  # after an interruption nobody begins another chunk
    return tuple(found[number] for number in sorted(found))


def _judge(chunk: Chunk, read: Callable[[Chunk], Iterable[bytes]], tally: Tally | None) -> Fault | None:
    try:
        seen = digest_of(read(chunk))
    except (UnreadableMedium, Incomplete, OSError) as error:
        return unread(chunk, error)
    if tally is not None:
        tally.add(chunk.blob.sha256, chunk.end - chunk.start)
    return None if seen == chunk.digest else wrong(chunk)


# --- Saying exactly what is missing -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Missing:
    """Chunks of one blob that could not be had for one reason, and what of the release is made of it."""

    blob: Blob
    unreadable: bool
    seen: Text
    chunks: tuple[Chunk, ...]
    uses: tuple[str, ...]

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """Bytes of the blob, as (start, end), neighbours as one."""
        found: list[tuple[int, int]] = []
        for chunk in self.chunks:
            if found and found[-1][1] == chunk.start:
                found[-1] = (found[-1][0], chunk.end)
            else:
                found.append((chunk.start, chunk.end))
        return tuple(found)

    def describe(self) -> Text:
        """Say which blob, which chunks and bytes, and what they are for."""
        more = len(self.uses) - _USES_NAMED_MOST
        uses = [*self.uses[:_USES_NAMED_MOST], *([f"(+{more})"] if more > 0 else [])]
        return text(
            "blob {sha256}, chunk {numbers}, bytes {ranges} of {uses}: {seen}",
            sha256=self.blob.sha256,
            numbers=_spans([(chunk.number, chunk.number + 1) for chunk in self.chunks]),
            ranges=_spans(self.ranges),
            uses=", ".join(uses) or "?",
            seen=self.seen,
        )

    def as_json(self) -> dict[str, Any]:
        """Return the same facts for the program that cuts a small carrier; ranges are [start, end)."""
        return {
            "blob": self.blob.sha256,
            "size_bytes": self.blob.size_bytes,
            "fault": "unreadable" if self.unreadable else "wrong",
            "seen": str(self.seen),
            "chunks": [chunk.number for chunk in self.chunks],
            "ranges": [list(span) for span in self.ranges],
            "uses": list(self.uses),
        }


def _spans(spans: Iterable[tuple[int, int]]) -> str:
    """Spell [start, end) spans for people: ``3``, ``5-9`` (both ends are meant), neighbours as one."""
    joined: list[tuple[int, int]] = []
    for start, end in spans:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return ", ".join(str(start) if end - start == 1 else f"{start}-{end - 1}" for start, end in joined)


def missing_of(faults: Iterable[Fault], uses: Mapping[str, Sequence[str]]) -> tuple[Missing, ...]:
    """Put the faults of one blob and kind together."""
    return tuple(_missing(faults, uses))


def _missing(faults: Iterable[Fault], uses: Mapping[str, Sequence[str]]) -> Iterator[Missing]:
    ordered = sorted(
        faults, key=lambda one: (one.chunk.blob.sha256, one.unreadable, str(one.seen), one.chunk.number)
    )
    for (sha256, unreadable, _), several in groupby(
        ordered, key=lambda one: (one.chunk.blob.sha256, one.unreadable, str(one.seen))
    ):
        alike = tuple(several)
        chunks = tuple(one.chunk for one in alike)
        yield Missing(chunks[0].blob, unreadable, alike[0].seen, chunks, tuple(uses.get(sha256, ())))


def uses_of(release: Release) -> dict[str, list[str]]:
    """Return what of a release each blob is: paths of files, names of wheels, packages and images."""
    found: dict[str, list[str]] = {blob.sha256: [] for blob in release.blobs}
    packed = {package.sha256 for package in release.packages}
    for file in release.files:
        if file.sha256 not in packed:
            found[file.sha256].append(file.path)
    for package in release.packages:
        found[package.sha256].append(f"package {package.name} {package.version}")
    for environment in release.environments:
        for wheel in environment.wheels:
            found[wheel.sha256].append(f"wheel {wheel.filename}")
    for image in release.images:
        for sha256 in (image.manifest, *image.blobs):
            found[sha256].append(f"image {image.name}")
    return {sha256: list(dict.fromkeys(names)) for sha256, names in found.items()}


def refusal(faults: Sequence[Fault], release: Release, remedy: Text) -> Tampered | UnreadableMedium:
    """Return the error that asks for exactly what is missing: wrong content outweighs what cannot be read."""
    missing = missing_of(faults, uses_of(release))
    where: tuple[Text, ...] = tuple(one.describe() for one in missing[:_NAMED_MOST])
    if len(missing) > _NAMED_MOST:
        where = (*where, text("and {count} more: --json names all", count=len(missing) - _NAMED_MOST))
    count = sum(fault.chunk.end - fault.chunk.start for fault in faults)
    facts = {"release": release.id, "missing": [one.as_json() for one in missing]}
    if all(fault.unreadable for fault in faults):
        happened = text(
            "the medium does not give {count} bytes of {release}", count=count, release=release.id
        )
        return UnreadableMedium(happened, where=where, remedy=remedy, facts=facts)
    happened = text("{count} bytes of {release} are not what was signed", count=count, release=release.id)
    return Tampered(happened, where=where, remedy=remedy, facts=facts)
