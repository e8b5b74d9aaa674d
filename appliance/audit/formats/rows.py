"""What the tables of a report say, row by row in one language, for every format that has tables. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.audit.formats.voice import NOTHING, share, when
from appliance.audit.words import (
    ANSWER_WORDS,
    ANSWERED_WORDS,
    DECISION_WORDS,
    DIRECTION_WORDS,
    IMPORTANCE_WORDS,
    LABELS,
    STANDING_WORDS,
    STATUS_WORDS,
)
from appliance.text import printable, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from appliance.audit.catalogue import Importance
    from appliance.audit.edition import Edition, Record
    from appliance.audit.formats.voice import Voice
    from appliance.audit.outcome import (
        Accepted,
        Attested,
        AuditResult,
        ControlResult,
        GuideResult,
        Result,
        Shown,
        Status,
        Tailored,
    )
    from appliance.text import Text

#: As the page shows them: what is right, then the worst first.
SHOWN_ORDER: tuple[Status, ...] = ("pass", "fail", "unknown", "exception", "manual", "not-applicable")
URGENT: tuple[Status, ...] = ("fail", "unknown")
_IMPORTANCES: tuple[Importance, ...] = ("high", "medium", "low")
#: Of these a remedy, a question or a place to look at is said.
_TO_DO = frozenset({"fail", "unknown", "manual", "exception"})

COLUMNS: dict[str, Text] = {
    "id": text("No."),
    "area": text("Class and area"),
    "title": LABELS["item"],
    "weight": text("Importance or grades"),
    "status": text("Result"),
    "observed": text("State (observed)"),
    "expected": LABELS["expected"],
    "where": LABELS["where"],
    "remedy": text("What to do"),
    "owner": text("Mended by"),
    "due": text("To be mended by"),
    "note": text("Notes"),
}
DECISION_COLUMNS: dict[str, Text] = {
    name: LABELS[name]
    for name in ("decision", "applies_to", "standing", "until", "by", "reason", "ticket", "used_for")
}
TREND_COLUMNS: dict[str, Text] = {
    "number": LABELS["number"],
    "taken": LABELS["taken"],
    "release": LABELS["release"],
    "score": LABELS["score"],
} | {status: STATUS_WORDS[status] for status in SHOWN_ORDER}
CHANGE_COLUMNS: dict[str, Text] = {
    "id": COLUMNS["id"],
    "before": LABELS["before"],
    "after": LABELS["after"],
    "title": COLUMNS["title"],
}


@dataclass(frozen=True, slots=True)
class Row:
    """One item, check or decision: cells by the name of their column; ``status`` as in ``audit.json``."""

    id: str
    status: Status | None
    cells: Mapping[str, str]


# --- The audits before ------------------------------------------------------------------------------------


def trend_rows(edition: Edition, voice: Voice) -> list[Row]:
    """Return the audits before, and this one where it is in the chain, the oldest first."""
    records = [*edition.trend, *([edition.record] if edition.record else [])]
    return [_trend_row(one, when(one.taken, edition), voice) for one in records]


def _trend_row(one: Record, taken: str, voice: Voice) -> Row:
    cells = {
        "number": str(one.number),
        "taken": taken,
        "release": voice.of(text("{release}, grade {grade}", release=one.release, grade=one.grade)),
        "score": share(one.score),
    }
    return Row(str(one.number), None, cells | {name: str(one.counts.get(name, 0)) for name in SHOWN_ORDER})


def change_rows(edition: Edition, voice: Voice) -> list[Row]:
    """Return what came out otherwise than in the audit before."""
    titles = {one.id: voice.said(one.title) for one in edition.result.results}
    for guide in edition.result.guides:
        titles |= {f"{guide.guide}/{one.id}": printable(one.title) for one in guide.controls}
    changes = edition.comparison.changes if edition.comparison else ()
    return [
        Row(
            one.id,
            one.after,
            {
                "id": one.id,
                "before": voice.status(one.before),
                "after": voice.status(one.after),
                "title": titles.get(one.id, NOTHING),
            },
        )
        for one in changes
    ]


def changed_title(edition: Edition, voice: Voice) -> str:
    """Return the heading of what changed; empty where there is nothing to compare with."""
    if edition.comparison is None:
        return ""
    earlier = edition.comparison.earlier
    taken = when(earlier.taken, edition)
    if edition.comparison.changes:
        return voice.of(
            text("Changed since audit number {number} of {when}", number=earlier.number, when=taken)
        )
    return voice.of(
        text("Nothing changed since audit number {number} of {when}.", number=earlier.number, when=taken)
    )


# --- Checks ------------------------------------------------------------------------------------------------


def check_rows(result: AuditResult, voice: Voice, statuses: Iterable[Status] = SHOWN_ORDER) -> list[Row]:
    """Return our checks of these statuses, in the order of the report."""
    areas = {one.area: voice.said(one.name) for one in result.scores}
    wanted = frozenset(statuses)
    return [_check_row(one, areas, voice) for one in result.results if one.status in wanted]


def urgent_rows(result: AuditResult, voice: Voice) -> list[Row]:
    """Return what failed or was not established, the important first."""
    urgent = sorted(
        (one for one in result.results if one.status in URGENT),
        key=lambda one: (_IMPORTANCES.index(one.importance), URGENT.index(one.status)),
    )
    areas = {one.area: voice.said(one.name) for one in result.scores}
    return [_check_row(one, areas, voice) for one in urgent]


def _check_row(one: Result, areas: Mapping[str, str], voice: Voice) -> Row:
    cells = {
        "id": one.id,
        "area": areas.get(one.area, one.area),
        "title": voice.said(one.title),
        "weight": voice.of(IMPORTANCE_WORDS[one.importance]),
        "status": voice.status(one.status),
        "observed": voice.said(one.observed),
        "expected": voice.said(one.expected),
        "where": printable(one.where),
        "remedy": _remedy(one, voice),
        "owner": "",
        "due": "",
        "note": "\n".join(_check_notes(one, voice)),
    }
    return Row(one.id, one.status, cells)


def _remedy(one: Result, voice: Voice) -> str:
    """Return what to do about a finding, and whether `audit --fix` does it; nothing where all is right."""
    if one.status not in _TO_DO:
        return ""
    by_whom = voice.label("automatic" if one.automatic else "by_hand")
    remedy = voice.said(one.remedy)
    return f"{remedy} ({by_whom})" if remedy and one.status in URGENT else remedy


def _check_notes(one: Result, voice: Voice) -> Iterator[str]:
    if one.found != one.status:
        yield f"{voice.label('found')}: {voice.status(one.found)}"
    yield from _held(one, voice)
    if one.items:
        named = ", ".join(f"{item.label} {item.id}" for item in one.items)
        yield f"{voice.label('items')}: {printable(named)}"


# --- Items of the guides -----------------------------------------------------------------------------------


def item_rows(guide: GuideResult, results: Mapping[str, Result], voice: Voice) -> list[Row]:
    """Return every control of a guide, also those that the grade does not ask; ``results``: checks by id."""
    areas = {one.area: voice.said(one.name) for one in guide.scores}
    return [_item_row(one, areas, results, voice) for one in guide.controls]


def _item_row(
    one: ControlResult, areas: Mapping[str, str], results: Mapping[str, Result], voice: Voice
) -> Row:
    shown = [(each, results[each.check]) for each in one.evidence if each.check in results]
    to_do = [_remedy(found, voice) if each.status in _TO_DO else "" for each, found in shown]
    area = areas.get(one.area, one.area)
    cells = {
        "id": one.id,
        "area": printable(f"{area} / {one.section}" if one.section else area),
        "title": printable(one.title) + (f" [{voice.label('key')}]" if one.key else ""),
        "weight": voice.of(IMPORTANCE_WORDS[one.importance]) if one.importance else one.grades,
        "status": voice.status(one.status),
        "observed": _numbered(_seen(each, found, voice) for each, found in shown),
        "expected": _numbered(voice.said(found.expected) for _, found in shown),
        "where": _numbered(printable(found.where) for _, found in shown),
        "remedy": "\n".join(filter(None, [_numbered(to_do), *_questions(one, voice)])) if one.applies else "",
        "owner": "",
        "due": "",
        "note": "\n".join(_item_notes(one, [found for _, found in shown], voice)),
    }
    return Row(one.id, one.status, cells)


def _seen(each: Shown, found: Result, voice: Voice) -> str:
    what = voice.said(each.part or found.title)
    observed = voice.said(found.observed)
    return f"[{voice.status(each.status)}] {what}" + (f": {observed}" if observed else "")


def _numbered(lines: Iterable[str]) -> str:
    """Return lines with the number of their check, the same in every column; one alone has none."""
    found = list(lines)
    if len(found) == 1:
        return found[0]
    return "\n".join(f"{number}) {line}" for number, line in enumerate(found, 1) if line)


def _questions(one: ControlResult, voice: Voice) -> Iterator[str]:
    if one.open is None:
        return
    if one.open.ask is not None:
        yield f"{voice.label('ask')}: {voice.said(one.open.ask)}"
    if one.open.look:
        yield f"{voice.label('look')}: {', '.join(voice.said(place) for place in one.open.look)}"
    if one.open.registers:
        yield f"{voice.label('registers')}: registers.yaml: {', '.join(one.open.registers)}"


def _item_notes(one: ControlResult, checks: list[Result], voice: Voice) -> Iterator[str]:
    if not one.applies:
        yield voice.label("not_asked")
    attested = f" ({voice.label('attested')})" if one.attested else ""
    yield f"{voice.label('answered')}: {voice.of(ANSWERED_WORDS[one.answered])}{attested}"
    if one.open is not None:
        yield f"{voice.label('why')}: {voice.said(one.open.reason)}"
    yield from _held(one, voice)
    for check in checks:
        for words in _held(check, voice):
            yield f"{check.id}: {words}"
    registers = dict.fromkeys(each.register for each in one.evidence if each.register)
    if registers:
        yield f"{voice.label('by_register')}: {', '.join(registers)}"
    directions = [each.tailored for each in one.evidence if each.tailored]
    if directions and not any(check.tailored for check in checks):
        said = ", ".join(voice.of(DIRECTION_WORDS[each]) for each in dict.fromkeys(directions))
        yield f"{voice.label('tailored')}: {said}"
    for each in one.uncertain:
        note = each.note if isinstance(each.note, str) else voice.said(each.note)
        yield f"{voice.label('uncertain')}: {printable(note)}"
    if one.clause:
        yield f"{voice.label('clause')}: {printable(one.clause.strip())}"


# --- What the institution decided --------------------------------------------------------------------------


def decision_rows(result: AuditResult, voice: Voice) -> list[Row]:
    """Return every decision of the institution, also what lapsed or changed nothing."""
    return [
        Row(
            str(number),
            None,
            {
                "decision": voice.of(DECISION_WORDS[one.kind]),
                "applies_to": ", ".join(one.applies_to),
                "standing": voice.of(STANDING_WORDS[one.standing]),
                "until": str(one.expires),
                "by": printable(one.by),
                "reason": printable(one.reason),
                "ticket": printable(one.ticket),
                "used_for": ", ".join(one.used_for) or NOTHING,
            },
        )
        for number, one in enumerate(result.decisions, 1)
    ]


def _held(one: Result | ControlResult, voice: Voice) -> Iterator[str]:
    """Say the institution's threshold, exception and answer, each with how it stands."""
    tailored: Tailored | None = getattr(one, "tailored", None)
    if tailored is not None:
        yield f"{voice.label('tailored')}: {_told_threshold(tailored, voice)}"
    if one.exception is not None:
        yield f"{voice.label('exception')}: {_told_exception(one.exception, voice)}"
    if one.attestation is not None:
        yield f"{voice.label('attestation')}: {_told_answer(one.attestation, voice)}"


def _told_threshold(one: Tailored, voice: Voice) -> str:
    value = (
        f"{one.value} ({voice.of(DIRECTION_WORDS[one.direction])}; {voice.label('instead')} {one.default})"
    )
    return _joined(value, one.reason, one.approver, f"{voice.label('until')} {one.expires}")


def _told_exception(one: Accepted, voice: Voice) -> str:
    standing = voice.of(STANDING_WORDS[one.standing])
    until = f"{voice.label('until')} {one.expires}"
    return _joined(f"[{standing}] {one.reason}", one.approver, one.ticket, until)


def _told_answer(one: Attested, voice: Voice) -> str:
    standing, answer = voice.of(STANDING_WORDS[one.standing]), voice.of(ANSWER_WORDS[one.answer])
    parts = [
        f"[{standing}] {answer}: {one.statement}",
        f"{one.by} {one.date}",
        f"{voice.label('until')} {one.expires}",
        voice.said(one.void) if one.void else "",
    ]
    if one.certificate:
        held = one.certificate
        until = f"{voice.label('until')} {held.expires}"
        parts.append(f"{voice.label('certificate')} {held.module} {held.number} {until}")
    for file in one.evidence:
        checked = f" ({voice.label('digest_checked')})" if file.sha256 in one.checked else ""
        parts.append(f"{file.file} SHA-256 {file.sha256}{checked}")
    return _joined(*parts)


def _joined(*parts: str) -> str:
    return printable(" · ".join(part for part in parts if part))
