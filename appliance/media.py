"""The medium: a carrier read once, front to back, byte for byte against the only right spelling.

Nothing here decides trust. Until ``verify`` has passed, names and sizes from the medium are used for one
thing: to make the header that would be right and to compare it. No path from the medium is ever joined.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.errors import BadInput, Incomplete, Tampered, UnreadableMedium, Untrusted
from appliance.format import (
    BLOCK_BYTES,
    CHUNKS_TARGET,
    END_OF_CARRIER,
    ENVELOPE_MAX_BYTES,
    FORMAT_MEMBER,
    RELEASE_TARGET,
    RIGHT_BUNDLE,
    ROOM_MEMBER,
    ROOTS_MAX,
    SIGNATURE_ROOM_BYTES,
    TARGETS_MEMBER,
    blob_member,
    check_format_line,
    envelope_from_bytes,
    envelope_to_bytes,
    format_line,
    member_header,
    not_a_bundle,
    padding_bytes,
    root_member,
)
from appliance.text import text
from appliance.verify import Envelopes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from appliance.format import Blob, Release

PIECE_BYTES = 1024 * 1024
_MEMBER_NAME = re.compile(
    rb"(format|root/[1-9][0-9]?\.json|targets\.json|room|release\.json|chunks\.bin|blobs/sha256/[0-9a-f]{64})\0+"
)
_MEMBER_SIZE = re.compile(rb"[0-7]{11}\0")
_HEAD_ORDER = (
    FORMAT_MEMBER,
    *(root_member(version) for version in range(1, ROOTS_MAX + 1)),
    TARGETS_MEMBER,
    ROOM_MEMBER,
    RELEASE_TARGET,
    CHUNKS_TARGET,
)
_THE_FILE_ITSELF = text("give the path of the .tar file itself, not of a link to it")
_OPERATOR_ERRORS = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG}


@contextmanager
def open_carrier(path: Path) -> Iterator[Carrier]:
    """Open a carrier for reading: a regular file, never through a link, opened once.

    Raises ``BadInput`` for what is no such file, ``UnreadableMedium`` for a medium that does not answer.
    """
    try:
        # O_NONBLOCK: a named pipe of that name must not hold us; it means nothing for a regular file.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in _OPERATOR_ERRORS:
            raise BadInput(
                text("the bundle cannot be opened"),
                where=path,
                seen=error.strerror,
                remedy=_THE_FILE_ITSELF,
            ) from error
        raise _unreadable(path, 0, error) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BadInput(text("the bundle is not a regular file"), where=path, remedy=_THE_FILE_ITSELF)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        yield Carrier(path, descriptor, status.st_size)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Head:
    """The members before ``release.json``: all that a signature touches."""

    envelopes: Envelopes
    targets_offset: int
    end: int


def room_bytes(targets: bytes) -> int:
    """Return the size of the member ``room`` beside that targets envelope (negative: it does not fit).

    Envelope and room together depend on the unsigned envelope only, so signing moves nothing.
    """
    unsigned = envelope_from_bytes(targets, TARGETS_MEMBER)
    unsigned.signatures.clear()
    return _padded(len(envelope_to_bytes(unsigned))) + SIGNATURE_ROOM_BYTES - _padded(len(targets))


class Carrier:
    """A carrier that is open; a ``verify.Source``. Offsets are bytes from the start of the file."""

    def __init__(self, path: Path, descriptor: int, size_bytes: int) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self.bytes_read = 0
        self._descriptor = descriptor
        self._head: Head | None = None
        self._ends: dict[str, int] = {}
        self._contents: dict[str, int] = {}

    @property
    def head(self) -> Head:
        """The head, read once; every byte of it has been judged."""
        if self._head is None:
            self._head = self._read_head()
        return self._head

    def envelopes(self) -> Envelopes:
        """Return the roots and targets, unverified."""
        return self.head.envelopes

    def target(self, name: str, length: int) -> bytes:
        """Return ``release.json``, and only after it ``chunks.bin``, of the signed length, unverified."""
        start = self.head.end if name == RELEASE_TARGET else self._ends[RELEASE_TARGET]
        data, self._ends[name] = self._member(start, name, length)
        return data

    def check_layout(self, release: Release) -> None:
        """Check every header, every padding and the end, without reading content; then blobs may be read.

        Raises ``Incomplete`` naming what is missing, ``Tampered`` for anything that should not be there.
        """
        offset = self._ends[CHUNKS_TARGET]
        order = [blob_member(blob.sha256) for blob in release.blobs]
        sizes = dict(zip(order, (blob.size_bytes for blob in release.blobs), strict=True))
        headers = {name: member_header(name, size) for name, size in sizes.items()}
        total = offset + sum(len(headers[name]) + _padded(sizes[name]) for name in order)
        total += len(END_OF_CARRIER)
        for name in order:
            self._check_header(offset, headers[name], name, order, total)
            offset += len(headers[name])
            self._contents[name] = offset
            offset += sizes[name]
            self._check_zeros(offset, padding_bytes(sizes[name]), name, total)
            offset += padding_bytes(sizes[name])
        self._check_end(offset, total)

    def blob(self, blob: Blob) -> Iterator[bytes]:
        """Yield the content of a blob in pieces of at most 1 MiB, ``size_bytes`` in all, digest unchecked.

        ``check_layout`` comes first (``KeyError`` otherwise). Raises ``Incomplete``, ``UnreadableMedium``.
        """
        name = blob_member(blob.sha256)
        offset = self._contents[name]
        end = offset + blob.size_bytes
        while offset < end:
            piece = self._read(offset, min(PIECE_BYTES, end - offset))
            if not piece:
                raise self._cut(name, end + padding_bytes(blob.size_bytes))
            yield piece
            offset += len(piece)
        self._check_zeros(end, padding_bytes(blob.size_bytes), name)

    # --- the head ---------------------------------------------------------------------------------------

    def _read_head(self) -> Head:
        start = self._format_line()
        roots: list[bytes] = []
        while True:
            due = self._due(len(roots))
            name, envelope, end = self._envelope(start, due)
            if name == TARGETS_MEMBER:
                break
            roots.append(envelope)
            start = end
        size = room_bytes(envelope)
        if size < 0:
            raise Untrusted(
                text("the signatures are larger than allowed"), where=TARGETS_MEMBER, remedy=RIGHT_BUNDLE
            )
        room, end = self._member(end, ROOM_MEMBER, size)
        if any(room):
            raise Tampered(text("bytes that must be zero are not"), where=ROOM_MEMBER, remedy=_COPY_AGAIN)
        return Head(Envelopes(tuple(roots), envelope), start, end)

    @staticmethod
    def _due(roots: int) -> list[str]:
        """Names that may come next: another root while they may, and the targets after at least one."""
        due = [root_member(roots + 1)] if roots < ROOTS_MAX else []
        return [*due, TARGETS_MEMBER] if roots else due

    def _format_line(self) -> int:
        block = self._read(0, BLOCK_BYTES)
        right = member_header(FORMAT_MEMBER, len(format_line()))
        if len(block) < BLOCK_BYTES and right.startswith(block):
            raise self._cut(FORMAT_MEMBER, BLOCK_BYTES)
        size = _size_in(block)
        # Another format's line may be longer than ours; no format's needs more than a block.
        if size is None or size > BLOCK_BYTES or block != member_header(FORMAT_MEMBER, size):
            raise not_a_bundle(self.path)
        line, end = self._member(0, FORMAT_MEMBER, size)
        check_format_line(line)
        if line != format_line():
            raise not_a_bundle(self.path)
        return end

    def _envelope(self, offset: int, due: list[str]) -> tuple[str, bytes, int]:
        """Read a member whose size only its header tells; its name must be one of those due."""
        block = self._read(offset, BLOCK_BYTES)
        size = _size_in(block)
        if size is not None and size <= ENVELOPE_MAX_BYTES:
            for name in due:
                if block == member_header(name, size):
                    return (name, *self._member(offset, name, size))
        raise self._explain(block, due[0], _HEAD_ORDER, offset + BLOCK_BYTES)

    # --- members ----------------------------------------------------------------------------------------

    def _member(self, offset: int, name: str, size: int) -> tuple[bytes, int]:
        """Return a member's content, and the offset of what follows it."""
        header = member_header(name, size)
        start = offset + len(header)
        end = start + _padded(size)
        self._check_header(offset, header, name, _HEAD_ORDER, end)
        content = self._read(start, size)
        if len(content) < size:
            raise self._cut(name, end)
        self._check_zeros(start + size, padding_bytes(size), name)
        return content, end

    def _check_header(self, offset: int, header: bytes, name: str, order: Sequence[str], end: int) -> None:
        seen = self._read(offset, len(header))
        if seen != header:
            raise self._explain(seen, name, order, end)

    def _check_zeros(self, offset: int, count: int, name: str, end: int = 0) -> None:
        seen = self._read(offset, count)
        if len(seen) < count:
            raise self._cut(name, max(end, offset + count))
        if any(seen):
            raise Tampered(text("bytes that must be zero are not"), where=name, remedy=_COPY_AGAIN)

    def _check_end(self, offset: int, total: int) -> None:
        seen = self._read(offset, len(END_OF_CARRIER))
        if self.size_bytes > total or _name_in(seen) not in {None, _END}:
            raise Tampered(
                text("the bundle has more in it than was signed"),
                where=self.path,
                expected=text("{count} bytes", count=total),
                seen=text("{count} bytes", count=self.size_bytes),
                remedy=_COPY_AGAIN,
            )
        if self.size_bytes < total:
            raise self._cut(text("the end of the bundle"), total)
        if seen != END_OF_CARRIER:
            raise Tampered(text("bytes that must be zero are not"), where=self.path, remedy=_COPY_AGAIN)

    def _explain(self, seen: bytes, due: str, order: Sequence[str], end: int) -> Incomplete | Tampered:
        """Say why the header that is due is not there: a cut file, missing members, or a foreign one.

        ``end``: where the file must at least reach, which tells a member left out from two in wrong order.
        """
        if len(seen) < BLOCK_BYTES:
            return self._cut(due, end)
        found = _name_in(seen)
        absent = _absent(due, found, order)
        if absent and (self.size_bytes < end or order is _HEAD_ORDER):
            return Incomplete(
                text("the bundle lacks {count} of its members", count=len(absent)),
                where=self.path,
                expected=", ".join(absent[:_NAMES_SHOWN]),
                seen=text("the end of the bundle") if found == _END else found,
                remedy=_COPY_AGAIN,
            )
        return Tampered(
            text("a member of the bundle is not the one that must be here"),
            where=self.path,
            expected=due,
            seen=text("a damaged header") if found in {None, _END} else found,
            remedy=_COPY_AGAIN,
        )

    def _cut(self, name: object, end: int) -> Incomplete:
        return Incomplete(
            text(
                "the bundle ends too early: at least {count} bytes are missing", count=end - self.size_bytes
            ),
            where=name,
            expected=end,
            seen=self.size_bytes,
            remedy=_COPY_AGAIN,
        )

    def _read(self, offset: int, count: int) -> bytes:
        """Read ``count`` bytes, fewer only at the end of the file."""
        pieces: list[bytes] = []
        while count > 0:
            try:
                piece = os.pread(self._descriptor, count, offset)
            except OSError as error:
                raise _unreadable(self.path, offset, error) from error
            if not piece:
                break
            pieces.append(piece)
            offset += len(piece)
            count -= len(piece)
            self.bytes_read += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


_COPY_AGAIN = text("copy the bundle again from the machine that built it")
_NAMES_SHOWN = 5
_END = "END"


def _padded(size: int) -> int:
    return size + padding_bytes(size)


def _size_in(block: bytes) -> int | None:
    field = block[124:136]
    return int(field[:11], 8) if _MEMBER_SIZE.fullmatch(field) else None


def _name_in(block: bytes) -> str | None:
    """Return the name in a well-formed header (``_END``: zeros), to talk about it; it is never a path."""
    if block[:BLOCK_BYTES] == END_OF_CARRIER[:BLOCK_BYTES]:
        return _END
    match = _MEMBER_NAME.fullmatch(block[:100])
    size = _size_in(block)
    if match is None or size is None:
        return None
    name = match[1].decode()
    return name if member_header(name, size)[:BLOCK_BYTES] == block[:BLOCK_BYTES] else None


def _absent(due: str, found: str | None, order: Sequence[str]) -> list[str]:
    """Return the members left out where ``found`` stands instead of ``due``; none if it is foreign."""
    if found == _END or (found is not None and found.startswith("blobs/") and order is _HEAD_ORDER):
        stop = len(order)
    else:
        stop = order.index(found) if found in order else 0
    absent = order[order.index(due) : stop]
    if found is None or not found.startswith("root/"):  # how many roots there were to be, nobody can tell
        absent = [name for name in absent if name == due == root_member(1) or not name.startswith("root/")]
    return list(absent)


def _unreadable(path: Path, offset: int, error: OSError) -> UnreadableMedium:
    return UnreadableMedium(
        text("the medium does not give its bytes"),
        where=text("{path}, byte {offset}", path=path, offset=offset),
        seen=error.strerror,
        remedy=text("try another port, then copy the bundle to another medium"),
    )
