"""Blobs in one pass: what is read once is hashed whole, hashed by chunk and written, all at the same time.

The caller's thread reads; one thread each hashes wholes, hashes chunks and writes, in the order of the bytes.
All four leave the interpreter alone while they work, so they overlap as far as there are cores. A few buffers
go round, each a piece of the carrier as it will be: memory does not grow with the blobs, nothing is moved in
it, and who is slowest sets the pace of all.
"""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from mmap import mmap
from typing import TYPE_CHECKING

from appliance.direct import DirectOutput
from appliance.errors import Incomplete, Tampered
from appliance.format import CHUNK_BYTES, chunk_count
from appliance.store import Progress
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future
    from io import BufferedIOBase, FileIO, RawIOBase

    from appliance.format import Blob

    OpenBlob = Callable[[str], BufferedIOBase | RawIOBase]
    Report = Callable[[Progress], None]


_BUFFER_BYTES, _BUFFERS = 2 * 1024 * 1024, 8


@contextmanager
def copying(bytes_total: int, file: FileIO | None, report: Report | None = None) -> Iterator[Copying]:
    """Give a pass that is over, and its ``chunks`` whole, after the block.

    ``file`` is empty and gets everything in order; ``report`` is called in the caller's thread. What a thread
    fails with is raised by a later call or at the end of the block, the earliest bytes' first.
    """
    threads = [ThreadPoolExecutor(1) for _ in range(3)]
    output = None if file is None else DirectOutput(file.fileno())
    try:
        begun = Copying(threads, bytes_total, output, report)
        yield begun
        begun.finish()
    finally:
        for thread in threads:
            thread.shutdown(cancel_futures=True)
        if output is not None:
            output.use_the_cache()


class Copying:
    """One pass over blobs; ``chunks``: SHA-256 of every chunk so far, in order."""

    def __init__(
        self,
        threads: Sequence[ThreadPoolExecutor],
        bytes_total: int,
        output: DirectOutput | None,
        report: Report | None,
    ) -> None:
        self.chunks: list[bytes] = []
        self._wholes, self._pieces, self._writer = threads
        self._bytes_total, self._bytes_done = bytes_total, 0
        self._output, self._report = output, report
        self._free = [_Buffer(memoryview(mmap(-1, _BUFFER_BYTES))) for _ in range(_BUFFERS)]
        self._given: deque[_Buffer] = deque()

    def put(self, data: bytes) -> None:
        """Write what stands between the blobs."""
        rest = memoryview(data)
        while rest and self._output is not None:
            room = self._room()[: len(rest)]
            room[:] = rest[: len(room)]
            rest = rest[len(room) :]
            self._fill(len(room))

    def copy(self, blob: Blob, open_blob: OpenBlob) -> None:
        """Pass a blob on. Raises ``Tampered`` where it is not what its name says, ``Incomplete`` for none."""
        digests = _Digests(blob, self.chunks)
        with _opened(blob, open_blob) as source:
            while piece := self._room()[: digests.due_bytes]:
                count = _read(source, piece)
                self._hash(digests, piece[:count])
                if count < len(piece):
                    break
            excess = _read(source, memoryview(bytearray(1)))
        self._filling().futures.append(self._wholes.submit(digests.refuse_another, excess))

    def finish(self) -> None:
        """Give what is not full yet, and wait until everything is done."""
        self._give()
        while self._given:
            self._retire()

    def _filling(self) -> _Buffer:
        """Return the buffer that is being filled; it has room."""
        if not self._free:
            self._retire()
        return self._free[-1]

    def _room(self) -> memoryview:
        buffer = self._filling()
        return buffer.memory[buffer.filled :]

    def _hash(self, digests: _Digests, piece: memoryview) -> None:
        buffer = self._filling()
        buffer.futures.append(self._wholes.submit(digests.whole.update, piece))
        if digests.has_chunks:
            buffer.futures.append(self._pieces.submit(digests.add_to_chunk, piece))
        digests.seen_bytes += len(piece)
        buffer.pieces.append((digests.blob.sha256, len(piece)))
        self._fill(len(piece))

    def _fill(self, size_bytes: int) -> None:
        buffer = self._filling()
        buffer.filled += size_bytes
        if buffer.filled == len(buffer.memory):
            self._give()

    def _give(self) -> None:
        """Give the buffer that is being filled to the writer; it comes back when all have done with it."""
        buffer = self._filling()
        self._free.pop()
        if self._output is not None:
            buffer.futures.append(self._writer.submit(self._output.write, buffer.memory[: buffer.filled]))
        self._given.append(buffer)

    def _retire(self) -> None:
        """Wait for the oldest buffer that was given, and have it back."""
        buffer = self._given.popleft()
        for future in buffer.futures:
            future.result()
        for sha256, size_bytes in buffer.pieces:
            self._bytes_done += size_bytes
            if self._report is not None:
                self._report(Progress(sha256, self._bytes_done, self._bytes_total))
        self._free.insert(0, _Buffer(buffer.memory))


@dataclass(slots=True)
class _Buffer:
    """Memory that goes round: how far it is filled, with pieces of which blobs, and what is done with it."""

    memory: memoryview
    filled: int = 0
    pieces: list[tuple[str, int]] = field(default_factory=list)
    futures: list[Future[None]] = field(default_factory=list)


class _Digests:
    """The digests of one blob while it passes: ``whole``, and one for each chunk, put behind ``chunks``."""

    def __init__(self, blob: Blob, chunks: list[bytes]) -> None:
        self.blob, self.whole = blob, hashlib.sha256()
        self.has_chunks = chunk_count(blob.size_bytes) > 0
        self.seen_bytes = 0
        self._chunk, self._chunks, self._hashed_bytes = hashlib.sha256(), chunks, 0

    @property
    def due_bytes(self) -> int:
        """Bytes to the end of the chunk or of the blob."""
        return min(CHUNK_BYTES - self.seen_bytes % CHUNK_BYTES, self.blob.size_bytes - self.seen_bytes)

    def add_to_chunk(self, piece: memoryview) -> None:
        """Hash a piece that ends where its chunk does, or earlier."""
        self._chunk.update(piece)
        self._hashed_bytes += len(piece)
        if self._hashed_bytes % CHUNK_BYTES == 0 or self._hashed_bytes == self.blob.size_bytes:
            self._chunks.append(self._chunk.digest())
            self._chunk = hashlib.sha256()

    def refuse_another(self, excess_bytes: int) -> None:
        """Compare the whole with the name, when all of it has passed."""
        size_bytes = self.seen_bytes + excess_bytes
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


def _read(source: BufferedIOBase | RawIOBase, memory: memoryview) -> int:
    """Read until the memory is full or the source ends: a short read is no end."""
    filled = 0
    while filled < len(memory) and (count := source.readinto(memory[filled:])):
        filled += count
    return filled
