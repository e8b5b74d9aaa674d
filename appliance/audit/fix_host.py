"""Fixes on the disk: what is kept before a change, the change by the role, the way back.

The role changes the host and nothing else does; the way back needs no role, so it works without a release.
"""

from __future__ import annotations

import difflib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.audit.fix_places import blocked
from appliance.audit.fix_rules import leading_first, switches_of
from appliance.audit.fixes import FixPlan, LeftAlone, words_of
from appliance.durable import fresh_file, make_folder, remove_file, sync_folder, write_all, write_file
from appliance.format import canonical_json
from appliance.host import run
from appliance.remedies import (
    Ended,
    Filed,
    Fix,
    ModeSet,
    PathState,
    Touched,
    UnitMasked,
    fixes_folder,
    foresee,
    see,
)
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from appliance.audit.fixes import Planned
    from appliance.remedies import Operation, Reload, Seen

HOST = Path("/")
PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600
#: How what was changed back is read again; the role's handler does the same when it changes something.
RELOADS: dict[Reload, tuple[tuple[str, ...], ...]] = {
    "sshd": (("sshd", "-t"), ("systemctl", "reload", "ssh.service")),
    "logind": (("systemctl", "kill", "--kill-who=main", "--signal=HUP", "systemd-logind.service"),),
    "journald": (("systemctl", "restart", "systemd-journald.service"), ("journalctl", "--flush")),
    "systemd": (("systemctl", "daemon-reexec"),),
    "units": (("systemctl", "daemon-reload"),),
    "sysctl": (),  # its switches are put back one by one, to what they were
}


# --- What would change -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """A path as it is and as a fix makes it."""

    path: str
    before: Seen
    after: Seen

    def lines(self) -> list[str]:
        """Return what changes as a person reads it: rights in a line, content as a unified diff."""
        old, new = self.before.state, self.after.state
        found = []
        if new.kind == "link":
            found.append(f"{self.path} -> {new.target}")
        elif (old.mode, old.uid) != (new.mode, new.uid):
            found.append(f"{self.path}: {_spelled(old)} -> {_spelled(new)}")
        if new.kind == "file" and old.sha256 != new.sha256:
            old_lines, new_lines = _lines(self.before), _lines(self.after)
            found += difflib.unified_diff(old_lines, new_lines, self.path, self.path, lineterm="", n=1)
        return found


def _spelled(state: PathState) -> str:
    return f"{state.mode} uid {state.uid}" if state.kind != "absent" else "-"


def _lines(seen: Seen) -> list[str]:
    return (seen.content or b"").decode("utf-8", "replace").splitlines()


def changes(operations: Iterable[Operation], root: Path = HOST) -> tuple[Change, ...]:
    """Return what these operations change now, by path; nothing where everything is so already."""
    before, states = foresee(operations, root)
    found = (Change(path, before[path], states[path][-1]) for path in states)
    return tuple(one for one in found if one.before != one.after)


def possible(plan: FixPlan, root: Path = HOST) -> FixPlan:
    """Return the plan without fixes that cannot be done, or that have nothing to change; each says why."""
    planned, left = [], list(plan.left)
    for one in plan.planned:
        why = _left_alone(one, root)
        if why is None:
            planned.append(one)
        else:
            left.append(why)
    return FixPlan(tuple(planned), tuple(left))


def _left_alone(one: Planned, root: Path) -> LeftAlone | None:
    """Return why a fix is left to a person: a link or a refusal in its way, or it is in place already."""
    strange = next((each.path for each in one.operations if _is_in_the_way(each, root)), None)
    if strange is not None:
        reason = text("{path} is no plain file: it is not changed by itself", path=strange)
        return LeftAlone(one.check, one.title, words_of(reason), one.by_hand)
    changed = {each.path for each in changes(one.operations, root)}
    if not changed:
        reason = text("its fix is in place already, and does not help")
        return LeftAlone(one.check, one.title, words_of(reason), one.by_hand)
    refusals = (blocked(each, root) for each in one.operations if each.path in changed)
    found = next((each for each in refusals if each is not None), None)
    if found is None:
        return None
    return LeftAlone(one.check, one.title, words_of(found.reason), words_of(found.remedy), refused=True)


def _is_in_the_way(one: Operation, root: Path) -> bool:
    kind = see(root, one.path, content=False).state.kind
    if isinstance(one, UnitMasked):
        return kind not in {"absent", "link"}
    return kind not in ({"file", "folder"} if isinstance(one, ModeSet) else {"absent", "file"})


# --- Before a change ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Purpose:
    """Why a fix is made: when, of which release, for which grade."""

    at: datetime
    release: str
    grade: str


def keep(plan: FixPlan, purpose: Purpose, state: Path, root: Path = HOST) -> Filed:
    """Keep all that a plan touches, durably, and write down what it does; nothing is changed yet."""
    folder = _fresh_folder(state, purpose.at)
    make_folder(folder / "kept", PRIVATE_FOLDER)
    fix = Fix(
        format=1,
        id=folder.name,
        at=purpose.at,
        release=purpose.release,
        grade=purpose.grade,
        checks=tuple(one.check for one in plan.planned),
        operations=plan.operations,
        touched=tuple(_keep_paths(plan.operations, folder / "kept", root)),
        reloads=plan.reloads,
        active=_active([one.unit for one in plan.operations if isinstance(one, UnitMasked)], root),
        switches={
            name: place.read_text("ascii").strip()
            for name in switches_of(plan.operations)
            if (place := _switch(name, root)).exists()
        },
    )
    write_file(folder / "fix.json", canonical_json(fix), PRIVATE_FILE)
    return Filed(folder, fix, None)


def _fresh_folder(state: Path, at: datetime) -> Path:
    make_folder(fixes_folder(state), PRIVATE_FOLDER)
    name = f"{at:%Y%m%dT%H%M%SZ}"
    taken = {path.name for path in fixes_folder(state).iterdir()}
    names = (name, *(f"{name}-{number}" for number in range(2, len(taken) + 3)))
    folder = fixes_folder(state) / next(one for one in names if one not in taken)
    make_folder(folder, PRIVATE_FOLDER)
    return folder


def _keep_paths(operations: tuple[Operation, ...], kept: Path, root: Path) -> Iterator[Touched]:
    before, states = foresee(operations, root)
    modes_alone = {one.path for one in operations if isinstance(one, ModeSet)}
    modes_alone -= {one.path for one in operations if not isinstance(one, ModeSet)}
    for number, path in enumerate(states):
        content = before[path].content
        if content is not None:
            write_file(kept / str(number), content, PRIVATE_FILE)
        yield Touched(
            path=path,
            before=before[path].state,
            after=states[path][-1].state,
            kept=str(number) if content is not None else None,
            passed=tuple(one.state.sha256 for one in states[path][:-1] if one.state.sha256),
            whole=path not in modes_alone,
        )


def _active(units: list[str], root: Path) -> tuple[str, ...]:
    if root != HOST:
        return ()
    return tuple(
        one for one in units if run("systemctl", "is-active", one, check=False).stdout.strip() == "active"
    )


def _switch(name: str, root: Path) -> Path:
    return root.joinpath("proc", "sys", *name.split("."))


# --- After a change ----------------------------------------------------------------------------------------


def unlike(filed: Filed, root: Path = HOST) -> tuple[str, ...]:
    """Return the paths that are not what the fix was to make of them."""
    return tuple(
        one.path for one in filed.fix.touched if see(root, one.path, content=one.whole).state != one.after
    )


def end(filed: Filed, ended: Ended) -> None:
    """Write down how a fix ended, durably."""
    write_file(filed.folder / "ended.json", canonical_json(ended), PRIVATE_FILE)


# --- The way back ------------------------------------------------------------------------------------------


def give_back(filed: Filed, root: Path = HOST) -> tuple[str, ...]:
    """Give back everything as it was; return the paths that somebody changed since, which stay as they are.

    May be done again after it was cut off. Read again by their programs afterwards is ``settle``'s part.
    """
    return tuple(one.path for one in reversed(filed.fix.touched) if not _give_back(one, filed, root))


def _give_back(one: Touched, filed: Filed, root: Path) -> bool:
    now = see(root, one.path, content=one.whole).state
    if now == one.before:
        return True
    if not _is_ours(now, one, half_done=filed.is_half_done):
        return False
    place = root / one.path.lstrip("/")
    if one.before.kind == "absent":
        return _remove(place)
    if one.whole and one.kept is not None:
        _put(place, (filed.folder / "kept" / one.kept).read_bytes(), one.before)
    else:
        _set_rights(place, one.before)
    return True


def _is_ours(now: PathState, one: Touched, *, half_done: bool) -> bool:
    """Tell whether a path is what the fix made of it; what was cut off may be anything on the way."""
    if not half_done or now.kind != "file":
        return now == one.after
    if one.whole:
        return now.sha256 in {one.before.sha256, one.after.sha256, *one.passed}
    return now.mode in {one.before.mode, one.after.mode} and now.uid in {one.before.uid, one.after.uid}


def _remove(place: Path) -> bool:
    """Remove what the fix made; a folder only where nobody put anything into it."""
    if not place.is_dir() or place.is_symlink():
        remove_file(place)
        return True
    with suppress(OSError):
        place.rmdir()
        sync_folder(place.parent)
    return not place.exists()


def _put(place: Path, content: bytes, state: PathState) -> None:
    """Replace a file as a whole, with owner and mode, durably."""
    new = place.with_name(f".{place.name}.banip-undo")
    with fresh_file(new) as descriptor:
        write_all(descriptor, content)
        os.fchown(descriptor, state.uid, state.gid)
        os.fchmod(descriptor, int(state.mode, 8))
        os.fsync(descriptor)
        new.rename(place)
        sync_folder(place.parent)


def _set_rights(place: Path, state: PathState) -> None:
    descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.fchown(descriptor, state.uid, state.gid)
        os.fchmod(descriptor, int(state.mode, 8))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def settle(fix: Fix) -> tuple[str, ...]:
    """Let what was given back take effect on this host; return what did not, in the programs' own words."""
    names = leading_first(fix.switches)
    faults = [fault for name in names for fault in _put_switch(name, fix.switches[name])]
    series = [RELOADS[name] for name in fix.reloads]
    series += [(("systemctl", "start", unit),) for unit in fix.active]
    for commands in series:
        for argv in commands:
            done = run(*argv, check=False)
            if done.returncode != 0:
                faults.append(f"{' '.join(argv)}: {done.stderr.strip()[-300:]}")
                break  # what its program refuses is not loaded
    return tuple(faults)


def _put_switch(name: str, value: str) -> list[str]:
    place = _switch(name, HOST)
    try:
        if place.read_text("ascii").strip() != value:
            place.write_text(value, "ascii")
    except OSError as error:  # some switches the kernel lets go one way only until it starts again
        return [f"{name} = {value}: {error.strerror}"]
    return []
