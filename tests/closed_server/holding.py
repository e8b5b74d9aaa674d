"""Everything of one server that outlives a crash: folder, mounts, namespaces, cgroup, under one name.

A folder `banip-server-TOKEN` in the temporary directory is locked (flock) for as long as its owner lives. One
whose lock can be taken has lost its owner: a SIGKILLed test run. `sweep` removes those, by token only, never
anything else's.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

import psutil

from tests.closed_server.interface import ClosedServerError

PREFIX = "banip-server-"
#: Names the process that holds the lock of a server that was kept.
_KEEPER = "kept-by"
NAMESPACES = Path("/run/netns")
#: A file system in memory: nothing to wait for at each sync, nothing left after a restart of the machine.
MEMORY = Path("/dev/shm")  # noqa: S108 - folders in it are 0700 and unpredictable, as in the temporary one
MEMORY_NEEDED_BYTES = 8 * 1024**3


def run(*argv: str | Path, timeout_s: float = 120) -> str:
    """Run a command of this machine and return its output; raises ClosedServerError with what it said."""
    done = subprocess.run(
        [str(part) for part in argv], capture_output=True, text=True, timeout=timeout_s, check=False
    )
    if done.returncode:
        message = f"{' '.join(map(str, argv))} ended with {done.returncode}: {done.stderr.strip()}"
        raise ClosedServerError(message)
    return done.stdout


def wait_until(condition: object, timeout_s: float, what: str) -> None:
    """Poll a callable until it returns something true; raises ClosedServerError naming `what`."""
    deadline = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        if time.monotonic() > deadline:
            message = f"waited {timeout_s:.0f} s for {what}"
            raise ClosedServerError(message)
        time.sleep(0.02)


def cgroup_root(kind: str = "cgroup2") -> Path | None:
    """Where this machine shows its version 2 cgroups, None if nowhere (unified or hybrid hosts have them)."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        about = fields[fields.index("-") + 1 :]
        if about[0] == kind or kind in about[-1].split(","):
            return Path(fields[4])
    return None


def mounts_under(folder: Path) -> list[str]:
    """List mount points at or below a folder, the innermost first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4] for line in lines]
    return [point for point in reversed(points) if Path(point).is_relative_to(folder)]


@cache
def _shelf(*, in_memory: bool) -> Path:
    """Return where folders are made; decided once a run: a snapshot is a rename within one file system."""
    if in_memory and MEMORY.is_dir():
        available = psutil.virtual_memory().available
        if min(available, shutil.disk_usage(MEMORY).free) >= MEMORY_NEEDED_BYTES:
            return MEMORY
    return Path(tempfile.gettempdir())


class Holding:
    """One server's folder and every name derived from its token; `close` removes all of them."""

    def __init__(self, folder: Path, lock: int) -> None:
        """Take over a folder whose lock is held; use `claim`."""
        self.folder = folder
        self._lock = lock
        self.token = folder.name.removeprefix(PREFIX)
        self.children: list[subprocess.Popen[bytes]] = []

    @classmethod
    def claim(cls, *, in_memory: bool = False) -> Holding:
        """Make a new one, in memory where that is wanted and there is room; it is removed at exit at last."""
        # Locked before it gets the name that `sweep` looks for, so that no other run can mistake it for an
        # orphan.
        fresh = Path(tempfile.mkdtemp(prefix="banip-new-", dir=_shelf(in_memory=in_memory)))
        lock = os.open(fresh, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = fresh.rename(
            fresh.with_name(PREFIX + fresh.name.removeprefix("banip-new-").replace("_", "0"))
        )
        holding = cls(folder, lock)
        atexit.register(holding.close)
        return holding

    @property
    def cgroup(self) -> Path:
        """The cgroup (version 2) in which everything of this server runs."""
        root = cgroup_root()
        if root is None:
            message = "this machine shows no version 2 cgroups"
            raise ClosedServerError(message)
        return root / f"banip-{self.token}"

    def namespace(self, role: str) -> str:
        """Name one of this server's network namespaces, as `ip netns` knows it."""
        return f"banip-{self.token}-{role}"

    def spawn(self, argv: list[str], leaf: str = "bed", **options: object) -> subprocess.Popen[bytes]:
        """Start a process in a leaf of this server's cgroup, where `close` and a later `sweep` find it."""
        folder = self.cgroup / leaf
        folder.mkdir(parents=True, exist_ok=True)
        child: subprocess.Popen[bytes] = subprocess.Popen(  # type: ignore[call-overload]
            in_cgroup(folder, argv),
            start_new_session=True,  # a Ctrl-C is for the tests, which then clean up in order
            **options,
        )
        self.children.append(child)
        return child

    def keep(self) -> None:
        """Leave everything in place when this process ends, until ``end_kept``."""
        atexit.unregister(self.close)
        keeper = self.spawn(["sleep", "infinity"], stdin=subprocess.DEVNULL, pass_fds=(self._lock,))
        (self.folder / _KEEPER).write_text(str(keeper.pid))

    def close(self) -> None:
        """Kill, unmount, delete: in that order, each step safe to repeat."""
        if self._lock < 0:
            return
        atexit.unregister(self.close)
        kill_cgroup(self.cgroup)
        for child in self.children:
            child.kill()
            child.wait()
            for stream in (child.stdin, child.stdout, child.stderr):
                if stream:
                    with contextlib.suppress(OSError):
                        stream.close()
        remove_cgroup(self.cgroup)
        # On a hybrid machine nspawn mirrors its cgroup into systemd's version 1 tree and leaves it there.
        if (mirror := cgroup_root("name=systemd")) is not None:
            remove_cgroup(mirror / self.cgroup.name)
        for point in mounts_under(self.folder):
            run("umount", "--lazy", point)
        for namespace in NAMESPACES.glob(f"banip-{self.token}-*"):
            run("ip", "netns", "delete", namespace.name)
        shutil.rmtree(self.folder)
        os.close(self._lock)
        self._lock = -1


def sweep() -> list[str]:
    """Remove what runs that were killed left behind; returns their tokens."""
    swept = []
    shelves = {_shelf(in_memory=False), MEMORY}
    for folder in [folder for shelf in shelves for folder in shelf.glob(f"{PREFIX}*")]:
        with contextlib.suppress(FileNotFoundError):
            if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
                continue
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            Holding(folder, lock).close()
            swept.append(folder.name.removeprefix(PREFIX))
    return swept


def end_kept() -> list[str]:
    """Remove the servers that were kept; returns the tokens of all that went."""
    for shelf in {_shelf(in_memory=False), MEMORY}:
        for note in shelf.glob(f"{PREFIX}*/{_KEEPER}"):
            with contextlib.suppress(OSError, ValueError, psutil.NoSuchProcess):
                keeper = psutil.Process(int(note.read_text()))
                if keeper.name() == "sleep" and note.stat().st_uid == os.geteuid():
                    keeper.kill()
                    psutil.wait_procs([keeper], timeout=10)
    return sweep()


def in_cgroup(leaf: Path, argv: list[str]) -> list[str]:
    """Wrap a command so that it is in a cgroup from its first moment."""
    return ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(leaf), *argv]


def members(cgroup: Path) -> list[int]:
    """List the processes of a cgroup and all below it; empty when it is gone."""
    pids: list[int] = []
    for procs in [cgroup / "cgroup.procs", *cgroup.rglob("cgroup.procs")]:
        with contextlib.suppress(OSError):
            pids += map(int, procs.read_text().split())
    return pids


def kill_cgroup(cgroup: Path) -> None:
    """SIGKILL everything in a cgroup, at once where the kernel can (5.14), and wait until it is empty."""
    if not cgroup.is_dir():
        return

    def emptied() -> bool:
        try:
            (cgroup / "cgroup.kill").write_text("1")
        except OSError:
            for pid in members(cgroup):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        return "populated 0" in (cgroup / "cgroup.events").read_text()

    wait_until(emptied, 30, f"the processes of {cgroup.name} to die")


def remove_cgroup(cgroup: Path) -> None:
    """Remove an emptied cgroup and those below it."""
    if not cgroup.is_dir():
        return
    below = [folder for folder in cgroup.rglob("*") if folder.is_dir()]
    for folder in [*reversed(below), cgroup]:
        wait_until(lambda folder=folder: _removed(folder), 10, f"{folder} to become removable")


def _removed(folder: Path) -> bool:
    """Try once to remove an empty cgroup: the kernel may still be burying its last process."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
