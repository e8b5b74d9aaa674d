"""What an audit knows about a server: frozen values, each with where it was read, or why it was not.

A fact that could not be read carries its reason. Whoever asks for it gets ``NotRead``, which the judge turns
into ``unknown``: so a check cannot pass on what nobody saw. No secret is ever a fact: of a password there is
only the kind of its hash, of a key file only owner and mode.
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - msgspec resolves annotations at run time
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

import msgspec
from msgspec import Struct

# msgspec resolves annotations at run time
from appliance.audit.dated import is_of_a_clock
from appliance.audit.facts_host import (  # noqa: TC001
    Account,
    Clock,
    Confinement,
    Devices,
    Failures,
    File,
    Finds,
    Group,
    Hardware,
    Host,
    KernelAudit,
    Line,
    Login,
    Logs,
    PackageFiles,
    PackageTrust,
    Programs,
    Rotation,
    Scanner,
    Servers,
    Service,
    Shell,
    Ssh,
    Storage,
    Sudo,
    Terminal,
    UsbEvent,
)
from appliance.audit.facts_network import Connection, Firewall, Links, Listener, Tls, Web  # noqa: TC001
from appliance.audit.facts_product import (  # noqa: TC001
    ApiUser,
    AuditChain,
    Container,
    Documents,
    Drift,
    Images,
    InstalledRelease,
    RequestLog,
    StateJournal,
    Unit,
)
from appliance.audit.reason import NOT_COLLECTED, Reason, as_reason, reason_of
from appliance.errors import BadInput
from appliance.format import Value
from appliance.text import text

if TYPE_CHECKING:
    from appliance.text import Text

_T = TypeVar("_T")


class NotRead(Exception):
    """A check asked for a fact that is not there; ``source`` and ``reason`` say where and why."""

    def __init__(self, source: str, reason: Text) -> None:
        super().__init__(f"{source}: {reason}")
        self.source, self.reason = source, reason


class Fact(Struct, Generic[_T], frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A value and its source (a command line or a path), or the reason why it could not be read.

    ``unread`` as plain words is what facts of older versions have.
    """

    source: str = ""
    value: _T | None = None
    unread: Reason | str | None = reason_of(NOT_COLLECTED)

    def get(self) -> _T:
        """Return the value. Raises ``NotRead``."""
        if self.unread is not None or self.value is None:
            raise NotRead(self.source, self.why().as_text())
        return self.value

    def why(self) -> Reason:
        """Return why there is no value."""
        return as_reason(self.unread)


class AuditFacts(Value, frozen=True, kw_only=True):
    """Everything that checks may ask for; what is not in a facts file counts as not collected."""

    format: Literal[1] = 1
    taken: datetime
    appliance: str = ""
    # The host: accounts and logins
    host: Fact[Host] = Fact()
    accounts: Fact[tuple[Account, ...]] = Fact()
    groups: Fact[tuple[Group, ...]] = Fact()
    logins: Fact[tuple[Login, ...]] = Fact()
    failures: Fact[Failures] = Fact()
    login: Fact[tuple[Line, ...]] = Fact()
    pam: Fact[tuple[Line, ...]] = Fact()
    faillock: Fact[tuple[Line, ...]] = Fact()
    quality: Fact[tuple[Line, ...]] = Fact()
    banner: Fact[tuple[Line, ...]] = Fact()
    shell: Fact[Shell] = Fact()
    ssh: Fact[Ssh] = Fact()
    sudo: Fact[Sudo] = Fact()
    terminals: Fact[tuple[Terminal, ...]] = Fact()
    # Files and packages
    files: Fact[tuple[File, ...]] = Fact()
    homes: Fact[tuple[File, ...]] = Fact()
    startup: Fact[tuple[File, ...]] = Fact()
    logs_files: Fact[tuple[File, ...]] = Fact()
    path_folders: Fact[tuple[File, ...]] = Fact()
    device_files: Fact[tuple[str, ...]] = Fact()
    finds: Fact[Finds] = Fact()
    packages: Fact[tuple[str, ...]] = Fact()
    package_files: Fact[PackageFiles] = Fact()
    package_trust: Fact[PackageTrust] = Fact()
    programs: Fact[Programs] = Fact()
    scanners: Fact[tuple[Scanner, ...]] = Fact()
    # Services, logs, time
    services: Fact[tuple[Service, ...]] = Fact()
    failed_units: Fact[tuple[str, ...]] = Fact()
    servers: Fact[Servers] = Fact()
    session: Fact[dict[str, str]] = Fact()  # logind.conf
    core_dumps: Fact[dict[str, str]] = Fact()  # coredump.conf, and systemd's own limit
    logs: Fact[Logs] = Fact()
    journal_whole: Fact[tuple[str, ...]] = Fact()  # what journalctl --verify complains of
    rotations: Fact[tuple[Rotation, ...]] = Fact()
    kernel_audit: Fact[KernelAudit] = Fact()
    clock: Fact[Clock] = Fact()
    # The machine
    kernel: Fact[dict[str, str]] = Fact()
    devices: Fact[Devices] = Fact()
    usb_events: Fact[tuple[UsbEvent, ...]] = Fact()
    storage: Fact[Storage] = Fact()
    confinement: Fact[Confinement] = Fact()
    hardware: Fact[Hardware] = Fact()
    # The network
    listeners: Fact[tuple[Listener, ...]] = Fact()
    connections: Fact[tuple[Connection, ...]] = Fact()
    links: Fact[Links] = Fact()
    firewall: Fact[Firewall] = Fact()
    tls: Fact[Tls] = Fact()
    web: Fact[Web] = Fact()
    gateway: Fact[tuple[Line, ...]] = Fact()  # its configuration
    # Banip's own
    release: Fact[InstalledRelease] = Fact()
    units: Fact[tuple[Unit, ...]] = Fact()
    keys: Fact[tuple[File, ...]] = Fact()
    data_files: Fact[tuple[File, ...]] = Fact()
    state: Fact[StateJournal] = Fact()
    files_drift: Fact[Drift] = Fact()
    models_drift: Fact[Drift] = Fact()
    environments_drift: Fact[Drift] = Fact()
    containers: Fact[tuple[Container, ...]] = Fact()
    images: Fact[Images] = Fact()
    api_sockets: Fact[tuple[str, ...]] = Fact()  # of Podman and Docker
    health: Fact[dict[str, int]] = Fact()  # status by URL
    api_users: Fact[tuple[ApiUser, ...]] = Fact()
    documents: Fact[Documents] = Fact()
    requests: Fact[RequestLog] = Fact()
    earlier_audits: Fact[tuple[datetime, ...]] = Fact()
    audit_chain: Fact[AuditChain] = Fact()

    def proven(self) -> InstalledRelease:
        """Return the release where its signature holds; a refused one proves nothing. Raises ``NotRead``."""
        found = self.release.get()
        if found.refused is not None:
            raise NotRead(self.release.source, as_reason(found.refused).as_text())
        return found


def facts_from_bytes(data: bytes, where: object) -> AuditFacts:
    """Read a facts file that an audit wrote. Raises ``BadInput``."""
    try:
        facts = msgspec.json.decode(data, type=AuditFacts)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(text("this is not a facts file of an audit"), where=where, seen=error) from error
    if not is_of_a_clock(facts.taken):
        place, seen = f"{where}: $.taken", facts.taken.isoformat()
        raise BadInput(text("this is not a facts file of an audit"), where=place, seen=seen)
    return facts
