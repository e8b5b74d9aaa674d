"""The host as it is configured: accounts, files, login, services, clock, devices."""

from __future__ import annotations

import os
import re
import socket
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.audit.facts import Account, Clock, Devices, File, Group, Host, Line, Logs, Service, Shell, Ssh
from appliance.audit.reading.probe import lines, look, look_below, output, output_as_nobody, program

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMED_FILES = (
    "/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/hosts", "/etc/services",
    "/etc/rsyslog.conf", "/etc/syslog.conf", "/etc/inetd.conf", "/etc/xinetd.conf", "/etc/hosts.lpd",
    "/etc/crontab", "/etc/cron.d", "/etc/cron.hourly", "/etc/cron.daily", "/etc/cron.weekly",
    "/etc/cron.monthly", "/etc/cron.allow", "/etc/cron.deny", "/etc/at.allow", "/etc/at.deny",
    "/usr/bin/crontab", "/etc/sudoers", "/etc/sudoers.d", "/etc/profile", "/etc/bash.bashrc",
    "/etc/environment", "/etc/login.defs", "/etc/systemd/journald.conf", "/etc/ssh/sshd_config",
)  # fmt: skip
NO_LOGIN = frozenset({"/usr/sbin/nologin", "/sbin/nologin", "/bin/false", "/usr/bin/false", "/bin/sync", ""})
TIME_SERVICES = ("chrony", "chronyd", "ntp", "ntpsec", "openntpd", "systemd-timesyncd")
LOG_SERVICES = ("rsyslog", "syslog-ng")
RADIO_AND_MEDIA = ("usb_storage", "uas", "firewire_sbp2", "sbp2", "bluetooth", "btusb")
KERNEL_SETTINGS = (
    "net.ipv4.ip_forward",
    "net.ipv4.conf.all.accept_redirects",
    "net.ipv4.conf.all.send_redirects",
    "net.ipv4.conf.all.accept_source_route",
    "net.ipv4.tcp_syncookies",
    "net.ipv6.conf.all.accept_redirects",
    "kernel.randomize_va_space",
    "kernel.dmesg_restrict",
    "kernel.kptr_restrict",
    "fs.protected_hardlinks",
    "fs.protected_symlinks",
    "fs.suid_dumpable",
)
_HASHES = {
    "y": "yescrypt", "gy": "gost-yescrypt", "7": "scrypt", "6": "sha512", "5": "sha256",
    "2a": "bcrypt", "2b": "bcrypt", "2y": "bcrypt", "1": "md5",
}  # fmt: skip


def host() -> Host:
    """Say which machine this is."""
    words = (line.text.partition("=") for line in lines("/etc/os-release"))
    about = {key: value.strip('"') for key, _, value in words}
    return Host(
        name=socket.gethostname(),
        os=about.get("PRETTY_NAME", "?"),
        kernel=os.uname().release,
        virtualization=output("systemd-detect-virt", codes=(0, 1)).strip(),
    )


# --- Files -------------------------------------------------------------------------------------------------


def named_files() -> tuple[File, ...]:
    """Look at the files that checks name, and at each rule file of cron and sudo."""
    found = [look(path) for path in NAMED_FILES]
    for folder in ("/etc/cron.d", "/etc/sudoers.d"):
        found += look_below(folder)[1:]
    return tuple(found)


def homes() -> tuple[File, ...]:
    """Look at the homes of those who can log in, and at the start-up files in them."""
    found = []
    for account in accounts():
        if account.login_shell not in NO_LOGIN:
            names = ("", ".profile", ".bashrc", ".bash_profile", ".rhosts", ".ssh/authorized_keys")
            found += [look(os.path.normpath(Path(account.home, name))) for name in names]
    return tuple(found)


def startup() -> tuple[File, ...]:
    """Look at what starts with the system and belongs to this site."""
    return (*look_below("/etc/init.d"), *look_below("/etc/systemd/system"))


def logs_files() -> tuple[File, ...]:
    """Look at everything below /var/log."""
    return look_below("/var/log")


# --- Accounts ----------------------------------------------------------------------------------------------


def accounts() -> tuple[Account, ...]:
    """Ask the name service for accounts, and for what kind of password each has; hashes stay behind."""
    kinds = {row[0]: hash_kind(row[1]) for row in _rows("shadow")}
    return tuple(
        Account(
            name=row[0],
            uid=int(row[2]),
            gid=int(row[3]),
            home=row[5],
            login_shell=row[6],
            hash_kind=kinds.get(row[0], "unshadowed") if row[1] == "x" else _outside_shadow(row[1]),
        )
        for row in _rows("passwd")
    )


def hash_kind(field: str) -> str:
    """Name the kind of hash in a shadow field (crypt(5)); ``locked`` where no password can match."""
    if not field:
        return "empty"
    if field[0] in "!*":
        return "locked"
    match = re.match(r"\$([0-9a-z]+)\$", field)
    return _HASHES.get(match[1], match[1]) if match else "des"


def _outside_shadow(field: str) -> str:
    return "locked" if field in {"*", "!"} else "unshadowed"


def groups() -> tuple[Group, ...]:
    """Ask the name service for groups."""
    return tuple(Group(row[0], int(row[2]), tuple(filter(None, row[3].split(",")))) for row in _rows("group"))


def _rows(database: str) -> Iterator[list[str]]:
    for line in output("getent", database).splitlines():
        yield line.split(":")


def pam() -> tuple[Line, ...]:
    """Read the rules of PAM."""
    folder = Path("/etc/pam.d")
    return lines(*sorted(folder.iterdir())) if folder.is_dir() else ()


def password_quality() -> tuple[Line, ...]:
    """Read what pwquality asks of a new password."""
    return lines(
        "/etc/security/pwquality.conf", *sorted(Path("/etc/security/pwquality.conf.d").glob("*.conf"))
    )


def banner() -> tuple[Line, ...]:
    """Read what is shown before and after a login."""
    return lines("/etc/issue", "/etc/issue.net", "/etc/motd")


def shell() -> Shell:
    """Ask a login shell, started with nobody's rights, what the system's start-up files gave it."""
    asked = 'printf "%s\\n" "${TMOUT:-}" "$(umask)" "$PATH"'
    timeout, umask, path = output_as_nobody("bash", "--login", "-c", asked).splitlines()[-3:]
    more = [line.text.partition("PATH=")[2] for line in lines("/etc/login.defs") if "ENV_SUPATH" in line.text]
    parts = dict.fromkeys(part for one in (*more, path) for part in one.split(":"))
    return Shell(
        timeout_s=int(timeout) if timeout.strip().isdigit() else None, umask=umask, path=tuple(parts)
    )


def ssh() -> Ssh:
    """Ask the SSH server for its effective settings."""
    if program("sshd") is None:
        return Ssh(installed=False)
    rows = (line.partition(" ") for line in output("sshd", "-T").splitlines())
    return Ssh(installed=True, settings={name.lower(): value.strip() for name, _, value in rows})


# --- Services, logs, clock, devices ------------------------------------------------------------------------


def services() -> tuple[Service, ...]:
    """Ask systemd for every service and socket that it knows."""
    form = ("--type=service,socket", "--no-legend", "--no-pager", "--plain")
    rows = (line.split() for line in output("systemctl", "list-units", "--all", *form).splitlines())
    active = {row[0]: row[2] for row in rows if len(row) > 3 and row[1] == "loaded"}  # noqa: PLR2004 - its columns
    rows = (line.split() for line in output("systemctl", "list-unit-files", *form).splitlines())
    enabled = {row[0]: row[1] for row in rows if len(row) > 1}
    return tuple(
        Service(name, active.get(name, "inactive"), enabled.get(name, "-"))
        for name in sorted(active.keys() | enabled.keys())
    )


def packages() -> tuple[str, ...]:
    """Ask dpkg for every installed package, as name=version."""
    form = "${db:Status-Status}\t${Package}=${Version}\n"
    rows = (line.partition("\t") for line in output("dpkg-query", "-W", f"-f={form}").splitlines())
    return tuple(name for status, _, name in rows if status == "installed")


def is_active(unit: str) -> bool:
    """Ask systemd whether a unit is active."""
    return output("systemctl", "is-active", unit, codes=(0, 3, 4)).strip() == "active"


def logs() -> Logs:
    """Ask systemd for the journal's configuration with all its drop-ins, and look where it lies."""
    return Logs(
        settings=settings(output("systemd-analyze", "cat-config", "systemd/journald.conf", "--no-pager")),
        persistent=Path("/var/log/journal").is_dir(),
        disk_usage=output("journalctl", "--disk-usage").strip(),
        other=tuple(name for name in LOG_SERVICES if is_active(name)),
    )


def settings(content: str) -> dict[str, str]:
    """Return the assignments of systemd's configuration files; the last one counts."""
    rows = (line.partition("=") for line in content.splitlines() if "=" in line and line[:1] not in "#;")
    return {name.strip(): value.strip() for name, _, value in rows}


def clock(newest_build: datetime | None) -> Clock:
    """Read the clocks, and which time services run."""
    try:
        seconds = int(Path("/sys/class/rtc/rtc0/since_epoch").read_text("ascii"))
    except FileNotFoundError:
        seconds = None
    return Clock(
        now=datetime.now(timezone.utc),
        rtc=None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc),
        newest_build=newest_build,
        sources=tuple(name for name in TIME_SERVICES if is_active(name)),
    )


def kernel() -> dict[str, str]:
    """Read the kernel's settings; one that this kernel does not have is left out."""
    paths = {name: Path("/proc/sys", *name.split(".")) for name in KERNEL_SETTINGS}
    return {name: path.read_text("ascii").strip() for name, path in paths.items() if path.exists()}


def devices() -> Devices:
    """Read what may be plugged in: blocked and loaded modules, radios, USBGuard."""
    modules, networks = Path("/proc/modules"), Path("/sys/class/net")
    names = {line.text.split()[0] for line in lines(modules)}
    # What is built in is no module: its driver on the bus says that it is there.
    names |= {path.name.replace("-", "_") for path in Path("/sys/bus/usb/drivers").glob("*")}
    return Devices(
        blocked=tuple(sorted(_blocked())),
        loaded=tuple(name for name in RADIO_AND_MEDIA if name in names),
        wireless=tuple(sorted(path.name for path in networks.iterdir() if (path / "phy80211").exists())),
        modular=modules.exists(),
        usbguard="active" if is_active("usbguard") else "inactive",
    )


def _blocked() -> set[str]:
    """Return the modules that modprobe answers with a program which does nothing (modprobe.d(5))."""
    if program("modprobe"):
        rows = [line.split() for line in output("modprobe", "--showconfig").splitlines()]
    else:  # nothing here loads modules by itself: the rules stand in files all the same
        folders = ("/lib/modprobe.d", "/run/modprobe.d", "/etc/modprobe.d")
        files = [path for folder in folders for path in sorted(Path(folder).glob("*.conf"))]
        rows = [line.text.split() for line in lines(*files)]
    nothing = ("/bin/false", "/bin/true", "/usr/bin/false", "/usr/bin/true")
    return {
        row[1].replace("-", "_") for row in rows if row[:1] == ["install"] and row[2:3] and row[2] in nothing
    }
