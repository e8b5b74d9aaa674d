"""What has to be read out of collected files before a release can be composed.

Wheels: what they unpack to, and their licence. Layers of images: what they unpack to, and that they are the
ones the image's config names. Packages: their own control data, for the index that travels with them.
"""

from __future__ import annotations

import json
import subprocess
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.metadata import parse_email

from appliance.errors import BadInput, Incomplete, Tampered
from appliance.format import Blob
from appliance.text import text
from bundle.apt import fields

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from appliance.store import Store
    from bundle.lock import Lock, LockedImage, LockedPackage
    from bundle.workshop import Workshop


@dataclass(frozen=True, slots=True)
class WheelContent:
    """What is read out of a wheel: the bytes that it unpacks to, and the licence that it states."""

    unpacked_bytes: int
    licence: str


@dataclass(frozen=True, slots=True)
class Contents:
    """By digest: of every wheel, the bytes that each layer unpacks to, the control data of each package."""

    wheels: Mapping[str, WheelContent]
    layers: Mapping[str, int]
    controls: Mapping[str, str]


def read_contents(lock: Lock, workshop: Workshop) -> Contents:
    """Read what ``compose`` must know. Raises ``Incomplete`` where something is not collected.

    No layer is read of which there is a record. ``Tampered`` for a layer that its image's config does not
    name, ``BadInput`` for a package of another name than its archive's index says.
    """
    store = workshop.store
    wheels = {
        wheel.sha256: _wheel(_collected(store, wheel.filename, wheel.sha256, wheel.size_bytes))
        for wheel in lock.wheels()
    }
    layers = {digest: size for image in lock.images for digest, size in _layers(image, workshop)}
    controls = {package.sha256: _control(package, store) for package in lock.packages}
    return Contents(wheels, layers, controls)


def _collected(store: Store, name: str, sha256: str, size_bytes: int) -> Path:
    if not store.has(Blob(sha256=sha256, size_bytes=size_bytes)):
        raise Incomplete(
            text("{name} is not collected", name=name),
            remedy=text("run `build.py collect` first; it goes on from what is there"),
        )
    return store.path(sha256)


def _wheel(path: Path) -> WheelContent:
    with zipfile.ZipFile(path) as archive:
        size_bytes = sum(member.file_size for member in archive.infolist())
        metadata = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        stated, _ = parse_email(archive.read(metadata))
    licence = stated.get("license_expression") or stated.get("license") or ""
    # Some packages put the whole text there; its first line names it.
    return WheelContent(size_bytes, next(iter(licence.strip().splitlines()), ""))


def _layers(image: LockedImage, workshop: Workshop) -> Iterator[tuple[str, int]]:
    """Yield each layer and the size of its tar, which is close to what its files take and never less."""
    store = workshop.store
    for blob in (image.manifest, image.config, *image.layers):
        _collected(store, f"image {image.name}", blob.sha256, blob.size_bytes)
    config = json.loads(store.path(image.config.sha256).read_bytes())
    named = set(config.get("rootfs", {}).get("diff_ids", ()))
    for layer in image.layers:
        unpacked = workshop.layers.find(layer.sha256)
        if unpacked is None or unpacked.diff_id not in named:  # a record is never why a layer is refused
            unpacked = workshop.layers.learn(layer, store.path(layer.sha256))
        if unpacked is None or unpacked.diff_id not in named:
            raise Tampered(
                text("a layer of the image {name} is not the one that its config names", name=image.name),
                where=layer.sha256,
                seen=text("it cannot be unpacked") if unpacked is None else unpacked.diff_id,
            )
        yield layer.sha256, unpacked.size_bytes


def _control(package: LockedPackage, store: Store) -> str:
    path = _collected(store, package.filename, package.sha256, package.size_bytes)
    done = subprocess.run(
        ["dpkg-deb", "--field", str(path)], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    control = done.stdout.decode("utf-8", "replace").strip()
    told = fields(control)
    seen = tuple(told.get(name) for name in ("Package", "Version", "Architecture"))
    if done.returncode != 0 or seen != (package.name, package.version, package.architecture):
        raise BadInput(
            text("{name} is not the package that its archive says", name=package.filename),
            expected=f"{package.name} {package.version} {package.architecture}",
            seen=done.stderr.decode("utf-8", "replace").strip() or " ".join(map(str, seen)),
        )
    return control
