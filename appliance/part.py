"""A blob that is still coming in: ``incoming/<hex>.part`` (0600), continued after a kill, never believed."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from appliance.direct import DirectOutput
from appliance.durable import naming_a_full_disk, sync_folder, write_all
from appliance.errors import UnfitServer
from appliance.pieces import PIECE_BYTES, pieces_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future, ThreadPoolExecutor
    from pathlib import Path

    from appliance.chunks import Chunk

#: A power cut takes back what was written after the last sync but one.
SYNC_BYTES = 32 * 1024 * 1024
BLOB_MODE = 0o444
_PART_MODE = 0o600


class Part:
    """An open part: one descriptor reads, one writes; ``thread`` syncs what was written meanwhile."""

    def __init__(self, path: Path, reading: int, writing: int, thread: ThreadPoolExecutor) -> None:
        self._path, self._reading, self._writing, self._thread = path, reading, writing, thread
        self._output: DirectOutput | None = None
        self._syncing: Future[None] | None = None
        self._unsynced_bytes = 0
        self._is_named = False

    @property
    def size_bytes(self) -> int:
        """How far the part reaches, holes included."""
        return os.fstat(self._reading).st_size

    def read(self, chunk: Chunk) -> Iterator[bytes]:
        """Yield what the disk has of a chunk, fewer bytes where it ends."""
        return pieces_of(self._reading, chunk.start, chunk.end)

    def seek(self, start: int) -> None:
        """Let the next piece be written there."""
        os.lseek(self._writing, start, os.SEEK_SET)

    def write(self, piece: bytes) -> None:
        """Write a piece behind the one before; every 32 MiB are made durable meanwhile."""
        if self._output is None and len(piece) == PIECE_BYTES:
            self._output = DirectOutput(self._writing)
        if self._output is None:  # a small blob: its pages are soon read, by whoever unpacks it
            write_all(self._writing, piece)
        else:
            self._output.write_from_anywhere(piece)
        self._unsynced_bytes += len(piece)
        if self._unsynced_bytes >= SYNC_BYTES:
            self._unsynced_bytes = 0
            self.settle()
            self._syncing = self._thread.submit(self._sync)

    def settle(self) -> None:
        """Wait for the sync that is under way, and hear whether the disk took it. Raises ``OSError``."""
        syncing, self._syncing = self._syncing, None
        if syncing is not None:
            syncing.result()

    def make_final(self) -> None:
        """Give the part the mode that it will have under its name, before both become durable."""
        os.fchmod(self._writing, BLOB_MODE)

    def _sync(self) -> None:
        os.fdatasync(self._writing)
        if not self._is_named:  # or there would be nothing to continue after a power cut
            sync_folder(self._path.parent)
            self._is_named = True


@contextmanager
def open_part(path: Path, size_bytes: int, thread: ThreadPoolExecutor) -> Iterator[Part]:
    """Open a part, what a killed run left of it included, but never more than ``size_bytes``.

    On a full disk it is removed, and ``UnfitServer`` raised; any other end leaves it for the next run.
    """
    with naming_a_full_disk(path.parent):
        descriptor = _continued(path)
        if descriptor is None:
            path.unlink(missing_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(path, flags, _PART_MODE)
    try:
        if os.fstat(descriptor).st_size > size_bytes:
            os.ftruncate(descriptor, size_bytes)
        with naming_a_full_disk(path.parent), _read_only(path) as reading:
            part = Part(path, reading, descriptor, thread)
            try:
                yield part
            finally:
                part.settle()
    except UnfitServer:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


@contextmanager
def _read_only(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _continued(path: Path) -> int | None:
    """Open what a killed run left, if it is a plain file that nobody knows by another name."""
    try:
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid != os.geteuid():
            return None
        path.chmod(_PART_MODE)  # a run that was killed just before giving the name left it 0444
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    return descriptor
