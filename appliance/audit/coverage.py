"""How each control of each guide is answered here: by machine, in part, by a person, or not at all. Pure.

It looks at catalogues, not at a server: what an audit could show, whatever it finds. A control is automated
only where checks show all of it; where they show a part it is partial, and the part and the rest are named.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal

from appliance.audit.catalogue import Answered, Words, both, checks
from appliance.audit.controls import ANSWERED
from appliance.format import Grade, Value

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from appliance.audit.catalogue import Checklist, Control


class Count(Value, frozen=True):
    """How many controls of a guide, of one area of it where ``area`` is not None, are answered how.

    ``grade``: those that apply to it; None: all there are.
    """

    guide: str
    area: str | None
    name: Words
    grade: Grade | None
    answered: dict[Answered, int]
    total: int


class NotAutomated(Value, frozen=True):
    """A control that no check answers in full: which parts are shown, what remains, and why.

    ``registers``: of the institution; checks by them would answer the rest once they are entered.
    """

    guide: str
    id: str
    title: str
    answered: Answered
    shown: tuple[Words, ...]
    reason: Words
    ask: Words | None
    look: tuple[Words, ...]
    uncertain: tuple[Words, ...]
    registers: tuple[str, ...] = ()


class Coverage(Value, frozen=True):
    """What an audit can show of every guide."""

    format: Literal[1]
    counts: tuple[Count, ...]
    not_automated: tuple[NotAutomated, ...]


def coverage(
    guides: Iterable[Checklist], grade: Grade | None = None, declared: Collection[str] = ()
) -> Coverage:
    """Count the guides' controls, at one grade or at each, and list what is not automated with its reason.

    ``declared``: names of the institution's registers that hold today.
    """
    chosen = tuple(guides)
    grades: tuple[Grade | None, ...] = (grade,) if grade else (None, "C", "S", "O")
    return Coverage(
        format=1,
        counts=tuple(count for guide in chosen for count in _counts(guide, grades, declared)),
        not_automated=tuple(one for guide in chosen for one in _not_automated(guide, grade, declared)),
    )


def _counts(guide: Checklist, grades: tuple[Grade | None, ...], declared: Collection[str]) -> Iterator[Count]:
    graded = any(control.grades is not None for control in guide.controls)
    for grade in grades if graded else grades[:1]:
        yield _count(guide, None, Words(ko=guide.label, en=guide.label), grade, declared)
    if len(guide.areas) > 1:
        for area, name in guide.areas.items():
            yield _count(guide, area, both(name), grades[0], declared)


def _count(
    guide: Checklist, area: str | None, name: Words, grade: Grade | None, declared: Collection[str]
) -> Count:
    here = [one for one in guide.controls if area in {None, one.area}]
    asked = [one for one in here if grade is None or one.asked_at(grade)]
    found = Counter(one.answered(grade, declared) for one in asked)
    return Count(
        guide=guide.guide,
        area=area,
        name=name,
        grade=grade,
        answered={kind: found[kind] for kind in ANSWERED},
        total=len(asked),
    )


def _not_automated(
    guide: Checklist, grade: Grade | None, declared: Collection[str]
) -> Iterator[NotAutomated]:
    for control in guide.controls:
        answered = control.answered(grade, declared)
        if answered != "automated" and (grade is None or control.asked_at(grade)):
            rest = control.rest
            yield NotAutomated(
                guide=guide.guide,
                id=control.id,
                title=control.title,
                answered=answered,
                shown=tuple(_parts(control, declared)),
                reason=both(rest.reason) if rest else _told_by_checks(control, grade),
                ask=both(rest.ask) if rest and rest.ask is not None else None,
                look=tuple(both(place) for place in rest.look) if rest else (),
                uncertain=tuple(both(one.note) for one in control.uncertain),
                registers=tuple(name for name in rest.registers() if name not in declared) if rest else (),
            )


def _parts(control: Control, declared: Collection[str]) -> Iterator[Words]:
    for one in control.checks:
        about = checks().checks[one.check]
        if about.automatic and about.register in {"", *declared}:
            yield both(one.part) if one.part is not None else about.title


def _told_by_checks(control: Control, grade: Grade | None) -> Words:
    """Return why checks alone do not answer: a person answers them, or they are not asked at this grade."""
    asked = [checks().checks[one.check] for one in control.checks]
    manual = [one for one in asked if not one.automatic]
    if manual:
        return manual[0].expected.of(limit="", grade=grade or "")
    return Words(ko=f"등급 {grade}에서는 묻지 않는 점검임", en=f"not asked for at grade {grade}")


def by_grade(found: Coverage) -> Mapping[tuple[str, str | None, Grade | None], Count]:
    """Return the counts by guide, area and grade."""
    return {(one.guide, one.area, one.grade): one for one in found.counts}
