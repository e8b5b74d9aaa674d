"""The catalogues as data: our checks, and the controls of the guides that they are evidence for.

Of the guides only indices are here: number, title, grade or importance, edition. Which check is evidence for
which control, and for which part of it, is our judgement; whether a control is met is the institution's.
The one home of checklists is ``manifests/checklists``; a wheel of the appliance has them beside this module.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from appliance.format import Grade, Name, Value

if TYPE_CHECKING:
    from collections.abc import Collection

Importance = Literal["high", "medium", "low"]
Kind = Literal["manual", "institution", "not-applicable"]
#: How a control is answered: by machine, by machine in part, or as its ``kind`` says.
Answered = Literal["automated", "partial", "manual", "institution", "not-applicable"]
Filled = Annotated[str, Meta(min_length=1, max_length=4000)]
Short = Annotated[str, Meta(min_length=1, max_length=300)]
ControlId = Annotated[str, Meta(pattern=r"^[\w.()-]{1,40}$")]
Grades = Annotated[str, Meta(pattern=r"^C?S?O?$")]

#: In a wheel of the appliance; hatch puts them there (``force-include`` in pyproject.toml).
_PACKED = Path(str(resources.files("appliance.audit"))) / "checklists"
_HOME = Path(__file__).parents[2] / "manifests" / "checklists"


class Words(Value, frozen=True):
    """The same words in both languages."""

    ko: str
    en: str

    def of(self, **values: str) -> Words:
        """Return the words with values put into their braces."""
        return Words(ko=self.ko.format(**values), en=self.en.format(**values))


#: An institution writes in its own language; Banip in both.
Said = Words | Filled


def both(said: Said) -> Words:
    """Return words for both languages, whichever way they were written."""
    return said if isinstance(said, Words) else Words(ko=said, en=said)


class Check(Value, frozen=True):
    """What is said about a check; ``limits``: its threshold for each grade, and which way is stricter.

    ``needs_certificate``: it is about validated cryptography, which a site proves by certificate alone.
    ``register``: the institution's register that it goes by; without it the check is a person's to answer.
    """

    title: Words
    area: str
    importance: Importance
    grades: str
    automatic: bool
    expected: Words
    remedy: Words
    limits: dict[Grade, str] = msgspec.field(default_factory=dict)
    stricter: Literal["lower", "higher"] = "lower"
    needs_certificate: bool = False
    register: str = ""


class Checks(Value, frozen=True):
    """``checks.json``."""

    format: Literal[1]
    areas: dict[str, Words]
    checks: dict[str, Check]


class Evidence(Value, frozen=True, omit_defaults=True):
    """A check that shows something of a control: all of it, or the ``part`` that is named."""

    check: Short
    shows: Literal["full", "part"]
    part: Said | None = None


class Rest(Value, frozen=True, omit_defaults=True):
    """What no check shows of a control: why, what to ask, and what to look at (files, commands).

    ``settled_by``: checks by registers that answer it together, once the institution has entered these.
    """

    kind: Kind
    reason: Said
    ask: Said | None = None
    look: tuple[Said, ...] = ()
    settled_by: tuple[Short, ...] = ()

    def registers(self) -> tuple[str, ...]:
        """Return the registers by which it would be settled, each once."""
        return tuple(dict.fromkeys(checks().checks[one].register for one in self.settled_by))


class Uncertain(Value, frozen=True):
    """A cell of the index on which its sources disagree; the institution's copy of the guide decides."""

    cell: Literal["title", "meaning", "importance", "grades"]
    note: Said


class Control(Value, frozen=True, omit_defaults=True):
    """One numbered item of a guide.

    A control without ``rest`` is answered by its checks: by one that shows all of it, or, where it says
    ``together: full``, by parts that are the whole together. ``grades``: those that it applies to; none
    given: every server. ``earlier``: its numbers in the edition before. ``clause``: the guide's text, as the
    institution put it there. ``key``: the guide calls it a key measure for what Banip is, internal-only AI.
    """

    id: ControlId
    title: Short
    area: Name
    section: str = ""
    importance: Importance | None = None
    grades: Grades | None = None
    managerial: bool = False
    key: bool = False
    earlier: tuple[Short, ...] = ()
    uncertain: tuple[Uncertain, ...] = ()
    checks: tuple[Evidence, ...] = ()
    together: Literal["full"] | None = None
    rest: Rest | None = None
    clause: str = ""

    def asked_at(self, grade: Grade) -> bool:
        """Tell whether the guide asks this control of a server of that grade."""
        return self.grades is None or grade in self.grades

    def answered(self, grade: Grade | None = None, declared: Collection[str] = ()) -> Answered:
        """Say how the control is answered, at a grade or by all there is. ``KeyError`` for an unknown check.

        A check that is not asked for at the grade is no evidence there, and neither is one that only a
        person can answer, or that goes by a register which is not among those ``declared``.
        """
        if self.rest is not None and self.rest.kind == "not-applicable":
            return "not-applicable"
        asked = [checks().checks[one.check] for one in self.checks]
        asked = [one for one in asked if grade is None or grade in one.grades]
        by_machine = [one for one in asked if one.automatic and one.register in {"", *declared}]
        if by_machine:
            left = self.rest is not None and not (
                self.rest.settled_by and set(self.rest.registers()) <= {*declared}
            )
            return "partial" if left or len(by_machine) < len(asked) else "automated"
        if asked or self.rest is None:
            return "manual" if asked else "not-applicable"
        return self.rest.kind


class Checklist(Value, frozen=True, omit_defaults=True):
    """A guide, or an institution's own checklist; ``guide``: its short name, ``label``: what tables say."""

    format: Literal[1]
    guide: Name
    label: Short
    title: Said
    edition: Short
    areas: Annotated[dict[Name, Said], Meta(min_length=1)]
    controls: Annotated[tuple[Control, ...], Meta(min_length=1)]
    notes: tuple[Said, ...] = ()


class Clause(Value, frozen=True, omit_defaults=True):
    """What a site adds to a control of a guide: its text, and the grades where the index is uncertain."""

    id: ControlId
    clause: str = ""
    grades: Grades | None = None


class Extension(Value, frozen=True):
    """A site's additions to a guide that Banip brings."""

    format: Literal[1]
    extends: Name
    controls: Annotated[tuple[Clause, ...], Meta(min_length=1)]


class Item(Value, frozen=True):
    """A control as a check refers to it; ``about`` is its importance or the grades that it applies to."""

    guide: str
    label: str
    id: str
    title: str
    shows: Literal["full", "part"]
    about: str = ""


@cache
def checks() -> Checks:
    """Return our checks."""
    data = resources.files("appliance.audit").joinpath("data", "checks.json").read_text("utf-8")
    return msgspec.json.decode(data, type=Checks)


def checklists_folder() -> Path:
    """Return where the checklists are that came with this appliance: in its wheel, or in the project."""
    return _PACKED if _PACKED.is_dir() else _HOME
