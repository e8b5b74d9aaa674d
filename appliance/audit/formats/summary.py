"""What a manager asks of an audit first: what is to be done, what turned, where it leads. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.audit.catalogue import Words
from appliance.audit.dated import korean_day
from appliance.audit.outcome import ControlResult
from appliance.audit.result import by_reference
from appliance.text import text

if TYPE_CHECKING:
    from datetime import date

    from appliance.audit.catalogue import Importance
    from appliance.audit.edition import Change, Edition, Record
    from appliance.audit.outcome import AuditResult, Result, Status
    from appliance.format import Grade
    from appliance.text import Text

_GRADES: tuple[Grade, ...] = ("C", "S", "O")
_URGENCY = ("high", "medium", "low", None)
_FAULTS = frozenset({"fail", "unknown"})
#: A line of more audits than that cannot be read on paper.
POINTS_MOST = 12
#: Of what turned, a first page names so many of each kind; all of it stands further down.
TURNS_MOST = 4
#: The drawing of the trend, in its own units: one for each point of the score.
FLOOR, LEFT, RIGHT = 118, 44, 736


@dataclass(frozen=True, slots=True)
class Turn:
    """A check, or a control as ``guide/id``, whose status turned; None: it was not, or is no more."""

    id: str
    title: Words
    importance: Importance | None
    before: Status | None
    after: Status | None


@dataclass(frozen=True, slots=True)
class Difference:
    """What turned since an earlier audit: newly failing, newly not established, mended, and all else.

    ``with_checks``: how many controls turned with a check of theirs; they are in none of the lists.
    """

    earlier: Record
    failing: tuple[Turn, ...]
    unread: tuple[Turn, ...]
    mended: tuple[Turn, ...]
    other: tuple[Turn, ...]
    with_checks: int

    @property
    def kinds(self) -> tuple[tuple[str, str, tuple[Turn, ...]], ...]:
        """Return the lists with the names of their labels and of the statuses whose colours they have."""
        return (
            ("newly_failing", "fail", self.failing),
            ("newly_unknown", "unknown", self.unread),
            ("mended", "pass", self.mended),
            ("otherwise", "manual", self.other),
        )

    @property
    def cut(self) -> bool:
        """Tell whether a first page leaves some of it out."""
        return any(len(turns) > TURNS_MOST for _, _, turns in self.kinds)


@dataclass(frozen=True, slots=True)
class Point:
    """An audit in the drawing of the trend; ``year`` only where it is another than at the point before."""

    x: float
    y: float
    score: int
    day: date
    year: str


@dataclass(frozen=True, slots=True)
class GradeScore:
    """The newest score of a grade that the edition knows; ``day`` None: none. ``now``: it is this audit's."""

    grade: Grade
    score: int | None
    day: date | None
    now: bool


def urgent(result: AuditResult) -> tuple[Result, ...]:
    """Return the checks that failed or were not established, the important first."""
    found = (one for one in result.results if one.status in _FAULTS)
    return tuple(sorted(found, key=lambda one: _URGENCY.index(one.importance)))


def headlines(edition: Edition) -> tuple[Text, ...]:
    """Return what a manager has to know, in one sentence each."""
    result = edition.result
    high = sum(one.importance == "high" for one in urgent(result))
    said = [
        text(
            "{count} findings to look at, {high} checks of high importance",
            count=result.findings(),
            high=high,
        )
    ]
    waiting = sum(guide.counts["manual"] - guide.attested for guide in result.guides)
    if waiting:
        said.append(text("{count} items of the guides wait for a person's answer", count=waiting))
    stands = Counter(one.standing for one in result.decisions)
    if stands["lapsed"] + stands["void"]:
        count = stands["lapsed"] + stands["void"]
        said.append(text("{count} decisions of the institution no longer count", count=count))
    return (*said, _turned(difference(edition)))


def _turned(found: Difference | None) -> Text:
    if found is None:
        return text("No earlier audit for this grade to compare with")
    return text(
        "Since {day}: {failing} newly failing, {unread} newly not established, {mended} mended",
        day=korean_day(found.earlier.taken),
        failing=len(found.failing),
        unread=len(found.unread),
        mended=len(found.mended),
    )


# --- Against the audit before ------------------------------------------------------------------------------


def difference(edition: Edition) -> Difference | None:
    """Sort what turned since the earlier audit; None where there is none to compare with."""
    if edition.comparison is None:
        return None
    known = by_reference(edition.result.results, edition.result.guides)
    changes = edition.comparison.changes
    checks = frozenset(one.id for one in changes if "/" not in one.id)
    own = [one for one in changes if not _goes_with(known.get(one.id), checks)]
    turns = sorted((_turn(one, known) for one in own), key=lambda one: _URGENCY.index(one.importance))
    kinds = {one.id: _kind(one) for one in turns}
    sorted_out = {
        kind: tuple(one for one in turns if kinds[one.id] == kind)
        for kind in ("failing", "unread", "mended", "other")
    }
    return Difference(earlier=edition.comparison.earlier, with_checks=len(changes) - len(own), **sorted_out)


def _goes_with(found: Result | ControlResult | None, checks: frozenset[str]) -> bool:
    """Tell whether a control turned because a check of its own did."""
    return isinstance(found, ControlResult) and any(one.check in checks for one in found.evidence)


def _turn(change: Change, known: dict[str, Result | ControlResult]) -> Turn:
    found = known.get(change.id)
    title = found.title if found else change.id
    return Turn(
        id=change.id,
        title=title if isinstance(title, Words) else Words(ko=title, en=title),
        importance=found.importance if found else None,
        before=change.before,
        after=change.after,
    )


def _kind(turn: Turn) -> str:
    if turn.after in _FAULTS:
        return "failing" if turn.after == "fail" else "unread"
    return "mended" if turn.after == "pass" and turn.before in _FAULTS else "other"


# --- Over all audits ---------------------------------------------------------------------------------------


def line(edition: Edition) -> tuple[Point, ...]:
    """Place the scores of the audits of this grade, this one last, evenly in the drawing."""
    result = edition.result
    found = [(one.taken, one.score) for one in earlier(edition) if one.grade == result.grade]
    scores = [
        (korean_day(taken), score)
        for taken, score in (*found, (result.taken, result.score))
        if score is not None
    ][-POINTS_MOST:]
    step = (RIGHT - LEFT) / max(len(scores) - 1, 1)
    years = [None, *(day.year for day, _ in scores)]
    return tuple(
        Point(
            x=round(LEFT + number * step, 1),
            y=FLOOR - score,
            score=score,
            day=day,
            year=str(day.year) if day.year != years[number] else "",
        )
        for number, (day, score) in enumerate(scores)
    )


def earlier(edition: Edition) -> tuple[Record, ...]:
    """Return the records of the audits before this one, the oldest first."""
    if edition.record is not None:
        return tuple(one for one in edition.trend if one.number < edition.record.number)
    return tuple(one for one in edition.trend if one.taken < edition.result.taken)


def by_grade(edition: Edition) -> tuple[GradeScore, ...]:
    """Return the newest score of each grade; the others than this have audits of their own."""
    result = edition.result
    newest = {one.grade: (one.score, korean_day(one.taken)) for one in earlier(edition)}
    newest[result.grade] = (result.score, korean_day(result.taken))
    absent: tuple[int | None, date | None] = (None, None)
    return tuple(
        GradeScore(grade, score, day, grade == result.grade)
        for grade in _GRADES
        for score, day in (newest.get(grade, absent),)
    )
