"""The signed metadata that a release folder keeps: written once, and judged again each time it is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.durable import make_folder, write_file
from appliance.errors import Incomplete
from appliance.format import CHUNKS_TARGET, RELEASE_TARGET, ROOTS_MAX
from appliance.text import text
from appliance.verify import Envelopes

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.verify import TrustedBundle

INSTALL_AGAIN = text("run install again with the bundle of this release: it repairs the release's folder")


def write_metadata(folder: Path, bundle: TrustedBundle) -> None:
    """Write what the bundle was judged by, as it came: roots, targets, release.json and chunks.bin."""
    make_folder(folder, mode=0o755)
    for version, root in enumerate(bundle.roots, start=1):
        write_file(folder / f"{version}.root.json", root, mode=0o444)
    write_file(folder / "targets.json", bundle.targets, mode=0o444)
    write_file(folder / RELEASE_TARGET, bundle.release_json, mode=0o444)
    write_file(folder / CHUNKS_TARGET, bundle.chunks_bin, mode=0o444)


@dataclass(frozen=True, slots=True)
class FolderSource:
    """The signed metadata that a release folder keeps, as a source for ``verify``."""

    folder: Path

    def envelopes(self) -> Envelopes:
        """Return the root chain and the targets envelope."""
        return Envelopes(self.roots(), self._read("targets.json"))

    def roots(self) -> tuple[bytes, ...]:
        """Return the root chain alone, which proves itself."""
        roots = []
        for version in range(1, ROOTS_MAX + 1):
            path = self.folder / f"{version}.root.json"
            if not path.is_file():
                break
            roots.append(path.read_bytes())
        return tuple(roots)

    def target(self, name: str, length: int) -> bytes:
        """Return release.json or chunks.bin; ``verify`` checks its length and digest."""
        return self._read({RELEASE_TARGET: RELEASE_TARGET, CHUNKS_TARGET: CHUNKS_TARGET}[name])[: length + 1]

    def _read(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:  # or a file lies where the folder was
            raise Incomplete(
                text("the signed metadata of an installed release is missing"),
                where=self.folder / name,
                seen=error.strerror,
                remedy=INSTALL_AGAIN,
            ) from error
