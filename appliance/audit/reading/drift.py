"""What is on the disk against what was signed: files of the release, and files out of its wheels.

Content is hashed up to ``HASHED_MOST_BYTES``; what is larger is compared by size, unless everything is asked
for. How many were only compared by size is part of the fact. Byte code that Python wrote is not compared.
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
from typing import TYPE_CHECKING

from appliance.audit.facts_product import Drift
from appliance.pieces import digest_of_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.format import Environment, Release, Wheel
    from appliance.release import Server

HASHED_MOST_BYTES = 8 * 1024 * 1024
#: A wheel names the digests of its files: its own is compared before it is believed, up to this size.
WHEEL_MOST_BYTES = 64 * 1024 * 1024
#: Of models so much is hashed in every audit; beyond it they are compared by size, and the fact says so.
MODELS_MOST_BYTES = 2 * 1024 * 1024 * 1024
MODELS = "models/"
NAMED_MOST = 100
_WRITTEN_BY_INSTALL = frozenset({"INSTALLER", "RECORD", "REQUESTED", "direct_url.json"})


@dataclass
class _Tally:
    """Collects differences; ``everything``: hash what is large as well; else so many bytes of it."""

    everything: bool
    large_bytes: int = 0
    hashed: int = 0
    sized: int = 0
    changed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)

    def compare(self, path: Path, size_bytes: int | None, digest: bytes | None) -> None:
        """Compare one file with what was signed; a size or digest that is None was not signed."""
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            self.missing.append(str(path))
            return
        if not stat.S_ISREG(found.st_mode) or (size_bytes is not None and found.st_size != size_bytes):
            self.changed.append(str(path))
        elif digest is None or not self._may_hash(found.st_size):
            self.sized += 1
        else:
            self.hashed += 1
            if digest_of_file(path) != digest:
                self.changed.append(str(path))

    def _may_hash(self, size_bytes: int) -> bool:
        if self.everything or size_bytes <= HASHED_MOST_BYTES:
            return True
        self.large_bytes -= size_bytes
        return self.large_bytes >= 0

    def drift(self) -> Drift:
        """Return the fact; long lists are cut, and say so."""
        return Drift(self.hashed, self.sized, _cut(self.changed), _cut(self.missing), _cut(self.extra))


def _cut(names: list[str]) -> tuple[str, ...]:
    more = len(names) - NAMED_MOST
    return (*sorted(names)[:NAMED_MOST], *([f"(+{more})"] if more > 0 else []))


def files_drift(server: Server, release: Release, *, everything: bool) -> Drift:
    """Compare the release folder with the signed list of its files; models are a fact of their own."""
    return _folder_drift(server, release, _Tally(everything), models=False)


def models_drift(server: Server, release: Release, *, everything: bool) -> Drift:
    """Compare the models with their signed digests: all of them, or what is hashed in a second or two."""
    return _folder_drift(server, release, _Tally(everything, MODELS_MOST_BYTES), models=True)


def _folder_drift(server: Server, release: Release, tally: _Tally, *, models: bool) -> Drift:
    folder = server.folder(release.id)
    sizes = {blob.sha256: blob.size_bytes for blob in release.blobs}
    files = [file for file in release.files if file.path.startswith(MODELS) is models]
    for file in files:
        tally.compare(folder / file.path, sizes[file.sha256], bytes.fromhex(file.sha256))
    signed = {file.path for file in files}
    for top in sorted({PurePosixPath(path).parts[0] for path in signed}):
        found = [(path, str(path.relative_to(folder))) for path in _files(folder / top)]
        tally.extra += [str(path) for path, name in found if name not in signed]
    return tally.drift()


def environments_drift(server: Server, release: Release, *, everything: bool) -> Drift:
    """Compare environments with the digests that their wheels state, and the wheels with the signed ones."""
    tally = _Tally(everything)
    for environment in release.environments:
        _compare_environment(server, environment, tally)
    return tally.drift()


def _compare_environment(server: Server, environment: Environment, tally: _Tally) -> None:
    home = server.environments / environment.digest
    site = home / "lib" / f"python{environment.python}" / "site-packages"
    signed, whole = set(), True
    for wheel in environment.wheels:
        blob = server.store.path(wheel.sha256)
        hashed = _is_signed(blob, wheel, tally)
        if hashed is None:
            whole = False
            continue
        for path, size_bytes, digest in _contents(blob, home, site):
            signed.add(path)
            tally.compare(path, size_bytes, digest if hashed else None)
    for path in _files(site) if whole else ():  # without every wheel's list nobody can say what is extra
        written = path.parent.suffix == ".dist-info" and path.name in _WRITTEN_BY_INSTALL
        if path not in signed and "__pycache__" not in path.parts and not written:
            tally.extra.append(str(path))


def _is_signed(blob: Path, wheel: Wheel, tally: _Tally) -> bool | None:
    """Tell whether the wheel in the store was hashed and is as signed; None, and a finding: it is not."""
    if not blob.is_file():
        tally.missing.append(str(blob))
        return None
    if blob.stat().st_size > WHEEL_MOST_BYTES and not tally.everything:
        return False
    if digest_of_file(blob).hex() == wheel.sha256:
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
