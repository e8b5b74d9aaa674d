"""Signing, which touches the head of a carrier and nothing else, and judging the result as a server would."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from tuf.api._payload import Root, Targets

from appliance.errors import BadInput, Tampered, Untrusted
from appliance.format import (
    CHUNKS_TARGET,
    RELEASE_TARGET,
    ROOM_MEMBER,
    TARGETS_MEMBER,
    envelope_to_bytes,
    member_header,
    padding_bytes,
    sha256_hex,
)
from appliance.media import open_carrier, room_bytes
from appliance.text import text
from appliance.verify import Trust, TrustedBundle, open_envelope, parse_targets, trusted_root, verify
from bundle.pack import inspect

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from securesystemslib.signer._crypto_signer import CryptoSigner

    from appliance.format import Blob
    from appliance.media import Carrier


def sign(path: Path, signers: Sequence[CryptoSigner]) -> tuple[str, ...]:
    """Add signatures to a carrier in place; return the key ids of all that are on it now.

    What is signed is compared with ``release.json`` and ``chunks.bin`` first: nobody signs what the
    carrier does not hold. Raises ``Tampered``, and ``BadInput`` for a key that the newest root does not name.
    """
    with open_carrier(path) as carrier:
        envelope = open_envelope(carrier.envelopes().targets, TARGETS_MEMBER)
        targets = parse_targets(envelope)
        for name in (RELEASE_TARGET, CHUNKS_TARGET):
            _check_target(carrier, targets, name)
        root = trusted_root(carrier.envelopes().roots[-1])  # it names the keys; it proves nothing here
        start, end = carrier.head.targets_offset, carrier.head.end
    for signer in signers:
        _check_known(signer.public_key.keyid, root)
        envelope.sign(signer)
    rewritten = _targets_and_room(envelope_to_bytes(envelope), end - start)
    _overwrite(path, start, rewritten)
    return tuple(sorted(envelope.signatures))


def verify_own(path: Path, roots: Sequence[bytes], *, reference_time: datetime) -> TrustedBundle:
    """Judge a carrier as servers would: one that knows only the first root, and one that knows the newest.

    Everything is checked, every blob's content too. Raises ``Untrusted`` for a bundle that nobody signed,
    and what ``verify`` and the carrier raise.
    """
    contents = inspect(path)
    if not contents.signed_by:
        raise Untrusted(
            text("the bundle is not signed yet"),
            where=path,
            remedy=text("sign it first, with: build.py sign"),
        )
    release = contents.release
    with open_carrier(path) as carrier:
        for root in (roots[-1], roots[0]):
            trust = Trust(root=root, product=release.product, site=release.site, floor=None)
            bundle = verify(carrier, trust, reference_time=reference_time)
        carrier.check_layout(bundle.release)
        for blob in bundle.release.blobs:
            _check_blob(carrier, blob)
    return bundle


def _check_blob(carrier: Carrier, blob: Blob) -> None:
    digest = hashlib.sha256()
    for piece in carrier.blob(blob):
        digest.update(piece)
    if digest.hexdigest() != blob.sha256:
        raise Tampered(
            text("a blob is not what was signed"),
            where=carrier.path,
            expected=blob.sha256,
            seen=digest.hexdigest(),
            remedy=text("build the bundle again"),
        )


def _check_target(carrier: Carrier, targets: Targets, name: str) -> None:
    described = targets.targets[name]
    seen = sha256_hex(carrier.target(name, described.length))
    if seen != described.hashes["sha256"]:
        raise Tampered(
            text("{name} is not what is about to be signed", name=name),
            where=carrier.path,
            expected=described.hashes["sha256"],
            seen=seen,
            remedy=text("build the bundle again"),
        )


def _check_known(key_id: str, root: Root) -> None:
    known = root.roles[Targets.type].keyids
    if key_id not in known:
        raise BadInput(
            text("this key is not one of the release keys that the bundle's root names"),
            expected=", ".join(known),
            seen=key_id,
            remedy=text("sign with a release key, or build again with the newest root"),
        )


def _targets_and_room(targets: bytes, size_bytes: int) -> bytes:
    """Return both members, headers and all: as many bytes as before, whoever signed."""
    room = room_bytes(targets)
    if room < 0:
        raise BadInput(text("there is no room for so many signatures"))
    found = member_header(TARGETS_MEMBER, len(targets)) + targets + bytes(padding_bytes(len(targets)))
    found += member_header(ROOM_MEMBER, room) + bytes(room)
    if len(found) != size_bytes:
        raise AssertionError(len(found), size_bytes)
    return found


def _overwrite(path: Path, offset: int, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.pwrite(descriptor, data, offset) != len(data):
            raise BadInput(text("the bundle could not be written"), where=path)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
