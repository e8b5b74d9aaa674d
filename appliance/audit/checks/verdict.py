"""What a check answers, and how checks are known by their ids."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from appliance.audit.facts import NotRead
from appliance.audit.registers import Declared
from appliance.text import Text, text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from appliance.audit.facts import AuditFacts
    from appliance.audit.facts_host import File, Line
    from appliance.format import Grade

Status = Literal["pass", "fail", "manual", "not-applicable", "unknown"]
SHOWN_MOST = 8
WRITE = 0o022
NOTHING = text("none found")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the audit asks of a check: the grade, the threshold of that grade where the check has one.

    ``declared``: what the institution says should be here.
    """

    grade: Grade
    limit: str = ""
    declared: Declared = field(default_factory=Declared)

    @property
    def number(self) -> float:
        """Return the threshold as a number."""
        return float(self.limit)

    @property
    def bits(self) -> int:
        """Return the threshold as permission bits."""
        return int(self.limit, 8)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a check came out: what was seen, and where (a path with its line, or a command)."""

    status: Status
    observed: Text
    where: str


Judge = "Callable[[AuditFacts, Asked], Verdict]"
CHECKS: dict[str, Callable[[AuditFacts, Asked], Verdict]] = {}


def check(
    name: str,
) -> Callable[[Callable[[AuditFacts, Asked], Verdict]], Callable[[AuditFacts, Asked], Verdict]]:
    """Register a judgement under an id. ``KeyError`` for one that is given twice."""

    def register(
        judge: Callable[[AuditFacts, Asked], Verdict],
    ) -> Callable[[AuditFacts, Asked], Verdict]:
        if name in CHECKS:
            raise KeyError(name)
        CHECKS[name] = judge
        return judge

    return register


def judge_one(name: str, facts: AuditFacts, asked: Asked) -> Verdict:
    """Return the verdict of a check; a fact not read or not understood makes it ``unknown``, and says why."""
    try:
        return CHECKS[name](facts, asked)
    except NotRead as missing:
        return Verdict("unknown", text("not read: {reason}", reason=missing.reason), missing.source)
    except (ValueError, LookupError, ArithmeticError) as odd:
        # A setting spelled as nobody expected must not end the audit.
        return Verdict("unknown", text("not understood: {reason}", reason=repr(odd)), "")


def passed(observed: Text, where: str) -> Verdict:
    """Say that the check holds."""
    return Verdict("pass", observed, where)


def failed(observed: Text, where: str) -> Verdict:
    """Say that it does not."""
    return Verdict("fail", observed, where)


def not_applicable(observed: Text, where: str) -> Verdict:
    """Say that there is nothing here which the check is about."""
    return Verdict("not-applicable", observed, where)


def verdict(observed: Text, where: str, *, holds: bool) -> Verdict:
    """Say whether the check holds, with the same observation either way."""
    return passed(observed, where) if holds else failed(observed, where)


def unless(found: Sequence[str], where: str, otherwise: Text = NOTHING) -> Verdict:
    """Fail with what was found; pass where that is nothing, saying what was looked at instead."""
    return failed(listed(found), where) if found else passed(otherwise, where)


def unknown(observed: Text, where: str) -> Verdict:
    """Say that nobody can tell from what was read."""
    return Verdict("unknown", observed, where)


def setting(lines: Iterable[Line], name: str) -> Line | None:
    """Return the line of login.defs that counts: the last one of that name."""
    found = [line for line in lines if line.text.split()[0] == name and len(line.text.split()) > 1]
    return found[-1] if found else None


def at(line: Line) -> str:
    """Return where a line stands."""
    return f"{line.path}:{line.number}"


def listed(found: Collection[str]) -> Text:
    """Return the names, at most eight of them, and how many there are."""
    names = "; ".join(list(found)[:SHOWN_MOST])
    if len(found) <= SHOWN_MOST:
        return text("{names}", names=names)
    return text("{count} in all: {names} ...", count=len(found), names=names)


def spelled(file: File) -> str:
    """Return a file with owner and mode in one word group."""
    leads = f" -> {file.to_owner} {file.to_mode}" if file.to_owner else ""
    return f"{file.path} {file.owner}:{file.group} {file.mode}{leads}"


def too_open(files: Iterable[File], most: int, owners: Collection[str] = ("root",)) -> list[str]:
    """Return the files with a foreign owner or with bits beyond ``most``.

    Of a link it counts who may write to what it leads to; where it leads nowhere, it has no owner.
    """
    return [spelled(file) for file in files if _is_too_open(file, most, owners)]


def _is_too_open(file: File, most: int, owners: Collection[str]) -> bool:
    if file.kind == "link":
        return bool(file.to_owner) and (
            file.to_owner not in owners or bool(int(file.to_mode, 8) & ~most & WRITE)
        )
    return file.kind != "absent" and (file.owner not in owners or bool(file.bits & ~most & 0o7777))
