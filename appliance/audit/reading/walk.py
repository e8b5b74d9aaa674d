"""One bounded walk over the host's own files; content stores and container layers are left out by rule."""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.audit.facts import Finds
from appliance.audit.reading.probe import Unreadable, output, user_name

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTRIES_MOST = 2_000_000
SECONDS_MOST = 60
NAMED_MOST = 200
#: Not the host's own files: the kernel's, what is plugged in, and container layers.
LEFT_OUT = ("/proc", "/sys", "/dev", "/run", "/media", "/mnt", "/var/lib/containers")
#: Below Banip's root: content by digest, whose integrity is a check of its own, and container layers.
LEFT_OUT_BELOW_ROOT = ("store", "containers")
_REMOTE = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "9p", "fuse", "fuse.sshfs", "ceph", "glusterfs", "autofs"}
)
_PRIVILEGED = stat.S_ISUID | stat.S_ISGID


def finds(root: Path, top: Path = Path("/")) -> Finds:
    """Walk over the local file systems below ``top``; ``root`` is Banip's root.

    Raises ``Unreadable`` rather than return a part as the whole.
    """
    found: dict[str, list[str]] = {name: [] for name in ("world", "unowned", "privileged", "trust")}
    seen, until = 0, time.monotonic() + SECONDS_MOST
    for path, about in _entries(top, _left_out(root)):
        seen += 1
        if seen > ENTRIES_MOST or time.monotonic() > until:
            message = f"stopped after {seen} files: the rest was not looked at"
            raise Unreadable(message)
        for name in _noteworthy(path, about):
            found[name].append(path)
    return Finds(
        seen=seen,
        world_writable=_cut(found["world"]),
        unowned=_cut(found["unowned"]),
        privileged=_cut(found["privileged"]),
        unpackaged=_cut([path for path in found["privileged"] if not _packaged(path)]),
        trust_files=_cut(found["trust"]),
    )


def _cut(paths: list[str]) -> tuple[str, ...]:
    more = len(paths) - NAMED_MOST
    return (*sorted(paths)[:NAMED_MOST], *([f"(+{more})"] if more > 0 else []))


def _noteworthy(path: str, about: os.stat_result) -> Iterator[str]:
    mode = about.st_mode
    if mode & stat.S_IWOTH and (stat.S_ISREG(mode) or (stat.S_ISDIR(mode) and not mode & stat.S_ISVTX)):
        yield "world"
    if user_name(about.st_uid).isdigit():
        yield "unowned"
    if stat.S_ISREG(mode) and mode & _PRIVILEGED and mode & stat.S_IXUSR:
        yield "privileged"
    if path.endswith("/.rhosts") or path == "/etc/hosts.equiv":
        yield "trust"


def _left_out(root: Path) -> frozenset[str]:
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text("utf-8").splitlines())
    remote = {mount[1] for mount in mounts if mount[2] in _REMOTE}
    return frozenset(LEFT_OUT) | {str(root / name) for name in LEFT_OUT_BELOW_ROOT} | remote


def _entries(top: Path, left_out: frozenset[str]) -> Iterator[tuple[str, os.stat_result]]:
    folders = [str(top)]
    while folders:
        with suppress(FileNotFoundError), os.scandir(folders.pop()) as entries:  # it may go while we look
            for entry in entries:
                about = None if entry.path in left_out else _about(entry)
                if about is not None:
                    yield entry.path, about
                    if stat.S_ISDIR(about.st_mode):
                        folders.append(entry.path)


def _about(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None


def _packaged(path: str) -> bool:
    """Ask dpkg whether a package brought the file; before the merge of /usr it knew some by another name."""
    for name in (path, path.removeprefix("/usr")):
        try:
            output("dpkg-query", "-S", name)
        except Unreadable:
            continue
        return True
    return False
