"""What became of the audit before: which statuses changed, and how the score went. Pure but for reading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from appliance.audit.catalogue import Words
from appliance.audit.edition import Change, Comparison, History
from appliance.audit.outcome import AuditResult
from appliance.audit.result import by_reference
from appliance.audit.seal import RECORD, RESULT, SMALL_MOST_BYTES, plain_bytes
from appliance.errors import Tampered
from appliance.format import sha256_hex
from appliance.text import Text, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from appliance.audit.outcome import Status
    from appliance.audit.seal import Link

TREND_MOST = 12


@dataclass(frozen=True, slots=True)
class Altered(Exception):
    """An earlier result cannot be compared with; ``reason`` says why."""

    reason: Text


def look_back(links: Iterable[Link], result: AuditResult, folders: Mapping[str, Path]) -> History:
    """Compare with the newest earlier audit of the same grade whose folder is here and unchanged.

    ``folders``: by head. Nothing is believed that does not have the digest that the ledger names. Of other
    grades the trend has the newest audit each: their scores stand beside, and are compared with nothing.
    """
    every = list(links)
    same = [link for link in every if link.record.grade == result.grade][-TREND_MOST:]
    others = {link.record.grade: link.record for link in every if link.record.grade != result.grade}
    comparison, reasons = None, list[Text]()
    for link in reversed(same):
        try:
            earlier = _earlier(link, folders)
        except Altered as found:
            reasons.append(found.reason)
            continue
        comparison = Comparison(link.record, changes(earlier, result))
        break
    absent = reasons[0] if reasons else text("there is no earlier audit of grade {grade}", grade=result.grade)
    return History(
        comparison=comparison,
        trend=tuple(sorted([*others.values(), *(link.record for link in same)], key=lambda one: one.number)),
        absent=None if comparison and not reasons else Words(ko=absent.render("ko"), en=absent.render("en")),
    )


def _earlier(link: Link, folders: Mapping[str, Path]) -> AuditResult:
    number, folder = link.record.number, folders.get(link.head)
    if folder is None:
        raise Altered(text("the folder of record {number} is not here", number=number))
    try:
        content = plain_bytes(folder / RESULT)
    except Tampered as error:
        raise Altered(text("record {number}: {path} cannot be read", number=number, path=RESULT)) from error
    if sha256_hex(content) != link.record.result:
        raise Altered(text("record {number}: {path} is not what was signed", number=number, path=RESULT))
    try:
        return msgspec.json.decode(content, type=AuditResult)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        told = text("record {number} was written by another version and cannot be compared", number=number)
        raise Altered(told) from error


def changes(earlier: AuditResult, result: AuditResult) -> tuple[Change, ...]:
    """Return checks, and controls as ``guide/id``, whose status is another than it was."""
    before, after = _statuses(earlier), _statuses(result)
    return tuple(
        Change(name, before.get(name), after.get(name))
        for name in (*after, *(name for name in before if name not in after))
        if before.get(name) != after.get(name)
    )


def _statuses(result: AuditResult) -> dict[str, Status]:
    return {name: one.status for name, one in by_reference(result.results, result.guides).items()}


def folders_by_head(places: Sequence[Path]) -> dict[str, Path]:
    """Return the folders below some places that have a record, by the head that the record makes."""
    found: dict[str, Path] = {}
    for place in places:
        for folder in sorted(place.iterdir()) if place.is_dir() else ():
            if not folder.name.startswith(".") and (folder / RECORD).is_file():
                found.setdefault(_head(folder), folder)
    return found


def _head(folder: Path) -> str:
    try:
        return sha256_hex(plain_bytes(folder / RECORD, SMALL_MOST_BYTES))
    except Tampered:
        return ""
