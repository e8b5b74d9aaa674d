"""Small files that a person names, which may be anything: for a pipe one would wait without end."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from appliance.errors import BadInput
from appliance.text import text

if TYPE_CHECKING:
    from pathlib import Path


def read_regular(path: Path, most_bytes: int) -> bytes:
    """Return at most that many bytes of a regular file. Raises ``BadInput`` for another kind, ``OSError``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise BadInput(
                text("this is no regular file"),
                where=path,
                remedy=text("name the file itself, not a folder, a pipe or a device"),
            )
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(most_bytes)
    finally:
        os.close(descriptor)
