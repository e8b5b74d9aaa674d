"""``appliance audit draft``: registers and attestations to go on with, out of a sealed audit.

Nothing is overwritten, and nothing goes to where the real files are by itself: a draft there would be
refused, and every audit with it, until its last blank is filled in.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from appliance.audit.options import GRADE, SITE, make_out
from appliance.audit.report_command import Ask, judged, signed_result, tell_sealed
from appliance.durable import naming_a_full_disk, sync_folder, write_all
from appliance.errors import BadInput, Incomplete
from appliance.text import Event, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.audit.draft import Draft, Kind
    from appliance.audit.facts import AuditFacts
    from appliance.audit.outcome import AuditResult
    from appliance.audit.seal import Sealed
    from appliance.format import Grade
    from appliance.session import Session


@click.command("draft")
@click.argument("source", required=False, type=click.Path(path_type=Path))
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(["registers", "attestations"]),
    help="What to draft.  [default: both, with --out]",
)
@GRADE
@SITE
@click.option("--again", is_flag=True, help="Judge the same facts again by the checks of this version.")
@click.option(
    "--guide",
    "guides",
    multiple=True,
    help="Attestations for this guide alone: kisa, n2sf, nis, or a checklist's name.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for new files; none is overwritten.  [default: one kind, to standard output]",
)
@click.option(
    "--key", type=click.Path(path_type=Path, dir_okay=False), help="The audit-key.pub that was kept."
)
@click.pass_context
def draft_command(  # noqa: PLR0913 - each is an option
    context: click.Context,
    source: Path | None,
    *,
    kinds: tuple[Kind, ...],
    grade: Grade | None,
    site: Path | None,
    guides: tuple[str, ...],
    out: Path | None,
    key: Path | None,
    again: bool,
) -> None:
    r"""Draft registers.yaml and attestations.yaml out of a sealed audit, with blanks for you to fill in.

    SOURCE is the folder of a sealed audit, whose seal is looked at first (exit 11: changed, 10: signed by
    another key). Without it: the newest audit of this server. A draft lists what was here, not what is
    approved. While a blank is left in it, no audit accepts the file.

    \b
    Examples:
      appliance audit draft --out /root/draft
      appliance audit draft --kind registers
      appliance audit draft --kind attestations --guide kisa > /root/attestations.yaml
      appliance audit draft /media/usb/20261121T182522Z --key audit-key.pub --out /root/draft
    """
    session: Session = context.obj
    above = context.meta.get("audit", (None, None))
    chosen = _chosen(kinds, guides, out)
    if out is not None:
        _require_new(out, chosen)
    sealed = _sealed(session, source, key)
    ask = Ask(grade or above[0], site or above[1], again)
    drafts = [_draft(session, sealed, kind, ask, guides) for kind in chosen]
    if out is not None:
        _lay_down(out, drafts)
    _tell(session, sealed, drafts, out)


def _chosen(kinds: Sequence[Kind], guides: Sequence[str], out: Path | None) -> tuple[Kind, ...]:
    """Return what to draft. Raises ``BadInput`` for what cannot be said together."""
    from appliance.audit.draft import KINDS  # noqa: PLC0415 - --help starts without any of it

    chosen = tuple(one for one in KINDS if one in (kinds or KINDS))
    if out is None and len(chosen) > 1:
        raise BadInput(
            text("one kind goes to standard output; several need a folder"),
            remedy=text("give --kind once, or --out with a folder"),
        )
    if guides and "attestations" not in chosen:
        raise BadInput(text("--guide says something about attestations alone"))
    return chosen


def _require_new(out: Path, chosen: Sequence[Kind]) -> None:
    """Refuse to overwrite, and to put a draft where the audit reads. Raises ``BadInput``."""
    from appliance.audit.draft import FILES  # noqa: PLC0415 - as above
    from appliance.audit.site import AUDIT_FOLDER  # noqa: PLC0415 - as above

    if out.resolve().is_relative_to(AUDIT_FOLDER.resolve()):
        raise BadInput(
            text("a draft with blanks there would stop every audit"),
            where=out,
            remedy=text("give another folder, fill the draft in, and then put it in place"),
        )
    for kind in chosen:
        if os.path.lexists(out / FILES[kind]):
            raise _exists(out / FILES[kind])


def _exists(path: Path) -> BadInput:
    return BadInput(
        text("the file exists, and is not overwritten"),
        where=path,
        remedy=text("move it away, or give another folder"),
    )


# --- Out of what -------------------------------------------------------------------------------------------


def _sealed(session: Session, source: Path | None, key: Path | None) -> Sealed:
    """Return an audit whose seal holds. Raises ``BadInput``, ``Incomplete``, ``Tampered``, ``Untrusted``."""
    from appliance.audit.seal import key_name, unseal  # noqa: PLC0415 - as above

    folder, expected = _newest(session) if source is None else (source, None)
    if folder.exists() and not folder.is_dir():
        raise BadInput(
            text("a draft is made out of a sealed audit alone"),
            where=folder,
            remedy=text("give the audit's whole folder"),
        )
    sealed = unseal(folder, expected if key is None else key_name(key))
    tell_sealed(session, sealed, pinned=key is not None or source is None)
    return sealed


def _newest(session: Session) -> tuple[Path, str]:
    """Return the folder of this server's newest audit, and the key that its ledger names for it."""
    from appliance.audit.chain import Ledger  # noqa: PLC0415 - as above
    from appliance.audit.history import folders_by_head  # noqa: PLC0415 - as above

    ledger = Ledger(session.server.state.folder)
    tip = ledger.read().tip
    if tip is None:
        raise Incomplete(
            text("no audit of this server has been sealed"),
            where=ledger.path,
            remedy=text("run: appliance audit"),
        )
    folder = folders_by_head((session.server.logs / "audit",)).get(tip.head)
    if folder is None:
        raise Incomplete(
            text("the folder of record {number} is not here", number=tip.record.number),
            where=session.server.logs / "audit",
            remedy=text("name the folder where it lies now, or run: appliance audit"),
        )
    return folder, tip.record.key


def _draft(session: Session, sealed: Sealed, kind: Kind, ask: Ask, guides: tuple[str, ...]) -> Draft:
    from appliance.audit.draft import attestations_draft, registers_draft  # noqa: PLC0415 - as above
    from appliance.audit.facts import facts_from_bytes  # noqa: PLC0415 - as above
    from appliance.audit.seal import FACTS  # noqa: PLC0415 - as above

    facts = facts_from_bytes(sealed.held[FACTS], sealed.folder / FACTS)
    if kind == "registers":
        return registers_draft(facts, sealed.link, session.language)
    result = _result(session, sealed, facts, ask)
    known = [one.guide for one in result.guides]
    unknown = [name for name in guides if name not in known]
    if unknown:
        raise BadInput(
            text("there is no guide {name}; known are {known}", name=unknown[0], known=", ".join(known))
        )
    return attestations_draft(result, sealed.link.record, session.language, guides)


def _result(session: Session, sealed: Sealed, facts: AuditFacts, ask: Ask) -> AuditResult:
    """Return what was signed, or the same facts judged as is asked. Raises ``BadInput``."""
    from appliance.audit.seal import RESULT  # noqa: PLC0415 - as above

    signed = signed_result(sealed.held[RESULT], sealed.folder / RESULT, ask)
    return judged(session, facts, ask, signed) if ask.judges or signed is None else signed


# --- Where it goes -----------------------------------------------------------------------------------------


def _lay_down(out: Path, drafts: Sequence[Draft]) -> None:
    """Write all of them, or none: what is left of a run that failed would be in the way of the next."""
    make_out(out)
    with ExitStack() as undo:
        for one in drafts:
            _write_new(out / one.file, one.content.encode())
            undo.callback((out / one.file).unlink, missing_ok=True)
        sync_folder(out)
        undo.pop_all()


def _write_new(path: Path, content: bytes) -> None:
    """Write a file that nobody else may read, and that was not there. Raises ``BadInput``."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise _exists(path) from error
    try:
        with naming_a_full_disk(path.parent):
            write_all(descriptor, content)
            os.fsync(descriptor)
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise
    finally:
        os.close(descriptor)


def _tell(session: Session, sealed: Sealed, drafts: Sequence[Draft], out: Path | None) -> None:
    record = sealed.link.record
    for one in drafts:
        words = text(
            "{file}: {entries} entries, {blanks} blanks to fill in",
            file=one.file,
            entries=one.entries,
            blanks=one.blanks,
        )
        session.say(Event("draft", words, {"kind": one.kind, "entries": one.entries, "blanks": one.blanks}))
    _tell_large(session, drafts)
    if out is None and not session.as_json:
        session.write(drafts[0].content.removesuffix("\n"))
        return
    told = [_facts(one, out) for one in drafts]
    place = text("standard output") if out is None else out
    words = text("drafts of audit no. {number}: {path}", number=record.number, path=place)
    session.result(words, {"number": record.number, "head": sealed.link.head, "drafts": told})


def _facts(one: Draft, out: Path | None) -> dict[str, object]:
    given = {"content": one.content} if out is None else {"path": str(out / one.file)}
    return {"kind": one.kind, "entries": one.entries, "blanks": one.blanks, **given}


def _tell_large(session: Session, drafts: Sequence[Draft]) -> None:
    from appliance.document import DOCUMENT_MAX_BYTES  # noqa: PLC0415 - as above

    for one in drafts:
        size = len(one.content.encode())
        if size > DOCUMENT_MAX_BYTES:
            words = text(
                "{file} has {size} bytes, and no audit reads more than {limit}",
                file=one.file,
                size=size,
                limit=DOCUMENT_MAX_BYTES,
            )
            session.say(Event("too-large", words, {"kind": one.kind, "bytes": size}))
