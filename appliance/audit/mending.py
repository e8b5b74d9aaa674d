"""What has to hold before an audit can be sealed: the chain goes on where it ended, and what is lost is said.

Called under the ledger's lock. A backup that was put back, a ledger or a key that is gone, a run that was
killed: none of them starts the chain anew, and none passes in silence.
"""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from appliance.audit.chain import AUDITED, Ledger, journaled, next_place, rebuilt
from appliance.audit.history import folders_by_head
from appliance.audit.seal import Link, make_key, own_key, unseal
from appliance.durable import rename_durably, sync_folder
from appliance.errors import AlreadyRunning, BanipError, Tampered
from appliance.text import Event, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from appliance.audit.chain import Pages
    from appliance.audit.seal import AuditKey
    from appliance.release import Server
    from appliance.text import Text

#: How a folder is called while it is filled; no audit's folder is hidden.
_LEFT = re.compile(r"\.([0-9]{8}T[0-9]{6}Z(?:-[0-9]{1,4})?)\.new")
#: An operation log that was begun anew gets the newest heads again, and not a year of them.
_ENTERED_MOST = 12


@dataclass(frozen=True, slots=True)
class Ready:
    """Where the next audit stands: its key, its number, the head before it, and the links that there are."""

    key: AuditKey
    links: tuple[Link, ...]
    number: int
    previous: str | None
    said: tuple[str, ...] = field(default=())


def ready(server: Server, place: Path, tell: Callable[[Event], None]) -> Ready:
    """Mend the chain as far as anything can be shown, make the key where there is none; tell all of it.

    Raises ``Tampered`` for a key that is none.
    """
    ledger = Ledger(server.state.folder)
    tidy(place, ledger.read())
    held, known, said = ledger.read(), heads_in_log(server, tell), list[str]()

    def warn(words: Text) -> None:
        said.append(str(words))
        tell(Event("chain", words))

    key = own_key(server.root)
    keys = {link.record.key for link in held.links} | ({key.name} if key else set())
    links = rebuilt(held.links, _signed(server, held, keys), known)
    _mend(ledger, held, links, warn)
    number, previous = next_place(links, known)
    if number > 1 and (not links or links[-1].record.number < number - 1):
        warn(
            text(
                "of record {number} only the operation log is left; the chain goes on after it",
                number=number - 1,
            )
        )
    return Ready(_key(server, key, links, warn), links, number, previous, tuple(said))


def _key(
    server: Server, key: AuditKey | None, links: tuple[Link, ...], warn: Callable[[Text], None]
) -> AuditKey:
    if key is None and links:
        warn(text("the audit key of this server is gone; a new one is made, compare it with paper again"))
    elif key is not None and links and links[-1].record.key != key.name:
        warn(text("the audit key is another one than that of the audit before"))
    elif key is not None and not links:
        warn(
            text(
                "this server has an audit key and no record of an audit: the first one was cut off, or its "
                "records were removed"
            )
        )
    return key or make_key(server.root)


def _signed(server: Server, held: Pages, keys: set[str]) -> list[Link]:
    """Return the records of sealed folders that the ledger lacks, where a key that is known signed them.

    Where key and ledger are gone, too, any key will do: the next record names another, which stays a fault.
    """
    heads, found = {link.head for link in held.links}, list[Link]()
    for head, folder in folders_by_head((server.logs / "audit",)).items():
        if head not in heads:
            with suppress(BanipError):  # what is wrong with a folder, `audit verify` says
                sealed = unseal(folder)
                if sealed.key in keys or not keys:
                    found.append(sealed.link)
    return found


def _mend(ledger: Ledger, held: Pages, links: tuple[Link, ...], warn: Callable[[Text], None]) -> None:
    """Let the ledger hold what can be shown: lines are added, and only a damaged one is put aside."""
    added = links[len(held.links) :]
    if held.strange or links[: len(held.links)] != held.links:
        kept = ledger.replace(links)
        warn(text("the ledger of audits was damaged; it is kept as {name}", name=kept))
    elif added:
        for link in added:
            ledger.append(link)
        warn(text("{count} records that the ledger lacked were taken from their folders", count=len(added)))


# --- What a killed run left --------------------------------------------------------------------------------


def tidy(place: Path, held: Pages) -> None:
    """Finish the folder whose record is in the ledger already, and remove every other unfinished one."""
    heads = {link.head for link in held.links}
    for left, name in _left(place):
        whole = place / name
        sealed = None
        with suppress(BanipError):
            sealed = unseal(left)
        if sealed and sealed.link.head in heads and not whole.exists():
            rename_durably(left, whole)
        else:
            shutil.rmtree(left)
            sync_folder(place)


def _left(place: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(place.iterdir()) if place.is_dir() else ():
        match = _LEFT.fullmatch(path.name)
        if match and path.is_dir() and not path.is_symlink():
            yield path, match[1]


# --- The operation log -------------------------------------------------------------------------------------


def heads_in_log(server: Server, tell: Callable[[Event], None] = lambda _: None) -> Mapping[int, str]:
    """Return the heads that the operation log names; a damaged log names none, which is said."""
    try:
        return journaled(server.state.journal.entries())
    except Tampered as error:
        tell(
            Event(
                "chain",
                text("the operation log cannot vouch for the audits: {reason}", reason=error.happened),
            )
        )
        return {}


def enter(
    server: Server, links: tuple[Link, ...], said: tuple[str, ...], tell: Callable[[Event], None]
) -> None:
    """Name the newest heads in the operation log, so that the two chains vouch for each other.

    Where an installation holds the server's lock, or the log is damaged, the next audit does it.
    """
    journal = server.state.journal
    try:
        with server.state.lock("audit"):
            newest = max(journaled(journal.entries()), default=0)
            if said:
                journal.append("audit-chain-mended", said=list(said))
            for link in [link for link in links if link.record.number > newest][-_ENTERED_MOST:]:
                record = link.record
                facts = {"grade": record.grade, "score": record.score, "counts": dict(record.counts)}
                journal.append(AUDITED, number=record.number, head=link.head, **facts)
    except (AlreadyRunning, Tampered) as error:
        words = text("the operation log does not name this audit yet: {reason}", reason=error.happened)
        tell(Event("chain", words))
