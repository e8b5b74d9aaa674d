"""What a custodian is given to sign, and the signature that comes back.

The file holds exactly the bytes that are signed, the DSSE pre-authentication encoding, so that
``openssl dgst -sha256 -sign KEY.pem -out FILE.sig FILE`` and ``build.py keys sign`` make the same kind of
signature: ECDSA, DER. Source: DSSE 1.0.2, protocol.md; RFC 3279, section 2.2.3.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.signer._signature import Signature
from tuf.api._payload import Root, Targets
from tuf.api.dsse import SimpleEnvelope

from appliance.errors import BadInput, Untrusted
from appliance.format import ENVELOPE_MAX_BYTES, sha256_hex, strict_payload
from appliance.roots import check_root, parse_signed
from appliance.text import text
from appliance.verify import parse_targets
from bundle.regular import read_regular

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from securesystemslib.signer._crypto_signer import CryptoSigner
    from securesystemslib.signer._key import Key

_PAYLOAD_TYPE = SimpleEnvelope.DEFAULT_PAYLOAD_TYPE
_START = re.compile(
    rb"DSSEv1 %d %s ([1-9][0-9]{0,9}) " % (len(_PAYLOAD_TYPE), re.escape(_PAYLOAD_TYPE.encode()))
)
_SIGNATURE_MAX_BYTES = 4096
_ID_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Request:
    """Bytes to be signed, and what they say; ``sha256`` is that of the file as a whole."""

    envelope: SimpleEnvelope[Any]
    signed: Root | Targets
    sha256: str


def read_request(path: Path) -> Request:
    """Read an exported file; ``BadInput`` for anything but exactly the bytes of a root or of targets."""
    try:
        data = read_regular(path, ENVELOPE_MAX_BYTES + 1)
    except OSError as error:
        raise BadInput(text("the file cannot be read"), where=path, seen=error.strerror) from error
    match = _START.match(data)
    envelope: SimpleEnvelope[Any] = SimpleEnvelope(data[match.end() :] if match else b"", _PAYLOAD_TYPE, {})
    if match is None or envelope.pae() != data or len(data) > ENVELOPE_MAX_BYTES:
        raise _no_request(path)
    try:
        return Request(envelope, _parse(envelope, path.name), sha256_hex(data))
    except Untrusted as error:
        raise _no_request(path, error) from error


def _parse(envelope: SimpleEnvelope[Any], where: str) -> Root | Targets:
    if strict_payload(envelope.payload, where).get("_type") != Root.type:
        return parse_targets(envelope)
    root = parse_signed(envelope, Root, where)
    check_root(root)
    return root


def _no_request(path: Path, error: Untrusted | None = None) -> BadInput:
    return BadInput(
        text("this is no file that Banip wrote for signing, or it was changed or cut short on the way"),
        where=path,
        seen=None if error is None else error.happened if error.seen is None else error.seen,
        remedy=text("bring it again, as --export wrote it, and compare its SHA-256"),
    )


def export(envelope: SimpleEnvelope[Any], path: Path) -> str:
    """Write the bytes to be signed; return the SHA-256 of the file, for comparing on the other machine."""
    _put(path, envelope.pae())
    return sha256_hex(envelope.pae())


def sign_request(path: Path, request: Request, signers: Sequence[CryptoSigner]) -> tuple[Path, ...]:
    """Write ``FILE.<first 16 digits of the key id>.sig``, DER, beside the file, for each signer."""
    made = []
    for signer in signers:
        name = f"{path.name}.{signer.public_key.keyid[:_ID_DIGITS]}.sig"
        made.append(path.with_name(name))
        _put(made[-1], bytes.fromhex(signer.sign(request.envelope.pae()).signature))
    return tuple(made)


def import_signature(envelope: SimpleEnvelope[Any], path: Path, keys: Iterable[Key]) -> str:
    """Put a signature from a file onto the envelope; return the id of the key, among these, that made it.

    Raises ``BadInput`` where none of them did, or the file holds no signature in DER.
    """
    der = _read_signature(path)
    for key in keys:
        signature = Signature(key.keyid, der.hex())
        try:
            key.verify_signature(signature, envelope.pae())
        except (UnverifiedSignatureError, VerificationError):
            continue
        envelope.signatures[key.keyid] = signature
        return key.keyid
    raise BadInput(
        text("none of the keys that may sign here made this signature, or it is of other bytes"),
        where=path,
        expected=text(
            "a signature of the file with SHA-256 {sha256} by one of: {keys}",
            sha256=sha256_hex(envelope.pae()),
            keys=", ".join(sorted(key.keyid[:_ID_DIGITS] for key in keys)),
        ),
        remedy=text("export the bytes again, compare the SHA-256, and have exactly that file signed"),
    )


def _read_signature(path: Path) -> bytes:
    try:
        der = read_regular(path, _SIGNATURE_MAX_BYTES)
    except OSError as error:
        raise BadInput(text("the file cannot be read"), where=path, seen=error.strerror) from error
    canonical: bytes | None
    try:
        canonical = encode_dss_signature(*decode_dss_signature(der))
    except ValueError:
        canonical = None
    if canonical != der:
        raise BadInput(
            text("the file holds no ECDSA signature in DER"),
            where=path,
            expected=text("what openssl dgst -sha256 -sign or build.py keys sign writes, unchanged"),
        )
    return der


def _put(path: Path, content: bytes) -> None:
    """Replace a file as a whole, through no link, and without changing its mode: a FAT stick would refuse."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(part, flags, 0o644), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
