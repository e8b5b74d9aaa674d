"""One integrity run: everything that was signed is hashed, whole, with progress, and goes on after a kill."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import psutil

from appliance.audit.facts_product import Drift
from appliance.audit.integrity import (
    PRIVATE_FILE,
    PRIVATE_FOLDER,
    Begun,
    IntegrityRun,
    Records,
    Seen,
    begun,
    read_part,
)
from appliance.audit.reading import drift, logs, packages
from appliance.audit.reading.drift import HASHED_MOST_BYTES, Told
from appliance.audit.reading.probe import fact
from appliance.durable import make_folder, write_all
from appliance.errors import AlreadyRunning
from appliance.format import Value, sha256_hex
from appliance.pieces import pieces_of
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from appliance.audit.facts_host import PackageFiles
    from appliance.format import Release
    from appliance.release import Server
    from appliance.verify import TrustedBundle

#: What a run that was cut off has hashed counts for so long.
RESUME_DAYS = 2
#: dpkg and journalctl at the lowest priority, over whatever the disk has.
VERIFY_TIMEOUT_S = 4 * 3600
_SYNC_BYTES = 64 * 1024 * 1024
_TOLD_EACH_S = 2.0


class Advance(Value, frozen=True):
    """``progress.json``: how far a run is; of the last stages nobody knows how long they take."""

    stage: str
    started: datetime
    bytes_done: int
    bytes_total: int
    seconds_left: int | None = None

    @property
    def percent(self) -> int:
        """Return how much of the bytes is done."""
        return min(100, 100 * self.bytes_done // max(self.bytes_total, 1))


@dataclass
class _Pace:
    """Counts what is hashed and tells it now and then: to the caller, and to whoever asks for the status."""

    path: Path
    started: datetime
    total: int
    tell: Callable[[Advance], None]
    stage: str = "files"
    done: int = 0
    hashed: int = 0
    _since: float = field(default_factory=time.monotonic)
    _told: float = 0.0

    def add(self, size_bytes: int, *, hashed: bool = True) -> None:
        """Count bytes that are done; what a run before this one hashed tells nothing of the speed."""
        self.done += size_bytes
        self.hashed += size_bytes if hashed else 0
        if time.monotonic() - self._told >= _TOLD_EACH_S:
            self.say()

    def enter(self, stage: str) -> None:
        """Begin another stage; after those that hash, the estimate of the bytes gives way to the truth."""
        self.stage = stage
        if stage not in _COMPARED:
            self.total = self.done
        self.say()

    def say(self) -> None:
        """Tell it now."""
        self._told = time.monotonic()
        one = Advance(
            stage=self.stage,
            started=self.started,
            bytes_done=min(self.done, self.total),
            bytes_total=self.total,
            seconds_left=self._left(),
        )
        new = self.path.with_name(".progress.new")
        new.write_bytes(msgspec.json.encode(one))  # for a reader of now: not worth a sync
        new.chmod(PRIVATE_FILE)
        new.rename(self.path)
        self.tell(one)

    def _left(self) -> int | None:
        spent = self._told - self._since
        rest = max(self.total - self.done, 0)
        return round(rest * spent / self.hashed) if self.hashed and spent > 0 else None


class _Hashing:
    """Hashes everything, and writes down each file before it goes on: a kill costs the file at work."""

    run: datetime | None = None

    def __init__(self, descriptor: int, seen: dict[str, Seen], pace: _Pace) -> None:
        self._descriptor, self._seen, self._pace = descriptor, seen, pace
        self._unsynced = 0
        self.files = 0

    def of(self, path: Path, about: os.stat_result) -> Told:
        """Tell the digest; of what was hashed before and has not changed, from then."""
        known = self._seen.get(str(path))
        if known is not None and known.still(about):
            self._pace.add(about.st_size, hashed=False)
            self.files += 1
            return Told(bytes.fromhex(known.sha256), "hashed")
        digest, after = self._hash(path)
        self.files += 1
        if after is not None and Seen.of(path, after, "") == Seen.of(path, about, ""):
            self._write(Seen.of(path, after, digest.hex()))
        return Told(digest, "hashed")

    def _hash(self, path: Path) -> tuple[bytes, os.stat_result | None]:
        """Hash a file; one that the disk does not give back has no digest, which is nobody's."""
        digest = hashlib.sha256()
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return b"", None
        try:
            for piece in pieces_of(descriptor):
                digest.update(piece)
                self._pace.add(len(piece))
            after = os.fstat(descriptor)
            if after.st_size > HASHED_MOST_BYTES:  # the cache is the services': what they map stays
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError:
            return b"", None
        else:
            return digest.digest(), after
        finally:
            os.close(descriptor)

    def _write(self, one: Seen) -> None:
        self._seen[one.path] = one
        write_all(self._descriptor, msgspec.json.encode(one) + b"\n")
        self._unsynced += one.size_bytes
        if self._unsynced >= _SYNC_BYTES:
            os.fsync(self._descriptor)
            self._unsynced = 0


@dataclass(frozen=True, slots=True)
class System:
    """What the system can say of its own content: each asked with how many seconds it may take."""

    packages: Callable[[float], PackageFiles] = packages.package_files
    journal: Callable[[float], tuple[str, ...]] = logs.journal_whole
    archives: Callable[[], tuple[Path, ...]] = logs.journal_archives


SYSTEM = System()


def run_integrity(
    server: Server,
    proof: TrustedBundle | None,
    version: str,
    tell: Callable[[Advance], None] = lambda _: None,
    system: System = SYSTEM,
) -> IntegrityRun:
    """Hash everything that was signed, and keep the record; what a killed run hashed is not hashed again.

    ``proof``: the installed release; None: there is none, and only the system's own content is asked about.
    Raises ``AlreadyRunning``.
    """
    records = Records.on(server)
    make_folder(server.state.folder, PRIVATE_FOLDER)
    make_folder(records.folder, PRIVATE_FOLDER)
    with at_work(records):
        now = server.clock.now()
        with _part(records, begun(proof, now), now) as (descriptor, first, seen):
            release = proof.release if proof else None
            pace = _Pace(records.progress, first.started, _signed_bytes(server, release), tell)
            pace.say()
            hashing = _Hashing(descriptor, seen, pace)
            found = _compared(server, release, hashing, pace) | _asked(system, pace)
            os.fsync(descriptor)
        one = IntegrityRun(
            begun=first,
            finished=server.clock.now(),
            appliance=version,
            files_hashed=hashing.files,
            bytes_hashed=pace.done,
            seen_sha256=sha256_hex(records.part.read_bytes()),
            **found,
        )
        records.keep(one)
    return one


def _compared(server: Server, release: Release | None, hashing: _Hashing, pace: _Pace) -> dict[str, Any]:
    """Return what differs from what was signed: members of the run by their names."""
    found = {}
    for name, compare in _COMPARED.items():
        pace.enter(name)
        found[name] = compare(server, release, hashing) if release else Drift(hashed=0, sized=0)
    return found


def _asked(system: System, pace: _Pace) -> dict[str, Any]:
    """Return what the system says of itself: members of the run by their names."""
    pace.enter("packages")
    brought = fact("dpkg --verify", partial(system.packages, VERIFY_TIMEOUT_S))
    pace.enter("journal")
    archives = tuple(Seen.of(path, path.stat(), "") for path in system.archives())
    whole = fact("journalctl --verify", partial(system.journal, VERIFY_TIMEOUT_S))
    return {"packages": brought, "journal": whole, "archives": archives}


def _signed_bytes(server: Server, release: Release | None) -> int:
    return drift.signed_bytes(server, release) if release else 0


_COMPARED = {
    "files": drift.files_drift,
    "models": drift.models_drift,
    "environments": drift.environments_drift,
}


@contextmanager
def at_work(records: Records) -> Iterator[None]:
    """Hold the lock of integrity runs; the kernel frees it with the process. Raises ``AlreadyRunning``."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(records.lock, flags, PRIVATE_FILE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunning(
                text("an integrity run is at work already"),
                where=records.folder,
                remedy=text("see how far it is: appliance audit integrity --status"),
            ) from error
        yield
    finally:
        os.close(descriptor)


def is_at_work(records: Records) -> bool:
    """Tell whether a run is at work now."""
    try:
        with at_work(records):
            return False
    except AlreadyRunning:
        return True
    except FileNotFoundError:
        return False


def advance(records: Records) -> Advance | None:
    """Return how far the run is that is at work, or was cut off; None where there is none."""
    with suppress(FileNotFoundError, msgspec.DecodeError):
        return msgspec.json.decode(records.progress.read_bytes(), type=Advance)
    return None


@contextmanager
def _part(records: Records, wanted: Begun, now: datetime) -> Iterator[tuple[int, Begun, dict[str, Seen]]]:
    """Open the list, where a run that was cut off left it if that run was of the same."""
    descriptor = os.open(
        records.part, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE
    )
    try:
        content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        first, seen, end = read_part(content, wanted, now - timedelta(days=RESUME_DAYS))
        os.ftruncate(descriptor, end)
        if not end:
            write_all(descriptor, msgspec.json.encode(first) + b"\n")
        yield descriptor, first, seen
    finally:
        os.close(descriptor)


def step_back() -> None:
    """Let everybody else go first, on the processors and at the disk; what is started from here follows."""
    os.nice(19)
    with suppress(psutil.Error, OSError):  # a kernel without it hashes at the common priority
        psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)
