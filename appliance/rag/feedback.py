"""What people thought of answers: one JSON line each, on disk before it is confirmed."""

from __future__ import annotations

import os
import threading
from datetime import datetime  # noqa: TC003 - msgspec reads the annotation
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from appliance.durable import naming_a_full_disk, sync_folder, write_all

if TYPE_CHECKING:
    from pathlib import Path


class Feedback(msgspec.Struct, frozen=True, kw_only=True):
    """What a client sends: the answer's id, the verdict, and why."""

    id: Annotated[str, msgspec.Meta(pattern=r"^chatcmpl-[0-9a-f]{32}$")]
    verdict: Literal["good", "bad"]
    comment: Annotated[str, msgspec.Meta(max_length=2000)] = ""


class Opinion(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of it."""

    time: datetime
    user: str
    release: str
    answer: str
    verdict: str
    comment: str


class FeedbackFile:
    """The file ``feedback.jsonl``; safe to call from many threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def append(self, opinion: Opinion) -> None:
        """Add a line; when this returns, a power cut does not lose it.

        A line that a power cut left torn is closed first, so that it cannot spoil this one.
        """
        line = msgspec.json.encode(opinion) + b"\n"
        with self._lock, naming_a_full_disk(self._path.parent):
            is_new = not self._path.exists()
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(self._path, flags, 0o600)
            try:
                size = os.fstat(descriptor).st_size
                torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
                write_all(descriptor, b"\n" * torn + line)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if is_new:
                sync_folder(self._path.parent)
