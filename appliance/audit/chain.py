"""The chain of this server's audits: a ledger whose lines are the records, each naming the one before it.

``<root>/state/audits`` (0600) is every ``record.json`` one after another, so a head is the SHA-256 of a line
and of a file. A line is written when its folder is complete and before the folder gets its name: no finished
folder is without its line, and no number is given twice. Folders go when their time is over; the ledger
stays. The operation log names every head, too. What is lost is taken from folders that our key signed and
from that log; what nothing shows any more stays a gap that is said.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.audit.seal import PRIVATE_FILE, PRIVATE_FOLDER, Link, link_from_bytes
from appliance.durable import make_folder, naming_a_full_disk, sync_folder, write_file
from appliance.errors import AlreadyRunning
from appliance.format import sha256_hex
from appliance.problems import Problem
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from appliance.journal import Entry

WAIT_S = 600
_POLL_S = 0.1
#: The event of the operation log that names an audit's number and head.
AUDITED = "audited"
_DAMAGED = "audits.damaged-"


@dataclass(frozen=True, slots=True)
class Pages:
    """What the ledger holds: its links, lines that are none, and where its last whole line ends."""

    links: tuple[Link, ...]
    strange: tuple[Problem, ...]
    end: int

    @property
    def tip(self) -> Link | None:
        """Return the newest link."""
        return self.links[-1] if self.links else None


class Ledger:
    """The ledger in the state folder of one root; every method reads the disk."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "audits"

    @contextmanager
    def hold(self, wait_s: float = WAIT_S) -> Iterator[None]:
        """Be the one writer; another audit is waited for. Raises ``AlreadyRunning``.

        It is a lock of its own: an audit changes nothing that an installation needs, and must not stop one.
        """
        make_folder(self.folder, PRIVATE_FOLDER)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.folder / "audits.lock", flags, PRIVATE_FILE)
        try:
            _take(descriptor, self.folder / "audits.lock", time.monotonic() + wait_s)
            yield
        finally:
            os.close(descriptor)

    def read(self) -> Pages:
        """Return what is there; a last line that a power cut tore never was."""
        return pages(self._content(), self.path)

    def append(self, link: Link) -> None:
        """Add a line; when this returns it survives a power cut. Raises ``UnfitServer`` on a full disk."""
        is_new = not self.path.exists()
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.path, flags, PRIVATE_FILE)
        try:
            end = self.read().end
            if end < os.fstat(descriptor).st_size:
                os.ftruncate(descriptor, end)
                os.fsync(descriptor)
            with naming_a_full_disk(self.folder):
                if os.write(descriptor, link.line) != len(link.line):
                    raise OSError(errno.ENOSPC, "only a part of the line was written")
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if is_new:
            sync_folder(self.folder)

    def replace(self, links: Iterable[Link]) -> str:
        """Put other links in the place of a damaged ledger, which is kept; return the name it is kept by."""
        kept = self.path.with_name(f"{_DAMAGED}{sha256_hex(self._content())[:16]}")
        if not kept.exists():
            os.link(self.path, kept)  # at no moment is there no ledger
            sync_folder(self.folder)
        write_file(self.path, b"".join(link.line for link in links), PRIVATE_FILE)
        return kept.name

    def set_aside(self) -> tuple[str, ...]:
        """Return the names of damaged ledgers that are kept."""
        return tuple(sorted(path.name for path in self.folder.glob(f"{_DAMAGED}*")))

    def _content(self) -> bytes:
        return self.path.read_bytes() if self.path.exists() else b""


def _take(descriptor: int, path: Path, until: float) -> None:
    while not _taken(descriptor):
        if time.monotonic() > until:
            raise AlreadyRunning(
                text("another audit is being sealed"),
                where=path,
                remedy=text("wait until it has ended; a killed run leaves no lock behind"),
            )
        time.sleep(_POLL_S)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# --- Reading -----------------------------------------------------------------------------------------------


def pages(content: bytes, where: object) -> Pages:
    """Read a ledger's bytes: every line that is a record, and those that are not."""
    lines = content.split(b"\n")[:-1]  # what follows the last newline is torn
    found = [link_from_bytes(line + b"\n") for line in lines]
    if found and found[-1] is None:
        lines, found = lines[:-1], found[:-1]  # blocks of the last line that never reached the disk
    strange = tuple(
        Problem(f"{where}:{number}", text("this line is no record of an audit"))
        for number, link in enumerate(found, start=1)
        if link is None
    )
    links = tuple(link for link in found if link is not None)
    return Pages(links, strange, sum(len(line) + 1 for line in lines))


def breaks(links: Sequence[Link], where: object) -> Iterator[Problem]:
    """Yield where links do not follow one another: gaps, another order, another head, another key."""
    before: Link | None = None
    for link in links:
        number, past = link.record.number, before.record.number if before else 0
        place = f"{where}: {number}"
        if number > past + 1:
            lost = text("records {first} to {last} cannot be shown", first=past + 1, last=number - 1)
            yield Problem(place, lost)
        elif number <= past:
            yield Problem(place, text("this record does not follow record {number}", number=past))
        elif link.record.previous != (before.head if before else None):
            yield Problem(place, text("this record names another head before it than there is"))
        if before and before.record.key != link.record.key:
            yield Problem(place, text("the audit key is another one from this record on"))
        before = link


def journaled(entries: Iterable[Entry]) -> dict[int, str]:
    """Return the heads that the operation log names, by number."""
    named = (entry.facts for entry in entries if entry.event == AUDITED)
    return {int(facts["number"]): str(facts["head"]) for facts in named}


def unlike_journal(links: Iterable[Link], known: Mapping[int, str], where: object) -> Iterator[Problem]:
    """Yield what the operation log says otherwise than the ledger: two chains that vouch for each other."""
    heads = {link.record.number: link.head for link in links}
    for number, head in sorted(known.items()):
        if number not in heads and number > max(heads, default=0):
            said = text("the operation log knows record {number}, and the ledger does not", number=number)
            yield Problem(f"{where}: {number}", said)
        elif heads.get(number, head) != head:
            said = text("the operation log has another head for record {number}", number=number)
            yield Problem(f"{where}: {number}", said)


# --- Going on ----------------------------------------------------------------------------------------------


def rebuilt(ledger: Iterable[Link], signed: Iterable[Link], known: Mapping[int, str]) -> tuple[Link, ...]:
    """Return the longest chain that can be shown, from its newest record back.

    ``signed``: from folders that our key signed; ``known``: heads that the operation log names. A record
    counts where the one after it names it; where there is none, as the log says; where that says nothing, the
    signed one before the ledger's.
    """
    held, sealed = list(ledger), list(signed)
    by_number: dict[int, list[Link]] = {}
    for link in (*sealed, *held):
        by_number.setdefault(link.record.number, []).append(link)
    chosen: list[Link] = []
    for number in sorted(by_number, reverse=True):
        after = chosen[-1].record if chosen and chosen[-1].record.number == number + 1 else None
        wanted = after.previous if after else known.get(number)
        found = [link for link in by_number[number] if link.head == wanted]
        if after is None and wanted is None:
            found = by_number[number]
        chosen += found[:1]
    return tuple(reversed(chosen))


def next_place(links: Sequence[Link], known: Mapping[int, str]) -> tuple[int, str | None]:
    """Return the number of the next record and the head before it; a number is never given twice."""
    newest = max(known, default=0)
    if links and links[-1].record.number >= newest:
        return links[-1].record.number + 1, links[-1].head
    return newest + 1, known.get(newest)
