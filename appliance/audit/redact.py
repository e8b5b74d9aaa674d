"""The edition that may be taken out of the institute: an allow-list, rebuilt from the catalogues. Pure.

Nothing is copied that somebody could have written: of a result only what comes from a closed set survives
(statuses, importance, grades, numbers), and every word is taken anew from the catalogues that came with this
program, by id. What this program does not know is left out, and so is every member added to the shapes later.

::

    survives                        ids, titles, areas, expected values, statuses, importance, grades, counts,
                                    scores, the day, number and digests of the chain of audits; own
                                    thresholds with their direction and last day
    replaced by ``LEFT_OUT``        server, system, release, auditing program
    left out                        what was observed and where, remedies, reasons, questions, clauses, notes,
                                    exceptions, attestations, decisions and their people, files, the
                                    institution's own checklists; of the time all but the day

The grade of the report stays that of the full one: it names no server but says where one is weak. Whether it
is open (O) and may leave is the institution's decision.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING

from appliance.audit.catalogue import Words, both, checks
from appliance.audit.checklists import guides, items_by_check
from appliance.audit.dated import KOREA, korean_day
from appliance.audit.edition import Comparison, Edition, Record
from appliance.audit.outcome import AuditResult, ControlResult, GuideResult, Result, Score, Shown, Tailored

if TYPE_CHECKING:
    from appliance.audit.catalogue import Check, Checklist, Control, Item
    from appliance.audit.edition import Change
    from appliance.format import Grade

#: Stands where a name stood.
LEFT_OUT = "***"
_NOTHING = Words(ko="", en="")
#: How a threshold is written: permission bits, or a number; nothing else passes.
_LIMIT = re.compile(r"[0-9]{1,9}(\.[0-9]{1,3})?")


def redacted_edition(edition: Edition) -> Edition:
    """Return an edition that may be taken out; one that is redacted already comes back as it is."""
    return Edition(
        result=redacted(edition.result),
        language=edition.language,
        record=_record(edition.record) if edition.record else None,
        head=edition.head,
        comparison=_comparison(edition.comparison) if edition.comparison else None,
        trend=tuple(_record(one) for one in edition.trend),
        redacted=True,
        verified=edition.verified,
        judged_from=_record(edition.judged_from) if edition.judged_from else None,
    )


def redacted(result: AuditResult) -> AuditResult:
    """Return what of a result may be taken out."""
    known = guides()
    items = items_by_check(known)
    own = [one for one in result.results if one.id in checks().checks]
    return AuditResult(
        format=2,
        grade=result.grade,
        report_grade=result.report_grade,
        taken=_day_of(result.taken),
        appliance=LEFT_OUT,
        host=LEFT_OUT,
        system=LEFT_OUT,
        release=LEFT_OUT,
        release_grade=result.release_grade,
        counts=result.counts,
        score=result.score,
        scores=_scores(result.scores, checks().areas),
        results=tuple(_result(one, result.grade, items.get(one.id, ())) for one in own),
        guides=tuple(_guide(one, known[one.guide]) for one in result.guides if one.guide in known),
        decisions=(),
        site_files=(),
    )


def _day_of(moment: datetime) -> datetime:
    """Return the beginning of the day in Korea: by the minute, logs elsewhere would tell which server."""
    day = korean_day(moment)
    return datetime(day.year, day.month, day.day, tzinfo=KOREA)


# --- Checks ------------------------------------------------------------------------------------------------


def _result(one: Result, grade: Grade, items: tuple[Item, ...]) -> Result:
    about = checks().checks[one.id]
    tailored = _tailored(one, about, grade)
    limit = tailored.value if tailored else about.limits.get(grade, "")
    return Result(
        id=one.id,
        status=one.status,
        found=one.found,
        title=about.title,
        area=about.area,
        importance=about.importance,
        observed=_NOTHING,
        expected=about.expected.of(limit=limit, grade=grade),
        where="",
        items=items,
        remedy=_NOTHING,
        tailored=tailored,
    )


def _tailored(one: Result, about: Check, grade: Grade) -> Tailored | None:
    """Return an own threshold without its reason and people: what a looser one lets pass stays marked."""
    own = one.tailored
    if own is None or not _LIMIT.fullmatch(own.value):
        return None
    return Tailored(
        value=own.value,
        default=about.limits.get(grade, ""),
        direction=own.direction,
        reason=LEFT_OUT,
        approver=LEFT_OUT,
        expires=own.expires,
    )


# --- Guides ------------------------------------------------------------------------------------------------


def _guide(one: GuideResult, known: Checklist) -> GuideResult:
    controls = {control.id: control for control in known.controls}
    return GuideResult(
        guide=known.guide,
        label=known.label,
        title=both(known.title),
        edition=known.edition,
        own=False,
        notes=(),
        counts=one.counts,
        answered=one.answered,
        attested=one.attested,
        score=one.score,
        scores=_scores(one.scores, {area: both(name) for area, name in known.areas.items()}),
        controls=tuple(_control(each, controls[each.id]) for each in one.controls if each.id in controls),
    )


def _control(one: ControlResult, known: Control) -> ControlResult:
    return ControlResult(
        id=known.id,
        title=known.title,
        area=known.area,
        section=known.section,
        importance=known.importance,
        grades="".join(grade for grade in "CSO" if grade in one.grades),
        managerial=known.managerial,
        key=known.key,
        applies=one.applies,
        answered=one.answered,
        status=one.status,
        shown=one.shown,
        attested=one.attested,
        evidence=tuple(
            Shown(check=each.check, status=each.status, shows=each.shows, part=None, tailored=each.tailored)
            for each in one.evidence
            if each.check in checks().checks
        ),
        open=None,
        uncertain=(),
        clause="",
    )


def _scores(scores: tuple[Score, ...], names: dict[str, Words]) -> tuple[Score, ...]:
    return tuple(
        Score(area=one.area, name=names[one.area], passed=one.passed, counted=one.counted, share=one.share)
        for one in scores
        if one.area in names
    )


# --- The chain ---------------------------------------------------------------------------------------------


def _record(one: Record) -> Record:
    """Return a link without its server; by its digests the institution finds the full report."""
    return Record(
        format=1,
        number=one.number,
        previous=one.previous,
        taken=_day_of(one.taken),
        host=LEFT_OUT,
        release=LEFT_OUT,
        grade=one.grade,
        report_grade=one.report_grade,
        score=one.score,
        counts=one.counts,
        facts=one.facts,
        result=one.result,
        key=one.key,
    )


def _comparison(found: Comparison) -> Comparison:
    return Comparison(
        earlier=_record(found.earlier), changes=tuple(one for one in found.changes if _is_known(one))
    )


def _is_known(change: Change) -> bool:
    """Tell whether a change is of a check, or of a control of a guide, that came with this program."""
    guide, _, control = change.id.partition("/")
    if not control:
        return change.id in checks().checks
    return guide in guides() and any(one.id == control for one in guides()[guide].controls)
