"""``appliance audit verify``: seals, records, ledger and operation log against one another."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import click

from appliance.audit.dated import korean_time
from appliance.errors import BanipError, Incomplete, Tampered, Untrusted
from appliance.text import Event, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.audit.seal import Link, Sealed
    from appliance.audit.survey import Survey
    from appliance.problems import Problem
    from appliance.session import Session
    from appliance.text import Text


@click.command("verify")
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--key", type=click.Path(path_type=Path, dir_okay=False), help="The audit-key.pub that was kept."
)
@click.pass_obj
def verify_command(session: Session, folders: tuple[Path, ...], key: Path | None) -> None:
    r"""Say whether audits are as they were sealed and their chain is whole. Exit 11: something was changed.

    Without a folder: this server's whole chain, and every folder that is still here. With folders: only
    these, on any machine. Compare head and key with paper: whoever is root here could have made both.

    \b
    Examples:
      appliance audit verify
      appliance audit verify /media/usb/20261121T182522Z --key audit-key.pub
    """
    from appliance.audit.seal import key_name  # noqa: PLC0415 - --help starts without any of it

    expected = None if key is None else key_name(key)
    if folders:
        _verify_folders(session, folders, expected)
    else:
        _verify_chain(session, expected)


# --- Folders, anywhere -------------------------------------------------------------------------------------


def _verify_folders(session: Session, folders: Sequence[Path], expected: str | None) -> None:
    from appliance.audit.seal import unseal  # noqa: PLC0415 - as above

    sealed = sorted((unseal(folder, expected) for folder in folders), key=lambda one: one.link.record.number)
    for one in sealed:
        _tell(session, one.link, one.folder)
    _require_one_chain(sealed)
    _require_ledger(session, sealed)
    last = sealed[-1]
    if expected is None:
        words = text("whose key it is, paper says: compare {key}", key=last.key)
        session.say(Event("key", words, {"key": last.key}))
    words = text(
        "{count} audits are as they were sealed; last head {head}, key {key}",
        count=len(sealed),
        head=last.link.head,
        key=last.key,
    )
    session.result(words, _facts([one.link for one in sealed], last.key))


def _require_one_chain(sealed: Sequence[Sealed]) -> None:
    """Refuse records of one server that do not follow one another. Raises ``Tampered``."""
    for before, one in pairwise(sealed):
        record = one.link.record
        apart = record.number - before.link.record.number
        follows = apart > 1 or (apart == 1 and record.previous == before.link.head)
        if before.key == one.key and before.link.head != one.link.head and not follows:
            raise Tampered(
                text("two audits of one server do not follow one another"),
                where=one.folder,
                expected=before.link.head,
                seen=record.previous,
                remedy=text("compare the heads with the printed reports: one of the two was made later"),
            )


def _require_ledger(session: Session, sealed: Sequence[Sealed]) -> None:
    """Where this is the server that sealed them, its ledger has their records. Raises ``Tampered``."""
    from appliance.audit.chain import Ledger  # noqa: PLC0415 - as above
    from appliance.audit.seal import own_key  # noqa: PLC0415 - as above

    try:
        own, links = own_key(session.server.root), Ledger(session.server.state.folder).read().links
    except PermissionError:  # somebody else than root looks at a copy
        return
    heads = {link.head for link in links}
    for one in sealed:
        if own is not None and own.name == one.key and one.link.head not in heads:
            raise Tampered(
                text("its record is not in the ledger of this server"),
                where=one.folder,
                seen=one.link.head,
                remedy=text("run: appliance audit verify; it looks at the whole chain"),
            )


# --- This server's whole chain -----------------------------------------------------------------------------


def _verify_chain(session: Session, expected: str | None) -> None:
    from appliance.audit.survey import survey  # noqa: PLC0415 - as above

    found = survey(session.server)
    _tell_links(session, found)
    for older in found.older:
        words = text("{path} is from before there was a chain: nothing is sealed in it", path=older)
        session.say(Event("older", words))
    problems = (*found.problems, *([found.mute] if found.mute else []))
    for problem in problems:
        words = text("{where}: {said}", where=problem.where, said=problem.said)
        session.say(Event("problem", words, {"where": problem.where}))
    _require_key(found, expected)
    if problems:
        raise _broken(problems)
    if not found.links:
        raise Incomplete(
            text("no audit of this server has been sealed"),
            where=session.server.state.folder / "audits",
            remedy=text("run: appliance audit"),
        )
    last = found.links[-1]
    words = text(
        "the chain of {count} audits holds; head {head}, key {key}: compare both with paper",
        count=len(found.links),
        head=last.head,
        key=last.record.key,
    )
    session.result(words, _facts(found.links, found.key))


def _tell_links(session: Session, found: Survey) -> None:
    """Name every record, and where the clock went back: their order is the chain's all the same."""
    for link in found.links:
        _tell(session, link, found.whole.get(link.head))
    for before, link in pairwise(found.links):
        if link.record.taken < before.record.taken:
            words = text(
                "by the clock, record {number} was taken before record {past}",
                number=link.record.number,
                past=before.record.number,
            )
            session.say(Event("clock", words, {"number": link.record.number}))


def _require_key(found: Survey, expected: str | None) -> None:
    if expected is not None and found.key != expected:
        raise Untrusted(
            text("the audit key of this server is not the one expected"),
            expected=expected,
            seen=found.key or text("none"),
            remedy=text("compare both with the paper of the first audit; another server has another key"),
        )


def _broken(problems: Sequence[Problem]) -> BanipError:
    count = len(problems)
    return Tampered(
        text("the chain of audits does not hold; faults: {count}", count=count),
        seen=tuple(text("{where}: {said}", where=one.where, said=one.said) for one in problems),
        remedy=text(
            "compare the heads on printed reports with these; keep everything for whoever investigates"
        ),
        facts={"problems": [_problem(one) for one in problems]},
    )


def _problem(one: Problem) -> dict[str, str]:
    return {"where": one.where, "said": str(one.said)}


# --- Words -------------------------------------------------------------------------------------------------


def _tell(session: Session, link: Link, folder: Path | None) -> None:
    record = link.record
    place: Text | Path = folder if folder is not None else text("its folder is not here")
    words = text(
        "record {number}  {date}  {grade}  score {score}  head {head}  {place}",
        number=record.number,
        date=korean_time(record.taken),
        grade=record.grade,
        score="-" if record.score is None else record.score,
        head=link.head,
        place=place,
    )
    session.say(Event("record", words, {"number": record.number, "head": link.head}))


def _facts(links: Sequence[Link], key: str | None) -> dict[str, object]:
    return {
        "records": len(links),
        "number": links[-1].record.number,
        "head": links[-1].head,
        "key": key,
    }
