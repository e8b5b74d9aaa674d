"""Whether a bundle is trusted: numbered rules, applied in this order, before anything is written.

1.  Every envelope is well-formed and in the one spelling that Banip writes.
2.  The roots follow one another from the trusted one, each version the one before plus one, each signed
    by the threshold of the root before it, and only then parsed, and by its own threshold. Carried roots
    older than the trusted one decide nothing; the one of the trusted version says what it said.
3.  A root's keys are distinct public keys, each named by its own digest (``check_root``).
4.  The targets are signed by the threshold of release keys of the newest root, and only then parsed; they
    name ``release.json`` and ``chunks.bin``, nothing else, and delegate nothing.
5.  Both have the signed length and SHA-256; only then they are parsed.
6.  The release carries the number under which it was signed.
7.  It is meant for this product and, where it names a site, for this site.
8.  It is not older than what was here before, and no other release under the same number.
9.  Neither root nor targets have expired, unless the operator typed the id of this release.

In rules 2 and 4 every signature present must be good, beyond the threshold too: nothing unsigned rides
along. Source: TUF 1.0.31, section 5 (without snapshot and timestamp); DSSE 1.0.2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from securesystemslib.signer._key import SSlibKey
from tuf.api._payload import Root, Targets

from appliance.errors import Incomplete, Tampered, Untrusted
from appliance.format import (
    CHUNKS_TARGET,
    RELEASE_MAX_BYTES,
    RELEASE_TARGET,
    ROOTS_MAX,
    TARGETS_MEMBER,
    ChunkTable,
    Release,
    canonical_json,
    envelope_from_bytes,
    envelope_to_bytes,
    release_from_bytes,
    root_member,
    sha256_hex,
    strict_payload,
)
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from datetime import datetime

    from securesystemslib.signer._key import Key
    from tuf.api._payload import Role, TargetFile
    from tuf.api.dsse import SimpleEnvelope

KEY_TYPE = "ecdsa"
KEY_SCHEME = "ecdsa-sha2-nistp256"
_SIGNING_ROLES = (Root.type, Targets.type)
_UNUSED_ROLES = ("snapshot", "timestamp")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Envelopes:
    """The signed metadata as carried: the roots of versions 1..N in order, and the targets."""

    roots: tuple[bytes, ...]
    targets: bytes


class Source(Protocol):
    """Where a bundle's metadata comes from: a carrier, a release folder, a test's world."""

    def envelopes(self) -> Envelopes:
        """Return the envelopes, unverified."""

    def target(self, name: str, length: int) -> bytes:
        """Return ``release.json`` or ``chunks.bin``: exactly ``length`` bytes, unverified."""


@dataclass(frozen=True, slots=True)
class Floor:
    """The newest release that counted here: nothing older comes in."""

    counter: int
    release_sha256: str


@dataclass(frozen=True, slots=True)
class Trust:
    """What this server goes by: the newest trusted root envelope, and what it is a server of."""

    root: bytes
    product: str
    site: str | None
    floor: Floor | None


@dataclass(frozen=True, slots=True)
class TrustedBundle:
    """The proof that ``verify`` passed; ``new_roots`` are the envelopes newer than the trusted root."""

    release: Release
    chunks: ChunkTable
    roots: tuple[bytes, ...]
    targets: bytes
    release_json: bytes
    chunks_bin: bytes
    root_version: int
    new_roots: tuple[bytes, ...]
    expires: datetime
    expired: bool


def verify(
    source: Source, trust: Trust, *, reference_time: datetime, accept_expired: str | None = None
) -> TrustedBundle:
    """Apply the rules of this module to a bundle.

    ``reference_time``: aware, the clock rule's; ``accept_expired``: the release id that the operator typed.
    Raises ``Untrusted``, ``Tampered``, ``Incomplete`` or ``UnfitServer``, and what the source raises.
    """
    envelopes = source.envelopes()
    root, new_roots = follow_roots(envelopes.roots, trust.root)  # rules 1, 2, 3
    targets = _trusted_targets(envelopes.targets, root)  # rules 1, 4
    release_json = _read(source, targets.targets[RELEASE_TARGET])  # rule 5
    chunks_bin = _read(source, targets.targets[CHUNKS_TARGET])
    release = release_from_bytes(release_json)
    chunks = ChunkTable(release, chunks_bin)
    _check_number(release, targets)  # rule 6
    _check_binding(release, trust)  # rule 7
    _check_freshness(release, sha256_hex(release_json), trust.floor)  # rule 8
    expires = min(root.expires, targets.expires)
    expired = reference_time >= expires
    if expired:
        _check_accepted(release, expires, reference_time, accept_expired)  # rule 9
    return TrustedBundle(
        release=release,
        chunks=chunks,
        roots=envelopes.roots,
        targets=envelopes.targets,
        release_json=release_json,
        chunks_bin=chunks_bin,
        root_version=root.version,
        new_roots=new_roots,
        expires=expires,
        expired=expired,
    )


def first_trust(root: bytes, product: str, site: str | None) -> Trust:
    """Begin to trust a root that a person vouches for, having compared its digest with the paper.

    Raises ``Untrusted`` where the root does not even agree with itself (rules 1 to 3).
    """
    trusted_root(root)
    return Trust(root=root, product=product, site=site, floor=None)


def trusted_root(raw: bytes) -> Root:
    """Parse the envelope of a root that is trusted already, and check that it is signed by itself."""
    envelope = open_envelope(raw, _TRUSTED_ROOT)
    root = _parse(envelope, Root, _TRUSTED_ROOT)
    check_root(root)
    _check_own_signatures(root, envelope, _TRUSTED_ROOT)
    return root


# --- Rule 1 ---------------------------------------------------------------------------------------------


def open_envelope(raw: bytes, where: str) -> SimpleEnvelope[Any]:
    """Parse an envelope, and only the envelope; ``Untrusted`` for any other spelling of it."""
    envelope = envelope_from_bytes(raw, where)
    if envelope_to_bytes(envelope) != raw:
        raise Untrusted(text("the signed envelope is not in canonical form"), where=where)
    return envelope


# --- Rule 2 ---------------------------------------------------------------------------------------------

_TRUSTED_ROOT = "trusted root"


def follow_roots(carried: tuple[bytes, ...], trusted: bytes) -> tuple[Root, tuple[bytes, ...]]:
    """Go from the trusted root to the newest one carried; return it, and the envelopes that are new.

    The new roots hold whatever becomes of the rest of the bundle: a revocation counts at once.
    """
    root = trusted_root(trusted)
    start = root.version
    if not carried:
        raise Incomplete(text("the bundle carries no root metadata"), where=root_member(1))
    if len(carried) > ROOTS_MAX:
        raise Untrusted(text("the bundle carries more roots than allowed"), expected=ROOTS_MAX)
    for version, raw in enumerate(carried, start=1):
        where = root_member(version)
        envelope = open_envelope(raw, where)
        if version == start:
            _check_unchanged(root, envelope, open_envelope(trusted, _TRUSTED_ROOT), where)
        elif version > start:
            root = _next_root(root, envelope, where)
    return root, carried[start:]


def _check_unchanged(
    root: Root, envelope: SimpleEnvelope[Any], trusted: SimpleEnvelope[Any], where: str
) -> None:
    if envelope.payload != trusted.payload:
        raise Untrusted(
            text("the bundle carries another root of the version that this server trusts"),
            where=where,
            expected=sha256_hex(trusted.payload),
            seen=sha256_hex(envelope.payload),
            remedy=_RIGHT_BUNDLE,
        )
    _check_own_signatures(root, envelope, where)


def _check_own_signatures(root: Root, envelope: SimpleEnvelope[Any], where: str) -> None:
    _check_signatures(root, Root.type, envelope, where)
    if root.version == 1:  # a later one is also signed by the root before it, which is not at hand here
        _refuse_strangers(envelope, _key_ids(root, Root.type), where)


def _next_root(old: Root, envelope: SimpleEnvelope[Any], where: str) -> Root:
    _check_signatures(old, Root.type, envelope, where)
    new = _parse(envelope, Root, where)
    if new.version > old.version + 1:
        raise Incomplete(
            text("root version {version} is missing", version=old.version + 1), where=where, seen=new.version
        )
    if new.version != old.version + 1:
        raise Untrusted(
            text("the roots do not follow one another"),
            where=where,
            expected=old.version + 1,
            seen=new.version,
        )
    check_root(new)
    _check_signatures(new, Root.type, envelope, where)
    _refuse_strangers(envelope, _key_ids(old, Root.type) | _key_ids(new, Root.type), where)
    return new


# --- Rule 3 ---------------------------------------------------------------------------------------------


def check_root(root: Root) -> None:
    """Refuse a root whose keys are not distinct ECDSA P-256 keys, each named by its own digest.

    Used where a root is made and where one is trusted, so the two cannot drift apart. A key may serve
    two roles; it may not have two names. Raises ``Untrusted``.
    """
    try:
        _check_plain(root)
        for key_id, key in root.keys.items():
            _check_key(key_id, key)
        for name in _SIGNING_ROLES:
            _check_role(name, root.roles[name], root.keys)
        for name in _UNUSED_ROLES:
            if root.roles[name].keyids:
                _fail(f"the role {name} has keys, and Banip does not use it")
        if set(root.keys) != {key_id for role in root.roles.values() for key_id in role.keyids}:
            _fail("a key that no role uses, or a role that uses a key which is not there")
    except (ValueError, TypeError) as error:
        raise Untrusted(
            text("the keys of the root metadata are not acceptable"),
            where=root_member(root.version),
            seen=error,
            remedy=text("have the root made again with: build.py keys"),
        ) from error


def key_id_of(public: EllipticCurvePublicKey) -> str:
    """Return the key id: SHA-256 of the DER SubjectPublicKeyInfo with the uncompressed point.

    By hand: ``openssl pkey -pubin -outform DER | sha256sum``. Source: RFC 5480, section 2.
    """
    return sha256_hex(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _check_plain(root: Root) -> None:
    if type(root.version) is not int or any(type(role.threshold) is not int for role in root.roles.values()):
        _fail("a number that is not a whole number")
    if root.unrecognized_fields or any(role.unrecognized_fields for role in root.roles.values()):
        _fail("a member that Banip does not know")


def _check_key(key_id: str, key: Key) -> None:
    if (key.keytype, key.scheme) != (KEY_TYPE, KEY_SCHEME) or not isinstance(key, SSlibKey):
        _fail(f"key {key_id} is not of type {KEY_TYPE}, scheme {KEY_SCHEME}")
    if set(key.keyval) != {"public"} or key.unrecognized_fields:
        _fail(f"key {key_id} has a member that Banip does not know")
    pem = key.keyval["public"]
    try:
        public = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        _fail(f"key {key_id} is no public key")
    if not isinstance(public, EllipticCurvePublicKey) or not isinstance(public.curve, SECP256R1):
        _fail(f"key {key_id} is not on P-256")
    # One key has one spelling and that spelling one name: two names cannot be one key.
    if public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode() != pem:
        _fail(f"key {key_id} is not in the one spelling that Banip writes")
    if key_id_of(public) != key_id:
        _fail(f"key {key_id} is not named by its own digest, {key_id_of(public)}")


def _check_role(name: str, role: Role, keys: dict[str, Key]) -> None:
    distinct = set(role.keyids)
    if not distinct or len(distinct) != len(role.keyids) or not distinct <= set(keys):
        _fail(f"the role {name} does not have a list of distinct keys")
    if not 1 <= role.threshold <= len(distinct):
        _fail(f"the role {name} asks for {role.threshold} of {len(distinct)} keys")


# --- Rule 4 ---------------------------------------------------------------------------------------------


def _trusted_targets(raw: bytes, root: Root) -> Targets:
    envelope = open_envelope(raw, TARGETS_MEMBER)
    _check_signatures(root, Targets.type, envelope, TARGETS_MEMBER)
    _refuse_strangers(envelope, _key_ids(root, Targets.type), TARGETS_MEMBER)
    return parse_targets(envelope)


def parse_targets(envelope: SimpleEnvelope[Any]) -> Targets:
    """Parse targets whose signatures have been checked (the online side also shows unsigned ones)."""
    targets = _parse(envelope, Targets, TARGETS_MEMBER)
    try:
        _check_targets(targets)
    except ValueError as error:
        raise Untrusted(text("the signed metadata is malformed"), where=TARGETS_MEMBER, seen=error) from error
    return targets


def _check_targets(targets: Targets) -> None:
    if targets.delegations is not None or targets.unrecognized_fields or type(targets.version) is not int:
        _fail("delegations, or a member that Banip does not know")
    if set(targets.targets) != {RELEASE_TARGET, CHUNKS_TARGET}:
        _fail(f"not exactly {RELEASE_TARGET} and {CHUNKS_TARGET}")
    for name, file in targets.targets.items():
        if type(file.length) is not int or not 0 <= file.length <= RELEASE_MAX_BYTES:
            _fail(f"{name} is larger than {RELEASE_MAX_BYTES} bytes")
        if set(file.hashes) != {"sha256"} or not _SHA256.fullmatch(file.hashes["sha256"]):
            _fail(f"{name} does not have exactly a SHA-256")
        if file.unrecognized_fields:
            _fail(f"{name} has a member that Banip does not know")


# --- Rule 5 ---------------------------------------------------------------------------------------------


def _read(source: Source, file: TargetFile) -> bytes:
    data = source.target(file.path, file.length)
    if len(data) != file.length or sha256_hex(data) != file.hashes["sha256"]:
        raise Tampered(
            text("{name} is not what was signed", name=file.path),
            where=file.path,
            expected=file.hashes["sha256"],
            seen=sha256_hex(data),
            remedy=text("copy the bundle again from the machine that built it"),
        )
    return data


# --- Rules 6, 7, 8, 9 -----------------------------------------------------------------------------------

_RIGHT_BUNDLE = text("compare the bundle with the paper that came with it")


def _check_number(release: Release, targets: Targets) -> None:
    if release.counter != targets.version:
        raise Tampered(
            text("the release and its signature carry different numbers"),
            where=RELEASE_TARGET,
            expected=targets.version,
            seen=release.counter,
        )


def _check_binding(release: Release, trust: Trust) -> None:
    if release.product != trust.product:
        raise Untrusted(
            text("the bundle is for another product"),
            expected=trust.product,
            seen=release.product,
            remedy=_RIGHT_BUNDLE,
        )
    if release.site is not None and release.site != trust.site:
        raise Untrusted(
            text("the bundle is for another site"),
            expected=trust.site if trust.site is not None else text("no site name"),
            seen=release.site,
            remedy=_RIGHT_BUNDLE,
        )


def _check_freshness(release: Release, release_sha256: str, floor: Floor | None) -> None:
    if floor is None or release.counter > floor.counter:
        return
    if release.counter < floor.counter:
        raise Untrusted(
            text("the bundle is older than what this server has had"),
            expected=text("counter {counter} or higher", counter=floor.counter),
            seen=release.counter,
            remedy=text("to go back further, have the old lock released again under a higher counter"),
        )
    if release_sha256 != floor.release_sha256:
        raise Untrusted(
            text(
                "someone signed two different releases under one number: this is not the release that was "
                "accepted here as counter {counter}",
                counter=floor.counter,
            ),
            expected=floor.release_sha256,
            seen=release_sha256,
            remedy=text("tell those who hold the release keys; install neither until they have explained it"),
        )


def _check_accepted(
    release: Release, expires: datetime, reference_time: datetime, accept_expired: str | None
) -> None:
    if accept_expired != release.id:
        raise Untrusted(
            text("the signatures on the bundle have expired"),
            expected=text("a time before {time}", time=expires.isoformat()),
            seen=reference_time.isoformat(),
            remedy=text("check the clock; to accept it all the same, type {release}", release=release.id),
        )


# --- Shared by rules 2 and 4 ----------------------------------------------------------------------------

_Metadata = TypeVar("_Metadata", Root, Targets)


def _parse(envelope: SimpleEnvelope[Any], kind: type[_Metadata], where: str) -> _Metadata:
    payload = strict_payload(envelope.payload, where)
    try:
        signed = kind.from_dict(payload)
        canonical = canonical_json(signed.to_dict())
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError) as error:
        raise Untrusted(text("the signed metadata is malformed"), where=where, seen=repr(error)) from error
    if canonical != envelope.payload:
        raise Untrusted(text("the signed metadata is not in canonical form"), where=where)
    return signed


def _check_signatures(root: Root, role: str, envelope: SimpleEnvelope[Any], where: str) -> None:
    result = root.get_verification_result(role, envelope.pae(), envelope.signatures)
    bad = sorted(envelope.signatures.keys() & result.unsigned.keys())
    if bad:
        raise Untrusted(text("a signature does not fit what it signs"), where=where, seen=bad[0])
    if not result.verified:
        raise Untrusted(
            text("too few of the trusted keys have signed"),
            where=where,
            expected=result.threshold,
            seen=len(result.signed),
            remedy=_RIGHT_BUNDLE,
        )


def _refuse_strangers(envelope: SimpleEnvelope[Any], known: AbstractSet[str], where: str) -> None:
    strangers = sorted(envelope.signatures.keys() - known)
    if strangers:
        raise Untrusted(
            text("a key that is not trusted here has signed too"),
            where=where,
            seen=strangers[0],
            remedy=_RIGHT_BUNDLE,
        )


def _key_ids(root: Root, role: str) -> AbstractSet[str]:
    return set(root.roles[role].keyids)


def _fail(reason: str) -> NoReturn:
    raise ValueError(reason)
