"""Rules 1 to 3 of ``appliance.verify``: what an envelope is, whose signature counts, which root is newest.

The rules are numbered where they are listed, in ``appliance/verify.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from securesystemslib.signer._key import SSlibKey
from tuf.api._payload import Root, Targets

from appliance.errors import Incomplete, Untrusted
from appliance.format import (
    BUILD_AGAIN,
    RIGHT_BUNDLE,
    ROOTS_MAX,
    canonical_json,
    envelope_from_bytes,
    envelope_to_bytes,
    root_member,
    sha256_hex,
    strict_payload,
)
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from securesystemslib.signer._key import Key
    from tuf.api._payload import Role
    from tuf.api.dsse import SimpleEnvelope

KEY_TYPE = "ecdsa"
KEY_SCHEME = "ecdsa-sha2-nistp256"
_SIGNING_ROLES = (Root.type, Targets.type)
_UNUSED_ROLES = ("snapshot", "timestamp")
_TRUSTED_ROOT = "trusted root"
_REASON_CHARACTERS = 500
_Metadata = TypeVar("_Metadata", Root, Targets)


# --- Rule 1 ---------------------------------------------------------------------------------------------


def open_envelope(raw: bytes, where: str) -> SimpleEnvelope[Any]:
    """Parse an envelope, and only the envelope; ``Untrusted`` for any other spelling of it."""
    envelope = envelope_from_bytes(raw, where)
    if envelope_to_bytes(envelope) != raw:
        raise Untrusted(
            text("the signed envelope is not in canonical form"), where=where, remedy=RIGHT_BUNDLE
        )
    return envelope


# --- Rule 2 ---------------------------------------------------------------------------------------------


def trusted_root(raw: bytes) -> Root:
    """Parse the envelope of a root that is trusted already; ``Untrusted`` where it does not sign itself."""
    envelope = open_envelope(raw, _TRUSTED_ROOT)
    root = parse_signed(envelope, Root, _TRUSTED_ROOT)
    check_root(root)
    _check_own_signatures(root, None, envelope, _TRUSTED_ROOT)
    return root


def follow_roots(
    carried: tuple[bytes, ...], trusted: bytes, older: tuple[bytes, ...] = ()
) -> tuple[Root, tuple[bytes, ...]]:
    """Go from the trusted root to the newest one carried; return it, and the envelopes that are new.

    ``older``: the roots 1.. that were trusted here before, as far as they are known. The new roots hold
    whatever becomes of the rest of the bundle: a revocation counts at once.
    """
    root = trusted_root(trusted)
    start = root.version
    _check_count(carried, start)
    before = _check_older(carried[: start - 1], older[: start - 1])
    for version, raw in enumerate(carried[start - 1 :], start=start):
        where = root_member(version)
        envelope = open_envelope(raw, where)
        if version == start:
            _check_unchanged(envelope, open_envelope(trusted, _TRUSTED_ROOT), where)
            _check_own_signatures(root, before, envelope, where)
        else:
            root = _next_root(root, envelope, where)
    return root, carried[start:]


def _check_count(carried: tuple[bytes, ...], known: int) -> None:
    if not carried:
        raise Incomplete(
            text("the bundle carries no root metadata"), where=root_member(1), remedy=RIGHT_BUNDLE
        )
    if len(carried) > ROOTS_MAX:
        raise Untrusted(
            text("the bundle carries more roots than allowed"),
            where=root_member(ROOTS_MAX + 1),
            expected=ROOTS_MAX,
            remedy=RIGHT_BUNDLE,
        )
    if len(carried) < known:
        # No signature says how many roots travel: one that was left out must not look like an older chain.
        raise Incomplete(
            text("the bundle carries fewer roots than this server knows"),
            where=root_member(len(carried) + 1),
            expected=known,
            seen=len(carried),
            remedy=text("have the bundle built again with every root, and carry that one in"),
        )


def _check_older(carried: tuple[bytes, ...], known: tuple[bytes, ...]) -> Root | None:
    """Hold the roots before the trusted one to what was trusted here; return the last, where it is known.

    They decide nothing any more, but nothing that nobody signed may ride along in their place either.
    """
    for version, raw in enumerate(carried, start=1):
        open_envelope(raw, root_member(version))
    for version, (raw, held) in enumerate(zip(carried, known, strict=False), start=1):
        if raw != held:
            raise _another_root(root_member(version), held, raw)
    return trusted_root(known[-1]) if known and len(known) == len(carried) else None


def _check_unchanged(envelope: SimpleEnvelope[Any], trusted: SimpleEnvelope[Any], where: str) -> None:
    if envelope.payload != trusted.payload:
        raise _another_root(where, trusted.payload, envelope.payload)


def _another_root(where: str, expected: bytes, seen: bytes) -> Untrusted:
    return Untrusted(
        text("the bundle carries another root of the version that this server trusts"),
        where=where,
        expected=sha256_hex(expected),
        seen=sha256_hex(seen),
        remedy=text(
            "compare the bundle with its paper; where that announces new root keys, copy its "
            "appliance.pyz and run: python3 -I appliance.pyz adopt"
        ),
    )


def _check_own_signatures(root: Root, before: Root | None, envelope: SimpleEnvelope[Any], where: str) -> None:
    """Check the signatures on a root, and those of the root before it, which is not always at hand."""
    check_signatures(root, Root.type, envelope, where)
    if before is not None:
        check_signatures(before, Root.type, envelope, where)
    if before is not None or root.version == 1:
        known = key_ids(before, Root.type) if before is not None else frozenset[str]()
        refuse_strangers(envelope, known | key_ids(root, Root.type), where)


def _next_root(old: Root, envelope: SimpleEnvelope[Any], where: str) -> Root:
    check_signatures(old, Root.type, envelope, where)
    new = parse_signed(envelope, Root, where)
    if new.version > old.version + 1:
        raise Incomplete(
            text("root version {version} is missing", version=old.version + 1),
            where=where,
            seen=new.version,
            remedy=BUILD_AGAIN,
        )
    if new.version != old.version + 1:
        raise Untrusted(
            text("the roots do not follow one another"),
            where=where,
            expected=old.version + 1,
            seen=new.version,
            remedy=BUILD_AGAIN,
        )
    check_root(new)
    check_signatures(new, Root.type, envelope, where)
    refuse_strangers(envelope, key_ids(old, Root.type) | key_ids(new, Root.type), where)
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
            seen=str(error)[:_REASON_CHARACTERS],
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


# --- Shared by rules 2 and 4 ----------------------------------------------------------------------------


def parse_signed(envelope: SimpleEnvelope[Any], kind: type[_Metadata], where: str) -> _Metadata:
    """Parse a payload whose signatures have been checked; one spelling, as for envelopes."""
    payload = strict_payload(envelope.payload, where)
    try:
        signed = kind.from_dict(payload)
        canonical = canonical_json(signed.to_dict())
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError) as error:
        raise Untrusted(
            text("the signed metadata is malformed"),
            where=where,
            seen=repr(error)[:_REASON_CHARACTERS],
            remedy=BUILD_AGAIN,
        ) from error
    if canonical != envelope.payload:
        raise Untrusted(text("the signed metadata is not in canonical form"), where=where, remedy=BUILD_AGAIN)
    return signed


def check_signatures(root: Root, role: str, envelope: SimpleEnvelope[Any], where: str) -> None:
    """Require the threshold of that role's keys, and no bad signature by any of them."""
    result = root.get_verification_result(role, envelope.pae(), envelope.signatures)
    bad = sorted(envelope.signatures.keys() & result.unsigned.keys())
    if bad:
        raise Untrusted(
            text("a signature does not fit what it signs"), where=where, seen=bad[0], remedy=RIGHT_BUNDLE
        )
    if not result.verified:
        raise Untrusted(
            text("too few of the trusted keys have signed"),
            where=where,
            expected=result.threshold,
            seen=len(result.signed),
            remedy=RIGHT_BUNDLE,
        )


def refuse_strangers(envelope: SimpleEnvelope[Any], known: AbstractSet[str], where: str) -> None:
    """Require that nobody but these keys has signed."""
    strangers = sorted(envelope.signatures.keys() - known)
    if strangers:
        raise Untrusted(
            text("a key that is not trusted here has signed too"),
            where=where,
            seen=strangers[0],
            remedy=RIGHT_BUNDLE,
        )


def key_ids(root: Root, role: str) -> AbstractSet[str]:
    """Return the ids of a role's keys."""
    return set(root.roles[role].keyids)


def _fail(reason: str) -> NoReturn:
    raise ValueError(reason)
