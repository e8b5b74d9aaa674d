"""What a QEMU guest is made of.

Debian's cloud kernel, or the whole one where a guest needs USB and radios, a tiny initramfs, and the cached
root packed into an ext4 disk.

The packages are fetched with this machine's apt and unpacked into the cache, never installed here. Into the
guest's disk go, beyond the root: the kernel's modules, kmod (which every Debian kernel depends on), and the
test bed's own two units.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.closed_server import network
from tests.closed_server.holding import mounts_under, run
from tests.closed_server.interface import ClosedServerError, Snapshot
from tests.closed_server.root import cache, made_once

if TYPE_CHECKING:
    from collections.abc import Iterator

KERNEL_PACKAGE = "linux-image-cloud-amd64"
WHOLE_KERNEL_PACKAGE = "linux-image-amd64"
INITRAMFS_PACKAGES = ("busybox-static",)
GUEST_PACKAGES = ("kmod", "libkmod2", "libzstd1", "liblzma5", "libssl3")
DISK_BYTES = 16 << 30  # sparse
MEDIUM_SPARE_BYTES = 32 << 20
# In loading order; without udev nobody else would load these. The cloud kernel has ext4, audit and nothing of
# virtio built in, the whole one not even ext4.
MODULES = (
    "lib/crc16",
    "crypto/crc32c_generic",
    "fs/mbcache",
    "fs/jbd2/jbd2",
    "fs/ext4/ext4",
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci",
    "drivers/block/virtio_blk",
    "drivers/char/virtio_console",
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
)
# Of the whole kernel's modules; the rest is three quarters of them.
KEPT = (
    *("arch", "crypto", "fs", "lib", "net", "security"),
    *(
        f"drivers/{name}"
        for name in ("block", "bluetooth", "char", "crypto", "firewire", "hid", "input", "md")
    ),
    *(f"drivers/{name}" for name in ("scsi", "thunderbolt", "usb", "virtio")),
    *(f"drivers/net/{name}.ko" for name in ("net_failover", "virtio_net", "wireless/mac80211_hwsim")),
)
INIT = """#!/bin/busybox sh
for module in {modules}; do /bin/busybox insmod /modules/$module.ko; done
/bin/busybox mount -t devtmpfs dev /dev
if [ "$1" = probe ]; then echo banip-probe-alive; /bin/busybox poweroff -f; fi
while ! [ -b /dev/vda ]; do /bin/busybox usleep 10000; done
/bin/busybox mount -t ext4 /dev/vda /root && /bin/busybox umount /dev
exec /bin/busybox switch_root /root /sbin/init
"""
BED = "usr/lib/banip-bed"
# ConditionVirtualization: the same disk can be booted by nspawn, where the bed has other hands.
AGENT_UNIT = f"""[Unit]
Description=Test bed: runs commands that arrive on virtio-serial
ConditionVirtualization=vm
DefaultDependencies=no
After=systemd-remount-fs.service systemd-tmpfiles-setup.service
IgnoreOnIsolate=yes
[Service]
ExecStart=/usr/bin/python3 -I /{BED}/agent.py
Delegate=yes
TasksMax=infinity
OOMScoreAdjust=-1000
[Install]
WantedBy=sysinit.target
"""
NETWORK_UNIT = f"""[Unit]
Description=Test bed: the way to nowhere
ConditionVirtualization=vm
DefaultDependencies=no
Before=network-pre.target
Wants=network-pre.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -e /{BED}/network
[Install]
WantedBy=sysinit.target
"""
NETWORK = f"""cd /proc/sys/net/ipv6/conf
for link in default eth0; do echo 0 > $link/accept_ra; echo 0 > $link/router_solicitations; done
ip link set eth0 up
ip address add {network.SERVER_V4}/{network.PREFIX_V4} dev eth0
ip address add {network.SERVER_V6}/{network.PREFIX_V6} dev eth0 nodad
for gateway in {network.FAR_V4} {network.FAR_V6}; do
  ip neighbour replace $gateway lladdr {network.FAR_MAC} nud permanent dev eth0
  ip route add default via $gateway
done
"""


@functools.cache
def kernel(metapackage: str = KERNEL_PACKAGE) -> Path:
    """Return a folder with `vmlinuz`, `initrd` and `guest/` (what joins the root), made once.

    Raises ClosedServerError.
    """
    package = _current_kernel(metapackage)
    recipe = "\n".join((package, INIT, AGENT_UNIT, NETWORK_UNIT, NETWORK, *MODULES, *GUEST_PACKAGES, *KEPT))
    recipe += Path(__file__).with_name("agent.py").read_text()
    target = cache() / f"kernel-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"
    if target.is_dir():
        return target
    with made_once(target) as building:
        if building:
            _unpack((package,), building / "unpacked")
            _unpack(INITRAMFS_PACKAGES, building / "early")
            _unpack(GUEST_PACKAGES, building / "guest")
            _lay_out(building, KEPT if metapackage == WHOLE_KERNEL_PACKAGE else None)
    return target


def _current_kernel(metapackage: str) -> str:
    """Name the versioned package behind a kernel metapackage of Debian's, as this machine's apt knows it."""
    for line in run("apt-cache", "depends", metapackage).splitlines():
        kind, _, name = line.strip().partition(": ")
        if kind == "Depends" and name.startswith("linux-image-"):
            return name
    message = f"this machine's apt knows no {metapackage}; apt-get update may be due"
    raise ClosedServerError(message)


def _unpack(packages: tuple[str, ...], into: Path) -> None:
    """Fetch packages and unpack them, without installing anything here."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            ["apt-get", "download", "-qq", *packages], cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            message = f"apt-get download {' '.join(packages)}: {done.stderr.strip()}"
            raise ClosedServerError(message)
        for package in Path(folder).glob("*.deb"):
            run("dpkg-deb", "--extract", package, into)


def _lay_out(building: Path, kept: tuple[str, ...] | None) -> None:
    """Turn unpacked packages into kernel, initramfs and the guest's additions; ``kept``: of the drivers."""
    unpacked, guest = building / "unpacked", building / "guest"
    (modules,) = (unpacked / "lib/modules").iterdir()
    shutil.copy(next((unpacked / "boot").glob("vmlinuz-*")), building / "vmlinuz")
    # One that is no file is built in: a kernel that lacks it does not boot, which is seen at once.
    drivers = [path for name in MODULES if (path := modules / "kernel" / f"{name}.ko").is_file()]
    if kept is not None:
        _thin_out(modules / "kernel", kept)
    (building / "initrd").write_bytes(_initramfs(building / "early/bin/busybox", drivers))
    _merge_usr(guest)
    shutil.move(modules, guest / "usr/lib/modules" / modules.name)
    _add_bed(guest)
    shutil.rmtree(unpacked)
    shutil.rmtree(building / "early")
    building.chmod(0o755)


def _thin_out(modules: Path, kept: tuple[str, ...]) -> None:
    """Remove the drivers that no test asks for."""
    for path in modules.rglob("*.ko"):
        name = str(path.relative_to(modules))
        if not any(name == one or name.startswith(f"{one}/") for one in kept):
            path.unlink()


def _merge_usr(guest: Path) -> None:
    """Move /bin, /sbin and /lib of packages under /usr, as the root has them."""
    (guest / "usr/lib/modules").mkdir(parents=True)
    shutil.rmtree(guest / "usr/share")
    for name in ("bin", "sbin", "lib"):
        if (guest / name).is_dir():
            run("cp", "--archive", f"{guest / name}/.", guest / "usr" / name)
            shutil.rmtree(guest / name)


def _add_bed(guest: Path) -> None:
    """Put in the test bed's agent and network as units of the guest."""
    guest.chmod(0o755)
    (guest / BED).mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("agent.py"), guest / BED / "agent.py")
    (guest / BED / "network").write_text(NETWORK)
    units = guest / "etc/systemd/system"
    wanted = units / "sysinit.target.wants"
    wanted.mkdir(parents=True)
    for name, text in (("banip-bed-agent.service", AGENT_UNIT), ("banip-bed-network.service", NETWORK_UNIT)):
        (units / name).write_text(text)
        (wanted / name).symlink_to(f"../{name}")


def _initramfs(busybox: Path, drivers: list[Path]) -> bytes:
    """Write a cpio archive (newc) that loads drivers and hands over to the disk."""
    init = INIT.format(modules=" ".join(driver.stem for driver in drivers))
    entries: list[tuple[str, int, bytes, tuple[int, int]]] = [
        *((folder, 0o040755, b"", (0, 0)) for folder in ("bin", "dev", "modules", "root")),
        ("dev/console", 0o020600, b"", (5, 1)),
        ("init", 0o100755, init.encode(), (0, 0)),
        ("bin/busybox", 0o100755, busybox.read_bytes(), (0, 0)),
        *((f"modules/{driver.name}", 0o100644, driver.read_bytes(), (0, 0)) for driver in drivers),
        ("TRAILER!!!", 0, b"", (0, 0)),
    ]
    archive = bytearray()
    for number, (name, mode, data, device) in enumerate(entries, start=1):
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0)
        archive += b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        archive += bytes(-len(archive) % 4) + data
        archive += bytes(-len(archive) % 4)
    return bytes(archive)


def cached_disk(root: Path) -> Path:
    """Return the raw ext4 disk of the bare root, made once."""
    target = cache() / f"disk-{hashlib.sha256(f'{root.name} {kernel().name}'.encode()).hexdigest()[:16]}"
    if not target.is_dir():
        with made_once(target) as building:
            if building:
                pack(Snapshot((root,), root / "var"), building / "disk.raw", building)
                _forget_older_disks()
    return target / "disk.raw"


def pack(base: Snapshot, disk: Path, scratch: Path, metapackage: str = KERNEL_PACKAGE) -> None:
    """Write a server's layers, the kernel's modules and the test bed into one ext4 file system."""
    joined = scratch / "joined"
    with _joined(base, joined, scratch, kernel(metapackage) / "guest"):
        version = next((joined / "usr/lib/modules").iterdir()).name
        run("chroot", joined, "depmod", version)
        disk.touch()
        os.truncate(disk, DISK_BYTES)
        run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1", "-d", joined, disk)


@contextmanager
def _joined(base: Snapshot, joined: Path, scratch: Path, guest: Path) -> Iterator[None]:
    """Mount base and additions as one writable tree."""
    upper, work = scratch / "upper", scratch / "work"
    for folder in (joined, upper, work):
        folder.mkdir()
        folder.chmod(0o755)
    lower = ":".join(map(str, (guest, *base.layers)))
    try:
        options = f"lowerdir={lower},upperdir={upper},workdir={work}"
        run("mount", "--types", "overlay", "banip-disk", "--options", options, joined)
        run("mount", "--bind", base.var, joined / "var")
        yield
    finally:
        for point in mounts_under(joined):
            run("umount", point)
        for folder in (joined, upper, work):
            shutil.rmtree(folder)


def _forget_older_disks() -> None:
    """Remove what earlier recipes left in the cache.

    Disks are large, and copied from, never used in place.
    """
    for folder in cache().glob("disk-*"):
        shutil.rmtree(folder, ignore_errors=True)


def pack_medium(folder: Path, disk: Path) -> None:
    """Write a folder into an ext4 image with room for its own bookkeeping."""
    sizes = [path.lstat().st_size for path in folder.rglob("*")]
    disk.touch()
    os.truncate(disk, int(sum(sizes) * 1.1) + len(sizes) * 4096 + MEDIUM_SPARE_BYTES)
    run("mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-m", "0", "-d", folder, disk, timeout_s=1800)
    run("debugfs", "-w", "-R", "rmdir lost+found", disk)  # the folder has none


def copy(source: Path, target: Path) -> None:
    """Copy a sparse file sparsely, sharing extents where the file system can."""
    if shutil.disk_usage(target.parent).free < source.stat().st_blocks * 512:
        message = f"no room in {target.parent} for another disk"
        raise ClosedServerError(message)
    run("cp", "--sparse=always", "--reflink=auto", source, target)
