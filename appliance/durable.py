"""The few ways in which Banip changes a disk so that a power cut cannot lie.

Always content first, then the name, then the folder that holds the name.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from appliance.errors import UnfitServer
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NEW_MODE = 0o600


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make the content of a file durable; whoever wrote it may have closed it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file_system(path: Path) -> None:
    """Make everything durable that is on the file system of ``path``: one call for a folder of many files."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)


def make_folder(path: Path, mode: int = 0o755) -> None:
    """Make a folder, whatever the umask, durably; missing parents get 0755."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(mode=mode, exist_ok=True)  # another run may be making it, too
    path.chmod(mode)
    sync_folder(path)  # its mode
    sync_folder(path.parent)  # its name


def write_file(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace a file as a whole: after a power cut it is the old one or the new one.

    Raises ``UnfitServer`` on a full disk; the old content stays then.
    """
    new = _beside(path)
    with naming_a_full_disk(path.parent), fresh_file(new) as descriptor:
        write_all(descriptor, content)
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
        rename_durably(new, path)


def rename_durably(source: Path, target: Path) -> None:
    """Give a file or folder its final name; its content must be durable already."""
    source.rename(target)
    sync_folder(target.parent)


def replace_link(path: Path, target: Path | str) -> None:
    """Point a symbolic link somewhere else in one step (``current``)."""
    new = _beside(path)
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    rename_durably(new, path)


def remove_file(path: Path) -> None:
    """Remove a file durably; none is fine."""
    if os.path.lexists(path):
        path.unlink()
        sync_folder(path.parent)


def clear(path: Path) -> None:
    """Remove whatever lies there, if anything; its name's folder is the caller's to sync."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def naming_a_full_disk(folder: Path) -> Iterator[None]:
    """Turn a full disk or an exhausted quota into ``UnfitServer``; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise UnfitServer(
            text("the disk is full"),
            where=folder,
            seen=error.strerror,
            remedy=text(
                "free space or inodes (df, df -i) and run the same command again; nothing is half written"
            ),
        ) from error


@contextmanager
def fresh_file(path: Path) -> Iterator[int]:
    """Yield a new 0600 file; what a killed run left is thrown away, and an error leaves nothing."""
    path.unlink(missing_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, _NEW_MODE)
    try:
        yield descriptor
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def _beside(path: Path) -> Path:
    # One fixed name: what a killed run leaves is replaced by the next and never piles up.
    return path.with_name(f".{path.name}.new")


def write_all(descriptor: int, content: bytes | memoryview) -> None:
    """Write everything, however little the kernel takes at once."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
