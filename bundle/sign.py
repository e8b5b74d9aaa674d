"""Signing, which touches the head of a carrier and nothing else, and judging the result as a server would."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
    release_from_bytes,
    sha256_hex,
)
from appliance.media import open_carrier, room_bytes
from appliance.pieces import digest_of
from appliance.text import text
from appliance.verify import Trust, TrustedBundle, open_envelope, parse_targets, trusted_root, verify
from bundle.pack import inspect
from bundle.request import import_signature
from bundle.root import Quorum, quorum

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from securesystemslib.signer._crypto_signer import CryptoSigner
    from tuf.api.dsse import SimpleEnvelope

    from appliance.format import Blob, Release
    from appliance.media import Carrier


@dataclass(frozen=True, slots=True)
class Signable:
    """What a carrier gives to be signed: the targets, and the newest root, which names who may sign them.

    ``roots``: the envelopes of all roots that it carries; ``release_sha256``: digest of ``release.json``;
    ``start``, ``end``: where targets and room lie.
    """

    envelope: SimpleEnvelope[Any]
    release: Release
    release_sha256: str
    root: Root
    roots: tuple[bytes, ...]
    start: int
    end: int

    @property
    def quorum(self) -> Quorum:
        """How far the release keys are with signing; ``Untrusted`` for a bad signature."""
        return quorum(self.root, Targets.type, self.envelope, TARGETS_MEMBER)


def read_signable(path: Path) -> Signable:
    """Read what is to be signed, compared with ``release.json`` and ``chunks.bin``.

    So nobody signs what the carrier does not hold. Raises ``Tampered``, and what the carrier raises.
    """
    with open_carrier(path) as carrier:
        envelope = open_envelope(carrier.envelopes().targets, TARGETS_MEMBER)
        targets = parse_targets(envelope)
        release_json, _ = (
            _checked_target(carrier, targets, name) for name in (RELEASE_TARGET, CHUNKS_TARGET)
        )
        roots = carrier.envelopes().roots
        root = trusted_root(roots[-1])  # it names the keys; it proves nothing here
        release = release_from_bytes(release_json)
        head = carrier.head
        sha256 = sha256_hex(release_json)
        return Signable(envelope, release, sha256, root, roots, head.targets_offset, head.end)


def sign(
    path: Path,
    signers: Sequence[CryptoSigner],
    signatures: Sequence[Path] = (),
    signable: Signable | None = None,
) -> tuple[str, ...]:
    """Add signatures to a carrier in place; return the key ids of all that are on it now.

    ``signatures``: files that custodians made of the exported bytes; ``signable``: what was read of the
    carrier before, and shown or written down: then that is signed, whatever the file is by now. Raises what
    ``read_signable`` raises, and ``BadInput`` for a key that the newest root does not name; the carrier is
    then as it was.
    """
    signable = signable or read_signable(path)
    refuse_strangers(signable, signers)
    for signature in signatures:
        keys = [signable.root.keys[key_id] for key_id in signable.root.roles[Targets.type].keyids]
        import_signature(signable.envelope, signature, keys)
    for signer in signers:
        signable.envelope.sign(signer)
    signed = signable.quorum.signed
    content = envelope_to_bytes(signable.envelope)
    _overwrite(path, signable.start, _targets_and_room(content, signable.end - signable.start))
    return signed


def refuse_strangers(signable: Signable, signers: Sequence[CryptoSigner]) -> None:
    """Raise ``BadInput`` where one of these is no release key of the carrier's newest root."""
    for signer in signers:
        _check_known(signer.public_key.keyid, signable.root)


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
    seen = digest_of(carrier.blob(blob)).hex()
    if seen != blob.sha256:
        raise Tampered(
            text("a blob is not what was signed"),
            where=carrier.path,
            expected=blob.sha256,
            seen=seen,
            remedy=text("build the bundle again"),
        )


def _checked_target(carrier: Carrier, targets: Targets, name: str) -> bytes:
    described = targets.targets[name]
    content = carrier.target(name, described.length)
    seen = sha256_hex(content)
    if seen != described.hashes["sha256"]:
        raise Tampered(
            text("{name} is not what is about to be signed", name=name),
            where=carrier.path,
            expected=described.hashes["sha256"],
            seen=seen,
            remedy=text("build the bundle again"),
        )
    return content


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
