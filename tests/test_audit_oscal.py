"""OSCAL: what other tools read never says more than was seen."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import uuid
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from appliance.audit.formats.oscal import render
from appliance.audit.formats.oscal_frame import NAMESPACE, control_token
from tests.editions import HEAD, HOSTILE, alone, edition, hostile, result, small
from tests.test_audit_formats import own_props

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.audit.outcome import AuditResult

TOKEN = re.compile(r"[A-Za-z_가-힣][A-Za-z0-9_.가-힣-]*")
LINE = re.compile(r"\S(.*\S)?")

Object = dict[str, Any]


@cache
def told() -> Object:
    found: Object = json.loads(render(edition(found=hostile(result()))))["assessment-results"]
    return found


@cache
def plain() -> Object:
    found: Object = json.loads(render(edition("en")))["assessment-results"]
    return found


def outcome(found: Object) -> Object:
    (only,) = found["results"]
    return dict(only)


def every(found: object) -> list[Object]:
    """Return every object of a document, at any depth."""
    if isinstance(found, list):
        return [one for item in found for one in every(item)]
    if isinstance(found, dict):
        return [found, *(one for item in found.values() for one in every(item))]
    return []


def test_what_is_shown_in_part_is_never_satisfied() -> None:
    controls = {
        (guide.guide, one.id): one for guide in result().guides for one in guide.controls if one.applies
    }
    satisfied = set()
    for finding in outcome(plain())["findings"]:
        props = own_props(finding)
        key = (props["guide"], props["control"])
        control, status = controls.pop(key), finding["target"]["status"]
        if status["state"] == "satisfied":
            satisfied.add(key)
            assert control.status == "pass"
            assert control.answered == "automated"
            assert control.open is None
            assert status["reason"] == "pass"
            assert "related-risks" not in finding
        else:
            assert status["state"] == "not-satisfied"
            assert status["reason"] == ("fail" if control.status == "fail" else "other")
    assert not controls, "every control that is asked has a finding"
    assert len(satisfied) > 20
    partly = {key for key, one in _controls() if one.answered == "partial" and one.shown == "pass"}
    assert partly
    assert not partly & satisfied


def _controls() -> list[tuple[tuple[str, str], Any]]:
    return [((guide.guide, one.id), one) for guide in result().guides for one in guide.controls]


def test_a_green_control_that_a_person_answered_in_part_is_not_satisfied() -> None:
    found = result()
    guide = next(one for one in found.guides if one.guide == "kisa")
    (green,) = (one for one in guide.controls if one.id == "U-10")
    assert green.status == "pass"
    partly = msgspec.structs.replace(green, answered="partial")
    changed = msgspec.structs.replace(guide, controls=(partly,))
    made = alone(msgspec.structs.replace(found, guides=(changed,)))
    (finding,) = outcome(json.loads(render(made))["assessment-results"])["findings"]
    assert finding["target"]["status"]["state"] == "not-satisfied"
    assert own_props(finding)["status"] == "pass", "what audit.json says stands beside it"


def test_what_does_not_apply_is_not_called_satisfied() -> None:
    findings = outcome(plain())["findings"]
    left = [one for one in findings if own_props(one)["status"] == "not-applicable"]
    assert left
    for one in left:
        assert one["target"]["status"] == {"state": "not-satisfied", "reason": "other"}
        assert one["target"]["implementation-status"] == {"state": "not-applicable"}


def test_an_exception_is_an_approved_deviation_with_a_deadline_and_a_lapsed_one_is_an_open_risk() -> None:
    risks = {
        own_props(one).get("check", own_props(one).get("control")): one for one in outcome(plain())["risks"]
    }
    approved, lapsed = risks["host.root-remote-login"], risks["host.umask"]
    assert approved["status"] == "deviation-approved"
    assert approved["deadline"] == "2026-12-31T23:59:59+09:00"
    (entry,) = approved["risk-log"]["entries"]
    assert entry["status-change"] == "deviation-approved"
    assert lapsed["status"] == "open"
    assert "deadline" not in lapsed
    assert own_props(lapsed["risk-log"]["entries"][0])["standing"] == "lapsed"
    assert risks["ours/A-2"]["status"] == "deviation-approved"
    assert risks["n2sf/N2SF-LP-M2"]["status"] == "open", "a person said that it does not hold"


def test_every_fault_is_a_risk_with_a_remedy_and_nothing_else_is() -> None:
    found = result()
    risks = outcome(plain())["risks"]
    by_check = {own_props(one)["check"]: one for one in risks if "check" in own_props(one)}
    at_risk = {one.id: one for one in found.results if one.status in {"fail", "unknown", "exception"}}
    assert by_check.keys() == at_risk.keys()
    for name, one in by_check.items():
        (remedy,) = one["remediations"]
        assert remedy["lifecycle"] == "recommendation"
        assert remedy["description"]
        assert (one["status"] == "open") == (at_risk[name].status != "exception")


def test_an_answer_is_an_observation_and_satisfies_nothing() -> None:
    answers = [one for one in outcome(plain())["observations"] if one["methods"] == ["INTERVIEW"]]
    by_reference = {own_props(one)["reference"]: one for one in answers}
    assert own_props(by_reference["nis/M13"])["standing"] == "in-force"
    assert own_props(by_reference["ours/A-5"])["standing"] == "lapsed"
    assert own_props(by_reference["crypto.validated-module"])["standing"] == "void"
    parties = {one["uuid"]: one for one in plain()["metadata"]["parties"]}
    actor = by_reference["nis/M13"]["origins"][0]["actors"][0]
    assert parties[actor["actor-uuid"]]["name"] == "홍길동 (정보보안담당관)"


def test_the_reviewed_controls_are_those_that_the_grade_asks() -> None:
    selections = outcome(plain())["reviewed-controls"]["control-selections"]
    for guide, chosen in zip(result().guides, selections, strict=True):
        asked = [control_token(guide.guide, one.id) for one in guide.controls if one.applies]
        left = [control_token(guide.guide, one.id) for one in guide.controls if not one.applies]
        assert [one["control-id"] for one in chosen["include-controls"]] == asked
        assert [one["control-id"] for one in chosen.get("exclude-controls", [])] == left


def test_no_two_controls_share_an_id_and_every_id_can_be_spelled() -> None:
    assert control_token("n2sf", "N2SF-AC-1(2)") == "n2sf-N2SF-AC-1.2"
    odd = ["A(1)", "A.1", "A_1", "A_2e_1", "A(1)(2)", "(1)", "1", "²", "가-1", "A-1", "A(1)x"]
    tokens = [control_token("ours", one) for one in odd]
    assert len(set(tokens)) == len(odd)
    known = [control_token(guide.guide, one.id) for guide in result().guides for one in guide.controls]
    assert len(set(known)) == len(known)
    assert all(TOKEN.fullmatch(one) for one in [*tokens, *known])


def test_identifiers_follow_from_the_audit_and_every_reference_is_kept() -> None:
    for found in (told(), plain()):
        given = [one["uuid"] for one in every(found) if "uuid" in one]
        assert len(set(given)) == len(given)
        assert {uuid.UUID(one).version for one in given} == {5}
        for one in every(found):
            for name, value in one.items():
                if name.endswith("-uuid"):
                    assert value in given, name
                if name == "href" and str(value).startswith("#"):
                    assert value[1:] in given
        assert all(
            one in given for role in found["metadata"]["responsible-parties"] for one in role["party-uuids"]
        )
    assert json.loads(render(alone(result())))["assessment-results"]["uuid"] != plain()["uuid"]


def test_properties_are_of_one_line_in_our_own_namespace() -> None:
    for one in every(told()):
        for prop in one.get("props", ()):
            assert LINE.fullmatch(prop["value"]), prop
            assert TOKEN.fullmatch(prop["name"])
            assert prop.get("ns", NAMESPACE) == NAMESPACE


def test_words_of_the_server_are_no_markup() -> None:
    words = json.dumps(told(), ensure_ascii=False)
    assert "<script>" not in re.sub(r"\\\\<", "", words)
    assert not re.search(r"(?<!\\)\[link\]\(", words)
    observed = {own_props(one).get("check"): one for one in outcome(told())["observations"]}
    first = observed[result().results[HOSTILE.index("+1+1")].id]
    assert first["description"] == "+1+1"


def test_the_head_the_number_and_what_changed_are_there() -> None:
    pairs = [(one["name"], one["value"]) for one in outcome(plain())["props"]]
    assert ("head", HEAD) in pairs
    assert ("number", "4") in pairs
    assert ("changed", "host.umask: pass > fail") in pairs
    assert ("changed", "gone.check: pass > -") in pairs
    counts = {name: int(value) for name, value in pairs if name.startswith("count-")}
    assert sum(counts.values()) == len(result().results)


def test_files_are_named_by_digest_where_the_chain_knows_them() -> None:
    resources = {one["title"]: one for one in plain()["back-matter"]["resources"]}
    (link,) = resources["facts.json"]["rlinks"]
    assert link["hashes"] == [{"algorithm": "SHA-256", "value": "fa" * 32}]
    unchained = json.loads(render(alone(result())))["assessment-results"]["back-matter"]["resources"]
    assert "hashes" not in next(one for one in unchained if one["title"] == "facts.json")["rlinks"][0]


#: In a process of its own: it takes seconds to import, and warns while it does.
TRESTLE = """
import pathlib, sys
from trestle.core.commands import validate
from trestle.core.validator_factory import validator_factory
from trestle.oscal.assessment_results import AssessmentResults

for name in sys.argv[1:]:
    model = AssessmentResults.oscal_read(pathlib.Path(name))
    for one in validator_factory.get_all():
        if not one.model_is_valid(model, True):
            sys.exit(f"{name} refused by {type(one).__name__}")
    print(name, "taken")
"""


def trestle_says(*paths: Path) -> list[str]:
    asked = [sys.executable, "-c", TRESTLE, *map(str, paths)]
    done = subprocess.run(
        asked, capture_output=True, text=True, check=False, cwd=paths[0].parent, timeout=120
    )
    return [line.rpartition("/")[2] for line in (done.stdout + done.stderr).splitlines() if line.strip()]


def nothing_asked() -> AuditResult:
    """A checklist of which the grade asks nothing."""
    found = small(("pass",), ("not-applicable",) * 2)
    (guide,) = found.guides
    controls = tuple(msgspec.structs.replace(one, applies=False) for one in guide.controls)
    return msgspec.structs.replace(found, guides=(msgspec.structs.replace(guide, controls=controls),))


@pytest.mark.real
def test_trestle_takes_what_we_write(tmp_path: Path) -> None:
    made = {
        "ko.json": edition("ko"),
        "en.json": edition("en"),
        "hostile.json": edition(found=hostile(result())),
        "redacted.json": edition(redacted=True),
        "alone.json": alone(result()),
        "empty.json": alone(small((), ())),
        "nothing-asked.json": alone(nothing_asked()),
    }
    for name, one in made.items():
        (tmp_path / name).write_bytes(render(one))
    assert trestle_says(*(tmp_path / name for name in made)) == [f"{name} taken" for name in made]


@pytest.mark.real
def test_trestle_refuses_what_is_wrong(tmp_path: Path) -> None:
    twice, short = json.loads(render(edition())), json.loads(render(edition()))
    observations = outcome(twice["assessment-results"])["observations"]
    observations[1]["uuid"] = observations[0]["uuid"]
    del outcome(short["assessment-results"])["observations"][0]["collected"]
    for name, found in (("twice.json", twice), ("short.json", short)):
        (tmp_path / name).write_text(json.dumps(found), "utf-8")
    assert "twice.json refused by DuplicatesValidator" in trestle_says(tmp_path / "twice.json")
    assert "taken" not in "".join(trestle_says(tmp_path / "short.json"))


def test_a_thousand_items_are_written_within_a_second() -> None:
    made = edition(found=result(1000))
    began = time.process_time()
    render(made)
    assert time.process_time() - began < 2, "about half a second on an idle core"


def test_every_observation_is_of_the_server_at_the_time_of_the_facts() -> None:
    for one in outcome(plain())["observations"]:
        if "check" in own_props(one):
            assert one["collected"].startswith("2026-11-01T")
            assert (
                one["subjects"][0]["subject-uuid"]
                == outcome(plain())["local-definitions"]["components"][0]["uuid"]
            )
