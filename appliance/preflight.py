"""Can this server take this release? Decided from values; nothing here reads or changes a machine.

A fact that could not be read never passes: where the wrong answer would break the install it blocks.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from appliance.text import Text, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.facts import Facts
    from appliance.format import Release, Tolerated

Level = Literal["block", "warn", "ok"]
#: Beside the exact bytes: a twentieth for folders and file system, and room for logs and the journal.
MARGIN_DIVISOR = 20
MARGIN_LEAST_BYTES = 64 * 1024 * 1024
#: Below this, Ansible and the environments' byte-compilation have been seen to be killed.
MEMORY_LEAST_BYTES = 1024**3
_UNREAD = text("could not be read")


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer: ``block`` stops the install, ``warn`` is shown and kept in the journal, ``ok`` holds."""

    id: str
    level: Level
    happened: Text
    expected: object = None
    seen: object = None
    remedy: Text | None = None

    def describe(self) -> Text:
        """Say the answer in one line: how it went, what was asked, and what was found."""
        level = {"ok": text("good"), "warn": text("warning"), "block": text("fails")}[self.level]
        if self.level == "ok":
            return text("[{level}] {check}", level=level, check=self.happened)
        return text(
            "[{level}] {check}: expected {expected}, seen {seen}",
            level=level,
            check=self.happened,
            expected=self.expected,
            seen=text("unknown") if self.seen is None else self.seen,
        )


def examine(release: Release, facts: Facts, needs_bytes: int) -> tuple[Finding, ...]:
    """Return one finding or more for each check, in a fixed order.

    ``needs_bytes``: what this install still writes under Banip's root (missing blobs, new environments).
    """
    return (
        _os(release, facts),
        _architecture(release, facts),
        _python(release, facts),
        _space(facts, needs_bytes),
        _one_file_system(facts),
        _memory(facts),
        _systemd(facts),
        _superuser(facts),
        _contents(release),
        _grade(release, facts),
        _clock(release, facts),
        *(_package(tolerated, facts) for tolerated in release.tolerates),
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


def _space(facts: Facts, needs_bytes: int) -> Finding:
    wanted = needs_bytes + max(needs_bytes // MARGIN_DIVISOR, MARGIN_LEAST_BYTES)
    enough = facts.disk_free_bytes is not None and facts.disk_free_bytes >= wanted
    return Finding(
        "space",
        "ok" if enough else "block",
        text("free space under Banip's root"),
        text("{size_bytes} bytes free", size_bytes=wanted),
        _bytes_free(facts.disk_free_bytes),
        None if enough else text("free space on this file system, or give --root a larger one"),
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
        text("{size_bytes} bytes", size_bytes=MEMORY_LEAST_BYTES),
        _UNREAD if facts.memory_bytes is None else text("{size_bytes} bytes", size_bytes=facts.memory_bytes),
        None if enough else text("give the server more memory; the install may be slow or be killed"),
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


def _contents(release: Release) -> Finding:
    foreign = [f"image {image.name}" for image in release.images]
    foreign += [f"package {package.name}" for package in release.packages]
    return Finding(
        "contents",
        "block" if foreign else "ok",
        text("this appliance can install everything in the release"),
        text("no container images and no operating system packages"),
        ", ".join(foreign) or text("none"),
        text("install a newer appliance first, from a release that carries neither") if foreign else None,
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


def _clock(release: Release, facts: Facts) -> Finding:
    right = facts.system_time is not None and facts.system_time >= release.built
    return Finding(
        "clock",
        "ok" if right else "warn",
        text("the clock is not before the time at which the release was built"),
        text("{time} or later", time=release.built.isoformat()),
        _UNREAD if facts.system_time is None else facts.system_time.isoformat(),
        None if right else text("set the clock and replace the battery of the real-time clock"),
    )


def _package(tolerated: Tolerated, facts: Facts) -> Finding:
    seen = None if facts.packages is None else facts.packages.get(tolerated.name)
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


def compare_versions(one: str, other: str) -> int:
    """Return -1, 0 or 1. Source: Debian policy 5.6.12, ``deb-version(7)``."""
    for left, right in zip(_parts(one), _parts(other), strict=True):
        # A part that ends first goes on as if with empty words and zeros: "1" equals "1-0".
        for ours, theirs in itertools.zip_longest(_runs(left), _runs(right), fillvalue=_NOTHING):
            if ours != theirs:
                return 1 if ours > theirs else -1
    return 0


_Run = tuple[tuple[int, ...], int]
_END = 0  # sorts after "~" and before everything else
_NOTHING: _Run = ((_END,), 0)


def _parts(version: str) -> tuple[str, str, str]:
    epoch, colon, rest = version.partition(":")
    upstream, hyphen, revision = (rest if colon else version).rpartition("-")
    return epoch if colon else "", upstream if hyphen else revision, revision if hyphen else ""


def _runs(part: str) -> list[_Run]:
    """Split into non-digits and digits in turn, weighed so that tuples compare as Debian does."""
    runs = re.findall(r"([^0-9]*)([0-9]*)", part)
    return [(tuple(_weights(word)), int(digits or 0)) for word, digits in runs]


def _weights(word: str) -> Iterator[int]:
    weights = (-1 if one == "~" else ord(one) if one.isalpha() else ord(one) + 256 for one in word)
    return itertools.chain(weights, [_END])


def _seen(value: str | None) -> object:
    return _UNREAD if value is None else value


def _bytes_free(size_bytes: int | None) -> Text:
    return _UNREAD if size_bytes is None else text("{size_bytes} bytes free", size_bytes=size_bytes)


def _yes_or_no(*, answer: bool | None) -> Text:
    if answer is None:
        return _UNREAD
    return text("yes") if answer else text("no")
