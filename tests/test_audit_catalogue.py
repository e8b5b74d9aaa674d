"""The guides as data: every number, nothing green by omission, one reader for ours and a site's own."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.audit.catalogue import Checklist, Control, Words, both, checklists_folder, checks
from appliance.audit.checklists import guides, items_by_check, read_checklist, read_own
from appliance.audit.checks import CHECKS
from appliance.document import read_document
from appliance.problems import BadInputs
from bundle.document import check_schema
from bundle.schemas import schemas

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.format import Grade

PROJECT = Path(__file__).parents[1]
HANGUL = re.compile("[가-힣]")
GRADES: tuple[Grade, ...] = ("C", "O")
KEY_FOR_INTERNAL_ONLY_AI = {"M07", "M09", "M17", "M19", "M20", "M21"}


def every_control() -> list[tuple[str, Control]]:
    return [(guide.guide, control) for guide in guides().values() for control in guide.controls]


def every_word() -> Iterator[tuple[str, Words]]:
    for guide, control in every_control():
        found = [one.part for one in control.checks if one.part is not None]
        found += [one.note for one in control.uncertain]
        if control.rest is not None:
            found += [control.rest.reason, *([control.rest.ask] if control.rest.ask else [])]
        for said in found:
            yield f"{guide}/{control.id}", both(said)


def test_every_item_of_the_guides_is_there_once() -> None:
    numbers = {name: [control.id for control in guide.controls] for name, guide in guides().items()}
    unix = [f"U-{number:02}" for number in range(1, 68)]
    web = [f"WEB-{number:02}" for number in range(1, 27)]
    databases = [f"D-{number:02}" for number in range(1, 27)]
    virtual = [f"HV-{number:02}" for number in range(1, 26)]
    assert sorted(numbers["kisa"]) == sorted(unix + web + databases + virtual)
    assert Counter(len(set(found)) == len(found) for found in numbers.values()) == {True: 3}
    assert len(numbers["n2sf"]) == 274
    agentic = [f"A-M{number:02}" for number in range(1, 18)]
    physical = [f"P-M{number:02}" for number in range(1, 11)]
    assert numbers["nis"] == [f"M{number:02}" for number in range(1, 31)] + agentic + physical


def test_importances_grades_and_kinds_are_those_of_the_guides() -> None:
    unix = [control for control in guides()["kisa"].controls if control.area == "unix"]
    assert Counter(control.importance for control in unix) == {"high": 40, "medium": 18, "low": 9}
    n2sf = guides()["n2sf"].controls
    assert {grade: sum(grade in (one.grades or "") for one in n2sf) for grade in "CSO"} == {
        "C": 270,
        "S": 222,
        "O": 90,
    }
    assert Counter(one.managerial for one in n2sf) == {False: 219, True: 55}
    assert sum(not one.managerial and one.asked_at("S") for one in n2sf) == 175
    assert {one.id for one in guides()["nis"].controls if one.key} == KEY_FOR_INTERNAL_ONLY_AI


def test_uncertain_cells_are_marked_and_an_unknown_grade_is_none() -> None:
    marked = {f"{guide}/{one.id}": {each.cell for each in one.uncertain} for guide, one in every_control()}
    assert {name: cells for name, cells in marked.items() if cells} == {
        "kisa/WEB-16": {"importance"},
        "kisa/HV-09": {"importance"},
        "n2sf/N2SF-LP-4(3)": {"grades"},
        "n2sf/N2SF-DA-2": {"grades"},
        "n2sf/N2SF-WA-5": {"grades"},
        "n2sf/N2SF-MD-7": {"meaning"},
        "n2sf/N2SF-MD-8": {"title"},
        "n2sf/N2SF-IN-1(1)": {"meaning"},
    }
    (blank,) = (one for one in guides()["n2sf"].controls if one.id == "N2SF-LP-4(3)")
    assert not any(blank.asked_at(grade) for grade in ("C", "S", "O"))


def test_whatever_is_left_has_a_reason_and_a_question() -> None:
    unasked = [
        f"{guide}/{one.id}"
        for guide, one in every_control()
        if one.rest and one.rest.kind != "not-applicable" and not (one.rest.ask and one.rest.look)
    ]
    assert unasked == []


def test_words_are_in_both_languages_and_claim_no_compliance() -> None:
    for name, words in every_word():
        assert HANGUL.search(words.ko) or words.ko.isascii(), name
        assert not HANGUL.search(words.en), name
        told = f"{words.ko} {words.en}".lower()
        assert not [word for word in ("준수", "complian", "충족") if word in told], name


def test_every_check_is_evidence_for_something_or_says_why_not() -> None:
    mapped = items_by_check(guides()).keys()
    assert mapped <= CHECKS.keys()
    assert CHECKS.keys() - mapped == set()


@pytest.mark.parametrize("name", ["kisa", "n2sf", "nis"])
def test_the_lists_fit_the_schema_that_editors_go_by(name: str) -> None:
    document = read_document(PROJECT / "manifests" / "checklists" / f"{name}.yaml", name)
    assert check_schema(document, schemas()["checklist"]) == []


def test_in_the_project_the_lists_are_those_of_the_project() -> None:
    assert checklists_folder() == PROJECT / "manifests" / "checklists"


def _number(limit: str) -> float:
    return int(limit, 8) if limit.startswith("0") else float(limit)


@pytest.mark.parametrize("name", sorted(checks().checks))
def test_a_threshold_that_rises_with_the_grade_says_so(name: str) -> None:
    limits = checks().checks[name].limits
    if not limits:
        return
    strict, loose = (_number(limits[grade]) for grade in GRADES)
    if strict != loose:
        assert checks().checks[name].stricter == ("higher" if strict > loose else "lower")


# --- A checklist that a person writes ----------------------------------------------------------------------

OWN = """\
format: 1
guide: ours
label: 우리 기관
title: 우리 기관 서버 점검표
edition: "2026"
areas:
  server: 서버
controls:
  - id: A-1
    title: 원격 관리자 접속
    area: server
    checks: [{check: host.root-remote-login, shows: full}]
"""


def own(text: str) -> Checklist:
    return read_own(text.encode(), "ours.yaml", guides())


def test_a_site_writes_its_own_list_in_its_own_language() -> None:
    found = own(OWN)
    assert both(found.title) == Words(ko="우리 기관 서버 점검표", en="우리 기관 서버 점검표")
    assert found.controls[0].answered() == "automated"
    assert found.controls[0].asked_at("O"), "no grades given: asked of every server"


PART = "[{check: host.umask, shows: part, part: 기본 권한}]"
CONTRADICTIONS = {
    "parts alone never answer": (f"checks: {PART}", "ours.yaml:9: $.controls[0]"),
    "say in rest what is left, or together": (
        f"checks: {PART}\n    rest: {{kind: manual, reason: 남음}}\n    together: full",
        "ours.yaml:9",
    ),
    "nothing is left": (
        "checks: [{check: host.umask, shows: full}]\n    rest: {kind: manual, reason: 남음}",
        "ours.yaml:9",
    ),
    "needs a check, or a rest": ("section: 계정", "ours.yaml:9"),
    "that is not applicable has no check": (
        f"checks: {PART}\n    rest: {{kind: not-applicable, reason: 없음}}",
        "ours.yaml:9",
    ),
    "there is no check host.unmask": (
        "checks: [{check: host.unmask, shows: full}]",
        "ours.yaml:12: $.controls[0].checks[0].check",
    ),
    "this check stands twice": (
        "checks: [{check: host.umask, shows: full}, {check: host.umask, shows: full}]",
        "ours.yaml:12",
    ),
    "part belongs to": ("checks: [{check: host.umask, shows: full, part: 모두}]", "ours.yaml:12"),
    "together needs checks": ("together: full\n    rest: {kind: manual, reason: 남음}", "ours.yaml:9"),
    "'mostly' is none of the words that may stand here": (
        "checks: [{check: host.umask, shows: mostly}]",
        "ours.yaml:12: $.controls[0].checks[0].shows",
    ),
}


@pytest.mark.parametrize("said", CONTRADICTIONS)
def test_a_list_that_contradicts_itself_is_refused_at_its_line(said: str) -> None:
    line, where = CONTRADICTIONS[said]
    with pytest.raises(BadInputs) as caught:
        own(OWN.replace("checks: [{check: host.root-remote-login, shows: full}]", line))
    assert any(said in problem.said.render() for problem in caught.value.problems), caught.value.lines()
    assert all(problem.where.startswith(where) for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("guide: ours", "guide: kisa", "there is a guide of this name already"),
        ("area: server", "area: people", "there is no area people"),
        ("format: 1", "format: 2", "2 is none of the words"),
        ("label: 우리 기관", "labels: 우리 기관", "nothing here is called labels"),
        ("controls:\n", "controls:\n  - {id: A-1, title: t, area: server, rest: {kind: manual, reason: r}}\n",
         "this number stands twice"),
    ],
)  # fmt: skip
def test_what_else_a_list_cannot_be(old: str, new: str, said: str) -> None:
    with pytest.raises(BadInputs, match="refused") as caught:
        own(OWN.replace(old, new))
    assert said in caught.value.problems[0].said.render()


ADDED = """\
format: 1
extends: n2sf
controls:
  - id: N2SF-DA-2
    clause: |
      붙여 넣은 조항의 글
    grades: CS
  - id: N2SF-LP-2
    clause: 다른 글
"""


def test_a_site_adds_clauses_and_decides_what_the_index_does_not_know() -> None:
    found = {one.id: one for one in own(ADDED).controls}
    assert found["N2SF-DA-2"].clause == "붙여 넣은 조항의 글\n"
    assert (found["N2SF-DA-2"].grades, found["N2SF-DA-2"].uncertain) == ("CS", ())
    assert found["N2SF-LP-2"].clause == "다른 글"
    assert len(found) == 274, "the guide stays whole"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("N2SF-LP-2", "N2SF-LP-99", "there is no control N2SF-LP-99"),
        ("extends: n2sf", "extends: nsf", "there is no guide nsf"),
        ("clause: 다른 글", "grades: C", "the grades of N2SF-LP-2 are certain: CSO"),
    ],
)
def test_an_addition_has_its_place(old: str, new: str, said: str) -> None:
    with pytest.raises(BadInputs) as caught:
        own(ADDED.replace(old, new))
    assert said in caught.value.problems[0].said.render()


def test_a_list_of_ours_that_breaks_is_named_by_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "kisa.yaml"
    path.write_text(OWN.replace("area: server", "area: nowhere"), "utf-8")
    with pytest.raises(BadInputs) as caught:
        read_checklist(path, "kisa.yaml")
    assert caught.value.problems[0].where == "kisa.yaml:9: $.controls[0]"
