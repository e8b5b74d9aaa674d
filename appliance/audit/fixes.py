"""What `audit --fix` would do about a result, as a value; what it leaves alone, and why. Touches nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from appliance.audit.catalogue import Words, checks
from appliance.audit.checks.servers import running
from appliance.audit.facts import NotRead
from appliance.audit.fix_rules import MADE, RULES
from appliance.document import document_from_bytes, typed
from appliance.format import Value
from appliance.remedies import (
    SPELLED,
    FileWritten,
    LineSet,
    ModeSet,
    Operation,
    Reload,
    Trial,
    UnitMasked,
)
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Collection

    from appliance.audit.facts import AuditFacts
    from appliance.audit.facts_host import File
    from appliance.audit.outcome import AuditResult, Result
    from appliance.text import Text

Listing = Literal["files", "startup", "logs_files", "homes", "path_folders", "keys"]
_RUNNING = frozenset({"active", "activating", "reloading"})
_LIMIT = re.compile(r"\{limit(?:([&|])(0[0-7]{3}))?\}")


class Modes(Value, frozen=True):
    """A rule of which listed files lose the bits beyond ``most``, and get ``owner``.

    Those at ``paths`` or ``below``, all where neither is given; ``owners``: whose they may be (a name that
    ends with a dash stands for all that begin so). ``idle``: further owners that give way where none of these
    services runs; any other owner stays.
    """

    most: str
    fact: Listing = "files"
    paths: tuple[str, ...] = ()
    below: tuple[str, ...] = ()
    ending: str = ""
    kind: Literal["file", "folder"] | None = None
    owner: Literal["root"] | None = None
    owners: tuple[str, ...] = ("root",)
    idle: dict[str, tuple[str, ...]] | None = None


class Template(Value, frozen=True):
    """A whole file; its content may name the threshold."""

    path: str
    content: str
    mode: str = "0644"
    trial: Trial = "none"


class Remedy(Value, frozen=True):
    """What a fix of one check does, under which rules, and why that is safe."""

    safe: Words
    sshd: str = ""
    sudoers: str = ""
    login_defs: dict[str, str] = msgspec.field(default_factory=dict)
    files: tuple[Template, ...] = ()
    modes: tuple[Modes, ...] = ()
    services: tuple[str, ...] = ()
    made: str = ""
    rules: tuple[str, ...] = ()
    reloads: tuple[Reload, ...] = ()


class Fixes(Value, frozen=True):
    """``fixes.yaml``: every check has a fix, or a reason why a person mends it."""

    format: Literal[1]
    fixes: dict[str, Remedy]
    reasons: dict[str, Words]
    by_hand: dict[str, Annotated[tuple[str, ...], Meta(min_length=1)]]


@cache
def fixes() -> Fixes:
    """Return what may be mended by itself."""
    data = resources.files("appliance.audit").joinpath("data", "fixes.yaml").read_bytes()
    return typed(document_from_bytes(data, "fixes.yaml"), Fixes)


def automatic(name: str) -> bool:
    """Tell whether a check has a remedy that is made by itself, where its rules hold."""
    return name in fixes().fixes


@dataclass(frozen=True, slots=True)
class Planned:
    """A fix of one check: what is done, who reads it again, and why it is safe."""

    check: str
    title: Words
    operations: tuple[Operation, ...]
    reloads: tuple[Reload, ...]
    safe: Words
    by_hand: Words


@dataclass(frozen=True, slots=True)
class LeftAlone:
    """A finding that a person mends: why, and how; ``refused``: the place of its fix cannot be written."""

    check: str
    title: Words
    reason: Words
    remedy: Words
    refused: bool = False


@dataclass(frozen=True, slots=True)
class FixPlan:
    """Everything that `--fix` has to say about a result."""

    planned: tuple[Planned, ...]
    left: tuple[LeftAlone, ...]

    @property
    def operations(self) -> tuple[Operation, ...]:
        """Return all operations, in the order of the checks; the same one twice is done once."""
        return tuple(dict.fromkeys(one for fix in self.planned for one in fix.operations))

    @property
    def reloads(self) -> tuple[Reload, ...]:
        """Return who reads again what changed."""
        return tuple(sorted({name for fix in self.planned for name in fix.reloads}))


def plan_fixes(facts: AuditFacts, result: AuditResult, only: Collection[str] = ()) -> FixPlan:
    """Plan what is mended by itself of a result for those facts; ``only``: of these checks alone.

    What an exception accepts is no finding and is not touched; a threshold of the institution's is the aim.
    """
    planned, left = [], []
    for one in result.results:
        if one.status not in {"fail", "unknown"} or (only and one.id not in only):
            continue
        reason = why_not(one.id, facts, _limit(one, result.grade), unknown=one.found == "unknown")
        if reason is None:
            planned.append(_planned(one, facts, _limit(one, result.grade)))
        else:
            left.append(LeftAlone(one.id, one.title, reason, one.remedy))
    return FixPlan(tuple(planned), tuple(left))


def why_not(name: str, facts: AuditFacts, limit: str, *, unknown: bool = False) -> Words | None:
    """Say why a failed check is not mended by itself here, or None where it is."""
    if not automatic(name):
        return next(fixes().reasons[reason] for reason, names in fixes().by_hand.items() if name in names)
    if unknown:
        return words_of(text("what was not read is not changed"))
    try:
        for rule in fixes().fixes[name].rules:
            reason = RULES[rule](facts)
            if reason is not None:
                return words_of(reason)
        if not operations_for(name, facts, limit):
            return words_of(text("what is wrong here is not among what is mended by itself"))
    except NotRead as missing:
        return words_of(text("not read: {reason}", reason=missing.reason))
    return None


def is_mendable(name: str, facts: AuditFacts, limit: str, found: str) -> bool:
    """Tell whether a check's remedy is made by itself; of what failed, whether it is on this very server."""
    if found == "fail":
        return why_not(name, facts, limit) is None
    return automatic(name) and found != "unknown"


def _planned(one: Result, facts: AuditFacts, limit: str) -> Planned:
    remedy = fixes().fixes[one.id]
    reloads = set(remedy.reloads) | ({"sshd"} if remedy.sshd else set())
    operations = operations_for(one.id, facts, limit)
    if any(isinstance(each, UnitMasked) for each in operations):
        reloads.add("units")
    return Planned(one.id, one.title, operations, tuple(sorted(reloads)), remedy.safe, one.remedy)  # type: ignore[arg-type]


def _limit(one: Result, grade: Any) -> str:  # noqa: ANN401 - a grade
    return one.tailored.value if one.tailored else checks().checks[one.id].limits.get(grade, "")


def words_of(said: Text) -> Words:
    """Return a sentence of ours in both languages."""
    return Words(ko=said.render("ko"), en=said.render("en"))


# --- Operations --------------------------------------------------------------------------------------------


def operations_for(name: str, facts: AuditFacts, limit: str) -> tuple[Operation, ...]:
    """Return what mends a check for those facts. Raises ``NotRead``."""
    remedy = fixes().fixes[name]
    found: list[Operation] = list(MADE[remedy.made](facts)) if remedy.made else []
    for rule in remedy.modes:
        found += _modes(rule, facts, limit)
    if remedy.modes and not found:
        return ()  # the files beside it only keep what these set
    found += _written(name, remedy, limit)
    found += [
        LineSet("/etc/login.defs", rf"^#?\s*{key}\s", f"{key}\t{_filled(value, limit)}")
        for key, value in remedy.login_defs.items()
    ]
    if remedy.services:
        found += [UnitMasked(line.split()[0]) for line in running(facts, remedy.services)]
    return tuple(found)


def _written(name: str, remedy: Remedy, limit: str) -> list[Operation]:
    short = name.partition(".")[2]
    given = [*remedy.files]
    if remedy.sshd:
        path = f"/etc/ssh/sshd_config.d/00-banip-remedy-{short}.conf"
        given.append(Template(path, remedy.sshd, "0600", "sshd"))
    if remedy.sudoers:
        given.append(Template(f"/etc/sudoers.d/zz-banip-remedy-{short}", remedy.sudoers, "0440", "sudoers"))
    return [FileWritten(one.path, _filled(one.content, limit), one.mode, one.trial) for one in given]


def _filled(template: str, limit: str) -> str:
    """Put the threshold where the template names it, or its bits within, or with, others."""

    def fill(found: re.Match[str]) -> str:
        if not found[1]:
            return limit
        bits = int(found[2], 8)
        return f"{int(limit, 8) & bits if found[1] == '&' else int(limit, 8) | bits:04o}"

    return _LIMIT.sub(fill, template)


def _modes(rule: Modes, facts: AuditFacts, limit: str) -> list[Operation]:
    most, found = int(_filled(rule.most, limit), 8), list[Operation]()
    for one in getattr(facts, rule.fact).get():
        if not _is_meant(one, rule):
            continue
        owner = rule.owner if rule.owner and _gives_way(one, rule, facts) else None
        if one.bits & ~most or owner:
            found.append(ModeSet(one.path, f"{one.bits & most:04o}", owner))
    return found


def _is_meant(one: File, rule: Modes) -> bool:
    if one.kind not in ((rule.kind,) if rule.kind else ("file", "folder")):
        return False
    placed = one.path in rule.paths or one.path.startswith(rule.below) if rule.paths or rule.below else True
    return placed and one.path.endswith(rule.ending) and re.match(SPELLED, one.path) is not None


def _gives_way(one: File, rule: Modes, facts: AuditFacts) -> bool:
    """Tell whether a file has an owner that it should not have, and that loses nothing."""
    if any(one.owner == name or (name.endswith("-") and one.owner.startswith(name)) for name in rule.owners):
        return False
    if rule.idle is None:
        return True
    writers = rule.idle.get(one.owner)
    if writers is None:
        return False
    units = facts.services.get()
    return not any(each.active in _RUNNING and each.name.rpartition(".")[0] in writers for each in units)
