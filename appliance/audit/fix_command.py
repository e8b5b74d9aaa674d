"""``appliance audit --fix`` and ``--undo``: what may be asked, and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from appliance.errors import AuditFindings, BadInput
from appliance.text import Event, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from appliance.audit.facts import AuditFacts
    from appliance.audit.fixes import FixPlan, LeftAlone
    from appliance.audit.outcome import AuditResult
    from appliance.audit.report import Wish, Written
    from appliance.audit.site import SiteRules
    from appliance.format import Grade
    from appliance.remedies import Filed
    from appliance.session import Session
    from appliance.text import Text

NEWEST = "newest"
_RIGHT, _WRONG = frozenset({"pass", "not-applicable"}), frozenset({"fail", "unknown"})


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked of this run: show, or apply, of which checks; or which fix to take back."""

    fix: bool = False
    yes: bool = False
    only: tuple[str, ...] = ()
    undo: str | None = None


_OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--fix", {"is_flag": True, "help": "Show what can be mended by itself, and why the rest cannot."}),
    ("--yes", {"is_flag": True, "help": "With --fix: mend it, and audit again; --undo takes it back."}),
    (
        "--only",
        {"multiple": True, "metavar": "CHECK", "help": "With --fix: this check; may stand several times."},
    ),
    (
        "--undo",
        {
            "is_flag": False,
            "flag_value": NEWEST,
            "metavar": "[ID]",
            "help": "Take the newest fix back, or that one.",
        },
    ),
)


def fix_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give the audit the options of fixing; what was said is asked of ``asked_for``."""
    for name, about in reversed(_OPTIONS):
        command = click.option(name, expose_value=False, callback=_remember, **about)(command)
    return command


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> Any:  # noqa: ANN401 - click's values
    context.meta.setdefault("fix", {})[parameter.name] = value
    return value


def asked_for(context: click.Context) -> Asked | None:
    """Return what was asked of fixing, or None for a plain audit. Raises ``BadInput`` for half a request."""
    asked = Asked(**context.meta.get("fix", {}))
    if asked.undo is not None and (asked.fix or asked.yes or asked.only):
        raise BadInput(text("--undo stands alone"))
    if (asked.yes or asked.only) and not asked.fix:
        raise BadInput(text("--yes and --only say something about --fix"))
    return asked if asked.fix or asked.undo is not None else None


def run_fix(session: Session, asked: Asked, grade: Grade | None, rules: SiteRules, wish: Wish) -> None:
    """Do what was asked. Raises ``AuditFindings`` where something is left, ``Returned``, ``UnfitServer``."""
    from appliance.audit.fix_run import undo  # noqa: PLC0415 - --help starts without

    _refuse_unknown(asked.only)
    if asked.undo is not None:
        undo(session, None if asked.undo == NEWEST else asked.undo)
    elif asked.yes:
        _raise_if_found(*_mend(session, asked.only, grade, rules, wish))
    else:
        found = examine(session, asked.only, grade, rules)
        _tell_half_done(session)
        _show(session, found)
        _raise_if_found(found.result)


def _mend(
    session: Session, only: tuple[str, ...], grade: Grade | None, rules: SiteRules, wish: Wish
) -> tuple[AuditResult, Path | None]:
    """Mend, and seal what was found before and what is found now; return the latter, and its report.

    Both are sealed when the lock is free again: the operation log, which names them, belongs to its holder.
    """
    from appliance.audit.fix_run import carry_out, take_back_half_done  # noqa: PLC0415 - as above
    from appliance.audit.report import formats_named, write_audit  # noqa: PLC0415 - as above
    from appliance.audit.round import perform, tell_seal  # noqa: PLC0415 - as above

    with session.server.state.lock():
        take_back_half_done(session)
        found = examine(session, only, grade, rules)
        if not found.plan.planned:
            _tell_left(session, found.plan.left)
            session.result(text("there is nothing that can be mended by itself"), {"fixed": []})
            return found.result, None
        _tell_planned(session, found.plan)
        _tell_left(session, [each for each in found.plan.left if each.refused])
        one = carry_out(session, found.plan, found.result.grade)
    # Of what was found before, as of a timer's audit, `audit report` makes any other format.
    short = replace(wish, formats=formats_named(("html",)))
    before = write_audit(session.server, found.facts, found.result, short, session.say)
    _, again, after = perform(session, found.result.grade, rules, wish)
    tell_seal(session, after)
    _tell_outcome(session, Outcome(found, one, again, before, after))
    return again, after.paths[0]


def tell_mendable(session: Session, result: AuditResult) -> None:
    """Say how many findings of an audit `--fix` would mend."""
    found = [one.id for one in result.results if one.status == "fail" and one.automatic]
    if found:
        words = text("{count} of these can be mended by itself: appliance audit --fix", count=len(found))
        session.say(Event("mendable", words, {"checks": found}))


def _refuse_unknown(names: tuple[str, ...]) -> None:
    from appliance.audit.catalogue import checks  # noqa: PLC0415 - as above

    unknown = [name for name in names if name not in checks().checks]
    if unknown:
        raise BadInput(text("there is no check {name}", name=unknown[0]))


# --- Facts, result, plan -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Examined:
    """What was read, what it comes to, and what would be done about it."""

    facts: AuditFacts
    result: AuditResult
    plan: FixPlan


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was found, the fix that is in force, what is found now, and where both audits are sealed."""

    found: Examined
    fix: Filed
    again: AuditResult
    before: Written
    after: Written


def examine(session: Session, only: tuple[str, ...], grade: Grade | None, rules: SiteRules) -> Examined:
    """Read the facts, judge them, and plan; touch nothing."""
    from appliance.audit.fix_host import possible  # noqa: PLC0415 - as above
    from appliance.audit.fixes import plan_fixes  # noqa: PLC0415 - as above
    from appliance.audit.round import look  # noqa: PLC0415 - as above

    facts, result = look(session, grade, rules)
    return Examined(facts, result, possible(plan_fixes(facts, result, only)))


# --- What is said ------------------------------------------------------------------------------------------


def _show(session: Session, found: Examined) -> None:
    _tell_planned(session, found.plan)
    _tell_left(session, found.plan.left)
    planned, left = ([one.check for one in several] for several in (found.plan.planned, found.plan.left))
    words = text(
        "would mend {count} and leave {left} to a person; to do it: appliance audit --fix --yes",
        count=len(planned),
        left=len(left),
    )
    session.result(words, {"grade": found.result.grade, "would_fix": planned, "left": left})


def _tell_half_done(session: Session) -> None:
    from appliance.remedies import filed  # noqa: PLC0415 - as above

    for one in filed(session.server.state.folder):
        if one.is_half_done:
            words = text(
                "the fix {id} was cut off and is half done; to take it back: appliance audit --undo {id}",
                id=one.fix.id,
            )
            session.say(Event("half-done", words, {"id": one.fix.id, "checks": one.fix.checks}))


def _tell_planned(session: Session, plan: FixPlan) -> None:
    from appliance.audit.fix_host import changes  # noqa: PLC0415 - as above

    for one in plan.planned:
        found = changes(one.operations)
        title, safe = (getattr(words, session.language) for words in (one.title, one.safe))
        lines = [line for change in found for line in change.lines()]
        facts = {"id": one.check, "title": title, "safe": safe, "reloads": one.reloads, "diff": lines}
        words = text("[{id}] {title}; {safe}", id=one.check, title=title, safe=safe)
        session.say(Event("fix", words, {**facts, "files": [change.path for change in found]}))
        for line in () if session.as_json else lines:
            session.write_aside(text("      {line}", line=line).render(session.language))


def _tell_left(session: Session, left: Iterable[LeftAlone]) -> None:
    for one in left:
        title, reason, remedy = (
            getattr(words, session.language) for words in (one.title, one.reason, one.remedy)
        )
        words = text(
            "[by hand] {id}: {title}: {reason}. {remedy}",
            id=one.check,
            title=title,
            reason=reason,
            remedy=remedy,
        )
        session.say(Event("by-hand", words, {"id": one.check, "reason": reason, "remedy": remedy}))


def _tell_outcome(session: Session, outcome: Outcome) -> None:
    from appliance.audit.round import sealed  # noqa: PLC0415 - as above

    found, one, again = outcome.found, outcome.fix.fix, outcome.again
    before = {each.id: each.status for each in found.result.results}
    after = {each.id: each.status for each in again.results}
    fixed = [name for name in one.checks if after[name] in _RIGHT]
    open_still = [name for name in one.checks if name not in fixed]
    worse = [name for name, status in after.items() if before[name] in _RIGHT and status in _WRONG]
    _tell_of(session, "not-mended", open_still, again, text("changed, and still wrong"))
    _tell_of(session, "worse", worse, again, text("was right before"))
    words = text("what was found before the fix: {path}", path=outcome.before.paths[0])
    session.say(Event("before", words, {"number": outcome.before.link.record.number}))
    words = text(
        "mended {count}, {left} are left; report: {path}; to take it back: appliance audit --undo {id}",
        count=len(fixed),
        left=again.findings(),
        path=outcome.after.paths[0],
        id=one.id,
    )
    facts = {
        "id": one.id,
        "fixed": fixed,
        "not_mended": open_still,
        "worse": worse,
        "counts": again.counts,
        "left": [each.check for each in found.plan.left],
    }
    session.result(words, {**facts, "before": sealed(outcome.before), "after": sealed(outcome.after)})


def _tell_of(session: Session, name: str, checks: Sequence[str], result: AuditResult, said: Text) -> None:
    for one in result.results:
        if one.id in checks:
            seen = getattr(one.observed, session.language)
            words = text("[{said}] {id}: {seen}", said=said, id=one.id, seen=seen)
            session.say(Event(name, words, {"id": one.id, "observed": seen}))


def _raise_if_found(result: AuditResult, report: Path | None = None) -> None:
    found = result.findings()
    if found:
        remedy = (
            text("appliance audit writes the report that says for each how to mend it")
            if report is None
            else text("the report says for each what was seen, what was expected, and how to mend it")
        )
        raise AuditFindings(
            text("the audit found {count} things to look at", count=found), where=report, remedy=remedy
        )
