"""The keys of a product: made once in a key folder, shown for the paper.

A key folder is described in ``bundle/folder.py``. This module also gives out what others need of pairs, roots
and the folder, as its own.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuf.api._payload import Root, Targets

from appliance.durable import sync_folder
from appliance.errors import BadInput
from appliance.format import canonical_json, envelope_to_bytes, sha256_hex
from appliance.text import text
from appliance.verify import trusted_root
from bundle.draft import Draft, read_draft, write_draft
from bundle.folder import (
    DESCRIPTION,
    DRAFT,
    ROOTS,
    describe,
    described,
    file_names,
    root_path,
    roots,
)
from bundle.ledger import read_ledger
from bundle.pair import (
    PBKDF2_ROUNDS,
    PRIVATE,
    PUBLIC,
    encrypted_pem,
    load_public,
    load_signer,
    make_signer,
    new_pair,
    public_pem,
    refuse_empty,
    write_new,
)
from bundle.root import Quorum, check_numbers, make_root, root_of, signed_root, unsigned_root

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from securesystemslib.signer._crypto_signer import CryptoSigner
    from securesystemslib.signer._key import Key

    from bundle.ledger import Entry

__all__ = [
    "PBKDF2_ROUNDS",
    "KeyRing",
    "PendingRoot",
    "create",
    "encrypted_pem",
    "load_public",
    "load_signer",
    "make_root",
    "make_signer",
    "new_pair",
    "refuse_twice",
    "roots",
    "show",
    "signed_root",
]

#: (file name, key id): the id as ``openssl`` gives it, the name empty where the folder has no file of the key
NamedKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class PendingRoot:
    """The draft of the next root, for showing."""

    version: int
    expires: datetime
    sha256: str
    root_threshold: int
    root_keys: tuple[NamedKey, ...]
    release_threshold: int
    release_keys: tuple[NamedKey, ...]
    quorums: tuple[Quorum, ...]


@dataclass(frozen=True, slots=True)
class KeyRing:
    """What a key folder holds, for showing: the newest root, or the draft of the first (``root_version`` 0).

    ``roots``: (version, SHA-256 of the file) of every root; ``retired``: pairs that the newest root does not
    name any more; ``highest``: the highest counter in the ledger.
    """

    product: str
    root_version: int
    root_threshold: int
    root_keys: tuple[NamedKey, ...]
    release_threshold: int
    release_keys: tuple[NamedKey, ...]
    expires: datetime
    roots: tuple[tuple[int, str], ...] = ()
    retired: tuple[NamedKey, ...] = ()
    draft: PendingRoot | None = None
    highest: Entry | None = None


def create(  # noqa: PLR0913 - each is a choice of the key ceremony
    folder: Path,
    product: str,
    *,
    passphrase: bytes,
    expires: datetime,
    root_keys: int = 3,
    root_threshold: int = 2,
    release_keys: int = 1,
    release_threshold: int = 1,
    custodians: Sequence[Key] = (),
    releasers: Sequence[Key] = (),
) -> KeyRing:
    """Make the keys of a product and root version 1 in a new folder.

    ``root_keys`` and ``release_keys`` are made here; ``custodians`` and ``releasers`` are public keys of
    people who keep their own. Root 1 is signed by every root key made here; where that is less than the
    threshold it stays a draft. ``expires``: of the root, aware. Raises ``BadInput`` where the folder holds
    anything already; whatever goes wrong, nothing of it stays.
    """
    check_numbers(text("root"), root_keys + len(custodians), root_threshold)
    check_numbers(text("release"), release_keys + len(releasers), release_threshold)
    description = describe(product)
    if root_keys + release_keys:
        refuse_empty(passphrase)
    refuse_twice([*custodians, *releasers])
    made = [make_signer() for _ in range(root_keys)]
    made_releasers = [make_signer() for _ in range(release_keys)]
    named, named_releasers = [*_public(made), *custodians], [*_public(made_releasers), *releasers]
    root = root_of(1, expires, named, root_threshold, named_releasers, release_threshold)
    files = _numbered("root", made, named, passphrase)
    files |= _numbered("release", made_releasers, named_releasers, passphrase)
    with _new_folder(folder):
        _lay_down(folder, files, root, made)
        write_new(folder / DESCRIPTION, canonical_json(description))  # last: without it it is unfinished
        sync_folder(folder)
    return show(folder)


def show(folder: Path) -> KeyRing:
    """Return what the folder holds; nothing in it needs the passphrase."""
    draft = read_draft(folder)
    envelopes = () if draft is not None and draft.old is None else roots(folder)
    root = trusted_root(envelopes[-1]) if draft is None or draft.old is not None else draft.root
    files = file_names(folder, folder / DRAFT)
    named = {*root.keys} | ({*draft.root.keys} if draft is not None else set())
    here = file_names(folder)
    return KeyRing(
        product=described(folder).product,
        root_version=root.version if envelopes else 0,
        root_threshold=root.roles[Root.type].threshold,
        root_keys=_named(root, Root.type, files),
        release_threshold=root.roles[Targets.type].threshold,
        release_keys=_named(root, Targets.type, files),
        expires=root.expires,
        roots=tuple(enumerate(map(sha256_hex, envelopes), start=1)),
        retired=tuple(sorted((name, key_id) for key_id, name in here.items() if key_id not in named)),
        draft=None if draft is None else _pending(draft, files),
        highest=read_ledger(folder).highest,
    )


def refuse_twice(keys: Sequence[Key]) -> None:
    """Raise ``BadInput`` where one key stands for two: that would be fewer people than the threshold says."""
    ids = [key.keyid for key in keys]
    twice = sorted({key_id for key_id in ids if ids.count(key_id) > 1})
    if twice:
        raise BadInput(
            text("the same key is named twice; each custodian has a key of their own, and each role too"),
            seen=twice[0],
            remedy=text("have another pair made: build.py keys new NAME.pem"),
        )


def _pending(draft: Draft, files: Mapping[str, str]) -> PendingRoot:
    root = draft.root
    return PendingRoot(
        version=root.version,
        expires=root.expires,
        sha256=sha256_hex(draft.envelope.pae()),
        root_threshold=root.roles[Root.type].threshold,
        root_keys=_named(root, Root.type, files),
        release_threshold=root.roles[Targets.type].threshold,
        release_keys=_named(root, Targets.type, files),
        quorums=draft.quorums,
    )


def _named(root: Root, role: str, files: Mapping[str, str]) -> tuple[NamedKey, ...]:
    return tuple(sorted((files.get(key_id, ""), key_id) for key_id in root.roles[role].keyids))


# --- Files ----------------------------------------------------------------------------------------------


def _public(signers: Sequence[CryptoSigner]) -> list[Key]:
    return [signer.public_key for signer in signers]


def _numbered(
    role: str, made: Sequence[CryptoSigner], named: Sequence[Key], passphrase: bytes
) -> dict[str, bytes]:
    """Return the files of a role's keys: those made here come first, with their private halves."""
    found = {f"{role}-{n}{PRIVATE}": encrypted_pem(signer, passphrase) for n, signer in enumerate(made, 1)}
    return found | {f"{role}-{n}{PUBLIC}": public_pem(key) for n, key in enumerate(named, 1)}


def _lay_down(folder: Path, files: Mapping[str, bytes], root: Root, signers: Sequence[CryptoSigner]) -> None:
    for name, content in files.items():
        write_new(folder / name, content)
    (folder / ROOTS).mkdir(mode=0o700)
    envelope = unsigned_root(root)
    for signer in signers:
        envelope.sign(signer)
    if len(signers) >= root.roles[Root.type].threshold:
        write_new(root_path(folder, 1), envelope_to_bytes(envelope))
        sync_folder(folder / ROOTS)
    else:
        write_draft(folder, envelope, canonical_json({}), {})


def _make_folder(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(
            text("the key folder is not empty; keys are never overwritten"),
            where=folder,
            remedy=text("name another folder"),
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextmanager
def _new_folder(folder: Path) -> Iterator[None]:
    """Give an empty folder that only its owner may enter; if the rest fails, it is as before."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    _make_folder(folder)
    try:
        folder.chmod(0o700)
        yield
    except BaseException:
        _empty(folder)
        with suppress(OSError):  # a parent may be somebody else's too by now
            for path in made:
                path.rmdir()
        raise


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
