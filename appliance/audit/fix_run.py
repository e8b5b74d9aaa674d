"""A fix carried out on a server, or taken back, by numbered steps; each may be the last before a cut.

1. The release's playbooks are what was signed, the release has the role, and it is healthy before.
2. All that will be touched is kept, durably, with what it is to become; then the journal says that it begins.
3. The role changes the host.
4. What lies there is what was foreseen, and the release passes its own health gate. Otherwise everything is
   given back.
5. The fix is in force: ``ended.json``, and the journal.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from appliance.audit.fix_host import Purpose, end, give_back, keep, settle, unlike
from appliance.durable import make_folder
from appliance.errors import AuditFindings, BadInput, Returned, UnfitServer
from appliance.host import wait_for_health
from appliance.playbook import converge, end_leftovers
from appliance.release import installed, load, refuse_changed_playbooks, role_variables
from appliance.remedies import Ended, filed, role_input
from appliance.text import Event, text

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.audit.fixes import FixPlan
    from appliance.format import Release
    from appliance.remedies import Filed
    from appliance.session import Session

ROLE = "remedy"


def carry_out(session: Session, plan: FixPlan, grade: str) -> Filed:
    """Apply a plan under the held lock; return the fix that is in force then.

    Raises ``Returned`` where something did not come out well and everything is as it was, ``UnfitServer``
    where nothing was touched.
    """
    server = session.server
    release = _fit_release(session)
    purpose = Purpose(server.clock.now(), release.id, grade)
    one = keep(plan, purpose, server.state.folder)
    server.state.journal.append("fix-started", fix=one.fix.id, checks=list(one.fix.checks))
    faults = _apply(session, one, release)
    if faults:
        _lead_back(session, one, faults)
    end(one, Ended("applied", server.clock.now()))
    server.state.journal.append("fix-applied", fix=one.fix.id)
    return one


def _fit_release(session: Session) -> Release:
    """Return the release in use, where it can carry a fix out."""
    server, trust = session.server, session.trust()
    now = installed(server)
    if now is None:
        raise UnfitServer(text("no release is installed"), where=server.root)
    release = load(server, now.release, trust).release
    if ROLE not in [role.name for role in release.roles]:
        raise UnfitServer(
            text("the release {release} brings no role {role}", release=release.id, role=ROLE),
            remedy=text("mend it by hand, as the report says, or carry in a release that names the role"),
        )
    if find_spec("ansible_runner") is None:
        raise UnfitServer(
            text("only the installed command can change the host: this one has no Ansible"),
            remedy=text("run /usr/local/sbin/appliance audit --fix --yes"),
        )
    refuse_changed_playbooks(server, release)
    faults = wait_for_health(release)
    if faults:
        raise UnfitServer(
            text("{release} is installed, and is not healthy", release=release.id),
            seen=faults,
            remedy=text("nothing was changed; see `appliance status`, then run install again"),
        )
    return release


def _apply(session: Session, one: Filed, release: Release) -> tuple[str, ...]:
    """Run the role and look at what it came to; return what is not as it should be."""
    server = session.server
    end_leftovers(_scratch(session))
    make_folder(server.logs, mode=0o750)
    recap = converge(
        server.folder(release.id),
        {
            **role_variables(server, release, {}),
            "banip_roles": [ROLE],
            **role_input(one.fix.operations, one.fix.reloads),
        },
        scratch=_scratch(session),
        log=server.logs / "operations.log",
        progress=lambda task: session.say(Event("task", text("task: {task}", task=task))),
    )
    if recap.failures:
        return recap.failures
    different = unlike(one)
    if different:
        return (text("not as foreseen: {paths}", paths=", ".join(different)).render(session.language),)
    return tuple(fault.render(session.language) for fault in wait_for_health(release))


def _lead_back(session: Session, one: Filed, faults: tuple[str, ...]) -> None:
    session.say(Event("return", text("the fix did not come out well: giving everything back")))
    taken = take_back(session, one, "returned")
    raise Returned(
        text("the fix was taken back; the state before it is back"),
        where=one.folder,
        seen=tuple(faults)[:20],
        expected=text("every task and every health check to succeed"),
        remedy=text("mend these by hand, or leave one out: --only names those that you want"),
        facts={"id": one.fix.id, "left": taken.left, "faults": taken.faults},
    )


# --- The way back ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TakenBack:
    """What a way back left: paths that somebody changed since, and what did not take effect."""

    left: tuple[str, ...]
    faults: tuple[str, ...]


def take_back(session: Session, one: Filed, outcome: str = "undone") -> TakenBack:
    """Give everything back, let it take effect, and write that down."""
    server = session.server
    end_leftovers(_scratch(session))
    left = give_back(one)
    faults = settle(one.fix)
    end(one, Ended("returned" if outcome == "returned" else "undone", server.clock.now(), left))
    server.state.journal.append("fix-undone", fix=one.fix.id, left=list(left), faults=list(faults))
    return TakenBack(left, faults)


def take_back_half_done(session: Session) -> None:
    """Take back every fix that was cut off, the newest first, and say so."""
    for one in reversed(filed(session.server.state.folder)):
        if one.is_half_done:
            words = text("the fix {id} was cut off: taking it back first", id=one.fix.id)
            session.say(Event("resume", words, {"id": one.fix.id}))
            tell_taken_back(session, one, take_back(session, one))


def undo(session: Session, wanted: str | None) -> None:
    """Take back the newest fix that is in force or half done, or the one of that id.

    Raises ``BadInput`` where there is none, ``AuditFindings`` where something could not be given back.
    """
    with session.server.state.lock():
        one = _to_undo(session, wanted)
        taken = take_back(session, one)
        tell_taken_back(session, one, taken)
    facts = {
        "undone": one.fix.id,
        "checks": one.fix.checks,
        "left": taken.left,
        "faults": taken.faults,
    }
    words = text(
        "took the fix {id} back: {count} files and folders are as they were",
        id=one.fix.id,
        count=len(one.fix.touched) - len(taken.left),
    )
    session.result(words, facts)
    if taken.left or taken.faults:
        raise AuditFindings(
            text("not everything could be given back"),
            seen=(*taken.left, *taken.faults),
            remedy=text("what they held before lies in {folder}", folder=one.folder / "kept"),
        )


def _to_undo(session: Session, wanted: str | None) -> Filed:
    known = filed(session.server.state.folder)
    to_undo = [one for one in known if one.is_half_done or one.is_in_force]
    found = [one for one in to_undo if wanted in {None, one.fix.id}]
    if not found:
        raise BadInput(
            text("there is no fix to take back"),
            seen=wanted,
            expected=", ".join(one.fix.id for one in to_undo) or None,
        )
    return found[-1]


def tell_taken_back(session: Session, one: Filed, taken: TakenBack) -> None:
    """Name what was not given back."""
    for path in taken.left:
        words = text("{path} was changed by somebody since: it stays as it is", path=path)
        session.say(Event("changed-since", words, {"id": one.fix.id, "path": path}))
    for fault in taken.faults:
        session.say(Event("not-settled", text("did not take effect: {fault}", fault=fault), {"fault": fault}))


def _scratch(session: Session) -> Path:
    return session.server.state.folder / "ansible"
