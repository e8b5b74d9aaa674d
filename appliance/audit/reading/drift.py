"""What is on the disk against what was signed: files of the release, and files out of its wheels.

How the content of a file becomes known is the business of a ``Reading``: an audit hashes what is small and
asks the record of the last integrity run about the rest; the integrity run itself hashes everything. What no
reading tells is compared by size, and how many those are is part of the fact. Byte code that Python wrote is
not compared.
"""

from __future__ import annotations

import base64
import csv
import io
import os
import stat
import zipfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal, Protocol

from appliance.audit.facts_product import Drift
from appliance.pieces import digest_of_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from appliance.format import Environment, Release, Wheel
    from appliance.release import Server

#: What is no larger is hashed in every audit.
HASHED_MOST_BYTES = 8 * 1024 * 1024
#: Of what is larger so much is hashed in every audit, for each of the three facts: a second or two.
LARGE_MOST_BYTES = 2 * 1024 * 1024 * 1024
MODELS = "models/"
NAMED_MOST = 100
_WRITTEN_BY_INSTALL = frozenset({"INSTALLER", "RECORD", "REQUESTED", "direct_url.json"})


@dataclass(frozen=True, slots=True)
class Told:
    """The SHA-256 of a file, and whether it was hashed now or is known from an integrity run."""

    digest: bytes
    how: Literal["hashed", "recorded"]


class Reading(Protocol):
    """How the content of a file becomes known."""

    @property
    def run(self) -> datetime | None:
        """When the integrity run began that some digests are known from."""

    def of(self, path: Path, about: os.stat_result) -> Told | None:
        """Tell the digest of a regular file that lstat saw so; None: it takes too long to hash it now."""


class Live:
    """Hashes what is small, and of what is large as much as takes a second or two."""

    run: datetime | None = None

    def __init__(self) -> None:
        self._left_bytes = LARGE_MOST_BYTES

    def of(self, path: Path, about: os.stat_result) -> Told | None:
        """Hash the file while the budget lasts."""
        if about.st_size > HASHED_MOST_BYTES:
            if about.st_size > self._left_bytes:
                return None
            self._left_bytes -= about.st_size
        return Told(digest_of_file(path), "hashed")


@dataclass
class _Tally:
    """Collects differences."""

    reading: Reading
    hashed: int = 0
    recorded: int = 0
    sized: int = 0
    unsigned: int = 0
    changed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)

    def compare(self, path: Path, size_bytes: int | None, digest: bytes | None, *, proven: bool) -> None:
        """Compare one file with what was signed; a size or digest that is None was not signed.

        ``proven``: the digest itself is beyond doubt; that of a wheel that nobody hashed is not.
        """
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            self.missing.append(str(path))
            return
        if not stat.S_ISREG(found.st_mode) or (size_bytes is not None and found.st_size != size_bytes):
            self.changed.append(str(path))
        elif digest is None:
            self.unsigned += 1
        else:
            told = self.reading.of(path, found) if proven else None
            self._count(told)
            if told is not None and told.digest != digest:
                self.changed.append(str(path))

    def _count(self, told: Told | None) -> None:
        self.sized += told is None
        self.hashed += told is not None and told.how == "hashed"
        self.recorded += told is not None and told.how == "recorded"

    def drift(self) -> Drift:
        """Return the fact; long lists are cut, and say so."""
        return Drift(
            hashed=self.hashed,
            sized=self.sized,
            changed=_cut(self.changed),
            missing=_cut(self.missing),
            extra=_cut(self.extra),
            recorded=self.recorded,
            unsigned=self.unsigned,
            run=self.reading.run if self.recorded else None,
        )


def _cut(names: list[str]) -> tuple[str, ...]:
    more = len(names) - NAMED_MOST
    return (*sorted(names)[:NAMED_MOST], *([f"(+{more})"] if more > 0 else []))


def files_drift(server: Server, release: Release, reading: Reading) -> Drift:
    """Compare the release folder with the signed list of its files; models are a fact of their own."""
    return _folder_drift(server, release, reading, models=False)


def models_drift(server: Server, release: Release, reading: Reading) -> Drift:
    """Compare the models with their signed digests."""
    return _folder_drift(server, release, reading, models=True)


def _folder_drift(server: Server, release: Release, reading: Reading, *, models: bool) -> Drift:
    folder, tally = server.folder(release.id), _Tally(reading)
    sizes = {blob.sha256: blob.size_bytes for blob in release.blobs}
    files = [file for file in release.files if file.path.startswith(MODELS) is models]
    for file in files:
        tally.compare(folder / file.path, sizes[file.sha256], bytes.fromhex(file.sha256), proven=True)
    signed = {file.path for file in files}
    for top in sorted({PurePosixPath(path).parts[0] for path in signed}):
        found = [(path, str(path.relative_to(folder))) for path in _files(folder / top)]
        tally.extra += [str(path) for path, name in found if name not in signed]
    return tally.drift()


def environments_drift(server: Server, release: Release, reading: Reading) -> Drift:
    """Compare environments with the digests that their wheels state, and the wheels with the signed ones."""
    tally = _Tally(reading)
    for environment in release.environments:
        _compare_environment(server, environment, tally)
    return tally.drift()


def signed_bytes(server: Server, release: Release) -> int:
    """Return about how many bytes there are to hash: files of the release, wheels, environments."""
    sizes = {blob.sha256: blob.size_bytes for blob in release.blobs}
    total = sum(sizes[file.sha256] for file in release.files)
    for environment in release.environments:
        total += sum(sizes[wheel.sha256] for wheel in environment.wheels)
        for path in _files(_site(server, environment)):
            total += os.lstat(path).st_size if "__pycache__" not in path.parts else 0
    return total


def _site(server: Server, environment: Environment) -> Path:
    home = server.environments / environment.digest
    return home / "lib" / f"python{environment.python}" / "site-packages"


def _compare_environment(server: Server, environment: Environment, tally: _Tally) -> None:
    home, site = server.environments / environment.digest, _site(server, environment)
    signed, whole = set(), True
    for wheel in environment.wheels:
        blob = server.store.path(wheel.sha256)
        proven = _is_signed(blob, wheel, tally)
        if proven is None:
            whole = False
            continue
        for path, size_bytes, digest in _contents(blob, home, site):
            signed.add(path)
            tally.compare(path, size_bytes, digest, proven=proven)
    for path in _files(site) if whole else ():  # without every wheel's list nobody can say what is extra
        written = path.parent.suffix == ".dist-info" and path.name in _WRITTEN_BY_INSTALL
        if path not in signed and "__pycache__" not in path.parts and not written:
            tally.extra.append(str(path))


def _is_signed(blob: Path, wheel: Wheel, tally: _Tally) -> bool | None:
    """Tell whether the wheel in the store was hashed and is as signed; None, and a finding: it is not."""
    if not blob.is_file():
        tally.missing.append(str(blob))
        return None
    told = tally.reading.of(blob, blob.stat())
    if told is None:
        return False
    if told.digest.hex() == wheel.sha256:
        return True
    tally.changed.append(str(blob))
    return None


def _contents(blob: Path, home: Path, site: Path) -> Iterator[tuple[Path, int | None, bytes | None]]:
    """Yield where each file of a wheel was put, its size, and the digest in its RECORD."""
    with zipfile.ZipFile(blob) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist() if not info.is_dir()}
        record = next(name for name in sizes if name.endswith(".dist-info/RECORD") and name.count("/") == 1)
        rows = csv.reader(io.StringIO(archive.read(record).decode("utf-8")))
        for name, digest, *_ in (row for row in rows if row):
            place = _place(name, home, site)
            if "/__pycache__/" in name:
                continue  # bytecode is made on the server, whatever a wheel carries
            if place is not None and name in sizes and name != record:
                rewritten = place.parent == home / "bin"  # a script's first line names this environment
                yield place, None if rewritten else sizes[name], None if rewritten else _digest(digest)


def _place(name: str, home: Path, site: Path) -> Path | None:
    """Return where the installer puts a file of a wheel (PEP 427, ``.data`` folders); None: not compared."""
    top, _, rest = name.partition("/")
    if not top.endswith(".data"):
        return site / name
    kind, _, inside = rest.partition("/")
    places = {"purelib": site, "platlib": site, "scripts": home / "bin", "data": home}
    return places[kind] / inside if kind in places else None


def _digest(field: str) -> bytes | None:
    algorithm, _, value = field.partition("=")
    if algorithm != "sha256":
        return None
    return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_file():
        yield folder
    for name, folders, files in os.walk(folder):
        links = [one for one in folders if os.path.islink(os.path.join(name, one))]  # noqa: PTH114, PTH118 - a hot loop
        for one in (*files, *links):
            yield Path(name, one)
