"""What the kernel tells from inside a container's network namespace: its packets, and whose sockets.

The unit is asked of the kernel when the packet arrives (sock_diag(7), INET_DIAG_CGROUP_ID): the socket with
the packet's source port in the server's namespace names its cgroup, and systemd names cgroups after units. A
socket that is closed before the packet was read (a datagram sent and forgotten) has no unit any more: "" is
recorded, never a guess, and only until the same attempt is seen with its unit.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.closed_server.packets import TCP, UDP, Packet

if TYPE_CHECKING:
    from collections.abc import Iterator

SOCK_DIAG, DIAG_DUMP, DIAG_CGROUP = 20, 0x301, 21  # linux/sock_diag.h, linux/netlink.h, linux/inet_diag.h
NLMSG_ERROR, NLMSG_DONE = 2, 3
# linux/netfilter/nfnetlink_log.h
NFLOG_PACKET, NFLOG_CONFIG, NFLOG_PAYLOAD = 0x400, 0x401, 9
NFLOG_GROUP = 53211  # one reader per group and namespace; nobody else takes this one
TABLE = "inet test_bed"
# First of all output hooks (a product's filter is at 0). "owner": the table belongs to the netlink socket
# that made it, so that the server's root can list it but neither change nor delete it, and `nft flush
# ruleset` leaves it out; it goes with this program.
RULES = f"""table {TABLE} {{
  flags owner
  chain leaving {{
    type filter hook output priority -1000; policy accept;
    oifname != "lo" log group {NFLOG_GROUP} snaplen 2048 queue-threshold 1
  }}
}}
"""


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Be in a network namespace for a while.

    A netlink socket made meanwhile stays in it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/self/ns/net").open("rb") as here, Path("/run/netns", namespace).open("rb") as there:
        if libc.setns(there.fileno(), 0):
            raise OSError(ctypes.get_errno(), f"setns to {there.name}")
        try:
            yield
        finally:
            if libc.setns(here.fileno(), 0):
                raise OSError(ctypes.get_errno(), f"setns to {here.name}")


class Rules:
    """The test bed's own table in the server's namespace, kept by one netlink socket (libnftables(3))."""

    def __init__(self) -> None:
        """Lay the table in the current namespace; raises OSError with what nftables said."""
        self._nft = ctypes.CDLL("libnftables.so.1")
        self._nft.nft_ctx_new.restype = ctypes.c_void_p
        self._nft.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
        self._context = ctypes.c_void_p(self._nft.nft_ctx_new(0))
        self._nft.nft_ctx_buffer_output(self._context)
        self._nft.nft_ctx_buffer_error(self._context)
        self._do(RULES)

    def check(self) -> None:
        """Raise OSError when the table is gone."""
        self._do(f"list table {TABLE}\n")

    def _do(self, commands: str) -> None:
        failed = self._nft.nft_run_cmd_from_buffer(self._context, commands.encode())
        said = self._nft.nft_ctx_get_error_buffer(self._context) or b""
        if failed:
            message = f"the rules that count what the server's firewall holds back: {said.decode().strip()}"
            raise OSError(message)


class Departures:
    """Every packet that the server sends towards a link, before any rule of its own (NFLOG)."""

    def __init__(self, namespace: str) -> None:
        """Listen, then lay the rules that make the kernel tell."""
        with inside(namespace):
            self.log = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)  # NETLINK_NETFILTER
            self.log.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE, as on the wire
            for attribute, value in (
                (1, b"\x01"),  # command: bind
                (2, struct.pack("!IBB", 2048, 2, 0)),  # mode: copy this much of the packet
                (5, struct.pack("!I", 1)),  # threshold: tell of each one at once
            ):
                self._configure(attribute, value)
            self.rules = Rules()
        self.log.settimeout(0)

    def _configure(self, attribute: int, value: bytes) -> None:
        """Set one thing about the log group; raises OSError when the kernel refuses."""
        body = struct.pack("!BBH", 0, 0, NFLOG_GROUP) + struct.pack("=HH", 4 + len(value), attribute) + value
        body += bytes(-len(body) % 4)
        self.log.send(struct.pack("=IHHII", 16 + len(body), NFLOG_CONFIG, 5, 1, 0) + body)
        refused = -struct.unpack_from("=i", self.log.recv(4096), 16)[0]
        if refused:
            raise OSError(refused, f"log group {NFLOG_GROUP}: {os.strerror(refused)}")

    def packets(self) -> Iterator[bytes]:
        """Yield what has been told so far; raises OSError when the kernel had to drop some untold."""
        with suppress(BlockingIOError):
            while True:
                data = self.log.recv(1 << 17)
                while data:
                    length, kind = struct.unpack_from("=IH", data)
                    if kind == NFLOG_PACKET:
                        yield _attribute(data[20:length], NFLOG_PAYLOAD)
                    data = data[(length + 3) & ~3 :]


def _attribute(attributes: bytes, wanted: int) -> bytes:
    """Take one netlink attribute's value; empty where it is not there."""
    at = 0
    while at + 4 <= len(attributes):
        length, kind = struct.unpack_from("=HH", attributes, at)
        if kind == wanted:
            return attributes[at + 4 : at + length]
        at += max((length + 3) & ~3, 4)
    return b""


class Sockets:
    """The sockets of the server's network namespace, and the systemd unit that each belongs to."""

    def __init__(self, namespace: str, cgroup: Path) -> None:
        """Open the kernel's socket list in that namespace."""
        with inside(namespace):
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
    owner = _attribute(message[72:], DIAG_CGROUP)
    return struct.unpack("=Q", owner)[0] if owner else 0, struct.unpack_from("!H", message, 6)[0]


def _unit_of(path: Path) -> str:
    """Name the unit a cgroup belongs to.

    "payload/system.slice/a.service/x" is a.service, our own leaves "exec".
    """
    for part in path.parts:
        if part.endswith((".service", ".scope", ".socket", ".mount")):
            return part
    return "exec" if "banip-exec" in path.parts else ""
