"""What is recorded, for how long, whether it is whole, and by which clock."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.audit.facts_host import Clock, KernelAudit, Logs, Rotation
from appliance.audit.reading.probe import Unreadable, complaint, lines, output, program, ran
from appliance.audit.reading.services import active_among, settings
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Sequence

TIME_SERVICES = ("chrony", "chronyd", "ntp", "ntpsec", "openntpd", "systemd-timesyncd")
LOG_SERVICES = ("rsyslog", "syslog-ng")
VERIFY_TIMEOUT_S = 300
JOURNALS = Path("/var/log/journal")
ASKED_AGAIN_MOST = 20
_OPEN_AGAIN_MOST = 3
_PERIOD_DAYS = {"hourly": 0, "daily": 1, "weekly": 7, "monthly": 30, "yearly": 365}


def logs() -> Logs:
    """Ask systemd for the journal's configuration with all its drop-ins, and look where it lies."""
    return Logs(
        settings=settings(
            output("systemd-analyze", "cat-config", "systemd/journald.conf", "--no-pager"), "Journal"
        ),
        persistent=Path("/var/log/journal").is_dir(),
        disk_usage=output("journalctl", "--disk-usage").strip(),
        other=active_among(LOG_SERVICES),
    )


def journal_whole(timeout_s: float = VERIFY_TIMEOUT_S) -> tuple[str, ...]:
    """Ask journalctl to check the digests inside the journal's files; returns what it complains of."""
    done = ran("journalctl", "--verify", "--no-pager", codes=(0, 1), timeout_s=timeout_s)
    said = parse_verify(done.out + done.err)
    if done.code and not said:
        raise Unreadable(complaint("journalctl --verify", done.code, done.err[-400:]))
    return tuple(one for one in said if "@" in one or not _holds_after_all(one.split()[0], timeout_s))


def _holds_after_all(path: str, timeout_s: float) -> bool:
    """Ask again for a file that journald has open: what it writes meanwhile looks torn; real damage stays."""
    question = ("--verify", "--no-pager", f"--file={path}")
    for _ in range(_OPEN_AGAIN_MOST):
        ran("journalctl", "--sync", codes=(0, 1))
        if not ran("journalctl", *question, codes=(0, 1), timeout_s=timeout_s).code:
            return True
    return False


def journal_archives(folder: Path = JOURNALS) -> tuple[Path, ...]:
    """Return the journal's files that nobody writes to any more: their names have an @."""
    return tuple(sorted(folder.glob("*/*@*.journal")))


def journal_whole_since(known: tuple[str, ...], changed: Sequence[Path]) -> tuple[str, ...]:
    """Return what journalctl complained of, and what it says now of archives that were changed since.

    Raises ``Unreadable`` where those are so many that it would take long.
    """
    if len(changed) > ASKED_AGAIN_MOST:
        raise Unreadable(
            text("{count} archived files of the journal changed since the integrity run", count=len(changed))
        )
    found = list(known)
    for path in changed:
        done = ran("journalctl", "--verify", "--no-pager", f"--file={path}", codes=(0, 1))
        said = parse_verify(done.out + done.err)
        if done.code and not said:  # it could not even be opened as a journal
            said = (f"{path} {' '.join(done.err.split())}",)
        found += [one for one in said if one not in found]
    return tuple(found)


def parse_verify(told: str) -> tuple[str, ...]:
    """Return the files that do not hold, or that it cannot open and leaves out, in journalctl's words."""
    form = r"(?:FAIL:|Journal file(?=.*, ignoring file)) (\S+)(.*)"
    found = (re.match(form, line) for line in told.splitlines())
    return tuple(" ".join(f"{one[1]}{one[2]}".split()) for one in found if one)


def rotations() -> tuple[Rotation, ...]:
    """Ask logrotate, which changes nothing here, what it would do with which files."""
    if program("logrotate") is None:
        return ()
    done = ran("logrotate", "--debug", "/etc/logrotate.conf", codes=(0, 1))
    found = parse_rotations(done.out + done.err)
    if not found and (done.code or "reading config file" not in done.out + done.err):
        raise Unreadable(
            text("logrotate --debug told of no pattern: {said}", said=" ".join(done.err[:400].split()))
        )
    return found


def parse_rotations(told: str) -> tuple[Rotation, ...]:
    """Return the patterns with their period in days, and how many rotated files are kept."""
    form = re.compile(
        r"^rotating pattern: (.+?)\s+(\w+|after (\d+) days|\d+ bytes) +\((?:(\d+) rotations)?",
        re.MULTILINE | re.DOTALL,
    )
    return tuple(
        Rotation(
            pattern=" ".join(one[1].split()),
            days_each=int(one[3]) if one[3] else _PERIOD_DAYS.get(one[2], 0),
            kept=int(one[4] or 0),
        )
        for one in form.finditer(told)
    )


# --- The kernel's audit ------------------------------------------------------------------------------------


def kernel_audit() -> KernelAudit:
    """Ask the kernel, by auditctl, for its audit's state and rules."""
    if program("auditctl") is None:
        return KernelAudit(installed=False)
    state = ran("auditctl", "-s", codes=tuple(range(256)))
    rules = ran("auditctl", "-l", codes=tuple(range(256)))
    daemon = output("systemctl", "is-active", "auditd", codes=(0, 3, 4)).strip()
    given = dict(line.text.partition(" = ")[::2] for line in lines("/etc/audit/auditd.conf"))
    return parse_audit(state.out, rules.out, " ".join((state.err + rules.err).split()), daemon, given)


def parse_audit(
    state: str, rules: str, complaint: str, daemon: str, settings_given: dict[str, str]
) -> KernelAudit:
    """Return what auditctl says; without a state it was refused, and the complaint says why."""
    words = dict(line.partition(" ")[::2] for line in state.splitlines())
    settings_found = {name.strip().lower(): value.strip() for name, value in settings_given.items()}
    if "enabled" not in words:
        return KernelAudit(
            installed=True, refused=complaint or "no answer", daemon=daemon, settings=settings_found
        )
    return KernelAudit(
        installed=True,
        enabled=int(words["enabled"]),
        lost=int(words.get("lost", 0)),
        rules=tuple(line.strip() for line in rules.splitlines() if line.startswith("-")),
        daemon=daemon,
        settings=settings_found,
    )


# --- Time --------------------------------------------------------------------------------------------------


def clock(newest_build: datetime | None) -> Clock:
    """Read the clocks, and ask which time services run, whom they ask, and whether the kernel is in step."""
    try:
        seconds = int(Path("/sys/class/rtc/rtc0/since_epoch").read_text("ascii"))
    except FileNotFoundError:
        seconds = None
    sources = active_among(TIME_SERVICES)
    told = output("timedatectl", "show", "--property=NTPSynchronized", "--value").strip()
    return Clock(
        now=datetime.now(timezone.utc),
        rtc=None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc),
        newest_build=newest_build,
        sources=sources,
        servers=_time_servers(sources),
        synchronised=told == "yes",
    )


def _time_servers(sources: tuple[str, ...]) -> tuple[str, ...]:
    if {"chrony", "chronyd"} & set(sources):
        return parse_chrony(output("chronyc", "-n", "-c", "sources"))
    if "systemd-timesyncd" in sources:
        names = ("LinkNTPServers", "SystemNTPServers", "RuntimeNTPServers", "FallbackNTPServers")
        told = output("timedatectl", "show-timesync", *(f"--property={name}" for name in names))
        return parse_timesync(told)
    return ()


def parse_chrony(told: str) -> tuple[str, ...]:
    """Return the servers of chronyc's table (mode, state, address, ...); a local reference clock is none."""
    rows = [line.split(",") for line in told.splitlines() if line.count(",") > 1]
    return tuple(row[2] for row in rows if row[0] != "#")


def parse_timesync(told: str) -> tuple[str, ...]:
    """Return the servers that timesyncd asks: the fallback counts only where nothing else is named."""
    given = dict(line.partition("=")[::2] for line in told.splitlines())
    fallback = given.pop("FallbackNTPServers", "").split()
    return tuple(dict.fromkeys(word for value in given.values() for word in value.split())) or tuple(fallback)
