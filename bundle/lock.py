"""The lock: every name of a manifest as a digest. ``collect`` and ``build`` read nothing else.

No address, host or credential stands in it. What could not be resolved is listed, never invented.
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - msgspec resolves annotations at run time
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from appliance.errors import BadInput
from appliance.format import (
    Blob,
    Count,
    Name,
    Package,
    PackageName,
    PackageVersion,
    RelativePath,
    Role,
    Sha256,
    Value,
    WheelName,
    canonical_json,
)
from appliance.problems import Incompletes, Problem
from appliance.store import write_file
from appliance.text import text
from bundle.local import file_sha256, playbook_files, source_digest
from bundle.manifest import Manifest  # noqa: TC001 - msgspec

if TYPE_CHECKING:
    from pathlib import Path

    from bundle.manifest import CheckedManifest

UnlockedKind = Literal["environment", "wheel", "model", "image", "package"]


class LockedWheel(Value, frozen=True):
    """A wheel by its digest. ``local``: built on this machine, so no index has it."""

    filename: WheelName
    name: str
    version: str
    sha256: Sha256
    size_bytes: Count
    local: bool = False


class LockedEnvironment(Value, frozen=True):
    """A Python environment as exactly the wheels it consists of, sorted by file name."""

    name: Name
    python: str
    platform: str
    wheels: tuple[LockedWheel, ...]


class LockedFile(Value, frozen=True):
    """A file by its digest."""

    path: RelativePath
    sha256: Sha256
    size_bytes: Count


class LockedModel(Value, frozen=True):
    """A model folder as its files; ``commit`` where it comes from a hub."""

    name: Name
    files: tuple[LockedFile, ...]
    commit: Annotated[str, Meta(pattern=r"^[0-9a-f]{40}$")] | None = None


class LockedImage(Value, frozen=True):
    """A container image: its OCI manifest, its config, and its layers from the lowest up, each once.

    ``source``: digest of the manifest that the registry has. It is another one where the registry has
    Docker's kind, which becomes an OCI manifest of the same config and layers.
    """

    name: Name
    reference: str
    source: Sha256
    manifest: Blob
    config: Blob
    layers: tuple[Blob, ...]


class LockedPackage(Value, frozen=True):
    """An operating system package, as the signed index of its archive describes it.

    ``installed_bytes``: what the package states as its size once it is installed.
    """

    name: PackageName
    version: PackageVersion
    architecture: str
    sha256: Sha256
    size_bytes: Count
    installed_bytes: Count

    def package(self) -> Package:
        """Return it as the release has it."""
        return Package(
            name=self.name, version=self.version, architecture=self.architecture, sha256=self.sha256
        )

    @property
    def filename(self) -> str:
        """Its file's name, as apt names what it downloads."""
        return PurePosixPath(self.package().path).name


class LockedProject(Value, frozen=True):
    """A local project: the digest of the sources that its wheel was built from."""

    path: str
    tops: tuple[str, ...]
    sha256: Sha256


class Unlocked(Value, frozen=True):
    """A name that could not be resolved here, and why."""

    kind: UnlockedKind
    name: str
    reason: str


class Lock(Value, frozen=True):
    """``manifests/NAME.lock.json``; ``manifest`` is the manifest without its sources."""

    format: Literal[1]
    locked_at: datetime
    manifest_sha256: Sha256
    manifest: Manifest
    roles: tuple[Role, ...]
    first_contact: LockedEnvironment
    environments: tuple[LockedEnvironment, ...]
    models: tuple[LockedModel, ...]
    images: tuple[LockedImage, ...]
    packages: tuple[LockedPackage, ...]
    playbooks: tuple[LockedFile, ...]
    projects: tuple[LockedProject, ...]
    unlocked: tuple[Unlocked, ...]

    def wheels(self) -> tuple[LockedWheel, ...]:
        """Return every wheel once, those of first contact too, sorted by file name."""
        environments = (self.first_contact, *self.environments)
        found = {(wheel.filename, wheel.sha256): wheel for each in environments for wheel in each.wheels}
        return tuple(wheel for _, wheel in sorted(found.items()))

    def blobs(self) -> tuple[Blob, ...]:
        """Return every blob that the lock names, sorted by digest."""
        files = [*self.playbooks, *(file for model in self.models for file in model.files)]
        sizes = {file.sha256: file.size_bytes for file in files}
        sizes |= {wheel.sha256: wheel.size_bytes for wheel in self.wheels()}
        sizes |= {package.sha256: package.size_bytes for package in self.packages}
        for image in self.images:
            sizes |= {blob.sha256: blob.size_bytes for blob in (image.manifest, image.config, *image.layers)}
        return tuple(Blob(sha256=digest, size_bytes=size) for digest, size in sorted(sizes.items()))


def write_lock(checked: CheckedManifest, lock: Lock) -> Path:
    """Write the lock beside its manifest, as one step, and return its path."""
    write_file(checked.lock_path, canonical_json(lock))
    return checked.lock_path


def read_lock(checked: CheckedManifest) -> Lock:
    """Read the lock of a manifest that is still the manifest, roles and projects it was made from.

    Raises ``BadInput`` where there is none, where it is not ours, or where its sources have changed;
    ``Incomplete`` where names in it are unlocked.
    """
    lock = _parse(checked)
    changed = list(_changes(checked, lock))
    if changed:
        raise BadInput(
            text("what was locked has changed since: {names}", names=", ".join(changed)),
            where=checked.lock_path.name,
            remedy=text("run `build.py lock {manifest}` again", manifest=checked.name),
        )
    return lock


def refuse_unlocked(lock: Lock) -> None:
    """Raise ``Incompletes`` naming everything that the lock could not resolve, if there is anything."""
    problems = [
        Problem(f"{each.kind} {each.name}", text("unlocked: {reason}", reason=each.reason))
        for each in lock.unlocked
    ]
    if problems:
        raise Incompletes(
            text("{count} names are not locked", count=len(problems)),
            problems,
            text("give the manifest sources that have them, or take them out, and run lock again"),
        )


def _parse(checked: CheckedManifest) -> Lock:
    again = text("run `build.py lock {manifest}` first", manifest=checked.name)
    try:
        raw = checked.lock_path.read_bytes()
    except FileNotFoundError:
        raise BadInput(
            text("the manifest is not locked yet"), where=checked.lock_path.name, remedy=again
        ) from None
    try:
        lock = msgspec.json.decode(raw, type=Lock)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(
            text("the lock cannot be read"), where=checked.lock_path.name, seen=error, remedy=again
        ) from error
    if canonical_json(lock) != raw:
        raise BadInput(text("the lock was changed by hand"), where=checked.lock_path.name, remedy=again)
    return lock


def _changes(checked: CheckedManifest, lock: Lock) -> list[str]:
    names = [] if lock.manifest_sha256 == checked.sha256 else [checked.name]
    now = {path: file_sha256(file) for path, file in playbook_files(checked).items()}
    then = {file.path: file.sha256 for file in lock.playbooks}
    names += [path for path in sorted(now.keys() | then.keys()) if now.get(path) != then.get(path)]
    names += [
        f"project {each.path}"
        for each in lock.projects
        if source_digest(checked.path(each.path), each.tops) != each.sha256
    ]
    return names
