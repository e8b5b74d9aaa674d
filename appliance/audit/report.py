"""The audit on the disk: what was read, what it comes to, and the reports, in a folder of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from appliance.audit.edition import Edition
from appliance.audit.formats import FORMATS
from appliance.durable import make_folder, write_file

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.audit.facts import AuditFacts
    from appliance.audit.outcome import AuditResult
    from appliance.text import Language

REPORT_MODE = 0o600


def write_reports(
    folder: Path, facts: AuditFacts, result: AuditResult, language: Language
) -> tuple[Path, ...]:
    """Write all of an audit into a folder of its time; return the paths, the page first."""
    place = folder / f"{result.taken:%Y%m%dT%H%M%SZ}"
    make_folder(place, mode=0o700)
    edition = Edition(result, language)
    contents = {one.file: one.render(edition) for one in FORMATS}
    contents |= {"audit.json": pretty(result), "facts.json": pretty(facts)}
    for name, content in contents.items():
        write_file(place / name, content, mode=REPORT_MODE)
    return tuple(place / name for name in contents)


def pretty(value: object) -> bytes:
    """Return JSON for people and programs: sorted keys, indented."""
    return msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=1) + b"\n"
