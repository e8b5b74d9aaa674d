"""The far end of a closed server's only link.

Reads every packet, answers no name, remembers each distinct attempt.

Runs as a program of its own in the far network namespace. Questions come as lines on stdin ("ready", "list",
"reset"), answers go as one JSON line each to stdout.

It reads in two places. On the far end of the link: what has left the server. And, for a container, inside the
server's network namespace before the server's first rule (`Departures`): what the server's own firewall or a
unit's IPAddressDeny then held back. One set remembers both, so a packet seen twice counts once. Seen in
neither place: a system call refused before a packet exists (RestrictAddressFamilies, no route at all) and
whatever runs in a network namespace of its own (PrivateNetwork, `unshare --net`), where no way out exists.
Of a QEMU guest only the far end of the link is read: what its firewall holds back is not counted there.

Counted: every IPv4 and IPv6 packet, distinct by (unit, protocol, address, port, name). Not counted: ARP,
neighbour discovery, multicast membership reports, and errors and resets that answer somebody else.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import struct
import sys
from pathlib import Path

from tests.closed_server.inside import Departures, Sockets
from tests.closed_server.packets import PROTOCOLS, TCP, Packet, asked_name, no_such_name, parse

OUTGOING = 4  # packet(7), PACKET_OUTGOING: our own answers
DNS_PORT = 53
Attempt = tuple[str, str, str, int, str]  # unit, protocol, address, port, name


class Sink:
    """Everything that arrives, remembered once."""

    def __init__(
        self, link: str, addresses: list[str], sockets: Sockets | None, departures: Departures | None
    ) -> None:
        """Listen on the link, inside the server and on port 53 of the far end's own addresses."""
        self._own, self._sockets, self._departures = set(addresses), sockets, departures
        self._seen: set[Attempt] = set()
        self._callers: set[Attempt] = set()  # of our name server over TCP, who may never reach it
        self._choose = selectors.DefaultSelector()
        self._wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0003))  # ETH_P_ALL
        self._wire.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE: a burst must not be lost
        self._wire.bind((link, 0x0003))
        self._wire.settimeout(0)
        self._choose.register(self._wire, selectors.EVENT_READ, self.drain)
        if departures:
            self._choose.register(departures.log, selectors.EVENT_READ, self.drain)
        for address in addresses:
            self._serve_names(address)
        self._questions = open(0, "rb", buffering=0)  # noqa: SIM115 - unbuffered, as select sees it
        self._choose.register(self._questions, selectors.EVENT_READ, self._command)

    def run(self) -> None:
        """Work until stdin ends."""
        while True:
            for key, _ in self._choose.select():
                # Packets first: a name server that answers makes the asker close its socket, and the unit is
                # lost.
                self.drain()
                key.data()

    def drain(self) -> None:
        """Read what has arrived; raises OSError when the kernel had to drop packets unread."""
        for data in self._departures.packets() if self._departures else ():
            if packet := parse(data):
                self._record(packet)
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
            self._remember(packet, "", self._callers)  # counted by name, when the question has been read
            return
        name = asked_name(packet.payload) if packet.port == DNS_PORT else ""
        self._remember(packet, name, self._seen)

    def _remember(self, packet: Packet, name: str, memory: set[Attempt]) -> None:
        unit = self._sockets.unit(packet) if self._sockets else ""
        where = (PROTOCOLS.get(packet.protocol, str(packet.protocol)), packet.address, packet.port, name)
        known = {seen for seen in memory if seen[1:] == where}
        if unit:  # the same attempt may have been read once before and once after its socket was closed
            memory.discard(("", *where))
        if unit or not known:
            memory.add((unit, *where))

    def _all(self) -> list[Attempt]:
        """Sort what was seen, and who called our name server and was held back before it could ask."""
        heard = {seen[1:4] for seen in self._seen}
        return sorted(self._seen | {caller for caller in self._callers if caller[1:4] not in heard})

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
            self._remember(Packet(TCP, asker[1], address, DNS_PORT, b""), name, self._seen)
            if name:
                answer = no_such_name(query)
                caller.sendall(struct.pack("!H", len(answer)) + answer)

    def _command(self) -> None:
        command = self._questions.readline().strip()
        if not command:
            sys.exit(0)
        if command == b"reset":
            self._seen.clear()
            self._callers.clear()
        if self._departures:
            self._departures.rules.check()
        sys.stdout.write(json.dumps(self._all()) + "\n")
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
    departures = Departures(told.server) if told.server else None
    Sink(told.link, told.listen, sockets, departures).run()


if __name__ == "__main__":
    main()
