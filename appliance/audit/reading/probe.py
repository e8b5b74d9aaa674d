"""How facts are read: programs under a time and output limit, files by lstat, and never a guess."""

from __future__ import annotations

import fcntl
import grp
import os
import pwd
import re
import select
import signal
import stat
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from zipfile import BadZipFile

import msgspec
import psutil

from appliance.audit.facts import Fact
from appliance.audit.facts_host import File, FileKind, Line
from appliance.audit.reason import Reason, reason_of, why
from appliance.errors import BanipError
from appliance.text import Text, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

#: Long, because a server that answers many people answers its operator late, and late is not `unknown`.
TIMEOUT_S = 60
OUTPUT_BYTES = 16 * 1024 * 1024
COMPLAINTS_BYTES = 4 * 1024 * 1024
#: What a program left running may still write once it has ended itself.
_LAST_WORDS_S = 1.0
_POLL_S = 0.01
#: No file of settings is as large; what is, nobody reads whole.
TEXT_BYTES = 16 * 1024 * 1024
FILES_MOST = 20_000
#: Where the distribution has its programs; whoever calls the audit may have others in their PATH.
FOLDERS = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}
_KINDS: dict[int, FileKind] = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
#: A value behind a name that says what it is (``bindpw=``, a header), or in an address before its host.
_SECRETS = re.compile(
    r"(?i)((?:passw(?:or)?d|bindpw|passphrase|secret|token|api[-_]?key|private[-_]?key)[\"']?\s?[=:]\s?"
    r"|\b(?:proxy-)?authorization\b[\"']?\s+|\bx-api-key\b[\"']?\s+|\bBearer\s+|://(?=[^/\s@]*@))"
    r"(?:\"[^\"]*\"|'[^']*'|(?<=://)[^/\s@]*(?=@)|[^\s;,]+)"
)
_T = TypeVar("_T")


#: What a reader may meet: a program or file that answers as nobody expected costs one fact, not the audit.
_GOES_WRONG = (
    OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError, RecursionError,
    BadZipFile, msgspec.MsgspecError, psutil.Error, BanipError,
)  # fmt: skip


class Unreadable(Exception):
    """Something could not be read; ``reason`` is the fact's."""

    def __init__(self, reason: Text | Reason) -> None:
        super().__init__(str(reason))
        self.reason = reason_of(reason) if isinstance(reason, Text) else reason


def complaint(command: str, code: int, said: str) -> Text:
    """Say how a program ended that should have answered, with the beginning of its own words."""
    words = " ".join(said[:400].split())
    return text("{command} ended with {code}: {words}", command=command, code=code, words=words)


def fact(source: str, read: Callable[[], _T]) -> Fact[_T]:
    """Read a fact; whatever goes wrong while reading becomes its reason."""
    try:
        value = read()
    except Unreadable as error:
        return Fact(source=source, unread=error.reason.cleaned(without_secrets))
    except _GOES_WRONG as error:
        return Fact(source=source, unread=reason_of(why(error)).cleaned(without_secrets))
    return Fact(source=source, value=value, unread=None)


def program(name: str) -> str | None:
    """Return where the distribution has that program, or None."""
    return next((f"{folder}/{name}" for folder in FOLDERS if os.access(f"{folder}/{name}", os.X_OK)), None)


@dataclass(frozen=True, slots=True)
class Ran:
    """What a program wrote on either stream, and how it ended."""

    code: int
    out: str
    err: str


def output(name: str, *arguments: str, codes: tuple[int, ...] = (0,), timeout_s: float | None = None) -> str:
    """Return what the distribution's program writes. Raises ``Unreadable``."""
    return ran(name, *arguments, codes=codes, timeout_s=timeout_s).out


def ran(name: str, *arguments: str, codes: tuple[int, ...] = (0,), timeout_s: float | None = None) -> Ran:
    """Run the distribution's program; raises ``Unreadable`` where it is missing or ends with another code."""
    path = program(name)
    if path is None:
        raise Unreadable(text("the program {name} is not installed", name=name))
    return _ran([path, *arguments], codes, user=None, timeout_s=timeout_s)


def answer(name: str, *arguments: str) -> str:
    """Return what a program writes that says by code 1 that it found nothing, or none of what was asked for.

    Raises ``Unreadable`` where it complains instead: the same code says that it could not look.
    """
    done = ran(name, *arguments, codes=(0, 1))
    if done.code and not done.out.strip() and done.err.strip():
        raise Unreadable(complaint(f"{name} {' '.join(arguments[:4])}", done.code, done.err))
    return done.out


def output_as_nobody(name: str, *arguments: str) -> str:
    """Return what a program writes that runs start-up files: with nobody's rights, as far as we may."""
    user = 65534 if os.geteuid() == 0 else None
    return _ran([program(name) or name, *arguments], (0,), user=user, timeout_s=None).out


def _ran(argv: list[str], codes: tuple[int, ...], user: int | None, timeout_s: float | None) -> Ran:
    complaints = _bounded_file()
    try:
        with subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=_ENVIRONMENT,
            cwd="/",
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            start_new_session=True,
        ) as process:
            written = _bounded(argv[0], process, TIMEOUT_S if timeout_s is None else timeout_s)
        said = os.pread(complaints, COMPLAINTS_BYTES, 0).rstrip(b"\0").decode("utf-8", "replace")
    finally:
        os.close(complaints)
    if len(written) > OUTPUT_BYTES:
        raise Unreadable(text("{program} wrote more than {count} bytes", program=argv[0], count=OUTPUT_BYTES))
    if process.returncode not in codes:
        raise Unreadable(complaint(" ".join(argv[:6]), process.returncode, said))
    return Ran(process.returncode, written.decode("utf-8", "replace"), said)


def _bounded_file() -> int:
    """Return a file in memory that takes no more than the limit, whoever writes to it."""
    descriptor = os.memfd_create("complaints", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, COMPLAINTS_BYTES)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
    return descriptor


def _bounded(name: str, process: subprocess.Popen[bytes], timeout_s: float) -> bytes:
    """Read a process's output up to the limit, and end what runs or writes longer, its children with it.

    What it left in the background may hold its output open for ever: that is not waited for.
    """
    try:
        return _written(name, process, timeout_s)
    finally:
        with suppress(ProcessLookupError):  # its own session, so its own group
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _written(name: str, process: subprocess.Popen[bytes], timeout_s: float) -> bytes:
    """Return what it writes until it ends, or it is too much. Raises ``Unreadable`` when its time is over."""
    stream, written = process.stdout.fileno() if process.stdout else -1, bytearray()
    until = time.monotonic() + timeout_s
    closed = False
    while len(written) <= OUTPUT_BYTES:
        ended = _has_ended(process)  # asked before its output: what it wrote until then is there to be read
        if closed and ended:
            break
        if time.monotonic() >= until:
            raise Unreadable(
                text("{program} did not end within {seconds} s", program=name, seconds=f"{timeout_s:g}")
            )
        if closed:
            time.sleep(_POLL_S)  # and it is still at work
            continue
        more = _next(stream, min(_LAST_WORDS_S, until - time.monotonic()))
        if more is None and ended:
            break
        closed = more == b""
        written += more or b""
    return bytes(written)


def _next(stream: int, timeout_s: float) -> bytes | None:
    """Return what comes next, nothing at its end, None where nothing comes for a while."""
    ready, _, _ = select.select([stream], [], [], max(timeout_s, 0))
    return os.read(stream, 1 << 16) if ready else None


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether it has ended, and leave it: while it is not reaped, nobody else gets its number."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def look(path: str | Path) -> File:
    """Return the path as lstat sees it; a path that is not there is a fact, too.

    A link says nothing by its own mode: told is as well whose the file or folder is that it leads to.
    """
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return File(path=str(path), kind="absent")
    target = _target(path) if stat.S_ISLNK(found.st_mode) else None
    return File(
        path=str(path),
        kind=_KINDS.get(stat.S_IFMT(found.st_mode), "other"),
        mode=f"{stat.S_IMODE(found.st_mode):04o}",
        owner=user_name(found.st_uid),
        group=group_name(found.st_gid),
        to_mode=f"{stat.S_IMODE(target.st_mode):04o}" if target else "",
        to_owner=user_name(target.st_uid) if target else "",
    )


def _target(path: str | Path) -> os.stat_result | None:
    try:
        found = Path(path).stat()
    except OSError:  # it leads nowhere, or in a circle
        return None
    return found if stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode) else None


@cache
def user_name(uid: int) -> str:
    """Return the account's name, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@cache
def group_name(gid: int) -> str:
    """Return the group's name, or its number where it has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def look_below(folder: str | Path, most: int = FILES_MOST) -> tuple[File, ...]:
    """Return everything below a folder, itself first; none where it is absent. Raises ``Unreadable``."""
    if not os.path.lexists(folder):
        return ()
    found = [look(folder)]
    for path in _below(Path(folder)):
        found.append(look(path))
        if len(found) > most:
            raise Unreadable(text("more than {count} files below {folder}", count=most, folder=folder))
    return tuple(found)


def _below(folder: Path) -> Iterator[Path]:
    for name, folders, files in os.walk(folder, onerror=_refuse):
        for one in sorted([*folders, *files]):
            yield Path(name, one)


def _refuse(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # what goes away while we look was no finding
        raise error


def lines(*paths: str | Path) -> tuple[Line, ...]:
    """Return the lines that count of configuration files; a file that is absent has none."""
    return tuple(line for path in paths for line in _lines(Path(path)))


def _lines(path: Path) -> Iterable[Line]:
    for number, line in enumerate(plain_text(path).splitlines(), start=1):
        words = " ".join(line.split())
        if words and not words.startswith("#"):
            yield Line(str(path), number, without_secrets(words)[:400])


def without_secrets(words: str) -> str:
    """Return words of a configuration without the values of what is called a secret in them."""
    return _SECRETS.sub(lambda found: f"{found[1]}***", words)


def plain_text(path: str | Path, most: int = TEXT_BYTES) -> str:
    """Return what a plain file of text holds, nothing where it is absent. Raises ``Unreadable``."""
    try:
        return plain_content(path, most).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def plain_content(path: str | Path, most: int, flags: int = 0) -> bytes:
    """Return what a plain file holds. Raises ``Unreadable``, ``OSError``.

    A pipe or a device in its place would never end, and a sparse file can claim any size.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise Unreadable(text("{path} is no plain file", path=path))
        content = b"" if about.st_size > most else file.read(most + 1)
    if max(about.st_size, len(content)) > most:
        raise Unreadable(text("{path} has more than {count} bytes", path=path, count=most))
    return content
