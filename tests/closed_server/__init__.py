"""A disposable closed server for tests and demo.

A minimal Debian 12 booted with systemd in its own network namespace, sealed but counting, started from a
cached root, reachable by command and file copy only, a bundle shown as read-only media, always removed.

    with closed_server(media=Path("bundle")) as server:
        server.exec("python3", "-I", "/media/usb/appliance.pyz", "verify")
        assert server.attempts() == []

Two backends, one interface: "nspawn" (a container, a second to start) and "qemu" (a guest with its own
kernel, for what a container cannot show: power cuts, kernel settings, audit, the clock).
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, overload

from tests.closed_server.holding import cgroup_root, sweep
from tests.closed_server.interface import (
    MEDIUM,
    ClosedServer,
    ClosedServerError,
    EgressAttempt,
    ServerCommandFailed,
    ServerCommandTimedOut,
    Snapshot,
)
from tests.closed_server.nspawn import NspawnServer
from tests.closed_server.qemu import QemuServer
from tests.closed_server.root import cached_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

__all__ = [
    "MEDIUM",
    "Backend",
    "ClosedServer",
    "ClosedServerError",
    "EgressAttempt",
    "NspawnServer",
    "QemuServer",
    "ServerCommandFailed",
    "ServerCommandTimedOut",
    "Snapshot",
    "closed_server",
    "why_not",
]

Backend = Literal["nspawn", "qemu"]
_PROGRAMS = {  # program -> Debian package
    "debootstrap": "debootstrap",
    "systemd-nspawn": "systemd-container",
    "nsenter": "util-linux",
    "ip": "iproute2",
    "sysctl": "procps",
    "nft": "nftables",
}
_QEMU_PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "mkfs.ext4": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
}


def why_not(backend: Backend) -> str | None:
    """Say in one sentence why a backend cannot run here; None if it can."""
    if os.geteuid() != 0:
        return "a closed server needs root (mounts, namespaces)"
    missing = {
        f"{program} (Debian package {package})"
        for program, package in (_PROGRAMS | (_QEMU_PROGRAMS if backend == "qemu" else {})).items()
        if shutil.which(program) is None
    }
    if missing:
        return f"a closed server needs {', '.join(sorted(missing))}"
    if cgroup_root() is None:
        return "a closed server needs version 2 cgroups, and this machine mounts none"
    if subprocess.run(["unshare", "--mount", "--net", "true"], capture_output=True, check=False).returncode:
        return "a closed server needs mount and network namespaces, and this root may not make them"
    return _why_no_guest() if backend == "qemu" else None


def _why_no_guest() -> str | None:
    if platform.machine() != "x86_64":
        return f"the guest's kernel is x86_64, this machine is {platform.machine()}"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "a guest's network needs /dev/net/tun"
    return None


@overload
def closed_server(
    backend: Literal["nspawn"] = "nspawn",
    *,
    base: Snapshot | None = None,
    media: Path | None = None,
    keep: bool = False,
    in_memory: bool = True,
) -> AbstractContextManager[NspawnServer]: ...
@overload
def closed_server(
    backend: Literal["qemu"],
    *,
    base: Snapshot | None = None,
    media: Path | None = None,
    keep: bool = False,
    clock: str | None = None,
    whole_kernel: bool = False,
) -> AbstractContextManager[QemuServer]: ...
@overload
def closed_server(
    backend: Backend,
    *,
    base: Snapshot | None = None,
    media: Path | None = None,
    keep: bool = False,
    clock: str | None = None,
    in_memory: bool = True,
    whole_kernel: bool = False,
) -> AbstractContextManager[NspawnServer | QemuServer]: ...
def closed_server(  # noqa: PLR0913 - keywords, and each test names one or two
    backend: Backend = "nspawn",
    *,
    base: Snapshot | None = None,
    media: Path | None = None,
    keep: bool = False,
    clock: str | None = None,
    in_memory: bool = True,
    whole_kernel: bool = False,
) -> AbstractContextManager[NspawnServer | QemuServer]:
    """Boot a closed server and always remove it afterwards.

    `base`: start from a snapshot instead of the bare root. `media`: a folder to show at /media/usb. `keep`:
    leave it until the next run, to look inside. `clock` (qemu only): what its RTC says at boot,
    "2031-05-01T00:00:00". `whole_kernel` (qemu only, with a base): Debian's kernel for machines, and a USB
    controller with a stick. `in_memory` (nspawn only; a guest's disk lies on the disk): False for a server
    too large for that, whose disk and snapshots then lie in the temporary folder. Raises ClosedServerError,
    with `why_not`'s sentence where it cannot run here.
    """

    def lay(root: Path) -> NspawnServer | QemuServer:
        if backend == "qemu":
            return QemuServer.laid(base, root, clock=clock, whole_kernel=whole_kernel)
        if clock or whole_kernel:
            message = "a container has this machine's clock and kernel; only a qemu guest has its own"
            raise ClosedServerError(message)
        bare = Snapshot((root,), root / "var")
        return NspawnServer.laid(base or bare, fresh=base is None, in_memory=in_memory)

    return _booted(backend, lay, media, keep=keep)


@contextmanager
def _booted(
    backend: Backend, lay: Callable[[Path], NspawnServer | QemuServer], media: Path | None, *, keep: bool
) -> Iterator[NspawnServer | QemuServer]:
    if (reason := why_not(backend)) is not None:
        raise ClosedServerError(reason)
    sweep()
    server = lay(cached_root())
    try:
        server.boot()
        if media:
            server.insert_medium(media)
        yield server
    finally:
        if keep:
            # Asked for by a person, who is to know how to get in and how long it lasts.
            print(f"kept, enter it: {server.keep()}")  # noqa: T201
            print("end it: .venv/bin/python -m tests.closed_server end")  # noqa: T201
        else:
            server.close()
