"""The carrier: release metadata and blobs become one file, in one pass over the data.

``chunks.bin`` and ``targets.json`` stand before the blobs but depend on them; their sizes do not. So their
place is kept, the blobs are hashed while they are written, and the metadata is put in at the end.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from tuf.api._payload import TargetFile, Targets
from tuf.api.dsse import SimpleEnvelope

from appliance.errors import BadInput, Tampered
from appliance.format import (
    CHUNKS_TARGET,
    END_OF_CARRIER,
    FORMAT_MEMBER,
    RELEASE_TARGET,
    ROOM_MEMBER,
    TARGETS_MEMBER,
    Blob,
    Release,
    blob_member,
    canonical_json,
    chunk_count,
    envelope_to_bytes,
    format_line,
    member_header,
    padding_bytes,
    release_from_bytes,
    release_to_bytes,
    root_member,
    sha256_hex,
)
from appliance.media import open_carrier, room_bytes
from appliance.text import text
from appliance.verify import open_envelope, parse_targets
from bundle.copying import copying

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from io import FileIO
    from pathlib import Path

    from bundle.copying import OpenBlob, Report


def targets_envelope(
    release: Release, release_json: bytes, chunks_bin: bytes, expires: datetime
) -> SimpleEnvelope[Any]:
    """Return the unsigned targets: both files by length and SHA-256, under the release's number."""
    files = {RELEASE_TARGET: release_json, CHUNKS_TARGET: chunks_bin}
    targets = Targets(
        version=release.counter,
        expires=expires.astimezone(timezone.utc),
        targets={
            name: TargetFile(len(data), {"sha256": sha256_hex(data)}, name) for name, data in files.items()
        },
    )
    return SimpleEnvelope(canonical_json(targets.to_dict()), SimpleEnvelope.DEFAULT_PAYLOAD_TYPE, {})


def build_carrier(  # noqa: PLR0913 - each is one thing that the carrier is made of
    path: Path,
    roots: Sequence[bytes],
    release: Release,
    open_blob: OpenBlob,
    *,
    expires: datetime,
    report: Report | None = None,
) -> None:
    """Write a new, unsigned carrier; the chunk table comes out of the same pass over the blobs.

    ``open_blob`` opens a blob by its digest. Raises ``Tampered`` where a blob is not what its name says,
    ``Incomplete`` where one is missing, ``BadInput`` where the disk is too small; ``path`` is then as it was.
    """
    release_json = release_to_bytes(release)
    reserved = bytes(32 * sum(chunk_count(blob.size_bytes) for blob in release.blobs))
    draft = envelope_to_bytes(targets_envelope(release, release_json, reserved, expires))
    with _new_file(path) as file:
        head, places = _head(roots, draft, release_json, reserved)
        chunks = _write_all(file, head, release, open_blob, report)
        final = envelope_to_bytes(targets_envelope(release, release_json, chunks, expires))
        _put(file, places[CHUNKS_TARGET], reserved, chunks)
        _put(file, places[TARGETS_MEMBER], draft, final)


def write_carrier(  # noqa: PLR0913, PLR0917 - each is one thing that the carrier is made of
    path: Path,
    roots: Sequence[bytes],
    targets: bytes,
    release: Release,
    release_json: bytes,
    chunks_bin: bytes,
    open_blob: OpenBlob,
    report: Report | None = None,
) -> None:
    """Write a carrier around metadata that exists already, signed or not; the same in, the same bytes out."""
    with _new_file(path) as file:
        head, _ = _head(roots, targets, release_json, chunks_bin)
        chunks = _write_all(file, head, release, open_blob, report)
        if chunks != chunks_bin:
            raise Tampered(text("chunks.bin does not fit the blobs of the release"), where=path)


def chunk_table(release: Release, open_blob: OpenBlob) -> bytes:
    """Return ``chunks.bin``, reading only the blobs that have chunks, and checking those."""
    with copying(0, None) as one_pass:
        for blob in release.blobs:
            if chunk_count(blob.size_bytes):
                one_pass.copy(blob, open_blob)
    return b"".join(one_pass.chunks)


# --- Writing --------------------------------------------------------------------------------------------


@contextmanager
def _new_file(path: Path) -> Iterator[FileIO]:
    """Give a file that gets its name only when it is whole and on disk."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            yield file
            os.fchmod(descriptor, 0o644)
            os.fsync(descriptor)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _head(
    roots: Sequence[bytes], targets: bytes, release_json: bytes, chunks_bin: bytes
) -> tuple[bytes, dict[str, int]]:
    """Return every member before the blobs, and where the content of each begins."""
    members = [
        (FORMAT_MEMBER, format_line()),
        *((root_member(version), root) for version, root in enumerate(roots, start=1)),
        (TARGETS_MEMBER, targets),
        (ROOM_MEMBER, bytes(room_bytes(targets))),
        (RELEASE_TARGET, release_json),
        (CHUNKS_TARGET, chunks_bin),
    ]
    head, places = b"", {}
    for name, content in members:
        header = member_header(name, len(content))
        places[name] = len(head) + len(header)
        head += header + content + bytes(padding_bytes(len(content)))
    return head, places


def blob_bytes(release: Release) -> int:
    """Return the bytes of a carrier from the first blob's header to the end."""
    found = len(END_OF_CARRIER)
    for blob in release.blobs:
        found += len(member_header(blob_member(blob.sha256), blob.size_bytes))
        found += blob.size_bytes + padding_bytes(blob.size_bytes)
    return found


def _check_space(file: FileIO, needed: int) -> None:
    disk = os.fstatvfs(file.fileno())
    if disk.f_bavail * disk.f_frsize < needed:
        raise BadInput(
            text("the disk is too small for the bundle"),
            expected=text("{count} bytes", count=needed),
            seen=text("{count} bytes", count=disk.f_bavail * disk.f_frsize),
            remedy=text("name another folder with --out"),
        )


def _write_all(
    file: FileIO, head: bytes, release: Release, open_blob: OpenBlob, report: Report | None
) -> bytes:
    """Write head and blobs, and return the chunk table that came out of the same pass."""
    _check_space(file, len(head) + blob_bytes(release))
    with copying(sum(blob.size_bytes for blob in release.blobs), file, report) as one_pass:
        one_pass.put(head)
        for blob in release.blobs:
            one_pass.put(member_header(blob_member(blob.sha256), blob.size_bytes))
            one_pass.copy(blob, open_blob)
            one_pass.put(bytes(padding_bytes(blob.size_bytes)))
        one_pass.put(END_OF_CARRIER)
    return b"".join(one_pass.chunks)


def _put(file: FileIO, place: int, reserved: bytes, content: bytes) -> None:
    if len(content) != len(reserved):
        raise AssertionError(place)
    rest = memoryview(content)
    while rest:
        written = os.pwrite(file.fileno(), rest, place)
        rest, place = rest[written:], place + written


# --- Looking at a carrier -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Contents:
    """What a carrier says of itself, unverified; ``signed_by`` are key ids, sizes are bytes."""

    release: Release
    release_sha256: str
    root_version: int
    expires: datetime
    signed_by: tuple[str, ...]
    size_bytes: int
    blob_bytes: int
    bytes_read: int


def inspect(path: Path) -> Contents:
    """Read a carrier's metadata, some kilobytes, and trust nothing in it."""
    with open_carrier(path) as carrier:
        envelopes = carrier.envelopes()
        envelope = open_envelope(envelopes.targets, TARGETS_MEMBER)
        targets = parse_targets(envelope)
        release_json = carrier.target(RELEASE_TARGET, targets.targets[RELEASE_TARGET].length)
        release = release_from_bytes(release_json)
        return Contents(
            release=release,
            release_sha256=sha256_hex(release_json),
            root_version=len(envelopes.roots),
            expires=targets.expires,
            signed_by=tuple(sorted(envelope.signatures)),
            size_bytes=carrier.size_bytes,
            blob_bytes=sum(blob.size_bytes for blob in release.blobs),
            bytes_read=carrier.bytes_read,
        )


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs between two releases, by name; each tuple is sorted."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True, slots=True)
class Difference:
    """From one release to another: blobs by digest with their sizes, everything else by name."""

    added: tuple[Blob, ...]
    removed: tuple[Blob, ...]
    kept: tuple[Blob, ...]
    environments: Changes
    files: Changes
    images: Changes
    packages: Changes
    roles: Changes

    @property
    def added_bytes(self) -> int:
        """Bytes that a server at the first release has to take in."""
        return sum(blob.size_bytes for blob in self.added)

    @property
    def removed_bytes(self) -> int:
        """Bytes that only the first release has."""
        return sum(blob.size_bytes for blob in self.removed)

    @property
    def kept_bytes(self) -> int:
        """Bytes that both share."""
        return sum(blob.size_bytes for blob in self.kept)


def diff(old: Release, new: Release) -> Difference:
    """Compare two releases."""
    before, after = set(old.blobs), set(new.blobs)

    def ordered(blobs: set[Blob]) -> tuple[Blob, ...]:
        return tuple(sorted(blobs, key=lambda blob: blob.sha256))

    return Difference(
        added=ordered(after - before),
        removed=ordered(before - after),
        kept=ordered(before & after),
        environments=_changes(*({one.name: one.digest for one in side.environments} for side in (old, new))),
        files=_changes(*({one.path: one.sha256 for one in side.files} for side in (old, new))),
        images=_changes(*({one.name: one.manifest for one in side.images} for side in (old, new))),
        packages=_changes(*({one.name: one.sha256 for one in side.packages} for side in (old, new))),
        roles=_changes(*({one.name: one for one in side.roles} for side in (old, new))),
    )


def _changes(old: Mapping[str, object], new: Mapping[str, object]) -> Changes:
    return Changes(
        added=tuple(sorted(new.keys() - old.keys())),
        removed=tuple(sorted(old.keys() - new.keys())),
        changed=tuple(sorted(name for name in old.keys() & new.keys() if old[name] != new[name])),
    )
