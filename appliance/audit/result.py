"""Checks x facts x what the institution decided: every verdict with its words, and what they come to."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from appliance.audit.catalogue import Check, Words, checks
from appliance.audit.checklists import items_by_check
from appliance.audit.checks import CHECKS, Asked, Verdict, judge_one
from appliance.audit.controls import EXCUSABLE, WEIGHTS, guide_result, share
from appliance.audit.dated import korean_day
from appliance.audit.fixes import is_mendable
from appliance.audit.outcome import STATUSES, AuditResult, ControlResult, Result, Score
from appliance.audit.site import no_rules
from appliance.audit.standing import Decisions
from appliance.text import text

if TYPE_CHECKING:
    from appliance.audit.catalogue import Item
    from appliance.audit.facts import AuditFacts
    from appliance.audit.outcome import Accepted, Attested, GuideResult, Status
    from appliance.audit.site import SiteRules
    from appliance.format import Grade
    from appliance.text import Text

_COUNTED = ("pass", "fail", "unknown", "exception")
_RISING = "OSC"
#: Logs and configuration of a server are sensitive themselves, whatever the grade of what it serves.
_LEAST_REPORT_GRADE = "S"


def audit(facts: AuditFacts, grade: Grade, rules: SiteRules | None = None) -> AuditResult:
    """Judge the facts for a grade, as the institution tailored it.

    Touches nothing: the same facts and rules give the same result anywhere. Whether a decision of the site
    still holds is asked of the time at which the facts were taken.
    """
    rules = rules or no_rules()
    decisions = Decisions(rules, korean_day(facts.taken))
    items = items_by_check(rules.checklists)
    results = {name: _result(name, facts, grade, decisions, items.get(name, ())) for name in checks().checks}
    guides = tuple(guide_result(guide, results, decisions, grade) for guide in rules.checklists.values())
    every = tuple(results.values())
    counts = Counter(one.status for one in every)
    return AuditResult(
        format=2,
        grade=grade,
        report_grade=max(grade, _LEAST_REPORT_GRADE, key=_RISING.index),  # type: ignore[arg-type]
        taken=facts.taken,
        appliance=facts.appliance,
        **_server(facts),
        counts={status: counts[status] for status in STATUSES},
        score=share((WEIGHTS[one.importance], one.status) for one in every),
        scores=tuple(_score(area, name, every) for area, name in checks().areas.items()),
        results=every,
        guides=guides,
        decisions=decisions.log(by_reference(every, guides)),
        site_files=rules.files,
    )


def _server(facts: AuditFacts) -> dict[str, Any]:
    """Return what was audited: members of the result by their names."""
    host, release = facts.host.value, facts.release.value
    return {
        "host": host.name if host else "?",
        "system": f"{host.os}, {host.kernel}" if host else "?",
        "release": release.id if release else "-",
        "release_grade": release.grade if release else None,
    }


def by_reference(
    results: tuple[Result, ...], guides: tuple[GuideResult, ...]
) -> dict[str, Result | ControlResult]:
    """Return every result by the reference that a site's files know it by."""
    found: dict[str, Result | ControlResult] = {one.id: one for one in results}
    return found | {f"{guide.guide}/{one.id}": one for guide in guides for one in guide.controls}


def _result(
    name: str, facts: AuditFacts, grade: Grade, decisions: Decisions, items: tuple[Item, ...]
) -> Result:
    about = checks().checks[name]
    limit, tailored = decisions.limit(name, about, grade)
    verdict = _judge(name, facts, about, Asked(grade, limit, decisions.declared))
    exception = decisions.exception(name)
    attestation = decisions.attestation(name, certified=about.needs_certificate)
    return Result(
        id=name,
        status=_status(verdict.status, exception, attestation),
        found=verdict.status,
        title=about.title,
        area=about.area,
        importance=about.importance,
        observed=_words(verdict.observed),
        expected=about.expected.of(limit=limit, grade=grade),
        where=verdict.where,
        items=items,
        remedy=about.remedy.of(limit=limit, grade=grade),
        automatic=is_mendable(name, facts, limit, verdict.status),
        tailored=tailored,
        exception=exception,
        attestation=attestation,
    )


def _judge(name: str, facts: AuditFacts, about: Check, asked: Asked) -> Verdict:
    if asked.grade not in about.grades:
        return Verdict("not-applicable", text("not asked for at grade {grade}", grade=asked.grade), "")
    return judge_one(name, facts, asked)


def _status(found: Status, exception: Accepted | None, attestation: Attested | None) -> Status:
    """Return what a check is shown as: nobody's word makes it pass, and somebody's may make it fail."""
    if found == "manual" and attestation is not None and attestation.standing == "in-force":
        answered: dict[str, Status] = {"does-not-hold": "fail", "not-applicable": "not-applicable"}
        found = answered.get(attestation.answer, found)
    if found in EXCUSABLE and exception is not None and exception.standing == "in-force":
        return "exception"
    return found


def _words(observed: Text) -> Words:
    return Words(ko=observed.render("ko"), en=observed.render("en"))


def _score(area: str, name: Words, results: tuple[Result, ...]) -> Score:
    here = tuple(one for one in results if one.area == area)
    return Score(
        area=area,
        name=name,
        passed=sum(one.status == "pass" for one in here),
        counted=sum(one.status in _COUNTED for one in here),
        share=share((WEIGHTS[one.importance], one.status) for one in here),
    )


def uncovered() -> set[str]:
    """Return ids that have words and no judgement, or a judgement and no words: there must be none."""
    return CHECKS.keys() ^ checks().checks.keys()
