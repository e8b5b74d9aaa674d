"""What one server remembers: whom it trusts, how far it has come, who is working, and what was done.

Layout under ``<root>/state`` (0700): ``lock``, ``binding.json``, ``roots/<N>.root.json``, ``counter.json``,
``journal``. A damaged file is an error that names the remedy; nothing here is ever silently replaced.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
from msgspec import Meta

from appliance.durable import make_folder, remove_file, sync_file_system, sync_folder, write_file
from appliance.errors import AlreadyRunning, BadInput, BanipError, Tampered, Untrusted
from appliance.format import (
    Name,
    Sha256,
    Value,
    canonical_json,
    envelope_from_bytes,
    strict_payload,
)
from appliance.journal import Journal
from appliance.text import text
from appliance.verify import Floor, Trust

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

_PRIVATE_FOLDER, _PRIVATE_FILE = 0o700, 0o600
_ROOT_NAME = re.compile(r"([1-9][0-9]{0,5})\.root\.json")
_ADOPT = text("compare the digest on the paper again, then run: python3 -I appliance.pyz adopt")
_V = TypeVar("_V", bound=Value)


@dataclass(frozen=True, slots=True)
class FirstContact:
    """What ``appliance.pyz`` brings: the first root envelope, and which product and site it is for."""

    root: bytes
    product: str
    site: str | None


class Binding(Value, frozen=True):
    """``binding.json``: what this server is for. Written last by ``adopt``, so it seals the adoption."""

    product: Name
    site: Name | None


class Counter(Value, frozen=True):
    """``counter.json``: the newest release that was ever marked good here."""

    product: Name
    counter: Annotated[int, Meta(ge=1, le=2**31)]
    release_sha256: Sha256


def utc_now() -> datetime:
    """Read the clock; the rest of this module is handed it."""
    return datetime.now(timezone.utc)


def reference_time(rtc: datetime, newest_built: datetime | None) -> datetime:
    """Return the time that freshness is judged by: a clock may be dead, but not before what it accepted."""
    return rtc if newest_built is None else max(rtc, newest_built)


# --- The lock ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lock:
    """The held lock; ``pass_fds=(lock.fileno(),)`` hands it to a child, which then keeps it held."""

    descriptor: int

    def fileno(self) -> int:
        """Return the descriptor that carries the lock."""
        return self.descriptor


class State:
    """The state folder of one root; every method reads the disk, so parent and child agree."""

    def __init__(self, root: Path, clock: Callable[[], datetime] = utc_now) -> None:
        self.folder = root / "state"
        self.journal = Journal(self.folder / "journal", clock)
        self._roots = self.folder / "roots"

    @contextmanager
    def lock(self, command: str | None = None, inherited: int | None = None) -> Iterator[Lock]:
        """Hold the one lock of this root; ``inherited`` is the descriptor that a parent passed on.

        The kernel frees it when the last process that holds the descriptor is gone, however it went.
        Raises ``AlreadyRunning`` naming the other run's pid and command.
        """
        make_folder(self.folder, _PRIVATE_FOLDER)
        path = self.folder / "lock"
        descriptor = _open_lock(path) if inherited is None else _check_inherited(path, inherited)
        try:
            _take(descriptor, path)
            line = f"{os.getpid()} {shlex.join(sys.argv) if command is None else command}\n"
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, line.encode("utf-8", "backslashreplace"), 0)
            if inherited is None:
                # What a killed run left may be seen and not be durable yet; what follows builds on it.
                sync_file_system(self.folder)
            yield Lock(descriptor)
        finally:
            os.close(descriptor)  # no LOCK_UN: that would take it from a child that still works

    def is_busy(self) -> bool:
        """Tell whether a run holds the lock now; a moment later that may have changed."""
        try:
            descriptor = os.open(self.folder / "lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(descriptor)

    # --- Trust --------------------------------------------------------------------------------------------

    def trust(self, kept: Iterable[Floor] = ()) -> Trust | None:
        """Return whom this server trusts, or None before first contact.

        ``kept``: floors read from the signed metadata in each release folder. Raises ``Tampered``.
        """
        binding = self._read("binding.json", Binding)
        if binding is None and self._has_history():
            raise _damaged(self.folder / "binding.json", "missing")
        if binding is None:
            return None
        roots = self._root_versions()
        if not roots:
            raise _damaged(self._roots, "no root is left")
        floors = [*self._counter_floor(binding), *kept]
        floor = max(floors, key=lambda one: one.counter, default=None)
        older = tuple(map(self._root, roots[:-1])) if roots == list(range(1, len(roots) + 1)) else ()
        return Trust(self._root(roots[-1]), binding.product, binding.site, floor, older=older)

    def root(self, version: int) -> bytes | None:
        """Return the root envelope of that version that was accepted here, or None. Raises ``Tampered``."""
        return self._root(version) if version in self._root_versions() else None

    def adopt(self, first: FirstContact) -> None:
        """Trust this first root from now on: first contact, and the remedy for damaged state.

        A counter and newer roots that belong to the same product and the same first root stay, so that
        adopting again neither goes back nor forgets a revocation. Killed anywhere, it is run again.
        """
        version = root_version(first.root)
        make_folder(self.folder, _PRIVATE_FOLDER)
        make_folder(self._roots, _PRIVATE_FOLDER)
        self.journal.set_aside_if_damaged()
        goes_on = self._continues(version, first.root)
        if not (goes_on and self._counts_for(first.product)):
            # Without it nobody is trusted while the rest changes. What goes on is never without it, or a
            # kill in between would drop the floor and every revocation.
            remove_file(self.folder / "binding.json")
        if not goes_on:
            for path in self._roots.iterdir():
                path.unlink()
            sync_folder(self._roots)
            write_file(self._root_path(version), first.root, _PRIVATE_FILE)
        if not self._counts_for(first.product):
            remove_file(self.folder / "counter.json")
        self._write("binding.json", Binding(product=first.product, site=first.site))

    def accept_roots(self, new_roots: Iterable[bytes]) -> None:
        """Store verified newer roots, each one version above the last (``BadInput`` otherwise)."""
        for root in new_roots:
            newest, version = self._root_versions()[-1], root_version(root)
            if version != newest + 1:
                raise BadInput(
                    text("a new root does not follow the one that is trusted"),
                    expected=newest + 1,
                    seen=version,
                )
            write_file(self._root_path(version), root, _PRIVATE_FILE)

    def keep(self, floor: Floor) -> None:
        """Raise the floor to a release that was marked good; a lower one changes nothing.

        Raises ``Untrusted`` for another release of the same counter, ``BadInput`` before first contact.
        """
        binding, old = self._read("binding.json", Binding), self._read("counter.json", Counter)
        if binding is None:
            raise BadInput(text("this server trusts nobody yet"), where=self.folder, remedy=_ADOPT)
        if old is None or old.counter < floor.counter:
            new = Counter(product=binding.product, counter=floor.counter, release_sha256=floor.release_sha256)
            self._write("counter.json", new)
        elif old.counter == floor.counter and old.release_sha256 != floor.release_sha256:
            raise Untrusted(
                text("another release with the counter {counter} was marked good here", counter=old.counter),
                expected=old.release_sha256,
                seen=floor.release_sha256,
            )

    def _has_history(self) -> bool:
        return (self.folder / "counter.json").exists() or len(self._root_versions()) > 1

    def _counter_floor(self, binding: Binding) -> list[Floor]:
        found = self._read("counter.json", Counter)
        if found is None:
            return []
        if found.product != binding.product:
            raise _damaged(self.folder / "counter.json", f"it counts for {found.product}")
        return [Floor(found.counter, found.release_sha256)]

    def _counts_for(self, product: str) -> bool:
        try:
            found = self._read("counter.json", Counter)
        except Tampered:
            return False
        return found is not None and found.product == product

    def _continues(self, version: int, root: bytes) -> bool:
        try:
            held = {number: self._root(number) for number in self._root_versions()}
        except Tampered:
            return False
        return held.get(version) == root and min(held) == version

    def _root_path(self, version: int) -> Path:
        return self._roots / f"{version}.root.json"

    def _root_versions(self) -> list[int]:
        if not self._roots.is_dir():
            return []
        matches = (_ROOT_NAME.fullmatch(path.name) for path in self._roots.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    def _root(self, version: int) -> bytes:
        path = self._root_path(version)
        content = path.read_bytes()
        try:
            seen = root_version(content)
        except BanipError as error:
            raise _damaged(path, error) from error
        if seen != version:
            raise _damaged(path, f"it holds version {seen}")
        return content

    def _read(self, name: str, kind: type[_V]) -> _V | None:
        path = self.folder / name
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _damaged(path, error) from error

    def _write(self, name: str, value: Value) -> None:
        write_file(self.folder / name, canonical_json(value), _PRIVATE_FILE)


def root_version(envelope: bytes) -> int:
    """Return the version that a root envelope states; whether it is to be trusted is ``verify``'s matter."""
    payload = strict_payload(envelope_from_bytes(envelope, "root").payload, "root")
    version = payload.get("version")
    if not isinstance(version, int) or version < 1:
        raise Untrusted(text("the root states no version"), where="root")
    return version


def _damaged(path: Path, seen: object) -> Tampered:
    return Tampered(text("a file of this server's state is damaged"), where=path, seen=seen, remedy=_ADOPT)


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, _PRIVATE_FILE)


def _check_inherited(path: Path, descriptor: int) -> int:
    try:
        same = os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        same = False
    if not same:
        raise BadInput(
            text("descriptor {number} is not the lock of this root", number=descriptor), where=path
        )
    # A service that is started from here must not hold it for ever.
    fcntl.fcntl(descriptor, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    return descriptor


def _take(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 4096, 0).decode("utf-8", "replace").strip()
        pid, _, command = holder.partition(" ")
        raise AlreadyRunning(
            text("another run is at work: process {pid}: {command}", pid=pid or "?", command=command or "?"),
            where=path,
            remedy=text("wait until it has ended; a killed run leaves no lock behind"),
        ) from error
