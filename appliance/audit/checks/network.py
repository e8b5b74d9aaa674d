"""The network: what listens, what may leave, what tried to, and how the gateway speaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.audit.checks.verdict import (
    Asked,
    Verdict,
    check,
    failed,
    listed,
    not_applicable,
    passed,
    unless,
    verdict,
)
from appliance.text import text

if TYPE_CHECKING:
    from appliance.audit.facts import AuditFacts, Listener

MODERN = frozenset({"TLSv1.2", "TLSv1.3"})
RSA_LEAST_BITS, EC_LEAST_BITS = 2048, 256
WANTED_SETTINGS = {
    "net.ipv4.ip_forward": "0",
    "net.ipv4.conf.all.accept_redirects": "0",
    "net.ipv4.conf.all.send_redirects": "0",
    "net.ipv4.conf.all.accept_source_route": "0",
    "net.ipv4.tcp_syncookies": "1",
    "net.ipv6.conf.all.accept_redirects": "0",
}
_SSH_PORT = "sshd"
_LOOPBACK = ("127.", "::1")
_EVERYWHERE = {"0.0.0.0": "tcp/0.0.0.0", "::": "tcp/[::]"}  # noqa: S104 - compared with, not bound


def _spelled(one: Listener) -> str:
    address = f"[{one.address}]" if ":" in one.address else one.address
    return f"{one.protocol}/{address}:{one.port}"


def _is_declared(one: Listener, declared: frozenset[str]) -> bool:
    """A socket is declared as it is, through its IPv4 spelling ([::] takes IPv4 in as well), or by its unit.

    vLLM's processes find each other on ports of loopback that the kernel chooses.
    """
    everywhere = f"{one.protocol}/0.0.0.0:{one.port}"
    any_port = f"{one.protocol}/{one.address}:*@{one.unit}"
    return (
        _spelled(one) in declared or any_port in declared or (one.address == "::" and everywhere in declared)
    )


@check("network.listeners")
def listeners(facts: AuditFacts, _: Asked) -> Verdict:
    """Nothing listens that neither the signed release declares nor the system's SSH server is."""
    declared = frozenset(facts.proven().listens)
    open_ones = facts.listeners.get()
    found = [
        f"{_spelled(one)} {one.process} {one.unit}".strip()
        for one in open_ones
        if not _is_declared(one, declared) and one.process != _SSH_PORT
    ]
    return unless(found, facts.listeners.source, listed([_spelled(one) for one in open_ones]))


@check("network.exposed-ports")
def exposed_ports(facts: AuditFacts, asked: Asked) -> Verdict:
    """Few sockets can be reached from outside; models, vectors and measurements stay on loopback."""
    found = sorted(
        {
            f"{one.protocol}/{one.port} {one.process}".strip()
            for one in facts.listeners.get()
            if not one.address.startswith(_LOOPBACK)
        }
    )
    words = listed(found) if found else text("none found")
    return verdict(words, facts.listeners.source, holds=len(found) <= asked.number)


@check("network.firewall-default-deny")
def firewall_default_deny(facts: AuditFacts, _: Asked) -> Verdict:
    """What no rule allows is dropped, in and out."""
    chains = facts.firewall.get().chains
    filters = [one for one in chains if one.family == "inet" and one.hook in {"input", "output", "forward"}]
    dropped = {one.hook for one in filters if one.policy == "drop"}
    words = listed([f"{one.family} {one.table} {one.name} {one.hook} policy {one.policy}" for one in filters])
    if not filters:
        return failed(text("no rule is loaded"), facts.firewall.source)
    return verdict(words, facts.firewall.source, holds={"input", "output"} <= dropped)


@check("network.egress-attempts")
def egress_attempts(facts: AuditFacts, _: Asked) -> Verdict:
    """Nothing tried to leave since the firewall was loaded; without the counting sets nobody can say so."""
    firewall = facts.firewall.get()
    if not firewall.counts_egress:
        return failed(text("attempts to leave are not counted"), facts.firewall.source)
    found = [f"{one.set}: {one.element}" for one in firewall.attempts]
    return unless(found, facts.firewall.source)


@check("network.kernel-settings")
def kernel_settings(facts: AuditFacts, _: Asked) -> Verdict:
    """The kernel neither forwards nor follows what others tell it about routes."""
    settings = facts.kernel.get()
    found = [
        f"{name} = {settings[name]}"
        for name, wanted in WANTED_SETTINGS.items()
        if name in settings and settings[name] != wanted
    ]
    return unless(found, facts.kernel.source, text("{count} looked at, none found", count=len(settings)))


@check("network.no-wireless")
def no_wireless(facts: AuditFacts, _: Asked) -> Verdict:
    """No interface has a radio."""
    devices = facts.devices.get()
    radios = [*devices.wireless, *(name for name in devices.loaded if name in {"bluetooth", "btusb"})]
    return unless(radios, facts.devices.source)


@check("device.usb-storage")
def usb_storage(facts: AuditFacts, _: Asked) -> Verdict:
    """A stick that is plugged in outside of an intake is not taken by the kernel."""
    devices = facts.devices.get()
    if "usb_storage" in devices.loaded:
        return failed(text("{names}", names="usb_storage"), facts.devices.source)
    if devices.usbguard == "active":
        return passed(text("{names}", names="usbguard active"), facts.devices.source)
    if not devices.modular:
        return passed(text("this kernel has no such driver and loads no modules"), facts.devices.source)
    blocked = "usb_storage" in devices.blocked
    return verdict(
        listed(devices.blocked) if blocked else text("not blocked"), facts.devices.source, holds=blocked
    )


@check("tls.protocols")
def tls_protocols(facts: AuditFacts, _: Asked) -> Verdict:
    """The gateway speaks TLS 1.2 and newer, nothing older; asked by handshakes."""
    tls = facts.tls.get()
    if tls.port is None:
        return not_applicable(text("no gateway listens"), facts.tls.source)
    words = text("accepts {names}", names=", ".join(tls.accepted))
    return verdict(words, facts.tls.source, holds=bool(tls.accepted) and set(tls.accepted) <= MODERN)


@check("tls.certificate")
def tls_certificate(facts: AuditFacts, asked: Asked) -> Verdict:
    """The gateway's certificate is valid now and for some days, strong, and names what it is for."""
    tls = facts.tls.get()
    if tls.port is None or tls.certificate is None:
        return not_applicable(text("no gateway listens"), facts.tls.source)
    one, now = tls.certificate, facts.taken
    least = RSA_LEAST_BITS if one.key == "RSA" else EC_LEAST_BITS
    left = (one.not_after - now).days
    faults = {
        f"{left} days left": left < asked.number,
        "not valid yet": now < one.not_before,
        f"{one.key} {one.key_bits}": one.key_bits < least,
        one.signature_hash: one.signature_hash in {"md5", "sha1", ""},
        "self-signed": one.self_signed,
        "no names": not one.names,
    }
    about = text("{names}", names=f"{one.subject}; {one.key} {one.key_bits}; {one.not_after:%Y-%m-%d}")
    return unless([fault for fault, holds in faults.items() if holds], facts.tls.source, about)
