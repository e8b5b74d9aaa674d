"""Container images, loaded by the server's own podman out of blobs into a storage that is Banip's alone.

No index travels in a bundle: an OCI layout of hardlinks is laid for the moment of the load. An image has its
name ``localhost/banip/<name>:<release>`` only when it is durable, so that the name is the proof of the load.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from appliance.durable import make_folder, remove_file, sync_file_system, write_file
from appliance.errors import Incomplete, UnfitServer
from appliance.format import canonical_json
from appliance.host import CLEAN_ENVIRONMENT, run
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from subprocess import CompletedProcess

    from appliance.format import Image
    from appliance.store import Store
    from appliance.text import Text

_PREFIX = "localhost/banip/"
_OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_LAYOUT = {"imageLayoutVersion": "1.0.0"}
#: Who signed was decided by Banip's own rules before; a policy of the site for registries must not object.
_POLICY = {"default": [{"type": "insecureAcceptAnything"}]}
#: In the storage while a load is under way: a power cut may leave layers that podman takes for whole.
_LOADING = ".banip-loading"


class _Found(msgspec.Struct, frozen=True):
    """An image as ``podman images --format json`` tells it."""

    Id: str
    Digest: str = ""
    Names: tuple[str, ...] | None = None
    RepoDigests: tuple[str, ...] | None = None

    @property
    def digests(self) -> frozenset[str]:
        """All manifests that it is known by: one content may have come under several."""
        return frozenset({self.Digest, *(one.rpartition("@")[2] for one in self.RepoDigests or ())})


def image_reference(name: str, release_id: str) -> str:
    """Return the name under which a release's image is loaded."""
    return f"{_PREFIX}{name}:{_tag(release_id)}"


def _tag(release_id: str) -> str:
    return release_id.replace("+", "_")  # a version may have what a tag may not


@dataclass(frozen=True, slots=True)
class Containers:
    """Banip's container storage: ``podman --root folder --runroot runtime``; ``scratch`` is removed."""

    folder: Path
    runtime: Path
    scratch: Path

    def loaded(self) -> Mapping[str, frozenset[str]]:
        """Return the manifest digests ("sha256:...") of every name in the storage."""
        return {name: found.digests for found in self._found() for name in found.Names or ()}

    def load(self, image: Image, release_id: str, store: Store) -> bool:
        """Load an image out of its blobs, unless it is loaded; tell whether there was something to do.

        Raises ``UnfitServer`` with podman's last words, ``Tampered`` for a blob that changed on this disk.
        """
        reference = image_reference(image.name, release_id)
        if f"sha256:{image.manifest}" in self.loaded().get(reference, ()):
            return False
        make_folder(self.folder, mode=0o700)
        was_cut_off = (self.folder / _LOADING).exists()
        write_file(self.folder / _LOADING, b"")
        try:
            found = self._pull(image, store)
            if was_cut_off and self._read_back(found).returncode != 0:
                self._podman("rmi", found)
                found = self._pull(image, store)
                told = self._read_back(found)
                if told.returncode != 0:
                    raise _not_loaded(image, told)
            self._name(found, reference, image)
        finally:
            shutil.rmtree(self.scratch, ignore_errors=True)
        remove_file(self.folder / _LOADING)
        return True

    def keep_only(self, release_ids: Iterable[str]) -> None:
        """Remove the images of other releases, and rests of killed loads; what a container uses stays."""
        wanted = {_tag(release_id) for release_id in release_ids}
        for found in self._found():
            for name in found.Names or (found.Id,):
                if not name.startswith(_PREFIX) or name.rpartition(":")[2] not in wanted:
                    self._podman("rmi", name)

    def remove(self) -> None:
        """Remove containers, images and their folders."""
        if self.folder.is_dir() and shutil.which("podman", path=CLEAN_ENVIRONMENT["PATH"]):
            self._podman("rm", "--all", "--force", "--time", "0")
        for folder in (self.folder, self.runtime):
            for point in _mounted_below(folder):
                run("umount", "--lazy", str(point), check=False)
            shutil.rmtree(folder, ignore_errors=True)

    # --- podman ----------------------------------------------------------------------------------------

    def _podman(self, *words: str) -> CompletedProcess[str]:
        argv = ("podman", "--root", str(self.folder), "--runroot", str(self.runtime), *words)
        # During a load layers are staged beside the storage: /var/tmp may be another, smaller file system.
        staging = {"TMPDIR": str(self.scratch)} if self.scratch.is_dir() else {}
        environment = {**CLEAN_ENVIRONMENT, **staging}
        try:
            return run(*argv, check=False, environment=environment)
        except FileNotFoundError as error:
            raise UnfitServer(
                text("this server has no podman, and the release has container images"),
                remedy=text("carry in a release whose packages bring podman, or install it before"),
            ) from error

    def _found(self) -> tuple[_Found, ...]:
        if not (self.folder / "overlay-images").is_dir() and not (self.folder / "vfs-images").is_dir():
            return ()  # not even asked for: podman would make the storage
        told = self._podman("images", "--format", "json")
        if told.returncode != 0:
            raise _refused(text("podman cannot read its own storage"), self.folder, told)
        found = msgspec.json.decode(told.stdout or "null", type=tuple[_Found, ...] | None) or ()
        return tuple({one.Id: one for one in found}.values())  # a line for each name of an image

    def _pull(self, image: Image, store: Store) -> str:
        layout = self._lay(image, store)
        policy = self.scratch / "policy.json"
        policy.write_bytes(canonical_json(_POLICY))
        source = f"oci:{layout}:{image.name}"
        told = self._podman("pull", "--quiet", "--signature-policy", str(policy), source)
        if told.returncode != 0:
            for sha256 in (image.manifest, *image.blobs):
                store.unchanged(sha256, image.reference)
            raise _not_loaded(image, told)
        return told.stdout.split()[-1]

    def _lay(self, image: Image, store: Store) -> Path:
        """Lay an OCI layout of hardlinks. Source: OCI image specification 1.1, image-layout.md."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        blobs = self.scratch / "layout" / "blobs" / "sha256"
        make_folder(self.scratch, mode=0o700)
        blobs.mkdir(parents=True)
        for sha256 in dict.fromkeys((image.manifest, *image.blobs)):
            if not store.path(sha256).exists():
                raise Incomplete(
                    text("a blob of the release is not in the store"),
                    where=sha256,
                    remedy=text("run install again with the bundle of this release"),
                )
            os.link(store.path(sha256), blobs / sha256)
        layout = blobs.parent.parent
        (layout / "oci-layout").write_bytes(canonical_json(_LAYOUT))
        (layout / "index.json").write_bytes(_index(image, store.path(image.manifest)))
        return layout

    def _read_back(self, found: str) -> CompletedProcess[str]:
        # Whoever saves an image reads all of it, and podman compares each file with the sum it kept.
        return self._podman("save", "--quiet", "--output", "/dev/null", found)

    def _name(self, found: str, reference: str, image: Image) -> None:
        """Give the durable image its name, and take away what podman derived from the scratch folder."""
        digest = f"sha256:{image.manifest}"
        one = next(one for one in self._found() if one.Id == found)
        if digest not in one.digests:
            raise UnfitServer(
                text("podman loaded another image than the release names"),
                where=image.name,
                expected=digest,
                seen=", ".join(sorted(one.digests)),
                remedy=text("keep this text for your supplier; running the same command again does no harm"),
            )
        sync_file_system(self.folder)
        told = self._podman("tag", found, reference)
        if told.returncode != 0:
            raise _not_loaded(image, told)
        for name in one.Names or ():
            if not name.startswith(_PREFIX):
                self._podman("untag", found, name)


def _index(image: Image, manifest: Path) -> bytes:
    descriptor = {
        "mediaType": _OCI_MANIFEST,
        "digest": f"sha256:{image.manifest}",
        "size": manifest.stat().st_size,
        "annotations": {"org.opencontainers.image.ref.name": image.name},
    }
    return canonical_json({"schemaVersion": 2, "manifests": [descriptor]})


def _not_loaded(image: Image, told: CompletedProcess[str]) -> UnfitServer:
    happened = text("podman could not load the image {name}", name=image.name)
    return _refused(happened, image.reference, told)


def _refused(happened: Text, where: object, told: CompletedProcess[str]) -> UnfitServer:
    return UnfitServer(
        happened,
        where=where,
        seen=f"{told.returncode}: {(told.stderr or told.stdout).strip()[-2000:]}",
        remedy=text("nothing was switched: remove the cause that podman names, then run the command again"),
    )


def _mounted_below(folder: Path) -> tuple[Path, ...]:
    """Return what containers left mounted, the deepest first. Source: proc(5), mountinfo."""
    lines = Path("/proc/self/mountinfo").read_text("utf-8", "backslashreplace").splitlines()
    points = {Path(line.split()[4]) for line in lines}
    return tuple(sorted((one for one in points if folder in one.parents), reverse=True))
