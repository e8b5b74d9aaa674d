"""Can this server take this release? Decided from values; nothing here reads or changes a machine.

A fact that could not be read never passes: where the wrong answer would break the install it blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from appliance.clock import EARLIEST
from appliance.text import Text, human_bytes, text
from appliance.versions import compare_versions, lacking

if TYPE_CHECKING:
    from datetime import datetime

    from appliance.facts import Facts
    from appliance.format import Release, Tolerated

Level = Literal["block", "warn", "ok"]
#: Beside the exact bytes: a twentieth for folders and file system, and room for logs and the journal.
MARGIN_DIVISOR = 20
MARGIN_LEAST_BYTES = 64 * 1024 * 1024
#: Below this, Ansible and the environments' byte-compilation have been seen to be killed.
MEMORY_LEAST_BYTES = 1024**3
_UNREAD = text("could not be read")
_PACKAGE_PROGRAMS = ("apt-get", "dpkg-query")
#: What dpkg calls the architectures of a target.
_DEBIAN_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer: ``block`` stops the install, ``warn`` is shown and kept in the journal, ``ok`` holds.

    ``measured``: what was asked for and what is there are sizes, worth showing where all is well, too.
    """

    id: str
    level: Level
    happened: Text
    expected: object = None
    seen: object = None
    remedy: Text | None = None
    measured: bool = False

    def describe(self) -> Text:
        """Say the answer in one line: how it went, what was asked, and what was found."""
        level = {"ok": text("good"), "warn": text("warning"), "block": text("fails")}[self.level]
        if self.level == "ok" and not self.measured:
            return text("[{level}] {check}", level=level, check=self.happened)
        return text(
            "[{level}] {check}: expected {expected}, seen {seen}",
            level=level,
            check=self.happened,
            expected=self.expected,
            seen=text("unknown") if self.seen is None else self.seen,
        )


def examine(
    release: Release, facts: Facts, needs_bytes: int, newest_built: datetime | None = None
) -> tuple[Finding, ...]:
    """Return one finding or more for each check, in a fixed order.

    ``needs_bytes``: what this install still writes under Banip's root (missing blobs, new environments).
    ``newest_built``: the newest signed build time that this server has accepted.
    """
    return (
        _os(release, facts),
        _architecture(release, facts),
        _python(release, facts),
        _space(facts, needs_bytes),
        _system_space(release, facts),
        _one_file_system(facts),
        _memory(facts),
        _systemd(facts),
        _superuser(facts),
        _packages(release, facts),
        _images(release, facts),
        _grade(release, facts),
        _clock(release, facts, newest_built),
        *(_package(tolerated, release, facts) for tolerated in release.tolerates),
    )


def _os(release: Release, facts: Facts) -> Finding:
    wanted = release.target.os
    level: Level = "ok" if facts.os == wanted else "block"
    return Finding(
        "os",
        level,
        text("operating system"),
        wanted,
        _seen(facts.os),
        None if level == "ok" else text("build the release for this server's operating system"),
    )


def _architecture(release: Release, facts: Facts) -> Finding:
    wanted = release.target.architecture
    level: Level = "ok" if facts.architecture == wanted else "block"
    return Finding(
        "architecture",
        level,
        text("processor architecture"),
        wanted,
        _seen(facts.architecture),
        None if level == "ok" else text("build the release for this server's architecture"),
    )


def _python(release: Release, facts: Facts) -> Finding:
    wanted = sorted({release.target.python, *(environment.python for environment in release.environments)})
    level: Level = "ok" if [facts.python] == wanted else "block"
    return Finding(
        "python",
        level,
        text("Python of the operating system (/usr/bin/python3)"),
        ", ".join(wanted),
        _seen(facts.python),
        None if level == "ok" else text("install the distribution's own python3, or build for the one here"),
    )


def written_bytes(release: Release) -> int:
    """Return what a release writes under Banip's root beside its blobs, with what podman needs meanwhile.

    podman copies an image's layers, packed as they are, into its temporary folder before it unpacks them.
    """
    sizes = {blob.sha256: blob.size_bytes for blob in release.blobs}
    staged = (sum(sizes[sha256] for sha256 in image.blobs) for image in release.images)
    space = release.space
    return space.environments_bytes + space.images_bytes + max(staged, default=0)


def _with_margin(needs_bytes: int) -> int:
    return needs_bytes + max(needs_bytes // MARGIN_DIVISOR, MARGIN_LEAST_BYTES)


def _space(facts: Facts, needs_bytes: int) -> Finding:
    wanted = _with_margin(needs_bytes)
    enough = facts.disk_free_bytes is not None and facts.disk_free_bytes >= wanted
    return Finding(
        "space",
        "ok" if enough else "block",
        text("free space under Banip's root"),
        _bytes_free(wanted),
        _bytes_free(facts.disk_free_bytes),
        None if enough else text("free space on this file system, or give --root a larger one"),
        measured=True,
    )


def _system_space(release: Release, facts: Facts) -> Finding:
    """Ask for the packages' own room: /usr may well be another file system than Banip's root."""
    lacks = facts.packages is None or lacking(release.packages, facts.packages)
    wanted = _with_margin(release.space.packages_bytes) if release.packages and lacks else 0
    enough = not wanted or (facts.system_free_bytes is not None and facts.system_free_bytes >= wanted)
    return Finding(
        "system-space",
        "ok" if enough else "block",
        text("free space for operating system packages (/usr)"),
        _bytes_free(wanted),
        _bytes_free(facts.system_free_bytes),
        None if enough else text("free space on the file system of /usr"),
        measured=bool(release.packages),
    )


def _one_file_system(facts: Facts) -> Finding:
    return Finding(
        "one-file-system",
        "ok" if facts.one_file_system else "block",
        text("Banip's root on one file system (blobs are hardlinked)"),
        text("nothing mounted below it"),
        _yes_or_no(answer=facts.one_file_system),
        None if facts.one_file_system else text("mount one file system at Banip's root and none below it"),
    )


def _memory(facts: Facts) -> Finding:
    enough = facts.memory_bytes is not None and facts.memory_bytes >= MEMORY_LEAST_BYTES
    return Finding(
        "memory",
        "ok" if enough else "warn",
        text("memory"),
        human_bytes(MEMORY_LEAST_BYTES),
        _UNREAD if facts.memory_bytes is None else human_bytes(facts.memory_bytes),
        None if enough else text("give the server more memory; the install may be slow or be killed"),
        measured=True,
    )


def _systemd(facts: Facts) -> Finding:
    return Finding(
        "systemd",
        "ok" if facts.systemd_runs else "block",
        text("systemd runs the services"),
        _yes_or_no(answer=True),
        _yes_or_no(answer=facts.systemd_runs),
        None if facts.systemd_runs else text("install on a server that was booted with systemd"),
    )


def _superuser(facts: Facts) -> Finding:
    return Finding(
        "superuser",
        "ok" if facts.is_superuser else "block",
        text("run as root"),
        _yes_or_no(answer=True),
        _yes_or_no(answer=facts.is_superuser),
        None if facts.is_superuser else text("run the same command as root (sudo)"),
    )


def _packages(release: Release, facts: Facts) -> Finding:
    """Ask for what installs packages, and for packages of this machine's kind."""
    fits = {"all", _DEBIAN_ARCHITECTURES[release.target.architecture]}
    foreign = [one.name for one in release.packages if one.architecture not in fits]
    absent = [one for one in _PACKAGE_PROGRAMS if not facts.programs.get(one)]
    stands = not release.packages or (facts.packages is not None and not foreign and not absent)
    seen: object = ", ".join(foreign) or ", ".join(absent)
    if facts.packages is not None and stands:
        seen = text("{count} of them lacking", count=len(lacking(release.packages, facts.packages)))
    return Finding(
        "packages",
        "ok" if stands else "block",
        text("apt can install the {count} operating system packages", count=len(release.packages)),
        ", ".join([*_PACKAGE_PROGRAMS, *sorted(fits)]),
        seen or _UNREAD,
        None if stands else text("install on the operating system that the release was built for"),
    )


def _images(release: Release, facts: Facts) -> Finding:
    """Ask for podman, which the release's own packages may bring."""
    comes = any(package.name == "podman" for package in release.packages)
    stands = not release.images or comes or bool(facts.programs.get("podman"))
    return Finding(
        "images",
        "ok" if stands else "block",
        text("podman can load the {count} container images", count=len(release.images)),
        "podman",
        "podman" if comes or facts.programs.get("podman") else text("not installed"),
        None if stands else text("carry in a release whose packages bring podman, or install it before"),
    )


def _grade(release: Release, facts: Facts) -> Finding:
    """Ask grades C and S for a server without a way out; a gateway inside a closed network is allowed."""
    closed = facts.default_routes == ()
    return Finding(
        "grade",
        "ok" if closed or release.grade == "O" else "warn",
        text("the network fits grade {grade}", grade=release.grade),
        text("any network") if release.grade == "O" else text("no default route"),
        _UNREAD if facts.default_routes is None else ", ".join(facts.default_routes) or text("none"),
        None
        if closed or release.grade == "O"
        else text("make sure that the route ends inside the closed network, or remove it"),
    )


def _clock(release: Release, facts: Facts, newest_built: datetime | None) -> Finding:
    """Ask for a clock that is not behind what was signed; one before 1980 fails whoever packs ZIP files."""
    signed, seen = max(filter(None, (release.built, newest_built))), facts.system_time
    level: Level = "ok" if seen is not None and seen >= signed else "warn"
    if seen is not None and seen < EARLIEST:
        level = "block"
    return Finding(
        "clock",
        level,
        text("the clock is not before the newest signed build time"),
        text("{time} or later", time=signed.isoformat()),
        _UNREAD if seen is None else seen.isoformat(),
        None
        if level == "ok"
        else text(
            "give install or upgrade the option --set-clock, or set the clock by hand (date -s); then "
            "replace the battery of the real-time clock"
        ),
    )


def _package(tolerated: Tolerated, release: Release, facts: Facts) -> Finding:
    """Ask for the version that will be there: the installed one, or the release's own where it is newer."""
    seen = None if facts.packages is None else facts.packages.get(tolerated.name)
    for package in lacking(release.packages, facts.packages) if facts.packages is not None else ():
        seen = package.version if package.name == tolerated.name else seen
    fits = seen is not None and tolerates(tolerated, seen)
    absent = _UNREAD if facts.packages is None else text("not installed")
    wanted = text("{version} or newer", version=tolerated.at_least)
    if tolerated.below is not None:
        wanted = text(
            "{version} or newer, but before {below}", version=tolerated.at_least, below=tolerated.below
        )
    return Finding(
        f"package-{tolerated.name}",
        "ok" if fits else "block",
        text("version of the package {name}", name=tolerated.name),
        wanted,
        absent if seen is None else seen,
        None if fits else text("install a version in this range from the distribution's own media"),
    )


def tolerates(tolerated: Tolerated, version: str) -> bool:
    """Tell whether a package version is one that the release was tested with."""
    if compare_versions(version, tolerated.at_least) < 0:
        return False
    return tolerated.below is None or compare_versions(version, tolerated.below) < 0


def _seen(value: str | None) -> object:
    return _UNREAD if value is None else value


def _bytes_free(size_bytes: int | None) -> Text:
    if size_bytes is None:
        return _UNREAD
    return text("{size_bytes} bytes ({size}) free", size_bytes=size_bytes, size=human_bytes(size_bytes))


def _yes_or_no(*, answer: bool | None) -> Text:
    if answer is None:
        return _UNREAD
    return text("yes") if answer else text("no")
