"""What this machine is, read and never guessed: a fact that cannot be read is None.

Numbers come from psutil, the rest from files and from the programs' own output.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PROGRAMS = (
    "apt-get",
    "dpkg-query",
    "ip",
    "nft",
    "nvidia-smi",
    "openssl",
    "podman",
    "python3",
    "sha256sum",
    "systemctl",
    "systemd-sysusers",
    "useradd",
)
_PROGRAM_FOLDERS = ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin")
_TIMEOUT_S = 20
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
_UP = 0x1  # RTF_UP and RTF_REJECT of linux/route.h, in the flags of both route tables
_REJECT = 0x200


@dataclass(frozen=True, slots=True)
class Facts:
    """One machine at one moment. Sizes in bytes, times in UTC, None for what could not be read."""

    os: str | None = None  # as a target names it: "debian-12"
    architecture: str | None = None  # "x86_64"
    python: str | None = None  # of /usr/bin/python3: "3.11"
    kernel: str | None = None
    systemd: str | None = None  # "252"
    systemd_runs: bool | None = None
    memory_bytes: int | None = None
    cpus: int | None = None
    disk_free_bytes: int | None = None  # of the file system that Banip's root is, or would be, on
    disk_total_bytes: int | None = None
    system_free_bytes: int | None = None  # of the file system that /usr is on
    one_file_system: bool | None = None  # only containers are mounted below Banip's root: hardlinks work
    is_superuser: bool | None = None
    system_time: datetime | None = None
    rtc_time: datetime | None = None
    default_routes: tuple[str, ...] | None = None  # interfaces through which everything else is reached
    networks: tuple[str, ...] | None = None  # interfaces that are up, loopback left out
    programs: Mapping[str, bool] = field(default_factory=dict)
    packages: Mapping[str, str] | None = None  # installed ones, name to version


def read_facts(root: Path, machine: Path = Path("/")) -> Facts:
    """Read the facts; ``root`` is Banip's root, which need not exist yet.

    ``machine`` is where files are read from and programs looked for, ``/`` but in tests; what the kernel
    alone knows (memory, disk, clock, user) is always that of the running machine.
    """
    release = _key_values(machine / "etc/os-release")
    free_bytes, total_bytes = _disk(root)
    return Facts(
        os=_os(release),
        architecture=os.uname().machine or None,
        python=_python(machine),
        kernel=os.uname().release or None,
        systemd=_systemd(machine),
        systemd_runs=(machine / "run/systemd/system").is_dir(),
        memory_bytes=_number(lambda: psutil.virtual_memory().total),
        cpus=_number(lambda: len(os.sched_getaffinity(0))),
        disk_free_bytes=free_bytes,
        disk_total_bytes=total_bytes,
        system_free_bytes=_disk(machine / "usr")[0],
        one_file_system=_one_file_system(root, machine),
        is_superuser=os.geteuid() == 0,
        system_time=datetime.now(timezone.utc),
        rtc_time=_rtc(machine),
        default_routes=_default_routes(machine),
        networks=_networks(),
        programs={program: _program(machine, program) is not None for program in PROGRAMS},
        packages=_packages(machine),
    )


def _os(release: Mapping[str, str] | None) -> str | None:
    if not release or not release.get("ID") or not release.get("VERSION_ID"):
        return None
    return f"{release['ID']}-{release['VERSION_ID']}"


def _python(machine: Path) -> str | None:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return _first_line(_output(machine, "python3", "-I", "-S", "-c", code))


def _systemd(machine: Path) -> str | None:
    words = (_first_line(_output(machine, "systemctl", "--version")) or "").split()
    return words[1] if len(words) > 1 and words[0] == "systemd" else None


def _packages(machine: Path) -> Mapping[str, str] | None:
    form = "${db:Status-Status}\t${Package}\t${Version}\n"
    output = _output(machine, "dpkg-query", "--show", f"--showformat={form}")
    if output is None:
        return None
    rows = (line.split("\t") for line in output.splitlines())
    return {row[1]: row[2] for row in rows if len(row) == 3 and row[0] == "installed"}  # noqa: PLR2004 - the form


def _disk(root: Path) -> tuple[int | None, int | None]:
    folder = root.absolute()
    while not folder.exists():
        folder = folder.parent
    try:
        found = psutil.disk_usage(str(folder))
    except OSError:
        return None, None
    return found.free, found.total


def _one_file_system(root: Path, machine: Path) -> bool | None:
    # A bind mount of the same file system refuses hardlinks too, so mount points are asked, not devices.
    content = _content(machine / "proc/self/mountinfo")
    if content is None:
        return None
    points = [Path(_unescaped(line.split()[4])) for line in content.splitlines()]
    below = root.resolve()
    # What runs in containers is mounted in podman's storage, to which nothing is hardlinked.
    ours = {point for point in points if point != below and point.is_relative_to(below)}
    return all(point.is_relative_to(below / "containers") for point in ours)


def _rtc(machine: Path) -> datetime | None:
    content = _content(machine / "sys/class/rtc/rtc0/since_epoch")
    if content is None or not content.strip().isdigit():
        return None
    return datetime.fromtimestamp(int(content), timezone.utc)


def _default_routes(machine: Path) -> tuple[str, ...] | None:
    four, six = _content(machine / "proc/net/route"), _content(machine / "proc/net/ipv6_route")
    if four is None:  # a kernel without IPv6 has no second table; every kernel has the first
        return None
    rows = [line.split() for line in four.splitlines()[1:]]
    found = {row[0] for row in rows if row[1] == row[7] == "00000000" and _leads_on(row[3])}
    rows = [line.split() for line in (six or "").splitlines()]
    found |= {row[9] for row in rows if row[0] == "0" * 32 and row[1] == "00" and _leads_on(row[8])}
    return tuple(sorted(found - {"lo"}))


def _leads_on(flags: str) -> bool:
    return int(flags, 16) & (_UP | _REJECT) == _UP


def _networks() -> tuple[str, ...] | None:
    try:
        found = psutil.net_if_stats()
    except OSError:
        return None
    return tuple(sorted(name for name, stats in found.items() if stats.isup and name != "lo"))


def _number(read: Callable[[], int]) -> int | None:
    try:
        return read() or None
    except (OSError, NotImplementedError):
        return None


def _key_values(path: Path) -> Mapping[str, str] | None:
    """Read os-release. Source: os-release(5): shell-compatible assignments, one a line."""
    content = _content(path)
    if content is None:
        return None
    pairs = (line.partition("=") for line in content.splitlines() if "=" in line and not line.startswith("#"))
    try:
        return {key.strip(): "".join(shlex.split(value)) for key, _, value in pairs}
    except ValueError:
        return None


def _content(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _unescaped(point: str) -> str:
    # proc(5): space, tab, newline and backslash are written as three octal digits.
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), point)


def _program(machine: Path, name: str) -> Path | None:
    candidates = (machine / folder / name for folder in _PROGRAM_FOLDERS)
    return next((path for path in candidates if path.is_file() and os.access(path, os.X_OK)), None)


def _output(machine: Path, name: str, *arguments: str) -> str | None:
    # The distribution's own program, even where somebody put another one into /usr/local.
    path = machine / "usr/bin" / name
    try:
        done = subprocess.run(
            [str(path), *arguments],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            check=True,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout


def _first_line(output: str | None) -> str | None:
    return output.splitlines()[0].strip() if output and output.strip() else None
