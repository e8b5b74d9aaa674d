"""Checks x facts: every verdict with its words, and what they come to."""

from __future__ import annotations

from collections import Counter
from datetime import datetime  # noqa: TC003 - msgspec resolves annotations at run time
from typing import TYPE_CHECKING, Literal

from appliance.audit.catalogue import AREAS_OF_GUIDES, Check, Importance, Item, Words, checks, items
from appliance.audit.checks import CHECKS, Asked, Verdict, judge_one
from appliance.audit.checks.verdict import Status  # noqa: TC001 - msgspec resolves annotations at run time
from appliance.format import Grade, Value
from appliance.text import Text, text

if TYPE_CHECKING:
    from appliance.audit.facts import AuditFacts

STATUSES: tuple[Status, ...] = ("fail", "unknown", "manual", "pass", "not-applicable")
WEIGHTS: dict[Importance, int] = {"high": 3, "medium": 2, "low": 1}
_COUNTED = ("pass", "fail", "unknown")
_RISING = "OSC"
#: Logs and configuration of a server are sensitive themselves, whatever the grade of what it serves.
_LEAST_REPORT_GRADE = "S"


class Result(Value, frozen=True):
    """One check: what was asked, what was seen and where, which items it stands for, what to do."""

    id: str
    status: Status
    title: Words
    area: str
    importance: Importance
    observed: Words
    expected: Words
    where: str
    items: tuple[Item, ...]
    remedy: Words


class Score(Value, frozen=True):
    """An area: how many checks passed of those that count, and the share weighted by importance, 0-100.

    ``share`` is None where nothing counts. Manual and not applicable do not count; unknown does, unpassed.
    """

    area: str
    name: Words
    passed: int
    counted: int
    share: int | None


class AuditResult(Value, frozen=True):
    """An audit of one server at one moment; ``report_grade`` is the grade of the report as a document."""

    format: Literal[1]
    grade: Grade
    report_grade: Grade
    taken: datetime
    appliance: str
    host: str
    system: str
    release: str
    release_grade: Grade | None
    counts: dict[Status, int]
    score: int | None
    scores: tuple[Score, ...]
    results: tuple[Result, ...]


def audit(facts: AuditFacts, grade: Grade) -> AuditResult:
    """Judge the facts for a grade. Touches nothing: the same facts give the same result anywhere."""
    results = tuple(_result(name, facts, grade) for name in checks().checks)
    scores = tuple(_score(area, name, results) for area, name in checks().areas.items())
    host, release = facts.host.value, facts.release.value
    counts = Counter(one.status for one in results)
    return AuditResult(
        format=1,
        grade=grade,
        report_grade=max(grade, _LEAST_REPORT_GRADE, key=_RISING.index),  # type: ignore[arg-type]
        taken=facts.taken,
        appliance=facts.appliance,
        host=host.name if host else "?",
        system=f"{host.os}, {host.kernel}" if host else "?",
        release=release.id if release else "-",
        release_grade=release.grade if release else None,
        counts={status: counts[status] for status in STATUSES},
        score=_share(results),
        scores=scores,
        results=results,
    )


def _result(name: str, facts: AuditFacts, grade: Grade) -> Result:
    about = checks().checks[name]
    limit = about.limits.get(grade, "")
    found = _judge(name, facts, grade, about, limit)
    return Result(
        id=name,
        status=found.status,
        title=about.title,
        area=about.area,
        importance=about.importance,
        observed=_words(found.observed),
        expected=about.expected.of(limit=limit, grade=grade),
        where=found.where,
        items=_items(about),
        remedy=about.remedy.of(limit=limit, grade=grade),
    )


def _judge(name: str, facts: AuditFacts, grade: Grade, about: Check, limit: str) -> Verdict:
    if grade not in about.grades:
        return Verdict("not-applicable", text("not asked for at grade {grade}", grade=grade), "")
    return judge_one(name, facts, Asked(grade, limit))


def _items(about: Check) -> tuple[Item, ...]:
    found = items()
    return tuple(found[guide][number] for guide in AREAS_OF_GUIDES for number in getattr(about, guide))


def _words(observed: Text) -> Words:
    return Words(ko=observed.render("ko"), en=observed.render("en"))


def _score(area: str, name: Words, results: tuple[Result, ...]) -> Score:
    here = tuple(one for one in results if one.area == area and one.status in _COUNTED)
    return Score(area, name, sum(one.status == "pass" for one in here), len(here), _share(here))


def _share(results: tuple[Result, ...]) -> int | None:
    counted = [one for one in results if one.status in _COUNTED]
    total = sum(WEIGHTS[one.importance] for one in counted)
    good = sum(WEIGHTS[one.importance] for one in counted if one.status == "pass")
    return 100 * good // total if total else None


def uncovered() -> set[str]:
    """Return ids that have words and no judgement, or a judgement and no words: there must be none."""
    return CHECKS.keys() ^ checks().checks.keys()
