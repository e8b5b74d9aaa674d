"""The emulator's command line: which machine a guest runs on, and how fast."""

from __future__ import annotations

import functools
import json
import os
import shlex
import subprocess
from typing import TYPE_CHECKING

from tests.closed_server import image
from tests.closed_server.network import FAR_LINK, SERVER_MAC

if TYPE_CHECKING:
    from pathlib import Path

MEMORY_MIB = 2048
PROBE_LIMIT_S = 20
MACHINE = shlex.split("qemu-system-x86_64 -machine pc -nodefaults -no-user-config -display none -no-reboot")
EMULATION = shlex.split("-accel tcg,thread=multi,tb-size=512 -cpu max")
KVM = shlex.split("-accel kvm -cpu host")
# The getty waits 90 s for a device that nothing announces: the root has no udev.
APPEND = (
    "console=ttyS0 panic=-1 quiet systemd.show_status=0 systemd.mask=serial-getty@ttyS0.service"
    " mitigations=off audit=1"
)


@functools.cache
def accelerator() -> list[str]:
    """Choose KVM where a kernel really comes up under it; a /dev/kvm alone promises nothing."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return EMULATION
    probe = [
        *MACHINE,
        *KVM,
        *_kernel("console=ttyS0 panic=-1 quiet -- probe"),
        "-m",
        "256",
        "-serial",
        "stdio",
    ]
    try:
        done = subprocess.run(
            probe, capture_output=True, timeout=PROBE_LIMIT_S, stdin=subprocess.DEVNULL, check=False
        )
    except subprocess.TimeoutExpired:
        return EMULATION
    return KVM if b"banip-probe-alive" in done.stdout else EMULATION


def command(  # noqa: PLR0913 - what a machine is made of
    folder: Path, disk: Path, log: Path, clock: str | None, *, exec_ports: int, metapackage: str
) -> list[str]:
    """Return the emulator's command; its sockets and logs lie in `folder`, `clock` is what its RTC says.

    A machine with the whole kernel also has a USB controller with an empty stick in it.
    """
    ports = ["bed-control", *(f"bed-exec{number}" for number in range(exec_ports))]
    writes = {
        "driver": "blklogwrites",
        "node-name": "disk",
        "file": {"driver": "file", "filename": str(disk), "discard": "unmap"},
        "log": {"driver": "file", "filename": str(log)},
    }
    devices = shlex.split(
        f"-serial file:{folder}/console.log -qmp unix:{folder}/monitor.socket,server=on,wait=off"
        " -device virtio-blk-pci,drive=disk -device virtio-serial-pci"
        f" -netdev tap,id=net,ifname={FAR_LINK},script=no,downscript=no"
        f" -device virtio-net-pci,netdev=net,mac={SERVER_MAC},romfile="
    )
    memory = ["-smp", "2", "-m", str(MEMORY_MIB)]
    rtc = ["-rtc", f"base={clock}"] if clock else []
    serial = [part for port in ports for part in _serial_port(folder, port)]
    return [
        *MACHINE,
        *accelerator(),
        *memory,
        *rtc,
        *_kernel(APPEND, metapackage),
        "-blockdev",
        json.dumps(writes),
        *devices,
        *serial,
        *(_usb() if metapackage == image.WHOLE_KERNEL_PACKAGE else []),
    ]


def _usb() -> list[str]:
    """Add a controller with a stick, which the guest sees once it loads the driver."""
    stick = {"driver": "null-co", "node-name": "stick", "size": 16 << 20, "read-zeroes": True}
    attached = "usb-storage,drive=stick,removable=on,bus=usb.0"
    return ["-blockdev", json.dumps(stick), "-device", "qemu-xhci,id=usb", "-device", attached]


def _kernel(append: str, metapackage: str = image.KERNEL_PACKAGE) -> list[str]:
    """Name what is booted, and with which words."""
    made = image.kernel(metapackage)
    return ["-kernel", str(made / "vmlinuz"), "-initrd", str(made / "initrd"), "-append", append]


def _serial_port(folder: Path, name: str) -> list[str]:
    """Add one named port to the guest, a socket in `folder` on this side."""
    socket = f"socket,id={name},path={folder / name}.socket,server=on,wait=off"
    return ["-chardev", socket, "-device", f"virtserialport,chardev={name},name={name}"]
