"""Root metadata: which keys may sign what; made and signed here, judged by the server's own rules."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta, timezone
from typing import TYPE_CHECKING, Any

from tuf.api._payload import Role, Root, Targets
from tuf.api.dsse import SimpleEnvelope

from appliance.errors import BadInput, Untrusted
from appliance.format import canonical_json, envelope_to_bytes
from appliance.text import text
from appliance.verify import check_root

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from securesystemslib.signer._crypto_signer import CryptoSigner
    from securesystemslib.signer._key import Key

    from appliance.text import Text

WARN_DAYS = 90


@dataclass(frozen=True, slots=True)
class Quorum:
    """How far the keys that one root version names for a role are with signing; key ids, sorted."""

    root_version: int
    threshold: int
    signed: tuple[str, ...]
    waiting: tuple[str, ...]

    @property
    def lacking(self) -> int:
        """How many more must sign."""
        return max(0, self.threshold - len(self.signed))


def make_root(  # noqa: PLR0913, PLR0917 - a root is exactly these
    version: int,
    expires: datetime,
    root_signers: Iterable[CryptoSigner],
    root_threshold: int,
    release_signers: Iterable[CryptoSigner],
    release_threshold: int,
) -> Root:
    """Make root metadata and refuse it where a server would (``Untrusted``)."""
    root_keys = [signer.public_key for signer in root_signers]
    release_keys = [signer.public_key for signer in release_signers]
    return root_of(version, expires, root_keys, root_threshold, release_keys, release_threshold)


def root_of(  # noqa: PLR0913, PLR0917 - a root is exactly these
    version: int,
    expires: datetime,
    root_keys: Sequence[Key],
    root_threshold: int,
    release_keys: Sequence[Key],
    release_threshold: int,
) -> Root:
    """Make root metadata of public keys alone; ``Untrusted`` where a server would refuse it."""
    keys = {Root.type: root_keys, Targets.type: release_keys}
    thresholds = {Root.type: root_threshold, Targets.type: release_threshold}
    roles = {name: Role([key.keyid for key in keys[name]], thresholds[name]) for name in keys}
    root = Root(
        version=version,
        expires=expires.astimezone(timezone.utc),
        keys={key.keyid: key for name in keys for key in keys[name]},
        roles={**roles, "snapshot": Role([], 1), "timestamp": Role([], 1)},
        consistent_snapshot=False,
    )
    check_root(root)
    return root


def unsigned_root(root: Root) -> SimpleEnvelope[Any]:
    """Return the root as an envelope that nobody has signed."""
    return SimpleEnvelope(canonical_json(root.to_dict()), SimpleEnvelope.DEFAULT_PAYLOAD_TYPE, {})


def signed_root(root: Root, signers: Sequence[CryptoSigner]) -> bytes:
    """Return the root as an envelope, signed by these."""
    envelope = unsigned_root(root)
    for signer in signers:
        envelope.sign(signer)
    return envelope_to_bytes(envelope)


def quorum(root: Root, role: str, envelope: SimpleEnvelope[Any], where: object) -> Quorum:
    """Count whose signatures on the envelope are good; ``Untrusted`` for a bad one by a key of the role."""
    result = root.get_verification_result(role, envelope.pae(), envelope.signatures)
    bad = sorted(envelope.signatures.keys() & result.unsigned.keys())
    if bad:
        raise Untrusted(text("a signature does not fit what it signs"), where=where, seen=bad[0])
    signed, waiting = (tuple(sorted(keys)) for keys in (result.signed, result.unsigned))
    return Quorum(root.version, result.threshold, signed, waiting)


def check_numbers(role: Text, keys: int, threshold: int) -> None:
    """Raise ``BadInput`` for a threshold that the keys cannot reach."""
    if not 1 <= threshold <= keys:
        raise BadInput(
            text(
                "{threshold} of {count} {role} keys cannot be asked for",
                threshold=threshold,
                count=keys,
                role=role,
            )
        )


def days_left(expires: datetime, now: datetime) -> int:
    """Return the whole days until then; negative once it is over."""
    return (expires - now) // timedelta(days=1)


def expiry_warning(version: int, expires: datetime, now: datetime) -> Text | None:
    """Return what to say of a root that expires soon, or has; nothing while it has 90 days or more."""
    days = days_left(expires, now)
    if days >= WARN_DAYS:
        return None
    if days < 0:
        return text("root version {version} expired on {date}", version=version, date=expires.date())
    return text(
        "root version {version} expires in {days} days, on {date}",
        version=version,
        days=days,
        date=expires.date(),
    )


def renewal() -> Text:
    """Return the remedy for a root that expires."""
    return text("renew it: build.py keys rotate --valid-days 3650; servers learn of it with the next bundle")
