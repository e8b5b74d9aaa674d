"""``appliance audit integrity`` and ``appliance audit watch``: what timers start, and people may as well."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from appliance import __version__
from appliance.audit.dated import korean_time
from appliance.errors import AlreadyRunning, AuditFindings, Tampered
from appliance.host import run as run_program
from appliance.progress import bar_of_progress
from appliance.release import DEFAULT_ROOT, installed, load
from appliance.text import Event, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from appliance.audit.edition import Change
    from appliance.audit.integrity import IntegrityRun
    from appliance.audit.integrity_run import Advance
    from appliance.audit.outcome import AuditResult
    from appliance.session import Session
    from appliance.state import State
    from appliance.text import Text
    from appliance.verify import TrustedBundle

INTEGRITY_UNIT = "banip-integrity.service"
#: Of a release without the role `watch`; not one of Banip's own units, which the release would have declared.
PASSING_UNIT = "appliance-integrity.service"
#: An operation that is at work is waited for so long, then the round is given up: the next one is a day away.
WAIT_S, WAIT_EACH_S = 1800.0, 5.0
NAMED_MOST = 20
SAID_EACH_S = 10.0
METRICS = click.option(
    "--metrics",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for numbers that node_exporter reads (*.prom).",
)


@click.command("integrity")
@click.option("--background", is_flag=True, help="Start it as a service of its own and return.")
@click.option("--status", "show_status", is_flag=True, help="Say how far it is, and what the last one found.")
@click.option("--needed", is_flag=True, help="Do nothing where there was one within a day.")
@METRICS
@click.pass_obj
def integrity_command(
    session: Session, metrics: Path | None, *, background: bool, show_status: bool, needed: bool
) -> None:
    r"""Hash everything that was signed, packages and the journal too; audits go by it. Exit 3: it drifted.

    It takes minutes with models. Killed, it goes on with the next file when it is run again.

    \b
    Examples:
      appliance audit integrity
      appliance audit integrity --background
      appliance audit integrity --status
    """
    if show_status:
        _show_status(session)
    elif background:
        _start(session)
    else:
        _integrity(session, metrics, needed=needed)


@click.command("watch")
@METRICS
@click.pass_obj
def watch_command(session: Session, metrics: Path | None) -> None:
    r"""Audit, and tell what became worse since the audit before. Exit 3: something did.

    It goes into the operation log, to the system journal as a warning, and into the metrics.

    \b
    Example:
      appliance audit watch --metrics /var/lib/banip-metrics
    """
    from appliance.audit.options import rules_of  # noqa: PLC0415 - --help starts without any of it
    from appliance.audit.report import Wish, formats_named  # noqa: PLC0415 - as above
    from appliance.audit.round import perform  # noqa: PLC0415 - as above
    from appliance.audit.watch import (  # noqa: PLC0415 - as above
        AUDIT_METRICS,
        audit_metrics,
        worse,
        write_metrics,
    )

    _wait(session.server.state)
    # Of the other formats `audit report` makes any that is asked for; a PDF takes more time than the audit.
    wish = Wish(session.language, formats_named(("html",)))
    facts, result, written = perform(session, None, rules_of(None), wish)
    compared = written.history.comparison
    found = worse(compared.changes if compared else ())
    if metrics is not None:
        content = audit_metrics(facts, result, len(found) if compared else None)
        write_metrics(metrics, AUDIT_METRICS, content)
    if found:
        _alert_worse(session, found, written.folder)
    _report(session, result, found, written.paths)


def _report(
    session: Session, result: AuditResult, found: tuple[Change, ...], paths: tuple[Path, ...]
) -> None:
    words = text(
        "grade {grade}: {fail} failed, {unknown} unknown, {worse} worse than before; report: {path}",
        grade=result.grade,
        fail=result.counts["fail"],
        unknown=result.counts["unknown"],
        worse=len(found),
        path=paths[0],
    )
    told = {"counts": result.counts, "worse": [asdict(one) for one in found]}
    session.result(words, {**told, "reports": [str(path) for path in paths]})
    if found:
        raise AuditFindings(
            text("{count} checks are worse than in the audit before", count=len(found)), where=paths[0]
        )


# --- An integrity run --------------------------------------------------------------------------------------


def _integrity(session: Session, metrics: Path | None, *, needed: bool) -> None:
    from appliance.audit.integrity import Records  # noqa: PLC0415 - as above
    from appliance.audit.integrity_run import run_integrity, step_back  # noqa: PLC0415 - as above
    from appliance.audit.watch import (  # noqa: PLC0415 - as above
        INTEGRITY_METRICS,
        integrity_metrics,
        write_metrics,
    )

    _wait(session.server.state)
    proof = _proof(session)
    if needed and _is_fresh(session, proof):
        last = Records.on(session.server).newest()
        session.result(text("the last integrity run is a day old at most"), last and _facts(last))
        return
    step_back()
    with _progress(session) as tell:
        run = run_integrity(session.server, proof, __version__, tell)
    if metrics is not None:
        write_metrics(metrics, INTEGRITY_METRICS, integrity_metrics(run))
    drifted = run.drifted()
    if drifted:
        _alert_drift(session, drifted)
    session.result(_words(run), _facts(run))
    if drifted or run.unread():
        raise AuditFindings(
            text("{count} things are not as they were signed", count=len(drifted) + len(run.unread())),
            where=(*drifted[:NAMED_MOST], *run.unread()),
            remedy=text("run appliance audit: its report says for each how to mend it"),
        )


def _proof(session: Session) -> TrustedBundle | None:
    now = installed(session.server)
    return load(session.server, now.release, session.trust()) if now else None


def _is_fresh(session: Session, proof: TrustedBundle | None) -> bool:
    from appliance.audit.integrity import Records  # noqa: PLC0415 - as above
    from appliance.audit.reading.probe import Unreadable  # noqa: PLC0415 - as above

    try:
        Records.on(session.server).believed(proof, session.server.clock.now(), days=1)
    except Unreadable:
        return False
    return True


def _facts(run: IntegrityRun) -> dict[str, object]:
    return {
        "release": run.begun.release,
        "started": run.started.isoformat(),
        "finished": run.finished.isoformat(),
        "files": run.files_hashed,
        "bytes": run.bytes_hashed,
        "drift": list(run.drifted()),
        "unread": [str(one) for one in run.unread()],
    }


def _words(run: IntegrityRun) -> Text:
    return text(
        "integrity run of {release}, begun {started}: {files} files ({bytes} bytes), {drift} drifted",
        release=run.begun.release,
        started=korean_time(run.started),
        files=run.files_hashed,
        bytes=run.bytes_hashed,
        drift=len(run.drifted()),
    )


@contextmanager
def _progress(session: Session) -> Iterator[Callable[[Advance], None]]:
    """Show how far it is: a bar on a terminal, a line every ten seconds elsewhere, which may be a journal."""
    if session.is_watched:
        from appliance.chunks import Progress  # noqa: PLC0415 - as above

        with bar_of_progress("sha256") as bar:
            yield lambda one: bar(Progress(one.stage, one.bytes_done, one.bytes_total))
        return
    said, stage = 0.0, ""

    def tell(one: Advance) -> None:
        nonlocal said, stage
        if one.stage != stage or time.monotonic() - said >= SAID_EACH_S:
            said, stage = time.monotonic(), one.stage
            session.say(Event("progress", _advance(one), msgspec.to_builtins(one)))

    yield tell


_STAGES = {
    "files": text("files of the release"),
    "models": text("models"),
    "environments": text("environments"),
    "packages": text("packages of the system"),
    "journal": text("journal"),
}


def _advance(one: Advance) -> Text:
    so_far = text(
        "{stage}: {percent} % hashed ({done} of {total} bytes)",
        stage=_STAGES.get(one.stage, one.stage),
        percent=one.percent,
        done=one.bytes_done,
        total=one.bytes_total,
    )
    if one.seconds_left is None:  # nobody knows yet how fast it goes
        return so_far
    return text("{so_far}, about {left} s left", so_far=so_far, left=one.seconds_left)


# --- In the background -------------------------------------------------------------------------------------


def _start(session: Session) -> None:
    """Start it as the role's unit, or, where no role brought one, as a passing one with the same manners."""
    told = run_program("systemctl", "show", "--property=LoadState", "--value", INTEGRITY_UNIT, check=False)
    unit = INTEGRITY_UNIT
    if session.server.root == DEFAULT_ROOT and told.stdout.strip() == "loaded":
        run_program("systemctl", "start", "--no-block", unit)
    else:
        unit = PASSING_UNIT
        limits = ("Nice=19", "IOSchedulingClass=idle", "CPUQuota=50%", "SuccessExitStatus=3")
        words = [word for one in limits for word in ("--property", one)]
        itself = (sys.executable, "-I", "-m", "appliance", "--root", str(session.server.root))
        words += [*itself, "audit", "integrity"]
        run_program("systemd-run", "--quiet", "--collect", "--unit", unit, *words)
    said = text("started as {unit}; see how far it is: appliance audit integrity --status", unit=unit)
    session.result(said, {"unit": unit})


def _show_status(session: Session) -> None:
    from appliance.audit.integrity import Records  # noqa: PLC0415 - as above
    from appliance.audit.integrity_run import advance, is_at_work  # noqa: PLC0415 - as above
    from appliance.audit.reading.probe import Unreadable  # noqa: PLC0415 - as above

    records = Records.on(session.server)
    at_work, far = is_at_work(records), advance(records)
    if far is not None:
        words = text("at work: {words}", words=_advance(far))
        if not at_work:
            words = text("cut off, and goes on when it is run again: {words}", words=_advance(far))
        session.say(Event("progress", words, msgspec.to_builtins(far)))
    try:
        last = records.newest()
    except Unreadable as error:
        raise Tampered(
            text("the record of the last integrity run is damaged"), seen=error.reason.as_text()
        ) from error
    facts = {"at_work": at_work, "progress": msgspec.to_builtins(far), "last": last and _facts(last)}
    session.result(_words(last) if last else text("no integrity run has come to its end yet"), facts)


# --- Telling -----------------------------------------------------------------------------------------------


def _wait(state: State) -> None:
    """Wait for the operation that is at work. Raises ``AlreadyRunning`` where it takes too long."""
    until = time.monotonic() + WAIT_S
    while state.is_busy():
        if time.monotonic() > until:
            raise AlreadyRunning(
                text("an operation is at work, and the audit would see half of it"), where=state.folder
            )
        time.sleep(WAIT_EACH_S)


def _alert_worse(session: Session, found: tuple[Change, ...], place: Path) -> None:
    for one in found:
        words = text("worse than in the audit before: {id}: {before} -> {after}", **_change(one))
        _warn(session, Event("drift", words, asdict(one)))
    facts = [f"{one.id}: {one.before or '-'} -> {one.after}" for one in found]
    _journal(session, "audit-drift", audit=place.name, worse=facts)


def _change(one: Change) -> dict[str, object]:
    from appliance.audit.words import STATUS_WORDS  # noqa: PLC0415 - as above

    return {
        "id": one.id,
        "before": STATUS_WORDS[one.before] if one.before else "-",
        "after": STATUS_WORDS[one.after] if one.after else "-",
    }


def _alert_drift(session: Session, drifted: tuple[str, ...]) -> None:
    for path in drifted[:NAMED_MOST]:
        _warn(session, Event("drift", text("not as it was signed: {path}", path=path), {"path": path}))
    _journal(session, "integrity-drift", count=len(drifted), paths=list(drifted[:NAMED_MOST]))


def _journal(session: Session, event: str, **facts: object) -> None:
    """Put it into the operation log. Raises ``AlreadyRunning``, ``Tampered``; the warning was given then."""
    state = session.server.state
    _wait(state)
    with state.lock("audit"):
        state.journal.append(event, **facts)


def _warn(session: Session, event: Event) -> None:
    """Say it, to the system journal with the priority of a warning (sd-daemon(3))."""
    if "JOURNAL_STREAM" in os.environ and not session.as_json:
        session.write_aside(f"<4>{event.words.render(session.language)}")
    else:
        session.say(event)
