"""Writing past the page cache: what is on its way in or out is not read again soon.

Pages kept of it would push out others, and filling them costs as much as hashing.
"""

from __future__ import annotations

import errno
import fcntl
import os
from mmap import mmap

#: A direct write wants whole blocks of memory and file; 4096 is the largest that disks have.
BLOCK_BYTES = 4096
_BUFFER_BYTES = 1024 * 1024


class DirectOutput:
    """An open file that is written in order, past the page cache where its file system lets us.

    Its descriptor cannot be read from meanwhile; another one of the same file can.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._flags = descriptor, fcntl.fcntl(descriptor, fcntl.F_GETFL)
        self._buffer: memoryview | None = None
        self._direct = True
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, self._flags | os.O_DIRECT)
        except OSError:  # a file system without it
            self._direct = False

    def write_from_anywhere(self, data: bytes) -> None:
        """Write what does not lie on whole blocks of memory, by way of a buffer that does."""
        rest = memoryview(data)
        while rest and self._direct and len(rest) % BLOCK_BYTES == 0:
            buffer = self._aligned()[: len(rest)]
            buffer[:] = rest[: len(buffer)]
            self.write(buffer)
            rest = rest[len(buffer) :]
        self.write(rest)

    def write(self, data: memoryview) -> None:
        """Write everything; after a piece that is not of whole blocks, the end, the cache is used."""
        if self._direct and len(data) % BLOCK_BYTES:
            self.use_the_cache()
        while data:
            data = data[self._write_some(data) :]

    def use_the_cache(self) -> None:
        """Write as usual from here on."""
        self._direct = False
        fcntl.fcntl(self._descriptor, fcntl.F_SETFL, self._flags)

    def _aligned(self) -> memoryview:
        if self._buffer is None:
            self._buffer = memoryview(mmap(-1, _BUFFER_BYTES))
        return self._buffer

    def _write_some(self, data: memoryview) -> int:
        try:
            return os.write(self._descriptor, data)
        except OSError as error:
            if not self._direct or error.errno != errno.EINVAL:
                raise
        self.use_the_cache()
        return os.write(self._descriptor, data)
