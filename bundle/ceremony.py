"""The key ceremony: from one root to the next, by as many custodians as both ask for.

A change is proposed, which makes a draft of the next root; each custodian signs it, here or on a machine of
their own; when the thresholds of the old root's keys and of the new root's own are met, it is the next root.
Every step may be cut off and done again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from tuf.api._payload import Root, Targets

from appliance.errors import BadInput
from appliance.format import ROOTS_MAX, canonical_json
from appliance.text import text
from appliance.verify import trusted_root
from bundle.draft import Draft, discard, finish, keep_signatures, read_draft, settle, write_draft
from bundle.folder import file_names, locked, next_number, roots
from bundle.keys import refuse_twice
from bundle.pair import PRIVATE, PUBLIC, encrypted_pem, make_signer, public_pem, refuse_empty
from bundle.request import export, import_signature
from bundle.root import check_numbers, root_of, unsigned_root

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from datetime import datetime
    from pathlib import Path

    from securesystemslib.signer._crypto_signer import CryptoSigner
    from securesystemslib.signer._key import Key

    from appliance.text import Text

_ROLES = {Root.type: "root", Targets.type: "release"}
_ID_DIGITS_MIN = 8


@dataclass(frozen=True, slots=True)
class Change:
    """What the next root has differently. Keys are named by file or by key id, 8 digits at least.

    ``replace``: (name, the custodian's public key; none: a pair is made in the key folder). ``valid_days``:
    from the day on which it is proposed; none: it expires when the root before it does.
    """

    replace: tuple[tuple[str, Key | None], ...] = ()
    revoke: tuple[str, ...] = ()
    add_root: tuple[Key, ...] = ()
    add_release: tuple[Key, ...] = ()
    root_threshold: int | None = None
    release_threshold: int | None = None
    valid_days: int | None = None

    def __bool__(self) -> bool:
        return self != Change()

    @property
    def makes_pairs(self) -> bool:
        """Whether a pair is made, which takes a passphrase."""
        return any(key is None for _, key in self.replace)

    def to_bytes(self) -> bytes:
        """Return the change as the draft remembers it: the same words again go on with the same draft."""
        return canonical_json(
            {
                "replace": [(name, key.keyid if key else None) for name, key in self.replace],
                "revoke": self.revoke,
                "add_root": [key.keyid for key in self.add_root],
                "add_release": [key.keyid for key in self.add_release],
                "root_threshold": self.root_threshold,
                "release_threshold": self.release_threshold,
                "valid_days": self.valid_days,
            }
        )


@dataclass(frozen=True, slots=True)
class Step:
    """What one call of ``rotate`` came to; ``finished``: the root that exists since then."""

    finished: int | None
    signed_by: tuple[str, ...]
    exported_sha256: str | None


def rotate(  # noqa: PLR0913 - what a custodian brings to a ceremony
    folder: Path,
    change: Change,
    *,
    now: datetime,
    passphrase: bytes = b"",
    signers: Sequence[CryptoSigner] = (),
    signatures: Sequence[Path] = (),
    export_to: Path | None = None,
) -> Step:
    """Propose a change or go on with its draft, add signatures, and finish if they are enough.

    Raises ``BadInput`` for a change that cannot be, another one than the draft's, and signatures by others
    than the root keys, old and new; the draft is then as it was.
    """
    with locked(folder):
        settled = settle(folder)
        if settled is not None and (not change or change.to_bytes() == settled[1]):
            return Step(settled[0], (), None)  # the run before was cut off when all was signed
        draft = _draft(folder, change, now, passphrase, signers)
        signed = tuple(import_signature(draft.envelope, path, draft.signing_keys) for path in signatures)
        signed += tuple(_sign(draft, signer) for signer in signers)
        if signed:
            keep_signatures(draft)
        exported = export(draft.envelope, export_to) if export_to is not None else None
        return Step(draft.root.version if finish(draft) else None, signed, exported)


def throw_away(folder: Path) -> bool:
    """Throw the draft away; tell whether there was one that could be."""
    with locked(folder):
        return discard(folder)


def _draft(
    folder: Path, change: Change, now: datetime, passphrase: bytes, signers: Sequence[CryptoSigner]
) -> Draft:
    draft = read_draft(folder)
    if draft is None and change:
        propose(folder, change, now=now, passphrase=passphrase, signers=signers)
        draft = read_draft(folder)
    if draft is None:
        raise BadInput(
            text("no draft of a root is open, and no change was named"),
            where=folder,
            remedy=text(
                "name one: --replace, --revoke, --add-root, --add-release, a threshold, --valid-days"
            ),
        )
    if change and change.to_bytes() != draft.change:
        raise BadInput(
            text("a draft of root version {version} with another change is open", version=draft.root.version),
            where=draft.home,
            remedy=text("go on with it by --key, --export or --signature, or throw it away with --discard"),
        )
    return draft


def propose(
    folder: Path,
    change: Change,
    *,
    now: datetime,
    passphrase: bytes = b"",
    signers: Sequence[CryptoSigner] = (),
) -> None:
    """Write the draft of the next root, with the pairs that are made for it; new root keys made here sign it.

    ``signers``: who will sign at once; refused here already where they may not. Raises ``BadInput`` for a
    change that cannot be.
    """
    old = trusted_root(roots(folder)[-1])
    if old.version == ROOTS_MAX:
        raise BadInput(
            text("there are {count} roots, and no bundle may carry more", count=ROOTS_MAX),
            remedy=text("make new keys, as after their loss: docs/ko/keys.md"),
        )
    names = _Names(folder, old)
    pairs = _Pairs(folder)
    for name, key in change.replace:
        pairs.replace(name, _role_of(old, names.find(name)), key, passphrase)
    pairs.add("root", change.add_root)
    pairs.add("release", change.add_release)
    root = _next_root(old, names, change, pairs.made, now)
    envelope = unsigned_root(root)
    for signer in pairs.made.values():
        if signer.public_key.keyid in root.roles[Root.type].keyids:
            envelope.sign(signer)
    for signer in signers:
        _refuse_stranger(
            signer.public_key.keyid, {*old.roles[Root.type].keyids, *root.roles[Root.type].keyids}
        )
    write_draft(folder, envelope, change.to_bytes(), pairs.files)


def _sign(draft: Draft, signer: CryptoSigner) -> str:
    key_id: str = signer.public_key.keyid
    _refuse_stranger(key_id, {key.keyid for key in draft.signing_keys})
    draft.envelope.sign(signer)
    return key_id


def _refuse_stranger(key_id: str, known: AbstractSet[str]) -> None:
    if key_id not in known:
        raise BadInput(
            text("this key is none of the root keys that sign this root"),
            expected=", ".join(sorted(known)),
            seen=key_id,
            remedy=text("sign with a root key of the root before it, or of the new one"),
        )


# --- The change --------------------------------------------------------------------------------------------


class _Names:
    """Finds a key of the newest root by file name or key id."""

    def __init__(self, folder: Path, root: Root) -> None:
        names = file_names(folder)
        self._ids = {key_id: names.get(key_id, "") for key_id in sorted(root.keys)}

    def find(self, name: str) -> str:
        """Return the key id; ``BadInput`` where there is none, or more than one."""
        stem = name.removesuffix(PUBLIC).removesuffix(PRIVATE)
        found = [key_id for key_id, file in self._ids.items() if self._is(key_id, file, stem)]
        if len(found) == 1:
            return found[0]
        known = ", ".join(_stem(file) or key_id[:16] for key_id, file in self._ids.items())
        raise BadInput(text("the newest root names no such key"), seen=name, expected=known)

    @staticmethod
    def _is(key_id: str, file: str, wanted: str) -> bool:
        by_id = len(wanted) >= _ID_DIGITS_MIN and key_id.startswith(wanted.lower())
        return by_id or (bool(file) and _stem(file) == wanted)


def _stem(file: str) -> str:
    return file.removesuffix(PUBLIC).removesuffix(PRIVATE)


class _Pairs:
    """What a change brings: ``files`` for the key folder, and the signers ``made`` here, by the old name."""

    def __init__(self, folder: Path) -> None:
        self.files: dict[str, bytes] = {}
        self.made: dict[str, CryptoSigner] = {}
        self._numbers = {role: next_number(role, folder) for role in _ROLES.values()}

    def replace(self, name: str, role: str, key: Key | None, passphrase: bytes) -> None:
        """Take the custodian's key in the place of ``name``, or make a pair."""
        if key is not None:
            return self.add(role, [key])
        refuse_empty(passphrase)
        self.made[name] = make_signer()
        private = f"{role}-{self._numbers[role]}{PRIVATE}"
        self.files[private] = encrypted_pem(self.made[name], passphrase)
        return self.add(role, [self.made[name].public_key])

    def add(self, role: str, keys: Sequence[Key]) -> None:
        """Give public keys the next names of their role."""
        for key in keys:
            self.files[f"{role}-{self._numbers[role]}{PUBLIC}"] = public_pem(key)
            self._numbers[role] += 1


def _role_of(root: Root, key_id: str) -> str:
    return next(word for name, word in _ROLES.items() if key_id in root.roles[name].keyids)


def _next_root(
    old: Root, names: _Names, change: Change, made: Mapping[str, CryptoSigner], now: datetime
) -> Root:
    """Return the root that the change asks for; a server's rules judge it too."""
    fresh = {names.find(name): key or made[name].public_key for name, key in change.replace}
    gone = {names.find(name) for name in change.revoke}
    if gone & set(fresh) or len(fresh) != len(change.replace) or len(gone) != len(change.revoke):
        raise BadInput(text("a key is named twice in this change"))
    keys = {}
    for name, added in ((Root.type, change.add_root), (Targets.type, change.add_release)):
        kept = [
            fresh.get(key_id, old.keys[key_id]) for key_id in old.roles[name].keyids if key_id not in gone
        ]
        keys[name] = [*kept, *added]
    refuse_twice([key for role in keys.values() for key in role])
    counts = {name: len(keys[name]) for name in keys}
    before = {name: old.roles[name].threshold for name in keys}
    return root_of(
        old.version + 1,
        _expiry(old, change, now),
        keys[Root.type],
        _threshold(text("root"), counts[Root.type], change.root_threshold, before[Root.type]),
        keys[Targets.type],
        _threshold(text("release"), counts[Targets.type], change.release_threshold, before[Targets.type]),
    )


def _expiry(old: Root, change: Change, now: datetime) -> datetime:
    expires = old.expires if change.valid_days is None else now + timedelta(days=change.valid_days)
    if expires <= now:
        raise BadInput(
            text("the root has expired, and so would the next"),
            seen=expires.date(),
            remedy=text("say how long the next one is valid: --valid-days 3650"),
        )
    return expires


def _threshold(word: Text, count: int, asked: int | None, before: int) -> int:
    wanted = before if asked is None else asked
    if asked is None and before > count:
        raise BadInput(
            text(
                "{count} {role} keys are left, and {threshold} must sign",
                count=count,
                role=word,
                threshold=before,
            ),
            remedy=text(
                "add or replace keys, or name the threshold yourself: --root-threshold, --release-threshold"
            ),
        )
    check_numbers(word, count, wanted)
    return wanted
