"""The chain looked at as a whole: ledger, key, operation log, and every sealed folder that is still here."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from appliance.audit.chain import Ledger, breaks, journaled, unlike_journal
from appliance.audit.seal import RECORD, SUMS, key_path, own_key, unseal
from appliance.errors import BanipError, Tampered
from appliance.problems import Problem
from appliance.text import Text, text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from appliance.audit.chain import Pages
    from appliance.audit.seal import Link, Sealed
    from appliance.release import Server

_AUDIT_FOLDER = re.compile(r"([0-9]{8}T[0-9]{6})Z(?:-[0-9]{1,4})?")


@dataclass(frozen=True, slots=True)
class Survey:
    """What is here of the chain; ``key``: SHA-256 of the server's own key, ``whole``: folders by their head.

    ``older``: folders of audits from before there was a chain; nothing is sealed in them. ``mute``: why the
    operation log cannot vouch for the chain, which is that log's own fault.
    """

    links: tuple[Link, ...]
    key: str | None
    problems: tuple[Problem, ...]
    whole: dict[str, Path] = field(default_factory=dict)
    older: tuple[Path, ...] = ()
    mute: Problem | None = None


def survey(server: Server, newest: int | None = None) -> Survey:
    """Look at everything; of the folders at the ``newest`` alone where a number is given."""
    held, problems = Ledger(server.state.folder).read(), list[Problem]()
    where = Ledger(server.state.folder).path
    known, mute = _in_log(server)
    problems += [*held.strange, *breaks(held.links, where), *_set_aside(server)]
    problems += unlike_journal(held.links, known, where)
    key, said = _key(server, held)
    problems += said
    whole, older = dict[str, "Path"](), list["Path"]()
    folders = _folders(server.logs / "audit")
    for folder in folders if newest is None else folders[-newest:]:
        try:
            sealed = _looked_at(folder, held)
        except BanipError as error:
            problems.append(Problem(str(error.where or folder), _seen(error)))
            continue
        if sealed is None:
            older.append(folder)
        else:
            whole[sealed.link.head] = folder
    return Survey(held.links, key, tuple(problems), whole, tuple(older), mute)


def _set_aside(server: Server) -> Iterator[Problem]:
    for name in Ledger(server.state.folder).set_aside():
        yield Problem(str(server.state.folder / name), text("a damaged ledger of audits was put aside"))


def _in_log(server: Server) -> tuple[dict[int, str], Problem | None]:
    try:
        return journaled(server.state.journal.entries()), None
    except Tampered as error:
        return {}, Problem(str(server.state.folder / "journal"), _seen(error))


def _key(server: Server, held: Pages) -> tuple[str | None, list[Problem]]:
    path, last = str(key_path(server.root)), held.links[-1] if held.links else None
    try:
        key = own_key(server.root)
    except Tampered as error:
        return None, [Problem(path, error.happened)]
    if key is None:
        return None, [Problem(path, text("the audit key of this server is gone"))] if last else []
    if last is not None and last.record.key != key.name:
        return key.name, [Problem(path, text("this is not the key of the newest record"))]
    return key.name, []


def _folders(place: Path) -> list[Path]:
    found = sorted(place.iterdir()) if place.is_dir() else []
    return [path for path in found if _AUDIT_FOLDER.fullmatch(path.name)]


def _looked_at(folder: Path, held: Pages) -> Sealed | None:
    """Judge one folder; None where it is older than the chain. Raises ``Tampered``, ``Untrusted``."""
    if not any((folder / name).exists() for name in (RECORD, SUMS)) and _is_older(folder, held):
        return None
    sealed = unseal(folder)
    link = next((one for one in held.links if one.head == sealed.link.head), None)
    if link is None:
        raise Tampered(text("its record is not in the ledger of this server"), where=folder)
    if not re.fullmatch(rf"{sealed.link.record.taken:%Y%m%dT%H%M%SZ}(?:-[0-9]{{1,4}})?", folder.name):
        raise Tampered(text("it bears the name of another audit"), where=folder)
    # The key that signed the folder is the one that its record names, which the ledger has.
    return sealed


def _is_older(folder: Path, held: Pages) -> bool:
    match = _AUDIT_FOLDER.fullmatch(folder.name)
    if match is None or not held.links:
        return match is not None
    taken = datetime.strptime(match[1], "%Y%m%dT%H%M%S").replace(tzinfo=timezone.utc)
    return taken < held.links[0].record.taken.replace(microsecond=0)


def _seen(error: BanipError) -> Text:
    return error.seen if isinstance(error.seen, Text) else error.happened
