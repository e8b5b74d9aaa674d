"""All facts about one server, read once, in a fixed order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.audit.facts import AuditFacts, Fact
from appliance.audit.reading import host, network, product, walk
from appliance.audit.reading.drift import environments_drift, files_drift
from appliance.audit.reading.probe import Unreadable, fact, lines
from appliance.errors import BanipError

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.audit.facts import InstalledRelease
    from appliance.release import Server
    from appliance.verify import Trust, TrustedBundle


@dataclass(frozen=True, slots=True)
class Subject:
    """What is audited: a server, and whom it trusts (None before first contact).

    ``everything``: large files are hashed, too. ``top``: where the walk over the host's files begins.
    """

    server: Server
    trust: Trust | None
    everything: bool = False
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
    release = fact("signed metadata", subject.release)
    known = release.value
    for name, source, read in _readers(subject, known):
        progress(name)
        facts[name] = fact(source, read)
    return AuditFacts(
        taken=datetime.now(timezone.utc),
        appliance=version,
        release=release,
        **facts,  # type: ignore[arg-type]
    )


_Reader = tuple[str, str, "Callable[[], object]"]


def _readers(subject: Subject, known: InstalledRelease | None) -> tuple[_Reader, ...]:
    """Return name, source and reader of every fact, in the order in which they are read."""
    return (*_host_readers(), *_service_readers(subject, known), *_product_readers(subject, known))


def _host_readers() -> tuple[_Reader, ...]:
    return (
        ("host", "uname, /etc/os-release, systemd-detect-virt", host.host),
        ("files", "lstat", host.named_files),
        ("homes", "lstat", host.homes),
        ("startup", "lstat /etc/systemd/system, /etc/init.d", host.startup),
        ("logs_files", "lstat /var/log", host.logs_files),
        ("accounts", "getent passwd, getent shadow", host.accounts),
        ("groups", "getent group", host.groups),
        ("login", "/etc/login.defs", partial(lines, "/etc/login.defs")),
        ("pam", "/etc/pam.d", host.pam),
        ("faillock", "/etc/security/faillock.conf", partial(lines, "/etc/security/faillock.conf")),
        ("quality", "/etc/security/pwquality.conf", host.password_quality),
        ("banner", "/etc/issue, /etc/issue.net, /etc/motd", host.banner),
        ("shell", "bash --login", host.shell),
        ("ssh", "sshd -T", host.ssh),
        ("kernel", "/proc/sys", host.kernel),
        ("devices", "modprobe --showconfig, /proc/modules, /sys/class/net", host.devices),
        ("packages", "dpkg-query -W", host.packages),
    )


def _service_readers(subject: Subject, known: InstalledRelease | None) -> tuple[_Reader, ...]:
    units = known.units if known else ()
    built = known.built if known else None
    return (
        ("services", "systemctl list-units, list-unit-files", host.services),
        ("units", "systemctl show, systemd-analyze security", partial(product.units, units)),
        ("listeners", "/proc/net (psutil)", network.listeners),
        ("firewall", "nft -j list ruleset", network.firewall),
        ("tls", f"TLS handshake with 127.0.0.1:{network.GATEWAY_PORT}", network.tls),
        ("logs", "systemd-analyze cat-config systemd/journald.conf", host.logs),
        ("clock", "clock, /sys/class/rtc/rtc0, systemctl is-active", partial(host.clock, built)),
        ("finds", f"lstat {subject.top}", partial(walk.finds, subject.server.root, subject.top)),
    )


def _product_readers(subject: Subject, known: InstalledRelease | None) -> tuple[_Reader, ...]:
    server, images = subject.server, known.images if known else ()
    return (
        ("keys", f"lstat {server.root}", partial(product.keys, server)),
        ("state", str(server.state.folder / "journal"), partial(product.state, server)),
        ("files_drift", str(server.releases), partial(_files, subject)),
        ("environments_drift", str(server.environments), partial(_environments, subject)),
        ("containers", "podman inspect", partial(product.containers, server, images)),
        ("images", "podman images", partial(product.images, server, images)),
    )


def _files(subject: Subject) -> object:
    proven = subject.proven()
    return files_drift(subject.server, proven.release, everything=subject.everything)


def _environments(subject: Subject) -> object:
    proven = subject.proven()
    return environments_drift(subject.server, proven.release, everything=subject.everything)
