"""What runs: legacy services that must not, and Banip's own units with the rights that they have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.audit.checks.verdict import (
    Asked,
    Verdict,
    check,
    listed,
    not_applicable,
    spelled,
    unless,
)
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.audit.facts import AuditFacts, Container, Unit

NO_USER = ("", "root", "0")
SUPERVISORS = frozenset({"/usr/bin/podman"})
_RUNNING = frozenset({"active", "activating", "reloading"})
_STARTS = frozenset({"enabled", "enabled-runtime"})


def _absent(name: str, *services: str) -> Callable[[AuditFacts, Asked], Verdict]:
    """Make the check that none of these services (names without their suffix) runs, or would at boot."""

    def judge(facts: AuditFacts, _: Asked) -> Verdict:
        known = [one for one in facts.services.get() if one.name.rpartition(".")[0] in services]
        found = [
            f"{one.name} {one.active} {one.enabled}"
            for one in known
            if one.active in _RUNNING or one.enabled in _STARTS
        ]
        return unless(
            found, facts.services.source, text("none of these runs: {names}", names=", ".join(services))
        )

    return check(name)(judge)


finger = _absent("host.no-finger", "finger", "fingerd", "cfingerd")
shares = _absent("host.no-anonymous-share", "smbd", "nmbd", "samba", "samba-ad-dc")
remote_shells = _absent(
    "host.no-r-services", "rsh", "rlogin", "rexec", "rshd", "rsh-server", "inetutils-inetd"
)
simple_services = _absent(
    "host.no-simple-services", "echo", "discard", "daytime", "chargen", "inetd", "xinetd"
)
nfs = _absent("host.no-nfs", "nfs-server", "nfs-kernel-server", "nfs-mountd", "nfsdcld")
automounter = _absent("host.no-automount", "autofs", "automount")
rpc = _absent("host.no-rpc", "rpcbind", "rpc-statd", "portmap")
nis = _absent("host.no-nis", "ypbind", "ypserv", "yppasswdd", "nis")
tftp = _absent("host.no-tftp-talk", "tftp", "tftpd", "tftpd-hpa", "atftpd", "talk", "talkd", "ntalk")
mail = _absent("host.no-mail-server", "postfix", "exim4", "sendmail", "opensmtpd")
dns = _absent("host.no-dns-server", "named", "bind9", "unbound", "dnsmasq", "pdns")
telnet = _absent("host.no-telnet", "telnet", "telnetd", "inetutils-telnetd")
ftp = _absent("host.no-ftp", "vsftpd", "proftpd", "pure-ftpd", "ftpd")
snmp = _absent("host.no-snmp", "snmpd", "snmptrapd")


# --- Banip's units -----------------------------------------------------------------------------------------


def _services(facts: AuditFacts) -> list[Unit]:
    return [unit for unit in facts.units.get() if unit.name.endswith(".service")]


@check("service.running")
def running(facts: AuditFacts, _: Asked) -> Verdict:
    """Every unit that the signed release declares is at work."""
    declared = facts.proven().units
    states = {unit.name: unit.active for unit in facts.units.get()}
    found = [f"{name} {states.get(name, '-')}" for name in declared if states.get(name) != "active"]
    return unless(found, facts.units.source, listed([f"{name} active" for name in declared]))


@check("service.own-accounts")
def own_accounts(facts: AuditFacts, _: Asked) -> Verdict:
    """No service that stays at work does so as root; one that only sets something up and ends may.

    Podman itself is root's, and what it runs is not: that is ``container.privileges``.
    """
    working = [unit for unit in _services(facts) if unit.kind != "oneshot" and unit.active == "active"]
    lasting = [unit for unit in working if unit.program not in SUPERVISORS]
    found = [
        f"{unit.name} {unit.process_user or 'root'}"
        for unit in lasting
        if unit.user in NO_USER or unit.process_user in NO_USER
    ]
    return unless(found, facts.units.source, listed([f"{one.name} {one.process_user}" for one in lasting]))


@check("service.hardening")
def hardening(facts: AuditFacts, asked: Asked) -> Verdict:
    """What a lasting service could do, as systemd measures it, stays below the threshold."""
    active = [unit for unit in _services(facts) if unit.kind != "oneshot" and unit.active == "active"]
    unmeasured = [unit.name for unit in active if unit.exposure is None]
    if unmeasured:
        return Verdict(
            "unknown", text("not measured: {names}", names=", ".join(unmeasured)), facts.units.source
        )
    measured = [(unit.exposure or 0.0, unit.name) for unit in active]
    found = [
        f"{name} {exposure}" for exposure, name in sorted(measured, reverse=True) if exposure > asked.number
    ]
    every = listed([f"{name} {exposure}" for exposure, name in sorted(measured, reverse=True)])
    return unless(found, facts.units.source, every)


@check("service.unit-files")
def unit_files(facts: AuditFacts, _: Asked) -> Verdict:
    """The services' definitions are root's to write, and no drop-in changes what the roles wrote."""
    units = facts.units.get()
    files = {file.path: file for file in facts.startup.get()}
    found = [f"{unit.name}: {path}" for unit in units for path in unit.drop_ins]
    for unit in units:
        file = files.get(unit.fragment)
        if file is None:
            found.append(f"{unit.name}: {unit.fragment or '-'}")
        elif file.kind == "file" and (file.owner != "root" or file.bits & 0o022):
            found.append(spelled(file))
    return unless(found, facts.units.source, listed([unit.fragment for unit in units]))


@check("service.undeclared-units")
def undeclared_units(facts: AuditFacts, _: Asked) -> Verdict:
    """No unit bears Banip's name that the signed release does not declare."""
    declared = facts.proven().units
    found = [unit.name for unit in facts.units.get() if unit.name not in declared]
    return unless(found, facts.units.source, listed(declared))


# --- Containers --------------------------------------------------------------------------------------------


@check("container.privileges")
def container_privileges(facts: AuditFacts, _: Asked) -> Verdict:
    """Containers have no privileges, no capabilities, and no account of an administrator."""
    wanted, containers = facts.proven().images, facts.containers.get()
    if not wanted and not containers:
        return not_applicable(text("the release has no container image"), facts.release.source)
    found = [fault for container in containers for fault in _faults(container)]
    names = [f"{one.name} user={one.user} read-only no-new-privileges" for one in containers]
    return unless(found, facts.containers.source, listed(names))


def _faults(container: Container) -> list[str]:
    faults = {
        "privileged": container.privileged,
        "user=root": container.user.partition(":")[0] in NO_USER,
        "capabilities " + ",".join(container.added): bool(container.added),
        "writable root": not container.read_only,
        "new privileges": not container.no_new_privileges,
    }
    return [f"{container.name}: {fault}" for fault, holds in faults.items() if holds]


@check("container.image-digests")
def image_digests(facts: AuditFacts, _: Asked) -> Verdict:
    """Containers run signed images only, and each signed image is there."""
    wanted = facts.proven().images
    containers = facts.containers.get()
    if not wanted and not containers:
        return not_applicable(text("the release has no container image"), facts.release.source)
    held = facts.images.get().digests
    found = [f"{digest[:16]} -" for digest in wanted if digest not in held]
    found += [f"{one.name} {one.image_digest[:16]}" for one in containers if one.image_digest not in wanted]
    return unless(found, facts.images.source, listed([digest[:16] for digest in wanted]))
