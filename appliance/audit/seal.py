"""The seal of an audit's folder: the digest of every file, signed with the server's own key.

``SHA256SUMS`` is what ``sha256sum -c`` reads, ``SHA256SUMS.sig`` what ``openssl dgst -sha256 -verify`` reads
(ECDSA P-256, DER). Whose key it is, a folder cannot prove: its SHA-256 is compared with paper.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from appliance.audit.dated import is_of_a_clock
from appliance.audit.edition import Record
from appliance.durable import make_folder, write_file
from appliance.errors import BadInput, Tampered, Untrusted
from appliance.format import canonical_json, sha256_hex
from appliance.roots import key_id_of
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from appliance.text import Text

FACTS, RESULT, RECORD, HISTORY = "facts.json", "audit.json", "record.json", "history.json"
SUMS, SIGNATURE, PUBLIC_KEY = "SHA256SUMS", "SHA256SUMS.sig", "audit-key.pub"
PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600
#: What every sealed folder has, whatever formats its report came in.
ALWAYS = frozenset({FACTS, RESULT, RECORD, PUBLIC_KEY})
FILE_MOST_BYTES = 512 * 1024 * 1024
SMALL_MOST_BYTES = 64 * 1024
_LINE = re.compile(rb"([0-9a-f]{64})  ([A-Za-z0-9][A-Za-z0-9._-]{0,80})\n")
_ECDSA = ec.ECDSA(hashes.SHA256())


@dataclass(frozen=True, slots=True)
class Link:
    """A link of the chain: a record, and the bytes that it has in ``record.json`` and in the ledger."""

    record: Record
    line: bytes

    @property
    def head(self) -> str:
        """Return the SHA-256 of the bytes: ``sha256sum record.json``."""
        return sha256_hex(self.line)


@dataclass(frozen=True, slots=True)
class Sealed:
    """A folder of which every file is what its key signed.

    ``key``: SHA-256 of that key. ``held``: the bytes that were judged, of all but the reports: whoever goes
    on with them reads no file again that somebody may have changed since.
    """

    folder: Path
    link: Link
    key: str
    held: Mapping[str, bytes]


def link_of(record: Record) -> Link:
    """Return the link that a new record makes."""
    return Link(record, canonical_json(record))


def link_from_bytes(line: bytes) -> Link | None:
    """Read a record: one line of JSON; None for anything else."""
    try:
        record = msgspec.json.decode(line, type=Record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    is_a_line = line.endswith(b"\n") and line.count(b"\n") == 1
    return Link(record, line) if is_a_line and is_of_a_clock(record.taken) else None


# --- The key -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AuditKey:
    """The server's own key for audits: ECDSA P-256; its private half never leaves the server."""

    private: ec.EllipticCurvePrivateKey

    @property
    def public_pem(self) -> bytes:
        """Return the public half as PEM."""
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def name(self) -> str:
        """Return the SHA-256 of the public half (DER), as paper has it."""
        return key_id_of(self.private.public_key())

    def sign(self, content: bytes) -> bytes:
        """Return a signature: ECDSA over SHA-256, DER."""
        return self.private.sign(content, _ECDSA)


def key_path(root: Path) -> Path:
    """Return where the key of a server lies."""
    return root / "secrets" / "audit" / "key.pem"


def own_key(root: Path) -> AuditKey | None:
    """Return the server's key, None before its first audit. Raises ``Tampered`` for what is no key."""
    path = key_path(root)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        private = load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _no_key(path) from error
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise _no_key(path)
    return AuditKey(private)


def make_key(root: Path) -> AuditKey:
    """Make the server's key, durably; whoever calls this holds the ledger's lock."""
    path, key = key_path(root), AuditKey(ec.generate_private_key(ec.SECP256R1()))
    make_folder(path.parent.parent, PRIVATE_FOLDER)
    make_folder(path.parent, PRIVATE_FOLDER)
    pem = key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_file(path, pem, PRIVATE_FILE)
    return key


def _no_key(path: Path) -> Tampered:
    return Tampered(
        text("the audit key of this server is damaged"),
        where=path,
        expected="ECDSA P-256",
        remedy=text("keep the file, move it away, and audit again: a new key is made, and verify says so"),
    )


def key_name(path: Path) -> str:
    """Return the SHA-256 of a public key that a person kept. Raises ``BadInput``."""
    try:
        return key_id_of(_public(plain_bytes(path, SMALL_MOST_BYTES)))
    except (Tampered, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadInput(
            text("the file holds no ECDSA P-256 key"),
            where=path,
            remedy=text("give the audit-key.pub that was kept when the server was audited first"),
        ) from error


def _public(pem: bytes) -> ec.EllipticCurvePublicKey:
    public = load_pem_public_key(pem)
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        message = "no ECDSA P-256 key"
        raise TypeError(message)
    return public


# --- Sealing -----------------------------------------------------------------------------------------------


def seal(contents: Mapping[str, bytes], key: AuditKey) -> dict[str, bytes]:
    """Return the files with the public key, the list of digests and its signature."""
    listed = {**contents, PUBLIC_KEY: key.public_pem}
    sums = b"".join(f"{sha256_hex(listed[name])}  {name}\n".encode() for name in sorted(listed))
    return {**listed, SUMS: sums, SIGNATURE: key.sign(sums)}


# --- Looking at a seal -------------------------------------------------------------------------------------


def unseal(folder: Path, expected: str | None = None) -> Sealed:
    """Judge a sealed folder; ``expected``: the SHA-256 of the key that must have signed it.

    Raises ``BadInput`` where there is no folder, ``Tampered`` naming the file that is not what was signed,
    ``Untrusted`` where another key signed it.
    """
    if not folder.is_dir():
        raise BadInput(text("there is no such folder"), where=folder)
    sums = plain_bytes(folder / SUMS, SMALL_MOST_BYTES)
    # 1. The key that lies there is one.
    try:
        public = _public(plain_bytes(folder / PUBLIC_KEY, SMALL_MOST_BYTES))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _changed(folder / PUBLIC_KEY, text("this is no ECDSA P-256 key")) from error
    # 2. It signed the list, byte for byte.
    try:
        public.verify(plain_bytes(folder / SIGNATURE, SMALL_MOST_BYTES), sums, _ECDSA)
    except InvalidSignature as error:
        raise _changed(folder / SUMS, text("its signature does not hold")) from error
    # 3. It is the key that is expected.
    name = key_id_of(public)
    if expected not in {None, name}:
        raise _foreign(folder, expected, name)
    # 4. Every file is there, plain and as listed, and there is no other.
    held = _files(folder, _listed(sums, folder / SUMS))
    # 5. The record names the facts, the result and the key.
    return Sealed(folder, _recorded(folder, held, name), name, held)


def _listed(sums: bytes, where: Path) -> dict[str, str]:
    lines = _LINE.findall(sums)
    listed = {name.decode(): digest.decode() for digest, name in lines}
    spelled = b"".join(digest + b"  " + name + b"\n" for digest, name in lines)
    if spelled != sums or len(listed) != len(lines) or not listed.keys() >= ALWAYS:
        raise _changed(where, text("it is no list of an audit's files"))
    return listed


def _files(folder: Path, listed: Mapping[str, str]) -> dict[str, bytes]:
    held = dict[str, bytes]()
    for name, digest in listed.items():
        content = plain_bytes(folder / name)
        if sha256_hex(content) != digest:
            raise _changed(folder / name, text("it is not what was signed"))
        if name in {*ALWAYS, HISTORY}:
            held[name] = content
    for path in sorted(folder.iterdir()):
        if path.name not in {*listed, SUMS, SIGNATURE}:
            raise _changed(path, text("it is not among what was signed"))
    return held


def _recorded(folder: Path, held: Mapping[str, bytes], key: str) -> Link:
    link = link_from_bytes(held[RECORD])
    if link is None:
        raise _changed(folder / RECORD, text("it is no record of an audit"))
    named = (link.record.facts, link.record.result, link.record.key)
    if named != (sha256_hex(held[FACTS]), sha256_hex(held[RESULT]), key):
        raise _changed(folder / RECORD, text("it is the record of another audit"))
    return link


def plain_bytes(path: Path, most: int = FILE_MOST_BYTES) -> bytes:
    """Read a plain file, never through a link. Raises ``Tampered`` for anything else, none, or too much."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError as error:
        raise _changed(path, text("it is missing")) from error
    except OSError as error:
        if isinstance(error, PermissionError):
            raise
        raise _changed(path, text("it is no plain file")) from error
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise _changed(path, text("it is no plain file"))
        if about.st_size > most:
            raise _changed(path, text("it has more than {limit} bytes", limit=most))
        return file.read()


def _changed(path: Path, seen: Text) -> Tampered:
    return Tampered(
        text("an audit's folder is not as it was sealed"),
        where=path,
        seen=seen,
        remedy=text("keep it for whoever investigates; another copy of the folder may still be whole"),
    )


def _foreign(folder: Path, expected: str | None, seen: str) -> Untrusted:
    return Untrusted(
        text("the audit was signed by another key than the one expected"),
        where=folder / PUBLIC_KEY,
        expected=expected,
        seen=seen,
        remedy=text("compare both with the paper of the first audit; another server has another key"),
    )
