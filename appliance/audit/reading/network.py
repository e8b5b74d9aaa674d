"""The network as the kernel holds it: open sockets, connections, links and routes."""

from __future__ import annotations

import ipaddress
import json
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psutil

from appliance.audit.facts_network import Connection, Link, Links, Listener
from appliance.audit.reading.probe import lines, output

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Programs whose work is to carry other traffic inside their own.
CARRIERS = frozenset(
    {
        "autossh", "chisel", "cloudflared", "dnscat", "frpc", "frps", "iodine", "iodined", "ngrok", "ngrokd",
        "openvpn", "ptunnel", "sshuttle", "stunnel", "stunnel4", "tailscaled", "tor", "wireguard-go",
        "zerotier-one", "charon", "pppd", "xl2tpd",
    }
)  # fmt: skip
_FORWARDS = re.compile(r"^-[A-Za-z]*[LRDw]")
_OPENED = frozenset({psutil.CONN_ESTABLISHED, psutil.CONN_SYN_SENT})


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


def connections() -> tuple[Connection, ...]:
    """Return what this server has opened, or tries to open, to others."""
    every = psutil.net_connections("tcp")
    ours = {one.laddr.port for one in every if one.laddr and one.status == psutil.CONN_LISTEN}
    own = {one.address for several in psutil.net_if_addrs().values() for one in several}
    found = {
        (one.raddr.ip, one.raddr.port, *_owner(one.pid))
        for one in every
        if one.status in _OPENED and one.raddr and one.laddr and one.laddr.port not in ours
        if not _is_here(one.raddr.ip, own)
    }
    return tuple(Connection(*one) for one in sorted(found))


def _is_here(address: str, own: set[str]) -> bool:
    plain = address.partition("%")[0]
    found = ipaddress.ip_address(plain)
    mapped = getattr(found, "ipv4_mapped", None) or found
    return mapped.is_loopback or str(mapped) in own or plain in own


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


# --- Links -------------------------------------------------------------------------------------------------


def links() -> Links:
    """Ask ip for interfaces and routes, and look for processes that are a tunnel."""
    routes = [output("ip", "-json", family, "route", "show", "default") for family in ("-4", "-6")]
    given = [line.text.split() for line in lines("/etc/resolv.conf")]
    return Links(
        links=parse_links(output("ip", "-json", "-details", "address", "show")),
        default_routes=tuple(route for told in routes for route in parse_routes(told)),
        name_servers=tuple(words[1] for words in given if words[0] == "nameserver" and len(words) > 1),
        tunnels=tuple(sorted(_tunnels())),
    )


def parse_links(told: str) -> tuple[Link, ...]:
    """Return ip's interfaces; an address counts where it reaches beyond its own link."""
    return tuple(
        Link(
            name=one["ifname"],
            kind=one.get("linkinfo", {}).get("info_kind", ""),
            up="UP" in one.get("flags", ()),
            addresses=tuple(
                f"{address['local']}/{address['prefixlen']}"
                for address in one.get("addr_info", ())
                if address.get("scope") == "global"
            ),
        )
        for one in json.loads(told or "[]")
        if one
    )


def parse_routes(told: str) -> tuple[str, ...]:
    """Return ip's default routes as words."""
    found: list[dict[str, Any]] = json.loads(told or "[]")
    return tuple(
        " ".join(f"{word} {one[key]}" for word, key in (("via", "gateway"), ("dev", "dev")) if key in one)
        for one in found
    )


def _tunnels() -> Iterator[str]:
    for process in psutil.process_iter(["name", "cmdline"]):
        name, argv = process.info["name"] or "", process.info["cmdline"] or []
        if is_tunnel(name, argv):
            yield f"{name} ({process.pid})"


def is_tunnel(name: str, argv: list[str]) -> bool:
    """Tell whether a process carries other traffic: by its trade, or ssh by its options."""
    return name in CARRIERS or (name == "ssh" and any(_FORWARDS.match(word) for word in argv[1:]))
