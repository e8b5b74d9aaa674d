"""What a table of times is worth nothing without: the machine, the programs, the day."""

from __future__ import annotations

import hashlib
import os
import platform
import ssl
import subprocess
from datetime import datetime, timezone
from pathlib import Path

from bench.measure import how_caches_are_dropped


def describe(work: Path, code: Path) -> dict[str, str]:
    """Return facts about this machine, with ``work`` as the disk that is measured, in words."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{_in_file('/proc/cpuinfo', 'model name')}, {os.cpu_count()} cores, "
        f"SHA instructions: {'yes' if 'sha_ni' in _in_file('/proc/cpuinfo', 'flags').split() else 'no'}",
        "memory": f"{int(_in_file('/proc/meminfo', 'MemTotal').split()[0]) / 2**20:.0f} GiB",
        "disk": _file_system(work),
        "system": f"Linux {platform.release()}, {platform.freedesktop_os_release().get('PRETTY_NAME', '?')}",
        "programs": f"Python {platform.python_version()} ({ssl.OPENSSL_VERSION}), "
        + ", ".join(_first_line(argv) for argv in (["openssl", "version"], ["tar", "--version"])),
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "niceness": str(os.nice(0)),
        "caches": how_caches_are_dropped(),
        "code": _commit(code),
    }


def _in_file(path: str, key: str) -> str:
    for line in Path(path).read_text("utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return "?"


def _file_system(folder: Path) -> str:
    asked = ["stat", "-f", "-c", "%T", str(folder)]
    return _first_line(asked)


def _first_line(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[0] if done.stdout else "?"


def _commit(code: Path) -> str:
    """Return the commit of a checkout; with a digest of the differences where there are any."""
    git = ["git", "-c", "safe.directory=*", "-C", str(code)]
    commit = _first_line([*git, "rev-parse", "--short=12", "HEAD"])
    changed = subprocess.run(
        [*git, "diff", "HEAD", "--", "appliance", "bundle"], capture_output=True, check=False
    )
    return commit + (f" + {hashlib.sha256(changed.stdout).hexdigest()[:8]}" if changed.stdout else "")
