"""A contestant: SHA-256 of files by hashlib on all cores, the largest first; prints what ``sha256sum`` would.

Run as a program: a folder. Nothing but Python's standard library.
"""

from __future__ import annotations

import hashlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def digest(path: Path) -> str:
    """Return the digest of a file."""
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(folder: Path) -> None:
    """Hash every file of a folder; a thread is a core, because hashlib frees the interpreter."""
    files = sorted(folder.iterdir(), key=lambda path: path.stat().st_size, reverse=True)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for path, found in zip(files, threads.map(digest, files), strict=True):
            sys.stdout.write(f"{found}  {path.name}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
