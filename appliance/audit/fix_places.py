"""Whether what a fix changes can be written at all: looked at beforehand, and nothing is tried.

The role replaces a file by a new one of that name, and sets owner and mode where they are. So of a file's
content its folder and what lies there now are asked, of owner and mode only the place itself.
"""

from __future__ import annotations

import fcntl
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.remedies import ModeSet
from appliance.text import text

if TYPE_CHECKING:
    from appliance.remedies import Operation
    from appliance.text import Text

#: FS_IOC_GETFLAGS of ``linux/fs.h``, and what `chattr +i` and `+a` set; the kernel writes four bytes.
_GET_FLAGS, _IMMUTABLE, _APPEND_ONLY = 0x80086601, 0x10, 0x20
_FLAGS_BYTES = 8


@dataclass(frozen=True, slots=True)
class Blocked:
    """A place that refuses the change: why, and what a person does about it."""

    reason: Text
    remedy: Text


def blocked(operation: Operation, root: Path) -> Blocked | None:
    """Return what keeps an operation from what it changes, or None."""
    place = root / operation.path.lstrip("/")
    if isinstance(operation, ModeSet):
        return _refusal(place, root)
    folder = next(parent for parent in place.parents if parent.exists())
    if folder.is_symlink():
        folder = folder.resolve()  # the new file is laid down where it leads to
    if not os.path.lexists(place):
        return _refusal(folder, root)
    return _refusal(folder, root) or _refusal(place, root) or _mounted(place, root)


def _refusal(place: Path, root: Path) -> Blocked | None:
    path = _shown(place, root)
    if place.is_symlink():
        return None  # what it leads to is not what is changed
    if os.statvfs(place).f_flag & os.ST_RDONLY:
        return Blocked(
            text("{path} lies on a file system that is mounted read-only", path=path),
            text("see findmnt -T {path}, mount it writable (mount -o remount,rw), then fix again", path=path),
        )
    letters = "".join(
        letter for bit, letter in ((_IMMUTABLE, "i"), (_APPEND_ONLY, "a")) if _flags(place) & bit
    )
    if letters:
        return Blocked(
            text("{path} must not be changed: it has the attribute {letters}", path=path, letters=letters),
            text(
                "see lsattr -d {path}, take it away (chattr -{letters} {path}), then fix again",
                path=path,
                letters=letters,
            ),
        )
    if os.geteuid() == 0 and not os.access(place, os.W_OK):
        return Blocked(
            text("{path} cannot be written, not even by root", path=path),
            text("see lsattr, the mount's options and the kernel's log of {path}, then fix again", path=path),
        )
    return None


def _mounted(place: Path, root: Path) -> Blocked | None:
    """Refuse a file that is mounted there by itself: no other file can take its name."""
    if place.is_symlink() or _mount_of(place) == _mount_of(place.parent):
        return None
    path = _shown(place, root)
    return Blocked(
        text("{path} is mounted there by itself and cannot be replaced", path=path),
        text("see findmnt {path}, unmount it (umount {path}), then fix again", path=path),
    )


def _mount_of(place: Path) -> str:
    """Return the kernel's number of the mount that a place lies on; nothing where it does not say."""
    descriptor = os.open(place, os.O_PATH | os.O_CLOEXEC)
    try:
        told = Path(f"/proc/self/fdinfo/{descriptor}").read_text("ascii")
    finally:
        os.close(descriptor)
    return next((line.split()[1] for line in told.splitlines() if line.startswith("mnt_id:")), "")


def _flags(place: Path) -> int:
    """Return what `lsattr` shows of a file or folder; 0 where the file system has no such thing."""
    with suppress(OSError):
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            held = bytearray(_FLAGS_BYTES)
            fcntl.ioctl(descriptor, _GET_FLAGS, held)
            return int.from_bytes(held[:4], sys.byteorder)
        finally:
            os.close(descriptor)
    return 0


def _shown(place: Path, root: Path) -> str:
    """Return a place as it is called on the host."""
    if not place.is_relative_to(root):
        return str(place)
    return f"/{place.relative_to(root)}" if place != root else "/"
