"""What gateway and API answer to somebody without a key: handshakes, and questions that change nothing."""

from __future__ import annotations

import http.client
import socket
import ssl
import warnings
from functools import partial
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from appliance.audit.facts_network import Answer, Certificate, Tls, Web
from appliance.audit.reading.network import listeners
from appliance.audit.reading.probe import Unreadable
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Callable

GATEWAY_PORT, API_PORT = 443, 8600
HANDSHAKE_TIMEOUT_S = 5
BODY_BYTES = 4096
_REFUSED = 400
#: More bytes than the gateway takes.
TOO_LARGE = 1 << 33
NOWHERE = "/banip-audit-asks-for-nothing"
_VERSIONS = {
    "TLSv1.0": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}
#: Families of OpenSSL's names (ciphers(1)) that nobody should be offered.
WEAK = {
    "aNULL": "aNULL",
    "eNULL": "eNULL",
    "RSA key exchange": "kRSA",
    "CBC with SHA-1": "SHA1+AES:SHA1+3DES:SHA1+CAMELLIA",
    "3DES": "3DES",
    "RC4": "RC4",
}


def tls(port: int = GATEWAY_PORT) -> Tls:
    """Shake hands with the gateway, if one listens, once for each protocol version."""
    if not any(one.port == port and one.protocol == "tcp" for one in listeners()):
        return Tls()
    answers = {name: _shake(port, version) for name, version in _VERSIONS.items()}
    given = next((answer for answer in answers.values() if answer), None)
    if given is None:
        raise Unreadable(text("no handshake succeeded on port {port}", port=port))
    return Tls(
        port=port,
        accepted=tuple(name for name, answer in answers.items() if answer is not None),
        refused=tuple(name for name, answer in answers.items() if answer is None),
        certificate=_certificate(x509.load_der_x509_certificate(given)),
        weak_ciphers=tuple(name for name, family in WEAK.items() if _takes(port, family)),
    )


def _takes(port: int, family: str) -> bool:
    """Tell whether the gateway takes one of these; what OpenSSL has no more, the gateway's has not either."""
    try:
        return _shake(port, ssl.TLSVersion.TLSv1_2, f"{family}:@SECLEVEL=0") is not None
    except ssl.SSLError:
        return False


def _shake(port: int, version: ssl.TLSVersion, ciphers: str = "ALL:!aNULL:@SECLEVEL=0") -> bytes | None:
    """Return the certificate that the gateway shows under this version, none (empty), or None: refused."""
    context = _trusting()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # old versions are what we ask about
        context.minimum_version = context.maximum_version = version
    # Without this our own library would refuse old versions, and the gateway would look better than it is.
    context.set_ciphers(ciphers)
    try:
        with (
            socket.create_connection(("127.0.0.1", port), HANDSHAKE_TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as wrapped,
        ):
            return wrapped.getpeercert(binary_form=True) or b""
    except (ssl.SSLError, ConnectionResetError):
        return None


def _trusting() -> ssl.SSLContext:
    """Return a context that takes any certificate: it is looked at here, not trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _certificate(found: x509.Certificate) -> Certificate:
    key = found.public_key()
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        shown = tuple(str(name.value) for name in names)
    except x509.ExtensionNotFound:
        shown = ()
    kinds = {ec.EllipticCurvePublicKey: "EC", rsa.RSAPublicKey: "RSA"}
    return Certificate(
        subject=found.subject.rfc4514_string(),
        issuer=found.issuer.rfc4514_string(),
        names=shown,
        not_before=found.not_valid_before_utc,
        not_after=found.not_valid_after_utc,
        key=next((name for kind, name in kinds.items() if isinstance(key, kind)), type(key).__name__),
        key_bits=getattr(key, "key_size", 0),
        signature_hash=found.signature_hash_algorithm.name if found.signature_hash_algorithm else "",
        self_signed=found.subject == found.issuer,
    )


# --- Questions ---------------------------------------------------------------------------------------------


def web(gateway: int = GATEWAY_PORT, api: int = API_PORT) -> Web:
    """Ask gateway and API what a stranger would ask; the questions are few, and none carries a key."""
    open_ports = {one.port for one in listeners() if one.protocol == "tcp"}
    tls_connection = partial(http.client.HTTPSConnection, "127.0.0.1", gateway, context=_trusting())
    return Web(
        gateway=_gateway_answers(tls_connection, gateway) if gateway in open_ports else None,
        api=_api_answers(api) if api in open_ports else None,
    )


def _gateway_answers(connect: Callable[..., http.client.HTTPConnection], port: int) -> dict[str, Answer]:
    plain = partial(http.client.HTTPConnection, "127.0.0.1", port)
    return {
        "page": _ask(connect, "GET", "/"),
        "nowhere": _ask(connect, "GET", NOWHERE),
        "outside": _ask(connect, "GET", "/guide/..%2f..%2f..%2fetc/passwd"),
        "trace": _ask(connect, "TRACE", "/"),
        "webdav": _ask(connect, "PROPFIND", "/"),
        "measurements": _ask(connect, "GET", "/metrics"),
        "documents": _ask(connect, "GET", "/v1/documents"),
        "too-large": _ask(connect, "POST", "/v1/documents", length=TOO_LARGE),
        "plain": _ask(plain, "GET", "/"),
    }


def _api_answers(port: int) -> dict[str, Answer]:
    connect = partial(http.client.HTTPConnection, "127.0.0.1", port)
    return {
        "health": _ask(connect, "GET", "/health"),
        "models": _ask(connect, "GET", "/v1/models"),
        "documents": _ask(connect, "GET", "/v1/documents"),
        "wrong-key": _ask(connect, "GET", "/v1/documents", key="banip_nobody"),
        "search": _ask(connect, "POST", "/v1/search"),
    }


def _ask(
    connect: Callable[..., http.client.HTTPConnection], method: str, path: str, length: int = 0, key: str = ""
) -> Answer:
    """Ask one question; ``length`` is only announced, no body is sent."""
    connection = connect(timeout=HANDSHAKE_TIMEOUT_S)
    headers = {"User-Agent": "banip-audit", "Connection": "close"}
    headers |= {"Content-Length": str(length)} if length else {}
    headers |= {"Authorization": f"Bearer {key}"} if key else {}
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        body = answer.read(BODY_BYTES).decode("utf-8", "replace") if answer.status >= _REFUSED else ""
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, body)
    except (http.client.HTTPException, ConnectionError):  # hung up on, which is an answer as well
        return Answer(0, {})
    finally:
        connection.close()


def health(urls: tuple[str, ...]) -> dict[str, int]:
    """Ask every address that the signed release names for its health; 0: nobody answers."""
    return {url: _status(url) for url in urls}


def _status(url: str) -> int:
    host, _, path = url.removeprefix("http://").partition("/")
    name, _, port = host.partition(":")
    connect = partial(http.client.HTTPConnection, name, int(port or 80))
    try:
        return _ask(connect, "GET", f"/{path}").status
    except OSError:
        return 0
