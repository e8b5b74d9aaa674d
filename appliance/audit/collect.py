"""All facts about one server, read once, in a fixed order."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from appliance.audit.facts import AuditFacts, Fact
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
from appliance.errors import BanipError
from appliance.remedies import own_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from appliance.audit.facts_product import Drift, InstalledRelease
    from appliance.format import Release
    from appliance.release import Server
    from appliance.verify import Trust, TrustedBundle

    class _Compare(Protocol):
        """How files are compared with what was signed."""

        def __call__(self, server: Server, release: Release, *, everything: bool) -> Drift: ...


#: A program that never answers costs its own limit; many of them together cost no more than this.
SECONDS_MOST = 1800
_TOO_LATE = f"not read within {SECONDS_MOST} s"


@dataclass(frozen=True, slots=True)
class Subject:
    """What is audited: a server, and whom it trusts (None before first contact).

    ``everything``: large files are hashed, too. ``contents``: whose files are read whole, which takes as long
    as the disk needs: the release's and the system's ("all"), the release's, or nobody's. ``top``: where the
    walk over files begins.
    """

    server: Server
    trust: Trust | None
    everything: bool = False
    contents: Literal["all", "release", "none"] = "all"
    top: Path = Path("/")

    def found(self) -> TrustedBundle | BanipError:
        """Judge the installed release again. Raises ``Unreadable``."""
        if self.trust is None:
            message = "this server trusts nobody yet"
            raise Unreadable(message)
        return product.current(self.server, self.trust)

    def proven(self) -> TrustedBundle:
        """Return the installed release as proof. Raises ``Unreadable``."""
        found = self.found()
        if isinstance(found, BanipError):
            message = f"the installed release is no proof: {found}"
            raise Unreadable(message)
        return found

    def release(self) -> InstalledRelease:
        """Say what the installed release is. Raises ``Unreadable``."""
        found = self.found()
        if self.trust is None:
            message = "this server trusts nobody yet"
            raise Unreadable(message)
        return product.release(self.server, self.trust, found)


def collect(subject: Subject, version: str, progress: Callable[[str], None] = lambda _: None) -> AuditFacts:
    """Read every fact; one that cannot be read carries its reason. ``version``: of this appliance."""
    facts: dict[str, Fact[object]] = {}
    until = time.monotonic() + SECONDS_MOST
    release = fact("signed metadata", subject.release)
    known = release.value
    for name, source, read in _readers(subject, known):
        progress(name)
        in_time = time.monotonic() < until
        facts[name] = fact(source, read) if in_time else Fact(source=source, unread=_TOO_LATE)
    return AuditFacts(
        taken=datetime.now(timezone.utc),
        appliance=version,
        release=release,
        **facts,  # type: ignore[arg-type]
    )


_Reader = tuple[str, str, "Callable[[], object]"]


def _readers(subject: Subject, known: InstalledRelease | None) -> tuple[_Reader, ...]:
    """Return name, source and reader of every fact, in the order in which they are read."""
    return (
        *_account_readers(),
        *_file_readers(subject, known),
        *_service_readers(known),
        *_machine_readers(subject),
        *_network_readers(known),
        *_product_readers(subject, known),
        *(_content_readers(subject) if subject.contents != "none" else ()),
        *(_host_content_readers() if subject.contents == "all" else ()),
    )


def _account_readers() -> tuple[_Reader, ...]:
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


def _file_readers(subject: Subject, known: InstalledRelease | None) -> tuple[_Reader, ...]:
    owned = (*known.paths, *(f"/etc/systemd/system/{unit}" for unit in known.units)) if known else ()
    return (
        ("files", "lstat", host.named_files),
        ("homes", "lstat", accounts.homes),
        ("startup", "lstat /etc/systemd/system, /etc/init.d", host.startup),
        ("logs_files", "lstat /var/log", host.logs_files),
        ("path_folders", "lstat $PATH", accounts.path_folders),
        ("device_files", "lstat /dev", host.device_files),
        ("finds", f"lstat {subject.top}", partial(walk.finds, subject.server.root, subject.top)),
        ("packages", "dpkg-query -W", packages.packages),
        ("package_trust", "apt-config dump, /etc/apt/sources.list.d", packages.package_trust),
        ("programs", "dpkg-query --search", partial(_programs, subject, owned)),
        ("scanners", "systemctl is-active, clamscan --version", packages.scanners),
    )


def _programs(subject: Subject, owned: tuple[str, ...]) -> object:
    """Look for what nobody brought: what `audit --fix` wrote, and is as it was written, somebody did."""
    return packages.programs((*owned, *own_files(subject.server.state.folder)))


def _service_readers(known: InstalledRelease | None) -> tuple[_Reader, ...]:
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


def _machine_readers(subject: Subject) -> tuple[_Reader, ...]:
    return (
        ("kernel", "/proc/sys", host.kernel),
        ("devices", "modprobe --showconfig, /proc/modules, /sys/class/net, /sys/bus/usb", machine.devices),
        ("usb_events", "journalctl _TRANSPORT=kernel", machine.usb_events),
        ("storage", "findmnt, lsblk, /proc/swaps", partial(machine.storage, subject.server.root)),
        ("confinement", "/sys/kernel/security", machine.confinement),
        ("hardware", "/sys/class/dmi/id, lsblk, /sys/firmware/efi", machine.hardware),
    )


def _network_readers(known: InstalledRelease | None) -> tuple[_Reader, ...]:
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


def _product_readers(subject: Subject, known: InstalledRelease | None) -> tuple[_Reader, ...]:
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
        ("earlier_audits", str(server.logs / "audit"), partial(data.earlier_audits, server.logs / "audit")),
        ("audit_chain", str(server.state.folder / "audits"), partial(audits.audit_chain, server)),
    )


def _content_readers(subject: Subject) -> tuple[_Reader, ...]:
    """Readers whose time grows with the bytes on the disk."""
    server = subject.server
    return (
        ("files_drift", str(server.releases), partial(_drift, subject, drift.files_drift)),
        ("models_drift", str(server.releases), partial(_drift, subject, drift.models_drift)),
        ("environments_drift", str(server.environments), partial(_drift, subject, drift.environments_drift)),
        ("documents", str(server.data / "api" / "collection"), partial(data.documents, server)),
    )


def _host_content_readers() -> tuple[_Reader, ...]:
    return (
        ("package_files", "dpkg --verify", packages.package_files),
        ("journal_whole", "journalctl --verify", logs.journal_whole),
    )


def _drift(subject: Subject, compare: _Compare) -> object:
    return compare(subject.server, subject.proven().release, everything=subject.everything)
