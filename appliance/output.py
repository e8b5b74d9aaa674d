"""The standard output, as the command lines write it: what it refuses is told apart from what a disk refuses.

Without this a full disk behind ``>`` reads like a full disk of ours, the interpreter ends with 120 on top of
it, and what is written to a closed output is lost in silence.
"""

from __future__ import annotations

import errno
import io
import os
import sys

_NUMBER = 1


class OutputRefused(OSError):
    """The standard output is closed, or does not take what is written to it; nobody reads what came of it."""


class _Output(io.FileIO):
    """The standard output's file, whose refusals say that they are its own."""

    def write(self, data: object, /) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            raise OutputRefused(error.errno, error.strerror) from error


def open_output() -> None:
    """Take the process's standard output over. Raises ``OutputRefused`` where it is closed.

    A file that is opened later must not get the number of an output: what is said would be written into it.
    """
    is_closed = sys.stdout is None
    _fill()
    if is_closed:
        raise OutputRefused(errno.EBADF, os.strerror(errno.EBADF))
    given = sys.stdout
    if not isinstance(given, io.TextIOWrapper) or not _is_the_process_s(given):
        return  # somebody who calls us listens
    raw = _Output(_NUMBER, "wb", closefd=False)
    is_unbuffered = isinstance(given.buffer, io.RawIOBase)
    sys.stdout = io.TextIOWrapper(
        raw if is_unbuffered else io.BufferedWriter(raw),
        encoding=given.encoding,
        errors=given.errors,
        line_buffering=given.line_buffering,
        write_through=is_unbuffered,
    )


def _is_the_process_s(stream: io.TextIOWrapper) -> bool:
    try:
        return stream.fileno() == _NUMBER and not isinstance(getattr(stream.buffer, "raw", None), _Output)
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
