"""The host: which machine it is, the files that checks name, the kernel's switches."""

from __future__ import annotations

import os
import re
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.audit.facts_host import File, Host
from appliance.audit.reading.probe import Unreadable, lines, look, look_below, output
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMED_FILES = (
    "/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/hosts", "/etc/services",
    "/etc/rsyslog.conf", "/etc/syslog.conf", "/etc/inetd.conf", "/etc/xinetd.conf", "/etc/hosts.lpd",
    "/etc/crontab", "/etc/cron.d", "/etc/cron.hourly", "/etc/cron.daily", "/etc/cron.weekly",
    "/etc/cron.monthly", "/etc/cron.allow", "/etc/cron.deny", "/etc/at.allow", "/etc/at.deny",
    "/usr/bin/crontab", "/usr/bin/at", "/etc/sudoers", "/etc/sudoers.d", "/etc/profile", "/etc/bash.bashrc",
    "/etc/environment", "/etc/login.defs", "/etc/systemd/journald.conf", "/etc/ssh/sshd_config",
    "/etc/ftpusers", "/etc/exports", "/etc/nsswitch.conf", "/etc/security", "/etc/ld.so.preload",
    "/boot/grub/grub.cfg", "/etc/audit", "/etc/audit/auditd.conf", "/var/log/audit", "/var/log/wtmp",
    "/var/log/btmp", "/var/log/lastlog",
)  # fmt: skip
_FOLDERS_BELOW = (
    "/etc/cron.d", "/etc/sudoers.d", "/etc/pam.d", "/etc/profile.d", "/etc/security", "/etc/audit/rules.d",
    "/etc/ssh", "/var/spool/cron/crontabs",
)  # fmt: skip
KERNEL_SETTINGS = (
    "dev.tty.ldisc_autoload",
    "fs.protected_fifos",
    "fs.protected_hardlinks",
    "fs.protected_regular",
    "fs.protected_symlinks",
    "fs.suid_dumpable",
    "kernel.core_pattern",
    "kernel.dmesg_restrict",
    "kernel.kptr_restrict",
    "kernel.modules_disabled",
    "kernel.perf_event_paranoid",
    "kernel.randomize_va_space",
    "kernel.sysrq",
    "kernel.unprivileged_bpf_disabled",
    "kernel.yama.ptrace_scope",
    "net.ipv4.conf.all.accept_redirects",
    "net.ipv4.conf.all.accept_source_route",
    "net.ipv4.conf.all.log_martians",
    "net.ipv4.conf.all.rp_filter",
    "net.ipv4.conf.all.secure_redirects",
    "net.ipv4.conf.all.send_redirects",
    "net.ipv4.icmp_echo_ignore_broadcasts",
    "net.ipv4.icmp_ignore_bogus_error_responses",
    "net.ipv4.ip_forward",
    "net.ipv4.tcp_syncookies",
    "net.ipv6.conf.all.accept_ra",
    "net.ipv6.conf.all.accept_redirects",
    "net.ipv6.conf.all.accept_source_route",
    "net.ipv6.conf.all.forwarding",
)
#: What an interface decides for itself, whatever stands for all of them (kernel's ip-sysctl).
INTERFACE_SETTINGS = (
    ("ipv4", "accept_redirects"),
    ("ipv4", "send_redirects"),
    ("ipv6", "accept_ra"),
    ("ipv6", "accept_redirects"),
)
#: File systems of their own below /dev: what programs keep there is theirs.
_DEVICES_LEFT_OUT = ("/dev/shm", "/dev/mqueue", "/dev/hugepages", "/dev/pts")  # noqa: S108 - left out
DEVICES_MOST = 20_000


def host() -> Host:
    """Say which machine this is."""
    words = (line.text.partition("=") for line in lines("/etc/os-release"))
    about = {key: value.strip('"') for key, _, value in words}
    return Host(
        name=socket.gethostname(),
        os=about.get("PRETTY_NAME", "?"),
        kernel=os.uname().release,
        virtualization=_detected(),
        os_id=f"{about.get('ID', '?')}-{about.get('VERSION_ID', '?')}",
        container=_detected("--container") != "none",
    )


def _detected(*options: str) -> str:
    """Ask what this machine runs in; "none" is an answer, and silence is not. Raises ``Unreadable``."""
    told = output("systemd-detect-virt", *options, codes=(0, 1)).strip()
    if not re.fullmatch(r"[a-z][a-z0-9-]*", told):
        raise Unreadable(text("systemd-detect-virt said {said}", said=repr(told[:40])))
    return told


def named_files() -> tuple[File, ...]:
    """Look at the files that checks name, and at each rule file of cron, sudo, PAM, audit and SSH."""
    found = {path: look(path) for path in NAMED_FILES}
    for folder in _FOLDERS_BELOW:
        found |= {file.path: file for file in look_below(folder)}
    return tuple(found.values())


def startup() -> tuple[File, ...]:
    """Look at what starts with the system and belongs to this site."""
    return (*look_below("/etc/init.d"), *look_below("/etc/systemd/system"))


def logs_files() -> tuple[File, ...]:
    """Look at everything below /var/log."""
    return look_below("/var/log")


def device_files() -> tuple[str, ...]:
    """Look for plain files among the devices: there is no reason for any."""
    found, seen, folders = [], 0, ["/dev"]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                seen += 1
                if entry.is_dir(follow_symlinks=False):
                    folders += [entry.path] if entry.path not in _DEVICES_LEFT_OUT else []
                elif stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
                    found.append(entry.path)
        if seen > DEVICES_MOST:
            raise Unreadable(
                text("more than {count} files below {folder}", count=DEVICES_MOST, folder="/dev")
            )
    return tuple(sorted(found))


def _of_interfaces(family: str, setting: str) -> Iterator[tuple[str, Path]]:
    """Yield a setting of every interface that packets come in by from elsewhere."""
    for folder in sorted(Path("/proc/sys/net", family, "conf").glob("*")):
        off = folder / "disable_ipv6"
        if folder.name not in {"all", "default", "lo"} and not (off.exists() and off.read_text() == "1\n"):
            yield f"net.{family}.conf.{folder.name}.{setting}", folder / setting


def kernel() -> dict[str, str]:
    """Read the kernel's settings; one that this kernel does not have is left out."""
    paths = {name: Path("/proc/sys", *name.split(".")) for name in KERNEL_SETTINGS}
    paths |= {name: path for family, one in INTERFACE_SETTINGS for name, path in _of_interfaces(family, one)}
    return {name: path.read_text("ascii").strip() for name, path in paths.items() if path.exists()}
