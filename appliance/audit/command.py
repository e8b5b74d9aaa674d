"""``appliance audit``: read the facts, judge them, write the report; say what its verdicts rest on."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from appliance.audit.watch_command import COMMANDS
from appliance.console import Everywhere
from appliance.errors import AuditFindings, BadInput
from appliance.text import Event, text

if TYPE_CHECKING:
    from appliance.audit.coverage import Coverage, NotAutomated
    from appliance.audit.facts import AuditFacts
    from appliance.audit.outcome import AuditResult
    from appliance.format import Grade
    from appliance.session import Session
    from appliance.text import Language

TABLE_WIDTH = 100
GRADE = click.option(
    "--grade", type=click.Choice(["C", "S", "O"]), help="Grade to audit for; default: the release's."
)
SITE = click.option(
    "--site",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the institution's own audit files.  [default: /etc/banip/audit]",
)


@click.group("audit", cls=Everywhere, invoke_without_command=True)
@GRADE
@SITE
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the reports; default: Banip's logs.")
@click.pass_context
def audit_command(context: click.Context, grade: Grade | None, site: Path | None, out: Path | None) -> None:
    r"""Audit this server, change nothing, write a report. Exit 3: something failed or is not established.

    \b
    Examples:
      appliance audit
      appliance audit --grade S --out /root/report
      appliance audit coverage --grade S
      appliance audit integrity
    """
    if context.invoked_subcommand is not None:
        context.meta["audit"] = (grade, site)
        return
    from appliance.audit.round import perform, rules_of  # noqa: PLC0415 - --help starts without any of it

    _tell(context.obj, *perform(context.obj, grade, rules_of(site), out))


@audit_command.command("coverage")
@click.option(
    "--guide", "names", multiple=True, help="Only this guide: kisa, n2sf, nis, or a checklist's name."
)
@click.option("--grade", type=click.Choice(["C", "S", "O"]), help="Only what applies to this grade.")
@click.option("--summary", is_flag=True, help="Only the table, without the reasons.")
@SITE
@click.pass_context
def coverage_command(
    context: click.Context, names: tuple[str, ...], grade: Grade | None, site: Path | None, *, summary: bool
) -> None:
    r"""Say how each control of the guides is answered: by machine, in part, by a person, and why.

    \b
    Examples:
      appliance audit coverage
      appliance audit coverage --guide n2sf --grade S
    """
    from appliance.audit.coverage import coverage  # noqa: PLC0415 - --help starts without any of it
    from appliance.audit.round import rules_of  # noqa: PLC0415 - as above

    above = context.meta.get("audit", (None, None))
    known = rules_of(site or above[1]).checklists
    unknown = [name for name in names if name not in known]
    if unknown:
        raise BadInput(
            text("there is no guide {name}; known are {known}", name=unknown[0], known=", ".join(known))
        )
    found = coverage([known[name] for name in names or known], grade or above[0])
    _tell_coverage(context.obj, found, summary=summary)


# --- The audit ---------------------------------------------------------------------------------------------


def _tell(session: Session, _: AuditFacts, result: AuditResult, paths: tuple[Path, ...]) -> None:
    from appliance.audit.words import STATUS_WORDS  # noqa: PLC0415 - as above

    _tell_faults(session, result)
    _tell_lapsed(session, result)
    counts = ", ".join(
        f"{STATUS_WORDS[status].render(session.language)} {count}" for status, count in result.counts.items()
    )
    words = text("grade {grade}: {counts}; report: {path}", grade=result.grade, counts=counts, path=paths[0])
    facts = {"grade": result.grade, "score": result.score, "counts": result.counts}
    guides = {guide.guide: {"counts": guide.counts, "score": guide.score} for guide in result.guides}
    session.result(words, {**facts, "guides": guides, "reports": [str(path) for path in paths]})
    found = result.findings()
    if found:
        raise AuditFindings(
            text("the audit found {count} things to look at", count=found),
            where=paths[0],
            remedy=text("the report says for each what was seen, what was expected, and how to mend it"),
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


# --- Coverage ----------------------------------------------------------------------------------------------


def _tell_coverage(session: Session, found: Coverage, *, summary: bool) -> None:
    if session.as_json:
        session.result(
            text("{count} controls are not answered by checks alone", count=len(found.not_automated)), found
        )
        return
    session.write(_table(found, session.language))
    if not summary:
        for one in found.not_automated:
            session.write("\n".join(_lines(one, session.language)))


def _table(found: Coverage, language: Language) -> str:
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415 - only this command draws a table
    from rich.console import Console  # noqa: PLC0415 - as above
    from rich.table import Table  # noqa: PLC0415 - as above

    from appliance.audit.words import ANSWERED_WORDS  # noqa: PLC0415 - --help starts without any of it

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(text("guide").render(language), no_wrap=True)
    table.add_column(text("grade").render(language))
    for words in (*ANSWERED_WORDS.values(), text("in all")):
        table.add_column(words.render(language), justify="right")
    for one in found.counts:
        name = getattr(one.name, language) if one.area is None else f"  {getattr(one.name, language)}"
        numbers = (*one.answered.values(), one.total)
        table.add_row(name, one.grade or "-", *map(str, numbers), style="" if one.area else "bold")
    shown = io.StringIO()
    Console(file=shown, width=TABLE_WIDTH, no_color=True).print(table)
    return "\n".join(line.removeprefix(" ").rstrip() for line in shown.getvalue().splitlines())


def _lines(one: NotAutomated, language: Language) -> list[str]:
    """Return a control as a person reads it: how it is answered, and why not by checks alone."""
    from appliance.audit.words import ANSWERED_WORDS  # noqa: PLC0415 - --help starts without any of it

    said = (
        (text("shown"), "; ".join(getattr(words, language) for words in one.shown)),
        (text("why"), getattr(one.reason, language)),
        (text("ask"), getattr(one.ask, language) if one.ask else ""),
        (text("look at"), ", ".join(getattr(words, language) for words in one.look)),
        (text("uncertain"), "; ".join(getattr(words, language) for words in one.uncertain)),
    )
    head = f"{one.id}  {one.title}  [{ANSWERED_WORDS[one.answered].render(language)}]"
    return [head, *(f"    {name.render(language)}: {words}" for name, words in said if words)]


for _command in COMMANDS:
    audit_command.add_command(_command)
