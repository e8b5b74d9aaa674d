"""One bounded walk over the host's own files; content stores and container layers are left out by rule."""

from __future__ import annotations

import os
import re
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.audit.facts_host import Finds
from appliance.audit.reading.packages import known_to_dpkg, names_of
from appliance.audit.reading.probe import Unreadable, group_name, user_name

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTRIES_MOST = 2_000_000
SECONDS_MOST = 300
NAMED_MOST = 200
#: Not the host's own files: the kernel's, what is plugged in, and container layers.
LEFT_OUT = (
    "/proc", "/sys", "/dev", "/run", "/media", "/mnt", "/var/lib/containers", "/var/lib/docker",
    "/var/lib/containerd",
)  # fmt: skip
#: Below Banip's root: content by digest, whose integrity is a check of its own, and container layers.
LEFT_OUT_BELOW_ROOT = ("store", "containers")
_REMOTE = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "9p", "fuse", "fuse.sshfs", "ceph", "glusterfs", "autofs"}
)
_PRIVILEGED = stat.S_ISUID | stat.S_ISGID
#: Where a hidden name wants a reason; homes and the data of services have theirs.
_PLAIN_TREES = re.compile(r"/(?:[^/]+$|(?:etc|usr|boot|opt|srv|tmp|var/tmp|bin|sbin|lib[^/]*)/)")
#: Hidden names that the system itself makes.
_KNOWN_HIDDEN = re.compile(
    r"/(?:etc|var)/\.(?:pwd\.lock|updated|etckeeper|gitignore|git)$|/(?:var/)?tmp/\.[A-Za-z0-9]+-(?:unix|lock)$"
    r"|/etc/\.resolv\.conf\.systemd-resolved\.bak$|/usr/lib/\.build-id$|/\.autorelabel$|/\.placeholder$"
)
#: Names that look like the folder itself or the one above it.
_DISGUISED = re.compile(r"\.+[\s\x00-\x1f\x7f.]*|.*[\x00-\x1f\x7f].*", re.DOTALL)
_KEY_TREES = ("/etc/", "/root/", "/home/", "/srv/", "/opt/", "/usr/local/")
_KEY_NAME = re.compile(r"(?:\.key|\.pem|\.p8|_key|/id_[a-z0-9_]+)$")
_KEY_MOST_BYTES = 65536
_READ_BY_OTHERS = stat.S_IRGRP | stat.S_IROTH
#: Groups that a key may be open to: the superuser's, and Debian's for keys.
_KEY_GROUPS = frozenset({"root", "ssl-cert"})


_KINDS = ("world", "unowned", "privileged", "trust", "hidden", "keys")


def finds(root: Path, top: Path = Path("/")) -> Finds:
    """Walk over the local file systems below ``top``; ``root`` is Banip's root.

    Raises ``Unreadable`` rather than return a part as the whole.
    """
    found: dict[str, list[str]] = {name: [] for name in _KINDS}
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
        unpackaged=_cut(_unpackaged(found["privileged"])),
        trust_files=_cut(found["trust"]),
        hidden=_cut(_unpackaged(found["hidden"])),
        open_keys=_cut([path for path in found["keys"] if _is_open_key(path)]),
    )


def _cut(paths: list[str]) -> tuple[str, ...]:
    more = len(paths) - NAMED_MOST
    return (*sorted(paths)[:NAMED_MOST], *([f"(+{more})"] if more > 0 else []))


def _noteworthy(path: str, about: os.stat_result) -> Iterator[str]:
    mode = about.st_mode
    if mode & stat.S_IWOTH and (stat.S_ISREG(mode) or (stat.S_ISDIR(mode) and not mode & stat.S_ISVTX)):
        yield "world"
    if user_name(about.st_uid).isdigit() or group_name(about.st_gid).isdigit():
        yield "unowned"
    if stat.S_ISREG(mode) and mode & _PRIVILEGED and mode & stat.S_IXUSR:
        yield "privileged"
    if path.endswith("/.rhosts") or path == "/etc/hosts.equiv":
        yield "trust"
    if is_hidden(path):
        yield "hidden"
    if (
        _KEY_NAME.search(path)
        and stat.S_ISREG(mode)
        and mode & _READ_BY_OTHERS
        and about.st_size <= _KEY_MOST_BYTES
    ):
        yield "keys"


def is_hidden(path: str) -> bool:
    """Tell whether a name hides where nothing has to, or looks like no name at all."""
    name = path.rpartition("/")[2]
    if not name.startswith("."):
        return bool(_DISGUISED.fullmatch(name))
    in_plain_tree = bool(_PLAIN_TREES.match(path)) and not _KNOWN_HIDDEN.search(path)
    return in_plain_tree or bool(_DISGUISED.fullmatch(name))


def _is_open_key(path: str) -> bool:
    """Tell whether a file is a private key that others than its owner can really come to."""
    if not path.startswith(_KEY_TREES):
        return False
    about = os.lstat(path)
    group = bool(about.st_mode & stat.S_IRGRP) and group_name(about.st_gid) not in _KEY_GROUPS
    others = bool(about.st_mode & stat.S_IROTH)
    closed = any(not parent.stat().st_mode & stat.S_IXOTH for parent in Path(path).parents)
    if not ((others and not closed) or (group and group_name(about.st_gid) != user_name(about.st_uid))):
        return False
    with Path(path).open("rb") as content:
        return b"PRIVATE KEY" in content.read(_KEY_MOST_BYTES)


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


def _unpackaged(paths: list[str]) -> list[str]:
    """Return those that no package brought."""
    known = known_to_dpkg([name for path in paths for name in names_of(path)])
    return [path for path in paths if not known & set(names_of(path))]
