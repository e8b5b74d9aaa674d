"""What both backends do alike once a command can be started inside: run and wait, copy in and out."""

from __future__ import annotations

import queue
import subprocess
import tarfile
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, BinaryIO, NamedTuple, cast

from tests.closed_server.interface import (
    NOTHING,
    ClosedServerError,
    ServerCommandFailed,
    ServerCommandTimedOut,
    finish,
)

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator, Mapping


class Commands(ABC):
    """exec, follow, copy_in and copy_out, from `start` and `kill_group`."""

    @abstractmethod
    def start(self, *argv: str, env: Mapping[str, str] = NOTHING) -> subprocess.Popen[str]:
        """Start a command in a group of its own."""

    @abstractmethod
    def kill_group(self, process: subprocess.Popen[str]) -> None:
        """Kill that group."""

    def exec(
        self,
        *argv: str,
        timeout_s: float = 600,
        check: bool = True,
        stdin: bytes | None = None,
        env: Mapping[str, str] = NOTHING,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root under a clean environment and wait for it."""
        process = self.start(*argv, env=env)
        try:
            done = finish(process, stdin, timeout_s)
        except subprocess.TimeoutExpired as late:
            message = f"{' '.join(argv)} ran past {timeout_s} s; so far:\n{late.stdout!r}\n{late.stderr!r}"
            raise ServerCommandTimedOut(message) from late
        finally:
            self.kill_group(process)
            _close(process)
        told = subprocess.CompletedProcess(list(argv), done.returncode, done.stdout, done.stderr)
        if check and told.returncode:
            raise ServerCommandFailed(told)
        return told

    def follow(
        self,
        *argv: str,
        on_line: Callable[[str], None],
        timeout_s: float = 600,
        check: bool = True,
        env: Mapping[str, str] = NOTHING,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command and call `on_line` with each line of either stream as it comes."""
        process = self.start(*argv, env=env)
        said: dict[str, list[str]] = {"out": [], "err": []}
        try:
            for stream, line in _lines(process, timeout_s):
                said[stream].append(line)
                on_line(line.rstrip("\n"))
            process.wait(60)
        except TimeoutError as late:
            message = f"{' '.join(argv)} ran past {timeout_s} s; so far:\n{said}"
            raise ServerCommandTimedOut(message) from late
        finally:
            self.kill_group(process)
            _close(process)
        out, err = "".join(said["out"]), "".join(said["err"])
        told = subprocess.CompletedProcess(list(argv), process.returncode, out, err)
        if check and told.returncode:
            raise ServerCommandFailed(told)
        return told

    def copy_in(self, source: Path, destination: str, mode: int = 0o644) -> None:
        """Copy a file or a folder to exactly `destination`, owned by root."""
        target = PurePosixPath(destination)

        def owned(member: tarfile.TarInfo) -> tarfile.TarInfo:
            member.uid = member.gid = 0
            member.uname = member.gname = "root"
            if source.is_file():
                member.mode = mode
            return member

        unpack = ("tar", "--extract", "--directory", f"{target.parent}/", "--file", "-")
        with self._tar(unpack, f"copying {source} to {destination}") as pipes:
            with tarfile.open(fileobj=pipes.stdin, mode="w|", dereference=source.is_file()) as archive:
                archive.add(source, arcname=target.name, filter=owned)
            pipes.stdin.close()

    def copy_out(self, source: str, destination: Path) -> None:
        """Copy a file or a folder to exactly `destination` on this machine."""
        origin = PurePosixPath(source)
        pack = ("tar", "--create", "--directory", f"{origin.parent}/", "--file", "-", "--", origin.name)
        with tempfile.TemporaryDirectory(prefix=".arriving-", dir=destination.parent) as landing:
            with (
                self._tar(pack, f"copying {source} out") as pipes,
                tarfile.open(fileobj=pipes.stdout, mode="r|") as archive,
            ):
                # A server under test is not trusted with this machine's paths: "data" refuses what leads out.
                archive.extractall(landing, filter="data")
            Path(landing, origin.name).rename(destination)

    @contextmanager
    def _tar(self, argv: tuple[str, ...], what: str) -> Iterator[_Pipes]:
        """Run a tar inside.

        Raises ClosedServerError with what it said when it, or the archive here, broke.
        """
        process = self.start(*argv)
        pipes = _Pipes(_raw(process.stdin), _raw(process.stdout))
        broken: OSError | tarfile.TarError | None = None
        try:
            try:
                yield pipes
            except (OSError, tarfile.TarError) as error:
                broken = error
            with suppress(BrokenPipeError):
                pipes.stdin.close()
            pipes.stdout.read()
            said, code = process.stderr.read() if process.stderr else "", process.wait(60)
        finally:
            self.kill_group(process)
            _close(process)
        if code or broken:
            message = f"{what}: tar inside ended with {code}: {said.strip() or broken}"
            raise ClosedServerError(message) from broken


def _lines(process: subprocess.Popen[str], timeout_s: float) -> Iterator[tuple[str, str]]:
    """Yield ("out" or "err", line) as they come until both streams end; raises TimeoutError."""
    if process.stdin:
        process.stdin.close()
    arrived: queue.Queue[tuple[str, str]] = queue.Queue()

    def read(name: str, stream: IO[str]) -> None:
        with suppress(ValueError):  # closed here, because the time was up
            for line in stream:
                arrived.put((name, line))
        arrived.put((name, ""))

    streams = {"out": process.stdout, "err": process.stderr}
    for name, stream in streams.items():
        threading.Thread(target=read, args=(name, stream), daemon=True).start()
    deadline, open_streams = time.monotonic() + timeout_s, len(streams)
    while open_streams:
        try:
            name, line = arrived.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise TimeoutError from None
        if line:
            yield name, line
        else:
            open_streams -= 1


class _Pipes(NamedTuple):
    """The two pipes of a tar inside, as bytes."""

    stdin: BinaryIO
    stdout: BinaryIO


def _raw(stream: IO[str] | None) -> BinaryIO:
    """Return the bytes under a text pipe."""
    return cast("BinaryIO", cast("io.TextIOWrapper", stream).buffer)


def _close(process: subprocess.Popen[str]) -> None:
    """Close the pipes of a process that has ended."""
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            with suppress(BrokenPipeError):
                stream.close()
