"""Facts about Banip's own: release, units, containers, users, documents, logs of operations."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - msgspec resolves annotations at run time
from typing import Literal

from appliance.audit.reason import Reason  # noqa: TC001 - as above
from appliance.format import Grade, Value


class Unit(Value, frozen=True, omit_defaults=True):
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
    denies: tuple[str, ...] = ()  # IPAddressDeny=
    secrets: tuple[str, ...] = ()  # names of variables of its Environment= that hold a secret
    failures: int = 0  # restarts by systemd since it was started


class Drift(Value, frozen=True):
    """Files on the disk against signed digests, counted by how the content of each became known.

    ``hashed``: now. ``recorded``: by the integrity run that began at ``run``, unchanged on the disk since.
    ``sized``: not at all, only the size was compared. ``unsigned``: nobody signed their content, because the
    installation writes it: scripts that name their environment.
    """

    hashed: int
    sized: int
    changed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    recorded: int = 0
    unsigned: int = 0
    run: datetime | None = None


class InstalledRelease(Value, frozen=True, omit_defaults=True):
    """The installed release, judged again by the numbered rules; ``refused``: why it is no proof any more."""

    id: str
    refused: Reason | str | None = None
    product: str = ""
    version: str = ""
    counter: int = 0
    grade: Grade | None = None
    built: datetime | None = None
    expires: datetime | None = None
    root_version: int = 0
    root_keys: int = 0
    root_threshold: int = 0
    bom: Literal["present", "missing", "changed"] | None = None
    floor: int | None = None
    listens: tuple[str, ...] = ()  # "tcp/127.0.0.1:8600"
    health: tuple[str, ...] = ()  # URLs that answer 200 while it is well
    packages: tuple[str, ...] = ()  # "name=version"
    images: tuple[str, ...] = ()  # sha256 of the manifests
    units: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()  # that its roles own on the host
    previous: str = ""  # the release to go back to
    previous_whole: bool = False  # and whether its folder is there


class SensitiveCommand(Value, frozen=True):
    """A command of an administrator that somebody has to approve, as the operation log has it."""

    at: datetime
    command: str


class StateJournal(Value, frozen=True, omit_defaults=True):
    """The operation log of this server: its chain of digests, or where it breaks."""

    lines: int
    head: str = ""
    broken: Reason | str | None = None
    unsafe: tuple[str, ...] = ()  # events that weakened safety on purpose
    replaced: tuple[str, ...] = ()  # first roots that were trusted before, and when that ended
    first: datetime | None = None
    intakes: tuple[datetime, ...] = ()  # when a medium was at work: events of an import or an installation
    last_backup: datetime | None = None
    last_outcome: str = ""  # of the newest operation: install, upgrade, rollback, failed, ...
    sensitive: tuple[SensitiveCommand, ...] | None = None  # None: nobody looked for them
    returns: tuple[datetime, ...] = ()  # when this server was back at its release before


class AuditHead(Value, frozen=True):
    """A record of the chain by number and head."""

    number: int
    head: str


class AuditChain(Value, frozen=True, omit_defaults=True):
    """The chain of earlier audits: how many records its ledger has, and whatever does not hold of it.

    ``first``: the number of the oldest record; ``head``: the newest head; ``key``: SHA-256 of the server's
    audit key; ``sealed``: folders that were looked at and are as they were sealed.
    """

    records: int
    first: int = 0
    head: str = ""
    key: str = ""
    sealed: int = 0
    recent: tuple[AuditHead, ...] = ()  # the newest records
    faults: tuple[str, ...] = ()


class Mounted(Value, frozen=True):
    """What a container sees of the host."""

    source: str
    target: str
    writable: bool


class Container(Value, frozen=True, omit_defaults=True):
    """A container as Podman runs it."""

    name: str
    image: str
    image_digest: str
    user: str
    privileged: bool
    added: tuple[str, ...] = ()  # capabilities
    read_only: bool = False
    no_new_privileges: bool = False
    shared: tuple[str, ...] = ()  # namespaces of the host that it has: "pid", "ipc", "uts", "user"
    devices: tuple[str, ...] = ()
    mounts: tuple[Mounted, ...] = ()
    unconfined: tuple[str, ...] = ()  # what was switched off: "seccomp", "apparmor"


class Images(Value, frozen=True):
    """Container images in Banip's own storage, by manifest digest."""

    digests: tuple[str, ...] = ()


class ApiUser(Value, frozen=True, omit_defaults=True):
    """Somebody who may ask the API; never the digest of the key."""

    name: str
    grade: Grade
    role: str
    created: datetime
    disabled: bool = False


class GradedDocument(Value, frozen=True):
    """A document by the digest of its bytes, and the grade that it carries."""

    sha256: str
    grade: str


class Documents(Value, frozen=True):
    """The documents that the server answers from, and what is known of each."""

    count: int
    grades: dict[str, int]
    undescribed: tuple[str, ...] = ()  # without a record, or with one that does not say grade, digest, time
    changed: tuple[str, ...] = ()  # whose bytes are not those that were taken in
    graded: tuple[GradedDocument, ...] | None = None  # None: nobody looked
    unhashed: int = 0  # whose bytes nobody compared: there were too many


class RequestLog(Value, frozen=True):
    """The newest line that the API wrote about a request: which of who, when, what, outcome it holds."""

    lines: int
    members: tuple[str, ...] = ()
    newest: datetime | None = None
