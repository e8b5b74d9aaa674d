"""Checklists read: those that Banip brings, an institution's own, and its additions to ours. One reader.

A checklist that contradicts itself is refused with every problem at its line: the audit would show green, or
nothing, for a control that nobody meant so.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, TypeVar

import msgspec

from appliance.audit.catalogue import Checklist, Extension, Item, checklists_folder, checks
from appliance.document import document_from_bytes, read_document, typed
from appliance.problems import BadInputs, refuse
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from appliance.audit.catalogue import Clause, Control, Importance
    from appliance.document import Document
    from appliance.problems import Problem
    from appliance.text import Text

#: The guides that Banip brings, in the order in which reports show them.
GUIDES = ("kisa", "n2sf", "nis")
IMPORTANCE_WORDS: dict[Importance, str] = {"high": "상", "medium": "중", "low": "하"}
_Numbered = TypeVar("_Numbered", "Control", "Clause")


@cache
def guides() -> dict[str, Checklist]:
    """Return the guides that Banip brings, by their short names."""
    folder = checklists_folder()
    return {name: read_checklist(folder / f"{name}.yaml", f"{name}.yaml") for name in GUIDES}


def read_checklist(path: Path, name: str) -> Checklist:
    """Read a checklist. Raises ``BadInputs`` with the line of everything wrong; ``name`` is said in them."""
    return _checked(read_document(path, name, plain_dates=True))


def read_own(content: bytes, name: str, known: Mapping[str, Checklist]) -> Checklist:
    """Read a site's file: a checklist of its own, or additions to a known one, which is returned with them.

    Raises ``BadInputs``.
    """
    document = document_from_bytes(content, name, plain_dates=True)
    if isinstance(document.value, dict) and "extends" in document.value:
        return _extended(document, known)
    own = _checked(document)
    if own.guide in known:
        said = text("there is a guide of this name already: {name}", name=own.guide)
        refuse(document.name, [document.problem(("guide",), said)])
    return own


def items_by_check(known: Mapping[str, Checklist]) -> dict[str, tuple[Item, ...]]:
    """Return, for each check, the controls of every guide that it is evidence for."""
    found: dict[str, list[Item]] = {}
    for guide in known.values():
        for control in guide.controls:
            for one in control.checks:
                item = Item(
                    guide=guide.guide,
                    label=guide.label,
                    id=control.id,
                    title=control.title,
                    shows=one.shows,
                    about=about(control),
                )
                found.setdefault(one.check, []).append(item)
    return {name: tuple(items) for name, items in found.items()}


def about(control: Control) -> str:
    """Return a control's importance or grades, as its guide writes them."""
    return IMPORTANCE_WORDS[control.importance] if control.importance else control.grades or ""


# --- What a type cannot say --------------------------------------------------------------------------------


def _checked(document: Document) -> Checklist:
    found = typed(document, Checklist)
    problems = [*_twice(document, found.controls)]
    for number, control in enumerate(found.controls):
        problems += (document.problem(("controls", number), said) for said in _faults(control, found))
        problems += _strangers(document, number, control)
    refuse(document.name, problems)
    return found


def _twice(document: Document, controls: tuple[_Numbered, ...]) -> Iterator[Problem]:
    counts = Counter(control.id for control in controls)
    for number, control in enumerate(controls):
        if counts[control.id] > 1:
            yield document.problem(
                ("controls", number, "id"), text("this number stands twice: {id}", id=control.id)
            )


def _faults(control: Control, guide: Checklist) -> Iterator[Text]:
    """Yield what is wrong with one control; nothing may turn green by an omission."""
    shows = {one.shows for one in control.checks}
    if control.area not in guide.areas:
        yield text("there is no area {name} in this checklist", name=control.area)
    if not control.checks and control.rest is None:
        yield text("a control needs a check, or a rest that says who answers it")
    if "full" in shows and (control.rest or control.together):
        yield text("a check shows all of this control, so nothing is left: take rest and together out")
    if shows == {"part"} and (control.rest is None) == (control.together is None):
        yield text(
            "parts alone never answer a control: say in rest what is left, or together: full where nothing is"
        )
    if control.checks and control.rest and control.rest.kind == "not-applicable":
        yield text("a control that is not applicable has no check")
    if control.rest and not {*control.rest.settled_by} <= {one.check for one in control.checks}:
        yield text("settled_by names checks of this control")
    if control.together and not control.checks:
        yield text("together needs checks")


def _strangers(document: Document, number: int, control: Control) -> Iterator[Problem]:
    for place, one in enumerate(control.checks):
        here = ("controls", number, "checks", place, "check")
        if one.check not in checks().checks:
            yield document.problem(here, text("there is no check {name}", name=one.check))
        elif [each.check for each in control.checks].count(one.check) > 1:
            yield document.problem(here, text("this check stands twice: {id}", id=one.check))
        if control.rest and one.check in control.rest.settled_by and not checks().checks[one.check].register:
            yield document.problem(here, text("{name} goes by no register", name=one.check))
        if one.shows == "full" and one.part is not None:
            yield document.problem(here, text("part belongs to shows: part"))


# --- Additions to a guide of ours --------------------------------------------------------------------------


def _extended(document: Document, known: Mapping[str, Checklist]) -> Checklist:
    added = typed(document, Extension)
    guide = known.get(added.extends)
    if guide is None:
        absent = text(
            "there is no guide {name}; known are {known}", name=added.extends, known=", ".join(known)
        )
        raise BadInputs(absent, [document.problem(("extends",), absent)])
    controls = {control.id: control for control in guide.controls}
    problems = [*_twice(document, added.controls)]
    for number, one in enumerate(added.controls):
        said = _no_place(one, controls.get(one.id))
        if said is not None:
            problems.append(document.problem(("controls", number, "id"), said))
        else:
            controls[one.id] = _with(controls[one.id], one)
    refuse(document.name, problems)
    return msgspec.structs.replace(guide, controls=tuple(controls.values()))


def _no_place(one: Clause, control: Control | None) -> Text | None:
    """Say why an addition has no place at its control: only what the index is unsure of may be decided."""
    if control is None:
        return text("there is no control {id} in this guide", id=one.id)
    if one.grades is not None and not any(each.cell == "grades" for each in control.uncertain):
        return text("the grades of {id} are certain: {grades}", id=one.id, grades=control.grades or "-")
    return None


def _with(control: Control, one: Clause) -> Control:
    if one.grades is not None:
        left = tuple(each for each in control.uncertain if each.cell != "grades")
        control = msgspec.structs.replace(control, grades=one.grades, uncertain=left)
    return msgspec.structs.replace(control, clause=one.clause or control.clause)
