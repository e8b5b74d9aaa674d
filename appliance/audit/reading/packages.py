"""Packages: what is installed, whether its files are as they came, from where more would come."""

from __future__ import annotations

import os
import re
import shlex
import stat
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.audit.facts_host import PackageFiles, PackageSource, PackageTrust, Programs, Scanner
from appliance.audit.reading.probe import (
    Unreadable,
    complaint,
    lines,
    output,
    plain_text,
    program,
    ran,
    without_secrets,
)
from appliance.audit.reading.services import active_among
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

VERIFY_TIMEOUT_S = 300
#: Which digests each package brought: ``<md5>  <path without its first slash>`` a line.
DIGEST_LISTS = Path("/var/lib/dpkg/info")
#: More packages than this have changed by an upgrade: their content is the next integrity run's.
ASKED_AGAIN_MOST = 20
NAMED_MOST = 200
PROGRAMS_MOST = 50_000
PROGRAM_FOLDERS = (
    "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/usr/libexec", "/usr/games",
)  # fmt: skip
#: What starts by itself, or runs in everybody's login.
START_FOLDERS = (
    "/etc/systemd/system", "/etc/init.d", "/etc/cron.d", "/etc/cron.hourly", "/etc/cron.daily",
    "/etc/cron.weekly", "/etc/cron.monthly", "/etc/profile.d", "/etc/ld.so.preload",
    "/usr/local/lib/systemd/system", "/etc/udev/rules.d",
)  # fmt: skip
#: The link to the release's own command, which nobody but Banip makes.
OWN_COMMAND = "/usr/local/sbin/appliance"
_TRUST_SETTINGS = (
    "APT::Get::AllowUnauthenticated", "Acquire::AllowInsecureRepositories",
    "Acquire::AllowDowngradeToInsecureRepositories", "Acquire::AllowWeakRepositories",
)  # fmt: skip
_QUESTIONS_AT_ONCE = 2000
#: What small systems leave out on purpose (path-exclude), and what varies by its nature.
_LEFT_OUT = ("/usr/share/doc/", "/usr/share/man/", "/usr/share/locale/", "/usr/share/info/", "/var/")
SCANNERS = (
    "clamav-daemon", "clamd", "esets", "eea", "sav-protect", "falcon-sensor", "ds_agent", "mdatp",
    "v3net", "ahnlab-v3", "alyac", "wazuh-agent", "sentinelone", "cbdaemon", "xagt",
)  # fmt: skip


def packages() -> tuple[str, ...]:
    """Ask dpkg for every installed package, as name=version."""
    form = "${db:Status-Status}\t${Package}=${Version}\n"
    rows = (line.partition("\t") for line in output("dpkg-query", "-W", "-f", form).splitlines())
    return tuple(sorted(name for status, _, name in rows if status == "installed"))


def package_files(timeout_s: float = VERIFY_TIMEOUT_S) -> PackageFiles:
    """Ask dpkg to compare every file of every package with the digest that the package brought."""
    return parse_verify(_verified(timeout_s=timeout_s), len(packages()))


def _verified(*names: str, timeout_s: float | None = None) -> str:
    """Ask dpkg, which says by code 1 that something differs. Raises ``Unreadable`` where not what."""
    done = ran("dpkg", "--verify", *names, codes=(0, 1), timeout_s=timeout_s)
    if done.code and not done.out.strip():
        raise Unreadable(complaint("dpkg --verify", done.code, done.err))
    return done.out


def package_files_since(known: PackageFiles, since: datetime, lists: Path = DIGEST_LISTS) -> PackageFiles:
    """Ask dpkg again about those packages of which a file has changed on the disk since the time given.

    ``known``: what it said of all of them then. The kernel notes each change of content, owner, mode or name
    in a file's ctime. Raises ``Unreadable`` where so many changed that it would take long.
    """
    asked_again, theirs = [], set[str]()
    for path in sorted(lists.glob("*.md5sums")):
        files = [f"/{line[34:]}" for line in path.read_text("utf-8", errors="surrogateescape").splitlines()]
        counted = [file for file in files if not file.startswith(_LEFT_OUT)]
        if any(_changed_since(file, since) for file in counted):
            asked_again.append(path.stem)
            theirs.update(counted)
    if len(asked_again) > ASKED_AGAIN_MOST:
        raise Unreadable(
            text(
                "{count} packages changed since the integrity run of {day}",
                count=len(asked_again),
                day=f"{since:%Y-%m-%d}",
            )
        )
    told = _verified(*asked_again) if asked_again else ""
    now = parse_verify(told, known.packages)
    return PackageFiles(
        packages=known.packages,
        changed=_cut({*now.changed, *(path for path in known.changed if path not in theirs)}),
        missing=_cut({*now.missing, *(path for path in known.missing if path not in theirs)}),
    )


def _changed_since(path: str, since: datetime) -> bool:
    try:
        return os.lstat(path).st_ctime >= since.timestamp()
    except (FileNotFoundError, NotADirectoryError):
        return True


def parse_verify(told: str, count: int) -> PackageFiles:
    """Return what dpkg --verify complains of (rpm -V's form); ``c`` marks configuration."""
    rows = [
        row for row in (re.match(r"(\S{9}|missing)\s+(?:(c) )?\s*(/.*)", x) for x in told.splitlines()) if row
    ]
    kept = [(row[1], row[3].partition(" (")[0]) for row in rows if not row[2]]
    kept = [(kind, path) for kind, path in kept if not path.startswith(_LEFT_OUT)]
    return PackageFiles(
        packages=count,
        changed=_cut(path for kind, path in kept if kind != "missing"),
        missing=_cut(path for kind, path in kept if kind == "missing"),
    )


def _cut(paths: Iterable[str]) -> tuple[str, ...]:
    found = sorted(paths)
    more = len(found) - NAMED_MOST
    return (*found[:NAMED_MOST], *([f"(+{more})"] if more > 0 else []))


# --- Sources -----------------------------------------------------------------------------------------------


def package_trust() -> PackageTrust:
    """Ask apt for its configuration, and read from where it would take packages."""
    told = output("apt-config", "dump", *_TRUST_SETTINGS)
    files = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    return PackageTrust(sources=tuple(_sources(files)), settings=parse_apt(told))


def parse_apt(told: str) -> dict[str, str]:
    """Return apt-config's settings: ``Name "value";``."""
    rows = (re.fullmatch(r'(\S+) "(.*)";', line.strip()) for line in told.splitlines())
    return {row[1]: row[2] for row in rows if row}


def _sources(files: Iterable[Path]) -> Iterator[PackageSource]:
    for path in files:
        if path.suffix == ".sources":
            yield from parse_deb822(plain_text(path))
        elif path.suffix == ".list":
            yield from (one for line in lines(path) for one in parse_source_line(line.text))


def parse_source_line(line: str) -> Iterator[PackageSource]:
    """Yield what a line of sources.list(5) names: deb [options] uri suite components."""
    found = re.fullmatch(r"deb(?:-src)?\s+(?:\[([^\]]*)\]\s+)?(\S+).*", line.partition("#")[0].strip())
    if found:
        yield PackageSource(without_secrets(found[2]), "trusted=yes" in shlex.split((found[1] or "").lower()))


def parse_deb822(content: str) -> Iterator[PackageSource]:
    """Yield what the stanzas of a .sources file name."""
    for stanza in re.split(r"\n\s*\n", content):
        plain = (line for line in stanza.splitlines() if not line.startswith("#"))
        given = {name.strip().lower(): value.strip() for name, _, value in (x.partition(":") for x in plain)}
        if given.get("enabled", "yes").lower() != "no":
            for uri in given.get("uris", "").split():
                yield PackageSource(without_secrets(uri), given.get("trusted", "no").lower() == "yes")


# --- Programs that nobody brought --------------------------------------------------------------------------


def programs(owned: tuple[str, ...]) -> Programs:
    """Look for programs, and for what starts programs, that neither a package nor the release brought.

    ``owned``: paths and units of the release.
    """
    candidates = list(_candidates(owned))
    known = known_to_dpkg([name for path in candidates for name in names_of(path)])
    foreign = [path for path in candidates if not known & set(names_of(path))]
    return Programs(seen=len(candidates), foreign=_cut(foreign))


def _candidates(owned: tuple[str, ...]) -> Iterator[str]:
    seen = 0
    for top in (*PROGRAM_FOLDERS, *START_FOLDERS):
        for path, mode in _below(top):
            seen += 1
            if seen > PROGRAMS_MOST:
                raise Unreadable(text("more than {count} programs", count=PROGRAMS_MOST))
            if not _is_explained(path, mode, owned):
                yield path


def _below(top: str) -> Iterator[tuple[str, int]]:
    if os.path.isfile(top) or os.path.islink(top):  # noqa: PTH113, PTH114 - a hot loop
        yield top, os.lstat(top).st_mode
    for folder, _, files in os.walk(top):
        for name in files:
            path = os.path.join(folder, name)  # noqa: PTH118 - a hot loop
            yield path, os.lstat(path).st_mode


def _is_explained(path: str, mode: int, owned: tuple[str, ...]) -> bool:
    """Tell whether the release owns it, or it is a link: what a link names is looked at where it lies."""
    if path == OWN_COMMAND or path.endswith((".pyc", ".dpkg-dist", ".dpkg-old")):
        return True
    if any(path == one or path.startswith(f"{one}/") for one in owned):
        return True
    if stat.S_ISLNK(mode):
        target = os.path.realpath(path)
        return target.startswith(("/usr/", "/etc/", "/bin/", "/sbin/", "/lib/", "/dev/null"))
    return not stat.S_ISREG(mode) or path.endswith("/.placeholder")


def names_of(path: str) -> tuple[str, ...]:
    """Return the names by which dpkg may know a file: before the merge of /usr it knew some without it."""
    return (path, path.removeprefix("/usr")) if path.startswith("/usr/") else (path,)


def known_to_dpkg(paths: list[str]) -> set[str]:
    """Ask dpkg which of these a package brought, or keeps as its configuration."""
    known: set[str] = set()
    for first in range(0, len(paths), _QUESTIONS_AT_ONCE):
        told = ran("dpkg-query", "--search", *paths[first : first + _QUESTIONS_AT_ONCE], codes=(0, 1)).out
        known |= _known(told)
    return known


def _known(told: str) -> set[str]:
    """Return the paths that packages brought; what somebody here diverted is theirs no more."""
    rows = [line.rpartition(": ")[::2] for line in told.splitlines()]
    diverted = {path for name, path in rows if name == "local diversion from"}
    return {path for _, path in rows} - diverted


# --- Scanners ----------------------------------------------------------------------------------------------


def scanners() -> tuple[Scanner, ...]:
    """Ask systemd which program against malicious code is at work, and ClamAV how old its signatures are."""
    active = active_among(SCANNERS)
    dated = parse_clamav(output("clamscan", "--version")) if program("clamscan") else None
    found = [Scanner(name, active=True, signatures=dated if "clam" in name else None) for name in active]
    if program("clamscan") and not any("clam" in one.name for one in found):
        found.append(Scanner("clamscan", active=False, signatures=dated))
    return tuple(found)


def parse_clamav(told: str) -> datetime | None:
    """Return the date of the signatures: ``ClamAV 1.0.7/27400/Sat Sep 21 08:30:00 2024``."""
    _, _, when = told.strip().rpartition("/")
    try:
        return datetime.strptime(when, "%a %b %d %H:%M:%S %Y").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
