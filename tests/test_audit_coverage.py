"""Coverage: each control is counted once, under what answers it, and what is not automated says why."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from appliance.__main__ import cli
from appliance.audit.checklists import guides, read_own
from appliance.audit.coverage import Coverage, coverage
from appliance.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.audit.catalogue import Checklist, Control
    from appliance.format import Grade

GRADES: tuple[Grade, ...] = ("C", "S", "O")


def controls(*lines: str) -> Checklist:
    head = "format: 1\nguide: ours\nlabel: ours\ntitle: t\nedition: '1'\nareas: {a: 가, b: 나}\ncontrols:\n"
    return read_own((head + "".join(f"  - {{{line}}}\n" for line in lines)).encode(), "ours.yaml", guides())


def counts(found: Coverage, grade: Grade | None = None, area: str | None = None) -> dict[str, int]:
    (one,) = (one for one in found.counts if one.grade == grade and one.area == area)
    return {name: count for name, count in one.answered.items() if count}


FULL = "checks: [{check: host.umask, shows: full}]"
PART = "checks: [{check: host.umask, shows: part, part: p}]"
MANUAL = "rest: {kind: manual, reason: r}"
MIXED = (
    "checks: [{check: host.umask, shows: part, part: p}, {check: host.patch-level, shows: part, part: q}],"
    "together: full"
)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (FULL, "automated"),
        (f"{PART}, together: full", "automated"),
        (f"{PART}, {MANUAL}", "partial"),
        (MANUAL, "manual"),
        ("rest: {kind: institution, reason: r}", "institution"),
        ("rest: {kind: not-applicable, reason: r}", "not-applicable"),
        ("checks: [{check: host.patch-level, shows: full}]", "manual"),
        (MIXED, "partial"),
    ],
)
def test_a_control_is_counted_as_what_answers_it(line: str, wanted: str) -> None:
    found = coverage([controls(f"id: A-1, title: t, area: a, {line}")])
    assert counts(found) == {wanted: 1}
    assert len(found.not_automated) == (wanted != "automated")


def test_a_check_that_is_not_asked_at_a_grade_is_no_evidence_there() -> None:
    usb = "checks: [{check: device.usb-storage, shows: full}]"
    guide = controls(f"id: A-1, title: t, area: a, grades: CSO, {usb}")
    assert counts(coverage([guide], "S"), "S") == {"automated": 1}
    found = coverage([guide], "O")
    assert counts(found, "O") == {"not-applicable": 1}
    assert "등급 O" in found.not_automated[0].reason.ko


def test_grades_and_areas_are_counted_apart() -> None:
    guide = controls(
        f"id: A-1, title: t, area: a, grades: CS, {FULL}", f"id: B-1, title: t, area: b, grades: C, {MANUAL}"
    )
    found = coverage([guide])
    assert counts(found) == {"automated": 1, "manual": 1}
    assert counts(found, "C") == {"automated": 1, "manual": 1}
    assert counts(found, "S") == {"automated": 1}
    assert counts(found, "O") == {}
    assert counts(found, None, "a") == {"automated": 1}
    assert counts(found, None, "b") == {"manual": 1}


def named(name: str) -> tuple[Control, ...]:
    return guides()[name].controls


def test_of_the_real_guides_every_control_is_counted_and_every_gap_has_its_reason() -> None:
    found = coverage(guides().values())
    for name, total in (("kisa", 144), ("n2sf", 274), ("nis", 57)):
        (whole,) = (one for one in found.counts if (one.guide, one.area, one.grade) == (name, None, None))
        assert whole.total == total == sum(whole.answered.values())
        missing = {one.id for one in found.not_automated if one.guide == name}
        assert len(missing) == total - whole.answered["automated"]
    for one in found.not_automated:
        assert one.reason.ko, one.id
        assert one.reason.en, one.id
        assert one.shown if one.answered == "partial" else True, one.id


def test_at_grade_s_the_machine_shows_what_it_can() -> None:
    technical = [one for one in named("n2sf") if one.asked_at("S") and not one.managerial]
    answered = Counter(one.answered("S") for one in technical)
    assert len(technical) == 175
    assert answered["automated"] + answered["partial"] >= 82
    unix = Counter(one.answered("S") for one in named("kisa") if one.area == "unix")
    assert unix["automated"] >= 58
    assert all(one.rest for one in named("kisa") if one.answered("S") in {"partial", "manual"})
    key = [one for one in named("nis") if one.key]
    assert {one.answered("S") for one in key} == {"partial"}, "each has evidence, none is of machines alone"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments), catch_exceptions=False)


def test_the_command_shows_a_table_and_the_reasons(tmp_path: Path) -> None:
    done = run("--lang", "ko", "--root", str(tmp_path), "audit", "coverage", "--site", str(tmp_path))
    assert done.exit_code == 0
    (line,) = (line for line in done.output.splitlines() if line.startswith("KISA 2026"))
    assert line.split()[-1] == "144"
    assert "M22  설명 가능한 AI 구성  [수동]" in done.output
    assert "질문: " in done.output
    short = run("--lang", "ko", "audit", "coverage", "--site", str(tmp_path), "--summary", "--guide", "nis")
    assert "KISA" not in short.output
    assert "질문" not in short.output


def test_the_command_gives_the_same_as_json(tmp_path: Path) -> None:
    done = run("audit", "coverage", "--grade", "S", "--guide", "n2sf", "--json", "--site", str(tmp_path))
    told = json.loads(done.output.splitlines()[-1])["result"]
    whole = [one for one in told["counts"] if one["area"] is None]
    assert [(one["guide"], one["grade"], one["total"]) for one in whole] == [("n2sf", "S", 222)]
    assert {one["guide"] for one in told["not_automated"]} == {"n2sf"}


def test_the_grade_and_the_site_may_stand_before_the_word(tmp_path: Path) -> None:
    done = run("audit", "--grade", "O", "--site", str(tmp_path), "coverage", "--guide", "n2sf", "--json")
    told = json.loads(done.output.splitlines()[-1])["result"]
    assert [one["total"] for one in told["counts"] if one["area"] is None] == [90]


def test_a_sites_own_list_is_counted_beside_the_guides(tmp_path: Path) -> None:
    folder = tmp_path / "checklists"
    folder.mkdir()
    text = "format: 1\nguide: ours\nlabel: 우리\ntitle: t\nedition: '1'\nareas: {a: 가}\ncontrols:\n"
    (folder / "ours.yaml").write_text(f"{text}  - {{id: A-1, title: t, area: a, {FULL}}}\n", "utf-8")
    done = run("audit", "coverage", "--site", str(tmp_path), "--guide", "ours", "--json")
    told = json.loads(done.output.splitlines()[-1])["result"]
    assert [one["answered"]["automated"] for one in told["counts"]] == [1]


@pytest.mark.parametrize("arguments", [("--guide", "nsf"), ("--site", "/nowhere/at/all")])
def test_what_is_not_there_is_bad_input(arguments: tuple[str, str]) -> None:
    with pytest.raises(BadInput):
        run("audit", "coverage", *arguments)
