"""The standard output, as the command lines write it: what it refuses is told apart from what a disk refuses.

The error output beside it ends no work, whatever becomes of what goes there.

Without this a full disk behind ``>`` reads like a full disk of ours, the interpreter ends with 120 on top of
it, and what is written to a closed output is lost in silence.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

_NUMBER, _ASIDE = 1, 2


class OutputRefused(OSError):
    """The standard output is closed, or does not take what is written to it; nobody reads what came of it."""


class _Output(io.FileIO):
    """The standard output's file, whose refusals say that they are its own."""

    def write(self, data: object, /) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            raise OutputRefused(error.errno, error.strerror) from error


class _Aside(io.FileIO):
    """The error output's file: what a full disk behind it refuses is lost, and ends no work.

    As where it is closed, the exit code tells.
    """

    def write(self, data: object, /) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except BrokenPipeError:
            raise
        except OSError:
            return len(memoryview(data))  # type: ignore[arg-type]


def open_output() -> None:
    """Take the process's standard output over. Raises ``OutputRefused`` where it is closed.

    A file that is opened later must not get the number of an output: what is said would be written into it.
    """
    is_closed = sys.stdout is None
    _fill()
    if is_closed:
        raise OutputRefused(errno.EBADF, os.strerror(errno.EBADF))
    sys.stdout = _taken_over(sys.stdout, _NUMBER, _Output)
    sys.stderr = _taken_over(sys.stderr, _ASIDE, _Aside)


def _taken_over(given: TextIO, number: int, kind: type[io.FileIO]) -> TextIO:
    """Return a stream with a file of ours behind it, or the one that somebody put there who calls us."""
    if not isinstance(given, io.TextIOWrapper) or not _is_the_process_s(given, number, kind):
        return given
    raw = kind(number, "wb", closefd=False)
    is_unbuffered = isinstance(given.buffer, io.RawIOBase)
    return io.TextIOWrapper(
        raw if is_unbuffered else io.BufferedWriter(raw),
        encoding=given.encoding,
        errors=given.errors,
        line_buffering=given.line_buffering,
        write_through=is_unbuffered,
    )


def _is_the_process_s(stream: io.TextIOWrapper, number: int, kind: type[io.FileIO]) -> bool:
    try:
        return stream.fileno() == number and not isinstance(getattr(stream.buffer, "raw", None), kind)
    except (OSError, ValueError):
        return False


def _fill() -> None:
    """Let nothing take the place of a standard stream that is closed."""
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)  # nor a file of a program that we start  # noqa: FBT003
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115


def close_output() -> None:
    """Write what is still to be written. Raises ``OutputRefused``."""
    sys.stdout.flush()


def forget_output() -> None:
    """Let go of what cannot be written: the interpreter would try once more, and complain or end with 120.

    What is said from now on goes where errors go.
    """
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, _NUMBER)
    os.close(nothing)
    sys.stdout = sys.stderr
