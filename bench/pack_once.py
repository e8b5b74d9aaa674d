"""A contestant: ``build.py build`` without its manifest; writes the unsigned bundle of a release, once.

Run as a program: FOLDER (with ``release.json``, ``root.json`` and ``store/``) and the bundle's path.
"""

from __future__ import annotations

import sys
from pathlib import Path

from appliance.format import release_from_bytes
from bundle.pack import build_carrier


def main(folder: Path, bundle: Path) -> None:
    """Pack once."""
    release = release_from_bytes((folder / "release.json").read_bytes())
    build_carrier(
        bundle,
        [(folder / "root.json").read_bytes()],
        release,
        lambda sha256: (folder / "store" / sha256).open("rb", buffering=0),
        expires=release.built.replace(year=2100),
    )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
