"""Operating system packages: the closure over a minimal system, resolved by apt inside the target release.

The base is what every Debian or Ubuntu has, however small: packages that are essential or of priority
``required``, apt, and what these need (debootstrap calls it ``minbase``). It is not carried, unless it is
asked for by name, or wanted in a revision that came with an update. Versions, sizes and digests are those of
the archive's signed index.
"""

from __future__ import annotations

import platform
import re
import shutil
from typing import TYPE_CHECKING

from appliance.errors import Incomplete
from appliance.format import Blob, canonical_json, sha256_hex
from appliance.text import text
from bundle.apt import Apt, Chosen, fields, why_not
from bundle.lock import LockedPackage, Unlocked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from bundle.collection import Collection
    from bundle.lock import Lock
    from bundle.manifest import CheckedManifest, Manifest
    from bundle.workshop import Workshop

#: Besides what is essential or required. usr-is-merged: the choice of every system made since Debian 12.
_BASE = {"apt", "usr-is-merged"}
_VERSIONED = re.compile(r"([a-z0-9][a-z0-9+.-]+)(?::[a-z0-9]+)? \((?:=|>=|>>) ([^)]+)\)")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_KIB = 1024


def lock_packages(
    checked: CheckedManifest, workshop: Workshop
) -> tuple[tuple[LockedPackage, ...], tuple[Unlocked, ...]]:
    """Return the packages to carry, sorted by name, and the names that could not be resolved."""
    names = checked.manifest.packages
    if not names:
        return (), ()
    reason = why_not() or _other_machine(checked.manifest)
    if reason is not None:
        return (), _unlocked(names, reason)
    apt = _apt(checked, workshop)
    with apt.alone():
        try:
            apt.update()
            base = _base(apt)
            return _resolve(apt, names, base)
        except Incomplete as error:
            return (), _unlocked(names, str(error.seen))


def collect_packages(checked: CheckedManifest, lock: Lock, workshop: Workshop, run: Collection) -> None:
    """Bring the packages of the lock into the build store. What cannot be had is a failure each."""
    missing = [each for each in lock.packages if not run.has(each.filename, _blob(each))]
    if not missing:
        return
    reason = why_not()
    left = [(each, reason or "") for each in missing]
    if reason is None:
        apt = _apt(checked, workshop)
        with apt.alone():
            left = _fetch(apt, lock, missing, run)
    for package, said in left:
        run.fail(package.filename, text("apt could not fetch it: {reason}", reason=said))


def _apt(checked: CheckedManifest, workshop: Workshop) -> Apt:
    manifest = checked.manifest
    architecture = _ARCHITECTURES[manifest.target.architecture]
    sources = manifest.sources.apt
    name = f"{manifest.target.os}-{architecture}-{sha256_hex(canonical_json(sources))[:12]}"
    return Apt(workshop.apt(name), architecture, sources, checked.project)


def _other_machine(manifest: Manifest) -> str | None:
    """Return why this machine's own sources cannot serve the target, or None."""
    here = platform.freedesktop_os_release()
    seen = f"{here.get('ID')}-{here.get('VERSION_ID')}"
    if manifest.sources.apt or seen == manifest.target.os:
        return None
    return f"this machine's sources are those of {seen}: name sources.apt for {manifest.target.os}"


def _unlocked(names: Sequence[str], reason: str) -> tuple[Unlocked, ...]:
    return tuple(Unlocked(kind="package", name=name, reason=reason) for name in names)


# --- Resolving --------------------------------------------------------------------------------------------


def _base(apt: Apt) -> tuple[Chosen, ...]:
    names = {
        found["Package"]
        for found in apt.available()
        if found.get("Essential") == "yes" or found.get("Priority") == "required" or found["Package"] in _BASE
    }
    return apt.choose(names) if names else ()


def _resolve(
    apt: Apt, names: Sequence[str], base: Sequence[Chosen]
) -> tuple[tuple[LockedPackage, ...], tuple[Unlocked, ...]]:
    status = apt.status(base)
    try:
        chosen = apt.choose(names, upon=status) if names else ()
    except Incomplete as error:
        without = tuple(_hopeless(apt, names, status))
        if not without:  # each alone, but not together
            return (), _unlocked(names, str(error.seen))
        refused = {each.name for each in without}
        found, more = _resolve(apt, [name for name in names if name not in refused], base)
        return found, (*without, *more)
    carried = {*chosen, *(each for each in base if each.name in names)}
    while tied := _tied(apt, carried, base):
        carried |= tied
    return _locked(apt, sorted(carried, key=lambda each: (each.name, each.version)))


def _tied(apt: Apt, carried: set[Chosen], base: Sequence[Chosen]) -> set[Chosen]:
    """Return those of the base that a carried package wants in a revision which a server may not have yet.

    An upstream version is the same throughout a release of the system; a revision of it may be an update.
    """
    wanted = {
        (name, _upstream(version))
        for stanza in apt.show(sorted(carried, key=lambda each: each.name))
        for name, version in _VERSIONED.findall(_depends(stanza))
        if "-" in version
    }
    return {each for each in base if (each.name, _upstream(each.version)) in wanted} - carried


def _depends(stanza: str) -> str:
    told = fields(stanza)
    return f"{told.get('Pre-Depends', '')}, {told.get('Depends', '')}"


def _upstream(version: str) -> str:
    return version.rpartition("-")[0]


def _hopeless(apt: Apt, names: Sequence[str], status: Path) -> Iterator[Unlocked]:
    for name in names:
        reason = _why_not_alone(apt, name, status)
        if reason is not None:
            yield Unlocked(kind="package", name=name, reason=reason)


def _why_not_alone(apt: Apt, name: str, status: Path) -> str | None:
    try:
        apt.choose([name], upon=status)
    except Incomplete as error:
        return str(error.seen)
    return None


def _locked(apt: Apt, chosen: Sequence[Chosen]) -> tuple[tuple[LockedPackage, ...], tuple[Unlocked, ...]]:
    found: list[LockedPackage] = []
    unlocked: list[Unlocked] = []
    for each, stanza in zip(chosen, apt.show(chosen), strict=True):
        told = fields(stanza)
        if "SHA256" not in told:
            unlocked += _unlocked([each.name], "the archive gives no SHA-256")
            continue
        found.append(
            LockedPackage(
                name=each.name,
                version=each.version,
                architecture=told["Architecture"],
                sha256=told["SHA256"],
                size_bytes=int(told["Size"]),
                installed_bytes=int(told.get("Installed-Size", "0")) * _KIB,
            )
        )
    return tuple(found), tuple(unlocked)


# --- Fetching ---------------------------------------------------------------------------------------------

_Left = list[tuple[LockedPackage, str]]


def _fetch(apt: Apt, lock: Lock, missing: Sequence[LockedPackage], run: Collection) -> _Left:
    """Fetch by the indexes of the lock, if they are here: newer ones may no longer have its versions."""
    for package in lock.packages:
        blob, path = _blob(package), apt.files / package.filename
        if run.store.has(blob) and not path.exists():
            path.hardlink_to(run.store.path(package.sha256))
    left = _bring(apt, lock.packages, missing, run)
    if left:
        left = _fetch_newer(apt, lock, [package for package, _ in left], run)
    if not left:
        shutil.rmtree(apt.files)
    return left


def _fetch_newer(apt: Apt, lock: Lock, missing: Sequence[LockedPackage], run: Collection) -> _Left:
    try:
        apt.update()
    except Incomplete as error:
        return [(package, str(error.seen)) for package in missing]
    gone = {package: reason for package in missing if (reason := apt.lacks(_chosen(package)))}
    known = [package for package in lock.packages if package not in gone]
    left = _bring(apt, known, [package for package in missing if package not in gone], run)
    return [*gone.items(), *left]


def _bring(
    apt: Apt, carried: Sequence[LockedPackage], missing: Sequence[LockedPackage], run: Collection
) -> _Left:
    """Let apt download, and take each package as soon as it is whole."""
    waiting = dict.fromkeys(missing)
    reason = "the archive has other content under this version"
    try:
        for _ in apt.download([_chosen(each).pinned for each in carried], upon=apt.status(_base(apt))):
            _take(apt, waiting, run)
    except Incomplete as error:
        reason = str(error.seen)
    _take(apt, waiting, run)
    return [(package, reason) for package in waiting]


def _take(apt: Apt, waiting: dict[LockedPackage, None], run: Collection) -> None:
    for package in list(waiting):
        path = apt.files / package.filename
        if run.arrived(package.filename, _blob(package), path):
            del waiting[package]
        elif path.exists():
            path.unlink()  # whole, and another one


def _chosen(package: LockedPackage) -> Chosen:
    return Chosen(package.name, package.version, package.architecture)


def _blob(package: LockedPackage) -> Blob:
    return Blob(sha256=package.sha256, size_bytes=package.size_bytes)
