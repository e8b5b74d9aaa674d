"""``appliance audit``: read the facts, judge them, seal the report. What stands below it is a list."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from appliance.audit.coverage_command import coverage_command
from appliance.audit.draft_command import draft_command
from appliance.audit.fix_command import asked_for, fix_options, run_fix, tell_mendable
from appliance.audit.options import FORMATS, GRADE, SITE, make_out, rules_of
from appliance.audit.report_command import report_command
from appliance.audit.verify_command import verify_command
from appliance.audit.watch_command import integrity_command, watch_command
from appliance.console import Everywhere
from appliance.errors import AuditFindings
from appliance.text import Event, text

if TYPE_CHECKING:
    from appliance.audit.outcome import AuditResult
    from appliance.audit.report import Written
    from appliance.format import Grade
    from appliance.session import Session

#: Every command below ``appliance audit``, each in a module of its own: a new one is a line here.
COMMANDS = (
    coverage_command,
    draft_command,
    integrity_command,
    report_command,
    verify_command,
    watch_command,
)


@click.group("audit", cls=Everywhere, invoke_without_command=True)
@GRADE
@SITE
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the reports; default: Banip's logs.")
@FORMATS
@fix_options
@click.pass_context
def audit_command(
    context: click.Context,
    *,
    grade: Grade | None,
    site: Path | None,
    out: Path | None,
    formats: tuple[str, ...],
) -> None:
    r"""Audit this server, change nothing (but --fix --yes), seal a report. Exit 3: there are findings.

    \b
    Examples:
      appliance audit
      appliance audit --grade S --out /root/report
      appliance audit --format html --format xlsx
      appliance audit --fix
      appliance audit coverage --grade S
      appliance audit draft --out /root/draft
      appliance audit integrity
      appliance audit verify
    """
    if context.invoked_subcommand is not None:
        context.meta["audit"] = (grade, site)
        return
    session: Session = context.obj
    fix = asked_for(context)
    from appliance.audit.report import Wish, formats_named  # noqa: PLC0415 - --help starts without any of it
    from appliance.audit.round import perform  # noqa: PLC0415 - as above

    wish = Wish(session.language, formats_named(formats), out)
    if out is not None:
        make_out(out)
    if fix is not None:
        run_fix(session, fix, grade, rules_of(site), wish)
        return
    _, result, written = perform(session, grade, rules_of(site), wish)
    _tell(session, result, written)


for command in COMMANDS:
    audit_command.add_command(command)


# --- The audit ---------------------------------------------------------------------------------------------


def _tell(session: Session, result: AuditResult, written: Written) -> None:
    from appliance.audit.round import tell_seal  # noqa: PLC0415 - as above

    _tell_faults(session, result)
    _tell_lapsed(session, result)
    tell_mendable(session, result)
    tell_seal(session, written)
    _tell_result(session, result, written)
    found = result.findings()
    if found:
        raise AuditFindings(
            text("the audit found {count} things to look at", count=found),
            where=written.paths[0],
            remedy=text("the report says for each what was seen, what was expected, and how to mend it"),
        )


def _tell_result(session: Session, result: AuditResult, written: Written) -> None:
    from appliance.audit.round import sealed  # noqa: PLC0415 - as above
    from appliance.audit.words import STATUS_WORDS  # noqa: PLC0415 - as above

    counts = ", ".join(
        f"{STATUS_WORDS[status].render(session.language)} {count}" for status, count in result.counts.items()
    )
    path = written.paths[0]
    words = text("grade {grade}: {counts}; report: {path}", grade=result.grade, counts=counts, path=path)
    session.result(
        words,
        {
            "grade": result.grade,
            "score": result.score,
            "counts": result.counts,
            "guides": {one.guide: {"counts": one.counts, "score": one.score} for one in result.guides},
            **sealed(written),
        },
    )


def _tell_faults(session: Session, result: AuditResult) -> None:
    from appliance.audit.words import STATUS_WORDS  # noqa: PLC0415 - as above

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


def _tell_lapsed(session: Session, result: AuditResult) -> None:
    """Name what the institution decided and what counts no more: nobody may find out by surprise."""
    from appliance.audit.words import DECISION_WORDS, STANDING_WORDS  # noqa: PLC0415 - as above

    for one in result.decisions:
        if one.standing in {"lapsed", "void"}:
            words = text(
                "[{standing}] {kind} of {by}, until {date}: {names}",
                standing=STANDING_WORDS[one.standing],
                kind=DECISION_WORDS[one.kind],
                by=one.by,
                date=one.expires,
                names=", ".join(one.applies_to),
            )
            session.say(Event("decision", words, msgspec.to_builtins(one)))
