"""The institution's registers: what is left to a person is answered by comparing, and by nothing less."""

from __future__ import annotations

import hashlib
import json
from copy import deepcopy
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from click.testing import CliRunner

from appliance.__main__ import cli
from appliance.audit.catalogue import checks
from appliance.audit.checklists import guides
from appliance.audit.controls import guide_result
from appliance.audit.coverage import coverage
from appliance.audit.dated import korean_day
from appliance.audit.edition import Edition
from appliance.audit.facts import AuditFacts, Fact
from appliance.audit.formats import page, pdf
from appliance.audit.redact import redacted
from appliance.audit.registers import REGISTERS, Declared, Registers, within
from appliance.audit.result import audit, by_reference
from appliance.audit.site import Attestation, SiteRules, no_rules, read_rules
from appliance.audit.standing import Decisions
from appliance.problems import BadInputs
from tests import audited
from tests.test_audit_checks import TAKEN, Case, cases, facts_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from appliance.audit.outcome import AuditResult, ControlResult, Result, Status
    from appliance.format import Grade

SIX = ("M07", "M09", "M17", "M19", "M20", "M21")
DAY = korean_day(datetime.fromisoformat(TAKEN))
CASES = {(case.check, case.status): case for case in cases()}
CONTROLS = {control.id: control for control in guides()["nis"].controls}
BY_REGISTER = sorted(name for name, about in checks().checks.items() if about.register)


def entered() -> dict[str, Any]:
    """Return every register, as the passing cases have it."""
    found: dict[str, Any] = {"format": 1}
    for name in BY_REGISTER:
        found |= CASES[name, "pass"].registers
    return deepcopy(found)


def rules(**changes: Any) -> SiteRules:  # noqa: ANN401 - members of SiteRules
    registers = msgspec.convert(entered(), Registers)
    present = frozenset(one.sha256 for one in registers.papers())
    return msgspec.structs.replace(no_rules(), **{"registers": registers, "present": present} | changes)


@cache
def judged(name: str, status: str) -> Result:
    """Return what a check says of its case."""
    case: Case = CASES[name, status]
    return case.judged(case.facts)


def control(
    number: str, turned: Mapping[str, str] | None = None, site: SiteRules | None = None
) -> ControlResult:
    """Judge a control with every check as in its passing case, but for those that ``turned``."""
    results = {
        name: judged(name, (turned or {}).get(name, "pass" if (name, "pass") in CASES else "manual"))
        for name in checks().checks
    }
    decisions = Decisions(site or rules(), DAY)
    (one,) = (
        each for each in guide_result(guides()["nis"], results, decisions, "S").controls if each.id == number
    )
    return one


# --- The six key measures for internal-only AI -------------------------------------------------------------


@pytest.mark.parametrize("number", SIX)
def test_it_is_right_where_every_part_is_and_the_institution_has_entered_its_registers(number: str) -> None:
    found = control(number)
    assert (found.status, found.answered, found.open, found.key) == ("pass", "automated", None, True)
    settled = {each.check for each in found.evidence if each.register}
    assert settled == set(CONTROLS[number].rest.settled_by)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("number", "name"), [(number, one.check) for number in SIX for one in CONTROLS[number].checks]
)
def test_it_fails_with_any_one_of_its_parts(number: str, name: str) -> None:
    found = control(number, {name: "fail"})
    assert found.status == "fail"
    assert {each.check for each in found.evidence if each.status == "fail"} == {name}


@pytest.mark.parametrize(
    ("number", "name"),
    [(number, name) for number in SIX for name in CONTROLS[number].rest.settled_by],  # type: ignore[union-attr]
)
def test_it_waits_for_a_person_while_any_register_is_missing(number: str, name: str) -> None:
    found = control(number, {name: "manual"})
    assert (found.status, found.answered) == ("manual", "partial")
    assert found.open
    assert found.open.ask
    assert found.open.look


@pytest.mark.parametrize("number", SIX)
def test_without_registers_it_says_which_parts_are_shown_what_is_asked_and_where_to_answer(
    number: str,
) -> None:
    found = control(number, dict.fromkeys(BY_REGISTER, "manual"), no_rules())
    rest = CONTROLS[number].rest
    assert rest
    assert found.status == "manual"
    assert found.open
    assert set(found.open.registers) == set(rest.registers()) <= set(REGISTERS)
    (told,) = (
        one
        for one in coverage(guides().values(), "S").not_automated
        if (one.guide, one.id) == ("nis", number)
    )
    assert told.registers == rest.registers()
    assert told.ask
    assert told.shown
    titles = {checks().checks[name].title for name in rest.settled_by}
    assert not titles & set(told.shown), "nothing that only a register would show"


@pytest.mark.parametrize("grade", ["C", "S", "O"])
def test_with_all_registers_coverage_counts_the_six_as_answered_by_machine(grade: Grade) -> None:
    whole = coverage(guides().values(), grade, frozenset(REGISTERS))
    assert not {one.id for one in whole.not_automated if one.guide == "nis"} & set(SIX)
    for name in REGISTERS:
        less = coverage(guides().values(), grade, frozenset(REGISTERS) - {name})
        waiting = {one.id for one in less.not_automated if one.guide == "nis"} & set(SIX)
        assert waiting == {one for one in SIX if name in CONTROLS[one].rest.registers()}, name  # type: ignore[union-attr]


def test_every_register_is_asked_for_by_a_check_and_every_such_check_settles_something() -> None:
    assert {checks().checks[name].register for name in BY_REGISTER} == set(REGISTERS)
    settled = {
        name
        for guide in guides().values()
        for one in guide.controls
        if one.rest
        for name in one.rest.settled_by
    }
    assert settled == set(BY_REGISTER)


# --- What a register can do, and what not ------------------------------------------------------------------


@pytest.mark.parametrize("name", BY_REGISTER)
@pytest.mark.parametrize(
    ("begins", "ends", "said"),
    [("2026-03-02", "2026-10-31", "lapsed on"), ("2026-11-02", "2027-01-31", "holds from")],
)
def test_a_register_that_does_not_hold_on_the_day_leaves_the_question_open(
    name: str, begins: str, ends: str, said: str
) -> None:
    case = CASES[name, "pass"]
    registers = {key: one | {"date": begins, "expires": ends} for key, one in case.registers.items()}
    result = Case(name, "manual", case.grade, case.facts, "", registers).judged(case.facts)
    assert result.status == "manual"
    assert said in result.observed.en


WITH_PAPERS = ("network.approved-networks", "log.reviewed", "log.approved-commands", "release.rehearsed")


@pytest.mark.parametrize("name", WITH_PAPERS)
def test_a_paper_that_is_not_there_or_another_one_fails_by_its_name(name: str) -> None:
    case = CASES[name, "pass"]
    registers = msgspec.convert({"format": 1, **case.registers}, Registers)
    for paper in registers.papers():
        without = Case(name, "fail", case.grade, case.facts, "", case.registers, (paper.file,)).judged(
            case.facts
        )
        assert without.status == "fail"
        assert paper.file in without.observed.ko


ADMINISTRATOR = {
    "name": "lee",
    "uid": 1001,
    "gid": 1001,
    "home": "/",
    "login_shell": "/bin/bash",
    "hash_kind": "locked",
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"accounts": [{**ADMINISTRATOR, "gid": 27}]}, "lee (sudo)"),
        ({"accounts": [{**ADMINISTRATOR, "uid": 0}]}, "lee (UID 0)"),
        ({"groups": [{"name": "docker", "gid": 999, "members": ["lee"]}]}, "lee (docker)"),
        ({"groups": [{"name": "ops", "gid": 998, "members": ["lee"]}], "sudo": "%ops"}, "lee (ops)"),
        ({"sudo": "ALL"}, "ALL (sudoers)"),
        ({"sudo": "#1001"}, "#1001 (sudoers)"),
    ],
)
def test_an_administrator_is_whoever_can_become_root_by_any_way(change: dict[str, Any], said: str) -> None:
    case = CASES["host.approved-administrators", "pass"]
    facts = deepcopy(case.facts)
    for name in ("accounts", "groups"):
        facts[name] += change.get(name, [])
    if "sudo" in change:
        facts["sudo"]["rules"].append({"users": [change["sudo"]], "run_as": ["ALL"], "commands": ["ALL"]})
    result = case.judged(facts)
    assert (result.status, result.observed.en) == ("fail", said)


@pytest.mark.parametrize(
    ("chain", "peers", "ports", "fits"),
    [
        ("input", ["10.0.0.8"], [22], True),
        ("input", ["10.0.0.8/32"], [22, 443], True),
        ("input", ["10.0.0.9"], [22], False),
        ("input", ["10.0.0.4-10.0.0.9"], [443], True),
        ("input", ["10.0.0.4-11.0.0.9"], [443], False),
        ("input", [], [443], False),
        ("input", ["10.0.0.8"], [], False),
        ("input", ["@trusted"], [443], False),
        ("input", ["fd00::1"], [443], False),
        ("output", ["10.0.0.8"], [22], False),
        ("forward", ["10.0.0.8"], [22], False),
    ],
)
def test_a_way_is_approved_with_every_peer_and_every_port_of_it(
    chain: str, peers: list[str], ports: list[int], *, fits: bool
) -> None:
    case = CASES["network.approved-ways", "pass"]
    facts = {
        "firewall": {"counts_egress": True, "openings": [{"chain": chain, "peers": peers, "ports": ports}]}
    }
    assert case.judged(facts).status == ("pass" if fits else "fail")
    facts["firewall"]["counts_egress"] = False
    assert case.judged(facts).status == "fail", "rules that are not loaded allow nothing that was approved"


def test_a_network_lies_in_a_wider_one_and_never_in_a_narrower() -> None:
    assert within("10.1.0.0/16", ["10.0.0.0/8"])
    assert not within("10.0.0.0/8", ["10.1.0.0/16"])
    assert within("fe80::1%eth0", ["fe80::/10"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"by": "이몽룡"}, "is not one of the reviewers"),
        ({"date": "2026-09-20"}, "42 days ago"),
        ({"date": "2026-11-02"}, "by a head that this chain does not have"),
        ({"number": 6}, "by a head that this chain does not have"),
    ],
)
def test_a_review_counts_by_a_reviewer_in_time_of_an_audit_of_this_chain(
    change: dict[str, Any], said: str
) -> None:
    """A review of tomorrow has not been: the one before it counts, whose audit this chain does not know."""
    case = CASES["log.reviewed", "pass"]
    registers = deepcopy(case.registers)
    registers["reviews"]["reviews"][1] |= change
    result = Case(case.check, "fail", "S", case.facts, "", registers).judged(case.facts)
    assert result.status == "fail"
    assert said in result.observed.en


def test_a_rehearsal_elsewhere_needs_its_record_and_is_not_too_old() -> None:
    case = CASES["release.rehearsed", "fail"]
    registers = deepcopy(case.registers)
    registers["emergency"]["rehearsals"][0]["here"] = False
    assert Case(case.check, "pass", "S", {}, "", registers).judged(case.facts).status == "pass"
    registers["emergency"]["rehearsals"][0]["date"] = "2025-10-31"
    old = Case(case.check, "fail", "S", {}, "", registers).judged(case.facts)
    assert (old.status, "366 days ago" in old.observed.en) == ("fail", True)


def test_what_an_older_facts_file_does_not_have_is_unknown_and_never_compared() -> None:
    for name, member in (
        ("data.approved-grades", "documents"),
        ("log.approved-commands", "state"),
        ("release.rehearsed", "state"),
    ):
        case = CASES[name, "pass"]
        facts = deepcopy(case.facts)
        facts[member].pop("graded", None)
        facts[member].pop("sensitive", None)
        assert case.judged(facts).status == "unknown", name


def test_a_person_who_says_that_it_does_not_hold_outweighs_the_registers() -> None:
    said = Attestation(
        date=date(2026, 3, 2),
        expires=date(2026, 12, 31),
        applies_to=("nis/M20",),
        answer="does-not-hold",
        statement="승인 없이 한 일이 있음",
        by="홍길동",
    )
    assert control("M20", site=rules(attestations=(said,))).status == "fail"


def test_an_answer_alone_still_makes_nothing_green() -> None:
    said = Attestation(
        date=date(2026, 3, 2),
        expires=date(2026, 12, 31),
        applies_to=("nis/M09",),
        answer="holds",
        statement="매달 검토함",
        by="홍길동",
    )
    site = msgspec.structs.replace(no_rules(), attestations=(said,))
    found = control("M09", {"log.reviewed": "manual"}, site)
    assert (found.status, found.attested) == ("manual", True)


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("access.approved-keys", {"api_users": []}),
        ("data.approved-grades", {"documents": {"count": 0, "grades": {}, "graded": []}}),
    ],
)
def test_where_nothing_is_here_it_is_still_the_register_that_says_so(
    name: str, facts: dict[str, Any]
) -> None:
    case = CASES[name, "pass"]
    assert case.judged(facts).status == "pass"
    assert replace(case, registers={}).judged(facts).status == "manual"


# --- From the file to the report ---------------------------------------------------------------------------

PAPERS = {
    "망 구성도.pdf": b"plan",
    "로그 검토 규정.pdf": b"rule",
    "민감 명령 승인 절차.pdf": b"approvals",
    "비상 대응 계획.pdf": b"emergency",
    "훈련 결과.pdf": b"rehearsal",
}


def digested(value: object) -> object:
    """Return the registers with the true digests of the papers."""
    if isinstance(value, dict):
        if set(value) == {"file", "sha256"}:
            return {"file": value["file"], "sha256": hashlib.sha256(PAPERS[value["file"]]).hexdigest()}
        return {name: digested(one) for name, one in value.items()}
    return [digested(one) for one in value] if isinstance(value, list) else value


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "registers.yaml").write_bytes(msgspec.yaml.encode(digested(entered())))
    (tmp_path / "evidence").mkdir()
    for name, content in PAPERS.items():
        (tmp_path / "evidence" / name).write_bytes(content)
    return tmp_path


def result_of(site: Path) -> AuditResult:
    chain = facts_of(CASES["log.reviewed", "pass"].facts).audit_chain
    facts = msgspec.structs.replace(audited.facts(), audit_chain=chain)
    return audit(facts, "S", read_rules(site))


def test_registers_are_read_from_the_sites_file_and_stand_among_its_decisions(site: Path) -> None:
    found = read_rules(site)
    assert set(found.declared(DAY).in_force()) == set(REGISTERS)
    result = result_of(site)
    told = [one for one in result.decisions if one.kind == "register"]
    assert {one.reason for one in told} == {f"registers.yaml: {name}" for name in REGISTERS}
    assert all(one.ticket == "보안-2026-31" for one in told)
    (reviews,) = (one for one in told if one.reason.endswith("reviews"))
    assert reviews.used_for == ("log.reviewed",)
    assert [file.path for file in result.site_files] == [str(site / "registers.yaml")]


def test_a_changed_paper_is_found_by_its_digest(site: Path) -> None:
    named = by_reference(result_of(site).results, ())
    assert named["log.reviewed"].status == "pass"
    (site / "evidence" / "로그 검토 규정.pdf").write_bytes(b"another rule")
    assert by_reference(result_of(site).results, ())["log.reviewed"].status == "fail"


def test_the_report_says_what_the_register_answers_and_where_it_is_missing(site: Path) -> None:
    result = result_of(site)
    told = page.render(Edition(result, "ko")).decode()
    assert "기관의 관리대장과 비교: reviews" in told
    bare = page.render(Edition(audit(audited.facts(), "S"), "ko")).decode()
    assert "registers.yaml: accounts, programs, keys" in bare
    assert "답할 관리대장" in bare
    assert "기관의 관리대장과 비교: reviews" in pdf.paper(Edition(result, "ko")).replace("\u2060", "")


def test_a_redacted_report_names_nobody_of_a_register(site: Path) -> None:
    left = msgspec.json.encode(redacted(result_of(site))).decode()
    whole = msgspec.json.encode(result_of(site)).decode()
    for word in ("정보보안담당관", "보안-2026-31", "홍길동"):
        assert word in whole
        assert word not in left


FAULTS: dict[str, tuple[tuple[str, ...], object, str, str]] = {
    "no end": (("accounts", "expires"), None, "$.accounts", "expires"),
    "an end before it begins": (("keys", "expires"), "2026-01-01", "$.keys.expires", "before it begins"),
    "nobody approved": (("programs", "approver"), "", "$.programs.approver", "this is empty"),
    "no network": (("network", "networks"), ["10.0.0.300/24"], "$.network.networks[0]", "is no address"),
    "bits beyond a network": (
        ("network", "networks"),
        ["10.0.0.5/24"],
        "$.network.networks[0]",
        "is no address",
    ),
    "a port that is none": (
        ("network", "ways_in"),
        [{"port": 0, "peers": ["10.0.0.1"]}],
        "$.network.ways_in[0].port",
        "1",
    ),
    "a peer that is a word": (
        ("network", "ways_out"),
        [{"port": 1, "peers": ["any"]}],
        "$.network.ways_out[0].peers[0]",
        "form",
    ),
    "a grade that is none": (
        ("documents", "documents"),
        [{"sha256": "a" * 64, "grade": "X"}],
        "$.documents.documents[0].grade",
        "X",
    ),
    "a document twice": (
        ("documents", "documents"),
        [{"sha256": "a" * 64, "grade": "S"}] * 2,
        "$.documents.documents[1]",
        "stands twice",
    ),
    "a person twice": (
        ("accounts", "people"),
        [{"name": "kim", "holder": "김철수"}] * 2,
        "$.accounts.people[1]",
        "stands twice",
    ),
    "a paper elsewhere": (
        ("emergency", "plan"),
        {"file": "../plan", "sha256": "a" * 64},
        "$.emergency.plan.file",
        "form",
    ),
    "nobody who reviews": (("reviews", "reviewers"), [], "$.reviews.reviewers", "this is empty"),
    "a register that is none": (("acounts",), {}, "$.acounts", "acounts"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_register_is_named_by_file_line_and_place(site: Path, fault: str) -> None:
    path, value, place, said = FAULTS[fault]
    given = entered()
    inside = given
    for name in path[:-1]:
        inside = inside[name]
    if value is None:
        del inside[path[-1]]
    else:
        inside[path[-1]] = value
    (site / "registers.yaml").write_bytes(msgspec.yaml.encode(given))
    with pytest.raises(BadInputs) as caught:
        read_rules(site)
    (problem,) = caught.value.problems
    where, _, found = problem.where.partition(": ")
    assert found == place
    assert said in problem.said.render()
    assert where.startswith(f"{site / 'registers.yaml'}:")


def test_the_coverage_command_counts_what_the_registers_of_the_site_answer(
    site: Path, tmp_path: Path
) -> None:
    given, today = entered(), korean_day(datetime.now(timezone.utc))
    for one in given.values():
        if isinstance(one, dict):
            one["date"], one["expires"] = today.isoformat(), (today + timedelta(days=365)).isoformat()
    (site / "registers.yaml").write_bytes(msgspec.yaml.encode(given))
    told = CliRunner().invoke(
        cli, ["--root", str(tmp_path), "audit", "coverage", "--guide", "nis", "--site", str(site), "--json"]
    )
    found = json.loads(told.output.splitlines()[-1])["result"]
    assert not {one["id"] for one in found["not_automated"]} & set(SIX)
    bare = CliRunner().invoke(
        cli, ["--lang", "ko", "--root", str(tmp_path), "audit", "coverage", "--guide", "nis"]
    )
    assert "관리대장으로 답함: /etc/banip/audit/registers.yaml: accounts, commands" in bare.output


def test_by_default_nothing_is_declared() -> None:
    assert Declared().in_force() == frozenset()
    assert Declared(msgspec.convert(entered(), Registers), None).in_force() == frozenset()
    facts = AuditFacts(
        taken=datetime(2026, 11, 1, tzinfo=timezone.utc),
        accounts=Fact(source="getent", value=(), unread=None),
    )
    status: Status = by_reference(audit(facts, "S").results, ())["host.approved-accounts"].status
    assert status == "manual"


@pytest.mark.parametrize("user", ["+kim", "%:kim", "%:#27", "#0", "mallory", "%#50", "%staff"])
def test_an_administrator_whom_nobody_approved_is_found_however_sudo_is_told_of_him(user: str) -> None:
    case = CASES["host.approved-administrators", "pass"]
    rule = {"users": [user], "run_as": ["ALL"], "commands": ["ALL"]}
    staff = {"name": "staff", "gid": 50, "members": ["mallory"]}
    changed = {"sudo": {"installed": True, "rules": [rule]}, "groups": [*case.facts["groups"], staff]}
    found = case.judged(case.facts | changed)
    assert (
        found.status,
        found.observed.en.startswith("mallory" if user in {"%#50", "%staff"} else user),
    ) == (
        "fail",
        True,
    )


@pytest.mark.parametrize("at", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00"])
def test_a_command_of_a_day_that_no_calendar_has_ends_no_audit(at: str) -> None:
    case = CASES["log.approved-commands", "pass"]
    state = case.facts["state"] | {"sensitive": [{"command": "adopted", "at": at}]}
    assert case.judged(case.facts | {"state": state}).status == "unknown"
