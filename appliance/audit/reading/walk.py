"""One bounded walk over the host's own files; content stores and container layers are left out by rule."""

from __future__ import annotations

import errno
import os
import re
import stat
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.audit.facts_host import Finds
from appliance.audit.reading.packages import known_to_dpkg, names_of
from appliance.audit.reading.probe import Unreadable, group_name, plain_content, user_name
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTRIES_MOST = 2_000_000
SECONDS_MOST = 300
NAMED_MOST = 200
#: Not the host's own files: the kernel's, and container layers.
LEFT_OUT = (
    "/proc", "/sys", "/dev", "/run", "/var/lib/containers", "/var/lib/docker", "/var/lib/containerd",
)  # fmt: skip
#: What is mounted below these is plugged in; a plain folder there is the host's.
_PLUGGED_IN = ("/media/", "/mnt/", "/media", "/mnt")
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


#: Stands for what lies deeper than a path can say.
_TOO_DEEP = os.stat_result((0,) * 10)
_ANY_EXECUTES = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH
_TRUST_FILES = frozenset({"/etc/hosts.equiv", "/etc/shosts.equiv", "/etc/ssh/shosts.equiv"})
#: chown, dac_override, dac_read_search, fowner, setgid, setuid, setpcap, sys_module, sys_rawio, sys_chroot,
#: sys_ptrace, sys_admin, mknod, setfcap, mac_override, mac_admin, bpf: with each of them one is root.
_STRONG = sum(1 << bit for bit in (0, 1, 2, 3, 6, 7, 8, 16, 17, 18, 19, 21, 27, 31, 32, 33, 39))
_KINDS = ("empowered", "world", "unowned", "privileged", "trust", "hidden", "keys")


def finds(root: Path, top: Path = Path("/")) -> Finds:
    """Walk over the local file systems below ``top``; ``root`` is Banip's root.

    Raises ``Unreadable`` rather than return a part as the whole.
    """
    found: dict[str, list[str]] = {name: [] for name in _KINDS}
    seen, until = 0, time.monotonic() + SECONDS_MOST
    for path, about in _entries(top, _left_out(root)):
        seen += 1
        if seen > ENTRIES_MOST or time.monotonic() > until:
            raise Unreadable(text("stopped after {count} files: the rest was not looked at", count=seen))
        for name in _noteworthy(path, about):
            found[name].append(path)
        if about is _TOO_DEEP:
            found["hidden"].append(f"{path[:200]}... ({len(path)})")
    return Finds(
        seen=seen,
        world_writable=_cut(found["world"]),
        unowned=_cut(found["unowned"]),
        privileged=_cut(found["privileged"]),
        unpackaged=_cut(_unpackaged(found["privileged"])),
        trust_files=_cut(found["trust"]),
        hidden=_cut(_unpackaged(found["hidden"])),
        empowered=_cut(found["empowered"]),
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
    if stat.S_ISREG(mode) and mode & _ANY_EXECUTES and _is_empowered(path):
        yield "empowered"
    if path.endswith(("/.rhosts", "/.shosts")) or path in _TRUST_FILES:
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


def _is_empowered(path: str) -> bool:
    """Tell whether a program gets capabilities by which it becomes root (capabilities(7))."""
    try:
        raw = os.getxattr(path, "security.capability", follow_symlinks=False)
    except OSError:  # none, or gone
        return False
    return bool(granted(raw) & _STRONG)


def granted(raw: bytes) -> int:
    """Return a file's capabilities, a bit each: after a magic word, pairs of permitted and inheritable."""
    words = struct.unpack(f"<{len(raw) // 4}I", raw[: len(raw) // 4 * 4])
    low, high = words[1:3], words[3:5]
    return (low[0] | low[1] if len(low) > 1 else 0) | (high[0] | high[1] if len(high) > 1 else 0) << 32


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
    try:
        about = os.lstat(path)
        closed = any(not parent.stat().st_mode & stat.S_IXOTH for parent in Path(path).parents)
        content = plain_content(path, _KEY_MOST_BYTES, os.O_NOFOLLOW)
    except (FileNotFoundError, Unreadable):  # it went, or is another since
        return False
    group = bool(about.st_mode & stat.S_IRGRP) and group_name(about.st_gid) not in _KEY_GROUPS
    others = bool(about.st_mode & stat.S_IROTH)
    foreign = group and group_name(about.st_gid) != user_name(about.st_uid)
    is_open = (others and not closed) or foreign or _has_own_list(path)
    return is_open and b"PRIVATE KEY" in content


def _has_own_list(path: str) -> bool:
    """Tell whether a list of access says who may read a file, beside its mode (acl(5))."""
    try:
        return "system.posix_acl_access" in os.listxattr(path, follow_symlinks=False)
    except OSError:  # a file system without any
        return False


def _left_out(root: Path) -> frozenset[str]:
    told = Path("/proc/self/mounts").read_text("utf-8", errors="surrogateescape")
    mounts = [(_unescaped(target), kind) for _, target, kind, *_ in map(str.split, told.splitlines())]
    theirs = {target for target, kind in mounts if kind in _REMOTE or target.startswith(_PLUGGED_IN)}
    return frozenset(LEFT_OUT) | {str(root / name) for name in LEFT_OUT_BELOW_ROOT} | theirs


def _unescaped(word: str) -> str:
    """Return a mount's path: blanks and the like are octal in the kernel's table."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), word)


def _entries(top: Path, left_out: frozenset[str]) -> Iterator[tuple[str, os.stat_result]]:
    folders = [str(top)]
    while folders:
        folder = folders.pop()
        try:
            entries = list(os.scandir(folder))
        except (FileNotFoundError, NotADirectoryError):  # it went while we looked
            continue
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            yield folder, _TOO_DEEP  # anybody may make such a tree: it is told, and does not end the walk
            continue
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
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return _TOO_DEEP


def _unpackaged(paths: list[str]) -> list[str]:
    """Return those that no package brought."""
    known = known_to_dpkg([name for path in paths for name in names_of(path)])
    return [path for path in paths if not known & set(names_of(path))]
