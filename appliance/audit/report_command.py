"""``appliance audit report``: an audit's report again: another language or grade, on any machine.

No trust and no installed product is needed: a sealed folder is judged first, a bare facts file is marked as
what nobody sealed. Nothing is added to any chain.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from appliance.audit.options import FORMATS, GRADE, SITE, grade_of, make_out, rules_of
from appliance.errors import BadInput, Tampered
from appliance.text import Event, text

if TYPE_CHECKING:
    from appliance.audit.edition import Edition, History
    from appliance.audit.facts import AuditFacts
    from appliance.audit.formats import Format
    from appliance.audit.outcome import AuditResult
    from appliance.audit.seal import Sealed
    from appliance.format import Grade
    from appliance.session import Session


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked of the facts: another grade, other site files, or this version's checks."""

    grade: Grade | None
    site: Path | None
    again: bool

    @property
    def judges(self) -> bool:
        """Tell whether the facts are judged again; otherwise the signed result is shown as it is."""
        return self.again or self.grade is not None or self.site is not None


@click.command("report")
@click.argument("source", type=click.Path(path_type=Path))
@GRADE
@SITE
@click.option("--again", is_flag=True, help="Judge the same facts again by the checks of this version.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Folder in which a new folder with the report is made.  [default: the current one]",
)
@FORMATS
@click.option("--redacted", is_flag=True, help="Leave out what must not leave the institution.")
@click.option(
    "--key", type=click.Path(path_type=Path, dir_okay=False), help="The audit-key.pub that was kept."
)
@click.pass_context
def report_command(  # noqa: PLR0913 - each is an option
    context: click.Context,
    source: Path,
    *,
    grade: Grade | None,
    site: Path | None,
    out: Path,
    formats: tuple[str, ...],
    key: Path | None,
    again: bool,
    redacted: bool,
) -> None:
    r"""Make an audit's report again, out of its folder or its facts.json, here or on any other machine.

    SOURCE is a sealed folder, whose seal is looked at first (exit 11: changed, 10: signed by another key),
    or a bare facts.json, which nobody vouches for and whose report says so.

    \b
    Examples:
      appliance --lang en audit report /var/log/banip/audit/20261121T182522Z --format pdf
      appliance audit report 20261121T182522Z --grade C --key audit-key.pub
      appliance audit report 20261121T182522Z --redacted --out /root/out
      appliance audit report facts.json --grade S --site ./audit
    """
    from appliance.audit.report import formats_named  # noqa: PLC0415 - --help starts without any of it

    session: Session = context.obj
    above = context.meta.get("audit", (None, None))
    chosen, ask = formats_named(formats), Ask(grade or above[0], site or above[1], again)
    edition = _edition(session, source, key, ask)
    if redacted:
        from appliance.audit.redact import redacted_edition  # noqa: PLC0415 - as above

        edition = replace(redacted_edition(edition), verified=edition.verified)
    _write(session, edition, chosen, out)


def _write(session: Session, edition: Edition, chosen: tuple[Format, ...], out: Path) -> None:
    from appliance.audit.report import folder_name, lay_down, pretty, render  # noqa: PLC0415 - as above
    from appliance.audit.seal import RESULT  # noqa: PLC0415 - as above

    reports, left_out = render(edition, chosen, session.say)
    result = edition.result
    name = f"{folder_name(result)}-{result.grade}"
    if edition.redacted:  # of the time it keeps the day
        name = f"{result.taken:%Y%m%d}-{result.grade}-redacted"
    make_out(out)
    folder = lay_down(out, name, {**reports, RESULT: pretty(result)})
    paths = [str(folder / name) for name in (*reports, RESULT)]
    told = {"folder": str(folder), "reports": paths, "left_out": left_out, "verified": edition.verified}
    session.result(text("report: {path}", path=paths[0]), {**told, "head": edition.head})


def _edition(session: Session, source: Path, key: Path | None, ask: Ask) -> Edition:
    """Return what the report is made from. Raises ``BadInput``, ``Tampered``, ``Untrusted``."""
    from appliance.audit.edition import Edition  # noqa: PLC0415 - --help starts without any of it
    from appliance.audit.facts import facts_from_bytes  # noqa: PLC0415 - as above

    if source.is_dir():
        return _from_folder(session, source, key, ask)
    if key is not None:
        raise BadInput(
            text("a bare facts file has no signature that a key could check"),
            where=source,
            remedy=text("give the audit's whole folder"),
        )
    from appliance.audit.seal import plain_bytes  # noqa: PLC0415 - as above

    try:
        facts = facts_from_bytes(plain_bytes(source), source)
    except Tampered as error:  # no plain file, or too large a one: nothing was sealed that could be changed
        raise BadInput(text("this is not a facts file of an audit"), where=source, seen=error.seen) from error
    except OSError as error:
        raise BadInput(text("the file cannot be read"), where=source, seen=error.strerror) from error
    session.say(Event("unverified", text("nobody vouches for these facts: the report says so")))
    return Edition(judged(session, facts, ask, None), session.language, verified=False)


def _from_folder(session: Session, source: Path, key: Path | None, ask: Ask) -> Edition:
    from appliance.audit.edition import Edition  # noqa: PLC0415 - as above
    from appliance.audit.facts import facts_from_bytes  # noqa: PLC0415 - as above
    from appliance.audit.report import edition_of, pretty  # noqa: PLC0415 - as above
    from appliance.audit.seal import FACTS, RESULT, key_name, unseal  # noqa: PLC0415 - as above
    from appliance.format import sha256_hex  # noqa: PLC0415 - as above

    sealed = unseal(source, None if key is None else key_name(key))
    tell_sealed(session, sealed, pinned=key is not None)
    signed = signed_result(sealed.held[RESULT], source / RESULT, ask)
    if not ask.judges and signed is not None:
        return edition_of(signed, session.language, sealed.link, _history(sealed))
    result = judged(session, facts_from_bytes(sealed.held[FACTS], source / FACTS), ask, signed)
    if sha256_hex(pretty(result)) == sealed.link.record.result:
        return edition_of(result, session.language, sealed.link, _history(sealed))
    return Edition(result, session.language, judged_from=sealed.link.record)


def tell_sealed(session: Session, sealed: Sealed, *, pinned: bool) -> None:
    """Say that the seal holds; where no key was ``pinned``, that paper says whose it is."""
    record, head = sealed.link.record, sealed.link.head
    words = text("the seal holds: record {number}, head {head}", number=record.number, head=head)
    session.say(Event("sealed", words, {"number": record.number, "head": head, "key": sealed.key}))
    if not pinned:
        words = text("whose key it is, paper says: compare {key}", key=sealed.key)
        session.say(Event("key", words, {"key": sealed.key}))


def signed_result(content: bytes, where: Path, ask: Ask) -> AuditResult | None:
    """Read the result that was signed; one of another version can only be judged again."""
    from appliance.audit.dated import is_of_a_clock  # noqa: PLC0415 - as above
    from appliance.audit.outcome import AuditResult  # noqa: PLC0415 - as above

    try:
        signed = msgspec.json.decode(content, type=AuditResult)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if ask.judges:
            return None
        raise BadInput(
            text("this result was written by another version"),
            where=where,
            seen=error,
            remedy=text("judge its facts again: --again"),
        ) from error
    if not is_of_a_clock(signed.taken):
        place, seen = f"{where}: $.taken", signed.taken.isoformat()
        raise BadInput(text("this is not the result of an audit"), where=place, seen=seen)
    return signed


def _history(sealed: Sealed) -> History:
    from appliance.audit.edition import History  # noqa: PLC0415 - as above
    from appliance.audit.seal import HISTORY  # noqa: PLC0415 - as above

    try:
        return msgspec.json.decode(sealed.held.get(HISTORY, b""), type=History)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return History()  # of another version; the result is what counts


def judged(session: Session, facts: AuditFacts, ask: Ask, signed: AuditResult | None) -> AuditResult:
    """Judge the facts; say where the institution's files are other ones than the signed result went by."""
    from appliance.audit.result import audit  # noqa: PLC0415 - as above

    decided = rules_of(ask.site)
    grade = ask.grade or (signed.grade if signed else grade_of(facts))
    if signed is not None and {one.sha256 for one in signed.site_files} != {
        one.sha256 for one in decided.files
    }:
        words = text(
            "the signed result went by {then} files of the institution, this one goes by {now} and others",
            then=len(signed.site_files),
            now=len(decided.files),
        )
        session.say(Event("site-files", words))
    return audit(facts, grade, decided)
