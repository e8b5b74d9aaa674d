"""One run of ``collect``: the store it fills, the tally, and everything that went wrong."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from appliance.errors import BanipError
from appliance.format import Blob
from appliance.problems import Problem
from appliance.text import text
from bundle.workshop import Event

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from appliance.store import Seen, Store
    from appliance.text import Text
    from bundle.lock import LockedFile, LockedWheel
    from bundle.workshop import EventKind, Report

#: What may go wrong with one file while the others go on.
FAILURES = (BanipError, OSError)
_BLOB_MODE = 0o444


class Collection:
    """The store, the tally and the failures of one run."""

    def __init__(self, store: Store, report: Report) -> None:
        self.store, self.report = store, report
        self.problems: list[Problem] = []
        self.cached = self.cached_bytes = self.new = self.new_bytes = 0

    def take(
        self, name: str, what: LockedFile | LockedWheel | Blob, kind: EventKind, content: Iterable[bytes]
    ) -> None:
        """Store lazy content under its locked digest, unless it is there; other content is a failure."""
        blob = Blob(sha256=what.sha256, size_bytes=what.size_bytes)
        if self.has(name, blob):
            return
        try:
            self.store.add(blob, content)
        except FAILURES as error:
            self.fail(name, why(error))
        else:
            self.got(kind, name, blob.size_bytes)

    def has(self, name: str, blob: Blob) -> bool:
        """Tell whether the store has a blob, and count it where it has."""
        found = self.store.has(blob)
        if found:
            self.keep(name, blob.size_bytes)
        return found

    def arrived(self, name: str, blob: Blob, path: Path, seen: Seen = lambda _: None) -> bool:
        """Take in a file that a program downloaded; tell whether it is the blob that was asked for.

        It is read once, and ``seen`` gets its pieces before it is judged.
        """
        if not _is_whole(path, blob):
            return False
        path.chmod(_BLOB_MODE)  # before it is read: what has been hashed is what is linked
        if not self.store.add_file_of(blob, path, seen):
            return False
        self.got("fetched", name, blob.size_bytes)
        return True

    def keep(self, name: str, size_bytes: int) -> None:
        """Count a file that was here."""
        self.cached, self.cached_bytes = self.cached + 1, self.cached_bytes + size_bytes
        self.report(Event("cached", name, size_bytes))

    def got(self, kind: EventKind, name: str, size_bytes: int) -> None:
        """Count a file that came in."""
        self.new, self.new_bytes = self.new + 1, self.new_bytes + size_bytes
        self.report(Event(kind, name, size_bytes))

    def fail(self, name: str, said: Text) -> None:
        """Remember what could not be had, and why."""
        self.problems.append(Problem(name, said))
        self.report(Event("failed", name, detail=str(said)))


def _is_whole(path: Path, blob: Blob) -> bool:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == blob.size_bytes


def why(error: Exception) -> Text:
    """Return what to say of one of ``FAILURES``."""
    if isinstance(error, BanipError):
        return error.happened
    return text("it cannot be read: {error}", error=str(error))
