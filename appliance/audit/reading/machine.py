"""The machine: devices and what may be plugged in, storage, what confines programs, its labels."""

from __future__ import annotations

import json
import re
import stat
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from appliance.audit.facts_host import Confinement, Devices, Hardware, Mount, Storage, UsbEvent
from appliance.audit.reading.probe import answer, lines, output, program
from appliance.audit.reading.services import is_active

RADIO_AND_MEDIA = (
    "usb_storage", "uas", "firewire_ohci", "firewire_sbp2", "sbp2", "thunderbolt", "bluetooth", "btusb",
)  # fmt: skip
USB_EVENTS_MOST = 500
USB_EVENTS_DAYS = 90
_USB_WORDS = r"usb-storage|USB Mass Storage|Attached SCSI removable disk|\buas\b"
_EFI_VARIABLE = Path("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c")


def devices() -> Devices:
    """Read what may be plugged in: blocked and loaded modules, radios, USB controllers, USBGuard."""
    modules, networks = Path("/proc/modules"), Path("/sys/class/net")
    names = {line.text.split()[0] for line in lines(modules)}
    # What is built in is no module: its driver on the bus says that it is there.
    names |= {path.name.replace("-", "_") for path in Path("/sys/bus/usb/drivers").glob("*")}
    controllers = sorted(Path("/sys/bus/usb/devices").glob("usb*"))
    return Devices(
        blocked=tuple(sorted(_blocked())),
        loaded=tuple(name for name in RADIO_AND_MEDIA if name in names),
        wireless=tuple(sorted(path.name for path in networks.iterdir() if (path / "phy80211").exists())),
        modular=modules.exists(),
        usbguard="active" if is_active("usbguard") else "inactive",
        bluetooth=tuple(sorted(path.name for path in Path("/sys/class/bluetooth").glob("*"))),
        usb_controllers=len(controllers),
        usb_open=tuple(path.name for path in controllers if _text(path / "authorized_default") != "0"),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace").strip()
    except OSError:
        return ""


def _blocked() -> set[str]:
    """Return the modules that modprobe answers with a program which does nothing (modprobe.d(5))."""
    if program("modprobe"):
        rows = [line.split() for line in output("modprobe", "--showconfig").splitlines()]
    else:  # nothing here loads modules by itself: the rules stand in files all the same
        folders = ("/lib/modprobe.d", "/run/modprobe.d", "/etc/modprobe.d")
        files = [path for folder in folders for path in sorted(Path(folder).glob("*.conf"))]
        rows = [line.text.split() for line in lines(*files)]
    nothing = ("/bin/false", "/bin/true", "/usr/bin/false", "/usr/bin/true")
    return {
        row[1].replace("-", "_") for row in rows if row[:1] == ["install"] and row[2:3] and row[2] in nothing
    }


def usb_events() -> tuple[UsbEvent, ...]:
    """Ask the journal for what the kernel said of USB storage, newest last."""
    told = answer(
        "journalctl", "_TRANSPORT=kernel", "--output=json", "--output-fields=MESSAGE", "--no-pager",
        f"--since=-{USB_EVENTS_DAYS}days", f"--lines={USB_EVENTS_MOST}", f"--grep={_USB_WORDS}",
    )  # fmt: skip
    return parse_usb_events(told)


def parse_usb_events(told: str) -> tuple[UsbEvent, ...]:
    """Return the entries of journalctl's JSON; a message that is no text comes as a list of bytes."""
    entries = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    return tuple(
        UsbEvent(
            at=datetime.fromtimestamp(int(one["__REALTIME_TIMESTAMP"]) / 1_000_000, timezone.utc),
            words=_message(one.get("MESSAGE", ""))[:200],
        )
        for one in entries
    )


def _message(value: Any) -> str:  # noqa: ANN401 - a string, or a list of bytes
    return bytes(value).decode("utf-8", "replace") if isinstance(value, list) else str(value)


# --- Storage -----------------------------------------------------------------------------------------------


def storage(root: Path) -> Storage:
    """Ask for mounts, for the devices under Banip's root, and for swap."""
    # Of the first process: a timer's audit sees the host through the read-only mounts of its sandbox.
    told = output(
        "findmnt", "--task=1", "--json", "--list", "--output", "TARGET,SOURCE,FSTYPE,OPTIONS,SIZE,USE%"
    )
    return Storage(
        mounts=parse_mounts(told), layers=_layers(_device_of(root)), open_swaps=tuple(_open_swaps())
    )


def parse_mounts(told: str) -> tuple[Mount, ...]:
    """Return findmnt's table; what has no size, a pseudo file system, has no free space either."""
    return tuple(
        Mount(
            target=one["target"],
            source=one["source"] or "",
            kind=one["fstype"],
            options=tuple((one["options"] or "").split(",")),
            free_percent=_free(one),
        )
        for one in json.loads(told)["filesystems"]
    )


def _free(one: dict[str, Any]) -> int | None:
    used = str(one.get("use%") or "")
    has_size = one.get("size") not in {None, "0", 0}
    return 100 - int(used.removesuffix("%")) if has_size and used.removesuffix("%").isdigit() else None


def _device_of(path: Path) -> str:
    """Return the block device that a path lies on: findmnt adds the folder of a bind mount in brackets."""
    told = output(
        "findmnt", "--noheadings", "--output", "SOURCE", "--target", str(path), codes=(0, 1)
    ).strip()
    return told.splitlines()[-1].partition("[")[0] if told else ""


def _layers(device: str) -> tuple[str, ...]:
    with suppress(OSError):
        if device.startswith("/dev/") and stat.S_ISBLK(Path(device).stat().st_mode):
            told = output("lsblk", "--json", "--inverse", "--output", "NAME,TYPE", device)
            return parse_layers(told)
    return ()


def parse_layers(told: str) -> tuple[str, ...]:
    """Return the kinds of devices from the file system down, each once."""
    kinds: dict[str, None] = {}
    waiting = list(json.loads(told)["blockdevices"])
    while waiting:
        one = waiting.pop(0)
        kinds[one["type"]] = None
        waiting += one.get("children", [])
    return tuple(kinds)


def _open_swaps() -> list[str]:
    """Return swaps that keep memory readable on a disk: not on an encrypted device, not in memory."""
    rows = [line.text.split() for line in lines("/proc/swaps")][1:]
    found = []
    for path, kind, *_ in rows:
        device = path if kind == "partition" else _device_of(Path(path))
        if "zram" not in device and "crypt" not in _layers(device):
            found.append(path)
    return found


# --- Confinement and labels --------------------------------------------------------------------------------


def confinement() -> Confinement:
    """Ask the kernel which security modules it has, and in which mode AppArmor's profiles are."""
    modules = _text(Path("/sys/kernel/security/lsm"))
    profiles = _text(Path("/sys/kernel/security/apparmor/profiles"))
    enforcing = Path("/sys/fs/selinux/enforce")
    if enforcing.exists() and _text(enforcing) == "1":
        return Confinement(modules=tuple(modules.split(",")), enforcing=1)
    return parse_profiles(modules, profiles)


def parse_profiles(modules: str, profiles: str) -> Confinement:
    """Return AppArmor's profiles by mode, as the kernel lists them: name (mode)."""
    rows = [re.fullmatch(r"(.+) \((\w+)\)", line) for line in profiles.splitlines()]
    modes = [(row[1], row[2]) for row in rows if row]
    return Confinement(
        modules=tuple(filter(None, modules.split(","))),
        enforcing=sum(mode == "enforce" for _, mode in modes),
        complaining=tuple(name for name, mode in modes if mode == "complain"),
    )


def hardware() -> Hardware:
    """Read the machine's labels from the kernel, and ask for its disks."""
    labels = Path("/sys/class/dmi/id")
    links = sorted(path for path in Path("/sys/class/net").iterdir() if path.name != "lo")
    return Hardware(
        vendor=_text(labels / "sys_vendor"),
        model=_text(labels / "product_name"),
        serial=_text(labels / "product_serial"),
        interfaces=tuple(f"{path.name} {_text(path / 'address')}" for path in links),
        disks=tuple(_disks(output("lsblk", "--json", "--nodeps", "--output", "NAME,TYPE,MODEL,SERIAL"))),
        firmware="uefi" if Path("/sys/firmware/efi").is_dir() else "bios",
        secure_boot=_secure_boot(),
    )


def _disks(told: str) -> list[str]:
    found = json.loads(told or '{"blockdevices": []}')["blockdevices"]
    return [
        " ".join(filter(None, (one["name"], one.get("model"), one.get("serial"))))
        for one in found
        if one["type"] == "disk"
    ]


def _secure_boot() -> bool | None:
    """Read the firmware's own variable: four bytes of attributes, then one of state."""
    try:
        return _EFI_VARIABLE.read_bytes()[-1:] == b"\x01"
    except OSError:
        return None
