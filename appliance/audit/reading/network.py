"""The network as the kernel holds it: open sockets, the firewall, and what the gateway answers."""

from __future__ import annotations

import json
import socket
import ssl
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psutil
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from appliance.audit.facts import Attempt, Certificate, Chain, Firewall, Listener, Tls
from appliance.audit.reading.probe import Unreadable, output

if TYPE_CHECKING:
    from collections.abc import Iterator

GATEWAY_PORT = 443
PRODUCT_TABLE = "banip"
HANDSHAKE_TIMEOUT_S = 5
_VERSIONS = {
    "TLSv1.0": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}


def listeners() -> tuple[Listener, ...]:
    """Return every socket that waits for others, with the process and unit that own it."""
    found: set[tuple[Literal["tcp", "udp"], str, int, str, str]] = set()
    for one in psutil.net_connections("inet"):
        waits = one.status == psutil.CONN_LISTEN if one.type == socket.SOCK_STREAM else not one.raddr
        if waits and one.laddr:
            protocol: Literal["tcp", "udp"] = "tcp" if one.type == socket.SOCK_STREAM else "udp"
            process, unit = _owner(one.pid)
            found.add((protocol, one.laddr.ip, one.laddr.port, process, unit))
    return tuple(Listener(*one) for one in sorted(found))


def _owner(pid: int | None) -> tuple[str, str]:
    if pid is None:
        return "", ""
    try:
        name = psutil.Process(pid).name()
        group = Path(f"/proc/{pid}/cgroup").read_text("utf-8").strip()
    except (OSError, psutil.Error):  # gone since
        return "", ""
    units = [part for part in group.split("/") if part.endswith((".service", ".scope", ".socket"))]
    return name, units[-1] if units else ""


def firewall() -> Firewall:
    """Ask nft for all chains and for the product's table, whose sets remember what tried to leave.

    Not for the ruleset: of a table that a process owns, firewalld's for one, nft 1.0.6 writes memory that was
    never set, and the whole answer is no JSON any more.
    """
    chains = output("nft", "-j", "list", "chains")
    if not any(one["chain"]["table"] == PRODUCT_TABLE for one in _told(chains) if "chain" in one):
        return parse_rules(chains)
    return parse_rules(chains, output("nft", "-j", "list", "table", "inet", PRODUCT_TABLE))


def _told(answer: str) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = json.loads(answer)["nftables"]
    return told


def parse_rules(all_chains: str, our_table: str = '{"nftables": []}') -> Firewall:
    """Return what matters of nft's JSON (libnftables-json(5))."""
    chains = [one["chain"] for one in _told(all_chains) if "chain" in one]
    ruleset = _told(our_table)
    sets = [one["set"] for one in ruleset if "set" in one and _counts(one["set"])]
    return Firewall(
        chains=tuple(
            Chain(one["family"], one["table"], one["name"], one["hook"], one.get("policy", "accept"))
            for one in chains
            if "hook" in one
        ),
        counts_egress=bool(sets),
        attempts=tuple(Attempt(one["name"], element) for one in sets for element in _elements(one)),
    )


def _counts(found: dict[str, Any]) -> bool:
    return found["table"] == PRODUCT_TABLE and str(found["name"]).startswith(("egress", "attempt"))


def _elements(found: dict[str, Any]) -> Iterator[str]:
    for element in found.get("elem", ()):
        value = element.get("elem", {}).get("val", element) if isinstance(element, dict) else element
        parts = value.get("concat", [value]) if isinstance(value, dict) else [value]
        yield " ".join(str(part) for part in parts)


def tls(port: int = GATEWAY_PORT) -> Tls:
    """Shake hands with the gateway, if one listens, once for each protocol version."""
    if not any(one.port == port and one.protocol == "tcp" for one in listeners()):
        return Tls()
    answers = {name: _shake(port, version) for name, version in _VERSIONS.items()}
    given = next((answer for answer in answers.values() if answer), None)
    if given is None:
        message = f"no handshake succeeded on port {port}"
        raise Unreadable(message)
    return Tls(
        port=port,
        accepted=tuple(name for name, answer in answers.items() if answer),
        refused=tuple(name for name, answer in answers.items() if not answer),
        certificate=_certificate(x509.load_der_x509_certificate(given)),
    )


def _shake(port: int, version: ssl.TLSVersion) -> bytes | None:
    """Return the certificate that the gateway shows under this version, or None if it refuses it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # looked at, not trusted
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # old versions are what we ask about
        context.minimum_version = context.maximum_version = version
    # Without this our own library would refuse old versions, and the gateway would look better than it is.
    context.set_ciphers("ALL:@SECLEVEL=0")
    try:
        with (
            socket.create_connection(("127.0.0.1", port), HANDSHAKE_TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as wrapped,
        ):
            return wrapped.getpeercert(binary_form=True)
    except (ssl.SSLError, ConnectionResetError):
        return None


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
