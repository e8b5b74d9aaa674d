"""Show a folder of this machine inside another process's mount namespace, read-only, while that one runs.

Runs as a program of its own (standard library only), because entering a mount namespace needs a single
thread: `python -I medium.py FOLDER PID TARGET`. The mount is cloned here (open_tree(2)), sealed
(mount_setattr(2)) and only then carried over (setns(2), move_mount(2)): no propagation, nothing mounted on
this machine, nothing writable at any moment. Linux 5.12 or newer; the numbers are the same on every
architecture.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR = 428, 429, 442
AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE = -100, 0x1000, 0x8000
OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC, MOVE_MOUNT_F_EMPTY_PATH = 1, os.O_CLOEXEC, 4
RDONLY, NOSUID, NODEV, NOEXEC = 1, 2, 4, 8
CLONE_NEWNS = 0x00020000

libc = ctypes.CDLL(None, use_errno=True)


def call(number: int, *arguments: object) -> int:
    """Make a system call; raises OSError."""
    result = int(libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"system call {number}: {os.strerror(ctypes.get_errno())}")
    return result


def main() -> None:
    """Clone, seal, carry over."""
    folder, pid, target = sys.argv[1:]
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE
    tree = call(OPEN_TREE, ctypes.c_int(AT_FDCWD), ctypes.c_char_p(os.fsencode(folder)), ctypes.c_uint(flags))
    attributes = struct.pack("=QQQQ", RDONLY | NOSUID | NODEV | NOEXEC, 0, 0, 0)
    call(
        MOUNT_SETATTR,
        ctypes.c_int(tree),
        ctypes.c_char_p(b""),
        ctypes.c_uint(AT_EMPTY_PATH | AT_RECURSIVE),
        ctypes.c_char_p(attributes),
        ctypes.c_size_t(len(attributes)),
    )
    theirs = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    if libc.setns(ctypes.c_int(theirs), ctypes.c_int(CLONE_NEWNS)):
        raise OSError(ctypes.get_errno(), f"setns: {os.strerror(ctypes.get_errno())}")
    os.makedirs(target, exist_ok=True)  # noqa: PTH103 - small on purpose
    call(
        MOVE_MOUNT,
        ctypes.c_int(tree),
        ctypes.c_char_p(b""),
        ctypes.c_int(AT_FDCWD),
        ctypes.c_char_p(os.fsencode(target)),
        ctypes.c_uint(MOVE_MOUNT_F_EMPTY_PATH),
    )


if __name__ == "__main__":
    main()
