"""From a lock to the release that it describes: pure, so the same lock gives the same bytes anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from appliance.format import (
    PACKAGES_INDEX,
    Blob,
    Environment,
    Image,
    Release,
    ReleaseFile,
    Space,
    Wheel,
    sha256_hex,
)
from bundle.bom import make_bom
from bundle.lock import refuse_unlocked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from bundle.contents import Contents
    from bundle.lock import Lock, LockedEnvironment, LockedImage

BOM_PATH = "bom.cdx.json"


@dataclass(frozen=True, slots=True)
class Composed:
    """A release, the content made here (blobs that are in no lock), and when its signature expires."""

    release: Release
    made: tuple[bytes, ...]
    expires: datetime


def compose(lock: Lock, contents: Contents) -> Composed:
    """Return the release of a lock, whose collected files have these contents.

    ``space.environments_bytes`` counts the files that the wheels unpack to. Not in it: bytecode, command
    launchers, the environment's own links, and the rounding up to file system blocks.
    Raises ``Incompletes`` where the lock has unlocked names.
    """
    refuse_unlocked(lock)
    manifest = lock.manifest
    made = _made(lock, contents)
    blobs = _blobs(lock, made)
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
        files=tuple(_files(lock, made)),
        environments=tuple(_environment(each) for each in lock.environments),
        images=tuple(_image(image) for image in lock.images),
        packages=tuple(package.package() for package in lock.packages),
        roles=lock.roles,
        space=_space(lock, contents, blobs),
        bom=sha256_hex(made[BOM_PATH]),
    )
    return Composed(release, tuple(made.values()), lock.locked_at + timedelta(days=manifest.validity_days))


def _made(lock: Lock, contents: Contents) -> dict[str, bytes]:
    """Return the files of the release that are in no lock, by their path."""
    bom = make_bom(lock, {digest: content.licence for digest, content in contents.wheels.items()})
    index = {PACKAGES_INDEX: packages_index(lock, contents.controls)} if lock.packages else {}
    return {BOM_PATH: bom, **index}


def _space(lock: Lock, contents: Contents, blobs: Sequence[Blob]) -> Space:
    return Space(
        store_bytes=sum(blob.size_bytes for blob in blobs),
        environments_bytes=_environments_bytes(lock, contents),
        images_bytes=sum(contents.layers.values()),
        packages_bytes=sum(package.installed_bytes for package in lock.packages),
    )


def _environment(locked: LockedEnvironment) -> Environment:
    wheels = tuple(Wheel(filename=wheel.filename, sha256=wheel.sha256) for wheel in locked.wheels)
    return Environment(name=locked.name, python=locked.python, platform=locked.platform, wheels=wheels)


def _image(locked: LockedImage) -> Image:
    blobs = (locked.config.sha256, *(layer.sha256 for layer in locked.layers))
    return Image(name=locked.name, reference=locked.reference, manifest=locked.manifest.sha256, blobs=blobs)


def packages_index(lock: Lock, controls: Mapping[str, str]) -> bytes:
    """Return ``packages/Packages``: what each package says of itself, its file and its digest.

    Source: Debian's repository format, section "Packages" indices, for a flat repository.
    """
    stanzas = (
        f"{controls[each.sha256]}\nFilename: ./{each.filename}\n"
        f"Size: {each.size_bytes}\nSHA256: {each.sha256}\n"
        for each in lock.packages
    )
    return "\n".join(stanzas).encode()


def _environments_bytes(lock: Lock, contents: Contents) -> int:
    """Count each environment once: equal ones share a folder on the server."""
    each = {_environment(locked).digest: locked.wheels for locked in lock.environments}
    return sum(contents.wheels[wheel.sha256].unpacked_bytes for wheels in each.values() for wheel in wheels)


def _files(lock: Lock, made: Mapping[str, bytes]) -> Iterator[ReleaseFile]:
    for path, content in made.items():
        yield ReleaseFile(path=path, sha256=sha256_hex(content))
    for model in lock.models:
        for file in model.files:
            yield ReleaseFile(path=f"models/{model.name}/{file.path}", sha256=file.sha256)
    for file in lock.playbooks:
        yield ReleaseFile(path=file.path, sha256=file.sha256)
    for package in lock.packages:
        yield ReleaseFile(path=package.package().path, sha256=package.sha256)


def _blobs(lock: Lock, made: Mapping[str, bytes]) -> tuple[Blob, ...]:
    """Return the blobs of the release: made here, and of the lock, but first contact's own wheels."""
    sizes = {sha256_hex(content): len(content) for content in made.values()}
    wheels = {wheel.sha256 for environment in lock.environments for wheel in environment.wheels}
    alone = {wheel.sha256 for wheel in lock.first_contact.wheels} - wheels
    sizes |= {blob.sha256: blob.size_bytes for blob in lock.blobs() if blob.sha256 not in alone}
    return tuple(Blob(sha256=digest, size_bytes=size_bytes) for digest, size_bytes in sorted(sizes.items()))
