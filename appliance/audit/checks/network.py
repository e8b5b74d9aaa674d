"""The network: what listens, what may leave, what tried to, and how the gateway speaks."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from appliance.audit.checks.servers import running
from appliance.audit.checks.verdict import (
    Asked,
    Verdict,
    check,
    failed,
    listed,
    not_applicable,
    unless,
    verdict,
)
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from appliance.audit.facts import AuditFacts
    from appliance.audit.facts_network import Chain, Connection, Listener, Opening

WANTED_SETTINGS = {
    "net.ipv4.conf.all.accept_redirects": {"0"},
    "net.ipv4.conf.all.accept_source_route": {"0"},
    "net.ipv4.conf.all.log_martians": {"1"},
    "net.ipv4.conf.all.rp_filter": {"1", "2"},
    "net.ipv4.conf.all.secure_redirects": {"0"},
    "net.ipv4.conf.all.send_redirects": {"0"},
    "net.ipv4.icmp_echo_ignore_broadcasts": {"1"},
    "net.ipv4.icmp_ignore_bogus_error_responses": {"1"},
    "net.ipv4.ip_forward": {"0"},
    "net.ipv4.tcp_syncookies": {"1", "2"},
    "net.ipv6.conf.all.accept_ra": {"0"},
    "net.ipv6.conf.all.accept_redirects": {"0"},
    "net.ipv6.conf.all.accept_source_route": {"0"},
    "net.ipv6.conf.all.forwarding": {"0"},
}
_OF_AN_INTERFACE = re.compile(
    r"net\.ipv[46]\.conf\.(?!all\.|default\.|lo\.).+\.(?:accept_redirects|send_redirects|accept_ra)"
)
#: Kinds of interfaces that carry traffic of one network inside another.
TUNNELS = frozenset(
    {
        "tun", "tap", "wireguard", "gre", "gretap", "ip6gre", "ip6gretap", "ipip", "sit", "ip6tnl", "vti",
        "vti6", "l2tp", "ppp", "geneve", "vxlan", "xfrm", "erspan", "wwan",
    }
)  # fmt: skip
_TUNNEL_SERVICES = (
    "openvpn", "openvpn-client", "openvpn-server", "strongswan", "strongswan-starter", "ipsec", "tor",
    "tailscaled", "wg-quick", "zerotier-one", "xl2tpd", "autossh", "cloudflared", "frpc", "stunnel4",
)  # fmt: skip
SSH_PORTS = frozenset({22})
#: 10.0.0.0/8 is the widest network that a site has; wider is everybody.
WIDEST_PREFIX = 8
PRODUCT_TABLE = "banip"
_FIREWALL_UNITS = ("banip-firewall.service", "nftables.service", "firewalld.service", "ufw.service")
_SSH, _SSH_UNITS = "sshd", frozenset({"ssh.service", "sshd.service"})
_LOOPBACK = ("127.", "::1")
_EVERYWHERE = {"0.0.0.0": "tcp/0.0.0.0", "::": "tcp/[::]"}  # noqa: S104 - compared with, not bound


def _spelled(one: Listener) -> str:
    address = f"[{one.address}]" if ":" in one.address else one.address
    return f"{one.protocol}/{address}:{one.port}"


def _is_ssh(one: Listener, facts: AuditFacts) -> bool:
    """Tell whether it is the system's SSH server: any process may call itself so."""
    ports = facts.ssh.value.settings.get("port", "22").split() if facts.ssh.value else ["22"]
    return one.process == _SSH and one.unit in _SSH_UNITS and str(one.port) in ports


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
        if not _is_declared(one, declared) and not _is_ssh(one, facts)
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
    filters = [one for one in _guarding(facts) if one.hook in {"input", "output", "forward"}]
    dropped = {one.hook for one in filters if one.policy == "drop"}
    words = listed([f"{one.family} {one.table} {one.name} {one.hook} policy {one.policy}" for one in filters])
    if not filters:
        return failed(text("no rule is loaded"), facts.firewall.source)
    return verdict(words, facts.firewall.source, holds={"input", "output"} <= dropped)


def _guarding(facts: AuditFacts) -> list[Chain]:
    """Return the chains that decide: the product's where it has any, whose rules are looked at one by one."""
    chains = [one for one in facts.firewall.get().chains if one.family == "inet"]
    return [one for one in chains if one.table == PRODUCT_TABLE] or chains


@check("network.egress-attempts")
def egress_attempts(facts: AuditFacts, _: Asked) -> Verdict:
    """Nothing tried to leave since the firewall was loaded; without the counting sets nobody can say so."""
    firewall = facts.firewall.get()
    if not firewall.counts_egress:
        return failed(text("attempts to leave are not counted"), facts.firewall.source)
    found = [f"{one.set}: {one.element}" for one in firewall.attempts]
    return unless(found, facts.firewall.source)


def wanted_settings(settings: Iterable[str]) -> dict[str, set[str]]:
    """Return what each switch may be, those of the interfaces among these with it."""
    return WANTED_SETTINGS | {name: {"0"} for name in settings if _OF_AN_INTERFACE.fullmatch(name)}


@check("network.kernel-settings")
def kernel_settings(facts: AuditFacts, _: Asked) -> Verdict:
    """The kernel neither forwards nor follows what others tell it about routes."""
    settings = facts.kernel.get()
    wanted = wanted_settings(settings)
    found = [
        f"{name} = {settings[name]}"
        for name in wanted
        if name in settings and settings[name] not in wanted[name]
    ]
    return unless(found, facts.kernel.source, text("{count} looked at, none found", count=len(settings)))


# --- Ways in and out ---------------------------------------------------------------------------------------


@check("network.firewall-at-boot")
def firewall_at_boot(facts: AuditFacts, _: Asked) -> Verdict:
    """The firewall's rules are loaded at every start, before anybody can come in."""
    known = {one.name: one for one in facts.services.get()}
    here = [known[name] for name in _FIREWALL_UNITS if name in known]
    words = listed([f"{one.name} {one.active} {one.enabled}" for one in here])
    if not here:
        return failed(text("no rule is loaded"), facts.services.source)
    holds = any(one.enabled in {"enabled", "static"} and one.active in {"active", "exited"} for one in here)
    return verdict(words, facts.services.source, holds=holds)


@check("network.firewall-openings")
def firewall_openings(facts: AuditFacts, _: Asked) -> Verdict:
    """Every way in is to a declared port, and from named networks; every way out to a named address."""
    firewall, declared = facts.firewall.get(), _declared_ports(facts)
    if not firewall.counts_egress:
        return failed(text("the product's rules are not loaded"), facts.firewall.source)
    found = [
        _opening(one)
        for one in firewall.openings
        if not _names_peers(one) or not one.ports or (one.chain == "input" and not set(one.ports) <= declared)
    ]
    return unless(found, facts.firewall.source, listed([_opening(one) for one in firewall.openings]))


def _declared_ports(facts: AuditFacts) -> frozenset[int]:
    words = (one.rpartition(":")[2].partition("@")[0] for one in facts.proven().listens)
    return frozenset(int(word) for word in words if word.isdigit()) | SSH_PORTS


def _names_peers(one: Opening) -> bool:
    """Tell whether a rule says who: half of all addresses are nobody in particular."""
    return bool(one.peers) and all(_is_narrow(peer) for peer in one.peers)


def _is_narrow(peer: str) -> bool:
    first, _, last = peer.partition("-")
    try:
        network = ipaddress.ip_network(first, strict=False)
        end = int(ipaddress.ip_address(last)) if last else int(network.broadcast_address)
    except ValueError:  # a set that packets fill, a card's address
        return False
    return end - int(network.network_address) < 1 << (network.max_prefixlen - WIDEST_PREFIX)


def _opening(one: Opening) -> str:
    ports = ",".join(map(str, one.ports)) or "*"
    return f"{one.chain} {' '.join(one.peers) or '*'} : {ports}"


@check("network.ssh-from-named-networks")
def ssh_from_named_networks(facts: AuditFacts, _: Asked) -> Verdict:
    """Administrators come from networks that the site has named, and from nowhere else."""
    ssh, firewall = facts.ssh.get(), facts.firewall.get()
    if not (ssh.installed and ssh.running):
        return not_applicable(text("no SSH server runs"), facts.ssh.source)
    ports = {int(word) for word in ssh.settings.get("port", "22").split()}
    if not any(one.hook == "input" and one.policy == "drop" for one in _guarding(facts)):
        return failed(text("no rule is loaded"), facts.firewall.source)
    ways = [
        one for one in firewall.openings if one.chain == "input" and (set(one.ports) & ports or not one.ports)
    ]
    return unless(
        [_opening(one) for one in ways if not _names_peers(one)],
        facts.firewall.source,
        listed([_opening(one) for one in ways]),
    )


@check("network.refusals-logged")
def refusals_logged(facts: AuditFacts, _: Asked) -> Verdict:
    """What the firewall does not let out is counted, and told to the log."""
    firewall = facts.firewall.get()
    if not firewall.counts_egress:
        return failed(text("attempts to leave are not counted"), facts.firewall.source)
    words = text("{names}", names="log" if firewall.logs_refusals else "-")
    return verdict(words, facts.firewall.source, holds=firewall.logs_refusals)


@check("network.no-tunnels")
def no_tunnels(facts: AuditFacts, _: Asked) -> Verdict:
    """Nothing carries traffic past the boundary inside other traffic."""
    links = facts.links.get()
    found = [f"{one.name} {one.kind}" for one in links.links if one.kind in TUNNELS and one.up]
    found += [*links.tunnels, *running(facts, _TUNNEL_SERVICES)]
    return unless(found, f"{facts.links.source}, {facts.services.source}")


@check("network.one-way-out")
def one_way_out(facts: AuditFacts, asked: Asked) -> Verdict:
    """The server stands in few networks, and its packets leave by one of them."""
    links = facts.links.get()
    ways = {route.rpartition("dev ")[2] for route in links.default_routes}
    reached = [f"{one.name} {' '.join(one.addresses)}" for one in links.links if one.up and one.addresses]
    words = listed([*reached, *(f"default {route}" for route in links.default_routes)])
    holds = len(ways) <= 1 and len(reached) <= asked.number
    return verdict(words, facts.links.source, holds=holds)


@check("network.name-servers")
def name_servers(facts: AuditFacts, _: Asked) -> Verdict:
    """Names are asked of nobody outside: of no server at all, or of one in this network."""
    servers = facts.links.get().name_servers
    found = [one for one in servers if not _is_inside(one)]
    return unless(found, "/etc/resolv.conf", listed(servers))


@check("network.no-outside-connections")
def no_outside_connections(facts: AuditFacts, _: Asked) -> Verdict:
    """At this moment nothing here talks to anybody outside, or tries to, but for what the site allows."""
    allowed = [one for one in facts.firewall.get().openings if one.chain == "output"]
    found = [
        f"{one.process} {one.unit} -> {one.address}:{one.port}".strip()
        for one in facts.connections.get()
        if not any(_allows(opening, one) for opening in allowed)
    ]
    return unless(found, facts.connections.source)


def _allows(opening: Opening, one: Connection) -> bool:
    return one.port in opening.ports and any(_within(one.address, peer) for peer in opening.peers)


def _within(address: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(address.partition("%")[0]) in ipaddress.ip_network(network, strict=False)
    except (ValueError, TypeError):  # a range or a name
        return False


def _is_inside(address: str) -> bool:
    """Tell whether an address belongs to a private network, by the registries' own ranges."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_private
    except ValueError:
        return False
