"""The audit on the disk: what was read, what it comes to, its record and its reports, sealed in one folder.

A folder gets its name when all in it is durable and its record is in the ledger: a killed audit leaves none
that looks finished.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from datetime import timezone
from typing import TYPE_CHECKING

import msgspec

from appliance.audit.chain import Ledger
from appliance.audit.edition import Edition, History, Record
from appliance.audit.formats import FORMATS, Unavailable
from appliance.audit.history import folders_by_head, look_back
from appliance.audit.mending import enter, ready
from appliance.audit.seal import (
    FACTS,
    HISTORY,
    PRIVATE_FILE,
    PRIVATE_FOLDER,
    RECORD,
    RESULT,
    link_of,
    seal,
)
from appliance.durable import (
    fresh_file,
    make_folder,
    naming_a_full_disk,
    rename_durably,
    sync_folder,
    write_all,
)
from appliance.errors import BadInput
from appliance.format import sha256_hex
from appliance.text import Event, text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from appliance.audit.facts import AuditFacts
    from appliance.audit.formats import Format
    from appliance.audit.mending import Ready
    from appliance.audit.outcome import AuditResult
    from appliance.audit.seal import Link
    from appliance.release import Server
    from appliance.text import Language

    Tell = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of a report: its language, its formats, and where it goes (None: Banip's own logs)."""

    language: Language
    formats: tuple[Format, ...] = FORMATS
    out: Path | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """A sealed audit: its folder and files (reports first), its link, what changed since the audit before.

    ``left_out``: formats that could not be made here, each with its reason.
    """

    folder: Path
    paths: tuple[Path, ...]
    link: Link
    history: History
    left_out: Mapping[str, str]


def formats_named(names: Sequence[str]) -> tuple[Format, ...]:
    """Return the formats of these names, all where none is named. Raises ``BadInput``."""
    known = {one.name: one for one in FORMATS}
    unknown = [name for name in names if name not in known]
    if unknown:
        told = text("there is no format {name}; known are {known}", name=unknown[0], known=", ".join(known))
        raise BadInput(told)
    return tuple(known[name] for name in dict.fromkeys(names)) or FORMATS


def write_audit(
    server: Server, facts: AuditFacts, result: AuditResult, wish: Wish, tell: Tell = lambda _: None
) -> Written:
    """Seal an audit as the next link of this server's chain.

    Raises ``AlreadyRunning`` where another audit is sealed for minutes, ``UnfitServer`` on a full disk,
    ``Tampered`` for a damaged key.
    """
    place = wish.out or server.logs / "audit"
    ledger = Ledger(server.state.folder)
    with ledger.hold():
        here = ready(server, place, tell)
        core = {FACTS: pretty(facts), RESULT: pretty(result)}
        link = link_of(_record(here, result, core))
        history = look_back(here.links, result, folders_by_head((place, server.logs / "audit")))
        edition = edition_of(result, wish.language, link, history)
        reports, left_out = render(edition, wish.formats, tell)
        contents = {**reports, **core, RECORD: link.line, HISTORY: pretty(history)}
        folder = lay_down(
            place, folder_name(result), seal(contents, here.key), before_named=lambda: ledger.append(link)
        )
    enter(server, (*here.links, link), here.said, tell)
    return Written(folder, tuple(folder / name for name in contents), link, history, left_out)


def _record(here: Ready, result: AuditResult, core: Mapping[str, bytes]) -> Record:
    return Record(
        format=1,
        number=here.number,
        previous=here.previous,
        taken=result.taken,
        host=result.host,
        release=result.release,
        grade=result.grade,
        report_grade=result.report_grade,
        score=result.score,
        counts=result.counts,
        facts=sha256_hex(core[FACTS]),
        result=sha256_hex(core[RESULT]),
        key=here.key.name,
    )


def edition_of(result: AuditResult, language: Language, link: Link, history: History) -> Edition:
    """Return the edition of a result that is in the chain."""
    return Edition(
        result,
        language,
        record=link.record,
        head=link.head,
        comparison=history.comparison,
        trend=history.trend,
    )


def render(
    edition: Edition, formats: Sequence[Format], tell: Tell
) -> tuple[dict[str, bytes], dict[str, str]]:
    """Return the reports by file, and why a format could not be made here, by its name; both are told."""
    made, left_out = dict[str, bytes](), dict[str, str]()
    for one in formats:
        tell(Event("format", text("writing {file}", file=one.file), {"format": one.name}))
        try:
            made[one.file] = one.render(edition)
        except Unavailable as error:
            left_out[one.name] = str(error)
            words = text("{file} is left out: {reason}", file=one.file, reason=error.words)
            tell(Event("left-out", words, {"format": one.name, "reason": str(error)}))
    return made, left_out


def folder_name(result: AuditResult) -> str:
    """Return how the folder of an audit is called: by its time, in UTC."""
    return f"{result.taken.astimezone(timezone.utc):%Y%m%dT%H%M%SZ}"


def lay_down(
    place: Path,
    name: str,
    contents: Mapping[str, bytes],
    *,
    before_named: Callable[[], object] = lambda: None,
) -> Path:
    """Write files into a new folder, which has its name, or one like it, only when all is durable.

    ``before_named`` is called in between: what must be durable before anybody may see the folder.
    """
    make_folder(place, PRIVATE_FOLDER)
    folder = _free(place, name)
    new = folder.with_name(f".{folder.name}.new")
    if new.exists():
        shutil.rmtree(new)
    try:
        make_folder(new, PRIVATE_FOLDER)
        with naming_a_full_disk(place):
            for file, content in contents.items():
                with fresh_file(new / file) as descriptor:
                    write_all(descriptor, content)
                    os.fchmod(descriptor, PRIVATE_FILE)
                    os.fsync(descriptor)
        sync_folder(new)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    before_named()
    rename_durably(new, folder)
    return folder


def _free(place: Path, name: str) -> Path:
    """Return a name that is free: two audits may fall into one second."""
    number, path = 1, place / name
    while path.exists():
        number += 1
        path = place / f"{name}-{number}"
    return path


def pretty(value: object) -> bytes:
    """Return JSON for people and programs: sorted keys, indented."""
    return msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=1) + b"\n"
