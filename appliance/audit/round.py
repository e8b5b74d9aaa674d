"""One round of an audit: facts are read, judged by the institution's rules, and sealed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance import __version__
from appliance.audit.catalogue import checks
from appliance.audit.collect import Subject, collect
from appliance.audit.dated import korean_day
from appliance.audit.options import FALLBACK_GRADE, grade_of
from appliance.audit.report import write_audit
from appliance.audit.result import audit
from appliance.audit.standing import Decisions
from appliance.errors import Untrusted
from appliance.text import Event, text

if TYPE_CHECKING:
    from appliance.audit.facts import AuditFacts
    from appliance.audit.outcome import AuditResult
    from appliance.audit.report import Wish, Written
    from appliance.audit.site import SiteRules
    from appliance.format import Grade
    from appliance.session import Session

#: The check whose threshold says for how many days audits go by an integrity run.
RECORDED_DAYS_OF = "release.models-intact"


def perform(
    session: Session, grade: Grade | None, rules: SiteRules, wish: Wish
) -> tuple[AuditFacts, AuditResult, Written]:
    """Read, judge and seal as the next link of this server's chain; return what came of each."""
    facts, result = look(session, grade, rules)
    return facts, result, write_audit(session.server, facts, result, wish, session.say)


def look(session: Session, grade: Grade | None, rules: SiteRules) -> tuple[AuditFacts, AuditResult]:
    """Read and judge; nothing is written."""
    facts = _facts(session, subject_of(session, grade, rules))
    return facts, audit(facts, grade or grade_of(facts), rules)


def tell_seal(session: Session, written: Written) -> None:
    """Say what belongs on paper, and what changed since the audit before."""
    history, record = written.history, written.link.record
    if history.comparison is not None:
        before = history.comparison.earlier
        words = text(
            "since record {number} of {date}: the status of {checks} checks and {items} items changed",
            number=before.number,
            date=str(korean_day(before.taken)),
            checks=sum("/" not in one.id for one in history.comparison.changes),
            items=sum("/" in one.id for one in history.comparison.changes),
        )
        session.say(Event("compared", words, {"earlier": before.number}))
    if history.absent is not None:
        words = text("{said}", said=getattr(history.absent, session.language))
        session.say(Event("not-compared", words))
    words = text(
        "for paper: record {number}, head {head}, key {key}",
        number=record.number,
        head=written.link.head,
        key=record.key,
    )
    session.say(Event("sealed", words, {"number": record.number, "head": written.link.head}))


def sealed(written: Written) -> dict[str, object]:
    """Return what ``--json`` says of a sealed audit."""
    return {
        "folder": str(written.folder),
        "reports": [str(path) for path in written.paths],
        "left_out": dict(written.left_out),
        "number": written.link.record.number,
        "head": written.link.head,
        "previous": written.link.record.previous,
        "key": written.link.record.key,
    }


def subject_of(session: Session, grade: Grade | None, rules: SiteRules) -> Subject:
    """Return what is audited: this server, whom it trusts, and how long an integrity run counts."""
    try:
        trust = session.trust()
    except Untrusted:  # before first contact there is still a host to look at
        trust = None
    days = _recorded_days(session, rules, grade or FALLBACK_GRADE)
    return Subject(session.server, trust, recorded_days=days)


def _facts(session: Session, subject: Subject) -> AuditFacts:
    with session.steps("fact") as step:
        return collect(
            subject,
            __version__,
            lambda name, seconds: step(
                text("read {name} in {seconds} s", name=name, seconds=round(seconds, 2)),
                {"fact": name, "seconds": f"{seconds:.3f}"},
            ),
        )


def _recorded_days(session: Session, rules: SiteRules, grade: Grade) -> float:
    """Return how long an integrity run counts, as the institution tailored it."""
    decisions = Decisions(rules, korean_day(session.server.clock.now()))
    return float(decisions.limit(RECORDED_DAYS_OF, checks().checks[RECORDED_DAYS_OF], grade)[0])
