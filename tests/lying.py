"""A medium that lies: a FUSE file system whose one file stumbles, fails, changes or goes away, as told.

Speaks the kernel's protocol itself (linux/fuse.h, 7.31), so that only root and /dev/fuse are needed. Runs as
a program of its own, ``python lying.py MOUNTPOINT FILE``: were it a thread of the test, a read of the test
might wait for a thread that waits for Python's lock. Orders are lines on stdin, each answered by ``ok``:

    fail START END TIMES    reads that touch these bytes give EIO, so many times (-1: for ever)
    show FILE               from now on the bytes come from this file
    show-at OFFSET FILE     the same, from the first read beyond the offset on
    pull-at OFFSET HOW      from that read on there is no medium: "pull" is ENODEV, "pull-silently" is EIO
    run-at OFFSET WORDS     a program is run to its end before that read is answered
    kill-at BYTES           whoever reads is killed by SIGKILL when so many more bytes have left
    reads                   answers with the bytes that have left the medium since the mount
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import shlex
import signal
import stat
import struct
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "bundle.tar"
ROOT, FILE = 1, 2
LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE = 1, 2, 3, 14, 15, 17, 18
FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR, ACCESS, INTERRUPT, BATCH_FORGET = 25, 26, 27, 28, 29, 34, 36, 42
#: Flags of an open file: nothing is kept of it, so that every read comes here.
DIRECT_IO = 1
_HEADER = struct.Struct("<IIQQIIII")
_MAX_READ = 128 * 1024
_MS_RDONLY_NOSUID_NODEV_NOEXEC = 1 | 2 | 4 | 8
_MNT_DETACH = 2
_PULLED = {"pull": errno.ENODEV, "pull-silently": errno.EIO}
libc = ctypes.CDLL(None, use_errno=True)


def why_not() -> str | None:
    """Say why there can be no lying medium here, or nothing."""
    if os.geteuid() != 0:
        return "mounting a FUSE file system needs root"
    return None if os.access("/dev/fuse", os.R_OK | os.W_OK) else "there is no /dev/fuse"


# --- The file system --------------------------------------------------------------------------------------


@dataclass
class Scratch:
    """Bytes that cannot be read, for a number of times."""

    start: int
    end: int
    times: int


@dataclass
class Liar:
    """Answers the kernel's requests about a folder with one file in it."""

    descriptor: int
    content: int
    size_bytes: int
    scratches: list[Scratch] = field(default_factory=list)
    gone: int = 0
    bytes_given: int = 0
    kill_at: int | None = None
    turns: list[tuple[int, list[str]]] = field(default_factory=list)

    def answer(self, request: bytes) -> None:
        _, code, unique, node, _, _, reader, _ = _HEADER.unpack_from(request)
        if code in {FORGET, BATCH_FORGET, INTERRUPT}:
            return
        try:
            body, error = self._body(code, node, request[_HEADER.size :]), 0
        except OSError as failed:
            body, error = b"", -(failed.errno or errno.EIO)
        os.write(self.descriptor, struct.pack("<IiQ", 16 + len(body), error, unique) + body)
        if self.kill_at is not None and self.bytes_given >= self.kill_at:
            self.kill_at = None
            os.kill(reader, signal.SIGKILL)

    def _body(self, code: int, node: int, rest: bytes) -> bytes:
        if code == LOOKUP and rest.rstrip(b"\0") != NAME.encode():
            raise OSError(errno.ENOENT, "no such file")
        if code == READ:
            return self._read(*struct.unpack_from("<QQI", rest)[1:])
        bodies = {
            INIT: struct.pack("<IIIIHHIIHHI28x", 7, 31, _MAX_READ, 0, 12, 10, _MAX_READ, 1, 32, 0, 0),
            LOOKUP: struct.pack("<QQQQII", FILE, 0, 3600, 3600, 0, 0) + self._attributes(FILE),
            GETATTR: struct.pack("<QII", 3600, 0, 0) + self._attributes(node),
            STATFS: struct.pack("<QQQQQIIII24x", 0, 0, 0, 0, 0, 4096, 255, 4096, 0),
            **dict.fromkeys((OPEN, OPENDIR), struct.pack("<QIi", 0, DIRECT_IO, 0)),
            **dict.fromkeys((RELEASE, RELEASEDIR, FLUSH, ACCESS, READDIR), b""),
        }
        if code not in bodies:
            raise OSError(errno.ENOSYS, "not needed")
        return bodies[code]

    def _attributes(self, node: int) -> bytes:
        mode = stat.S_IFDIR | 0o555 if node == ROOT else stat.S_IFREG | 0o444
        size = 0 if node == ROOT else self.size_bytes
        return struct.pack("<QQQQQQIIIIIIIIII", node, size, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

    def _read(self, offset: int, count: int) -> bytes:
        for turn in [turn for turn in self.turns if count > 4096 and offset + count > turn[0]]:
            self.turns.remove(turn)
            self._turn(turn[1])
        if self.gone:
            raise OSError(self.gone, "pulled out")
        for scratch in self.scratches:
            if scratch.times and offset < scratch.end and offset + count > scratch.start:
                if offset < scratch.start:  # what lies before it is given, as a disk does
                    count = scratch.start - offset
                    continue
                scratch.times -= 1
                raise OSError(errno.EIO, "scratched")
        self.bytes_given += max(0, min(count, self.size_bytes - offset))
        return os.pread(self.content, count, offset)

    def _turn(self, words: list[str]) -> None:
        if words[0] == "run":
            subprocess.run(words[1:], check=True)
        elif words[0] == "show":
            self.content = os.open(words[1], os.O_RDONLY)
        else:
            self.gone = _PULLED[words[0]]

    def obey(self, order: str) -> str:
        word, *rest = shlex.split(order)
        if word == "fail":
            self.scratches.append(Scratch(int(rest[0]), int(rest[1]), int(rest[2])))
        elif word == "show":
            self._turn(["show", *rest])
        elif word in {"show-at", "run-at"}:  # small reads, of headers, go on
            self.turns.append((int(rest[0]), [word.removesuffix("-at"), *rest[1:]]))
        elif word == "pull-at":
            self.turns.append((int(rest[0]), rest[1:]))
        elif word == "kill-at":
            self.kill_at = self.bytes_given + int(rest[0])
        elif word == "reads":
            return f"ok {self.bytes_given}"
        return "ok"


def main() -> None:
    """Mount, and serve until stdin ends."""
    point, path = sys.argv[1:]
    descriptor = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={descriptor},rootmode=40000,user_id=0,group_id=0,max_read={_MAX_READ}"
    if libc.mount(b"lying", os.fsencode(point), b"fuse", _MS_RDONLY_NOSUID_NODEV_NOEXEC, options.encode()):
        sys.exit(os.strerror(ctypes.get_errno()))
    try:
        content = os.open(path, os.O_RDONLY)
        _serve(Liar(descriptor, content, os.fstat(content).st_size))
    finally:
        libc.umount2(os.fsencode(point), _MNT_DETACH)


def _serve(liar: Liar) -> None:
    liar.answer(os.read(liar.descriptor, 2 * _MAX_READ))  # the kernel's INIT
    sys.stdout.write("ok\n")
    sys.stdout.flush()
    while True:
        ready, _, _ = select.select([liar.descriptor, sys.stdin], [], [])
        if sys.stdin in ready:
            order = sys.stdin.readline()
            if not order:
                return
            sys.stdout.write(liar.obey(order) + "\n")
            sys.stdout.flush()
        else:
            try:
                liar.answer(os.read(liar.descriptor, 2 * _MAX_READ))
            except OSError as error:
                if error.errno == errno.ENODEV:  # unmounted
                    return
                if error.errno != errno.ENOENT:  # a request that was taken back
                    raise


# --- For tests --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LyingMedium:
    """A mounted medium; ``path`` is the bundle on it."""

    path: Path
    process: subprocess.Popen[str]

    def tell(self, *words: object) -> str:
        """Give an order, and return the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(shlex.join(map(str, words)) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        assert answer.startswith("ok"), answer
        return answer.removeprefix("ok").strip()


@contextmanager
def lying_medium(bundle: Path, point: Path) -> Iterator[LyingMedium]:
    """Show a bundle on a medium of its own."""
    point.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-I", __file__, str(point), str(bundle)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ok\n"
        yield LyingMedium(point / NAME, process)
    finally:
        process.communicate(timeout=30)


if __name__ == "__main__":
    main()
