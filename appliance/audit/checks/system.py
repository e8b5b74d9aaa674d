"""The machine: what its kernel allows, where its data lies, what may be plugged in, what confines."""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING

from appliance.audit.checks.verdict import (
    Asked,
    Verdict,
    check,
    failed,
    listed,
    not_applicable,
    passed,
    unknown,
    unless,
    verdict,
)
from appliance.audit.reason import as_reason
from appliance.text import text

if TYPE_CHECKING:
    from appliance.audit.facts import AuditFacts
    from appliance.audit.facts_host import Mount, UsbEvent
    from appliance.text import Text

#: What each of the kernel's switches may be.
WANTED_PROTECTION = {
    "dev.tty.ldisc_autoload": {"0"},
    "fs.protected_fifos": {"1", "2"},
    "fs.protected_hardlinks": {"1"},
    "fs.protected_regular": {"1", "2"},
    "fs.protected_symlinks": {"1"},
    "fs.suid_dumpable": {"0"},
    "kernel.dmesg_restrict": {"1"},
    "kernel.kptr_restrict": {"1", "2"},
    "kernel.perf_event_paranoid": {"2", "3", "4"},
    "kernel.randomize_va_space": {"2"},
    "kernel.sysrq": {"0"},
    "kernel.unprivileged_bpf_disabled": {"1", "2"},
    "kernel.yama.ptrace_scope": {"1", "2", "3"},
}
#: Into these anybody may write, so nothing there may gain rights or be a device.
_COMMON = ("/dev/shm", "/tmp", "/var/tmp")  # noqa: S108 - looked at
_PLUGGED_IN = ("/media/", "/mnt/", "/run/media/")
_CONFINING = frozenset({"apparmor", "selinux", "smack", "tomoyo"})
#: Until when a system gets security updates in its distribution's long-term support.
SUPPORTED_UNTIL = {
    "debian-11": "2026-08-31",
    "debian-12": "2028-06-30",
    "debian-13": "2030-06-30",
    "ubuntu-20.04": "2025-05-31",
    "ubuntu-22.04": "2027-06-01",
    "ubuntu-24.04": "2029-05-31",
}
_DMA = ("firewire_ohci", "firewire_sbp2", "sbp2", "thunderbolt")
_INTAKE_S = 86400
_ATTACHED = re.compile(r"Mass Storage device detected|Attached SCSI removable disk")


def _of_the_host(fact_source: str) -> Verdict:
    return not_applicable(text("a container: this is a matter of the machine around it"), fact_source)


@check("host.kernel-protection")
def kernel_protection(facts: AuditFacts, _: Asked) -> Verdict:
    """The kernel tells programs little of itself, and protects one from another."""
    settings = facts.kernel.get()
    found = [
        f"{name} = {settings[name]}"
        for name, wanted in WANTED_PROTECTION.items()
        if name in settings and settings[name] not in wanted
    ]
    return unless(found, facts.kernel.source, text("{count} looked at, none found", count=len(settings)))


@check("host.core-dumps")
def core_dumps(facts: AuditFacts, _: Asked) -> Verdict:
    """The memory of a program that crashes, with questions and keys in it, is not written to a disk."""
    pattern, given = facts.kernel.get().get("kernel.core_pattern", "core"), facts.core_dumps.get()
    collected = "systemd-coredump" in pattern
    nothing = pattern.startswith(("|/bin/false", "|/usr/bin/false", "|/bin/true", "|/usr/bin/true"))
    unkept = collected and given.get("Storage") == "none" and given.get("ProcessSizeMax") == "0"
    limited = not collected and given.get("DefaultLimitCORE") == "0" and given.get("limits.conf") == "0"
    names = ("DefaultLimitCORE", "limits.conf", "Storage")
    words = [
        f"kernel.core_pattern = {pattern}",
        *(f"{name}={given[name]}" for name in names if name in given),
    ]
    where = f"{facts.kernel.source}, {facts.core_dumps.source}"
    return verdict(listed(words), where, holds=nothing or unkept or limited)


# --- Storage -----------------------------------------------------------------------------------------------


@check("host.disk-encryption")
def disk_encryption(facts: AuditFacts, _: Asked) -> Verdict:
    """What lies on the disk under Banip's root is encrypted: LUKS does it, and is no validated module."""
    if facts.host.get().container:
        return _of_the_host(facts.storage.source)
    layers = facts.storage.get().layers
    if not layers:
        return unknown(text("no block device was found under it"), facts.storage.source)
    return verdict(text("{names}", names=" < ".join(layers)), facts.storage.source, holds="crypt" in layers)


@check("host.swap-encrypted")
def swap_encrypted(facts: AuditFacts, _: Asked) -> Verdict:
    """What the kernel moves out of memory is not readable on a disk."""
    if facts.host.get().container:
        return _of_the_host(facts.storage.source)
    return unless(facts.storage.get().open_swaps, facts.storage.source)


@check("host.shared-folders")
def shared_folders(facts: AuditFacts, _: Asked) -> Verdict:
    """In folders that everybody writes to, nothing gains rights and nothing is a device."""
    mounts = [one for one in facts.storage.get().mounts if one.target in _COMMON]
    found = [_lacking(one, ("nosuid", "nodev")) for one in mounts]
    return unless([one for one in found if one], facts.storage.source, listed([one.target for one in mounts]))


@check("device.media-mounts")
def media_mounts(facts: AuditFacts, _: Asked) -> Verdict:
    """From a medium that is plugged in nothing runs by itself or gains rights."""
    mounts = [one for one in facts.storage.get().mounts if one.target.startswith(_PLUGGED_IN)]
    found = [_lacking(one, ("nosuid", "nodev", "noexec")) for one in mounts]
    return unless([one for one in found if one], facts.storage.source, listed([one.target for one in mounts]))


def _lacking(mount: Mount, wanted: tuple[str, ...]) -> str:
    lacking = [one for one in wanted if one not in mount.options]
    return f"{mount.target} {','.join(lacking)}" if lacking else ""


@check("host.disk-space")
def disk_space(facts: AuditFacts, asked: Asked) -> Verdict:
    """There is room left, for logs not least."""
    mounts = [
        one for one in facts.storage.get().mounts if one.free_percent is not None and "ro" not in one.options
    ]
    found = [f"{one.target} {one.free_percent}%" for one in mounts if (one.free_percent or 0) < asked.number]
    return unless(
        found, facts.storage.source, listed([f"{one.target} {one.free_percent}%" for one in mounts])
    )


# --- Devices -----------------------------------------------------------------------------------------------


@check("device.usb-storage")
def usb_storage(facts: AuditFacts, _: Asked) -> Verdict:
    """A stick that is plugged in outside of an intake is not taken by the kernel."""
    devices = facts.devices.get()
    if "usb_storage" in devices.loaded:
        return failed(text("{names}", names="usb_storage"), facts.devices.source)
    if devices.usbguard == "active":
        return passed(text("{names}", names="usbguard active"), facts.devices.source)
    if not devices.modular:
        return passed(text("this kernel has no such driver and loads no modules"), facts.devices.source)
    blocked = "usb_storage" in devices.blocked
    words = listed(devices.blocked) if blocked else text("not blocked")
    return verdict(words, facts.devices.source, holds=blocked)


@check("device.usb-ports")
def usb_ports(facts: AuditFacts, _: Asked) -> Verdict:
    """A new USB device of any kind waits until somebody lets it in."""
    devices = facts.devices.get()
    if not devices.usb_controllers:
        return not_applicable(text("there is no USB controller"), facts.devices.source)
    if devices.usbguard == "active":
        return passed(text("{names}", names="usbguard active"), facts.devices.source)
    return unless(devices.usb_open, facts.devices.source, text("{names}", names="authorized_default = 0"))


@check("device.usb-events")
def usb_events(facts: AuditFacts, _: Asked) -> Verdict:
    """Every USB storage device that was attached was attached for an intake that is in the operation log."""
    events = [one for one in facts.usb_events.get() if _ATTACHED.search(one.words)]
    state = facts.state.get()
    if state.broken is not None:
        return unknown(as_reason(state.broken).as_text(), facts.state.source)
    strangers = [one for one in events if not _is_for_an_intake(one, facts)]
    found = [f"{one.at:%Y-%m-%d %H:%M} {one.words}" for one in strangers]
    return unless(found, facts.usb_events.source, text("{count} looked at, none found", count=len(events)))


def _is_for_an_intake(event: UsbEvent, facts: AuditFacts) -> bool:
    return any(abs((event.at - when).total_seconds()) <= _INTAKE_S for when in facts.state.get().intakes)


@check("device.dma-ports")
def dma_ports(facts: AuditFacts, _: Asked) -> Verdict:
    """Ports through which a device reads memory by itself (FireWire, Thunderbolt) have no driver."""
    return unless([one for one in facts.devices.get().loaded if one in _DMA], facts.devices.source)


@check("network.no-wireless")
def no_wireless(facts: AuditFacts, _: Asked) -> Verdict:
    """No interface has a radio."""
    return unless(facts.devices.get().wireless, facts.devices.source)


@check("network.no-bluetooth")
def no_bluetooth(facts: AuditFacts, _: Asked) -> Verdict:
    """No Bluetooth controller, and no driver that waits for one."""
    devices = facts.devices.get()
    found = [*devices.bluetooth, *(one for one in devices.loaded if one in {"bluetooth", "btusb"})]
    return unless(found, facts.devices.source)


# --- Confinement, labels, support --------------------------------------------------------------------------


@check("host.access-control")
def access_control(facts: AuditFacts, _: Asked) -> Verdict:
    """Beyond permissions, profiles of the kernel say what programs may do, and are enforced."""
    if facts.host.get().container:
        return _of_the_host(facts.confinement.source)
    found = facts.confinement.get()
    modules = [one for one in found.modules if one in _CONFINING]
    words = text(
        "{names}: {enforced} profiles enforced, {complaining} only complain",
        names=", ".join(modules) or "-",
        enforced=found.enforcing,
        complaining=len(found.complaining),
    )
    return verdict(words, facts.confinement.source, holds=bool(modules) and found.enforcing > 0)


@check("host.secure-boot")
def secure_boot(facts: AuditFacts, _: Asked) -> Verdict:
    """The firmware starts nothing that is not signed."""
    if facts.host.get().container:
        return _of_the_host(facts.hardware.source)
    found = facts.hardware.get()
    words = text("{names}", names=f"{found.firmware}, Secure Boot {_spoken(found.secure_boot)}")
    return verdict(words, facts.hardware.source, holds=found.secure_boot is True)


def _spoken(state: bool | None) -> str:  # noqa: FBT001 - a state, not a switch
    return {True: "on", False: "off", None: "-"}[state]


@check("hardware.inventory")
def inventory(facts: AuditFacts, _: Asked) -> Verdict:
    """The machine names itself; whether the asset register says the same, only the site can tell."""
    found = facts.hardware.get()
    names = [f"{found.vendor} {found.model} {found.serial}".strip() or "-", *found.interfaces, *found.disks]
    return Verdict("manual", listed(names), facts.hardware.source)


@check("host.supported")
def supported(facts: AuditFacts, asked: Asked) -> Verdict:
    """The system's maker still mends it."""
    about = facts.host.get()
    until = SUPPORTED_UNTIL.get(about.os_id)
    if until is None:
        return unknown(_spelled_support(about.os, "?"), facts.host.source)
    left = (date.fromisoformat(until) - facts.taken.date()).days
    return verdict(_spelled_support(about.os, until), facts.host.source, holds=left >= asked.number)


def _spelled_support(name: str, until: str) -> Text:
    return text("{names}", names=f"{name}: {until}")


@check("host.malware-scanner")
def malware_scanner(facts: AuditFacts, asked: Asked) -> Verdict:
    """A program looks for malicious code, and knows of what came lately."""
    found = facts.scanners.get()
    active = [one for one in found if one.active]
    if not active:
        return failed(text("no such program runs"), facts.scanners.source)
    shown = [f"{one.name} {f'{one.signatures:%Y-%m-%d}' if one.signatures else '-'}" for one in active]
    undated = [one.name for one in active if one.signatures is None]
    if len(undated) == len(active):
        return unknown(
            text("the age of its signatures is not known: {names}", names=", ".join(undated)),
            facts.scanners.source,
        )
    ages = [(facts.taken - one.signatures).days for one in active if one.signatures]
    return verdict(listed(shown), facts.scanners.source, holds=min(ages) <= asked.number)
