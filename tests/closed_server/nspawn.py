"""A closed server in a container: systemd-nspawn over an overlay of the cached root.

Starts in about a second.

It shares this machine's kernel, clock and page cache: what needs its own (audit, sysctls, a true power cut)
is for `qemu.py`. /var is a real folder of its own, not part of the overlay: containers' storage cannot be
stacked on an overlay, and hard links made into a snapshot's layer would copy the whole file instead.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from tests.closed_server.commands import Commands
from tests.closed_server.holding import (
    Holding,
    in_cgroup,
    kill_cgroup,
    members,
    remove_cgroup,
    run,
    wait_until,
)
from tests.closed_server.interface import (
    CLEAN_ENVIRONMENT,
    MEDIUM,
    NOTHING,
    ClosedServerError,
    EgressAttempt,
    Snapshot,
)
from tests.closed_server.network import Network

if TYPE_CHECKING:
    from collections.abc import Mapping

ENTERED = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")
# Host settings of the test bed: with every capability the server could load this machine's modules or set its
# clock; the tests are ours, so this is convenience (podman, nftables), not a boundary.
NSPAWN = (
    "systemd-nspawn",
    "--quiet",
    "--register=no",
    "--keep-unit",
    "--capability=all",
    "--system-call-filter=@keyring bpf",
    "--resolv-conf=off",
    "--timezone=off",
    "--link-journal=no",
    "--hostname=closed",
    "--console=pipe",
    "--boot",
)
BOOT_LIMIT_S = 300.0  # a product's own units may be slow to come up


class NspawnServer(Commands):
    """See ClosedServer; plus `snapshot` and `forward`."""

    def __init__(self, holding: Holding, base: Snapshot, *, in_memory: bool) -> None:
        """Take over a holding; use `laid`."""
        self._holding, self._base, self._in_memory = holding, base, in_memory
        self._layers, self._numbers = itertools.count(), itertools.count()
        self._groups: dict[int, Path] = {}
        self._leader: int | None = None
        self._medium: Path | None = None

    @classmethod
    def laid(cls, base: Snapshot, *, fresh: bool, in_memory: bool = True) -> NspawnServer:
        """Lay disk and network; `boot` starts it.

        A fresh one gets an identity, a snapshot's copy keeps what it had.
        """
        # Its disk is a container's: a missing fsync cannot be seen there, so it may lie in memory.
        holding = Holding.claim(in_memory=in_memory)
        try:
            server = cls(holding, base, in_memory=in_memory)
            server._lay(base, fresh=fresh)
        except BaseException:
            holding.close()
            raise
        return server

    def _lay(self, base: Snapshot, *, fresh: bool) -> None:
        self._stack(base)
        if fresh:
            (self._disk / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")
        self._network = Network(self._holding)
        self._namespace = self._network.veth()
        self._network.listen(self._cgroup)

    @property
    def _cgroup(self) -> Path:
        return self._holding.cgroup / "server"

    @property
    def _disk(self) -> Path:
        return self._holding.folder / "disk"

    def _stack(self, base: Snapshot) -> None:
        """Mount a fresh upper layer over a base's, and copy its /var."""
        layer = self._holding.folder / f"layer{next(self._layers)}"
        for folder in (layer, layer / "upper", layer / "work", self._disk):
            folder.mkdir(exist_ok=True)
        for entry in (layer / "upper", self._disk):
            entry.chmod(0o755)
        run("cp", "--archive", "--reflink=auto", base.var, layer / "var")
        lower = ":".join(str(path) for path in base.layers)
        options = f"lowerdir={lower},upperdir={layer / 'upper'},workdir={layer / 'work'}"
        run("mount", "--types", "overlay", "banip-closed-server", "--options", options, self._disk)
        self._upper, self._var, self._base = layer / "upper", layer / "var", base

    # ---- life

    def boot(self) -> None:
        """Start init and wait until systemd has settled.

        "running", or "degraded", which names its failed units itself.
        """
        if self._leader is not None:
            message = "this server is running already"
            raise ClosedServerError(message)
        self._network.forget_rules()
        self._network.reset()  # before: what tries to leave while it boots counts
        with (self._holding.folder / "console.log").open("ab") as console:
            self._nspawn = self._holding.spawn(
                [
                    *NSPAWN,
                    f"--directory={self._disk}",
                    f"--bind={self._var}:/var",
                    f"--machine=banip-{self._holding.token}",
                    f"--network-namespace-path={self._namespace}",
                ],
                leaf="server",
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env={
                    **CLEAN_ENVIRONMENT,
                    "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
                    "SYSTEMD_NSPAWN_TMPFS_TMP": "0",
                },
            )
        wait_until(self._started, BOOT_LIMIT_S, f"init to start; console:\n{self.console()}")
        wait_until(self._settled, BOOT_LIMIT_S, "systemd to settle")
        if self._medium:
            self.insert_medium(self._medium)

    def _started(self) -> bool:
        """Find the process that is 1 inside; raises ClosedServerError when nspawn gave up."""
        if self._nspawn.poll() is not None:
            message = f"systemd-nspawn ended with {self._nspawn.returncode}:\n{self.console()}"
            raise ClosedServerError(message)
        for pid in members(self._cgroup / "payload"):
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                inside = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()
                if inside[-1] == "1" and (Path(f"/proc/{pid}/root/run/systemd/private")).exists():
                    self._leader = pid
                    return True
        return False

    def _settled(self) -> bool:
        said = self.exec(
            "systemctl", "is-system-running", "--wait", check=False, timeout_s=BOOT_LIMIT_S
        ).stdout
        return said.strip() in {"running", "degraded"}

    def console(self) -> str:
        """Return what init and the kernel of the container wrote to its console, all boots together."""
        with contextlib.suppress(FileNotFoundError):
            return (self._holding.folder / "console.log").read_text(errors="replace")
        return ""

    def power_cut(self) -> None:
        """SIGKILL everything on the server at once.

        This machine's page cache survives, so a missing fsync does not show.
        """
        self._leader = None
        kill_cgroup(self._cgroup)
        self._nspawn.wait()
        remove_cgroup(self._cgroup)

    def shut_down(self) -> None:
        """Stop it in order, as `systemctl poweroff` would."""
        if self._leader is None:
            return
        os.kill(self._leader, signal.SIGRTMIN + 4)  # systemd(1): poweroff.target
        try:
            self._nspawn.wait(90)
        finally:
            self.power_cut()

    def snapshot(self) -> Snapshot:
        """Stop the server in order and freeze its disk.

        Servers started from it are independent of each other.

        The frozen disk outlives this server and is removed at exit. `boot` lets this one go on from it.
        """
        self.shut_down()
        run("umount", self._disk)
        frozen = Holding.claim(in_memory=self._in_memory).folder
        upper, var = self._upper.rename(frozen / "upper"), self._var.rename(frozen / "var")
        snapshot = Snapshot((upper, *self._base.layers), var)
        self._stack(snapshot)
        return snapshot

    def close(self) -> None:
        """Remove everything but the snapshots taken, which go at exit."""
        self._leader = None
        self._holding.close()

    def keep(self) -> str:
        """Leave it running after this program, until ``end``; returns how to enter it."""
        self._holding.keep()
        return shlex.join(self.entrance("/bin/bash"))

    # ---- commands

    def entrance(self, *argv: str, env: Mapping[str, str] = NOTHING) -> list[str]:
        """Return the command of this machine that runs a command inside, under a clean environment."""
        clean = [f"{key}={value}" for key, value in {**CLEAN_ENVIRONMENT, **env}.items()]
        return ["nsenter", "--target", str(self._leader), *ENTERED, "--", "/usr/bin/env", "-i", *clean, *argv]

    def start(self, *argv: str, env: Mapping[str, str] = NOTHING) -> subprocess.Popen[str]:
        """Start a command inside, in a cgroup of its own."""
        if self._leader is None:
            message = f"the server is off: {' '.join(argv)} cannot run"
            raise ClosedServerError(message)
        group = self._cgroup / "payload" / "banip-exec" / str(next(self._numbers))
        group.mkdir(parents=True)
        process = subprocess.Popen(
            in_cgroup(group, self.entrance(*argv, env=env)),
            text=True,
            encoding="utf-8",
            errors="surrogateescape",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._groups[process.pid] = group
        return process

    def kill_group(self, process: subprocess.Popen[str]) -> None:
        """SIGKILL everything that one `start` started, whatever session it has moved to."""
        group = self._groups.pop(process.pid, None)
        if group:
            kill_cgroup(group)
            process.wait()
            with contextlib.suppress(ClosedServerError):
                remove_cgroup(group)

    # ---- medium and network

    def insert_medium(self, folder: Path) -> str:
        """Show a folder read-only and noexec at /media/usb."""
        self.eject_medium()
        self._medium = folder.resolve(strict=True)
        script = Path(__file__).with_name("medium.py")
        run(sys.executable, "-I", script, self._medium, str(self._leader), MEDIUM)
        return MEDIUM

    def eject_medium(self) -> None:
        """Pull it, in use or not: what has files open there goes on reading them, unlike on a real stick."""
        if self._medium and self._leader is not None:
            self.exec("umount", "--lazy", MEDIUM, check=False)
        self._medium = None

    def forward(self, port: int) -> int:
        """Let this machine reach a TCP port of the server's loopback; returns the port on 127.0.0.1 here.

        For a browser that looks at a page. The server gets no way out by it and nothing counts as an attempt.
        Stays open until `close`, power cuts included.
        """
        return self._network.forward(port)

    def attempts(self) -> list[EgressAttempt]:
        """Return the distinct attempts seen since boot or the last reset."""
        return self._network.attempts()

    def reset_attempts(self) -> None:
        """Forget them."""
        self._network.reset()
