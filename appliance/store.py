"""Content by its digest: the store, and the import of a bundle into it in one pass over the medium.

Layout: ``blobs/sha256/<hex>`` (0444, final) and ``incoming/<hex>.part`` (0600, never trusted).
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from appliance.durable import (
    fresh_file,
    make_folder,
    naming_a_full_disk,
    rename_durably,
    replace_link,
    sync_file_system,
    sync_folder,
    write_all,
    write_file,
)
from appliance.errors import Incomplete, Tampered, UnfitServer
from appliance.format import CHUNK_BYTES, Blob
from appliance.text import Text, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from appliance.verify import TrustedBundle

#: The writing primitives live in ``durable`` and are offered here too.
__all__ = [
    "BlobSource",
    "Damage",
    "Imported",
    "Progress",
    "Store",
    "Usage",
    "import_bundle",
    "make_folder",
    "rename_durably",
    "replace_link",
    "sync_file_system",
    "sync_folder",
    "write_file",
]

PIECE_BYTES = 1024 * 1024
BLOB_MODE = 0o444
#: Left free beside the blobs: folder entries, the journal, and a root file system that still works.
SPARE_BYTES = 16 * 1024 * 1024
_BLOCK_BYTES = 4096
_CHECK_THREADS = 8


# --- The store --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long piece of work is, while ``blob`` (a digest) is being worked on."""

    blob: str
    bytes_done: int
    bytes_total: int


@dataclass(frozen=True, slots=True)
class Damage:
    """Something in the store that is not what its name promises."""

    path: Path
    happened: Text


@dataclass(frozen=True, slots=True)
class Usage:
    """What the store holds, and what its file system has left for us."""

    blobs: int
    blob_bytes: int
    incoming_bytes: int
    free_bytes: int


class Store:
    """Blobs in a folder; a name in ``blobs/sha256`` is given only to content of that digest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._blobs = folder / "blobs" / "sha256"
        self._incoming = folder / "incoming"

    def path(self, sha256: str) -> Path:
        """Return where the blob of that digest is, or would be."""
        return self._blobs / sha256

    def has(self, blob: Blob) -> bool:
        """Tell by type, mode and size whether the blob is here; its content is ``check``'s matter."""
        try:
            found = os.lstat(self.path(blob.sha256))
        except FileNotFoundError:
            return False
        return found.st_mode == stat.S_IFREG | BLOB_MODE and found.st_size == blob.size_bytes

    def missing(self, blobs: Iterable[Blob]) -> tuple[Blob, ...]:
        """Return those blobs that are not here, in their order."""
        return tuple(blob for blob in blobs if not self.has(blob))

    def add(self, blob: Blob, pieces: Iterable[bytes], chunks: Sequence[bytes] = ()) -> None:
        """Stream content in; it gets its name only when it is durable and its digest is the blob's.

        ``chunks``: SHA-256 of every 8 MiB, to name the place of the damage. Raises ``Tampered`` for other
        or more content, ``Incomplete`` for less, ``UnfitServer`` for a full disk; each leaves no part.
        """
        self._make_folders()
        part = self._incoming / f"{blob.sha256}.part"
        with naming_a_full_disk(self.folder), fresh_file(part) as descriptor:
            if _receive(descriptor, blob, pieces) != blob.sha256:
                raise _tampered(blob, _first_bad_chunk(descriptor, chunks))
            os.fchmod(descriptor, BLOB_MODE)  # before fsync, which then makes the mode durable too
            os.fsync(descriptor)
            rename_durably(part, self.path(blob.sha256))

    def add_file(self, path: Path) -> Blob:
        """Take a file in and leave it where it is: linked when it is 0444 already, copied otherwise.

        A link to a file that somebody may write would let a blob change under its name.
        """
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            blob = Blob(sha256=_digest(file.fileno()), size_bytes=found.st_size)
            if not self.has(blob) and not (
                found.st_mode == stat.S_IFREG | BLOB_MODE and self._link(path, file.fileno(), blob)
            ):
                self.add(blob, iter(lambda: file.read(PIECE_BYTES), b""))
        return blob

    def unchanged(self, sha256: str, where: str) -> Path:
        """Return the path of a blob after hashing it again: disks rot, and its content may run as root.

        ``where`` is the name that people know it by. Raises ``Tampered``.
        """
        path = self.path(sha256)
        with path.open("rb") as file:
            seen = _digest(file.fileno())
        if seen != sha256:
            raise Tampered(
                text("a file in the store is not what was signed"),
                where=where,
                expected=sha256,
                seen=seen,
                remedy=text("remove {path}, then run the command again with the bundle", path=path),
            )
        return path

    def check(
        self, progress: Callable[[Progress], None], expected: Iterable[Blob] = ()
    ) -> tuple[Damage, ...]:
        """Hash every blob that is here, in parallel; return what is damaged, or expected and not here."""
        sizes = _sizes(self._blobs)
        tally = _Tally(sum(sizes.values()), progress)
        with ThreadPoolExecutor(min(_CHECK_THREADS, os.cpu_count() or 1)) as threads:
            found = list(threads.map(lambda name: self._check(name, tally), sorted(sizes)))
        damaged = [damage for damage in found if damage]
        gone = [self.path(blob.sha256) for blob in expected if blob.sha256 not in sizes]
        return (*damaged, *(Damage(path, text("the blob is not in the store")) for path in gone))

    def usage(self) -> Usage:
        """Count the blobs and their bytes, what killed runs left, and the free bytes."""
        blobs, parts = _sizes(self._blobs), _sizes(self._incoming)
        return Usage(len(blobs), sum(blobs.values()), sum(parts.values()), self.free_bytes())

    def free_bytes(self) -> int:
        """Return what a process like this one may still write on the store's file system."""
        folder = self.folder
        while not folder.exists():
            folder = folder.parent
        found = os.statvfs(folder)
        return found.f_bavail * found.f_frsize

    def needs_bytes(self, blobs: Iterable[Blob]) -> int:
        """Return what those of the blobs that are not here would take on disk, block by block."""
        return sum(-(-blob.size_bytes // _BLOCK_BYTES) * _BLOCK_BYTES for blob in self.missing(blobs))

    def _make_folders(self) -> None:
        # Readable by services: they reach the same inodes through their release's folder.
        make_folder(self._blobs)
        make_folder(self._incoming, 0o700)

    def _link(self, path: Path, descriptor: int, blob: Blob) -> bool:
        self._make_folders()
        part = self._incoming / f"{blob.sha256}.part"
        part.unlink(missing_ok=True)
        try:
            os.link(path, part, follow_symlinks=True)
        except OSError:  # another file system, or one without links
            return False
        if not os.path.samestat(os.fstat(descriptor), os.lstat(part)):  # another file since we hashed it
            part.unlink()
            return False
        os.fsync(descriptor)
        rename_durably(part, self.path(blob.sha256))
        return True

    def _check(self, name: str, tally: _Tally) -> Damage | None:
        path = self._blobs / name
        if os.lstat(path).st_mode != stat.S_IFREG | BLOB_MODE:
            return Damage(path, text("the blob is not a plain file of mode 0444"))
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                seen = _digest(descriptor, lambda count: tally.add(name, count))
            finally:
                os.close(descriptor)
        except OSError as error:
            return Damage(path, text("the disk does not give the blob back: {error}", error=error.strerror))
        return None if seen == name else Damage(path, text("the blob's content is not what its name says"))


class _Tally:
    """Progress of several threads as one number."""

    def __init__(self, bytes_total: int, progress: Callable[[Progress], None]) -> None:
        self._total, self._progress = bytes_total, progress
        self._done = 0
        self._lock = threading.Lock()

    def add(self, blob: str, bytes_more: int) -> None:
        with self._lock:
            self._done += bytes_more
            self._progress(Progress(blob, self._done, self._total))


def _receive(descriptor: int, blob: Blob, pieces: Iterable[bytes]) -> str:
    digest, received = hashlib.sha256(), 0
    for piece in pieces:
        received += len(piece)
        if received > blob.size_bytes:
            raise _tampered(blob, None)
        digest.update(piece)
        write_all(descriptor, piece)
    if received < blob.size_bytes:
        raise Incomplete(
            text("blob {sha256} ends before its signed size", sha256=blob.sha256),
            expected=blob.size_bytes,
            seen=received,
            remedy=_CARRY_AGAIN,
        )
    return digest.hexdigest()


def _first_bad_chunk(descriptor: int, chunks: Sequence[bytes]) -> int | None:
    """Return which 8 MiB of the local part is wrong; the medium is not asked a second time."""
    for number, chunk in enumerate(chunks):
        digest = hashlib.sha256()
        for start in range(number * CHUNK_BYTES, (number + 1) * CHUNK_BYTES, PIECE_BYTES):
            digest.update(os.pread(descriptor, PIECE_BYTES, start))
        if digest.digest() != chunk:
            return number
    return None


_CARRY_AGAIN = text("copy the bundle onto another medium and run again; what was stored is not read again")


def _tampered(blob: Blob, chunk: int | None) -> Tampered:
    place = text("blob {sha256}", sha256=blob.sha256)
    if chunk is not None:
        place = text(
            "blob {sha256}, chunk {number}, from byte {start}",
            sha256=blob.sha256,
            number=chunk,
            start=chunk * CHUNK_BYTES,
        )
    return Tampered(text("a blob is not what was signed"), where=place, remedy=_CARRY_AGAIN)


def _digest(descriptor: int, progress: Callable[[int], None] = lambda _: None) -> str:
    digest, buffer = hashlib.sha256(), bytearray(PIECE_BYTES)
    start = 0
    while count := os.preadv(descriptor, [buffer], start):
        digest.update(memoryview(buffer)[:count])
        start += count
        progress(count)
    return digest.hexdigest()


def _sizes(folder: Path) -> dict[str, int]:
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat(follow_symlinks=False).st_size for entry in entries}


# --- Import: one pass over the medium ---------------------------------------------------------------------


class BlobSource(Protocol):
    """A carrier, as far as the import is concerned."""

    def blob(self, blob: Blob, /) -> Iterator[bytes]:
        """Return the blob's bytes; asking for some blobs only must not read the others."""
        ...


@dataclass(frozen=True, slots=True)
class Imported:
    """Receipt of an import."""

    bytes_read: int
    bytes_stored: int
    blobs_new: int
    blobs_kept: int


def import_bundle(
    bundle: TrustedBundle, carrier: BlobSource, store: Store, progress: Callable[[Progress], None]
) -> Imported:
    """Bring the bundle's missing blobs into the store, reading nothing else and nothing twice.

    Raises ``UnfitServer`` before the first byte where the space does not suffice; ``Tampered`` at the first
    blob that is not what was signed. Blobs stored until then stay: their names are signed and true.
    """
    blobs = bundle.release.blobs
    missing = store.missing(blobs)
    _refuse_lack_of_space(store, missing)
    tally = _Tally(sum(blob.size_bytes for blob in missing), progress)
    for blob in missing:
        store.add(blob, _counted(blob, carrier, tally), bundle.chunks.of(blob.sha256))
    size_bytes = sum(blob.size_bytes for blob in missing)
    return Imported(size_bytes, size_bytes, len(missing), len(blobs) - len(missing))


def _counted(blob: Blob, carrier: BlobSource, tally: _Tally) -> Iterator[bytes]:
    for piece in carrier.blob(blob):
        yield piece
        tally.add(blob.sha256, len(piece))


def _refuse_lack_of_space(store: Store, missing: Sequence[Blob]) -> None:
    needs, has = store.needs_bytes(missing) + SPARE_BYTES * bool(missing), store.free_bytes()
    if needs > has:
        raise UnfitServer(
            text("the store's file system has too little space for this bundle"),
            where=store.folder,
            expected=text("{size_bytes} bytes free", size_bytes=needs),
            seen=text("{size_bytes} bytes free", size_bytes=has),
            remedy=text("free space on this file system, or give --root a larger one; nothing was written"),
        )
