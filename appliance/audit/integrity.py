"""The record of the last integrity run: which files were hashed, to what digest, and how the disk saw them.

Layout under ``<root>/state/integrity`` (0700, files 0600): ``run.json`` (``IntegrityRun``), ``seen.jsonl``
(``Begun``, then a ``Seen`` a line; named by its SHA-256 in ``run.json``), and of a run at work
``part.jsonl``, ``progress.json`` and ``lock``. An audit believes the record only where it is whole, of this
machine, of the release that is installed, and young enough; and of each file only while lstat sees it as the
run left it. What is not believed is hashed by the audit itself, or is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec

from appliance.audit.facts import Fact  # noqa: TC001 - msgspec resolves annotations at run time
from appliance.audit.facts_host import PackageFiles  # noqa: TC001 - as above
from appliance.audit.facts_product import Drift  # noqa: TC001 - as above
from appliance.audit.reading.drift import Live, Told
from appliance.audit.reading.probe import Unreadable
from appliance.durable import write_file
from appliance.format import Sha256, Value, canonical_json, sha256_hex
from appliance.text import Text, text

if TYPE_CHECKING:
    import os

    from appliance.release import Server
    from appliance.verify import TrustedBundle

PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600
#: How old a record may be where nobody says otherwise: a week, and a day for a run that was late.
DAYS = 8
SEEN_MOST_BYTES = 512 * 1024 * 1024
_MACHINE = Path("/etc/machine-id")
_V = TypeVar("_V", bound=Value)


class Seen(Value, frozen=True, array_like=True):
    """A file whose content was hashed, and how lstat saw it then: a change since shows in one of these."""

    path: str
    sha256: str
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    mode: int

    @classmethod
    def of(cls, path: Path | str, about: os.stat_result, sha256: str) -> Seen:
        """Return what is known of a file that was hashed while it looked so."""
        return cls(
            path=str(path),
            sha256=sha256,
            size_bytes=about.st_size,
            mtime_ns=about.st_mtime_ns,
            ctime_ns=about.st_ctime_ns,
            inode=about.st_ino,
            mode=about.st_mode,
        )

    def still(self, about: os.stat_result) -> bool:
        """Tell whether the file looks as it did; its times of change are the kernel's, nobody sets ctime."""
        return self == Seen.of(self.path, about, self.sha256)


class Begun(Value, frozen=True):
    """The first line of the list: what was hashed, where, and since when."""

    format: Literal[1]
    release: str
    release_sha256: Sha256
    machine: Sha256
    started: datetime


class IntegrityRun(Value, frozen=True):
    """``run.json``: everything that was signed, hashed; and what packages and the journal say of themselves.

    ``started`` is what its age counts from: a file may have been hashed that early. ``archives``: journal
    files that nobody writes to any more, as they were when they were checked.
    """

    begun: Begun
    finished: datetime
    appliance: str
    files_hashed: int
    bytes_hashed: int
    seen_sha256: Sha256
    files: Drift
    models: Drift
    environments: Drift
    packages: Fact[PackageFiles]
    journal: Fact[tuple[str, ...]]
    archives: tuple[Seen, ...]

    @property
    def started(self) -> datetime:
        """When it began."""
        return self.begun.started

    def drifted(self) -> tuple[str, ...]:
        """Return everything that is not as it was signed or brought."""
        parts = (self.files, self.models, self.environments)
        found = [path for one in parts for path in (*one.changed, *one.missing, *one.extra)]
        packages = self.packages.value
        found += [*packages.changed, *packages.missing] if packages else []
        return (*found, *(self.journal.value or ()))

    def unread(self) -> tuple[Text, ...]:
        """Return why a part of it could not be done."""
        parts = ((self.packages.source, self.packages), (self.journal.source, self.journal))
        told = (
            text("{source}: {reason}", source=source, reason=one.why().as_text())
            for source, one in parts
            if one.unread is not None
        )
        sized = sum(one.sized for one in (self.files, self.models, self.environments))
        return (*told, *([text("{count} files could not be hashed", count=sized)] if sized else []))


def _again(why: Text) -> Text:
    return text("{why}: run `appliance audit integrity`", why=why)


def machine() -> Sha256:
    """Return what tells this machine from others; its id itself is not for files that may leave."""
    return sha256_hex(_MACHINE.read_bytes() if _MACHINE.exists() else b"")


def begun(proof: TrustedBundle | None, started: datetime) -> Begun:
    """Return the first line of a run over the release that is proven; None: none is installed."""
    return Begun(
        format=1,
        release=proof.release.id if proof else "-",
        release_sha256=sha256_hex(proof.release_json if proof else b""),
        machine=machine(),
        started=started,
    )


@dataclass(frozen=True, slots=True)
class Records:
    """Where the record lies."""

    folder: Path

    @classmethod
    def on(cls, server: Server) -> Records:
        """Return those of a server: with its state."""
        return cls(server.state.folder / "integrity")

    @property
    def part(self) -> Path:
        """The list of a run that is at work, or was cut off."""
        return self.folder / "part.jsonl"

    @property
    def progress(self) -> Path:
        """How far a run is."""
        return self.folder / "progress.json"

    @property
    def lock(self) -> Path:
        """Held by the run that is at work."""
        return self.folder / "lock"

    def newest(self) -> IntegrityRun | None:
        """Return the last run that came to its end; None: there was none. Raises ``Unreadable``."""
        path = self.folder / "run.json"
        try:
            return _decoded(path.read_bytes(), IntegrityRun)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise Unreadable(_again(text("{path} is damaged ({error})", path=path, error=error))) from error

    def keep(self, run: IntegrityRun) -> None:
        """Put a finished run in the place of the last; cut off in between, neither is believed."""
        self.part.rename(self.folder / "seen.jsonl")
        write_file(self.folder / "run.json", canonical_json(run), mode=PRIVATE_FILE)
        self.progress.unlink(missing_ok=True)

    def seen(self, run: IntegrityRun) -> dict[str, Seen]:
        """Return the files of a run by path. Raises ``Unreadable`` where the list is not the run's own."""
        path = self.folder / "seen.jsonl"
        try:
            content = path.read_bytes() if path.stat().st_size <= SEEN_MOST_BYTES else b""
        except FileNotFoundError:
            content = b""
        if sha256_hex(content) != run.seen_sha256:
            raise Unreadable(_again(text("{path} is not the list of the last run", path=path)))
        return {one.path: one for one in map(_seen, content.splitlines()[1:])}

    def believed(self, proof: TrustedBundle | None, now: datetime, days: float) -> IntegrityRun:
        """Return the last run where an audit may go by it. Raises ``Unreadable`` with the reason if not."""
        run = self.newest()
        if run is None:
            raise Unreadable(_again(text("there was no integrity run yet")))
        wanted = begun(proof, run.started)
        if run.begun != wanted:
            raise Unreadable(_again(text("the integrity run was of another release or machine")))
        if not timedelta() <= now - run.started <= timedelta(days=days):
            day, counts = f"{run.started:%Y-%m-%d}", f"{days:g}"
            old = text("the integrity run of {day} counts for {days} days", day=day, days=counts)
            raise Unreadable(_again(old))
        return run


def _decoded(content: bytes, kind: type[_V]) -> _V:
    return msgspec.json.decode(content, type=kind)


def _seen(line: bytes) -> Seen:
    return _decoded(line, Seen)


def read_part(content: bytes, wanted: Begun, oldest: datetime) -> tuple[Begun, dict[str, Seen], int]:
    """Return what a run that was cut off had come to, and how many of the bytes are whole lines of it.

    Nothing of it counts where it was of something else or began before ``oldest``. What follows the first
    line that is no line of ours, a power cut's, is forgotten.
    """
    end = content.find(b"\n") + 1
    try:
        first = _decoded(content[:end], Begun)
    except msgspec.DecodeError:
        return wanted, {}, 0
    same = msgspec.structs.replace(wanted, started=first.started)
    if first != same or not oldest <= first.started <= wanted.started:
        return wanted, {}, 0
    seen: dict[str, Seen] = {}
    for line in content[end:].splitlines(keepends=True):
        try:
            one = _seen(line) if line.endswith(b"\n") else None
        except msgspec.DecodeError:
            one = None
        if one is None:
            break
        seen[one.path], end = one, end + len(line)
    return first, seen, end


class Recorded:
    """Goes by the record of a file while it looks as the run left it; what changed since is read live."""

    def __init__(self, run: IntegrityRun, seen: dict[str, Seen]) -> None:
        self.run: datetime | None = run.started
        self._seen, self._live = seen, Live()

    def of(self, path: Path, about: os.stat_result) -> Told | None:
        """Tell the digest of a file that lstat saw so; None: it takes too long to hash it now."""
        one = self._seen.get(str(path))
        if one is not None and one.still(about):
            return Told(bytes.fromhex(one.sha256), "recorded")
        return self._live.of(path, about)
