"""``appliance audit coverage``: how each control of the guides is answered, and why not by machine."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import click

from appliance.audit.options import SITE, rules_of
from appliance.errors import BadInput
from appliance.text import text

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.audit.coverage import Coverage, NotAutomated
    from appliance.format import Grade
    from appliance.session import Session
    from appliance.text import Language

TABLE_WIDTH = 100


@click.command("coverage")
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
    from appliance.audit.dated import korean_day  # noqa: PLC0415 - as above

    above = context.meta.get("audit", (None, None))
    rules = rules_of(site or above[1])
    known, today = rules.checklists, korean_day(context.obj.server.clock.now())
    unknown = [name for name in names if name not in known]
    if unknown:
        raise BadInput(
            text("there is no guide {name}; known are {known}", name=unknown[0], known=", ".join(known))
        )
    found = coverage(
        [known[name] for name in names or known], grade or above[0], rules.declared(today).in_force()
    )
    _tell_coverage(context.obj, found, summary=summary)


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


def _registers(one: NotAutomated) -> str:
    from appliance.audit.registers import REGISTERS_FILE  # noqa: PLC0415 - --help starts without any of it
    from appliance.audit.site import AUDIT_FOLDER  # noqa: PLC0415 - as above

    return f"{AUDIT_FOLDER / REGISTERS_FILE}: {', '.join(one.registers)}" if one.registers else ""


def _lines(one: NotAutomated, language: Language) -> list[str]:
    """Return a control as a person reads it: how it is answered, and why not by checks alone."""
    from appliance.audit.words import ANSWERED_WORDS  # noqa: PLC0415 - --help starts without any of it

    said = (
        (text("shown"), "; ".join(getattr(words, language) for words in one.shown)),
        (text("why"), getattr(one.reason, language)),
        (text("ask"), getattr(one.ask, language) if one.ask else ""),
        (text("look at"), ", ".join(getattr(words, language) for words in one.look)),
        (text("answered by registers"), _registers(one)),
        (text("uncertain"), "; ".join(getattr(words, language) for words in one.uncertain)),
    )
    head = f"{one.id}  {one.title}  [{ANSWERED_WORDS[one.answered].render(language)}]"
    return [head, *(f"    {name.render(language)}: {words}" for name, words in said if words)]
