"""How the command line listens and speaks: options anywhere, errors with a remedy, in the language asked."""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from appliance.errors import BadInput, BanipError, Interrupted, Tampered, UnfitServer
from appliance.output import OutputRefused, close_output, forget_output, open_output
from appliance.text import choose_language, printable, spelled, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from appliance.text import Language

#: A disk that fails, is full, or was made read-only by the kernel; and too many open files.
_DISK_REFUSES = frozenset(
    (
        *(errno.EROFS, errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ENODEV, errno.ESTALE),
        *(errno.EMFILE, errno.ENFILE),
    )
)
#: A folder, a link or a pipe lies where a file was, or the other way round.
_STRANGE = frozenset((errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EEXIST, errno.ENXIO, errno.ENOTEMPTY))


class Everywhere(click.Group):
    """A group whose own ``--json`` and ``--lang`` may also stand after the command."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Take a command in; its raw docstring spells click's mark for "do not wrap" as two characters."""
        cmd.help = (cmd.help or "").replace(r"\b", "\b")
        super().add_command(cmd, name)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Let those options come first, wherever they stand."""
        return super().parse_args(ctx, options_first(args))


def options_first(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with ``--json`` and ``--lang`` moved to the front; ``--`` ends the search."""
    words, first = list(arguments), []
    end = words.index("--") if "--" in words else len(words)
    number = 0
    while number < end:
        count = {"--json": 1, "--lang": 2}.get(words[number], int(words[number].startswith("--lang=")))
        first += words[number : number + count]
        del words[number : number + count]
        number, end = number + (count == 0), end - count
    return [*first, *words]


def asker(*, as_json: bool) -> Callable[[str], str] | None:
    """Return what puts a question to the person at the terminal; None where there is no such person."""
    if as_json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None

    def ask(question: str) -> str:
        return str(click.prompt(question, default="", show_default=False, err=True))

    return ask


def told(error: BaseException) -> BanipError:
    """Return what is said of whatever ended a command."""
    if isinstance(error, BanipError):
        return error
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return stopped(error)
    return (refusal_of(error) if isinstance(error, OSError) else None) or our_bug(error)


def our_bug(error: BaseException) -> BanipError:
    """Return what is said of an error that nobody foresaw."""
    return BanipError(
        text("this is a fault of the appliance itself, not of the bundle or the server"),
        seen="".join(traceback.format_exception(error)).strip(),
        remedy=text("keep this text for your supplier; running the same command again does no harm"),
    )


def refusal_of(error: OSError) -> BanipError | None:
    """Return what is said where the machine refuses a file of ours; None: nobody foresaw that."""
    if isinstance(error, OutputRefused):
        return lost(error)
    seen, where = error.strerror, error.filename
    if isinstance(error, PermissionError):
        remedy = text("run the same command as root (sudo)")
        if os.geteuid() == 0:
            remedy = text("root itself is refused: see lsattr, the mount's options and the kernel's log")
        return BadInput(text("this needs more rights"), where=where, remedy=remedy)
    if error.errno == errno.ENAMETOOLONG:
        remedy = text("look at this path, or name another one")
        return BadInput(text("the path is longer than the system takes"), where=where, remedy=remedy)
    if error.errno in _DISK_REFUSES:
        remedy = text("see what dmesg, df and df -i say of it, mend it, then run the same command again")
        return UnfitServer(
            text("the disk does not take or give what it should"), where=where, seen=seen, remedy=remedy
        )
    if error.errno in _STRANGE:
        where = _strange_place(error)
        remedy = text("look at {path}, move it aside, then run the same command again", path=where)
        return Tampered(
            text("a file or folder of Banip is not what Banip made"), where=where, seen=seen, remedy=remedy
        )
    return None


def lost(error: OutputRefused) -> BanipError:
    """Return what is said where nobody can read what a command has to say."""
    if error.errno == errno.EBADF:
        remedy = text("leave the standard output open (no >&-): send it to a file or to /dev/null")
        return UnfitServer(text("the standard output is closed"), remedy=remedy)
    remedy = text("free space where the output goes (df, df -i) or send it elsewhere, then run it again")
    return UnfitServer(
        text("the standard output does not take what this command has to say"),
        seen=error.strerror,
        remedy=remedy,
    )


@contextmanager
def output() -> Iterator[None]:
    """Have the standard output for the time of a command; what it refuses is raised, also at the end."""
    try:
        open_output()
        yield
        close_output()
    except OutputRefused:
        forget_output()
        raise


def echo(words: str) -> None:
    """Write a line that must reach somebody: beside the output where the output does not take it."""
    try:
        click.echo(words)
    except OutputRefused:
        forget_output()
        click.echo(words)


def _strange_place(error: OSError) -> object:
    """Return what is strange: the target of a rename rather than its source, a file where a folder was."""
    named = error.filename2 or error.filename
    if not isinstance(named, str):
        return named
    folders = Path(named).parents
    return next((path for path in folders if os.path.lexists(path) and not path.is_dir()), named)


def stopped(stop: click.Abort | KeyboardInterrupt) -> BanipError:
    """Return what is said where a person, or nobody, ended a command: Ctrl-C, no answer, or the answer no."""
    cause = stop if isinstance(stop, KeyboardInterrupt) else stop.__cause__ or stop.__context__
    if isinstance(cause, KeyboardInterrupt):
        return Interrupted(
            text("interrupted; nothing is lost"),
            remedy=text("run the same command again: it goes on where it was cut off"),
        )
    if isinstance(cause, EOFError):
        return BadInput(
            text("a question was asked, and nobody is here to answer"),
            remedy=text("run it at a terminal, or give the answer as an option: --help names it"),
        )
    return BadInput(text("the answer was no: nothing was changed"))


def show_usage(error: click.ClickException, language: Language, *, as_json: bool) -> None:
    """Show what is wrong with the words that were typed."""
    if as_json:
        wrong = BadInput(text("the command line is wrong: {reason}", reason=error.format_message()))
        show_error(wrong, language, as_json=True)
    elif isinstance(error, click.exceptions.NoArgsIsHelpError):  # its message is our own help
        click.echo(error.format_message(), err=True)
    else:
        said = io.StringIO()
        error.show(said)
        words = error.format_message()  # it quotes what was typed, or what a shell found on a medium
        click.echo(printable(said.getvalue().replace(words, words.replace("\n", "\\n"))), err=True, nl=False)


def show_error(error: BanipError, language: Language, *, as_json: bool) -> None:
    """Show an error: a fact a line for a person, or one JSON object."""
    if as_json:
        echo(msgspec.json.encode(spelled(error.as_json(language))).decode())
    else:
        click.echo("\n".join(error.lines(language)), err=True)


def language_of(arguments: list[str]) -> Language:
    """Return the language that the arguments ask for, before they are parsed."""
    words = " ".join(arguments).replace("--lang=", "--lang ").split()
    asked = words[words.index("--lang") + 1 :][:1] if "--lang" in words else []
    return "ko" if asked == ["ko"] else "en" if asked == ["en"] else choose_language()
