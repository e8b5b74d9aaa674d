"""Banip's own units and containers, with the rights that they have."""

from __future__ import annotations

from collections import Counter
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
from appliance.plan import is_well
from appliance.text import text

if TYPE_CHECKING:
    from appliance.audit.facts import AuditFacts
    from appliance.audit.facts_product import Container, Unit

NO_USER = ("", "root", "0")
SUPERVISORS = frozenset({"/usr/bin/podman"})
#: Systems of the host that a container must not be shown, and sockets that would give it the host.
_HOST_FOLDERS = ("/", "/etc", "/root", "/home", "/boot", "/proc", "/sys", "/dev", "/usr", "/var")
_ENGINE_SOCKETS = ("podman.sock", "docker.sock", "containerd.sock", "crio.sock")
#: What lets strangers in has to answer them: its packets are the firewall's matter.
_GATEWAYS = ("banip-gateway.service",)


# --- Banip's units -----------------------------------------------------------------------------------------


def _services(facts: AuditFacts) -> list[Unit]:
    return [unit for unit in facts.units.get() if unit.name.endswith(".service")]


def _lasting(facts: AuditFacts) -> list[Unit]:
    """Return the services that stay at work, as opposed to those that set something up and end."""
    return [one for one in _services(facts) if one.kind != "oneshot" and one.active == "active"]


@check("service.running")
def running(facts: AuditFacts, _: Asked) -> Verdict:
    """Every unit that the signed release declares is at work, or waits for its timer."""
    declared = facts.proven().units
    states = {unit.name: unit.active for unit in facts.units.get()}
    shown = {name: f"{name} {states.get(name, '-')}" for name in declared}
    found = [shown[name] for name in declared if not is_well(name, states.get(name, "-"), declared)]
    return unless(found, facts.units.source, listed(list(shown.values())))


@check("service.own-accounts")
def own_accounts(facts: AuditFacts, _: Asked) -> Verdict:
    """No service that stays at work does so as root; one that only sets something up and ends may.

    Podman itself is root's, and what it runs is not: that is ``container.privileges``.
    """
    lasting = [unit for unit in _lasting(facts) if unit.program not in SUPERVISORS]
    found = [
        f"{unit.name} {unit.process_user or 'root'}"
        for unit in lasting
        if unit.user in NO_USER or unit.process_user in NO_USER
    ]
    return unless(found, facts.units.source, listed([f"{one.name} {one.process_user}" for one in lasting]))


@check("service.hardening")
def hardening(facts: AuditFacts, asked: Asked) -> Verdict:
    """What a lasting service could do, as systemd measures it, stays below the threshold."""
    active = _lasting(facts)
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


@check("service.separate-accounts")
def separate_accounts(facts: AuditFacts, _: Asked) -> Verdict:
    """Each lasting service has an account of its own, so that one that is taken does not give the others."""
    lasting = [one for one in _lasting(facts) if one.program not in SUPERVISORS]
    counts = Counter(one.process_user or one.user for one in lasting)
    found = [f"{one.name} {one.process_user}" for one in lasting if counts[one.process_user or one.user] > 1]
    return unless(found, facts.units.source, listed([f"{one.name} {one.process_user}" for one in lasting]))


@check("service.network-limits")
def network_limits(facts: AuditFacts, _: Asked) -> Verdict:
    """Services that serve only this host can speak to this host only, whatever the firewall says."""
    lasting = [one for one in _lasting(facts) if one.name not in _GATEWAYS]
    found = [one.name for one in lasting if not {"0.0.0.0/0", "::/0"} <= set(one.denies)]
    return unless(found, facts.units.source, listed([one.name for one in lasting]))


@check("service.no-secrets-in-units")
def no_secrets_in_units(facts: AuditFacts, _: Asked) -> Verdict:
    """No service's definition holds a password or key in plain words: everybody may read those."""
    units = facts.units.get()
    found = [f"{one.name}: {name}" for one in units for name in one.secrets]
    return unless(found, facts.units.source, text("{count} looked at, none found", count=len(units)))


@check("service.steady")
def steady(facts: AuditFacts, asked: Asked) -> Verdict:
    """Services stay up: none was started again and again."""
    found = [f"{one.name}: {one.failures}" for one in _services(facts) if one.failures > asked.number]
    return unless(
        found, facts.units.source, listed([f"{one.name}: {one.failures}" for one in _services(facts)])
    )


@check("service.none-failed")
def none_failed(facts: AuditFacts, _: Asked) -> Verdict:
    """No unit of the whole system has failed."""
    return unless(facts.failed_units.get(), facts.failed_units.source)


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


@check("container.isolation")
def isolation(facts: AuditFacts, _: Asked) -> Verdict:
    """A container has its own processes and devices, sees no folder of the host, and stays filtered."""
    wanted, containers = facts.proven().images, facts.containers.get()
    if not wanted and not containers:
        return not_applicable(text("the release has no container image"), facts.release.source)
    found = [f"{one.name}: {fault}" for one in containers for fault in _openings(one)]
    return unless(found, facts.containers.source, listed([one.name for one in containers]))


def _openings(container: Container) -> list[str]:
    faults = [f"host {name}" for name in container.shared]
    faults += [f"device {name}" for name in container.devices]
    faults += [f"{name} unconfined" for name in container.unconfined]
    return faults + [
        f"mount {one.source}"
        for one in container.mounts
        if one.source in _HOST_FOLDERS or one.source.endswith(_ENGINE_SOCKETS)
    ]


@check("container.no-api-socket")
def no_api_socket(facts: AuditFacts, _: Asked) -> Verdict:
    """No container engine waits at a socket for orders."""
    return unless(facts.api_sockets.get(), facts.api_sockets.source)
