"""Every check passes and fails on data, and never passes on what nobody read."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from appliance.audit.catalogue import checks
from appliance.audit.checks import CHECKS
from appliance.audit.checks.logs import seconds
from appliance.audit.facts import AuditFacts, Fact, facts_from_bytes
from appliance.audit.registers import Registers
from appliance.audit.result import audit, uncovered
from appliance.audit.site import SiteRules
from appliance.errors import BadInput

if TYPE_CHECKING:
    from appliance.audit.outcome import Result
    from appliance.format import Grade

CASES = Path(__file__).parent / "audit" / "cases"
TAKEN = "2026-11-01T00:00:00Z"
#: What a check says does not depend on the guides; answering all their items takes longer than all checks.
NO_GUIDES = SiteRules(checklists={})


@dataclass(frozen=True, slots=True)
class Case:
    """Facts for one check, the grade it is judged for, and words that must stand in what was observed.

    ``registers``: what the institution entered; their papers are here, but for those of these names.
    """

    check: str
    status: str
    grade: Any
    facts: dict[str, Any]
    observed: str
    registers: dict[str, Any] = field(default_factory=dict)
    absent: tuple[str, ...] = ()

    def rules(self) -> SiteRules:
        registers = msgspec.convert({"format": 1, **self.registers}, Registers)
        present = frozenset(one.sha256 for one in registers.papers() if one.file not in self.absent)
        return SiteRules(checklists={}, registers=registers, present=present)

    def judged(self, facts: dict[str, Any]) -> Result:
        results = audit(facts_of(facts), self.grade, self.rules()).results
        return next(one for one in results if one.id == self.check)


def cases() -> list[Case]:
    return [_case(path) for path in sorted(CASES.glob("*.json"))]


def _case(path: Path) -> Case:
    check, _, status = path.stem.rpartition(".")
    return Case(check, status, **json.loads(path.read_text("utf-8")))


def facts_of(given: dict[str, Any]) -> AuditFacts:
    read = {name: {"source": "case", "unread": None, "value": value} for name, value in given.items()}
    return facts_from_bytes(json.dumps({"taken": TAKEN, **read}).encode(), "case")


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case.check}.{case.status}")
def test_a_check_judges_its_case(case: Case) -> None:
    result = case.judged(case.facts)
    assert result.status == case.status, result.observed.en
    assert case.observed in result.observed.en
    assert result.observed.ko
    assert result.where or case.status == "not-applicable"


def test_every_automatic_check_has_a_pass_and_a_fail_case_and_every_manual_one_its_own() -> None:
    seen = {(case.check, case.status) for case in cases()}
    wanted = {
        (name, status)
        for name, check in checks().checks.items()
        for status in (
            *(("pass", "fail") if check.automatic else ()),
            *(("manual",) if check.register or not check.automatic else ()),
        )
    }
    assert not wanted - seen
    assert not {name for name, _ in seen} - checks().checks.keys()


def test_every_judgement_has_its_words_and_all_words_a_judgement() -> None:
    assert uncovered() == set()
    assert len([check for check in checks().checks.values() if check.automatic]) >= 35


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_what_nobody_read_is_unknown_with_its_reason(name: str) -> None:
    every = {field: Fact[Any](source="nft", unread="it is on fire") for field in _fact_names()}
    facts = msgspec.structs.replace(facts_of({}), **every)
    (result,) = (one for one in audit(facts, "C", NO_GUIDES).results if one.id == name)
    assert result.status == "unknown"
    assert "it is on fire" in result.observed.en
    assert result.where == "nft"


@pytest.mark.parametrize(
    "case", [case for case in cases() if case.status == "pass"], ids=lambda case: case.check
)
def test_a_check_that_lacks_one_of_its_facts_does_not_pass(case: Case) -> None:
    """Of what stands in a passing case, each fact is needed: without it nobody can say that it passes."""
    for name in case.facts:
        rest = {other: value for other, value in case.facts.items() if other != name}
        assert case.judged(rest).status == "unknown", name


def _fact_names() -> list[str]:
    return [name for name in AuditFacts.__struct_fields__ if name not in {"format", "taken", "appliance"}]


def test_a_fact_that_claims_to_be_read_and_is_empty_is_unknown_too() -> None:
    facts = msgspec.structs.replace(facts_of({}), accounts=Fact(source="getent", value=None, unread=None))
    (result,) = (one for one in audit(facts, "S").results if one.id == "host.unique-uids")
    assert result.status == "unknown"


@pytest.mark.parametrize(("grade", "days"), [("C", "730"), ("S", "365"), ("O", "180")])
def test_words_take_the_threshold_of_their_grade(grade: Grade, days: str) -> None:
    (result,) = (one for one in audit(facts_of({}), grade).results if one.id == "log.retention")
    assert days in result.expected.ko
    assert days in result.remedy.en


@pytest.mark.parametrize(("grade", "status"), [("C", "fail"), ("S", "pass"), ("O", "pass")])
def test_a_threshold_decides_by_grade(grade: Grade, status: str) -> None:
    unit = {"name": "banip-api.service", "active": "active", "kind": "exec", "exposure": 3.5}
    results = audit(facts_of({"units": [unit]}), grade).results
    assert [one.status for one in results if one.id == "service.hardening"] == [status]


def test_no_words_claim_that_a_guide_is_met() -> None:
    told = json.dumps(msgspec.to_builtins(checks()), ensure_ascii=False).lower()
    assert not [word for word in ("준수", "compliant", "compliance") if word in told]


def test_unknown_counts_against_the_score_and_manual_does_not_count() -> None:
    nothing = audit(facts_of({}), "C")
    assert nothing.score == 0
    assert nothing.counts["unknown"] == len(CHECKS)
    (keys,) = (score for score in nothing.scores if score.area == "key")
    assert (keys.passed, keys.counted) == (0, sum(one.area == "key" for one in checks().checks.values()))
    packages = audit(facts_of({"packages": ["libssl3=3"]}), "C")
    (fewer,) = (score for score in packages.scores if score.area == "key")
    assert (fewer.passed, fewer.counted) == (0, keys.counted - 1), (
        "the manual check was read, and counts nowhere"
    )


@pytest.mark.parametrize(("grade", "wanted"), [("O", "S"), ("S", "S"), ("C", "C")])
def test_a_report_is_never_below_sensitive(grade: Grade, wanted: Grade) -> None:
    assert audit(facts_of({}), grade).report_grade == wanted


def test_facts_survive_a_file_and_a_foreign_file_is_refused() -> None:
    facts = facts_of(cases()[0].facts)
    assert facts_from_bytes(msgspec.json.encode(facts), "there and back") == facts
    with pytest.raises(BadInput):
        facts_from_bytes(b'{"taken": "2026-11-01T00:00:00Z", "surprise": 1}', "elsewhere")


@pytest.mark.parametrize(
    ("span", "wanted"),
    [("1year", 31557600), ("2week", 1209600), ("1d 12h", 129600), ("90", 90), ("5M", 13149000), ("5m", 300)],
)
def test_spans_of_systemd_are_understood(span: str, wanted: float) -> None:
    assert seconds(span) == wanted


@pytest.mark.parametrize("span", ["", "soon", "1 fortnight", "-1d"])
def test_other_spans_are_not_guessed(span: str) -> None:
    assert seconds(span) is None


def test_a_setting_that_nobody_expected_ends_no_audit() -> None:
    (case,) = (one for one in cases() if (one.check, one.status) == ("host.ssh-attempts", "fail"))
    odd = json.loads(json.dumps(case.facts))
    odd["ssh"]["settings"]["maxauthtries"] = "many"
    (result,) = (one for one in audit(facts_of(odd), "S").results if one.id == case.check)
    assert result.status == "unknown"
    assert "many" in result.observed.en


@pytest.mark.parametrize("mode", ["", "rw-r--r--", "0o644", "0644\n", "9", "-1", "{limit}", "٣"])
def test_a_mode_that_no_file_has_is_no_fact(mode: str) -> None:
    with pytest.raises(BadInput):
        facts_of({"files": [{"path": "/etc/shadow", "mode": mode}]})
    with pytest.raises(BadInput):
        facts_of({"files": [{"path": "/etc/shadow", "kind": "link", "to_mode": mode or "x"}]})
