"""All facts about one server, read once, in a fixed order."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from appliance.audit.facts import AuditFacts, Fact
from appliance.audit.integrity import DAYS, Recorded, Records
from appliance.audit.reading import (
    accounts,
    audits,
    containers,
    data,
    drift,
    firewall,
    gateway,
    host,
    logs,
    machine,
    network,
    packages,
    product,
    remote,
    servers,
    services,
    walk,
)
from appliance.audit.reading.probe import Unreadable, fact, lines
from appliance.audit.reason import why
from appliance.errors import BanipError
from appliance.remedies import own_files
from appliance.text import spelled, text

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.audit.facts_host import PackageFiles
    from appliance.audit.facts_product import Drift, InstalledRelease
    from appliance.audit.integrity import IntegrityRun, Seen
    from appliance.audit.reading.drift import Reading
    from appliance.format import Release
    from appliance.release import Server
    from appliance.verify import Trust, TrustedBundle

    _Compare = Callable[[Server, Release, Reading], Drift]


#: A program that never answers costs its own limit; many of them together cost no more than this.
SECONDS_MOST = 1800
#: Readers mostly wait for programs; what reads much itself, the walk and the digests, is one lane each.
LANES_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Subject:
    """What is audited: a server, and whom it trusts (None before first contact).

    ``contents``: how the content of files becomes known. "recorded": what is signed by the record of the last
    integrity run, no older than ``recorded_days``, and hashed where that is no long work; packages and the
    journal by the record. "all": everything is read now; "release": only what is signed, and packages and the
    journal not at all; "none": nobody's. ``top``: where the walk over files begins.
    """

    server: Server
    trust: Trust | None
    contents: Literal["recorded", "all", "release", "none"] = "recorded"
    recorded_days: float = DAYS
    top: Path = Path("/")


class _Judged:
    """The installed release, judged again once for all who ask."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._found: Fact[TrustedBundle | BanipError] = fact("signed metadata", self._judge)

    def _judge(self) -> TrustedBundle | BanipError:
        if self._subject.trust is None:
            raise Unreadable(text("this server trusts nobody yet"))
        return product.current(self._subject.server, self._subject.trust)

    def found(self) -> TrustedBundle | BanipError:
        """Return it, or why it is refused. Raises ``Unreadable``."""
        if self._found.value is None:
            raise Unreadable(self._found.why())
        return self._found.value

    def proven(self) -> TrustedBundle:
        """Return it as proof. Raises ``Unreadable``."""
        found = self.found()
        if isinstance(found, BanipError):
            raise Unreadable(text("the installed release is no proof: {refusal}", refusal=why(found)))
        return found

    def proven_or_none(self) -> TrustedBundle | None:
        """Return it as proof, None where none is installed. Raises ``Unreadable`` for one that is refused."""
        return self.proven() if self._found.value is not None else None

    def release(self) -> InstalledRelease:
        """Say what it is. Raises ``Unreadable``."""
        found = self.found()
        if self._subject.trust is None:
            raise Unreadable(text("this server trusts nobody yet"))
        return product.release(self._subject.server, self._subject.trust, found)


_Reader = tuple[str, str, "Callable[[], object]"]
_Lane = tuple[_Reader, ...]


def collect(
    subject: Subject, version: str, progress: Callable[[str, float], None] = lambda _name, _seconds: None
) -> AuditFacts:
    """Read every fact; one that cannot be read carries its reason. ``version``: of this appliance.

    Lanes are read side by side, the readers of one lane one after the other. ``progress`` gets each fact's
    name and how many seconds it took, in the facts' order.
    """
    until = time.monotonic() + SECONDS_MOST
    judged = _Judged(subject)
    release = fact("signed metadata", judged.release)
    with ThreadPoolExecutor(LANES_AT_ONCE, "audit") as threads:
        lanes = [threads.submit(_read, lane, until) for lane in _lanes(subject, judged, release.value)]
        read = [one for lane in lanes for one in lane.result()]
    for name, _, seconds in read:
        progress(name, seconds)
    facts = AuditFacts(
        taken=subject.server.clock.now().astimezone(timezone.utc),
        appliance=version,
        release=release,
        **{name: one for name, one, _ in read},  # type: ignore[arg-type]
    )
    # Whoever may make a file may give it a name that is not UTF-8, and no report could be written.
    return msgspec.convert(spelled(msgspec.to_builtins(facts)), AuditFacts)


def _read(lane: _Lane, until: float) -> list[tuple[str, Fact[object], float]]:
    found = []
    for name, source, read in lane:
        began = time.monotonic()
        one = fact(source, read if began < until else _too_late)
        found.append((name, one, time.monotonic() - began))
    return found


def _too_late() -> object:
    raise Unreadable(text("not read within {seconds} s", seconds=SECONDS_MOST))


def _lanes(subject: Subject, judged: _Judged, known: InstalledRelease | None) -> tuple[_Lane, ...]:
    """Return the readers of every fact, name, source and function, in lanes that do not wait for another."""
    return (
        _walk_readers(subject),
        _content_readers(subject, judged),
        _service_readers(known),
        _file_readers(subject, known),
        _account_readers(),
        _product_readers(subject, known),
        _machine_readers(subject),
        # What asks sockets who is connected must not see what asks them for an answer.
        _network_readers(known),
    )


def _account_readers() -> _Lane:
    return (
        ("host", "uname, /etc/os-release, systemd-detect-virt", host.host),
        ("accounts", "getent passwd, getent shadow", accounts.accounts),
        ("groups", "getent group", accounts.groups),
        ("logins", "lastlog", accounts.logins),
        ("failures", "lastb", accounts.failures),
        ("login", "/etc/login.defs", partial(lines, "/etc/login.defs")),
        ("pam", "/etc/pam.d", accounts.pam),
        ("faillock", "/etc/security/faillock.conf", partial(lines, "/etc/security/faillock.conf")),
        ("quality", "/etc/security/pwquality.conf", accounts.password_quality),
        ("banner", "/etc/issue, /etc/issue.net, /etc/motd", accounts.banner),
        ("shell", "bash --login", accounts.shell),
        ("ssh", "sshd -T, ssh-keygen -l", remote.ssh),
        ("sudo", "cvtsudoers -f json /etc/sudoers", remote.sudo),
        ("terminals", "systemctl show *getty*", remote.terminals),
        ("session", "systemd-analyze cat-config systemd/logind.conf", remote.session),
    )


def _walk_readers(subject: Subject) -> _Lane:
    return (("finds", f"lstat {subject.top}", partial(walk.finds, subject.server.root, subject.top)),)


def _file_readers(subject: Subject, known: InstalledRelease | None) -> _Lane:
    owned = (*known.paths, *(f"/etc/systemd/system/{unit}" for unit in known.units)) if known else ()
    return (
        ("files", "lstat", host.named_files),
        ("homes", "lstat", accounts.homes),
        ("startup", "lstat /etc/systemd/system, /etc/init.d", host.startup),
        ("logs_files", "lstat /var/log", host.logs_files),
        ("path_folders", "lstat $PATH", accounts.path_folders),
        ("device_files", "lstat /dev", host.device_files),
        ("packages", "dpkg-query -W", packages.packages),
        ("package_trust", "apt-config dump, /etc/apt/sources.list.d", packages.package_trust),
        ("programs", "dpkg-query --search", partial(_programs, subject, owned)),
        ("scanners", "systemctl is-active, clamscan --version", packages.scanners),
    )


def _programs(subject: Subject, owned: tuple[str, ...]) -> object:
    """Look for what nobody brought: what `audit --fix` wrote, and is as it was written, somebody did."""
    return packages.programs((*owned, *own_files(subject.server.state.folder)))


def _service_readers(known: InstalledRelease | None) -> _Lane:
    return (
        ("services", "systemctl list-units, list-unit-files", services.services),
        ("failed_units", "systemctl list-units --failed", services.failed_units),
        ("servers", "postconf, named-checkconf, testparm, /etc/snmp, /etc/exports", servers.servers),
        ("core_dumps", "systemd-analyze cat-config systemd/coredump.conf", services.core_dumps),
        ("logs", "systemd-analyze cat-config systemd/journald.conf", logs.logs),
        ("rotations", "logrotate --debug", logs.rotations),
        ("kernel_audit", "auditctl -s, auditctl -l", logs.kernel_audit),
        (
            "clock",
            "clock, /sys/class/rtc/rtc0, timedatectl, chronyc",
            partial(logs.clock, known.built if known else None),
        ),
    )


def _machine_readers(subject: Subject) -> _Lane:
    return (
        ("kernel", "/proc/sys", host.kernel),
        ("devices", "modprobe --showconfig, /proc/modules, /sys/class/net, /sys/bus/usb", machine.devices),
        ("usb_events", "journalctl _TRANSPORT=kernel", machine.usb_events),
        ("storage", "findmnt, lsblk, /proc/swaps", partial(machine.storage, subject.server.root)),
        ("confinement", "/sys/kernel/security", machine.confinement),
        ("hardware", "/sys/class/dmi/id, lsblk, /sys/firmware/efi", machine.hardware),
    )


def _network_readers(known: InstalledRelease | None) -> _Lane:
    urls = known.health if known else ()
    return (
        ("listeners", "/proc/net (psutil)", network.listeners),
        ("connections", "/proc/net/tcp (psutil)", network.connections),
        ("links", "ip address, ip route, /etc/resolv.conf", network.links),
        ("firewall", "nft -j list chains, nft -j list table inet banip", firewall.firewall),
        ("tls", f"TLS handshake with 127.0.0.1:{gateway.GATEWAY_PORT}", gateway.tls),
        ("web", f"requests to 127.0.0.1:{gateway.GATEWAY_PORT} and :{gateway.API_PORT}", gateway.web),
        ("gateway", "/etc/banip/gateway.conf", partial(lines, "/etc/banip/gateway.conf")),
        ("health", "GET of each health address", partial(gateway.health, urls)),
    )


def _product_readers(subject: Subject, known: InstalledRelease | None) -> _Lane:
    server, images = subject.server, known.images if known else ()
    units = known.units if known else ()
    return (
        ("units", "systemctl show, systemd-analyze security", partial(product.units, units)),
        ("keys", f"lstat {server.root}", partial(product.keys, server)),
        ("data_files", f"lstat {server.data}", partial(data.data_files, server)),
        ("state", str(server.state.folder / "journal"), partial(product.state, server)),
        ("containers", "podman inspect", partial(containers.containers, server, images)),
        ("images", "podman images", partial(containers.images, server, images)),
        ("api_sockets", "/run/podman, /run/docker.sock", containers.api_sockets),
        ("api_users", str(server.data / "api" / "users.json"), partial(data.api_users, server)),
        ("requests", "journalctl -u banip-api", data.requests),
        ("earlier_audits", str(server.state.folder / "audits"), partial(audits.earlier_audits, server)),
        ("audit_chain", str(server.state.folder / "audits"), partial(audits.audit_chain, server)),
    )


def _content_readers(subject: Subject, judged: _Judged) -> _Lane:
    """Readers whose time grows with the bytes on the disk, unless a record tells what they hold."""
    server = subject.server
    if subject.contents == "none":
        return ()
    record = _Record(subject, judged)
    signed: _Lane = (
        ("files_drift", str(server.releases), partial(_drift, subject, judged, record, drift.files_drift)),
        ("models_drift", str(server.releases), partial(_drift, subject, judged, record, drift.models_drift)),
        (
            "environments_drift",
            str(server.environments),
            partial(_drift, subject, judged, record, drift.environments_drift),
        ),
        ("documents", str(server.data / "api" / "collection"), partial(data.documents, server)),
    )
    if subject.contents == "release":
        return signed
    if subject.contents == "all":
        return (
            *signed,
            ("package_files", "dpkg --verify", packages.package_files),
            ("journal_whole", "journalctl --verify", logs.journal_whole),
        )
    return (
        *signed,
        ("package_files", "dpkg --verify, integrity run", record.package_files),
        ("journal_whole", "journalctl --verify, integrity run", record.journal_whole),
    )


def _drift(subject: Subject, judged: _Judged, record: _Record, compare: _Compare) -> object:
    proof = judged.proven()
    return compare(subject.server, proof.release, record.reading())


class _Record:
    """What the last integrity run found, as far as this audit may go by it; read once for all who ask."""

    def __init__(self, subject: Subject, judged: _Judged) -> None:
        self._records = Records.on(subject.server)
        self._wanted = subject.contents == "recorded"
        self._ask = partial(self._believed, subject, judged)
        self._known: Fact[tuple[IntegrityRun, dict[str, Seen]]] | None = None

    def _believed(self, subject: Subject, judged: _Judged) -> tuple[IntegrityRun, dict[str, Seen]]:
        now = subject.server.clock.now()
        run = self._records.believed(judged.proven_or_none(), now, subject.recorded_days)
        return run, self._records.seen(run)

    def _fact(self) -> Fact[tuple[IntegrityRun, dict[str, Seen]]]:
        if self._known is None:  # only this lane asks
            self._known = fact(str(self._records.folder), self._ask)
        return self._known

    def _run(self) -> IntegrityRun:
        found = self._fact()
        if found.value is None:
            raise Unreadable(found.why())
        return found.value[0]

    def reading(self) -> Reading:
        """Return how the content of signed files becomes known: where the record does not count, live."""
        known = self._fact().value if self._wanted else None
        return Recorded(*known) if known is not None else drift.Live()

    def package_files(self) -> PackageFiles:
        """Return what dpkg said then, and says now of what changed since. Raises ``Unreadable``."""
        run = self._run()
        if run.packages.value is None:
            raise Unreadable(run.packages.why())
        return packages.package_files_since(run.packages.value, run.started)

    def journal_whole(self) -> tuple[str, ...]:
        """Return what journalctl said then, and says now of archives that changed. Raises ``Unreadable``."""
        run = self._run()
        if run.journal.value is None:
            raise Unreadable(run.journal.why())
        there = [one for one in run.archives if Path(one.path).exists()]  # the oldest go by retention
        changed = [Path(one.path) for one in there if not one.still(Path(one.path).stat())]
        return logs.journal_whole_since(run.journal.value, changed)
