"""Logs, time, patches: what tells later what happened."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from appliance.audit.checks.verdict import (
    Asked,
    Verdict,
    check,
    failed,
    listed,
    not_applicable,
    passed,
    unless,
    verdict,
)
from appliance.audit.reason import as_reason
from appliance.text import text

if TYPE_CHECKING:
    from appliance.audit.facts import AuditFacts

CLOCKS_APART_S = 120
DAY_S = 86400
#: systemd.time(7), as far as anybody writes it into journald.conf.
_UNITS_S = {
    "": 1, "s": 1, "sec": 1, "second": 1, "seconds": 1, "m": 60, "min": 60, "minute": 60, "minutes": 60,
    "h": 3600, "hr": 3600, "hour": 3600, "hours": 3600, "d": DAY_S, "day": DAY_S, "days": DAY_S,
    "w": 7 * DAY_S, "week": 7 * DAY_S, "weeks": 7 * DAY_S, "M": 2629800, "month": 2629800,
    "months": 2629800, "y": 31557600, "year": 31557600, "years": 31557600,
}  # fmt: skip


def seconds(span: str) -> float | None:
    """Return a time span of systemd in seconds; None for what cannot be understood."""
    if not re.fullmatch(r"(\s*\d+(\.\d+)?\s*[A-Za-z]*)+\s*", span):
        return None
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", span)
    if any(unit not in _UNITS_S for _, unit in parts):
        return None
    return sum(float(number) * _UNITS_S[unit] for number, unit in parts)


@check("log.persistent")
def persistent(facts: AuditFacts, _: Asked) -> Verdict:
    """System logs outlive a restart."""
    logs = facts.logs.get()
    storage = logs.settings.get("Storage", "auto")
    holds = bool(logs.other) or storage == "persistent" or (storage == "auto" and logs.persistent)
    there = "/var/log/journal" if logs.persistent else "-"
    words = text("{names}", names="; ".join([f"Storage={storage}", there, *logs.other]))
    return verdict(words, facts.logs.source, holds=holds)


@check("log.retention")
def retention(facts: AuditFacts, asked: Asked) -> Verdict:
    """System logs are kept as long as the grade asks, as far as a setting can promise it."""
    logs = facts.logs.get()
    given = logs.settings.get("MaxRetentionSec")
    if given is None:
        return failed(text("{name} is not set", name="MaxRetentionSec"), facts.logs.source)
    kept = seconds(given)
    if kept is None:
        return Verdict("unknown", text("not understood: {value}", value=given), facts.logs.source)
    words = text("{names}", names=f"MaxRetentionSec={given}; {logs.disk_usage}")
    return verdict(words, facts.logs.source, holds=kept == 0 or kept >= asked.number * DAY_S)


@check("log.journal-whole")
def journal_whole(facts: AuditFacts, _: Asked) -> Verdict:
    """The files of the system journal hold together by their own digests."""
    return unless(facts.journal_whole.get(), facts.journal_whole.source)


@check("log.file-retention")
def file_retention(facts: AuditFacts, asked: Asked) -> Verdict:
    """Log files of the product, rotated by logrotate, are kept as long as the grade asks."""
    ours = [one for one in facts.rotations.get() if "/var/log/banip" in one.pattern]
    if not ours:
        return not_applicable(text("no log file of the product is rotated"), facts.rotations.source)
    shown = [f"{one.pattern}: {one.days_each * one.kept}" for one in ours]
    found = [
        f"{one.pattern}: {one.days_each * one.kept}"
        for one in ours
        if one.days_each * one.kept < asked.number
    ]
    return unless(found, facts.rotations.source, listed(shown))


@check("log.operations-chained")
def operations_chained(facts: AuditFacts, _: Asked) -> Verdict:
    """The operation log's chain of digests holds from its first line to its last."""
    state = facts.state.get()
    if state.broken is not None:
        return failed(as_reason(state.broken).as_text(), facts.state.source)
    if not state.lines:
        return failed(text("the operation log is empty"), facts.state.source)
    words = text("{count} lines, last {head}", count=state.lines, head=state.head[:16])
    return passed(words, facts.state.source)


@check("log.no-weakened-safety")
def no_weakened_safety(facts: AuditFacts, _: Asked) -> Verdict:
    """Nobody has weakened safety on purpose; where somebody has, it is shown in every report."""
    state = facts.state.get()
    if state.broken is not None:
        return Verdict("unknown", as_reason(state.broken).as_text(), facts.state.source)
    return unless(state.unsafe, facts.state.source, text("{count} looked at, none found", count=state.lines))


@check("clock.plausible")
def plausible(facts: AuditFacts, _: Asked) -> Verdict:
    """The clock is not before the newest accepted build, and agrees with the hardware clock."""
    clock = facts.clock.get()
    newest = facts.proven().built
    if newest is not None and clock.now < newest:
        words = text("{names}", names=f"{clock.now:%Y-%m-%d %H:%M:%S} < {newest:%Y-%m-%d %H:%M:%S}")
        return failed(words, facts.clock.source)
    apart = abs((clock.now - clock.rtc).total_seconds()) if clock.rtc else None
    if apart is not None and apart > CLOCKS_APART_S:
        return failed(
            text("the hardware clock differs by {seconds} s", seconds=round(apart)), facts.clock.source
        )
    return passed(text("{names}", names=f"{clock.now:%Y-%m-%d %H:%M:%S} UTC"), facts.clock.source)


@check("host.time-source")
def time_source(facts: AuditFacts, _: Asked) -> Verdict:
    """A time service runs, and asks servers inside this network."""
    clock = facts.clock.get()
    if not clock.sources:
        return failed(text("no time service is active"), facts.clock.source)
    if not clock.servers:
        return failed(text("{names}: no server is named", names=", ".join(clock.sources)), facts.clock.source)
    found = [one for one in clock.servers if not _is_inside(one)]
    return unless(found, facts.clock.source, listed([*clock.sources, *clock.servers]))


def _is_inside(server: str) -> bool:
    """Tell whether a time server is in a private network; of a name nobody knows, but a pool is outside."""
    try:
        return ipaddress.ip_address(server).is_private
    except ValueError:
        return not server.endswith(
            (".pool.ntp.org", ".ntp.org", ".google.com", ".windows.com", ".ubuntu.com")
        )


@check("clock.synchronised")
def synchronised(facts: AuditFacts, _: Asked) -> Verdict:
    """The kernel's clock is in step with the source that it follows."""
    clock = facts.clock.get()
    words = text("{names}", names=f"NTPSynchronized={'yes' if clock.synchronised else 'no'}")
    return verdict(words, facts.clock.source, holds=clock.synchronised is True)


@check("host.patch-level")
def patch_level(facts: AuditFacts, _: Asked) -> Verdict:
    """What is installed can be listed here; whether it is the newest, nothing on this server knows."""
    packages, clock = facts.packages.get(), facts.clock.get()
    built = facts.release.value.built if facts.release.value else None
    when = f"{built:%Y-%m-%d}" if built else "-"
    days = (clock.now - built).days if built else "-"
    words = text(
        "{count} packages; release built {when}, {days} days ago", count=len(packages), when=when, days=days
    )
    return Verdict("manual", words, facts.packages.source)
