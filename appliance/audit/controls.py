"""Controls of the guides, judged from what the checks found and from what people answered. Pure.

A control is as good as the worst of its checks. What a check shows in part never makes it green: the rest is
a person's to answer, and an answered control is shown as answered, not as passed. Only where the rest is
whether something was approved, and the institution has entered what it approved, checks compare and answer.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from appliance.audit.catalogue import Words, both, checks
from appliance.audit.checklists import GUIDES
from appliance.audit.outcome import STATUSES, ControlResult, GuideResult, Open, Score, Shown, worst

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from appliance.audit.catalogue import Answered, Checklist, Control, Importance, Rest
    from appliance.audit.outcome import Accepted, Attested, Result, Status
    from appliance.audit.standing import Decisions
    from appliance.format import Grade

WEIGHTS: dict[Importance, int] = {"high": 3, "medium": 2, "low": 1}
ANSWERED: tuple[Answered, ...] = ("automated", "partial", "manual", "institution", "not-applicable")
#: What an exception may stand for: a fault, or what nobody answered. What was not read, nobody can accept.
EXCUSABLE = frozenset({"fail", "manual"})
_COUNTED = ("pass", "fail", "unknown", "exception")


def guide_result(
    guide: Checklist, results: Mapping[str, Result], decisions: Decisions, grade: Grade
) -> GuideResult:
    """Judge every control of a guide at a grade; ``results``: of our checks, by id."""
    controls = tuple(_control(one, guide.guide, results, decisions, grade) for one in guide.controls)
    applying = [one for one in controls if one.applies]
    counts = Counter(one.status for one in applying)
    answered = Counter(one.answered for one in applying)
    return GuideResult(
        guide=guide.guide,
        label=guide.label,
        title=both(guide.title),
        edition=guide.edition,
        own=guide.guide not in GUIDES,
        notes=tuple(both(note) for note in guide.notes),
        counts={status: counts[status] for status in STATUSES},
        answered={kind: answered[kind] for kind in ANSWERED},
        attested=sum(one.attested for one in applying),
        score=share((_weight(one), one.shown) for one in applying),
        scores=tuple(_score(area, both(name), applying) for area, name in guide.areas.items()),
        controls=controls,
    )


def share(found: Iterable[tuple[int, Status | None]]) -> int | None:
    """Return what passed of what counts, weighted, 0-100; None where nothing counts."""
    counted = [(weight, status) for weight, status in found if status in _COUNTED]
    total = sum(weight for weight, _ in counted)
    return 100 * sum(weight for weight, status in counted if status == "pass") // total if total else None


def _score(area: str, name: Words, applying: list[ControlResult]) -> Score:
    here = [one for one in applying if one.area == area]
    return Score(
        area=area,
        name=name,
        passed=sum(one.shown == "pass" for one in here),
        counted=sum(one.shown in _COUNTED for one in here),
        share=share((_weight(one), one.shown) for one in here),
    )


def _weight(control: ControlResult) -> int:
    """Weigh a control by its importance; where its guide has none, a key measure is high, others medium."""
    return WEIGHTS[control.importance or ("high" if control.key else "medium")]


def _control(
    control: Control, guide: str, results: Mapping[str, Result], decisions: Decisions, grade: Grade
) -> ControlResult:
    applies = control.asked_at(grade)
    evidence = tuple(_shown(control, one.check, results) for one in control.checks)
    attested = decisions.attestation(f"{guide}/{control.id}", certified=_needs_certificate(control))
    exception = decisions.exception(f"{guide}/{control.id}")
    settled = _is_settled(control.rest, results)
    found = _found(control.rest, evidence, attested, settled=settled) if applies else "not-applicable"
    return ControlResult(
        id=control.id,
        title=control.title,
        area=control.area,
        section=control.section,
        importance=control.importance,
        grades=control.grades if control.grades is not None else "CSO",
        managerial=control.managerial,
        key=control.key,
        applies=applies,
        answered=control.answered(grade, decisions.registers if settled else ()),
        status="exception" if _excused(found, exception) else found,
        shown=_worst_shown(evidence),
        attested=found == "manual" and _is_answered(control.rest, evidence, attested, results),
        evidence=evidence,
        open=None if settled else _open(control.rest, decisions.registers),
        uncertain=control.uncertain,
        clause=control.clause,
        exception=exception,
        attestation=attested,
    )


def _needs_certificate(control: Control) -> bool:
    return any(checks().checks[one.check].needs_certificate for one in control.checks)


def _shown(control: Control, check: str, results: Mapping[str, Result]) -> Shown:
    (one,) = (each for each in control.checks if each.check == check)
    result = results[check]
    part = both(one.part) if one.part is not None else result.title if one.shows == "part" else None
    tailored = result.tailored.direction if result.tailored else None
    register = checks().checks[check].register
    return Shown(
        check=check,
        status=result.status,
        shows=one.shows,
        part=part,
        tailored=tailored,
        register=register,
    )


def _worst_shown(evidence: tuple[Shown, ...]) -> Status | None:
    """Return the worst that a check found, of those that say anything; None where none does."""
    found = tuple(one.status for one in evidence if one.status in _COUNTED)
    return worst(found) if found else None


def _is_settled(rest: Rest | None, results: Mapping[str, Result]) -> bool:
    """Tell whether checks by the institution's registers answered what was left to a person.

    Each must have compared, or found nothing here to compare; one at least must have compared.
    """
    found = {results[name].found for name in rest.settled_by} if rest else set()
    return "manual" not in found and bool(found - {"not-applicable"})


def _found(
    rest: Rest | None, evidence: tuple[Shown, ...], attested: Attested | None, *, settled: bool
) -> Status:
    """Return the worst of what checks found and people answered; who answers that it holds proves nothing."""
    statuses = [one.status for one in evidence]
    if rest is not None and not settled:
        statuses.append("not-applicable" if rest.kind == "not-applicable" else "manual")
    asked = settled or "manual" in statuses
    if attested is not None and attested.standing == "in-force" and asked:
        if attested.answer == "does-not-hold":
            return "fail"
        if attested.answer == "not-applicable" and not evidence:
            return "not-applicable"
    return worst(tuple(statuses))


def _excused(found: Status, exception: Accepted | None) -> bool:
    return found in EXCUSABLE and exception is not None and exception.standing == "in-force"


def _is_answered(
    rest: Rest | None,
    evidence: tuple[Shown, ...],
    attested: Attested | None,
    results: Mapping[str, Result],
) -> bool:
    """Tell whether all that a person must answer of a control is answered, by itself or check by check."""
    if _holds(attested):
        return True
    manual = [results[one.check].attestation for one in evidence if one.status == "manual"]
    return rest is None and all(_holds(one) for one in manual)


def _holds(attested: Attested | None) -> bool:
    return attested is not None and attested.standing == "in-force" and attested.answer == "holds"


def _open(rest: Rest | None, declared: Collection[str]) -> Open | None:
    if rest is None:
        return None
    ask = both(rest.ask) if rest.ask is not None else None
    return Open(
        kind=rest.kind,
        reason=both(rest.reason),
        ask=ask,
        look=tuple(both(place) for place in rest.look),
        registers=tuple(name for name in rest.registers() if name not in declared),
    )
