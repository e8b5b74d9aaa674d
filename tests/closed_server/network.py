"""Sealed but counting: the only way out ends in a namespace that answers nothing and remembers everything.

The server's namespace has default routes (IPv4 and IPv6) into a veth pair (or, for a guest, a tap device).
The far end lies in a namespace of its own, outside the server's power: nothing is forwarded there, a name
server says NXDOMAIN to every question, and `sink.py` records each distinct attempt. What a container's own
firewall holds back counts too: the sink keeps one table, `inet test_bed`, in the server's nftables, which
only tells of packets before the server's rules see them. The server can list it, not change it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.closed_server.holding import NAMESPACES, run
from tests.closed_server.interface import ClosedServerError, EgressAttempt

if TYPE_CHECKING:
    from tests.closed_server.holding import Holding

SERVER_V4, FAR_V4 = "192.0.2.2", "192.0.2.1"  # TEST-NET-1 (RFC 5737): no real network has it
SERVER_V6, FAR_V6 = "fd62:616e:6970::2", "fd62:616e:6970::1"
PREFIX_V4, PREFIX_V6 = 30, 64
FAR_LINK, SERVER_LINK = "far0", "eth0"
FAR_MAC, SERVER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
RESOLV_CONF = f"nameserver {FAR_V4}\nsearch .\n"
REPOSITORY = Path(__file__).parent.parent.parent


class Network:
    """One server's way to nowhere; its namespaces go with the holding."""

    def __init__(self, holding: Holding) -> None:
        """Lay the far end; `veth` or `tap` brings the near one."""
        self._holding = holding
        self.server, self.far = holding.namespace("server"), holding.namespace("far")
        run("ip", "netns", "add", self.far)
        # The far end never speaks first, so that nothing but the server's own doing crosses the link.
        self._quiet(self.far)
        run("ip", "-n", self.far, "link", "set", "lo", "up")
        self._sink: subprocess.Popen[bytes] | None = None

    def veth(self) -> str:
        """Make the server's namespace with `eth0` configured in it; returns the namespace's path."""
        run("ip", "netns", "add", self.server)
        self._quiet(self.server)
        run(
            "ip",
            "link",
            "add",
            SERVER_LINK,
            "address",
            SERVER_MAC,
            "netns",
            self.server,
            "type",
            "veth",
            "peer",
            "name",
            FAR_LINK,
            "address",
            FAR_MAC,
            "netns",
            self.far,
        )
        run("ip", "-n", self.server, "link", "set", "lo", "up")
        self._address(self.server, SERVER_LINK, SERVER_V4, SERVER_V6)
        self._far_end()
        for gateway in (FAR_V4, FAR_V6):
            # Known for good: neighbour discovery took up to a second after boot, and a program that gave up
            # before had sent nothing that could be counted.
            known = ("lladdr", FAR_MAC, "nud", "permanent")
            run("ip", "-n", self.server, "neighbour", "replace", gateway, *known, "dev", SERVER_LINK)
            run("ip", "-n", self.server, "route", "add", "default", "via", gateway)
        return str(NAMESPACES / self.server)

    def tap(self) -> str:
        """Make the far end a tap device for an emulator that runs in `far`; returns its name."""
        run("ip", "-n", self.far, "tuntap", "add", "dev", FAR_LINK, "mode", "tap")
        run("ip", "-n", self.far, "link", "set", FAR_LINK, "address", FAR_MAC)
        self._far_end()
        return FAR_LINK

    def listen(self, server_cgroup: Path | None) -> None:
        """Start recording; with the server's cgroup given, sockets are traced to systemd units."""
        watched = ["--server", self.server, "--cgroup", str(server_cgroup)] if server_cgroup else []
        # Not `ip netns exec`: that hides /sys/fs/cgroup, where the sink reads which unit a socket belongs to.
        entered = ["nsenter", f"--net={NAMESPACES / self.far}"]
        self._sink = self._holding.spawn(
            [
                *entered,
                sys.executable,
                "-m",
                "tests.closed_server.sink",
                "--link",
                FAR_LINK,
                "--listen",
                FAR_V4,
                FAR_V6,
                *watched,
            ],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._ask("ready")

    def forward(self, port: int) -> int:
        """Open a door to a port of the server's loopback; returns its port on this machine's loopback."""
        argv = [sys.executable, "-m", "tests.closed_server.forward"]
        told = ["--server", self.server, "--port", str(port)]
        door = self._holding.spawn([*argv, *told], cwd=REPOSITORY, stdout=subprocess.PIPE)
        line = door.stdout.readline() if door.stdout else b""
        if not line:
            message = f"the door to port {port} did not open (code {door.wait()})"
            raise ClosedServerError(message)
        return int(line)

    def attempts(self) -> list[EgressAttempt]:
        """Return the distinct attempts seen so far, sorted.

        Everything that had crossed the link is included.
        """
        return sorted(EgressAttempt(*fields) for fields in self._ask("list"))

    def reset(self) -> None:
        """Forget them."""
        self._ask("reset")

    def forget_rules(self) -> None:
        """Empty the server's nftables, as a machine starts with: the namespace outlives a boot."""
        run("nsenter", f"--net={NAMESPACES / self.server}", "nft", "flush", "ruleset")

    def _ask(self, question: str) -> list[tuple[str, str, str, int, str]]:
        """Put one question to the sink; raises ClosedServerError when it has died."""
        sink = self._sink
        if sink is None or sink.stdin is None or sink.stdout is None:
            message = "nobody listens on the sealed network yet"
            raise ClosedServerError(message)
        sink.stdin.write(f"{question}\n".encode())
        sink.stdin.flush()
        answer = sink.stdout.readline()
        if not answer:
            message = f"the sink has died (code {sink.wait()}): its count would be a false 0"
            raise ClosedServerError(message)
        return [tuple(fields) for fields in json.loads(answer)]

    def _far_end(self) -> None:
        """Address the far end, which knows the server's end for good."""
        self._address(self.far, FAR_LINK, FAR_V4, FAR_V6)
        for address in (SERVER_V4, SERVER_V6):
            known = ("lladdr", SERVER_MAC, "nud", "permanent")
            run("ip", "-n", self.far, "neighbour", "replace", address, *known, "dev", FAR_LINK)

    @staticmethod
    def _quiet(namespace: str) -> None:
        """No router solicitations, no advertisements, no duplicate address probes, no forwarding."""
        settings = (
            "net.ipv6.conf.default.accept_ra=0",
            "net.ipv6.conf.default.router_solicitations=0",
            "net.ipv6.conf.default.accept_dad=0",
            "net.ipv4.ip_forward=0",
            "net.ipv6.conf.all.forwarding=0",
        )
        run("ip", "netns", "exec", namespace, "sysctl", "-qw", *settings)

    @staticmethod
    def _address(namespace: str, link: str, v4: str, v6: str) -> None:
        """Give a link its addresses and bring it up."""
        run("ip", "-n", namespace, "address", "add", f"{v4}/{PREFIX_V4}", "dev", link)
        run("ip", "-n", namespace, "address", "add", f"{v6}/{PREFIX_V6}", "dev", link, "nodad")
        run("ip", "-n", namespace, "link", "set", link, "up")
