"""From a lock to the release that it describes: pure, so the same lock gives the same bytes anywhere."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from packaging.metadata import parse_email

from appliance.errors import Incomplete
from appliance.format import Blob, Environment, Release, ReleaseFile, Space, Wheel, sha256_hex
from appliance.text import text
from bundle.bom import make_bom
from bundle.lock import refuse_unlocked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from appliance.store import Store
    from bundle.lock import Lock, LockedEnvironment

BOM_PATH = "bom.cdx.json"


@dataclass(frozen=True, slots=True)
class WheelContent:
    """What is read out of a wheel: the bytes that it unpacks to, and the licence that it states."""

    unpacked_bytes: int
    licence: str


@dataclass(frozen=True, slots=True)
class Composed:
    """A release, its bill of materials (a blob that is in no lock), and when its signature expires."""

    release: Release
    bom: bytes
    expires: datetime


def compose(lock: Lock, contents: Mapping[str, WheelContent]) -> Composed:
    """Return the release of a lock; ``contents``: of every wheel, by digest.

    ``space.environments_bytes`` counts the files that the wheels unpack to. Not in it: bytecode, command
    launchers, the environment's own links, and the rounding up to file system blocks.
    Raises ``Incompletes`` where the lock has unlocked names.
    """
    refuse_unlocked(lock)
    manifest = lock.manifest
    bom = make_bom(lock, {digest: content.licence for digest, content in contents.items()})
    files = tuple(_files(lock, sha256_hex(bom)))
    blobs = _blobs(lock, bom)
    release = Release(
        format=1,
        product=manifest.product,
        version=manifest.version,
        counter=manifest.counter,
        grade=manifest.grade,
        site=manifest.site,
        target=manifest.release_target(),
        tolerates=manifest.tolerates,
        variables=manifest.variables,
        built=lock.locked_at,
        blobs=blobs,
        files=files,
        environments=tuple(_environment(each) for each in lock.environments),
        images=(),
        packages=(),
        roles=lock.roles,
        space=Space(
            store_bytes=sum(blob.size_bytes for blob in blobs),
            environments_bytes=_environments_bytes(lock, contents),
        ),
        bom=sha256_hex(bom),
    )
    return Composed(release, bom, lock.locked_at + timedelta(days=manifest.validity_days))


def read_wheels(lock: Lock, store: Store) -> dict[str, WheelContent]:
    """Read what ``compose`` must know of the wheels. Raises ``Incomplete`` where one is not collected."""
    found = {}
    for wheel in lock.wheels():
        path = store.path(wheel.sha256)
        if not store.has(Blob(sha256=wheel.sha256, size_bytes=wheel.size_bytes)):
            raise Incomplete(
                text("{name} is not collected", name=wheel.filename),
                remedy=text("run `build.py collect` first; it goes on from what is there"),
            )
        with zipfile.ZipFile(path) as archive:
            size_bytes = sum(member.file_size for member in archive.infolist())
            metadata = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            stated, _ = parse_email(archive.read(metadata))
        licence = stated.get("license_expression") or stated.get("license") or ""
        # Some packages put the whole text there; its first line names it.
        found[wheel.sha256] = WheelContent(size_bytes, next(iter(licence.strip().splitlines()), ""))
    return found


def _environment(locked: LockedEnvironment) -> Environment:
    wheels = tuple(Wheel(filename=wheel.filename, sha256=wheel.sha256) for wheel in locked.wheels)
    return Environment(name=locked.name, python=locked.python, platform=locked.platform, wheels=wheels)


def _environments_bytes(lock: Lock, contents: Mapping[str, WheelContent]) -> int:
    """Count each environment once: equal ones share a folder on the server."""
    each = {_environment(locked).digest: locked for locked in lock.environments}
    return sum(contents[wheel.sha256].unpacked_bytes for locked in each.values() for wheel in locked.wheels)


def _files(lock: Lock, bom_sha256: str) -> Iterator[ReleaseFile]:
    yield ReleaseFile(path=BOM_PATH, sha256=bom_sha256)
    for model in lock.models:
        for file in model.files:
            yield ReleaseFile(path=f"models/{model.name}/{file.path}", sha256=file.sha256)
    for file in lock.playbooks:
        yield ReleaseFile(path=file.path, sha256=file.sha256)


def _blobs(lock: Lock, bom: bytes) -> tuple[Blob, ...]:
    sizes = {sha256_hex(bom): len(bom)}
    sizes |= {file.sha256: file.size_bytes for model in lock.models for file in model.files}
    sizes |= {file.sha256: file.size_bytes for file in lock.playbooks}
    sizes |= {wheel.sha256: wheel.size_bytes for each in lock.environments for wheel in each.wheels}
    return _sorted_blobs(sizes.items())


def _sorted_blobs(sizes: Iterable[tuple[str, int]]) -> tuple[Blob, ...]:
    return tuple(Blob(sha256=digest, size_bytes=size_bytes) for digest, size_bytes in sorted(sizes))
