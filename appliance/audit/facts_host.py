"""Facts about the host: accounts, files, login, services, logs, time, devices, packages."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - msgspec resolves annotations at run time
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from appliance.format import Value

FileKind = Literal["file", "folder", "link", "other", "absent"]
#: Octal digits: whoever reads a facts file counts with them.
Mode = Annotated[str, Meta(pattern=r"^[0-7]{1,5}$(?!\n)")]
ModeOrNone = Annotated[str, Meta(pattern=r"^[0-7]{0,5}$(?!\n)")]


class File(Value, frozen=True, omit_defaults=True):
    """A path as lstat sees it; ``mode`` are permission bits as octal digits ("0640").

    ``to_mode``, ``to_owner``: of a link, of the file or folder that it leads to.
    """

    path: str
    kind: FileKind = "file"
    mode: Mode = "0000"
    owner: str = ""
    group: str = ""
    to_mode: ModeOrNone = ""
    to_owner: str = ""

    @property
    def bits(self) -> int:
        """Return the permission bits as a number."""
        return int(self.mode, 8)


class Line(Value, frozen=True):
    """A line of a configuration file that counts: no comment, not empty."""

    path: str
    number: int
    text: str


# --- Accounts and logins -----------------------------------------------------------------------------------


class Account(Value, frozen=True, omit_defaults=True):
    """An account; ``hash_kind`` is what the shadow file holds: a kind of hash, or locked, or empty.

    Days are counted as shadow(5) counts them; None where the field is empty. ``changed`` is the day of the
    last change of the password, since 1970.
    """

    name: str
    uid: int
    gid: int
    home: str
    login_shell: str
    hash_kind: str  # "locked", "empty", "unshadowed", "yescrypt", "sha512", ..., "md5", "des"
    changed: int | None = None
    least_days: int | None = None
    most_days: int | None = None
    idle_days: int | None = None
    expires: int | None = None


class Group(Value, frozen=True):
    """A group and its explicit members."""

    name: str
    gid: int
    members: tuple[str, ...] = ()


class Login(Value, frozen=True):
    """When an account last logged in; None: never, as far as the record goes back."""

    account: str
    last: datetime | None


class Failures(Value, frozen=True):
    """Logins that failed within the days looked at, by account as it was typed."""

    days: int
    counts: dict[str, int]


class Shell(Value, frozen=True):
    """What a login shell has after its start-up files ran."""

    timeout_s: int | None  # TMOUT
    umask: str  # "0022"
    path: tuple[str, ...]  # root's own PATH as login sets it


class Key(Value, frozen=True):
    """A key of SSH by what ssh-keygen says of it; never the key itself."""

    path: str
    kind: str  # "ED25519", "RSA", "ECDSA", "DSA"
    bits: int


class SshBlock(Value, frozen=True):
    """Settings of the SSH server for some connections only: where they begin, and for whom they are."""

    where: str
    criteria: str
    settings: dict[str, str]


class Ssh(Value, frozen=True, omit_defaults=True):
    """The SSH server's effective settings (``sshd -T``), lower-case names; none where it does not run.

    ``blocks``: what other settings some connections get. ``warns``: the file of the banner says something.
    """

    installed: bool
    running: bool = True
    settings: dict[str, str] = msgspec.field(default_factory=dict)
    host_keys: tuple[Key, ...] = ()
    authorized: tuple[Key, ...] = ()
    blocks: tuple[SshBlock, ...] = ()
    warns: bool = False


class SudoRule(Value, frozen=True):
    """Who may run what as whom; ``authenticate``: after giving a password."""

    users: tuple[str, ...]
    run_as: tuple[str, ...]
    commands: tuple[str, ...]
    authenticate: bool = True


class SudoDefaults(Value, frozen=True):
    """Settings of sudo for some users, hosts or commands only, and for whom they are."""

    bound: str
    settings: dict[str, str]


class Sudo(Value, frozen=True):
    """What sudo allows, in the words of ``cvtsudoers``; settings that are switched off are "false"."""

    installed: bool
    rules: tuple[SudoRule, ...] = ()
    settings: dict[str, str] = msgspec.field(default_factory=dict)
    defaults: tuple[SudoDefaults, ...] = ()


class Terminal(Value, frozen=True):
    """A unit that offers a login on a console or a serial line; ``automatic``: without asking anybody."""

    name: str
    active: bool
    automatic: bool


# --- Services ----------------------------------------------------------------------------------------------


class Service(Value, frozen=True):
    """A systemd unit by name, with the two words systemd has for it."""

    name: str
    active: str
    enabled: str


class Server(Value, frozen=True):
    """A mail, name, file or monitoring server that is installed, and its effective settings.

    ``name`` is empty where none is installed. ``settings``: names in lower case; a block's name comes before
    its settings' ("options/allow-transfer").
    """

    name: str = ""
    settings: dict[str, str] = msgspec.field(default_factory=dict)


class Community(Value, frozen=True):
    """A community of SNMP: from where it may be used, and how hard its word is; never the word."""

    source: str
    length: int
    common: bool = False  # a word that everybody tries first
    signs: bool = False  # not letters and digits alone


class Servers(Value, frozen=True):
    """Those that the guides have items about; only settings that a check asks for are kept."""

    mail: Server = Server()
    names: Server = Server()
    files: Server = Server()  # FTP
    shares: Server = Server()  # SMB
    ftp_refused: tuple[str, ...] = ()  # names in /etc/ftpusers
    communities: tuple[Community, ...] = ()  # of snmpd.conf
    exports: tuple[Line, ...] = ()  # lines of /etc/exports


# --- Logs and time -----------------------------------------------------------------------------------------


class Logs(Value, frozen=True, omit_defaults=True):
    """The system journal's effective configuration and what of it is on the disk."""

    settings: dict[str, str]
    persistent: bool
    disk_usage: str = ""
    other: tuple[str, ...] = ()  # other logging services that are active


class Rotation(Value, frozen=True):
    """A pattern of log files, and how long logrotate keeps them, as it says itself."""

    pattern: str
    days_each: int
    kept: int


class KernelAudit(Value, frozen=True, omit_defaults=True):
    """The kernel's audit: its state and the rules that are loaded (auditctl).

    ``refused``: why the kernel does not answer, as in a container.
    """

    installed: bool
    refused: str = ""
    enabled: int = 0  # 0 off, 1 on, 2 on and not to be changed
    lost: int = 0
    rules: tuple[str, ...] = ()
    daemon: str = ""  # of auditd.service: "active"
    settings: dict[str, str] = msgspec.field(default_factory=dict)  # of auditd.conf


class Clock(Value, frozen=True, omit_defaults=True):
    """The clock against what it can be compared with."""

    now: datetime
    rtc: datetime | None
    newest_build: datetime | None
    sources: tuple[str, ...]  # active time services
    servers: tuple[str, ...] = ()  # whom they ask
    synchronised: bool | None = None  # as the kernel says it


# --- Devices, storage, kernel ------------------------------------------------------------------------------


class Devices(Value, frozen=True, omit_defaults=True):
    """What decides about removable media, radio, and kernel modules."""

    blocked: tuple[str, ...]  # modules that modprobe answers with nothing
    loaded: tuple[str, ...]
    wireless: tuple[str, ...]  # interfaces with a radio
    modular: bool = True  # the kernel can load modules at all
    usbguard: str = "inactive"
    bluetooth: tuple[str, ...] = ()  # controllers
    usb_controllers: int = 0
    usb_open: tuple[str, ...] = ()  # controllers that take any new device by themselves


class UsbEvent(Value, frozen=True):
    """A line of the kernel about a USB device."""

    at: datetime
    words: str


class Mount(Value, frozen=True):
    """A mounted file system; ``free_percent`` is None where it has no size."""

    target: str
    source: str
    kind: str
    options: tuple[str, ...]
    free_percent: int | None = None


class Storage(Value, frozen=True):
    """Mounts, swap, and what lies between Banip's root and the disk.

    ``layers``: kinds of block devices under Banip's root, from the file system down ("crypt", "lvm", "disk");
    none where there is no block device, as in a container.
    """

    mounts: tuple[Mount, ...]
    layers: tuple[str, ...] = ()
    open_swaps: tuple[str, ...] = ()  # swap that is not encrypted


class Confinement(Value, frozen=True):
    """What confines programs beyond permissions: AppArmor's profiles, or SELinux."""

    modules: tuple[str, ...]  # security modules of the kernel
    enforcing: int = 0
    complaining: tuple[str, ...] = ()


class Hardware(Value, frozen=True):
    """The machine by its own labels; what a container or a plain emulator does not have is empty."""

    vendor: str
    model: str
    serial: str
    interfaces: tuple[str, ...]  # "eth0 52:54:00:..."
    disks: tuple[str, ...]  # "vda model serial"
    firmware: Literal["uefi", "bios"] = "bios"
    secure_boot: bool | None = None


# --- Files and packages ------------------------------------------------------------------------------------


class Finds(Value, frozen=True, omit_defaults=True):
    """What a walk over the file system found; ``seen`` files in all, other file systems left out."""

    seen: int
    world_writable: tuple[str, ...] = ()
    unowned: tuple[str, ...] = ()
    privileged: tuple[str, ...] = ()  # set-user-id and set-group-id, executable
    unpackaged: tuple[str, ...] = ()  # those of them that no package brought
    empowered: tuple[str, ...] = ()  # programs with capabilities that make root of anybody
    trust_files: tuple[str, ...] = ()  # .rhosts, hosts.equiv
    hidden: tuple[str, ...] = ()  # hidden where nothing has to hide
    open_keys: tuple[str, ...] = ()  # private keys that others than their owner may read


class Programs(Value, frozen=True):
    """Programs in the folders of the system; ``foreign``: brought neither by a package nor by the release."""

    seen: int
    foreign: tuple[str, ...] = ()


class PackageFiles(Value, frozen=True):
    """Files of packages against the digests that the packages brought (``dpkg --verify``)."""

    packages: int
    changed: tuple[str, ...] = ()  # configuration is left out: it is there to be changed
    missing: tuple[str, ...] = ()


class PackageSource(Value, frozen=True):
    """From where apt would take packages; ``trusted``: without asking for a signature."""

    uri: str
    trusted: bool


class PackageTrust(Value, frozen=True):
    """What apt would believe."""

    sources: tuple[PackageSource, ...]
    settings: dict[str, str]


class Scanner(Value, frozen=True):
    """A program against malicious code; ``signatures``: how old its knowledge is, where it says so."""

    name: str
    active: bool
    signatures: datetime | None = None


class Host(Value, frozen=True, omit_defaults=True):
    """Which machine this is."""

    name: str
    os: str
    kernel: str
    virtualization: str  # systemd-detect-virt: none, systemd-nspawn, kvm, ...
    os_id: str = ""  # "debian-12"
    container: bool = False
