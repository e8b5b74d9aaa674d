"""What systemd runs, and how it is told to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.audit.facts_host import Service
from appliance.audit.reading.probe import Unreadable, lines, output, ran
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def services() -> tuple[Service, ...]:
    """Ask systemd for every service, socket and timer that it knows."""
    form = ("--type=service,socket,timer", "--no-legend", "--no-pager", "--plain")
    rows = (line.split() for line in output("systemctl", "list-units", "--all", *form).splitlines())
    active = {row[0]: row[2] for row in rows if len(row) > 3 and row[1] in {"loaded", "masked"}}  # noqa: PLR2004 - its columns
    rows = (line.split() for line in output("systemctl", "list-unit-files", *form).splitlines())
    enabled = {row[0]: row[1] for row in rows if len(row) > 1}
    if not active or not enabled:  # there is no system without any: nothing was told
        raise Unreadable(
            text(
                "systemctl tells of {units} units and {files} unit files",
                units=len(active),
                files=len(enabled),
            )
        )
    return tuple(
        Service(name, active.get(name, "inactive"), enabled.get(name, "-"))
        for name in sorted(active.keys() | enabled.keys())
    )


def failed_units() -> tuple[str, ...]:
    """Ask systemd which units failed."""
    told = output("systemctl", "list-units", "--failed", "--no-legend", "--no-pager", "--plain")
    return tuple(line.split()[0] for line in told.splitlines() if line.split())


def is_active(unit: str) -> bool:
    """Ask systemd whether a unit is active."""
    return output("systemctl", "is-active", unit, codes=(0, 3, 4)).strip() == "active"


def active_among(units: Sequence[str]) -> tuple[str, ...]:
    """Ask systemd once which of these are active; one answer a line, in their order."""
    told = output("systemctl", "is-active", *units, codes=(0, 3, 4)).splitlines()
    return tuple(unit for unit, word in zip(units, told, strict=True) if word == "active")


def shown(properties: str, names: Sequence[str]) -> Iterator[dict[str, str]]:
    """Ask systemd for properties of units; yield them unit by unit."""
    if not names:
        return
    told = output("systemctl", "show", "--no-pager", f"--property={properties}", *names)
    for block in told.strip().split("\n\n"):
        yield dict(line.split("=", 1) for line in block.splitlines() if "=" in line)


def settings(content: str, section: str) -> dict[str, str]:
    """Return the assignments of a section of systemd's files, as ``cat-config`` shows them; the last counts.

    Outside of its section an assignment is none; a section ends with its file, which begins with its name.
    """
    found: dict[str, str] = {}
    here = ""
    for line in content.splitlines():
        head, words = re.fullmatch(r"\s*\[(.*)\]\s*", line), line.strip()
        if head or re.match(r"# /\S+$", line):
            here = head[1] if head else ""
        elif here == section and "=" in words and words[0] not in "#;":
            name, _, value = words.partition("=")
            found[name.strip()] = value.strip()
    return found


def core_dumps() -> dict[str, str]:
    """Ask what becomes of a program's memory when it crashes.

    Returns systemd's limit for services (``DefaultLimitCORE``), its collector's rules, and what pam_limits
    gives to people (``limits.conf``), which no program tells without a login.
    """
    limit = output("systemctl", "show", "--property=DefaultLimitCORE").strip()
    told = ran("systemd-analyze", "cat-config", "systemd/coredump.conf", "--no-pager", codes=(0, 1))
    folder = Path("/etc/security/limits.d")
    rows = [line.text.split() for line in lines("/etc/security/limits.conf", *sorted(folder.glob("*.conf")))]
    hard = [(row[0], row[3]) for row in rows if row[3:] and row[1] in {"hard", "-"} and row[2] == "core"]
    for_all = [value for whom, value in hard if whom == "*"][-1:]  # what is given to somebody goes before it
    found = [value for whom, value in hard if whom != "*" and value != "0"] or for_all
    name, _, value = limit.partition("=")
    kept = settings(told.out, "Coredump") | {name: value}
    return kept | ({"limits.conf": found[0]} if for_all else {})
