"""What an audit comes to, as values: one result for each check, one for each control of each guide.

``audit.json`` is ``AuditResult``; every report is made from it and from nothing else.
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - msgspec resolves annotations at run time
from typing import Literal

from appliance.audit.catalogue import (  # noqa: TC001 - as above
    Answered,
    Importance,
    Item,
    Kind,
    Uncertain,
    Words,
)
from appliance.audit.dated import Attached, Day, Standing  # noqa: TC001 - as above
from appliance.audit.site import Answer, Certificate, SiteFile  # noqa: TC001 - as above
from appliance.format import Grade, Value

#: 취약, 확인 불가, 예외, 수동, 양호, 해당 없음: the worst first.
Status = Literal["fail", "unknown", "exception", "manual", "pass", "not-applicable"]
STATUSES: tuple[Status, ...] = ("fail", "unknown", "exception", "manual", "pass", "not-applicable")


def worst(statuses: tuple[Status, ...]) -> Status:
    """Return the worst of several; what does not apply gives way to anything else."""
    return min(statuses, key=STATUSES.index, default="not-applicable")


class Accepted(Value, frozen=True):
    """An exception as it stands at the time of the audit; only one that is in force changes a status."""

    reason: str
    approver: str
    ticket: str
    date: Day
    expires: Day
    standing: Standing


class Attested(Value, frozen=True):
    """A person's answer as it stands at the time of the audit; ``void``: why it does not count.

    ``checked``: digests of evidence whose files were here and are what was named.
    """

    answer: Answer
    statement: str
    by: str
    date: Day
    expires: Day
    evidence: tuple[Attached, ...]
    checked: tuple[str, ...]
    certificate: Certificate | None
    standing: Standing
    void: Words | None = None


Direction = Literal["looser", "stricter", "same"]


class Tailored(Value, frozen=True):
    """A threshold of the institution's own: ``value`` instead of ``default``."""

    value: str
    default: str
    direction: Direction
    reason: str
    approver: str
    expires: Day


class Result(Value, frozen=True):
    """One check: what was asked, what was seen and where, which controls it stands for, what to do.

    ``found`` is what the check itself found; ``status`` differs from it only by an exception that is in force
    or a person's answer. ``automatic``: `audit --fix` mends it; of what failed, on this server as it was.
    """

    id: str
    status: Status
    found: Status
    title: Words
    area: str
    importance: Importance
    observed: Words
    expected: Words
    where: str
    items: tuple[Item, ...]
    remedy: Words
    automatic: bool = False
    tailored: Tailored | None = None
    exception: Accepted | None = None
    attestation: Attested | None = None


class Shown(Value, frozen=True):
    """What a check shows of a control, and how it came out; ``part``: which part, where it is not all.

    ``tailored``: it went by a threshold of the institution's own, looser or stricter than the default;
    ``register``: by that register of its own.
    """

    check: str
    status: Status
    shows: Literal["full", "part"]
    part: Words | None
    tailored: Direction | None = None
    register: str = ""


class Open(Value, frozen=True):
    """What no check shows of a control: who answers it, why, what to ask, what to look at.

    ``registers``: of the institution, which are not in force and would let checks answer it.
    """

    kind: Kind
    reason: Words
    ask: Words | None
    look: tuple[Words, ...]
    registers: tuple[str, ...] = ()


class ControlResult(Value, frozen=True):
    """One control of a guide at the audited grade.

    ``applies``: the guide asks it at that grade. ``answered``: by machine, in part, or by whom. ``shown``:
    the worst that its checks found, None where none judges it. ``attested``: all that a person must answer is
    answered by attestations in force; such a control is still ``manual``.
    """

    id: str
    title: str
    area: str
    section: str
    importance: Importance | None
    grades: str
    managerial: bool
    key: bool
    applies: bool
    answered: Answered
    status: Status
    shown: Status | None
    attested: bool
    evidence: tuple[Shown, ...]
    open: Open | None
    uncertain: tuple[Uncertain, ...]
    clause: str
    exception: Accepted | None = None
    attestation: Attested | None = None


class Score(Value, frozen=True):
    """An area: how many passed of those that count, and the share weighted by importance, 0-100 or None.

    Of our own areas checks count, of a guide's areas controls of which a check shows something: these by the
    worst that their checks found, so that a control shown in part counts for that part. What was not
    established counts, unpassed, and so does what an exception accepts. Manual and not applicable do not
    count: the share says how much of what a machine can see here is right, never how much of a guide is met.
    """

    area: str
    name: Words
    passed: int
    counted: int
    share: int | None


class GuideResult(Value, frozen=True):
    """A guide at the audited grade; ``own``: it is the institution's. Counts are of controls that apply."""

    guide: str
    label: str
    title: Words
    edition: str
    own: bool
    notes: tuple[Words, ...]
    counts: dict[Status, int]
    answered: dict[Answered, int]
    attested: int
    score: int | None
    scores: tuple[Score, ...]
    controls: tuple[ControlResult, ...]


class Decision(Value, frozen=True):
    """An entry of the site's files: what it is, how it stands, which results it changed or answers."""

    kind: Literal["threshold", "exception", "attestation", "register"]
    applies_to: tuple[str, ...]
    by: str
    reason: str
    ticket: str
    expires: Day
    standing: Standing
    used_for: tuple[str, ...]


class AuditResult(Value, frozen=True):
    """An audit of one server at one moment, for one grade: ask for another grade to see its thresholds.

    ``report_grade`` is the grade of the report as a document; ``decisions`` are all of the site's, also those
    that lapsed or changed nothing, and ``site_files`` the files that they stand in.
    """

    format: Literal[2]
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
    guides: tuple[GuideResult, ...]
    decisions: tuple[Decision, ...]
    site_files: tuple[SiteFile, ...]

    def findings(self) -> int:
        """Return how many things there are to mend: checks, and controls that a person says do not hold."""
        controls = [one for guide in self.guides for one in guide.controls]
        said = sum(one.status == "fail" and one.shown != "fail" for one in controls)
        return self.counts["fail"] + self.counts["unknown"] + said
