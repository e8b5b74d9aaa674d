"""The cached root: a minimal Debian 12, made once by debootstrap, from which every server starts."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.closed_server.holding import run
from tests.closed_server.interface import ClosedServerError
from tests.closed_server.network import RESOLV_CONF

if TYPE_CHECKING:
    from collections.abc import Iterator

SUITE = "bookworm"
# Nothing more: the product must work on just this. runc is the test bed's own: see CONTAINERS.
PACKAGES = ("systemd", "systemd-sysv", "dbus", "python3", "iproute2", "nftables", "procps", "runc")
# Host settings of the test bed for containers, so that no role has to know where it runs. This machine may
# lack CAP_SYS_RESOURCE (crun then fails on setrlimit, runc does not), the container has no cgroup controllers
# (any limit on processes, memory or CPU fails) and its sysctls are read-only (a bridge network cannot
# forward). No Debian package owns this file. Podman itself is the product's to bring.
CONTAINERS = """[engine]
runtime = "runc"
events_logger = "file"

[containers]
netns = "host"
pids_limit = 0
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
"""
RECIPE = 3  # raised when `_settle` or the layout changes, so that old caches are not taken for new ones


def cache() -> Path:
    """Where things that are made once are kept: $BANIP_CACHE, else ~/.cache/banip."""
    named = os.environ.get("BANIP_CACHE")
    folder = Path(named) if named else Path.home() / ".cache" / "banip"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def made_once(target: Path) -> Iterator[Path | None]:
    """Yield a folder to build into, renamed to `target` on success.

    None when another run has made it already.
    """
    with (target.parent / f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists():
            yield None
            return
        building = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            yield building
            building.rename(target)
        finally:
            shutil.rmtree(building, ignore_errors=True)


def cached_root() -> Path:
    """Return the minimal Debian's folder, made now if need be (about a minute); raises ClosedServerError.

    Nothing here removes an older one: it may be the lower layer of a server that runs, which would break it.
    """
    recipe = " ".join((SUITE, str(RECIPE), CONTAINERS, *PACKAGES))
    target = cache() / f"root-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"
    if target.is_dir():
        return target
    with made_once(target) as building:
        if building:
            _debootstrap(building)
            _settle(building)
    return target


def _debootstrap(building: Path) -> None:
    """Fetch and unpack the packages, from where this machine's own apt gets its own."""
    mirror, keyring = debian_source()
    trust = [f"--keyring={keyring}"] if keyring else []
    run(
        "debootstrap",
        "--variant=minbase",
        f"--include={','.join(PACKAGES)}",
        *trust,
        SUITE,
        building,
        mirror,
        timeout_s=1800,
    )


def _settle(root: Path) -> None:
    """Make of a fresh unpack a server that has no way out and knows no address outside."""
    (root / "etc/apt/sources.list").write_text("# A closed server has no package source.\n")
    (root / "etc/hostname").write_text("closed\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n127.0.1.1 closed\n::1 localhost ip6-localhost\n")
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    (root / "etc/resolv.conf").write_text(RESOLV_CONF)
    (root / "etc/machine-id").write_text("")  # every server gets one of its own
    (root / "etc/containers").mkdir()
    (root / "etc/containers/containers.conf").write_text(CONTAINERS)
    for folder in ("var/lib/apt/lists", "var/cache/apt", "var/log"):
        for entry in (root / folder).iterdir():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    (root / "media/usb").mkdir(parents=True)
    root.chmod(0o755)  # mkdtemp made it 0700, which would close "/" to every service user


def debian_source() -> tuple[str, str | None]:
    """Read this machine's own apt configuration for where `bookworm` comes from.

    (mirror, keyring or None).
    """
    folder = Path("/etc/apt")
    stanzas = [stanza for file in sorted(folder.glob("sources.list.d/*.sources")) for stanza in _deb822(file)]
    for file in [folder / "sources.list", *sorted(folder.glob("sources.list.d/*.list"))]:
        if file.is_file():
            stanzas += _one_line(file)
    for stanza in stanzas:
        if "deb" in stanza["types"].split() and SUITE in stanza["suites"].split():
            keyring = stanza.get("signed-by", "").strip()
            return stanza["uris"].split()[0], keyring if keyring.startswith("/") else None
    message = f"this machine's apt configuration names no source for {SUITE}"
    raise ClosedServerError(message)


def _deb822(file: Path) -> list[dict[str, str]]:
    """Parse the fields of a .sources file that matter here (sources.list(5)).

    Disabled stanzas are left out.
    """
    stanzas = []
    for block in file.read_text().split("\n\n"):
        lines = [line for line in block.splitlines() if ":" in line and not line.startswith(("#", " "))]
        fields = {key.strip().lower(): value.strip() for key, value in (line.split(":", 1) for line in lines)}
        if {"types", "uris", "suites"} <= set(fields) and fields.get("enabled", "yes") != "no":
            stanzas.append(fields)
    return stanzas


def _one_line(file: Path) -> list[dict[str, str]]:
    """Parse the lines of a .list file: `deb [options] uri suite components`."""
    stanzas = []
    for line in file.read_text().splitlines():
        kind, _, rest = line.strip().partition(" ")
        options, rest = rest.strip()[1:].split("]", 1) if rest.strip().startswith("[") else ("", rest)
        words = rest.split()
        if kind == "deb" and len(words) > 1:
            named = dict(option.split("=", 1) for option in options.split() if "=" in option)
            stanzas.append({"types": kind, "uris": words[0], "suites": words[1], **named})
    return stanzas
