"""One round of an audit: the institution's rules and the facts are read, judged, and the reports written."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from appliance import __version__
from appliance.audit.catalogue import checks
from appliance.audit.collect import Subject, collect
from appliance.audit.report import write_reports
from appliance.audit.result import audit
from appliance.audit.site import AUDIT_FOLDER, korean_day, read_rules
from appliance.audit.standing import Decisions
from appliance.errors import BadInput, Untrusted
from appliance.text import Event, text

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.audit.facts import AuditFacts
    from appliance.audit.outcome import AuditResult
    from appliance.audit.site import SiteRules
    from appliance.format import Grade
    from appliance.session import Session

FALLBACK_GRADE: Grade = "C"
#: The check whose threshold says for how many days audits go by an integrity run.
RECORDED_DAYS_OF = "release.models-intact"


def rules_of(site: Path | None) -> SiteRules:
    """Read what the institution decided: in that folder, or in its usual one. Raises ``BadInput``."""
    if site is not None and not site.is_dir():
        raise BadInput(text("there is no such folder"), where=site)
    return read_rules(site or AUDIT_FOLDER)


def perform(
    session: Session, grade: Grade | None, rules: SiteRules, out: Path | None
) -> tuple[AuditFacts, AuditResult, tuple[Path, ...]]:
    """Read, judge and write the reports; return facts, result, and where the reports lie."""
    facts = _facts(session, _recorded_days(session, rules, grade or FALLBACK_GRADE))
    release = facts.release.value
    result = audit(facts, grade or (release.grade if release and release.grade else FALLBACK_GRADE), rules)
    paths = write_reports(out or session.server.logs / "audit", facts, result, session.language)
    return facts, result, paths


def _facts(session: Session, recorded_days: float) -> AuditFacts:
    try:
        trust = session.trust()
    except Untrusted:  # before first contact there is still a host to look at
        trust = None
    subject = Subject(session.server, trust, recorded_days=recorded_days)
    if not session.as_json:
        return collect(subject, __version__)
    return collect(subject, __version__, partial(_tell_fact, session))


def _tell_fact(session: Session, name: str, seconds: float) -> None:
    words = text("read {name} in {seconds} s", name=name, seconds=round(seconds, 2))
    session.say(Event("fact", words, {"fact": name, "seconds": round(seconds, 3)}))


def _recorded_days(session: Session, rules: SiteRules, grade: Grade) -> float:
    """Return how long an integrity run counts, as the institution tailored it."""
    decisions = Decisions(rules, korean_day(session.server.clock.now()))
    return float(decisions.limit(RECORDED_DAYS_OF, checks().checks[RECORDED_DAYS_OF], grade)[0])
