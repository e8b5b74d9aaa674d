"""Facts about the network: sockets, firewall, links, and what the gateway answers."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - msgspec resolves annotations at run time
from typing import Literal

from appliance.format import Value


class Listener(Value, frozen=True):
    """An open socket that waits for others; ``unit`` from the owner's control group."""

    protocol: Literal["tcp", "udp"]
    address: str
    port: int
    process: str = ""
    unit: str = ""


class Connection(Value, frozen=True):
    """A connection that this server opened to somebody else, or tries to."""

    address: str
    port: int
    process: str = ""
    unit: str = ""


class Link(Value, frozen=True, omit_defaults=True):
    """A network interface; ``kind`` as the kernel names it ("tun", "wireguard", "veth"), empty: hardware."""

    name: str
    kind: str = ""
    up: bool = False
    addresses: tuple[str, ...] = ()


class Links(Value, frozen=True):
    """Interfaces and where their packets go."""

    links: tuple[Link, ...]
    default_routes: tuple[str, ...] = ()  # "via 10.0.0.1 dev eth0"
    name_servers: tuple[str, ...] = ()
    tunnels: tuple[str, ...] = ()  # processes that carry other traffic inside theirs


class Chain(Value, frozen=True):
    """A base chain of nftables."""

    family: str
    table: str
    name: str
    hook: str
    policy: str


class Attempt(Value, frozen=True):
    """An element of the product's egress sets: a distinct attempt to leave that the firewall refused."""

    set: str
    element: str


class Opening(Value, frozen=True):
    """A rule of the product's table that lets new connections in or out.

    ``peers``: the other side's addresses; none: anybody's. ``ports``: none: any.
    """

    chain: str
    peers: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()


class Firewall(Value, frozen=True, omit_defaults=True):
    """The kernel's nftables; ``counts_egress``: the product's table has sets that would show an attempt."""

    chains: tuple[Chain, ...] = ()
    counts_egress: bool = False
    attempts: tuple[Attempt, ...] = ()
    openings: tuple[Opening, ...] = ()
    logs_refusals: bool = False


class Certificate(Value, frozen=True):
    """A certificate as the gateway presents it."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    key: str  # "EC", "RSA", ...
    key_bits: int
    signature_hash: str  # "sha256"
    self_signed: bool


class Tls(Value, frozen=True, omit_defaults=True):
    """What the gateway's port answers to a handshake of each protocol version; no port, no gateway."""

    port: int | None = None
    accepted: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    certificate: Certificate | None = None
    weak_ciphers: tuple[str, ...] = ()  # families of weak ciphers that it takes


class Answer(Value, frozen=True):
    """What a web server answered to one request; ``status`` 0: it hung up."""

    status: int
    headers: dict[str, str]  # lower-case names
    body: str = ""  # its beginning, of error pages only


class Web(Value, frozen=True):
    """Answers of the gateway (``gateway``) and of the API on loopback (``api``), by what was asked.

    Asked are questions that change nothing, none with a key. None where nothing listens.
    """

    gateway: dict[str, Answer] | None = None
    api: dict[str, Answer] | None = None
