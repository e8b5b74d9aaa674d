"""What a packet says: whether it is an attempt to leave, whither, and which name a DNS query asks for."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

TCP, UDP, ICMP, IGMP, ICMPV6 = 6, 17, 1, 2, 58
TCP_RESET = 0x04
PROTOCOLS = {TCP: "tcp", UDP: "udp", ICMP: "icmp", ICMPV6: "icmpv6", 132: "sctp"}
EXTENSION_HEADERS = {0, 43, 60}  # hop-by-hop, routing, destination options (RFC 8200)
FRAGMENT = 44
# Errors about somebody else's packet; router and neighbour discovery; multicast listener reports (RFC 4443,
# 4861, 3810).
NOISE = {ICMP: {0, 3, 11, 12}, ICMPV6: {1, 2, 3, 4, 129, 130, 131, 132, 133, 134, 135, 136, 137, 143}}


@dataclass(frozen=True)
class Packet:
    """What matters of one packet."""

    protocol: int
    source_port: int
    address: str
    port: int
    payload: bytes


def parse(data: bytes) -> Packet | None:
    """Read an IP packet.

    None for what is no attempt to leave (see the module's docstring) or no IP at all.
    """
    version = data[0] >> 4 if data else 0
    if version == 4 and len(data) >= 20:
        protocol, address = data[9], data[16:20]
        body = b"" if struct.unpack("!H", data[6:8])[0] & 0x1FFF else data[(data[0] & 15) * 4 :]
        if not body:  # a later fragment: its first one was counted
            return None
    elif version == 6 and len(data) >= 40:
        protocol, address, body = data[6], data[24:40], data[40:]
        while protocol in EXTENSION_HEADERS and len(body) >= 8:
            protocol, body = body[0], body[(body[1] + 1) * 8 :]
        if protocol == FRAGMENT and len(body) >= 8:
            if struct.unpack("!H", body[2:4])[0] & 0xFFF8:
                return None
            protocol, body = body[0], body[8:]
    else:
        return None
    return _transport(protocol, str(ipaddress.ip_address(address)), body)


def _transport(protocol: int, address: str, body: bytes) -> Packet | None:
    """Read ports and leave noise out."""
    if protocol == IGMP or (body and body[0] in NOISE.get(protocol, ())):
        return None
    if protocol == TCP and len(body) > 13 and body[13] & TCP_RESET:
        return None
    if protocol not in (TCP, UDP) or len(body) < 4:
        return Packet(protocol, 0, address, 0, b"")
    source, port = struct.unpack("!HH", body[:4])
    return Packet(protocol, source, address, port, body[8:] if protocol == UDP else b"")


def asked_name(query: bytes) -> str:
    """Read the name of a DNS query (RFC 1035, 4.1.2); "" for what is not one."""
    labels, at = [], 12
    if len(query) < 17 or query[2] & 0x80:
        return ""
    while at < len(query) and 0 < query[at] < 64:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii", "backslashreplace"))
        at += 1 + query[at]
    return ".".join(labels).lower() or "."


def no_such_name(query: bytes) -> bytes:
    """Answer a query with NXDOMAIN, quickly, so that what asked gives up instead of waiting."""
    at = 12
    while at < len(query) and query[at]:
        at += 1 + query[at]
    flags = 0x8183 | (query[2] & 1) << 8
    return query[:2] + struct.pack("!HHHHH", flags, 1, 0, 0, 0) + query[12 : at + 5]
