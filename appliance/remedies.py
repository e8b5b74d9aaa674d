"""What `audit --fix` changed on the host, as values: how a change is foreseen, kept, remembered, given back.

A fix lies below ``state/fixes/<id>/`` (0700): ``fix.json`` before anything is touched, ``kept/`` what the
files held, ``ended.json`` when it is over. One without ``ended.json`` was cut off: it is half done, and can
be taken back all the same. What was applied is given to the role at every later run, so that an upgrade
keeps it.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - msgspec resolves annotations at run time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from appliance.errors import Tampered
from appliance.format import Sha256, Value, sha256_hex
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Where a remedy may reach, and names that everything which reads them takes as one word.
SPELLED = r"^/(etc|var/log|var/spool/cron|var/lib/banip|boot|root|home|usr)(/[A-Za-z0-9_.@+:~-]+)*$(?!\n)"
HostFile = Annotated[str, Meta(pattern=SPELLED)]
Bits = Annotated[str, Meta(pattern=r"^0[0-7]{3}$")]
#: What a whole file of ours is tried with before it gets its name.
Trial = Literal["none", "sshd", "sudoers", "shell"]
#: What reads a changed file again. The role's handler knows the same words.
Reload = Literal["sshd", "logind", "journald", "sysctl", "systemd", "units"]
#: The role `host` sets these itself, at every run: where it is, remedies leave them to it.
HELD_BY_HOST = frozenset({"/etc/login.defs", "/etc/issue", "/etc/issue.net", "/etc/pam.d/su"})
HELD_FOLDERS = ("/etc/profile.d/",)
_PROGRAMS: dict[Trial, str] = {"sshd": "usr/sbin/sshd", "sudoers": "usr/sbin/visudo"}
_NEW_FILE, _NEW_FOLDER = "0644", "0755"


# --- Operations: what the role is told to do ---------------------------------------------------------------


class FileWritten(Value, frozen=True, tag="file", tag_field="kind"):
    """A whole file that is the remedy's own."""

    path: HostFile
    content: str
    mode: Bits = _NEW_FILE
    trial: Trial = "none"


class LineSet(Value, frozen=True, tag="line", tag_field="kind"):
    """A line of a file of another package: in place of the last that matches, or at the end."""

    path: HostFile
    match: str
    line: str


class ModeSet(Value, frozen=True, tag="mode", tag_field="kind"):
    """Permission bits and owner of a file or folder that is there; ``owner`` None: as it is."""

    path: HostFile
    mode: Bits
    owner: Literal["root"] | None = None


class UnitMasked(Value, frozen=True, tag="mask", tag_field="kind"):
    """A unit that is stopped and cannot start; its own enablement stays as it is beneath."""

    unit: Annotated[str, Meta(pattern=r"^[A-Za-z0-9@_.:-]+\.(service|socket|timer)$")]

    @property
    def path(self) -> str:
        """Return where the mask lies."""
        return f"/etc/systemd/system/{self.unit}"


Operation = FileWritten | LineSet | ModeSet | UnitMasked


# --- What lies at a path -----------------------------------------------------------------------------------


class PathState(Value, frozen=True, omit_defaults=True):
    """A path as it is; ``sha256`` only where its content is a remedy's matter."""

    kind: Literal["absent", "file", "folder", "link", "other"] = "absent"
    mode: str = ""
    uid: int = 0
    gid: int = 0
    sha256: Sha256 | None = None
    target: str = ""


ABSENT = PathState()


@dataclass(frozen=True, slots=True)
class Seen:
    """A path's state, with the content where that is a remedy's matter."""

    state: PathState
    content: bytes | None = None


def see(root: Path, path: str, *, content: bool) -> Seen:
    """Look at a path below a root (``/``, or a test's own), without following a link at its end."""
    place = root / path.lstrip("/")
    try:
        about = place.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return Seen(ABSENT)
    kinds: dict[int, Any] = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
    kind = kinds.get(stat.S_IFMT(about.st_mode), "other")
    held = place.read_bytes() if content and kind == "file" else None
    state = PathState(
        kind=kind,
        mode="" if kind == "link" else f"{stat.S_IMODE(about.st_mode):04o}",
        uid=about.st_uid,
        gid=about.st_gid,
        sha256=sha256_hex(held) if held is not None else None,
        target=str(place.readlink()) if kind == "link" else "",
    )
    return Seen(state, held)


def after(operation: Operation, before: Seen) -> Seen:
    """Return what an operation makes of a path: what the role does, foreseen."""
    state = before.state
    if isinstance(operation, UnitMasked):
        return Seen(PathState(kind="link", target="/dev/null"))
    if isinstance(operation, FileWritten):
        return _holding(PathState(kind="file", mode=operation.mode), operation.content.encode())
    if isinstance(operation, LineSet):
        there = state if state.kind == "file" else PathState(kind="file", mode=_NEW_FILE)
        return _holding(there, with_line(before.content or b"", operation))
    if state.kind not in {"file", "folder"}:
        return before
    owner = 0 if operation.owner == "root" else state.uid
    return Seen(msgspec.structs.replace(state, mode=operation.mode, uid=owner), before.content)


def _holding(state: PathState, content: bytes) -> Seen:
    return Seen(msgspec.structs.replace(state, sha256=sha256_hex(content)), content)


def with_line(content: bytes, operation: LineSet) -> bytes:
    """Return the content with the line set, by the rules of Ansible's ``lineinfile``."""
    lines = content.decode("utf-8", "surrogateescape").splitlines(keepends=True)
    wanted = f"{operation.line}\n"
    matching = [number for number, line in enumerate(lines) if re.search(operation.match, line)]
    if matching:
        lines[matching[-1]] = wanted
    elif wanted not in lines:
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        lines.append(wanted)
    return "".join(lines).encode("utf-8", "surrogateescape")


def is_done(operation: Operation, root: Path = Path("/")) -> bool:
    """Tell whether an operation would change nothing, or has nothing left to change."""
    seen = see(root, operation.path, content=not isinstance(operation, ModeSet))
    return after(operation, seen) == seen


# --- A fix -------------------------------------------------------------------------------------------------


class Touched(Value, frozen=True):
    """A path that a fix changes: what was there, what is then; ``kept``: the file that holds what it held.

    ``passed`` are digests of contents on the way, which a run that was cut off may have left. ``whole``: the
    content is the fix's matter, and not owner and mode alone.
    """

    path: HostFile
    before: PathState
    after: PathState
    kept: str | None = None
    passed: tuple[Sha256, ...] = ()
    whole: bool = True


class Fix(Value, frozen=True):
    """``fix.json``: everything that it takes to do a fix again, or to take it back."""

    format: Literal[1]
    id: str
    at: datetime
    release: str
    grade: str
    checks: tuple[str, ...]
    operations: tuple[Operation, ...]
    touched: tuple[Touched, ...]
    reloads: tuple[Reload, ...]
    active: tuple[str, ...] = ()  # masked units that ran before
    switches: dict[str, str] = msgspec.field(default_factory=dict)  # of the kernel, as they were


class Ended(Value, frozen=True):
    """``ended.json``: how a fix ended; ``left`` are paths that somebody else had changed and that stay so."""

    outcome: Literal["applied", "undone", "returned"]
    at: datetime
    left: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Filed:
    """A fix as it lies on the disk; ``ended`` None: it was cut off."""

    folder: Path
    fix: Fix
    ended: Ended | None

    @property
    def is_half_done(self) -> bool:
        """Tell whether a run was cut off within it."""
        return self.ended is None

    @property
    def is_in_force(self) -> bool:
        """Tell whether what it changed is meant to stay."""
        return self.ended is not None and self.ended.outcome == "applied"


def fixes_folder(state: Path) -> Path:
    """Return where a server's state keeps its fixes."""
    return state / "fixes"


def filed(state: Path) -> tuple[Filed, ...]:
    """Return all fixes, the oldest first. Raises ``Tampered`` for one that cannot be read."""
    folder = fixes_folder(state)
    names = sorted(folder.iterdir()) if folder.is_dir() else []
    # Without fix.json nothing was touched yet: the run ended while it made copies.
    return tuple(_filed(path) for path in names if (path / "fix.json").exists())


def _filed(folder: Path) -> Filed:
    ended = None
    with suppress(FileNotFoundError):
        ended = _read(folder / "ended.json", Ended)
    return Filed(folder, _read(folder / "fix.json", Fix), ended)


def _read(path: Path, kind: Any) -> Any:  # noqa: ANN401 - either of two shapes
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Tampered(
            text("a file of this server's state is damaged"),
            where=path,
            seen=error,
            remedy=text("move this file away; what it kept lies beside it"),
        ) from error


# --- What the role gets ------------------------------------------------------------------------------------


def role_input(
    operations: Iterable[Operation], reloads: Iterable[Reload], root: Path = Path("/")
) -> dict[str, Any]:
    """Return the variables of the role `remedy` for these operations."""
    given: dict[str, list[Any]] = {"files": [], "lines": [], "modes": [], "masked": []}
    for one in operations:
        told = {name: value for name, value in msgspec.to_builtins(one).items() if name != "kind"}
        if isinstance(one, FileWritten):
            given["files"].append(told)
        elif isinstance(one, LineSet):
            given["lines"].append(told)
        elif isinstance(one, ModeSet):
            given["modes"].append({name: value for name, value in told.items() if value is not None})
        else:
            given["masked"].append(one.unit)
    folders = sorted({path for one in operations for path in new_folders(one, root)}, key=len)
    return {
        "remedy_folders": folders,
        **{f"remedy_{name}": values for name, values in given.items()},
        "remedy_reloads": sorted(set(reloads)),
    }


def new_folders(operation: Operation, root: Path = Path("/")) -> list[str]:
    """Return the folders that an operation needs and that are not there, the outermost first."""
    if isinstance(operation, ModeSet):
        return []
    parents = [str(parent) for parent in Path(operation.path).parents]
    return [one for one in reversed(parents) if not os.path.lexists(root / one.lstrip("/"))]


def remembered(state: Path, roles: Iterable[str], root: Path = Path("/")) -> dict[str, Any]:
    """Return what the role `remedy` is to set again, of all fixes in force: what is no more as it was set."""
    in_force = [one.fix for one in filed(state) if one.is_in_force]
    latest: dict[tuple[str, str, str], Operation] = {}
    for fix in in_force:
        latest |= {_place(one): one for one in fix.operations}
    due = [one for one in latest.values() if is_wanted(one, roles, root) and not is_done(one, root)]
    return role_input(due, [name for fix in in_force for name in fix.reloads] if due else [], root)


def own_files(state: Path, root: Path = Path("/")) -> tuple[str, ...]:
    """Return the files that fixes in force wrote, as far as they are still what was written."""
    operations = [one for each in filed(state) if each.is_in_force for one in each.fix.operations]
    written = [one for one in operations if isinstance(one, FileWritten)]
    return tuple(sorted({one.path for one in written if is_done(one, root)}))


def _place(one: Operation) -> tuple[str, str, str]:
    return type(one).__name__, one.path, one.match if isinstance(one, LineSet) else ""


def is_wanted(one: Operation, roles: Iterable[str], root: Path = Path("/")) -> bool:
    """Tell whether an operation has a place here: its program is there, no role of the release does it."""
    held = one.path in HELD_BY_HOST or one.path.startswith(HELD_FOLDERS)
    if "host" in roles and held and not isinstance(one, ModeSet):
        return False
    program = _PROGRAMS.get(one.trial) if isinstance(one, FileWritten) else None
    return program is None or (root / program).exists()


def foresee(
    operations: Iterable[Operation], root: Path = Path("/")
) -> tuple[Mapping[str, Seen], Mapping[str, list[Seen]]]:
    """Return, by path, what is there now and every state that it comes to, in order; folders too."""
    before: dict[str, Seen] = {}
    states: dict[str, list[Seen]] = {}
    operations = tuple(operations)
    whole = {one.path for one in operations if not isinstance(one, ModeSet)}
    for one in operations:
        for folder in new_folders(one, root):
            before[folder] = Seen(ABSENT)
            states[folder] = [Seen(PathState(kind="folder", mode=_NEW_FOLDER))]
        now = states[one.path][-1] if one.path in states else see(root, one.path, content=one.path in whole)
        before.setdefault(one.path, now)
        states.setdefault(one.path, []).append(after(one, now))
    return before, states
