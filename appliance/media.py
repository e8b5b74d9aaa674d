"""The medium: a carrier read once, front to back, byte for byte against the only right spelling.

What the medium does not give is asked for again, twice, before it counts as unreadable.

Nothing here decides trust. Until ``verify`` has passed, names and sizes from the medium are used for one
thing: to make the header that would be right and to compare it. No path from the medium is ever joined.
"""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.errors import Incomplete, Tampered, UnreadableMedium, Untrusted
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
from appliance.pieces import PIECE_BYTES
from appliance.stubborn import open_stubbornly
from appliance.text import text
from appliance.verify import Envelopes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from appliance.format import Blob, Release
    from appliance.stubborn import StubbornFile

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


@contextmanager
def open_carrier(path: Path, pause: Callable[[float], None] = time.sleep) -> Iterator[Carrier]:
    """Open a carrier for reading; ``pause`` rests for seconds before a failed read is tried again.

    Raises ``BadInput`` for what is no regular file, ``UnreadableMedium`` for a medium that does not answer.
    """
    with open_stubbornly(path, pause) as file:
        yield Carrier(file)


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
    """A carrier that is open; a ``verify.Source``. Offsets are bytes from the start of the file.

    Blobs may be read from several threads at once. ``unread_frames`` is what the medium did not give between
    the blobs: no content, so nothing is missing.
    """

    def __init__(self, file: StubbornFile) -> None:
        self.path = file.path
        self.size_bytes = file.size_bytes
        self.unread_frames: list[UnreadableMedium] = []
        self._file = file
        self._roots: tuple[tuple[bytes, ...], int] | None = None
        self._head: Head | None = None
        self._ends: dict[str, int] = {}
        self._contents: dict[str, int] = {}

    @property
    def bytes_read(self) -> int:
        """How many bytes came from the medium."""
        return self._file.bytes_read

    @property
    def retries(self) -> int:
        """How many reads were tried again."""
        return self._file.retries

    @property
    def head(self) -> Head:
        """The head, read once; every byte of it has been judged."""
        if self._head is None:
            self._head = self._read_head()
        return self._head

    def roots(self) -> tuple[bytes, ...]:
        """Return the roots, unverified; a rest that is no bundle does not keep them back."""
        return self._read_roots()[0]

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

        Raises ``Incomplete`` naming what is missing, ``Tampered`` for anything that should not be there. A
        frame that the medium does not give is remembered and passed over: content is judged by its digest.
        """
        self._file.read_ahead(wanted=False)
        offset = self._ends[CHUNKS_TARGET]
        order = [blob_member(blob.sha256) for blob in release.blobs]
        sizes = dict(zip(order, (blob.size_bytes for blob in release.blobs), strict=True))
        headers = {name: member_header(name, size) for name, size in sizes.items()}
        total = offset + sum(len(headers[name]) + _padded(sizes[name]) for name in order)
        total += len(END_OF_CARRIER)
        for name in order:
            with self._passing_over():
                self._check_header(offset, headers[name], name, order, total)
            offset += len(headers[name])
            self._contents[name] = offset
            offset += sizes[name]
            with self._passing_over():
                self._check_zeros(offset, padding_bytes(sizes[name]), name, total)
            offset += padding_bytes(sizes[name])
        with self._passing_over():
            self._check_end(offset, total)
        self._file.read_ahead(wanted=True)

    def blob(self, blob: Blob, start: int = 0, end: int | None = None, /) -> Iterator[bytes]:
        """Yield a blob's content, or its bytes ``start`` to ``end``, in pieces of 1 MiB, digest unchecked.

        ``check_layout`` comes first (``KeyError`` otherwise). Raises ``Incomplete``, ``UnreadableMedium``.
        """
        name = blob_member(blob.sha256)
        offset = self._contents[name] + start
        stop = self._contents[name] + (blob.size_bytes if end is None else end)
        while offset < stop:
            piece = self._file.read(offset, min(PIECE_BYTES, stop - offset))
            if not piece:
                raise self._cut(name, stop + padding_bytes(blob.size_bytes))
            yield piece
            offset += len(piece)

    @contextmanager
    def _passing_over(self) -> Iterator[None]:
        try:
            yield
        except UnreadableMedium as error:
            if self._file.gone:
                raise
            self.unread_frames.append(error)

    # --- the head ---------------------------------------------------------------------------------------

    def _read_roots(self) -> tuple[tuple[bytes, ...], int]:
        """Return the roots and where the targets begin; read once."""
        if self._roots is None:
            start = self._format_line()
            roots: list[bytes] = []
            while (found := self._sized(start, self._due(len(roots))))[0] != TARGETS_MEMBER:
                envelope, start = self._member(start, *found)
                roots.append(envelope)
            self._roots = tuple(roots), start
        return self._roots

    def _read_head(self) -> Head:
        roots, start = self._read_roots()
        envelope, end = self._member(start, *self._sized(start, [TARGETS_MEMBER]))
        size = room_bytes(envelope)
        if size < 0:
            raise Untrusted(
                text("the signatures are larger than allowed"), where=TARGETS_MEMBER, remedy=RIGHT_BUNDLE
            )
        room, end = self._member(end, ROOM_MEMBER, size)
        if any(room):
            raise Tampered(text("bytes that must be zero are not"), where=ROOM_MEMBER, remedy=_COPY_AGAIN)
        return Head(Envelopes(roots, envelope), start, end)

    @staticmethod
    def _due(roots: int) -> list[str]:
        """Names that may come next: another root while they may, and the targets after at least one."""
        due = [root_member(roots + 1)] if roots < ROOTS_MAX else []
        return [*due, TARGETS_MEMBER] if roots else due

    def _format_line(self) -> int:
        block = self._file.read(0, BLOCK_BYTES)
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

    def _sized(self, offset: int, due: list[str]) -> tuple[str, int]:
        """Return name and size of a member whose size only its header tells; it must be one of those due."""
        block = self._file.read(offset, BLOCK_BYTES)
        size = _size_in(block)
        if size is not None and size <= ENVELOPE_MAX_BYTES:
            for name in due:
                if block == member_header(name, size):
                    return name, size
        raise self._explain(block, due[0], _HEAD_ORDER, offset + BLOCK_BYTES)

    # --- members ----------------------------------------------------------------------------------------

    def _member(self, offset: int, name: str, size: int) -> tuple[bytes, int]:
        """Return a member's content, and the offset of what follows it."""
        header = member_header(name, size)
        start = offset + len(header)
        end = start + _padded(size)
        self._check_header(offset, header, name, _HEAD_ORDER, end)
        content = self._file.read(start, size)
        if len(content) < size:
            raise self._cut(name, end)
        self._check_zeros(start + size, padding_bytes(size), name)
        return content, end

    def _check_header(self, offset: int, header: bytes, name: str, order: Sequence[str], end: int) -> None:
        seen = self._file.read(offset, len(header))
        if seen != header:
            raise self._explain(seen, name, order, end)

    def _check_zeros(self, offset: int, count: int, name: str, end: int = 0) -> None:
        seen = self._file.read(offset, count)
        if len(seen) < count:
            raise self._cut(name, max(end, offset + count))
        if any(seen):
            raise Tampered(text("bytes that must be zero are not"), where=name, remedy=_COPY_AGAIN)

    def _check_end(self, offset: int, total: int) -> None:
        seen = self._file.read(offset, len(END_OF_CARRIER))
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
