"""Who may ask: API keys, kept as digests, each with a clearance (grade) and a role.

A key is 32 random bytes, so one SHA-256 is enough: there is nothing to guess that a slow hash would protect.
The file belongs to the API's account and is written as a whole; the service reads it again when it changes.
The grade of the server itself is a ceiling: the API never gives a key more than the server's own grade.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import hmac
import os
import re
import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - msgspec reads the annotation
from typing import TYPE_CHECKING, Literal

import msgspec

from appliance.durable import fresh_file, rename_durably, write_all
from appliance.errors import BadInput, Tampered, UnfitServer
from appliance.format import Grade, Value
from appliance.rag.passages import GRADES_RISING, readable_grades
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Role = Literal["user", "admin"]
KEY_PREFIX = "banip_"
KEY_BYTES = 32
_NAME = re.compile(r"[\w.@-]{1,64}")


class User(Value, frozen=True):
    """One key: who holds it, what it may read, what it may do. ``sha256`` is the digest of the whole key."""

    name: str
    sha256: str
    grade: Grade
    role: Role
    created: datetime
    disabled: bool = False


class Users(Value, frozen=True):
    """Everyone, in the order in which they were added."""

    format: Literal[1] = 1
    users: tuple[User, ...] = ()

    def named(self, name: str) -> User | None:
        """Return the user of that name, or None."""
        return next((user for user in self.users if user.name == name), None)

    def holder(self, key: str) -> User | None:
        """Return whose key it is, or None; every digest is compared, each in constant time."""
        digest = digest_of(key)
        found = [user for user in self.users if hmac.compare_digest(user.sha256, digest)]
        return next((user for user in found if not user.disabled), None)

    def with_user(self, user: User) -> Users:
        """Return these and one more; the same name is replaced."""
        return Users(users=(*(each for each in self.users if each.name != user.name), user))


def new_key() -> str:
    """Return a fresh key: the prefix, then 32 random bytes in URL-safe base64."""
    return KEY_PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).rstrip(b"=").decode()


def digest_of(key: str) -> str:
    """Return what is kept of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def within(grade: Grade, clearance: Grade) -> bool:
    """Say whether who is cleared for ``clearance`` may read ``grade`` (O < S < C)."""
    return grade in readable_grades(clearance)


def lower(one: Grade, other: Grade) -> Grade:
    """Return the lower of two grades: what a key may read on a server of that grade."""
    return min(one, other, key=GRADES_RISING.index)


@dataclass(frozen=True, slots=True)
class UserFile:
    """The users on disk."""

    path: Path

    def read(self) -> Users:
        """Return everyone; a missing file is nobody. Raises ``Tampered`` for a damaged one."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Users)
        except FileNotFoundError:
            return Users()
        except msgspec.DecodeError as error:  # ValidationError is one
            raise Tampered(
                text("the file of API keys is damaged"),
                where=self.path,
                seen=error,
                remedy=text("remove the file and make the keys again with `appliance user add`"),
            ) from error

    def add(self, name: str, grade: Grade, role: Role, created: datetime) -> str:
        """Make a key for a new name and return it: it is not kept, and cannot be shown again."""
        if not _NAME.fullmatch(name):
            raise BadInput(
                text("a user's name has 1 to 64 letters, digits, dots, dashes or underscores"), seen=name
            )
        with self._changing() as users:
            if users.named(name):
                raise BadInput(
                    text("there is a key of this name already"),
                    where=name,
                    remedy=text("choose another name; a disabled key keeps its name for the log"),
                )
            return self._put(users, name, grade, role, created)

    def replace(self, name: str, grade: Grade, role: Role, created: datetime) -> str:
        """Make a key under a name whether or not there was one."""
        with self._changing() as users:
            return self._put(users, name, grade, role, created)

    def disable(self, name: str) -> bool:
        """Refuse a key from now on; return whether that changed anything."""
        with self._changing() as users:
            user = users.named(name)
            if user is None:
                raise BadInput(text("there is no key of this name"), where=name)
            if user.disabled:
                return False
            changed = msgspec.structs.replace(user, disabled=True)
            rest = tuple(changed if each is user else each for each in users.users)
            self._write(Users(users=rest))
            return True

    def _put(self, users: Users, name: str, grade: Grade, role: Role, created: datetime) -> str:
        key = new_key()
        user = User(name=name, sha256=digest_of(key), grade=grade, role=role, created=created)
        self._write(users.with_user(user))
        return key

    @contextmanager
    def _changing(self) -> Iterator[Users]:
        """Give what is there now, and keep other writers out until the block ends."""
        try:
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise UnfitServer(
                text("no API is installed on this server"),
                where=self.path.parent,
                remedy=text("install a release that has the API, then run the same command"),
            ) from error
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield self.read()
        finally:
            os.close(folder)

    def _write(self, users: Users) -> None:
        """Replace the file; who owns the folder owns it, before it gets its name."""
        content = msgspec.json.format(msgspec.json.encode(users), indent=1) + b"\n"
        new = self.path.with_name(f".{self.path.name}.new")
        owner = self.path.parent.stat()
        with fresh_file(new) as descriptor:
            write_all(descriptor, content)
            if os.geteuid() == 0:
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            os.fsync(descriptor)
        rename_durably(new, self.path)


class LiveUsers:
    """The users as a running service sees them: read again when the file is another one than before."""

    def __init__(self, file: UserFile) -> None:
        self._file = file
        self._seen: tuple[int, int, int] | None = None
        self._users = Users()

    def now(self) -> Users:
        """Return everyone as of now. Raises ``Tampered`` for a damaged file: nobody gets in then."""
        mark = self._mark()
        if mark is None or mark != self._seen:
            self._users, self._seen = self._file.read(), mark
        return self._users

    def _mark(self) -> tuple[int, int, int] | None:
        try:
            found = self._file.path.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
