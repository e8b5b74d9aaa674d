"""The import: what a release lacks here is read once from the medium, hashed on the way, and named if true.

The happy path reads each byte once and hashes it once. What an earlier run left is continued: its chunks
are judged again, from the disk, by the signed digests. A chunk that the medium does not give, or gives
wrongly, is passed over; another copy of the bundle may have it; what is missing in the end is named.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from appliance.chunks import Fault, Progress, Tally, chunks_of, judge, unread
from appliance.errors import Incomplete, Tampered, UnfitServer, UnreadableMedium
from appliance.pieces import PIECE_BYTES, AsideDigest, keep_memory
from appliance.text import Event, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from appliance.chunks import Chunk
    from appliance.format import Blob
    from appliance.part import Part
    from appliance.pieces import Digest
    from appliance.store import Store
    from appliance.verify import TrustedBundle

#: Left free beside the blobs: folder entries, the journal, and a root file system that still works.
SPARE_BYTES = 16 * 1024 * 1024
SPARE_FILES = 64
#: Small blobs wait for one another, so that one sync serves them all.
TOGETHER_BYTES = 32 * 1024 * 1024
TOGETHER_FILES = 512


class BlobSource(Protocol):
    """A carrier, as far as the import is concerned."""

    @property
    def retries(self) -> int:
        """How many reads were tried again."""

    def blob(self, blob: Blob, start: int, end: int, /) -> Iterator[bytes]:
        """Return the blob's bytes from ``start`` to ``end``, and read no others.

        Raises ``UnreadableMedium``, ``Incomplete``.
        """
        ...


@dataclass(frozen=True, slots=True)
class Resumed:
    """So many bytes of a blob were here, and good, before anything of it was read."""

    blob: Blob
    bytes_kept: int

    def event(self) -> Event:
        """Tell where the reading goes on."""
        words = text(
            "going on with blob {sha256}: {count} of {size} bytes are here and good",
            sha256=self.blob.sha256,
            count=self.bytes_kept,
            size=self.blob.size_bytes,
        )
        return Event("resumed", words, {"blob": self.blob.sha256, "bytes_kept": self.bytes_kept})


@dataclass(frozen=True, slots=True)
class Imported:
    """Receipt of an import; ``faults`` is what no medium gave: the release is whole without any."""

    bytes_read: int
    bytes_stored: int
    bytes_resumed: int
    blobs_new: int
    blobs_kept: int
    retries: int
    faults: tuple[Fault, ...] = ()

    def counts(self) -> dict[str, int]:
        """Return the numbers for the journal and for programs."""
        return {**{name: getattr(self, name) for name in _COUNTS}, "faults": len(self.faults)}


_COUNTS = ("bytes_read", "bytes_stored", "bytes_resumed", "blobs_new", "blobs_kept", "retries")


def import_bundle(  # noqa: PLR0913 - where from, where to, and two ways to heal
    bundle: TrustedBundle,
    carrier: BlobSource,
    store: Store,
    watch: Callable[[Progress | Resumed | Fault], None],
    *,
    copies: Sequence[BlobSource] = (),
    recheck: bool = False,
) -> Imported:
    """Bring the bundle's missing blobs into the store, reading nothing else and nothing twice.

    ``copies`` are asked for what ``carrier`` does not give; ``recheck`` hashes what is here and heals it.
    Raises ``UnfitServer`` before the first byte where the space does not suffice, and where it turns out not
    to; whatever else is wrong is in the receipt.
    """
    damaged = _damaged(bundle, store, watch) if recheck else {}
    blobs = bundle.release.blobs
    missing = [blob for blob in blobs if blob.sha256 in damaged or not store.has(blob)]
    _refuse_lack_of_space(store, missing)
    sources = (carrier, *copies)
    tried_before = sum(source.retries for source in sources)
    store.make_folders()
    keep_memory()
    intake = _Intake(bundle, store, sources, watch, damaged)
    with intake.hashing, intake.syncing:
        intake.take_all(missing)
    new = [blob for blob in missing if blob.sha256 not in intake.lacking]
    return Imported(
        bytes_read=intake.bytes_read,
        bytes_stored=sum(blob.size_bytes for blob in new),
        bytes_resumed=intake.bytes_resumed,
        blobs_new=len(new),
        blobs_kept=len(blobs) - len(missing),
        retries=sum(source.retries for source in sources) - tried_before,
        faults=tuple(intake.faults),
    )


class _Intake:
    """One import at work."""

    def __init__(
        self,
        bundle: TrustedBundle,
        store: Store,
        sources: Sequence[BlobSource],
        watch: Callable[[Progress | Resumed | Fault], None],
        damaged: dict[str, frozenset[int]],
    ) -> None:
        self._chunks, self._store, self._sources = bundle.chunks, store, sources
        self._watch, self._damaged = watch, damaged
        self.hashing, self.syncing = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._tally = Tally(0, watch)
        self._together: list[Blob] = []
        self.faults: list[Fault] = []
        self.bytes_read = self.bytes_resumed = 0

    @property
    def lacking(self) -> frozenset[str]:
        """Digests of the blobs that did not come in."""
        return frozenset(fault.chunk.blob.sha256 for fault in self.faults)

    def take_all(self, blobs: Sequence[Blob]) -> None:
        """Take blobs in, one after the other, as they lie on the medium."""
        self._tally = Tally(sum(blob.size_bytes for blob in blobs), self._watch)
        try:
            for blob in blobs:
                self._take(blob)
            self._name_together()
        except UnfitServer:  # a full disk: what has no name yet goes, so that there is space again
            self._store.remove_parts(self._together)
            raise

    def _take(self, blob: Blob) -> None:
        chunks = chunks_of(blob, self._chunks.of(blob.sha256))
        with self._store.part(blob, self.syncing) as part:
            self._copy_good(part, chunks)
            faults = self._fill(part, chunks, self._continue(part, chunks))
            if not faults:
                part.make_final()
        if not faults:
            self._name(blob)
        elif len(faults) == len(chunks):
            self._store.remove_parts([blob])
        self.faults += faults

    def _copy_good(self, part: Part, chunks: Sequence[Chunk]) -> None:
        """Begin with what is good of a blob that is here and damaged; only the rest comes from a medium."""
        bad = self._damaged.get(chunks[0].blob.sha256, frozenset(chunk.number for chunk in chunks))
        for chunk in chunks:
            if chunk.number not in bad:
                part.seek(chunk.start)
                for piece in self._store.read(chunk):
                    part.write(piece)

    def _continue(self, part: Part, chunks: Sequence[Chunk]) -> frozenset[int]:
        """Return the numbers of the chunks that are in the part already, judged by their signed digests."""
        reached = [chunk for chunk in chunks if chunk.end <= part.size_bytes]
        bad = {fault.chunk.number for fault in judge(reached, part.read)} if reached else set()
        good = [chunk for chunk in reached if chunk.number not in bad]
        kept_bytes = sum(chunk.end - chunk.start for chunk in good)
        if kept_bytes:
            self.bytes_resumed += kept_bytes
            if len(chunks) > 1:  # hundreds of small ones would help nobody
                self._watch(Resumed(chunks[0].blob, kept_bytes))
            self._tally.add(chunks[0].blob.sha256, kept_bytes)
        return frozenset(chunk.number for chunk in good)

    def _fill(self, part: Part, chunks: Sequence[Chunk], here: frozenset[int]) -> list[Fault]:
        """Fill a part from one medium after the other; return what none of them gave."""
        blob, faults = chunks[0].blob, list[Fault]()
        for source in self._sources:
            unreadable = self._stream(part, chunks, here, source)
            if unreadable is None:
                return []
            unread_numbers = {fault.chunk.number for fault in unreadable}
            rest = [chunk for chunk in chunks if chunk.number not in unread_numbers]
            faults = [*unreadable, *judge(rest, part.read)]
            if not faults:
                self._store.remove_parts([blob])
                raise Tampered(
                    text("the digests that were signed for a blob and for its chunks contradict each other"),
                    where=blob.sha256,
                    remedy=text("tell those who hold the release keys; nothing was switched"),
                )
            for fault in faults:
                self._watch(fault)
            here = frozenset(chunk.number for chunk in chunks) - {fault.chunk.number for fault in faults}
        return faults

    def _stream(
        self, part: Part, chunks: Sequence[Chunk], here: frozenset[int], source: BlobSource
    ) -> list[Fault] | None:
        """Read what is not ``here`` from a medium, hashing the whole; None: the digest is the signed one.

        Otherwise returns the chunks that the medium did not give; others may be wrong.
        """
        blob = chunks[0].blob
        small = blob.size_bytes <= PIECE_BYTES
        digest: Digest = hashlib.sha256() if small else AsideDigest(self.hashing)
        unreadable: list[Fault] = []
        for chunk in chunks:
            pieces = part.read(chunk) if chunk.number in here else self._received(part, chunk, source)
            fault = _pass_on(pieces, digest, chunk)
            unreadable += [fault] if fault else []
        # Waited for in any case: nothing of this blob may be under way when the next one begins.
        seen = digest.digest()
        return None if not unreadable and seen.hex() == blob.sha256 else unreadable

    def _received(self, part: Part, chunk: Chunk, source: BlobSource) -> Iterator[bytes]:
        part.seek(chunk.start)
        for piece in source.blob(chunk.blob, chunk.start, chunk.end):
            self.bytes_read += len(piece)
            yield piece
            part.write(piece)
            self._tally.add(chunk.blob.sha256, len(piece))

    def _name(self, blob: Blob) -> None:
        self._together.append(blob)
        size_bytes = sum(blob.size_bytes for blob in self._together)
        if size_bytes >= TOGETHER_BYTES or len(self._together) >= TOGETHER_FILES:
            self._name_together()

    def _name_together(self) -> None:
        if self._together:
            self._store.name_parts(self._together)
            self._together = []


def _pass_on(pieces: Iterator[bytes], digest: Digest, chunk: Chunk) -> Fault | None:
    try:
        for piece in pieces:
            digest.update(piece)
    except (UnreadableMedium, Incomplete) as error:
        return unread(chunk, error)
    return None


def _damaged(
    bundle: TrustedBundle, store: Store, watch: Callable[[Progress | Resumed | Fault], None]
) -> dict[str, frozenset[int]]:
    """Hash what is here of the release; return the damaged blobs, and which of their chunks are."""
    here = [blob for blob in bundle.release.blobs if store.has(blob)]
    chunks = [chunk for blob in here for chunk in chunks_of(blob, bundle.chunks.of(blob.sha256))]
    found: dict[str, frozenset[int]] = {}
    tally = Tally(sum(blob.size_bytes for blob in here), watch)
    for fault in judge(chunks, store.read, tally):
        sha256 = fault.chunk.blob.sha256
        found[sha256] = found.get(sha256, frozenset()) | {fault.chunk.number}
    return found


def _refuse_lack_of_space(store: Store, missing: Sequence[Blob]) -> None:
    if not missing:
        return
    needs = sum(store.lacks_bytes(blob) for blob in missing) + SPARE_BYTES
    has, files = store.free_bytes(), store.free_files()
    remedy = text(
        "free space on this file system (`appliance store prune` shows what may go), or give --root a larger "
        "one; nothing was written"
    )
    if needs > has:
        raise UnfitServer(
            text("the store's file system has too little space for this bundle"),
            where=store.folder,
            expected=text("{size_bytes} bytes free", size_bytes=needs),
            seen=text("{size_bytes} bytes free", size_bytes=has),
            remedy=remedy,
        )
    if files is not None and files < len(missing) + SPARE_FILES:
        raise UnfitServer(
            text("the store's file system can hold too few more files for this bundle"),
            where=store.folder,
            expected=text("{count} files", count=len(missing) + SPARE_FILES),
            seen=text("{count} files", count=files),
            remedy=remedy,
        )
