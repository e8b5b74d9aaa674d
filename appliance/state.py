"""What one server remembers: whom it trusts, how far it has come, who is working, and what was done.

Layout under ``<root>/state`` (0700): ``lock``, ``binding.json``, ``roots/<N>.root.json``, ``counter.json``,
``journal``, and ``former/<SHA-256 of a first root>/<N>.root.json`` of whom it trusted before. A damaged file
is an error that names the remedy; nothing here is ever silently replaced.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
from msgspec import Meta

from appliance.chain import (
    ADOPT_AGAIN,
    PRIVATE_FILE,
    PRIVATE_FOLDER,
    Chain,
    damaged,
    name_of,
    root_version,
)
from appliance.clock import utc_now
from appliance.durable import make_folder, remove_file, sync_file_system, write_file
from appliance.errors import AlreadyRunning, BadInput, Tampered, Untrusted
from appliance.format import Name, Sha256, Value, canonical_json
from appliance.journal import Journal
from appliance.text import text
from appliance.verify import Floor, Trust

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime
    from pathlib import Path

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
        self.chain = Chain(self.folder / "roots")
        self._former = self.folder / "former"

    @contextmanager
    def lock(self, command: str | None = None, inherited: int | None = None) -> Iterator[Lock]:
        """Hold the one lock of this root; ``inherited`` is the descriptor that a parent passed on.

        The kernel frees it when the last process that holds the descriptor is gone, however it went.
        Raises ``AlreadyRunning`` naming the other run's pid and command.
        """
        make_folder(self.folder, PRIVATE_FOLDER)
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
            raise damaged(self.folder / "binding.json", "missing")
        if binding is None:
            return None
        root = self.chain.newest()
        if root is None:
            raise damaged(self.chain.folder, "no root is left")
        floors = [*self._counter_floor(binding), *kept]
        floor = max(floors, key=lambda one: one.counter, default=None)
        return Trust(root, binding.product, binding.site, floor, older=self._older(root))

    def _older(self, newest: bytes) -> tuple[bytes, ...]:
        """Return the roots before the newest, where all from version 1 on are here; none otherwise."""
        held = self.chain.sound()
        whole = held[-1:] == [newest] and root_version(held[0]) == 1
        return tuple(held[:-1]) if whole else ()

    def former(self, name: str) -> Chain | None:
        """Return the chain of that name if this server once trusted it: to load what is installed only."""
        chain = Chain(self._former / name)
        return chain if chain.versions() else None

    def former_names(self) -> list[str]:
        """Return the names of the chains that were trusted here before: SHA-256 of their first roots."""
        return sorted(path.name for path in self._former.iterdir()) if self._former.is_dir() else []

    def adopt(self, first: FirstContact) -> None:
        """Trust this first root from now on: first contact, and the remedy for damaged state.

        A counter of the same product stays. So do newer roots that follow the same first root, also those
        from before it was replaced: adopting again neither goes back nor forgets a revocation. Roots that
        another one replaces go to ``former``. Killed anywhere, it is run again.
        """
        root_version(first.root)
        make_folder(self.folder, PRIVATE_FOLDER)
        self.journal.set_aside_if_damaged()
        held, counts = self.chain.sound(), self._counts_for(first.product)
        goes_on = held[:1] == [first.root]
        if held and not goes_on:
            self._set_aside(held)
        if not (goes_on and counts):
            # Without it nobody is trusted while the rest changes. What goes on is never without it, or a
            # kill in between would drop the floor and every revocation.
            remove_file(self.folder / "binding.json")
        self.chain.keep_only(held if goes_on else self._known_of(first.root))
        if not counts:
            remove_file(self.folder / "counter.json")
        self._write("binding.json", Binding(product=first.product, site=first.site))

    def _set_aside(self, held: list[bytes]) -> None:
        chain = Chain(self._former / name_of(held[0]))
        if len(held) > len(chain.sound()):
            make_folder(self._former, PRIVATE_FOLDER)
            chain.keep_only(held)

    def _known_of(self, first_root: bytes) -> list[bytes]:
        former = self.former(name_of(first_root))
        return (former.sound() if former else []) or [first_root]

    def accept_roots(self, new_roots: Iterable[bytes]) -> None:
        """Store verified newer roots, each one version above the last (``BadInput`` otherwise)."""
        for root in new_roots:
            self.chain.append(root)

    def keep(self, floor: Floor) -> None:
        """Raise the floor to a release that was marked good; a lower one changes nothing.

        Raises ``Untrusted`` for another release of the same counter, ``BadInput`` before first contact.
        """
        binding, old = self._read("binding.json", Binding), self._read("counter.json", Counter)
        if binding is None:
            raise BadInput(text("this server trusts nobody yet"), where=self.folder, remedy=ADOPT_AGAIN)
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
        known = len(self.chain.versions()) > 1 or self.former_names()
        return (self.folder / "counter.json").exists() or bool(known)

    def _counter_floor(self, binding: Binding) -> list[Floor]:
        found = self._read("counter.json", Counter)
        if found is None:
            return []
        if found.product != binding.product:
            raise damaged(self.folder / "counter.json", f"it counts for {found.product}")
        return [Floor(found.counter, found.release_sha256)]

    def _counts_for(self, product: str) -> bool:
        try:
            found = self._read("counter.json", Counter)
        except Tampered:
            return False
        return found is not None and found.product == product

    def _read(self, name: str, kind: type[_V]) -> _V | None:
        path = self.folder / name
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise damaged(path, error) from error

    def _write(self, name: str, value: Value) -> None:
        write_file(self.folder / name, canonical_json(value), PRIVATE_FILE)


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE)


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
