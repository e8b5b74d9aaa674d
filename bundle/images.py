"""Container images through skopeo: pinned to a digest, their layers fetched into the build store as they are.

The release has an OCI manifest. Docker's kind is turned into one here: the same config and layers under OCI's
names for them, so the image keeps its identity, and no version of a program decides what the bytes are.
Sources: OCI image specification 1.1, manifest.md; Docker's image manifest version 2, schema 2.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import msgspec

from appliance.errors import Incomplete
from appliance.format import Blob, Value, canonical_json, sha256_hex
from appliance.text import text
from bundle.index import masked
from bundle.layers import Unpacking
from bundle.lock import LockedImage, Unlocked
from bundle.workshop import ended

if TYPE_CHECKING:
    from pathlib import Path

    from bundle.collection import Collection
    from bundle.manifest import Manifest
    from bundle.workshop import Workshop

_T = TypeVar("_T")
_TIMEOUT_S = 60
_LOOK_S = 0.5
#: Of one question, and of fetching all layers.
_ASKED_AGAIN, _RETRIES = "2", "3"
_MANIFEST_MAX_BYTES = 4 * 1024 * 1024
_SHA256 = "sha256:"
_OCI = "application/vnd.oci.image."
_DOCKER = "application/vnd.docker."
OCI_MANIFEST = f"{_OCI}manifest.v1+json"
_INDEXES = {f"{_OCI}index.v1+json", f"{_DOCKER}distribution.manifest.list.v2+json"}
_DOCKER_MANIFEST = f"{_DOCKER}distribution.manifest.v2+json"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
#: What a config and a layer may be, and what OCI calls it.
_OCI_NAMES = {
    f"{_OCI}config.v1+json": f"{_OCI}config.v1+json",
    f"{_DOCKER}container.image.v1+json": f"{_OCI}config.v1+json",
    f"{_OCI}layer.v1.tar": f"{_OCI}layer.v1.tar",
    f"{_OCI}layer.v1.tar+gzip": f"{_OCI}layer.v1.tar+gzip",
    f"{_DOCKER}image.rootfs.diff.tar": f"{_OCI}layer.v1.tar",
    f"{_DOCKER}image.rootfs.diff.tar.gzip": f"{_OCI}layer.v1.tar+gzip",
}


def lock_image(
    name: str, reference: str, registries: tuple[str, ...], architecture: str
) -> LockedImage | Unlocked:
    """Return the image for the architecture by digest, from the first registry that has it."""
    tried = Unlocked(kind="image", name=f"{name} ({reference})", reason="skopeo is not installed")
    if shutil.which("skopeo") is None:
        return tried
    for registry in registries or ("",):
        repository = _Repository.of(registry, reference)
        found = _lock(name, reference, repository, _ARCHITECTURES[architecture])
        if isinstance(found, LockedImage):
            return found
        tried = Unlocked(kind="image", name=f"{name} ({reference})", reason=found)
    return tried


def collect_image(image: LockedImage, manifest: Manifest, workshop: Workshop, run: Collection) -> None:
    """Bring manifest, config and layers of an image into the build store, each as soon as it is there.

    What a killed run left is used. What no registry gives, or gives with other content, is a failure.
    """
    wanted = {_said(image, blob): blob for blob in (image.manifest, image.config, *image.layers)}
    missing = {said: blob for said, blob in wanted.items() if not run.has(said, blob)}
    why = "skopeo is not installed"
    for registry in manifest.sources.registries or ("",):
        if missing and shutil.which("skopeo") is not None:
            why = _Fetch(image, _Repository.of(registry, image.reference), workshop, run).bring(missing)
    for said in missing:
        run.fail(said, text("skopeo could not fetch it: {reason}", reason=why))
    if not missing:
        shutil.rmtree(workshop.images / image.source, ignore_errors=True)


def _said(image: LockedImage, blob: Blob) -> str:
    part = "manifest" if blob == image.manifest else "config" if blob == image.config else "layer"
    return f"images/{image.name}/{part}-{blob.sha256[:12]}"


# --- What a registry says ---------------------------------------------------------------------------------


class _Descriptor(msgspec.Struct, rename="camel"):
    """Content that a manifest names, and an index's manifest with its platform."""

    media_type: str
    digest: str
    size: int
    urls: tuple[str, ...] = ()
    platform: dict[str, Any] = {}

    def blob(self) -> Blob:
        """Return what it names; an algorithm other than SHA-256 is refused."""
        digest = self.digest.removeprefix(_SHA256)
        try:
            return msgspec.convert({"sha256": digest, "size_bytes": self.size}, Blob)
        except msgspec.ValidationError as error:
            _refuse(f"the registry's answer is malformed: {error}")


class _Found(msgspec.Struct, rename="camel"):
    """A manifest of one image, or an index of several: what is asked of them here."""

    media_type: str = ""
    config: _Descriptor | None = None
    layers: tuple[_Descriptor, ...] = ()
    manifests: tuple[_Descriptor, ...] = ()


class _Config(msgspec.Struct):
    """What is asked of an image's config."""

    os: str
    architecture: str


class _OciDescriptor(Value, frozen=True, rename="camel"):
    """A descriptor as we write it."""

    media_type: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class _Repository:
    """An image's name at one registry, as skopeo is told of it. "" is the client's own default."""

    address: str
    plain: bool

    @classmethod
    def of(cls, registry: str, reference: str) -> _Repository:
        scheme, _, rest = registry.rpartition("://")
        host = urlsplit(registry).hostname if scheme else None
        plain = scheme == "http" and host in {"127.0.0.1", "::1", "localhost"}
        return cls(f"docker://{rest.rstrip('/')}/{reference}" if rest else f"docker://{reference}", plain)

    def at(self, digest: str) -> str:
        """Return the address of one digest in it."""
        return f"{self.address.rpartition(':')[0]}@{_SHA256}{digest}"

    def manifest(self, digest: str | None = None) -> bytes:
        """Return the raw manifest of the tag, or of a digest, which it then has."""
        raw = self._inspect("--raw", self.at(digest) if digest else self.address)
        if len(raw) > _MANIFEST_MAX_BYTES or (digest and sha256_hex(raw) != digest):
            _refuse("the registry gives another manifest than the one asked for")
        return raw

    def config(self, digest: str) -> bytes:
        """Return the raw config of the image whose manifest has that digest."""
        return self._inspect("--config", "--raw", self.at(digest))

    def tls(self, prefix: str = "") -> list[str]:
        """Return the option for a registry on this machine's loopback, which needs no TLS."""
        return [f"--{prefix}tls-verify=false"] if self.plain else []

    def _inspect(self, *words: str) -> bytes:
        argv = ["skopeo", "inspect", "--retry-times", _ASKED_AGAIN, *self.tls(), *words]
        try:
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            _refuse("the registry does not answer")
        if done.returncode != 0:
            _refuse(done.stderr.decode("utf-8", "replace"))
        return done.stdout


def _lock(name: str, reference: str, repository: _Repository, architecture: str) -> LockedImage | str:
    """Return the image as a registry has it, or why not."""
    try:
        raw = repository.manifest()
        index = _parse(raw, _Found)
        if index.manifests or index.media_type in _INDEXES:
            raw = repository.manifest(_of_platform(index, architecture))
        oci = oci_manifest(raw)
        config, *layers = _parts(_parse(raw, _Found))
        _refuse_other(repository.config(sha256_hex(raw)), config.blob(), architecture)
    except Incomplete as error:
        return str(error.seen)
    return LockedImage(
        name=name,
        reference=reference,
        source=sha256_hex(raw),
        manifest=Blob(sha256=sha256_hex(oci), size_bytes=len(oci)),
        config=config.blob(),
        layers=tuple(dict.fromkeys(layer.blob() for layer in layers)),
    )


def _refuse_other(raw: bytes, expected: Blob, architecture: str) -> None:
    """Refuse a config that the manifest does not name, and that of an image for another machine."""
    if sha256_hex(raw) != expected.sha256:
        _refuse("the registry gives another config than the manifest names")
    seen = _parse(raw, _Config)
    if (seen.os, seen.architecture) != ("linux", architecture):
        _refuse(f"the image is for {seen.os} {seen.architecture}, not for linux {architecture}")


def _of_platform(index: _Found, architecture: str) -> str:
    """Return the digest of the manifest for Linux on that architecture."""
    offered = [f"{each.platform.get('os')} {each.platform.get('architecture')}" for each in index.manifests]
    if f"linux {architecture}" not in offered:
        _refuse(f"the image is for {', '.join(offered)}, not for linux {architecture}")
    return index.manifests[offered.index(f"linux {architecture}")].blob().sha256


def oci_manifest(raw: bytes) -> bytes:
    """Return the OCI manifest of an image: its own where it is one, otherwise made of Docker's.

    Raises ``Incomplete`` for what is neither, and for layers that lie elsewhere or are of an unknown kind.
    """
    found = _parse(raw, _Found)
    config, *layers = map(_oci_descriptor, _parts(found))
    if found.media_type != _DOCKER_MANIFEST:
        return raw
    return canonical_json({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers})


def _parts(found: _Found) -> list[_Descriptor]:
    """Return config and layers of a manifest of one image."""
    if (
        found.config is None
        or not found.layers
        or found.media_type not in {"", OCI_MANIFEST, _DOCKER_MANIFEST}
    ):
        _refuse(f"not a manifest of an image: {found.media_type or 'of an old kind'}")
    return [found.config, *found.layers]


def _oci_descriptor(found: _Descriptor) -> _OciDescriptor:
    if found.media_type not in _OCI_NAMES or found.urls:
        _refuse(f"a layer of a kind that cannot be carried: {found.media_type}")
    digest = f"{_SHA256}{found.blob().sha256}"
    return _OciDescriptor(media_type=_OCI_NAMES[found.media_type], digest=digest, size=found.size)


def _parse(raw: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        _refuse(f"the registry's answer is malformed: {error}")


def _refuse(reason: str) -> NoReturn:
    said = masked(" ".join(reason.split()))[-300:]
    raise Incomplete(text("the image cannot be had"), seen=said)


# --- Fetching ---------------------------------------------------------------------------------------------


class _Fetch:
    """Copies one image from one registry, through a folder of blobs that the next run goes on from."""

    def __init__(
        self, image: LockedImage, repository: _Repository, workshop: Workshop, run: Collection
    ) -> None:
        self._image, self._repository, self._workshop, self._run = image, repository, workshop, run
        self._blobs = workshop.images / image.source / "sha256"

    def bring(self, missing: dict[str, Blob]) -> str:
        """Take what arrives out of ``missing``; return why the rest did not."""
        try:
            raw = self._repository.manifest(self._image.source)
            self._add(oci_manifest(raw), missing)
            self._add(self._repository.config(self._image.source), missing)
        except Incomplete as error:
            return str(error.seen)
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._take(missing)
        for blob in missing.values():  # skopeo believes a name, and would take what lies there for whole
            (self._blobs / blob.sha256).unlink(missing_ok=True)
        self._link_what_is_here()
        if not missing:
            return ""
        with self._workshop.scratch() as scratch:
            return self._copy(scratch, missing, keep=oci_manifest(raw) == raw)

    def _add(self, content: bytes, missing: dict[str, Blob]) -> None:
        blob = Blob(sha256=sha256_hex(content), size_bytes=len(content))
        for said in [said for said, each in missing.items() if each == blob]:
            self._run.take(said, blob, "fetched", [content])
            del missing[said]

    def _link_what_is_here(self) -> None:
        """Show skopeo the layers that the store has, so that it asks for the others only."""
        for layer in self._image.layers:
            link = self._blobs / layer.sha256
            if self._run.store.has(layer) and not link.exists():
                link.hardlink_to(self._run.store.path(layer.sha256))

    def _copy(self, scratch: Path, missing: dict[str, Blob], *, keep: bool) -> str:
        argv = ["skopeo", "copy", "--retry-times", _RETRIES, *self._repository.tls("src-")]
        # A digest that must change, Docker's into OCI's, may; one that must not, says so.
        argv += ["--preserve-digests"] if keep else []
        argv += ["--dest-shared-blob-dir", str(self._blobs.parent)]
        argv += [self._repository.at(self._image.source), f"oci:{scratch / 'layout'}:image"]
        with (scratch / "said").open("w+b") as said:
            with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said) as copy:
                try:
                    while ended(copy, _LOOK_S) is None:
                        self._take(missing)
                finally:
                    copy.terminate()
            self._take(missing)
            said.seek(0)
            return masked(" ".join(said.read().decode("utf-8", "replace").split()))[-300:]

    def _take(self, missing: dict[str, Blob]) -> None:
        for said, blob in list(missing.items()):
            unpacking = Unpacking()
            if self._run.arrived(said, blob, self._blobs / blob.sha256, unpacking.update):
                del missing[said]
                if blob in self._image.layers:
                    self._workshop.layers.keep(blob.sha256, unpacking.unpacked())
