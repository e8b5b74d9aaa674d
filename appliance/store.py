"""Content by its digest: the store.

Layout: ``blobs/sha256/<hex>`` (0444, final) and ``incoming/<hex>.part`` (0600, never trusted by its name).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from types import MappingProxyType
from typing import TYPE_CHECKING

from appliance.chunks import Chunk, Fault, Progress, Tally, chunks_of, judge
from appliance.durable import (
    fresh_file,
    make_folder,
    naming_a_full_disk,
    rename_durably,
    replace_link,
    sync_file,
    sync_file_system,
    sync_folder,
    write_all,
    write_file,
)
from appliance.errors import Incomplete, Tampered
from appliance.format import Blob
from appliance.part import BLOB_MODE, Part, open_part
from appliance.pieces import PIECE_BYTES, digest_of_file, pieces_of
from appliance.text import Text, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path

    #: Who else is given the pieces of a file that is read, so that nobody reads it a second time.
    Seen = Callable[[bytes], object]

#: The writing primitives live in ``durable`` and are offered here too.
__all__ = [
    "PIECE_BYTES",
    "Damage",
    "Progress",
    "Store",
    "Usage",
    "make_folder",
    "rename_durably",
    "replace_link",
    "sync_file_system",
    "sync_folder",
    "write_file",
]

_BLOCK_BYTES = 4096
_STAT_BLOCK_BYTES = 512
_NO_DIGESTS: Mapping[str, Sequence[bytes]] = MappingProxyType({})


def _nobody(_: bytes) -> None:
    """See nothing."""


@dataclass(frozen=True, slots=True)
class Damage:
    """Something in the store that is not what its name promises; ``faults`` are the places in its content."""

    path: Path
    happened: Text
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """What the store holds, and what its file system has left for us; ``incoming_bytes`` as on the disk."""

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
        except (FileNotFoundError, NotADirectoryError):
            return False
        return found.st_mode == stat.S_IFREG | BLOB_MODE and found.st_size == blob.size_bytes

    def missing(self, blobs: Iterable[Blob]) -> tuple[Blob, ...]:
        """Return those blobs that are not here, in their order."""
        return tuple(blob for blob in blobs if not self.has(blob))

    def add(self, blob: Blob, pieces: Iterable[bytes]) -> None:
        """Stream content in; it gets its name only when it is durable and its digest is the blob's.

        Raises ``Tampered`` for other or more content, ``Incomplete`` for less, ``UnfitServer`` for a full
        disk; each leaves no part.
        """
        self.make_folders()
        part = self._part_path(blob.sha256)
        with naming_a_full_disk(self.folder), fresh_file(part) as descriptor:
            if _receive(descriptor, blob, pieces) != blob.sha256:
                raise _tampered(blob)
            os.fchmod(descriptor, BLOB_MODE)  # before fsync, which then makes the mode durable too
            os.fsync(descriptor)
            rename_durably(part, self.path(blob.sha256))

    @contextmanager
    def part(self, blob: Blob, thread: ThreadPoolExecutor) -> Iterator[Part]:
        """Open the part of a blob, continued where a killed run left it; see ``name_parts``."""
        with open_part(self._part_path(blob.sha256), blob.size_bytes, thread) as part:
            yield part

    def name_parts(self, blobs: Sequence[Blob]) -> None:
        """Give parts their names: of each the content, found right, becomes durable first."""
        with naming_a_full_disk(self.folder):
            if len(blobs) == 1:
                sync_file(self._part_path(blobs[0].sha256))
            else:
                sync_file_system(self._incoming)
            for blob in blobs:
                self._part_path(blob.sha256).rename(self.path(blob.sha256))
            sync_folder(self._blobs)

    def remove_parts(self, blobs: Iterable[Blob]) -> None:
        """Forget what came in of these blobs."""
        for blob in blobs:
            self._part_path(blob.sha256).unlink(missing_ok=True)

    def add_file(self, path: Path) -> Blob:
        """Take a file in and leave it where it is: linked when it is 0444 already, copied otherwise.

        It is read once. A link to a file that somebody may write would let a blob change under its name.
        """
        with path.open("rb", buffering=0) as file:
            found = os.fstat(file.fileno())
            # Its digest, which names other parts, is known when all of it has passed.
            part = self._part_path(f"{found.st_dev}-{found.st_ino}")
            with self._receiving(path, file.fileno(), part) as output:
                blob = _pass_on(file.fileno(), output)
                self._name(part, output, blob)
        return blob

    def add_file_of(self, blob: Blob, path: Path, seen: Seen = _nobody) -> bool:
        """Take a file in as ``add_file`` does, if it is that blob; tell whether it is.

        Of another size it is not even read. ``seen`` gets its pieces as they pass, before it is judged.
        """
        with path.open("rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size != blob.size_bytes:
                return False
            part = self._part_path(blob.sha256)
            with self._receiving(path, file.fileno(), part) as output:
                is_blob = _pass_on(file.fileno(), output, blob.size_bytes + 1, seen) == blob
                if is_blob:
                    self._name(part, output, blob)
        return is_blob

    def unchanged(self, sha256: str, where: str) -> Path:
        """Return the path of a blob after hashing it again: disks rot, and its content may run as root.

        ``where`` is the name that people know it by. Raises ``Tampered``.
        """
        path = self.path(sha256)
        seen = digest_of_file(path).hex()
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
        self,
        progress: Callable[[Progress], None],
        expected: Iterable[Blob] = (),
        digests: Mapping[str, Sequence[bytes]] = _NO_DIGESTS,
    ) -> tuple[Damage, ...]:
        """Hash every blob that is here, on all cores; return what is damaged, or expected and not here.

        ``digests``: of a blob's chunks, where a release has signed them, so that the place is known.
        """
        sizes = _sizes(self._blobs)
        odd = {name for name in sizes if not _is_blob(self._blobs / name)}
        chunks = [
            chunk
            for name in sorted(sizes.keys() - odd)
            for chunk in chunks_of(Blob(sha256=name, size_bytes=sizes[name]), digests.get(name, ()))
        ]
        tally = Tally(sum(chunk.end - chunk.start for chunk in chunks), progress)
        faults = judge(chunks, self.read, tally)
        gone = [blob.sha256 for blob in expected if blob.sha256 not in sizes]
        return (
            *(Damage(self.path(name), _NO_BLOB) for name in sorted(odd)),
            *(self._damage(name, tuple(several)) for name, several in groupby(faults, key=_name_of)),
            *(Damage(self.path(name), text("the blob is not in the store")) for name in gone),
        )

    def read(self, chunk: Chunk) -> Iterator[bytes]:
        """Yield a chunk of a blob that is here. Raises ``OSError``."""
        descriptor = os.open(self.path(chunk.blob.sha256), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield from pieces_of(descriptor, chunk.start, chunk.end)
        finally:
            os.close(descriptor)

    def usage(self) -> Usage:
        """Count the blobs and their bytes, what killed runs left, and the free bytes."""
        blobs = _sizes(self._blobs)
        parts = sum(_disk_bytes(self._incoming / name) for name in _sizes(self._incoming))
        return Usage(len(blobs), sum(blobs.values()), parts, self.free_bytes())

    def blobs(self) -> dict[str, int]:
        """Return the names of the blobs that are here, with their sizes in bytes."""
        return _sizes(self._blobs)

    def remove(self, names: Iterable[str]) -> None:
        """Remove blobs by their names, and whatever runs have left that did not come to their end."""
        for path in (*map(self.path, names), *self.parts()):
            if path.is_dir() and not path.is_symlink():  # nothing of ours: it was put in a blob's place
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
        for folder in (self._blobs, self._incoming):
            if folder.is_dir():
                sync_folder(folder)

    def parts(self) -> tuple[Path, ...]:
        """Return what runs have left that did not come to their end."""
        return tuple(self._incoming / name for name in sorted(_sizes(self._incoming)))

    def free_bytes(self) -> int:
        """Return what a process like this one may still write on the store's file system."""
        found = self._file_system()
        return found.f_bavail * found.f_frsize

    def free_files(self) -> int | None:
        """Return how many files may still be made, or None where the file system has no such limit."""
        found = self._file_system()
        return found.f_favail if found.f_files else None

    def needs_bytes(self, blobs: Iterable[Blob]) -> int:
        """Return what those of the blobs that are not here would take on disk, block by block.

        What an earlier run left of them has its space already.
        """
        return sum(self.lacks_bytes(blob) for blob in self.missing(blobs))

    def lacks_bytes(self, blob: Blob) -> int:
        """Return what a blob takes on disk beyond its part."""
        whole = -(-blob.size_bytes // _BLOCK_BYTES) * _BLOCK_BYTES
        return max(whole - _disk_bytes(self._part_path(blob.sha256)), 0)

    def _file_system(self) -> os.statvfs_result:
        folder = self.folder
        while not folder.exists():
            folder = folder.parent
        return os.statvfs(folder)

    def _part_path(self, sha256: str) -> Path:
        return self._incoming / f"{sha256}.part"

    def make_folders(self) -> None:
        """Make the folders of blobs and parts."""
        # Readable by services: they reach the same inodes through their release's folder.
        make_folder(self._blobs)
        make_folder(self._incoming, 0o700)

    @contextmanager
    def _receiving(self, path: Path, source: int, part: Path) -> Iterator[int]:
        """Yield where an open file's content goes: to the file itself, linked as the part, or a new part.

        A part that got no name meanwhile is removed.
        """
        self.make_folders()
        part.unlink(missing_ok=True)
        try:
            with naming_a_full_disk(self.folder):
                if _link(path, source, part):
                    yield source
                else:
                    with fresh_file(part) as output:
                        yield output
        finally:
            part.unlink(missing_ok=True)

    def _name(self, part: Path, descriptor: int, blob: Blob) -> None:
        """Give a part its name when its content, found right, is durable; one that is there already stays."""
        if not self.has(blob):
            os.fsync(descriptor)
            rename_durably(part, self.path(blob.sha256))

    def _damage(self, name: str, faults: tuple[Fault, ...]) -> Damage:
        if all(fault.unreadable for fault in faults):
            return Damage(self.path(name), faults[0].seen, faults)
        return Damage(self.path(name), text("the blob's content is not what its name says"), faults)


def _link(path: Path, source: int, part: Path) -> bool:
    """Link an open file as a part, if it is 0444 and still the one of that name."""
    found = os.fstat(source)
    if found.st_mode != stat.S_IFREG | BLOB_MODE:
        return False
    try:
        os.link(path, part, follow_symlinks=True)
    except OSError:  # another file system, or one without links
        return False
    if os.path.samestat(found, os.lstat(part)):
        return True
    part.unlink()  # another file since it was opened
    return False


def _pass_on(source: int, output: int, end: int | None = None, seen: Seen = _nobody) -> Blob:
    """Read a file to its end, or to ``end``, hash it, show it, and copy it where it was not linked."""
    digest, size_bytes = hashlib.sha256(), 0
    for piece in pieces_of(source, 0, end):
        digest.update(piece)
        size_bytes += len(piece)
        seen(piece)
        if output != source:
            write_all(output, piece)
    if output != source:
        os.fchmod(output, BLOB_MODE)  # before fsync, which then makes the mode durable too
    return Blob(sha256=digest.hexdigest(), size_bytes=size_bytes)


def _receive(descriptor: int, blob: Blob, pieces: Iterable[bytes]) -> str:
    digest, received = hashlib.sha256(), 0
    for piece in pieces:
        received += len(piece)
        if received > blob.size_bytes:
            raise _tampered(blob)
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


_CARRY_AGAIN = text("copy the bundle onto another medium and run again; what was stored is not read again")


def _tampered(blob: Blob) -> Tampered:
    place = text("blob {sha256}", sha256=blob.sha256)
    return Tampered(text("a blob is not what was signed"), where=place, remedy=_CARRY_AGAIN)


_NO_BLOB = text("this is no blob: a plain file of mode 0444, named by its SHA-256")


def _is_blob(path: Path) -> bool:
    named = re.fullmatch("[0-9a-f]{64}", path.name) is not None
    return named and os.lstat(path).st_mode == stat.S_IFREG | BLOB_MODE


def _name_of(fault: Fault) -> str:
    return fault.chunk.blob.sha256


def _disk_bytes(path: Path) -> int:
    try:
        return os.lstat(path).st_blocks * _STAT_BLOCK_BYTES
    except FileNotFoundError:
        return 0


def _sizes(folder: Path) -> dict[str, int]:
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat(follow_symlinks=False).st_size for entry in entries}
