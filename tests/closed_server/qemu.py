"""A closed server in a QEMU guest: its own kernel, clock and disk, for what a container cannot show.

Plain emulation boots the cached root in about eight seconds, KVM faster where it really works (a probe kernel
is booted to find out). Commands go over virtio-serial to an agent inside (`agent.py`), a medium is a
read-only disk plugged in while the guest runs, the network ends in `sink.py` as the container's does; units
of attempts are unknown here.

A power cut is SIGKILL of the emulator, and then the disk is put back to what the guest had made sure of. The
guest's page cache dies with the emulator: what it never wrote is lost. But what it wrote without a flush
would survive in this machine's page cache, kinder than a real disk with a volatile write cache. So every
write goes through QEMU's blklogwrites, and after a cut the disk is rebuilt from its state at boot plus the
logged writes up to the last completed flush: exactly what fsync promised, nothing else.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tests.closed_server import disklog, emulator, image
from tests.closed_server.commands import Commands
from tests.closed_server.holding import NAMESPACES, Holding, kill_cgroup, remove_cgroup, run, wait_until
from tests.closed_server.interface import (
    CLEAN_ENVIRONMENT,
    MEDIUM,
    NOTHING,
    ClosedServerError,
    EgressAttempt,
    Snapshot,
)
from tests.closed_server.network import Network
from tests.closed_server.nspawn import NspawnServer
from tests.closed_server.port import Conversation
from tests.closed_server.qmp import Monitor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Connection = TypeVar("Connection", Monitor, Conversation)
BOOT_LIMIT_S = 300.0
COMMAND_PORTS = 8  # commands that can run at the same time
MOUNT_MEDIUM = """
for disk in /sys/block/vd*; do
  [ "$(cat "$disk/serial")" = banip-medium ] || continue
  mkdir -p "$1" && exec mount -t ext4 -o ro,noexec,nosuid,nodev "/dev/${disk##*/}" "$1"
done
exit 75
"""
NOT_THERE_YET = 75


class QemuServer(Commands):
    """See ClosedServer; plus `as_nspawn`."""

    def __init__(self, holding: Holding, clock: str | None, metapackage: str) -> None:
        """Take over a holding; use `laid`."""
        self._holding, self._folder, self._clock = holding, holding.folder, clock
        self._metapackage = metapackage
        self._disk, self._at_boot, self._log = (
            self._folder / name for name in ("disk.raw", "at-boot.raw", "writes.log")
        )
        self._medium: Path | None = None
        self._plugged = False
        self._qemu: subprocess.Popen[bytes] | None = None
        self._ports: dict[int, str] = {}
        self._monitor: Monitor | None = None
        self._control: Conversation | None = None

    @classmethod
    def laid(
        cls, base: Snapshot | None, root: Path, *, clock: str | None = None, whole_kernel: bool = False
    ) -> QemuServer:
        """Lay disk and network; `boot` starts it.

        `clock` is what the guest's RTC says then: "2031-05-01T00:00:00". `whole_kernel`, with a base:
        Debian's kernel for machines, and a USB controller with a stick.
        """
        holding = Holding.claim()
        try:
            server = cls(holding, clock, image.WHOLE_KERNEL_PACKAGE if whole_kernel else image.KERNEL_PACKAGE)
            server._lay(base, root)
        except BaseException:
            holding.close()
            raise
        return server

    def _lay(self, base: Snapshot | None, root: Path) -> None:
        if base:
            image.pack(base, self._disk, self._folder, self._metapackage)
        else:
            image.copy(image.cached_disk(root), self._disk)
        self._network = Network(self._holding)
        self._network.tap()
        self._network.listen(None)

    # ---- life

    def boot(self, clock: str | None = None) -> None:
        """Start the guest and wait until systemd has settled; `clock` as in the constructor, from now on."""
        if self._qemu is not None:
            message = "this server is running already"
            raise ClosedServerError(message)
        self._clock = clock or self._clock
        image.copy(self._disk, self._at_boot)
        disklog.create(self._log)
        for stale in self._folder.glob("*.socket"):
            stale.unlink()
        command = emulator.command(
            self._folder,
            self._disk,
            self._log,
            self._clock,
            exec_ports=COMMAND_PORTS,
            metapackage=self._metapackage,
        )
        self._network.reset()  # before: what tries to leave while it boots counts
        with (self._folder / "emulator.log").open("ab") as log:
            self._qemu = self._holding.spawn(
                ["nsenter", f"--net={NAMESPACES / self._network.far}", *command],
                leaf="server",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self._reach()
        except (OSError, ClosedServerError) as error:
            message = f"the guest did not come up: {error}\n{self.console()}"
            raise ClosedServerError(message) from error
        if self._medium:
            self.insert_medium(self._medium)

    def _reach(self) -> None:
        """Wait for monitor, agent and systemd, in the order in which they appear."""
        for name in ("monitor", "bed-control"):
            wait_until(
                lambda name=name: self._alive() and (self._folder / f"{name}.socket").exists(),
                20,
                f"its {name}",
            )
        self._monitor = Monitor(self._folder / "monitor.socket")
        self._control = Conversation(str(self._folder / "bed-control.socket"), BOOT_LIMIT_S)
        wait_until(self._settled, BOOT_LIMIT_S, "systemd to settle")

    def _alive(self) -> bool:
        if self._qemu is None or self._qemu.poll() is not None:
            message = f"the emulator ended: {(self._folder / 'emulator.log').read_text()}"
            raise ClosedServerError(message)
        return True

    def _settled(self) -> bool:
        said = self.exec(
            "systemctl", "is-system-running", "--wait", check=False, timeout_s=BOOT_LIMIT_S
        ).stdout
        return said.strip() in {"running", "degraded"}

    def console(self) -> str:
        """Return what the kernel wrote to the serial console since the last boot."""
        with contextlib.suppress(FileNotFoundError):
            return (self._folder / "console.log").read_text(errors="replace")
        return ""

    def power_cut(self) -> None:
        """Kill the emulator.

        The disk keeps exactly what the guest had flushed (see the module's docstring).
        """
        self._stop()
        disklog.replay_flushed(self._log, self._at_boot)
        self._at_boot.replace(self._disk)

    def shut_down(self) -> None:
        """Stop it in order, as `systemctl poweroff` would: everything written is on the disk."""
        if self._qemu is not None:
            self.exec("systemctl", "--no-block", "poweroff", check=False)
            self._qemu.wait(120)
            self._stop()

    def _stop(self) -> None:
        if self._qemu is not None:
            kill_cgroup(self._holding.cgroup / "server")
            self._qemu.wait()
            remove_cgroup(self._holding.cgroup / "server")
        self._hang_up()

    def _hang_up(self) -> None:
        """Forget the emulator and what was connected to it."""
        for connection in (self._monitor, self._control):
            if connection:
                connection.close()
        self._monitor, self._control = None, None
        self._qemu, self._plugged = None, False
        self._ports.clear()

    @contextlib.contextmanager
    def as_nspawn(self) -> Iterator[NspawnServer]:
        """Boot a copy of the stopped server's disk in a container: a second instead of seven.

        The disk is mounted here, which replays its journal as a real boot would; what the container writes is
        thrown away.
        """
        if self._qemu is not None:
            message = "the guest still runs on this disk"
            raise ClosedServerError(message)
        mounted = self._folder / "mounted"
        mounted.mkdir(exist_ok=True)
        run("mount", "--options", "loop", self._disk, mounted)
        try:
            twin = NspawnServer.laid(Snapshot((mounted,), mounted / "var"), fresh=False)
            try:
                twin.boot()
                yield twin
            finally:
                twin.close()
        finally:
            run("umount", mounted)

    def close(self) -> None:
        """Remove everything."""
        self._hang_up()
        self._holding.close()

    def keep(self) -> str:
        """Leave it running after this program, until ``end``; returns where."""
        self._holding.keep()
        return f"an emulator with its sockets in {self._folder}"

    @staticmethod
    def _connected(connection: Connection | None) -> Connection:
        """Insist on a running emulator's connection."""
        if connection is None:
            message = "the server is off"
            raise ClosedServerError(message)
        return connection

    # ---- commands

    def start(self, *argv: str, env: Mapping[str, str] = NOTHING) -> subprocess.Popen[str]:
        """Start a command inside, through a process of this machine that stands for it."""
        if self._qemu is None:
            message = f"the server is off: {' '.join(argv)} cannot run"
            raise ClosedServerError(message)
        taken = set(self._ports.values())
        free = [
            name for name in (f"bed-exec{number}" for number in range(COMMAND_PORTS)) if name not in taken
        ]
        if not free:
            message = f"more than {COMMAND_PORTS} commands at once; kill_group gives a port back"
            raise ClosedServerError(message)
        request = json.dumps({"argv": argv, "env": {**CLEAN_ENVIRONMENT, **env}})
        process = subprocess.Popen(
            [
                sys.executable,
                "-I",
                str(Path(__file__).with_name("port.py")),
                f"{self._folder / free[0]}.socket",
            ],
            env={"BANIP_BED_REQUEST": request},
            text=True,
            encoding="utf-8",
            errors="surrogateescape",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._ports[process.pid] = free[0]
        return process

    def kill_group(self, process: subprocess.Popen[str]) -> None:
        """SIGKILL everything that one `start` started, and wait until the guest says that it is dead."""
        port = self._ports.get(process.pid)
        if port and self._qemu is not None:
            if process.poll() is None:
                process.kill()
            process.wait()
            control = self._connected(self._control)
            control.send(b"R", json.dumps({"wait_idle": port}).encode())
            control.receive()
        self._ports.pop(process.pid, None)

    # ---- medium and network

    def insert_medium(self, folder: Path) -> str:
        """Make a read-only disk of a folder, plug it in, mount it noexec at /media/usb."""
        self.eject_medium()
        self._medium = folder.resolve(strict=True)
        disk = self._folder / f"medium-{uuid.uuid4().hex}.raw"
        image.pack_medium(self._medium, disk)
        backing = {"driver": "file", "filename": str(disk)}
        monitor = self._connected(self._monitor)
        monitor.do("blockdev-add", driver="raw", node_name="medium", read_only=True, file=backing)
        monitor.do("device_add", driver="virtio-blk-pci", id="medium", drive="medium", serial="banip-medium")
        self._plugged = True

        def mounted() -> bool:
            done = self.exec("sh", "-c", MOUNT_MEDIUM, "mount", MEDIUM, check=False)
            if done.returncode not in (0, NOT_THERE_YET):
                message = f"the medium cannot be mounted: {done.stderr}"
                raise ClosedServerError(message)
            return done.returncode == 0

        wait_until(mounted, 60, "the guest to see the medium")
        return MEDIUM

    def eject_medium(self) -> None:
        """Pull it, in use or not: what has files open there sees errors, as on a real stick."""
        self._medium = None
        if self._plugged:
            monitor = self._connected(self._monitor)
            self.exec("umount", "--lazy", MEDIUM, check=False)
            monitor.do("device_del", id="medium")
            monitor.wait_deleted("medium")
            monitor.do("blockdev-del", node_name="medium")
            self._plugged = False
        for disk in self._folder.glob("medium-*.raw"):
            disk.unlink()

    def attempts(self) -> list[EgressAttempt]:
        """Return the distinct attempts seen since boot or the last reset."""
        return self._network.attempts()

    def reset_attempts(self) -> None:
        """Forget them."""
        self._network.reset()
