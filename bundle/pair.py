"""A key pair: ECDSA P-256, its private half always encrypted, its public half plain, both as PEM."""

from __future__ import annotations

import base64
import os
import secrets
import textwrap
from typing import TYPE_CHECKING

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

from appliance.durable import sync_folder
from appliance.errors import BadInput
from appliance.text import text
from appliance.verify import KEY_SCHEME, key_id_of
from bundle.regular import read_regular

if TYPE_CHECKING:
    from pathlib import Path

    from securesystemslib.signer._key import Key

    from appliance.text import Text

PBKDF2_ROUNDS = 600_000
PRIVATE, PUBLIC = ".pem", ".pub.pem"
_PRIVATE_MODE, _PUBLIC_MODE = 0o600, 0o644
_KEY_MAX_BYTES = 64 * 1024
_PUBLIC_LABEL, _PRIVATE_LABEL = b"-----BEGIN PUBLIC KEY-----", b"PRIVATE KEY-----"


def make_signer() -> CryptoSigner:
    """Make a new ECDSA P-256 key, named by its digest."""
    return _signer(ec.generate_private_key(ec.SECP256R1()))


def new_pair(path: Path, passphrase: bytes) -> Key:
    """Make one custodian's pair: ``path`` (``NAME.pem``, 0600, encrypted) and ``NAME.pub.pem`` beside it.

    Raises ``BadInput`` for another kind of name, an empty passphrase, and where either file is there already.
    """
    if path.suffix != PRIVATE or path.name.endswith(PUBLIC) or path.name == PRIVATE:
        raise BadInput(
            text("this is no name for a private key"),
            where=path,
            expected=text("a name that ends in .pem, such as kim.pem; kim.pub.pem is made beside it"),
        )
    refuse_empty(passphrase)
    public = path.with_name(path.name.removesuffix(PRIVATE) + PUBLIC)
    for each in (path, public):
        if os.path.lexists(each):
            raise BadInput(
                text("a file of this name is there; keys are never overwritten"),
                where=each,
                remedy=text("choose another name"),
            )
    signer = make_signer()
    # The public half first: a private key never lies there without it.
    write_new(public, public_pem(signer.public_key), _PUBLIC_MODE)
    write_new(path, encrypted_pem(signer, passphrase))
    sync_folder(path.parent)
    return signer.public_key


def load_signer(path: Path, passphrase: bytes) -> CryptoSigner:
    """Open a private key; ``BadInput`` for another passphrase or what is no key of Banip's."""
    private_key = text("give the file of a private key, such as keys/release-1.pem")
    content = _read(path, private_key)
    if _PUBLIC_LABEL in content:
        raise BadInput(
            text("this is a public key, and signing takes the private one"), where=path, remedy=private_key
        )
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


def load_public(path: Path) -> SSlibKey:
    """Read a custodian's public key, whoever wrote the PEM; ``BadInput`` for anything else."""
    public_key = text("give the file of a public key, such as kim.pub.pem")
    content = _read(path, public_key)
    if _PRIVATE_LABEL in content:
        raise BadInput(
            text("this is a private key; it stays with its custodian, who hands out the public one"),
            where=path,
            remedy=public_key,
        )
    try:
        public = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadInput(text("the file holds no public key"), where=path, remedy=public_key) from error
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise BadInput(text("the file holds no ECDSA P-256 key"), where=path, remedy=public_key)
    return _public(public)


def public_pem(key: Key) -> bytes:
    """Return the public half as it stands in root metadata and in ``.pub.pem``."""
    pem: str = key.keyval["public"]
    return pem.encode()


def refuse_empty(passphrase: bytes) -> None:
    """Raise ``BadInput`` for no passphrase at all."""
    if not passphrase:
        raise BadInput(text("the passphrase is empty"), remedy=text("choose one of several random words"))


def write_new(path: Path, data: bytes, mode: int = _PRIVATE_MODE) -> None:
    """Write a file that must not be there yet, and make its content durable; its name is the caller's."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)


def _read(path: Path, remedy: Text) -> bytes:
    try:
        return read_regular(path, _KEY_MAX_BYTES)
    except OSError as error:
        raise BadInput(
            text("the key cannot be read"), where=path, seen=error.strerror, remedy=remedy
        ) from error


def _signer(private: ec.EllipticCurvePrivateKey) -> CryptoSigner:
    return CryptoSigner(private, _public(private.public_key()))


def _public(public: ec.EllipticCurvePublicKey) -> SSlibKey:
    return SSlibKey.from_crypto(public, key_id_of(public), KEY_SCHEME)


# --- PKCS#8, encrypted ----------------------------------------------------------------------------------


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
