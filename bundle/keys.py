"""The keys: made once, kept encrypted, and the root metadata that says what each may sign.

A key folder holds ``keys.json`` (the product), ``root-1.pem`` and ``release-1.pem`` onward (private,
encrypted), their ``.pub.pem``, and ``roots/1.root.json``. Only the public half of it ever goes into a bundle.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
import shutil
import textwrap
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.signer._crypto_signer import CryptoSigner
from securesystemslib.signer._key import SSlibKey
from tuf.api._payload import Role, Root, Targets
from tuf.api.dsse import SimpleEnvelope

from appliance.errors import BadInput, Incomplete
from appliance.format import Name, Value, canonical_json, decode_json, envelope_to_bytes
from appliance.text import text
from appliance.verify import KEY_SCHEME, check_root, key_id_of, trusted_root

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from appliance.text import Text

PBKDF2_ROUNDS = 600_000
_DESCRIPTION = "keys.json"
_ROOTS = "roots"
_ROOT_FILE = re.compile(r"([1-9][0-9]?)\.root\.json")


class Description(Value, frozen=True):
    """``keys.json``: what the keys are for."""

    format: int
    product: Name


@dataclass(frozen=True, slots=True)
class KeyRing:
    """What a key folder holds, for showing; keys are (file name, key id), the id as ``openssl`` gives it."""

    product: str
    root_version: int
    root_threshold: int
    root_keys: tuple[tuple[str, str], ...]
    release_threshold: int
    release_keys: tuple[tuple[str, str], ...]
    expires: datetime


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
) -> KeyRing:
    """Make the keys of a product and root version 1, signed by every root key, in a new folder.

    ``expires``: of the root, aware. Raises ``BadInput`` where the folder holds anything already; whatever
    goes wrong, nothing of it stays.
    """
    _check_numbers(text("root"), root_keys, root_threshold)
    _check_numbers(text("release"), release_keys, release_threshold)
    description = _description(product)
    if not passphrase:
        raise BadInput(text("the passphrase is empty"), remedy=text("choose one of several random words"))
    signers = {f"root-{number}": make_signer() for number in range(1, root_keys + 1)}
    releasers = {f"release-{number}": make_signer() for number in range(1, release_keys + 1)}
    root = make_root(1, expires, signers.values(), root_threshold, releasers.values(), release_threshold)
    with _new_folder(folder):
        for name, signer in (signers | releasers).items():
            _write(folder / f"{name}.pem", encrypted_pem(signer, passphrase))
            _write(folder / f"{name}.pub.pem", signer.public_key.keyval["public"].encode())
        (folder / _ROOTS).mkdir(mode=0o700)
        _write(folder / _ROOTS / "1.root.json", signed_root(root, list(signers.values())))
        _write(
            folder / _DESCRIPTION, canonical_json(description)
        )  # last: without it the folder is unfinished
    return show(folder)


def roots(folder: Path) -> tuple[bytes, ...]:
    """Return every root envelope, versions 1..N; ``Incomplete`` where one is missing."""
    folder = folder / _ROOTS
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    versions = sorted(int(match[1]) for match in map(_ROOT_FILE.fullmatch, names) if match)
    if not versions or versions != list(range(1, versions[-1] + 1)):
        raise Incomplete(
            text("the key folder does not hold every root from version 1 on"),
            where=folder,
            seen=versions,
            remedy=text("bring back the missing files from your copy of the folder")
            if versions
            else text("name the key folder with --keys, or make the keys first: build.py keys create"),
        )
    return tuple((folder / f"{version}.root.json").read_bytes() for version in versions)


def show(folder: Path) -> KeyRing:
    """Return what the folder holds; nothing in it needs the passphrase."""
    root = trusted_root(roots(folder)[-1])
    files = {_public_id(path): path.name.replace(".pub.", ".") for path in sorted(folder.glob("*.pub.pem"))}

    def named(role: str) -> tuple[tuple[str, str], ...]:
        return tuple(sorted((files.get(key_id, ""), key_id) for key_id in root.roles[role].keyids))

    return KeyRing(
        product=_described(folder).product,
        root_version=root.version,
        root_threshold=root.roles[Root.type].threshold,
        root_keys=named(Root.type),
        release_threshold=root.roles[Targets.type].threshold,
        release_keys=named(Targets.type),
        expires=root.expires,
    )


def load_signer(path: Path, passphrase: bytes) -> CryptoSigner:
    """Open a private key; ``BadInput`` for another passphrase or what is no key of Banip's."""
    content = _key_file(path)
    try:
        private = load_pem_private_key(content, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadInput(
            text("the key cannot be opened with this passphrase"),
            where=path,
            remedy=text("type it again; a lost passphrase cannot be recovered, the key must be replaced"),
        ) from error
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise BadInput(text("the file holds no ECDSA P-256 key"), where=path)
    return _signer(private)


# --- Making keys and roots: also for those who make them in memory --------------------------------------


def make_signer() -> CryptoSigner:
    """Make a new ECDSA P-256 key, named by its digest."""
    return _signer(ec.generate_private_key(ec.SECP256R1()))


def make_root(  # noqa: PLR0913, PLR0917 - a root is exactly these
    version: int,
    expires: datetime,
    root_signers: Iterable[CryptoSigner],
    root_threshold: int,
    release_signers: Iterable[CryptoSigner],
    release_threshold: int,
) -> Root:
    """Make root metadata and refuse it where a server would (``Untrusted``)."""
    keys = {
        Root.type: [signer.public_key for signer in root_signers],
        Targets.type: [signer.public_key for signer in release_signers],
    }
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


def signed_root(root: Root, signers: Sequence[CryptoSigner]) -> bytes:
    """Return the root as an envelope, signed by these."""
    envelope: SimpleEnvelope[Any] = SimpleEnvelope(
        canonical_json(root.to_dict()), SimpleEnvelope.DEFAULT_PAYLOAD_TYPE, {}
    )
    for signer in signers:
        envelope.sign(signer)
    return envelope_to_bytes(envelope)


def encrypted_pem(signer: CryptoSigner, passphrase: bytes) -> bytes:
    """Return the private key as PKCS#8 under PBES2: PBKDF2-HMAC-SHA-256, AES-256-CBC.

    Written out here because cryptography lets nobody choose the PBKDF2 rounds for PKCS#8.
    Source: RFC 5958, section 3; RFC 8018, appendix A; RFC 7468, section 11.
    """
    salt, iv = secrets.token_bytes(16), secrets.token_bytes(16)
    kdf = PBKDF2HMAC(hashes.SHA256(), length=32, salt=salt, iterations=PBKDF2_ROUNDS)
    encryptor = Cipher(algorithms.AES256(kdf.derive(passphrase)), modes.CBC(iv)).encryptor()
    padder = PKCS7(128).padder()
    private = signer._private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())  # noqa: SLF001
    sealed = encryptor.update(padder.update(private) + padder.finalize()) + encryptor.finalize()
    prf = _sequence(_OID_HMAC_SHA256, _der(_NULL, b""))
    kdf_parameters = _sequence(_der(_OCTETS, salt), _integer(PBKDF2_ROUNDS), prf)
    scheme = _sequence(_sequence(_OID_PBKDF2, kdf_parameters), _sequence(_OID_AES256_CBC, _der(_OCTETS, iv)))
    der = _sequence(_sequence(_OID_PBES2, scheme), _der(_OCTETS, sealed))
    lines = textwrap.wrap(base64.b64encode(der).decode(), 64)
    label = "ENCRYPTED PRIVATE KEY"
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()


_INTEGER, _OCTETS, _NULL, _OID, _SEQUENCE = 0x02, 0x04, 0x05, 0x06, 0x30


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = bytes([size]) if size < 0x80 else bytes([0x80 | 2]) + size.to_bytes(2, "big")  # noqa: PLR2004
    if 0x80 <= size < 0x100:  # noqa: PLR2004 - DER wants the shortest length
        length = bytes([0x80 | 1, size])
    return bytes([tag]) + length + content


def _sequence(*items: bytes) -> bytes:
    return _der(_SEQUENCE, b"".join(items))


def _integer(value: int) -> bytes:
    return _der(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


_OID_PBES2 = _der(_OID, bytes.fromhex("2a864886f70d01050d"))  # 1.2.840.113549.1.5.13
_OID_PBKDF2 = _der(_OID, bytes.fromhex("2a864886f70d01050c"))  # 1.2.840.113549.1.5.12
_OID_HMAC_SHA256 = _der(_OID, bytes.fromhex("2a864886f70d0209"))  # 1.2.840.113549.2.9
_OID_AES256_CBC = _der(_OID, bytes.fromhex("60864801650304012a"))  # 2.16.840.1.101.3.4.1.42


# --- Files ----------------------------------------------------------------------------------------------


def _key_file(path: Path) -> bytes:
    """Return what is in a private key's file; ``BadInput`` for none, and for the public half."""
    private = text("give the file of a private key, such as keys/release-1.pem")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(
            text("the key cannot be read"), where=path, seen=error.strerror, remedy=private
        ) from error
    if b"-----BEGIN PUBLIC KEY-----" in content:
        raise BadInput(
            text("this is a public key, and signing takes the private one"), where=path, remedy=private
        )
    return content


def _signer(private: ec.EllipticCurvePrivateKey) -> CryptoSigner:
    public = private.public_key()
    return CryptoSigner(private, SSlibKey.from_crypto(public, key_id_of(public), KEY_SCHEME))


def _public_id(path: Path) -> str:
    """Return the id of the public key in a file; none where it is damaged, which only costs its name."""
    try:
        public = load_pem_public_key(path.read_bytes())
    except ValueError:
        return ""
    return key_id_of(public) if isinstance(public, ec.EllipticCurvePublicKey) else ""


def _description(product: str) -> Description:
    try:
        return msgspec.convert({"format": 1, "product": product}, Description)
    except msgspec.ValidationError as error:
        raise BadInput(
            text("this is no name for a product"),
            seen=product,
            expected=text("small letters, digits and hyphens, a letter first"),
        ) from error


def _described(folder: Path) -> Description:
    try:
        return decode_json((folder / _DESCRIPTION).read_bytes(), Description, _DESCRIPTION)
    except OSError as error:
        raise Incomplete(
            text("the key folder was not finished"),
            where=folder / _DESCRIPTION,
            seen=error.strerror,
            remedy=text("remove it, unless its keys have signed something, and create the keys again"),
        ) from error


def _check_numbers(role: Text, keys: int, threshold: int) -> None:
    if not 1 <= threshold <= keys:
        raise BadInput(
            text(
                "{threshold} of {count} {role} keys cannot be asked for",
                threshold=threshold,
                count=keys,
                role=role,
            )
        )


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


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
