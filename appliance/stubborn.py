"""A file on a medium that may stumble: what it does not give is asked for twice more, then is unreadable."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from appliance.errors import BadInput, UnreadableMedium
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: Rests before the second and the third try: a stick that stumbles needs a moment.
PAUSES_S = (0.1, 0.5)
#: So many failures in a row raise the question whether the medium is there at all.
_FAILURES_MOST = 8
_GONE = {errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ESTALE}
_THE_FILE_ITSELF = text("give the path of the .tar file itself, not of a link to it")
_OPERATOR_ERRORS = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG}


@contextmanager
def open_stubbornly(path: Path, pause: Callable[[float], None] = time.sleep) -> Iterator[StubbornFile]:
    """Open a regular file, never through a link, opened once.

    Raises ``BadInput`` for what is no such file, ``UnreadableMedium`` for a medium that does not answer.
    """
    try:
        # O_NONBLOCK: a named pipe of that name must not hold us; it means nothing for a regular file.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in _OPERATOR_ERRORS:
            raise BadInput(
                text("the bundle cannot be opened"),
                where=path,
                seen=error.strerror,
                remedy=_THE_FILE_ITSELF,
            ) from error
        raise _unreadable(path, 0, error.strerror) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BadInput(text("the bundle is not a regular file"), where=path, remedy=_THE_FILE_ITSELF)
        yield StubbornFile(path, descriptor, status.st_size, pause)
    finally:
        os.close(descriptor)


class StubbornFile:
    """Reads at offsets, from several threads at once; ``pause`` rests for seconds before another try.

    ``bytes_read`` counts what came, ``retries`` the reads that were tried again; ``gone``: the medium was
    pulled out, and nothing more is asked of it.
    """

    def __init__(
        self, path: Path, descriptor: int, size_bytes: int, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self.bytes_read = 0
        self.retries = 0
        self.gone = False
        self._descriptor = descriptor
        self._pause = pause
        self._failures = 0
        self._counting = threading.Lock()

    def read_ahead(self, *, wanted: bool) -> None:
        """Let the kernel read ahead, or not where only frames are looked at."""
        advice = os.POSIX_FADV_SEQUENTIAL if wanted else os.POSIX_FADV_RANDOM
        os.posix_fadvise(self._descriptor, 0, 0, advice)

    def read(self, offset: int, count: int) -> bytes:
        """Read ``count`` bytes, fewer only at the end of the file. Raises ``UnreadableMedium``."""
        pieces: list[bytes] = []
        while count > 0:
            piece = self._read_some(offset, count)
            if not piece:
                break
            pieces.append(piece)
            offset += len(piece)
            count -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read_some(self, offset: int, count: int) -> bytes:
        for pause_s in (*PAUSES_S, None):
            if self.gone:
                raise _unreadable(self.path, offset, text("the medium was pulled out, or has died"))
            try:
                piece = os.pread(self._descriptor, count, offset)
            except OSError as error:
                if pause_s is None or error.errno in _GONE:
                    self._count_failure(error)
                    raise _unreadable(self.path, offset, error.strerror) from error
                with self._counting:
                    self.retries += 1
                self._pause(pause_s)
            else:
                with self._counting:
                    self.bytes_read += len(piece)
                    self._failures = 0
                return piece
        raise AssertionError

    def _count_failure(self, error: OSError) -> None:
        """Ask, after many failures in a row, whether the medium is there: each try may take minutes."""
        with self._counting:
            self._failures += 1
            if self._failures >= _FAILURES_MOST or error.errno in _GONE:
                self._failures = 0
                self.gone = self.gone or not self._answers()

    def _answers(self) -> bool:
        """Tell whether the medium still gives a byte somewhere: a scratch is passed over, a gap is not."""
        for eighth in (1, 3, 5, 7):
            with suppress(OSError):
                os.pread(self._descriptor, 1, self.size_bytes * eighth // 8)
                return True
        return False


def _unreadable(path: Path, offset: int, seen: object) -> UnreadableMedium:
    return UnreadableMedium(
        text("the medium does not give its bytes"),
        where=text("{path}, byte {offset}", path=path, offset=offset),
        seen=seen,
        remedy=text("try another port, then copy the bundle to another medium"),
    )
