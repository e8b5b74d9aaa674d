"""What an audit knows about a server: frozen values, each with where it was read, or why it was not.

A fact that could not be read carries its reason. Whoever asks for it gets ``NotRead``, which the judge turns
into ``unknown``: so a check cannot pass on what nobody saw. No secret is ever a fact: of a password there is
only the kind of its hash, of a key file only owner and mode.
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - msgspec resolves annotations at run time
from typing import Generic, Literal, TypeVar

import msgspec
from msgspec import Struct

from appliance.errors import BadInput
from appliance.format import Grade, Value
from appliance.text import text

_T = TypeVar("_T")
FileKind = Literal["file", "folder", "link", "other", "absent"]


class NotRead(Exception):
    """A check asked for a fact that is not there; ``source`` and ``reason`` say where and why."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source}: {reason}")
        self.source, self.reason = source, reason


class Fact(Struct, Generic[_T], frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A value and its source (a command line or a path), or the reason why it could not be read."""

    source: str = ""
    value: _T | None = None
    unread: str | None = "not collected"

    def get(self) -> _T:
        """Return the value. Raises ``NotRead``."""
        if self.unread is not None or self.value is None:
            raise NotRead(self.source, self.unread or "no value")
        return self.value


class File(Value, frozen=True, omit_defaults=True):
    """A path as lstat sees it; ``mode`` are permission bits as octal digits ("0640")."""

    path: str
    kind: FileKind = "file"
    mode: str = "0000"
    owner: str = ""
    group: str = ""

    @property
    def bits(self) -> int:
        """Return the permission bits as a number."""
        return int(self.mode, 8)


class Line(Value, frozen=True):
    """A line of a configuration file that counts: no comment, not empty."""

    path: str
    number: int
    text: str


class Account(Value, frozen=True):
    """An account; ``hash_kind`` is what the shadow file holds: a kind of hash, or locked, or empty."""

    name: str
    uid: int
    gid: int
    home: str
    login_shell: str
    hash_kind: str  # "locked", "empty", "unshadowed", "yescrypt", "sha512", ..., "md5", "des"


class Group(Value, frozen=True):
    """A group and its explicit members."""

    name: str
    gid: int
    members: tuple[str, ...] = ()


class Shell(Value, frozen=True):
    """What a login shell has after its start-up files ran."""

    timeout_s: int | None  # TMOUT
    umask: str  # "0022"
    path: tuple[str, ...]  # root's own PATH as login sets it


class Ssh(Value, frozen=True):
    """The SSH server's effective settings (``sshd -T``), lower-case names; none where it is not installed."""

    installed: bool
    settings: dict[str, str] = msgspec.field(default_factory=dict)


class Service(Value, frozen=True):
    """A systemd unit by name, with the two words systemd has for it."""

    name: str
    active: str
    enabled: str


class Unit(Value, frozen=True):
    """One of Banip's units, as systemd runs it, and as which user its main process really runs."""

    name: str
    active: str
    kind: str = ""  # Type= of a service: exec, oneshot, ...
    user: str = ""  # User=; empty means root
    process_user: str = ""  # of the main process, as the kernel says it
    program: str = ""  # the first that ExecStart names
    exposure: float | None = None  # systemd-analyze security, 0 (closed) to 10
    fragment: str = ""
    drop_ins: tuple[str, ...] = ()


class Listener(Value, frozen=True):
    """An open socket that waits for others; ``unit`` from the owner's control group."""

    protocol: Literal["tcp", "udp"]
    address: str
    port: int
    process: str = ""
    unit: str = ""


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


class Firewall(Value, frozen=True):
    """The kernel's nftables; ``counts_egress``: the product's table has sets that would show an attempt."""

    chains: tuple[Chain, ...] = ()
    counts_egress: bool = False
    attempts: tuple[Attempt, ...] = ()


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


class Tls(Value, frozen=True):
    """What the gateway's port answers to a handshake of each protocol version; no port, no gateway."""

    port: int | None = None
    accepted: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    certificate: Certificate | None = None


class Logs(Value, frozen=True):
    """The system journal's effective configuration and what of it is on the disk."""

    settings: dict[str, str]
    persistent: bool
    disk_usage: str = ""
    other: tuple[str, ...] = ()  # other logging services that are active


class Clock(Value, frozen=True):
    """The clock against what it can be compared with."""

    now: datetime
    rtc: datetime | None
    newest_build: datetime | None
    sources: tuple[str, ...]  # active time services


class Devices(Value, frozen=True):
    """What decides about removable media, radio, and kernel modules."""

    blocked: tuple[str, ...]  # modules that modprobe answers with nothing
    loaded: tuple[str, ...]
    wireless: tuple[str, ...]  # interfaces with a radio
    modular: bool = True  # the kernel can load modules at all
    usbguard: str = "inactive"


class Finds(Value, frozen=True):
    """What a walk over the file system found; ``seen`` files in all, other file systems left out."""

    seen: int
    world_writable: tuple[str, ...] = ()
    unowned: tuple[str, ...] = ()
    privileged: tuple[str, ...] = ()  # set-user-id and set-group-id, executable
    unpackaged: tuple[str, ...] = ()  # those of them that no package brought
    trust_files: tuple[str, ...] = ()  # .rhosts, hosts.equiv


class Drift(Value, frozen=True):
    """Files on the disk against signed digests: ``hashed`` by content, ``sized`` by size alone."""

    hashed: int
    sized: int
    changed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()


class InstalledRelease(Value, frozen=True):
    """The installed release, judged again by the numbered rules; ``refused``: why it is no proof any more."""

    id: str
    refused: str | None = None
    product: str = ""
    version: str = ""
    counter: int = 0
    grade: Grade | None = None
    built: datetime | None = None
    expires: datetime | None = None
    root_version: int = 0
    signatures: int = 0
    bom: Literal["present", "missing", "changed"] | None = None
    floor: int | None = None
    listens: tuple[str, ...] = ()  # "tcp/127.0.0.1:8600"
    packages: int = 0
    images: tuple[str, ...] = ()  # sha256 of the manifests
    units: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()


class StateJournal(Value, frozen=True):
    """The operation log of this server: its chain of digests, or where it breaks."""

    lines: int
    head: str = ""
    broken: str | None = None
    unsafe: tuple[str, ...] = ()  # events that weakened safety on purpose
    replaced: tuple[str, ...] = ()  # first roots that were trusted before, and when that ended


class Container(Value, frozen=True):
    """A container as Podman runs it."""

    name: str
    image: str
    image_digest: str
    user: str
    privileged: bool
    added: tuple[str, ...] = ()  # capabilities
    read_only: bool = False
    no_new_privileges: bool = False


class Images(Value, frozen=True):
    """Container images in Banip's own storage, by manifest digest."""

    digests: tuple[str, ...] = ()


class Host(Value, frozen=True):
    """Which machine this is."""

    name: str
    os: str
    kernel: str
    virtualization: str  # systemd-detect-virt: none, systemd-nspawn, kvm, ...


class AuditFacts(Value, frozen=True, kw_only=True):
    """Everything that checks may ask for; what is not in a facts file counts as not collected."""

    format: Literal[1] = 1
    taken: datetime
    appliance: str = ""
    host: Fact[Host] = Fact()
    files: Fact[tuple[File, ...]] = Fact()
    homes: Fact[tuple[File, ...]] = Fact()
    startup: Fact[tuple[File, ...]] = Fact()
    logs_files: Fact[tuple[File, ...]] = Fact()
    keys: Fact[tuple[File, ...]] = Fact()
    accounts: Fact[tuple[Account, ...]] = Fact()
    groups: Fact[tuple[Group, ...]] = Fact()
    login: Fact[tuple[Line, ...]] = Fact()
    pam: Fact[tuple[Line, ...]] = Fact()
    faillock: Fact[tuple[Line, ...]] = Fact()
    quality: Fact[tuple[Line, ...]] = Fact()
    banner: Fact[tuple[Line, ...]] = Fact()
    shell: Fact[Shell] = Fact()
    ssh: Fact[Ssh] = Fact()
    services: Fact[tuple[Service, ...]] = Fact()
    packages: Fact[tuple[str, ...]] = Fact()
    units: Fact[tuple[Unit, ...]] = Fact()
    listeners: Fact[tuple[Listener, ...]] = Fact()
    firewall: Fact[Firewall] = Fact()
    kernel: Fact[dict[str, str]] = Fact()
    tls: Fact[Tls] = Fact()
    logs: Fact[Logs] = Fact()
    clock: Fact[Clock] = Fact()
    devices: Fact[Devices] = Fact()
    finds: Fact[Finds] = Fact()
    release: Fact[InstalledRelease] = Fact()
    files_drift: Fact[Drift] = Fact()
    environments_drift: Fact[Drift] = Fact()
    state: Fact[StateJournal] = Fact()
    containers: Fact[tuple[Container, ...]] = Fact()
    images: Fact[Images] = Fact()

    def proven(self) -> InstalledRelease:
        """Return the release where its signature holds; a refused one proves nothing. Raises ``NotRead``."""
        found = self.release.get()
        if found.refused is not None:
            raise NotRead(self.release.source, found.refused)
        return found


def facts_from_bytes(data: bytes, where: object) -> AuditFacts:
    """Read a facts file that an audit wrote. Raises ``BadInput``."""
    try:
        return msgspec.json.decode(data, type=AuditFacts)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(text("this is not a facts file of an audit"), where=where, seen=error) from error
