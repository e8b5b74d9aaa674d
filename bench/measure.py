"""Running a contestant: wall clock, processor time and memory of its processes, and the state of caches."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

#: Argument lists whose processes are joined by pipes.
Pipeline = tuple[tuple[str, ...], ...]

_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)
_LOOK_EVERY_S = 0.01
_DROP_CACHES = Path("/proc/sys/vm/drop_caches")
_PIECE_BYTES = 4 * 1024 * 1024


class ContestantFailed(Exception):
    """A contestant ended with another code than 0; the message has its standard error."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: seconds on the wall, user and system seconds of all processes, peak of resident memory."""

    wall_s: float
    cpu_s: float
    peak_rss_bytes: int


def measure(
    steps: Iterable[Pipeline],
    folder: Path,
    environment: Mapping[str, str],
    watch: Callable[[], None] = lambda: None,
) -> Measured:
    """Run pipelines one after another in ``folder``; the last process of each writes into ``stdout``.

    Memory of a pipeline is the sum of its processes' own peaks, of several pipelines the largest.
    ``watch`` is called some times a second meanwhile. Raises ``ContestantFailed``.
    """
    wall_s = cpu_s = 0.0
    peak = 0
    with (folder / "stdout").open("wb") as output:
        for pipeline in steps:
            began = time.perf_counter()
            processes = _start(pipeline, folder, environment, output.fileno())
            with _Watching(processes, watch) as watching:
                cpu_s += sum([_wait(process) for process in processes])
            wall_s += time.perf_counter() - began
            _refuse_failed(processes, folder)
            peak = max(peak, watching.peak_rss_bytes)
    return Measured(wall_s, cpu_s, peak)


def _start(
    pipeline: Pipeline, folder: Path, environment: Mapping[str, str], output: int
) -> list[subprocess.Popen[bytes]]:
    processes: list[subprocess.Popen[bytes]] = []
    for number, argv in enumerate(pipeline):
        last = number == len(pipeline) - 1
        with (folder / "stderr").open("ab") as errors:
            process = subprocess.Popen(
                argv,
                cwd=folder,
                env=environment,
                stdin=processes[-1].stdout if processes else subprocess.DEVNULL,
                stdout=output if last else subprocess.PIPE,
                stderr=errors,
            )
        if processes and processes[-1].stdout is not None:
            processes[-1].stdout.close()  # the next one has it: its end must be seen by the one before
        processes.append(process)
    return processes


def _wait(process: subprocess.Popen[bytes]) -> float:
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


def _refuse_failed(processes: Sequence[subprocess.Popen[bytes]], folder: Path) -> None:
    for process in processes:
        if process.returncode != 0:
            said = (folder / "stderr").read_text("utf-8", "replace")
            message = f"{process.args!r} ended with {process.returncode}: {said}"
            raise ContestantFailed(message)


class _Watching:
    """Looks at the memory of processes while they run.

    The kernel's ``ru_maxrss`` will not do: a process that we start begins with our own peak.
    """

    def __init__(self, processes: Sequence[subprocess.Popen[bytes]], watch: Callable[[], None]) -> None:
        self._peaks = {process.pid: 0 for process in processes}
        self._watch = watch
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    @property
    def peak_rss_bytes(self) -> int:
        return sum(self._peaks.values())

    def __enter__(self) -> _Watching:  # noqa: PYI034 - Python 3.10 has no Self
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(_LOOK_EVERY_S):
            for pid, before in self._peaks.items():
                self._peaks[pid] = max(before, _peak_rss_bytes(pid))
            self._watch()


def _peak_rss_bytes(pid: int) -> int:
    try:
        found = _PEAK.search(Path(f"/proc/{pid}/status").read_text("ascii", "replace"))
    except OSError:  # it has ended
        return 0
    return int(found[1]) * 1024 if found else 0


# --- Caches -----------------------------------------------------------------------------------------------


def how_caches_are_dropped() -> str:
    """Say which of two ways this process has."""
    if os.access(_DROP_CACHES, os.W_OK):
        return "sync, then /proc/sys/vm/drop_caches"
    return "sync, then posix_fadvise DONTNEED on every file read (not root: programs stay cached)"


def make_cold(files: Iterable[Path]) -> None:
    """Write everything back, and let the kernel forget what it has of these files (as root: of all)."""
    os.sync()
    if os.access(_DROP_CACHES, os.W_OK):
        _DROP_CACHES.write_text("3\n", "ascii")
    else:
        forget(files)


def forget(files: Iterable[Path]) -> None:
    """Let the kernel forget these files, as far as they have been written back."""
    for path in files:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def make_warm(files: Iterable[Path]) -> None:
    """Write everything back, and read these files into the cache."""
    os.sync()
    buffer = bytearray(_PIECE_BYTES)
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
