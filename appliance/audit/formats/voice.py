"""The words that documents share, in one language: heading, what was audited, limits. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.audit.dated import korean_day, korean_time
from appliance.audit.edition import Unavailable
from appliance.audit.words import GRADE_WORDS, LABELS, STATUS_WORDS
from appliance.text import printable, text

if TYPE_CHECKING:
    from datetime import datetime

    from appliance.audit.catalogue import Words
    from appliance.audit.edition import Edition
    from appliance.audit.outcome import Status
    from appliance.text import Language, Text

NOTHING = "-"
#: What only documents say.
SAYINGS: dict[str, Text] = {
    "summary": text("Summary"),
    "counts": text("How many checks"),
    "trend": text("Audits before, and this one"),
    "asked": text("Asked at this grade"),
    "passed": text("Right, of those counted"),
    "limits_and_signatures": text("Limits, confirmation"),
}


@dataclass(frozen=True, slots=True)
class Voice:
    """A report's words, in one language, with nothing in them that steers or hides."""

    language: Language

    def of(self, words: Text) -> str:
        """Put our own words into the language."""
        return words.render(self.language)

    def said(self, words: Words) -> str:
        """Return what is written in both languages."""
        return printable(words.ko if self.language == "ko" else words.en)

    def label(self, name: str) -> str:
        """Return a label of the report."""
        return self.of(LABELS[name])

    def saying(self, name: str) -> str:
        """Return a label that only documents have."""
        return self.of(SAYINGS[name])

    def status(self, status: Status | None) -> str:
        """Return 양호, 취약, ...; a dash where there is none."""
        return self.of(STATUS_WORDS[status]) if status else NOTHING


def needs(package: str) -> Unavailable:
    """Return what to raise where a Python package is missing."""
    return Unavailable(text("the Python package {package} is not installed here", package=package))


def title(edition: Edition, voice: Voice) -> str:
    """Return what the document is called; a redacted one says so."""
    name = voice.label("title")
    return f"{name} ({voice.label('redacted')})" if edition.redacted else name


def graded(edition: Edition, voice: Voice) -> str:
    """Return the mark of the document's own grade."""
    grade = edition.result.report_grade
    return f"{voice.label('report_grade')}: {grade} {voice.of(GRADE_WORDS[grade])}"


def about(edition: Edition, voice: Voice) -> list[tuple[str, str]]:
    """Return what was audited, when, by what, and where that stands in the chain of audits."""
    result, record = edition.result, edition.record
    release = f"{result.release} ({result.release_grade})" if result.release_grade else result.release
    rows = [
        (voice.label("host"), result.host),
        (voice.label("system"), result.system),
        (voice.label("release"), release),
        (voice.label("grade"), f"{result.grade} {voice.of(GRADE_WORDS[result.grade])}"),
        (voice.label("taken"), when(result.taken, edition)),
        (voice.label("appliance"), f"appliance {result.appliance}"),
        (voice.label("number"), str(record.number) if record else _no_chain(edition, voice)),
        (voice.label("head"), edition.head or NOTHING),
    ]
    return [(label, printable(value)) for label, value in rows]


def signed(edition: Edition, voice: Voice) -> list[str]:
    """Return what stands where people sign: that page alone must name the audit."""
    wanted = ("host", "release", "taken", "grade", "number", "head")
    labels = {voice.label(name) for name in wanted}
    rows = [f"{label}: {value}" for label, value in about(edition, voice) if label in labels]
    return [" · ".join([*rows[:4], graded(edition, voice)]), " · ".join(rows[4:])]


def _no_chain(edition: Edition, voice: Voice) -> str:
    told = voice.label("no_chain")
    if edition.judged_from is None:
        return told
    return f"{told}. {voice.label('judged_from')} {edition.judged_from.number}"


def warnings(edition: Edition, voice: Voice) -> list[str]:
    """Return what must stand beside the title: who vouches for it, and what was left out."""
    told = [] if edition.verified else [voice.label("unverified")]
    return [
        *told,
        *([voice.label("redacted_note"), voice.label("redacted_grade")] if edition.redacted else []),
    ]


def when(moment: datetime, edition: Edition) -> str:
    """Return a time of an audit, as clocks in Korea show it; of a redacted one nothing but the day."""
    if edition.redacted:
        return str(korean_day(moment))
    return korean_time(moment)


def limits(voice: Voice) -> list[str]:
    """Return what the report does not say."""
    return [voice.label(name) for name in LABELS if name.startswith("limit_")]


def share(value: int | None) -> str:
    """Return a score as text; a dash where nothing counts."""
    return NOTHING if value is None else str(value)
