"""What a closed server is, whichever backend plays it.

Values, errors and the protocol that tests are written against.
"""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

MEDIUM = "/media/usb"
CLEAN_ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "HOME": "/root",
    }
)
NOTHING: Mapping[str, str] = MappingProxyType({})


class ClosedServerError(Exception):
    """The test bed itself failed: what happened, and what the machine said."""


class ServerCommandFailed(ClosedServerError):
    """A command inside the server ended with another code than 0."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        """Show argv, code and both streams, as the reader of a red test needs them."""
        self.done = done
        super().__init__(
            f"{shlex.join(done.args)} ended with {done.returncode}\n"
            f"--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}"
        )


class ServerCommandTimedOut(ClosedServerError):
    """A command inside the server ran past its limit; it and all that it started were killed."""


@dataclass(frozen=True, slots=True, order=True)
class EgressAttempt:
    """One distinct way in which something on the server tried to leave it.

    `unit` is the systemd unit that owned the socket, "exec" for a command of the test bed, "" where that
    could not be told (the socket was gone already, no socket at all, or a QEMU guest, whose sockets the host
    cannot see). `name` is the name asked for in a DNS query, else "". Port 0 where the protocol has none.
    """

    unit: str
    protocol: str
    address: str
    port: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A stopped server's disk, from which any number of servers start.

    Frozen overlay layers, newest first, and /var.
    """

    layers: tuple[Path, ...]
    var: Path


class ClosedServer(Protocol):
    """A disposable Debian 12 with systemd, no way out, reachable by command and file copy only."""

    def exec(
        self,
        *argv: str,
        timeout_s: float = 600,
        check: bool = True,
        stdin: bytes | None = None,
        env: Mapping[str, str] = NOTHING,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root under a clean environment and wait for it; what it leaves running is killed.

        Output is text with line ends as "\n"; bytes that are no UTF-8 come as surrogate escapes.
        Raises ServerCommandFailed (when `check`), ServerCommandTimedOut.
        """
        ...

    def follow(
        self,
        *argv: str,
        on_line: Callable[[str], None],
        timeout_s: float = 600,
        check: bool = True,
        env: Mapping[str, str] = NOTHING,
    ) -> subprocess.CompletedProcess[str]:
        """Run a long command as `exec` does and call `on_line` with each line of either stream as it comes.

        Lines come without their ends, in the caller's thread, in the order in which they arrive here.
        Returns and raises as `exec`.
        """
        ...

    def start(self, *argv: str, env: Mapping[str, str] = NOTHING) -> subprocess.Popen[str]:
        """Start a long command in a group of its own; its two streams are pipes that the caller drains."""
        ...

    def kill_group(self, process: subprocess.Popen[str]) -> None:
        """SIGKILL everything that one `start` started inside the server, at once.

        Units it asked systemd for live on.
        """
        ...

    def copy_in(self, source: Path, destination: str, mode: int = 0o644) -> None:
        """Copy a file (with `mode`) or a folder (with its own modes) to this very path, owned by root."""
        ...

    def copy_out(self, source: str, destination: Path) -> None:
        """Copy a file or a folder to exactly `destination` on this machine."""
        ...

    def insert_medium(self, folder: Path) -> str:
        """Show a folder read-only at /media/usb, now; returns that path.

        A second medium takes the first one's place.
        """
        ...

    def eject_medium(self) -> None:
        """Take the medium away; nothing happens without one."""
        ...

    def attempts(self) -> list[EgressAttempt]:
        """Say which distinct attempts to leave were seen since boot or the last reset, sorted."""
        ...

    def reset_attempts(self) -> None:
        """Forget the attempts seen so far."""
        ...

    def power_cut(self) -> None:
        """Take the power away: nothing on the server gets a chance to write."""
        ...

    def boot(self) -> None:
        """Start the stopped server on the same disk and wait until systemd has settled."""
        ...

    def close(self) -> None:
        """Remove everything: processes, mounts, namespaces, disk. May be called twice."""
        ...


def finish(
    process: subprocess.Popen[str], stdin: bytes | None, timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """Wait for a started command, feeding it; raises subprocess.TimeoutExpired."""
    text = None if stdin is None else stdin.decode("utf-8", "surrogateescape")
    out, err = process.communicate(text, timeout=timeout_s)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)
