"""Audits sealed on a private root, without a server: one good server, at moments that tests choose."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from functools import cache
from typing import TYPE_CHECKING

import msgspec

from appliance.audit.formats import Format
from appliance.audit.report import Wish, write_audit
from appliance.audit.result import audit
from appliance.release import Server
from tests.test_audit_report import facts

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.audit.edition import Edition
    from appliance.audit.facts import AuditFacts
    from appliance.audit.outcome import AuditResult
    from appliance.audit.report import Written
    from appliance.format import Grade
    from appliance.text import Event

FIRST = datetime(2026, 11, 1, 9, 30, tzinfo=timezone.utc)


def note(edition: Edition) -> bytes:
    """Make a report of two lines, for what is not about reports."""
    number = edition.record.number if edition.record else "-"
    return f"{edition.result.host} {number}\n{edition.head}\n".encode()


NOTE = Format("note", "note.txt", note)


@cache
def facts_on(day: int) -> AuditFacts:
    return msgspec.structs.replace(facts(), taken=FIRST + timedelta(days=day))


@cache
def result_on(day: int, grade: Grade = "S") -> AuditResult:
    return audit(facts_on(day), grade)


def sealed_on(
    root: Path, day: int, grade: Grade = "S", out: Path | None = None, said: list[Event] | None = None
) -> Written:
    """Seal the audit of a day, with the two-line report."""
    tell = (lambda _: None) if said is None else said.append
    wish = Wish("ko", (NOTE,), out)
    return write_audit(Server(root), facts_on(day), result_on(day, grade), wish, tell)
