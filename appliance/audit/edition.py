"""What a report is made of: a result, its place in this server's chain of audits, and the audit before it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - msgspec resolves annotations at run time
from typing import TYPE_CHECKING, Literal

from appliance.audit.catalogue import Words  # noqa: TC001 - as above
from appliance.audit.outcome import Status  # noqa: TC001 - as above
from appliance.format import Grade, Sha256, Value

if TYPE_CHECKING:
    from appliance.audit.outcome import AuditResult
    from appliance.text import Language, Text


class Unavailable(Exception):
    """A format cannot be made here; ``words`` name what is missing and what serves instead."""

    def __init__(self, words: Text) -> None:
        super().__init__(str(words))
        self.words = words


class Record(Value, frozen=True):
    """A link of the chain of audits (``record.json``); its head is the SHA-256 of its bytes.

    ``number`` counts from 1; ``previous`` is the head before it, None for the first. ``facts`` and ``result``
    are the SHA-256 of ``facts.json`` and ``audit.json``, ``key`` that of the server's public key (DER).
    """

    format: Literal[1]
    number: int
    previous: Sha256 | None
    taken: datetime
    host: str
    release: str
    grade: Grade
    report_grade: Grade
    score: int | None
    counts: dict[Status, int]
    facts: Sha256
    result: Sha256
    key: Sha256


@dataclass(frozen=True, slots=True)
class Change:
    """A check, or a control as ``guide/id``, whose status is another than in the audit before."""

    id: str
    before: Status | None
    after: Status | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changed since an earlier audit of the same grade."""

    earlier: Record
    changes: tuple[Change, ...]


class History(Value, frozen=True):
    """What an audit knew of those before it (``history.json``): its report can be made again anywhere.

    ``absent``: why there is nothing to compare with, where there is not.
    """

    format: Literal[1] = 1
    comparison: Comparison | None = None
    trend: tuple[Record, ...] = ()
    absent: Words | None = None


@dataclass(frozen=True, slots=True)
class Edition:
    """One report, in whatever format: every format is made from this and from nothing else.

    ``record`` and ``head`` are None for a result that is in no chain, because it was judged elsewhere;
    ``judged_from`` is then the record whose facts were judged again. ``verified``: the facts come from a
    sealed folder, and not from a bare file that anybody may have written. ``trend``: the records of earlier
    audits of the same grade, and the newest of each other grade, the oldest first. ``redacted``: for taking
    out of the institute.
    """

    result: AuditResult
    language: Language
    record: Record | None = None
    head: str | None = None
    comparison: Comparison | None = None
    trend: tuple[Record, ...] = ()
    redacted: bool = False
    verified: bool = True
    judged_from: Record | None = None
