"""The roots that were accepted on this server, oldest first: a folder with one file a version."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.durable import make_folder, sync_folder, write_file
from appliance.errors import BadInput, BanipError, Tampered, Untrusted
from appliance.format import envelope_from_bytes, sha256_hex, strict_payload
from appliance.text import text

if TYPE_CHECKING:
    from pathlib import Path

ADOPT_AGAIN = text("compare the digest on the paper again, then run: python3 -I appliance.pyz adopt")
PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600
_NAME = re.compile(r"([1-9][0-9]{0,5})\.root\.json")


@dataclass(frozen=True, slots=True)
class Chain:
    """Root envelopes in a folder (``<N>.root.json``); every method reads the disk."""

    folder: Path

    def versions(self) -> list[int]:
        """Return the versions that have a file, lowest first."""
        if not self.folder.is_dir():
            return []
        matches = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    def root(self, version: int) -> bytes | None:
        """Return the root envelope of that version, or None. Raises ``Tampered``."""
        return self._read(version) if version in self.versions() else None

    def newest(self) -> bytes | None:
        """Return the newest root envelope, or None. Raises ``Tampered``."""
        versions = self.versions()
        return self._read(versions[-1]) if versions else None

    def sound(self) -> list[bytes]:
        """Return the roots from the oldest file on, as far as they can be read and follow one another."""
        found: list[bytes] = []
        for version in self.versions():
            try:
                content = self._read(version)
            except Tampered:
                break
            if found and version != root_version(found[-1]) + 1:
                break
            found.append(content)
        return found

    def append(self, root: bytes) -> None:
        """Store a verified root, one version above the last (``BadInput`` otherwise)."""
        version, versions = root_version(root), self.versions()
        if versions and version != versions[-1] + 1:
            raise BadInput(
                text("a new root does not follow the one that is trusted"),
                expected=versions[-1] + 1,
                seen=version,
            )
        self._write(version, root)

    def keep_only(self, roots: list[bytes]) -> None:
        """Hold exactly these roots; a kill leaves a beginning of them, or a beginning of what was there."""
        make_folder(self.folder, PRIVATE_FOLDER)
        wanted = {root_version(root): root for root in roots}
        for version in reversed(self.versions()):
            if version not in wanted or self._content(version) != wanted[version]:
                self._path(version).unlink()
        sync_folder(self.folder)
        for version in sorted(wanted.keys() - set(self.versions())):
            self._write(version, wanted[version])

    def _write(self, version: int, root: bytes) -> None:
        write_file(self._path(version), root, PRIVATE_FILE)

    def _path(self, version: int) -> Path:
        return self.folder / f"{version}.root.json"

    def _content(self, version: int) -> bytes:
        return self._path(version).read_bytes()

    def _read(self, version: int) -> bytes:
        content = self._content(version)
        try:
            seen = root_version(content)
        except BanipError as error:
            raise damaged(self._path(version), error) from error
        if seen != version:
            raise damaged(self._path(version), f"it holds version {seen}")
        return content


def root_version(envelope: bytes) -> int:
    """Return the version that a root envelope states; whether it is to be trusted is ``verify``'s matter."""
    payload = strict_payload(envelope_from_bytes(envelope, "root").payload, "root")
    version = payload.get("version")
    if not isinstance(version, int) or version < 1:
        raise Untrusted(text("the root states no version"), where="root")
    return version


def name_of(root: bytes) -> str:
    """Return the name of the chain that begins with this root: its SHA-256, as the paper has it."""
    return sha256_hex(root)


def damaged(path: Path, seen: object) -> Tampered:
    """Return what is said of a file of the state that cannot be what was written there."""
    return Tampered(
        text("a file of this server's state is damaged"), where=path, seen=seen, remedy=ADOPT_AGAIN
    )
