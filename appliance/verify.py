"""Whether a bundle is trusted: numbered rules, applied in this order, before anything is written.

1.  Every envelope is well-formed and in the one spelling that Banip writes.
2.  The roots follow one another from the trusted one, each version the one before plus one, each signed
    by the threshold of the root before it, and only then parsed, and by its own threshold. Carried roots
    older than the trusted one decide nothing, and are those that were trusted here; the one of the
    trusted version says what it said.
3.  A root's keys are distinct public keys, each named by its own digest (``check_root``).
4.  The targets are signed by the threshold of release keys of the newest root, and only then parsed; they
    name ``release.json`` and ``chunks.bin``, nothing else, and delegate nothing.
5.  Both have the signed length and SHA-256; only then they are parsed.
6.  The release carries the number under which it was signed.
7.  It is meant for this product and, where it names a site, for this site.
8.  It is not older than what was here before, and no other release under the same number; or it is the
    very release in use.
9.  Neither root nor targets have expired, unless the operator typed the id of this release.

In rules 2 and 4 every signature present must be good, beyond the threshold too: nothing unsigned rides
along. Rules 1 to 3 are in ``appliance/roots.py``, which this module gives out as its own.
Source: TUF 1.0.31, section 5 (without snapshot and timestamp); DSSE 1.0.2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, Protocol

from tuf.api._payload import Targets

from appliance.errors import Expired, Tampered, Untrusted
from appliance.format import (
    BUILD_AGAIN,
    CHUNKS_TARGET,
    RELEASE_MAX_BYTES,
    RELEASE_TARGET,
    RIGHT_BUNDLE,
    TARGETS_MEMBER,
    ChunkTable,
    Release,
    release_from_bytes,
    root_member,
    sha256_hex,
)
from appliance.roots import (
    KEY_SCHEME,
    check_root,
    check_signatures,
    follow_roots,
    key_id_of,
    key_ids,
    open_envelope,
    parse_signed,
    refuse_strangers,
    trusted_root,
)
from appliance.text import text

if TYPE_CHECKING:
    from datetime import datetime
    from typing import Any

    from tuf.api._payload import Root, TargetFile
    from tuf.api.dsse import SimpleEnvelope

__all__ = [
    "KEY_SCHEME",
    "Envelopes",
    "Floor",
    "Source",
    "Trust",
    "TrustedBundle",
    "check_root",
    "first_trust",
    "follow_roots",
    "key_id_of",
    "open_envelope",
    "parse_targets",
    "trusted_root",
    "verify",
]

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
    """What this server goes by: the newest trusted root envelope, what it is a server of, what it has had.

    ``installed_sha256``: digest of the ``release.json`` in use, which may lie below the floor. ``older``: the
    envelopes of the roots 1.. that were trusted before, empty where they are not known.
    """

    root: bytes
    product: str
    site: str | None
    floor: Floor | None
    installed_sha256: str | None = None
    older: tuple[bytes, ...] = ()


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
    root, new_roots = follow_roots(envelopes.roots, trust.root, trust.older)  # rules 1, 2, 3
    targets = _trusted_targets(envelopes.targets, root)  # rules 1, 4
    release_json = _read(source, targets.targets[RELEASE_TARGET])  # rule 5
    chunks_bin = _read(source, targets.targets[CHUNKS_TARGET])
    release = release_from_bytes(release_json)
    chunks = ChunkTable(release, chunks_bin)
    _check_number(release, targets)  # rule 6
    _check_binding(release, trust)  # rule 7
    _check_freshness(release, sha256_hex(release_json), trust)  # rule 8
    expires = min(root.expires, targets.expires)
    expired = reference_time >= expires
    if expired:
        where = TARGETS_MEMBER if expires == targets.expires else root_member(root.version)
        _check_accepted(release, where, expires, reference_time, accept_expired)  # rule 9
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


# --- Rule 4 ---------------------------------------------------------------------------------------------


def _trusted_targets(raw: bytes, root: Root) -> Targets:
    envelope = open_envelope(raw, TARGETS_MEMBER)
    check_signatures(root, Targets.type, envelope, TARGETS_MEMBER)
    refuse_strangers(envelope, key_ids(root, Targets.type), TARGETS_MEMBER)
    return parse_targets(envelope)


def parse_targets(envelope: SimpleEnvelope[Any]) -> Targets:
    """Parse targets whose signatures have been checked (the online side also shows unsigned ones)."""
    targets = parse_signed(envelope, Targets, TARGETS_MEMBER)
    try:
        _check_targets(targets)
    except ValueError as error:
        raise Untrusted(
            text("the signed metadata is malformed"), where=TARGETS_MEMBER, seen=error, remedy=BUILD_AGAIN
        ) from error
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


def _check_number(release: Release, targets: Targets) -> None:
    if release.counter != targets.version:
        raise Tampered(
            text("the release and its signature carry different numbers"),
            where=RELEASE_TARGET,
            expected=targets.version,
            seen=release.counter,
            remedy=BUILD_AGAIN,
        )


def _check_binding(release: Release, trust: Trust) -> None:
    if release.product != trust.product:
        raise Untrusted(
            text("the bundle is for another product"),
            where=RELEASE_TARGET,
            expected=trust.product,
            seen=release.product,
            remedy=RIGHT_BUNDLE,
        )
    if release.site is not None and release.site != trust.site:
        raise Untrusted(
            text("the bundle is for another site"),
            where=RELEASE_TARGET,
            expected=trust.site if trust.site is not None else text("no site name"),
            seen=release.site,
            remedy=RIGHT_BUNDLE,
        )


def _check_freshness(release: Release, release_sha256: str, trust: Trust) -> None:
    floor = trust.floor
    if floor is None or release.counter > floor.counter:
        return
    if release_sha256 == trust.installed_sha256:
        return  # what is in use may be repaired from its own bundle, after a rollback too
    if release.counter < floor.counter:
        raise Untrusted(
            text("the bundle is older than what this server has had"),
            where=RELEASE_TARGET,
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
            where=RELEASE_TARGET,
            expected=floor.release_sha256,
            seen=release_sha256,
            remedy=text("tell those who hold the release keys; install neither until they have explained it"),
        )


def _check_accepted(
    release: Release, where: str, expires: datetime, reference_time: datetime, accept_expired: str | None
) -> None:
    if accept_expired != release.id:
        raise Expired(
            text("the signatures on the bundle have expired"),
            where=where,
            expected=text("a time before {time}", time=expires.isoformat()),
            seen=reference_time.isoformat(),
            remedy=text(
                "check the clock; to accept it all the same: --accept-expired {release}", release=release.id
            ),
        )


def _fail(reason: str) -> NoReturn:
    raise ValueError(reason)
