"""What was done on this server, as a journal that a power cut can shorten by one line and no more."""

from __future__ import annotations

import errno
import os
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import msgspec

from appliance.durable import make_folder, naming_a_full_disk, rename_durably, sync_folder
from appliance.errors import Tampered
from appliance.format import Count, Sha256, Value, canonical_json, sha256_hex
from appliance.text import spelled, text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_PRIVATE_FOLDER, _PRIVATE_FILE = 0o700, 0o600


class Entry(Value, frozen=True):
    """One line of the journal; ``before`` is the digest of the line before it, newline included."""

    number: Count
    at: datetime
    before: Sha256
    event: str
    facts: dict[str, Any]


class Journal:
    """Append-only JSON lines, each one write and one fsync, chained by digest.

    A line exists when its newline is on disk; a last line that a power cut tore never was. Parent and
    child may append in turn, because the chain is read from the file before each line.
    """

    def __init__(self, path: Path, clock: Callable[[], datetime]) -> None:
        self._path, self._clock = path, clock

    def append(self, event: str, /, **facts: object) -> Entry:
        """Add a line; when this returns it survives a power cut. Raises ``Tampered``, ``UnfitServer``."""
        make_folder(self._path.parent, _PRIVATE_FOLDER)
        is_new = not self._path.exists()
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, _PRIVATE_FILE)
        try:
            return self._append(descriptor, event, facts)
        finally:
            os.close(descriptor)
            if is_new:
                sync_folder(self._path.parent)

    def entries(self) -> tuple[Entry, ...]:
        """Return every whole line, oldest first; ``Tampered`` where the chain is broken."""
        return _chain(self._content(), self._path)[0]

    def set_aside_if_damaged(self) -> None:
        """Rename a broken journal, for whoever investigates, and say so in the first line of a new one."""
        try:
            self.entries()
        except Tampered as error:
            kept = self._path.with_name(f"journal.damaged-{sha256_hex(self._content())[:16]}")
            rename_durably(self._path, kept)
            self.append("journal-set-aside", kept=kept.name, seen=str(error.seen))

    def _content(self) -> bytes:
        return self._path.read_bytes() if self._path.exists() else b""

    def _append(self, descriptor: int, event: str, facts: dict[str, object]) -> Entry:
        content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        entries, end, before = _chain(content, self._path)
        if end < len(content):  # the torn line of a power cut
            os.ftruncate(descriptor, end)
            os.fsync(descriptor)
        entry = Entry(
            number=len(entries),
            at=self._clock().astimezone(timezone.utc),
            before=before,
            event=event,
            facts=spelled(facts),
        )
        line = canonical_json(entry)
        with naming_a_full_disk(self._path.parent):
            if os.write(descriptor, line) != len(line):
                raise OSError(errno.ENOSPC, "only a part of the line was written")
            os.fsync(descriptor)
        return entry


def _chain(content: bytes, path: Path) -> tuple[tuple[Entry, ...], int, str]:
    """Return the whole lines, where they end, and the digest that the next line must name."""
    entries: list[Entry] = []
    end, before = 0, sha256_hex(b"")
    lines = content.split(b"\n")[:-1]  # what follows the last newline is torn
    for number, line in enumerate(lines):
        entry = _entry(line)
        if entry is None and number == len(lines) - 1:
            break  # blocks of the last line that never reached the disk
        if entry is None or (entry.number, entry.before) != (number, before):
            raise _broken(path, number + 1)
        entries.append(entry)
        end, before = end + len(line) + 1, sha256_hex(line + b"\n")
    return tuple(entries), end, before


def _entry(line: bytes) -> Entry | None:
    try:
        return msgspec.json.decode(line, type=Entry)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _broken(path: Path, line: int) -> Tampered:
    return Tampered(
        text("the journal of this server is damaged"),
        where=path,
        seen=text("line {number} does not follow the line before it", number=line),
        remedy=text(
            "compare the digest on the paper again, then run: python3 -I appliance.pyz adopt; "
            "it keeps the damaged file"
        ),
    )
