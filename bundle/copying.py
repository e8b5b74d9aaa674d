"""Blobs in one pass: what is read once is hashed whole, hashed by chunk and written, all at the same time.

The caller's thread reads; one thread each hashes wholes, hashes chunks and writes, in the order of the bytes.
All four leave the interpreter alone while they work, so they overlap as far as there are cores. A few buffers
go round: memory does not grow with the blobs, and who is slowest sets the pace of all.
"""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.errors import Incomplete, Tampered
from appliance.format import CHUNK_BYTES, chunk_count
from appliance.store import Progress
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future
    from io import BufferedIOBase, RawIOBase

    from appliance.format import Blob

    OpenBlob = Callable[[str], BufferedIOBase | RawIOBase]
    Report = Callable[[Progress], None]

    Write = Callable[[bytes | memoryview], None]


#: A chunk is a whole number of pieces, so that it always ends where a piece does.
PIECE_BYTES = 1024 * 1024
_BUFFERS = 8


@contextmanager
def copying(bytes_total: int, write: Write | None, report: Report | None = None) -> Iterator[Copying]:
    """Give a pass that is over, and its ``chunks`` whole, after the block.

    ``write`` takes all that it is given, in order, in one thread; ``report`` is called in the caller's.
    What a thread fails with is raised by a later call or at the end of the block, the earliest bytes' first.
    """
    threads = [ThreadPoolExecutor(1) for _ in range(3)]
    try:
        begun = Copying(threads, bytes_total, write, report)
        yield begun
        begun.finish()
    finally:
        for thread in threads:
            thread.shutdown(cancel_futures=True)


class Copying:
    """One pass over blobs; ``chunks``: SHA-256 of every chunk so far, in order."""

    def __init__(
        self,
        threads: Sequence[ThreadPoolExecutor],
        bytes_total: int,
        write: Write | None,
        report: Report | None,
    ) -> None:
        self.chunks: list[bytes] = []
        self._wholes, self._pieces, self._writer = threads
        self._bytes_total, self._bytes_done = bytes_total, 0
        self._write, self._report = write, report
        self._free = [memoryview(bytearray(PIECE_BYTES)) for _ in range(_BUFFERS)]
        self._busy: deque[_Given] = deque()

    def put(self, data: bytes) -> None:
        """Write what stands between the blobs."""
        if self._write is not None:
            self._busy.append(_Given((self._writer.submit(self._write, data),)))

    def copy(self, blob: Blob, open_blob: OpenBlob) -> None:
        """Pass a blob on. Raises ``Tampered`` where it is not what its name says, ``Incomplete`` for none."""
        digests, size_bytes = _Digests(blob, self.chunks), 0
        with _opened(blob, open_blob) as source:
            while size_bytes <= blob.size_bytes:
                buffer = self._buffer()
                piece = buffer[: _fill(source, buffer)]
                size_bytes += len(piece)
                if not piece or size_bytes > blob.size_bytes:
                    self._free.append(buffer)
                    break
                self._give(buffer, piece, digests)
        self._busy.append(_Given((self._wholes.submit(digests.refuse_another, size_bytes),)))

    def finish(self) -> None:
        """Wait until everything is done."""
        while self._busy:
            self._retire()

    def _give(self, buffer: memoryview, piece: memoryview, digests: _Digests) -> None:
        futures = [self._wholes.submit(digests.whole.update, piece)]
        if digests.has_chunks:
            futures.append(self._pieces.submit(digests.add_to_chunk, piece))
        if self._write is not None:
            futures.append(self._writer.submit(self._write, piece))
        self._busy.append(_Given(tuple(futures), buffer, digests.blob.sha256, len(piece)))

    def _buffer(self) -> memoryview:
        while not self._free:
            self._retire()
        return self._free.pop()

    def _retire(self) -> None:
        """Wait for the oldest piece, and have its buffer back."""
        given = self._busy.popleft()
        for future in given.futures:
            future.result()
        if given.buffer is None:
            return
        self._free.append(given.buffer)
        self._bytes_done += given.size_bytes
        if self._report is not None:
            self._report(Progress(given.sha256, self._bytes_done, self._bytes_total))


@dataclass(frozen=True, slots=True)
class _Given:
    """What threads are working on: a piece in a buffer, or something else that has none."""

    futures: tuple[Future[None], ...]
    buffer: memoryview | None = None
    sha256: str = ""
    size_bytes: int = 0


class _Digests:
    """The digests of one blob while it passes: ``whole``, and one for each chunk, put behind ``chunks``."""

    def __init__(self, blob: Blob, chunks: list[bytes]) -> None:
        self.blob, self.whole = blob, hashlib.sha256()
        self.has_chunks = chunk_count(blob.size_bytes) > 0
        self._chunk, self._chunks, self._size_bytes = hashlib.sha256(), chunks, 0

    def add_to_chunk(self, piece: memoryview) -> None:
        self._chunk.update(piece)
        self._size_bytes += len(piece)
        if self._size_bytes % CHUNK_BYTES == 0 or self._size_bytes == self.blob.size_bytes:
            self._chunks.append(self._chunk.digest())
            self._chunk = hashlib.sha256()

    def refuse_another(self, size_bytes: int) -> None:
        """Compare the whole with the name, when all of it has passed."""
        if size_bytes != self.blob.size_bytes or self.whole.hexdigest() != self.blob.sha256:
            raise Tampered(
                text("a blob in the store is not what its name says"),
                where=self.blob.sha256,
                expected=text("{count} bytes", count=self.blob.size_bytes),
                seen=text(
                    "{count} bytes with digest {digest}", count=size_bytes, digest=self.whole.hexdigest()
                ),
                remedy=text("remove it from the store and collect again"),
            )


def _opened(blob: Blob, open_blob: OpenBlob) -> BufferedIOBase | RawIOBase:
    try:
        return open_blob(blob.sha256)
    except FileNotFoundError as error:
        raise Incomplete(
            text("a blob is not in the store"), where=blob.sha256, remedy=text("collect again")
        ) from error


def _fill(source: BufferedIOBase | RawIOBase, buffer: memoryview) -> int:
    """Read until the buffer is full or the source ends: a short read is no end."""
    filled = 0
    while filled < len(buffer) and (count := source.readinto(buffer[filled:])):
        filled += count
    return filled
