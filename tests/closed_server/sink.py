"""The far end of a closed server's only link.

Reads every packet, answers no name, remembers each distinct attempt.

Runs as a program of its own in the far network namespace (standard library only). Questions come as lines on
stdin ("ready", "list", "reset"), answers go as one JSON line each to stdout. It sees what has left the
server, whatever the server's own rules say, and what the server's own firewall held back it does not see:
that never left.

Counted: every IPv4 and IPv6 packet that arrives, distinct by (unit, protocol, address, port, name). Not
counted: ARP, neighbour discovery, multicast membership reports, and errors and resets that answer somebody
else.

The unit is asked of the kernel when the packet arrives (sock_diag(7), INET_DIAG_CGROUP_ID): the socket with
the packet's source port in the server's namespace names its cgroup, and systemd names cgroups after units. A
socket that is closed before the packet was read (a datagram sent and forgotten) has no unit any more: "" is
recorded, never a guess, and only until the same attempt is seen with its unit.
"""

from __future__ import annotations

import argparse
import ctypes
import ipaddress
import json
import selectors
import socket
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

OUTGOING = 4  # packet(7), PACKET_OUTGOING: our own answers
TCP, UDP, ICMP, IGMP, ICMPV6 = 6, 17, 1, 2, 58
TCP_RESET = 0x04
PROTOCOLS = {TCP: "tcp", UDP: "udp", ICMP: "icmp", ICMPV6: "icmpv6", 132: "sctp"}
EXTENSION_HEADERS = {0, 43, 60}  # hop-by-hop, routing, destination options (RFC 8200)
FRAGMENT = 44
# Errors about somebody else's packet; router and neighbour discovery; multicast listener reports (RFC 4443,
# 4861, 3810).
NOISE = {ICMP: {0, 3, 11, 12}, ICMPV6: {1, 2, 3, 4, 129, 130, 131, 132, 133, 134, 135, 136, 137, 143}}
DNS_PORT = 53
SOCK_DIAG, DIAG_DUMP, DIAG_CGROUP = 20, 0x301, 21  # linux/sock_diag.h, linux/netlink.h, linux/inet_diag.h
NLMSG_ERROR, NLMSG_DONE = 2, 3


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


class Sockets:
    """The sockets of the server's network namespace, and the systemd unit that each belongs to."""

    def __init__(self, namespace: str, cgroup: Path) -> None:
        """Open the kernel's socket list in that namespace.

        A netlink socket stays in the one it was made in.
        """
        libc = ctypes.CDLL(None, use_errno=True)
        with Path("/proc/self/ns/net").open("rb") as here, Path("/run/netns", namespace).open("rb") as there:
            for step, target in enumerate((there, here)):
                if libc.setns(target.fileno(), 0):
                    raise OSError(ctypes.get_errno(), f"setns to {target.name}")
                if step == 0:
                    self._diag = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4)  # NETLINK_SOCK_DIAG
        self._diag.settimeout(2)
        if not cgroup.parent.is_dir():
            raise FileNotFoundError(cgroup.parent)
        self._cgroup = cgroup
        self._units: dict[int, str] = {}

    def unit(self, packet: Packet) -> str:
        """Name the unit whose socket sent a packet, "" if that socket is gone."""
        if packet.protocol not in (TCP, UDP):
            return ""
        for family in (socket.AF_INET, socket.AF_INET6):  # a dual-stack socket sends IPv4 from AF_INET6
            for cgroup_id in self._owners(family, packet):
                if unit := self._named(cgroup_id):
                    return unit
        return ""

    def _owners(self, family: int, packet: Packet) -> list[int]:
        """Ask for the cgroup ids of the sockets with a packet's source port (and port, if connected)."""
        ports = struct.pack("!HH", packet.source_port, 0)
        request = struct.pack("=BBBBI", family, packet.protocol, 0, 0, 0xFFFFFFFF) + ports + bytes(44)
        self._diag.send(struct.pack("=IHHII", 16 + len(request), SOCK_DIAG, DIAG_DUMP, 1, 0) + request)
        owners: list[int] = []
        while True:
            data = self._diag.recv(1 << 16)
            while data:
                length, kind = struct.unpack_from("=IH", data)
                if kind in (NLMSG_ERROR, NLMSG_DONE):
                    return owners
                owner, port = _read_diag(data[16:length])
                owners += [owner] if owner and port in (0, packet.port) else []
                data = data[(length + 3) & ~3 :]

    def _named(self, cgroup_id: int) -> str:
        """Turn a cgroup id (its folder's inode number) into a unit name, "" if that cgroup is gone."""
        if cgroup_id not in self._units:
            self._units = {
                folder.stat().st_ino: _unit_of(folder.relative_to(self._cgroup)) for folder in self._all()
            }
        return self._units.get(cgroup_id, "")

    def _all(self) -> list[Path]:
        return [procs.parent for procs in self._cgroup.rglob("cgroup.procs")]


def _read_diag(message: bytes) -> tuple[int, int]:
    """Take (cgroup id or 0, the port it is connected to or 0) from an inet_diag_msg and its attributes."""
    port, at, owner = struct.unpack_from("!H", message, 6)[0], 72, 0
    while at + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, at)
        if kind == DIAG_CGROUP:
            owner = struct.unpack_from("=Q", message, at + 4)[0]
        at += max((length + 3) & ~3, 4)
    return owner, port


def _unit_of(path: Path) -> str:
    """Name the unit a cgroup belongs to.

    "payload/system.slice/a.service/x" is a.service, our own leaves "exec".
    """
    for part in path.parts:
        if part.endswith((".service", ".scope", ".socket", ".mount")):
            return part
    return "exec" if "banip-exec" in path.parts else ""


class Sink:
    """Everything that arrives, remembered once."""

    def __init__(self, link: str, addresses: list[str], sockets: Sockets | None) -> None:
        """Listen on the link and on port 53 of the far end's own addresses."""
        self._own, self._sockets = set(addresses), sockets
        self._seen: set[tuple[str, str, str, int, str]] = set()
        self._choose = selectors.DefaultSelector()
        self._wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0003))  # ETH_P_ALL
        self._wire.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE: a burst must not be lost
        self._wire.bind((link, 0x0003))
        self._wire.settimeout(0)
        self._choose.register(self._wire, selectors.EVENT_READ, self.drain)
        for address in addresses:
            self._serve_names(address)
        self._questions = open(0, "rb", buffering=0)  # noqa: SIM115 - unbuffered, as select sees it
        self._choose.register(self._questions, selectors.EVENT_READ, self._command)

    def run(self) -> None:
        """Work until stdin ends."""
        while True:
            # The wire first: a name server that answers makes the asker close its socket, and the unit is
            # lost.
            events = sorted(self._choose.select(), key=lambda event: event[0].fileobj is not self._wire)
            for key, _ in events:
                self.drain()
                key.data()

    def drain(self) -> None:
        """Read what has arrived; raises OSError when the kernel had to drop packets unread."""
        while True:
            try:
                data, (_, _, kind, _, _) = self._wire.recvfrom(1 << 16)
            except BlockingIOError:
                return
            if kind != OUTGOING and (packet := parse(data)):
                self._record(packet)

    def _record(self, packet: Packet) -> None:
        to_us = packet.address in self._own and packet.port == DNS_PORT
        if to_us and packet.protocol == TCP:
            return  # counted by name, when the question has been read
        name = asked_name(packet.payload) if packet.port == DNS_PORT else ""
        self._remember(packet, name)

    def _remember(self, packet: Packet, name: str) -> None:
        unit = self._sockets.unit(packet) if self._sockets else ""
        where = (PROTOCOLS.get(packet.protocol, str(packet.protocol)), packet.address, packet.port, name)
        known = {seen for seen in self._seen if seen[1:] == where}
        if unit:  # the same attempt may have been read once before and once after its socket was closed
            self._seen.discard(("", *where))
        if unit or not known:
            self._seen.add((unit, *where))

    def _serve_names(self, address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        datagrams = socket.socket(family, socket.SOCK_DGRAM)
        streams = socket.create_server((address, DNS_PORT), family=family)
        datagrams.bind((address, DNS_PORT))
        self._choose.register(datagrams, selectors.EVENT_READ, lambda: self._answer(datagrams))
        self._choose.register(streams, selectors.EVENT_READ, lambda: self._answer_stream(streams, address))

    def _answer(self, datagrams: socket.socket) -> None:
        query, asker = datagrams.recvfrom(4096)
        if asked_name(query):
            datagrams.sendto(no_such_name(query), asker)

    def _answer_stream(self, streams: socket.socket, address: str) -> None:
        """Answer one question over TCP.

        A caller that asks nothing within a second is counted without a name.
        """
        caller, asker = streams.accept()
        with caller:
            caller.settimeout(1)
            try:
                query = caller.recv(4096)[2:]
            except OSError:
                query = b""
            name = asked_name(query)
            self._remember(Packet(TCP, asker[1], address, DNS_PORT, b""), name)
            if name:
                answer = no_such_name(query)
                caller.sendall(struct.pack("!H", len(answer)) + answer)

    def _command(self) -> None:
        command = self._questions.readline().strip()
        if not command:
            sys.exit(0)
        if command == b"reset":
            self._seen.clear()
        sys.stdout.write(json.dumps(sorted(self._seen)) + "\n")
        sys.stdout.flush()


def main() -> None:
    """Parse the one call that `network.py` makes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--link", required=True)
    parser.add_argument("--listen", nargs="+", required=True)
    parser.add_argument("--server")
    parser.add_argument("--cgroup", type=Path)
    told = parser.parse_args()
    sockets = Sockets(told.server, told.cgroup) if told.server else None
    Sink(told.link, told.listen, sockets).run()


if __name__ == "__main__":
    main()
