"""``appliance audit``: read the facts, judge them, write the report, say what it came to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from appliance import __version__
from appliance.errors import AuditFindings, Untrusted
from appliance.text import Event, text

if TYPE_CHECKING:
    from appliance.audit.facts import AuditFacts
    from appliance.audit.result import AuditResult
    from appliance.format import Grade
    from appliance.session import Session

FALLBACK_GRADE: Grade = "C"


@click.command("audit")
@click.option(
    "--grade", type=click.Choice(["C", "S", "O"]), help="Grade to audit for; default: the release's."
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the reports; default: Banip's logs.")
@click.option("--everything", is_flag=True, help="Hash large files too; models take minutes.")
@click.pass_obj
def audit_command(session: Session, grade: Grade | None, out: Path | None, *, everything: bool) -> None:
    r"""Audit this server, change nothing, write a report. Exit 3: something failed or is not established.

    \b
    Examples:
      appliance audit
      appliance audit --grade S --out /root/report
    """
    from appliance.audit.report import write_reports  # noqa: PLC0415 - --help starts without any of it
    from appliance.audit.result import audit  # noqa: PLC0415 - as above

    facts = _facts(session, everything=everything)
    release = facts.release.value
    result = audit(facts, grade or (release.grade if release and release.grade else FALLBACK_GRADE))
    paths = write_reports(out or session.server.logs / "audit", facts, result, session.language)
    _tell(session, result, paths)


def _facts(session: Session, *, everything: bool) -> AuditFacts:
    from appliance.audit.collect import Subject, collect  # noqa: PLC0415 - as above

    try:
        trust = session.trust()
    except Untrusted:  # before first contact there is still a host to look at
        trust = None
    return collect(Subject(session.server, trust, everything), __version__)


def _tell(session: Session, result: AuditResult, paths: tuple[Path, ...]) -> None:
    from appliance.audit.report import STATUS_WORDS  # noqa: PLC0415 - as above

    _tell_faults(session, result)
    counts = ", ".join(
        f"{STATUS_WORDS[status].render(session.language)} {count}" for status, count in result.counts.items()
    )
    words = text("grade {grade}: {counts}; report: {path}", grade=result.grade, counts=counts, path=paths[0])
    facts = {"grade": result.grade, "score": result.score, "counts": result.counts}
    session.result(words, {**facts, "reports": [str(path) for path in paths]})
    found = result.counts["fail"] + result.counts["unknown"]
    if found:
        raise AuditFindings(
            text("the audit found {count} things to look at", count=found),
            where=paths[0],
            remedy=text("the report says for each what was seen, what was expected, and how to mend it"),
        )


def _tell_faults(session: Session, result: AuditResult) -> None:
    from appliance.audit.report import STATUS_WORDS  # noqa: PLC0415 - as above

    for one in result.results:
        if one.status in {"fail", "unknown"}:
            words = text(
                "[{status}] {id}: {title}: {seen}",
                status=STATUS_WORDS[one.status],
                id=one.id,
                title=getattr(one.title, session.language),
                seen=getattr(one.observed, session.language),
            )
            session.say(Event("check", words, {"id": one.id, "status": one.status, "where": one.where}))
