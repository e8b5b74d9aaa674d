"""Bundles for the benchmark: throw-away keys, a signed release, and one of 200 GB that is nearly all hole."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from typing import TYPE_CHECKING

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
    chunk_count,
    envelope_to_bytes,
    format_line,
    member_header,
    padding_bytes,
    release_to_bytes,
    root_member,
)
from appliance.media import room_bytes
from bench.content import PRODUCT, release_of
from bundle.keys import make_root, make_signer, signed_root
from bundle.pack import build_carrier, targets_envelope
from bundle.sign import sign

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

    from securesystemslib.signer._crypto_signer import CryptoSigner

EXPIRES = datetime(2100, 1, 1, tzinfo=timezone.utc)
_DIGEST_BYTES = 32


@dataclass(frozen=True)
class Supplier:
    """Who signs: two root keys and a release key, made anew for each run."""

    @cached_property
    def signer(self) -> CryptoSigner:
        """The release key."""
        return make_signer()

    @cached_property
    def root(self) -> bytes:
        """The envelope of root version 1."""
        signers = [make_signer(), make_signer()]
        return signed_root(make_root(1, EXPIRES, signers, 2, [self.signer], 1), signers)

    def bundle(self, path: Path, release: Release, store: Path) -> None:
        """Write the signed bundle of a release whose blobs lie in ``store`` by their digests."""
        build_carrier(
            path,
            [self.root],
            release,
            lambda sha256: (store / sha256).open("rb", buffering=0),
            expires=EXPIRES,
        )
        sign(path, [self.signer])

    def sparse_bundle(self, path: Path, release: Release) -> None:
        """Write a signed bundle whose content is holes: whoever reads metadata alone sees no difference.

        The digests are signed and untrue, so it would be refused as soon as content is read.
        """
        release_json = release_to_bytes(release)
        chunks = bytes(_DIGEST_BYTES * sum(chunk_count(blob.size_bytes) for blob in release.blobs))
        envelope = targets_envelope(release, release_json, chunks, EXPIRES)
        envelope.sign(self.signer)
        targets = envelope_to_bytes(envelope)
        with path.open("wb", buffering=0) as file:
            _put(file, FORMAT_MEMBER, format_line())
            _put(file, root_member(1), self.root)
            _put(file, TARGETS_MEMBER, targets)
            _put(file, ROOM_MEMBER, bytes(room_bytes(targets)))
            _put(file, RELEASE_TARGET, release_json)
            _put(file, CHUNKS_TARGET, chunks)
            for blob in release.blobs:
                file.write(member_header(blob_member(blob.sha256), blob.size_bytes))
                file.seek(file.tell() + blob.size_bytes + padding_bytes(blob.size_bytes))
            file.write(END_OF_CARRIER)


def _put(file: FileIO, name: str, content: bytes) -> None:
    file.write(member_header(name, len(content)) + content + bytes(padding_bytes(len(content))))


def hollow_release(shards: int, shard_bytes: int, wheels: int) -> Release:
    """Return a release of made-up digests: shards of that size, wheels of 5 MB, a layer of 2 GB."""
    sizes = {f"shard-{number}": shard_bytes for number in range(shards)}
    sizes |= {f"wheel-{number}": 5_000_000 + number for number in range(wheels)}
    sizes |= {"layer-0": 2_000_000_000, "bom": 400_000, "image-manifest": 1_000, "image-config": 2_000}
    return release_of(
        {
            name: Blob(sha256=hashlib.sha256(name.encode()).hexdigest(), size_bytes=size)
            for name, size in sizes.items()
        }
    )


#: 40 shards of 5 GB, as a large model has them, and the wheels of the whole stack.
HOLLOW_SHARDS, HOLLOW_SHARD_BYTES, HOLLOW_WHEELS = 40, 5_000_000_000, 250


def adopt_script(root: Path, first_root: Path, product: str = PRODUCT) -> tuple[str, ...]:
    """Return the arguments after ``python`` that make a server in ``root`` trust this first root.

    It is what ``appliance.pyz adopt`` does, without the zip.
    """
    code = (
        "import sys; from pathlib import Path\n"
        "from appliance.__main__ import main; from appliance.state import FirstContact\n"
        "root, envelope, product = sys.argv[1:]\n"
        "main(['--root', root, 'adopt'], FirstContact(Path(envelope).read_bytes(), product, None))"
    )
    return ("-P", "-c", code, str(root), str(first_root), product)
