"""What an institution decides: shown beside, never as, a pass; lapsing by date; bad files named."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from appliance.audit.controls import share
from appliance.audit.dated import korean_day
from appliance.audit.facts import AuditFacts, Fact
from appliance.audit.facts_host import Account, Shell
from appliance.audit.outcome import AuditResult, ControlResult, Result
from appliance.audit.result import audit, by_reference
from appliance.audit.site import no_rules, read_rules
from appliance.audit.standing import direction
from appliance.errors import BadInput
from appliance.problems import BadInputs

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.format import Grade

KOREAN = timezone(timedelta(hours=9))
TAKEN = datetime(2026, 6, 15, 12, tzinfo=KOREAN)
DAY = timedelta(days=1)


def facts(taken: datetime = TAKEN) -> AuditFacts:
    """A server whose shells stay open for 900 s, with an account of its own; nothing else was read."""
    shell = Shell(timeout_s=900, umask="0027", path=("/usr/bin",))
    root = Account(name="root", uid=0, gid=0, home="/root", login_shell="/bin/bash", hash_kind="yescrypt")
    return AuditFacts(
        taken=taken,
        shell=Fact(source="bash --login", value=shell, unread=None),
        accounts=Fact(source="getent", value=(root,), unread=None),
        packages=Fact(source="dpkg", value=("libssl3=3",), unread=None),
        login=Fact(source="/etc/login.defs", value=(), unread=None),
    )


class Site:
    """The folder of an institution's files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, *entries: dict[str, Any]) -> Path:
        path = self.folder / f"{name}.yaml"
        member = {"tailoring": "thresholds"}.get(name, name)
        path.write_bytes(msgspec.yaml.encode({"format": 1, member: list(entries)}))
        return path

    def audited(self, grade: Grade = "S", taken: datetime = TAKEN) -> AuditResult:
        return audit(facts(taken), grade, read_rules(self.folder))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def one(result: AuditResult, reference: str) -> Result | ControlResult:
    return by_reference(result.results, result.guides)[reference]


def accepted(*references: str, **changes: object) -> dict[str, Any]:
    return {
        "applies_to": list(references),
        "reason": "장비 교체 예정",
        "approver": "정보보안담당관",
        "ticket": "보안-2026-17",
        "date": "2026-01-02",
        "expires": "2026-06-15",
        **changes,
    }


def attested(*references: str, **changes: object) -> dict[str, Any]:
    return {
        "applies_to": list(references),
        "answer": "holds",
        "statement": "명단과 대조함",
        "by": "홍길동",
        "date": "2026-01-02",
        "expires": "2026-12-31",
        **changes,
    }


def threshold(check: str, value: str, **changes: object) -> dict[str, Any]:
    return {
        "check": check,
        "value": value,
        "reason": "현장 콘솔 작업",
        "approver": "정보보안담당관",
        "date": "2026-01-02",
        "expires": "2026-12-31",
        **changes,
    }


def test_a_server_without_such_files_has_decided_nothing(tmp_path: Path) -> None:
    assert read_rules(tmp_path / "absent") == read_rules(tmp_path) == no_rules()


# --- Controls: the worst of their checks -------------------------------------------------------------------


def test_a_control_is_as_good_as_the_worst_of_its_checks(site: Site) -> None:
    result = site.audited()
    assert one(result, "host.session-timeout").status == "fail"
    assert one(result, "host.unique-uids").status == "pass"
    assert one(result, "kisa/U-10").status == "pass", "one check shows all of it"
    assert one(result, "kisa/U-12").status == "fail", "of its two checks one failed, one was not read"
    assert one(result, "kisa/U-01").status == "unknown", "what was not read is never a pass"
    assert one(result, "kisa/WEB-01").status == "not-applicable"
    assert one(result, "nis/M13").status == "manual"


def test_what_is_shown_in_part_never_makes_a_control_green(site: Site) -> None:
    control = one(site.audited(grade="C"), "n2sf/N2SF-AC-2")
    assert isinstance(control, ControlResult)
    (shown,) = (each for each in control.evidence if each.check == "host.unique-uids")
    assert (shown.status, shown.shows) == ("pass", "part")
    assert shown.part
    assert shown.part.en == "no two accounts share a UID"
    assert {each.status for each in control.evidence} == {"pass"}
    assert control.status == "manual"
    assert control.shown == "pass", "its part counts for the evidence"


def test_a_control_that_the_grade_does_not_ask_counts_nowhere(site: Site) -> None:
    result = site.audited(grade="S")
    control = one(result, "n2sf/N2SF-AC-2")
    assert isinstance(control, ControlResult)
    assert (control.applies, control.status) == (False, "not-applicable")
    (n2sf,) = (guide for guide in result.guides if guide.guide == "n2sf")
    assert sum(n2sf.counts.values()) == 222 == sum(n2sf.answered.values())


def test_a_guides_score_is_of_what_a_machine_saw(site: Site) -> None:
    (kisa,) = (guide for guide in site.audited().guides if guide.guide == "kisa")
    seen = [one for one in kisa.controls if one.shown is not None]
    assert sum(score.counted for score in kisa.scores) == len(seen)
    assert sum(score.passed for score in kisa.scores) == sum(one.shown == "pass" for one in seen)
    assert kisa.score is not None
    assert 0 < kisa.score < 100
    (dbms,) = (score for score in kisa.scores if score.area == "dbms")
    assert dbms.counted == sum(bool(one.evidence) for one in kisa.controls if one.area == "dbms")


# --- Exceptions --------------------------------------------------------------------------------------------


def test_an_exception_is_shown_as_one_and_never_as_a_pass(site: Site) -> None:
    before = site.audited()
    site.write("exceptions", accepted("host.session-timeout"))
    result = site.audited()
    check = one(result, "host.session-timeout")
    assert isinstance(check, Result)
    assert (check.status, check.found) == ("exception", "fail")
    assert check.exception
    assert (check.exception.approver, check.exception.ticket) == ("정보보안담당관", "보안-2026-17")
    assert result.counts["pass"] == before.counts["pass"]
    assert (result.score, result.scores) == (before.score, before.scores), "writing one raises no score"
    assert share([(3, "exception"), (1, "pass"), (3, "manual")]) == 25
    assert result.findings() == before.findings() - 1
    assert one(result, "kisa/U-12").status == "unknown", "the control's other check is still unread"


@pytest.mark.parametrize(
    ("moment", "status", "standing"),
    [
        (datetime(2026, 1, 1, 23, 59, tzinfo=KOREAN), "fail", "not-yet"),
        (datetime(2026, 1, 2, 0, 0, tzinfo=KOREAN), "exception", "in-force"),
        (datetime(2026, 6, 15, 23, 59, tzinfo=KOREAN), "exception", "in-force"),
        (datetime(2026, 6, 15, 15, 0, tzinfo=timezone.utc), "fail", "lapsed"),
    ],
)
def test_it_lapses_at_the_end_of_its_day_in_korea(
    site: Site, moment: datetime, status: str, standing: str
) -> None:
    site.write("exceptions", accepted("host.session-timeout"))
    result = site.audited(taken=moment)
    check = one(result, "host.session-timeout")
    assert check.status == status
    assert check.exception
    assert check.exception.standing == standing, "a report says why it does not count"
    assert result.decisions[0].used_for == (("host.session-timeout",) if status == "exception" else ())


def test_nobody_can_accept_what_was_not_read_and_a_pass_stays_a_pass(site: Site) -> None:
    site.write("exceptions", accepted("host.root-remote-login", "host.unique-uids", "kisa/U-01"))
    result = site.audited()
    assert one(result, "host.root-remote-login").status == "unknown"
    assert one(result, "kisa/U-01").status == "unknown"
    assert one(result, "host.unique-uids").status == "pass"
    assert result.decisions[0].used_for == ()


def test_an_exception_of_one_control_leaves_the_check_and_other_controls_alone(site: Site) -> None:
    site.write("exceptions", accepted("nis/M22", "n2sf/N2SF-DV-8"))
    result = site.audited()
    assert one(result, "nis/M22").status == "exception", "an open item can be accepted, too"
    assert one(result, "n2sf/N2SF-DV-8").status == "exception"
    assert one(result, "host.session-timeout").status == "fail"
    assert result.decisions[0].used_for == ("nis/M22", "n2sf/N2SF-DV-8")
    late = site.audited(taken=TAKEN + DAY)
    assert one(late, "nis/M22").status == "manual"
    assert one(late, "n2sf/N2SF-DV-8").status == "fail"


# --- Attestations ------------------------------------------------------------------------------------------


def test_an_answered_control_is_answered_and_not_passed(site: Site) -> None:
    before = site.audited()
    site.write("attestations", attested("nis/M13", "nis/M30"))
    result = site.audited()
    control = one(result, "nis/M13")
    assert isinstance(control, ControlResult)
    assert (control.status, control.attested) == ("manual", True)
    assert control.attestation
    assert control.attestation.by == "홍길동"
    counted = {guide.guide: guide for guide in result.guides}
    assert counted["nis"].attested == 2
    assert [guide.counts for guide in result.guides] == [guide.counts for guide in before.guides]
    assert result.decisions[0].used_for == ("nis/M13", "nis/M30")


def test_an_answer_lapses_too(site: Site) -> None:
    site.write("attestations", attested("nis/M13"))
    control = one(site.audited(taken=TAKEN + 365 * DAY), "nis/M13")
    assert isinstance(control, ControlResult)
    assert control.attestation
    assert (control.attested, control.attestation.standing) == (False, "lapsed")


def test_a_person_can_say_that_it_does_not_hold_and_then_it_is_a_finding(site: Site) -> None:
    before = site.audited()
    site.write("attestations", attested("nis/M13", answer="does-not-hold"))
    result = site.audited()
    assert one(result, "nis/M13").status == "fail"
    assert result.findings() == before.findings() + 1


def test_not_applicable_is_an_answer_where_no_check_says_otherwise(site: Site) -> None:
    given = attested("nis/M13", "n2sf/N2SF-AC-2", answer="not-applicable")
    site.write("attestations", given)
    result = site.audited(grade="C")
    assert one(result, "nis/M13").status == "not-applicable"
    assert one(result, "n2sf/N2SF-AC-2").status == "manual", "a check shows a part of it"


def test_no_answer_covers_what_a_check_found(site: Site) -> None:
    site.write("attestations", attested("kisa/U-12", "host.session-timeout", "n2sf/N2SF-DV-8"))
    result = site.audited()
    assert one(result, "host.session-timeout").status == "fail"
    assert one(result, "kisa/U-12").status == "fail"
    assert one(result, "n2sf/N2SF-DV-8").status == "fail"


EVIDENCE = b"minutes of a meeting"


def test_evidence_that_is_here_is_compared_and_another_file_makes_the_answer_void(site: Site) -> None:
    kept = {"file": "회의록.pdf", "sha256": hashlib.sha256(EVIDENCE).hexdigest()}
    elsewhere = {"file": "scan 2.pdf", "sha256": "a" * 64}
    site.write("attestations", attested("nis/M13", evidence=[kept, elsewhere]))
    (site.folder / "evidence").mkdir()
    (site.folder / "evidence" / "회의록.pdf").write_bytes(EVIDENCE)
    control = one(site.audited(), "nis/M13")
    assert isinstance(control, ControlResult)
    assert control.attestation
    assert control.attestation.checked == (kept["sha256"],)
    assert control.attested
    (site.folder / "evidence" / "회의록.pdf").write_bytes(b"something else")
    result = site.audited()
    changed = one(result, "nis/M13")
    assert isinstance(changed, ControlResult)
    assert changed.attestation
    assert changed.attestation.void
    assert "회의록.pdf" in changed.attestation.void.ko
    assert not changed.attested
    assert result.decisions[0].standing == "void"


# --- Validated cryptography --------------------------------------------------------------------------------

CERTIFICATE = {"module": "모듈 1.0", "number": "CM-000-2029.1", "expires": "2026-06-15"}
CRYPTO = ("crypto.validated-module", "n2sf/N2SF-EA-1", "n2sf/N2SF-AM-1")


def test_validated_cryptography_without_a_certificate_is_not_answered(site: Site) -> None:
    site.write("attestations", attested(*CRYPTO))
    result = site.audited()
    for reference in CRYPTO:
        found = one(result, reference)
        assert found.status == "manual"
        assert found.attestation
        assert found.attestation.standing == "void"
        assert found.attestation.void
        assert "KCMVP" in found.attestation.void.en
    assert [guide.attested for guide in result.guides] == [0, 0, 0]


def test_with_a_certificate_it_is_answered_until_that_ends_and_is_never_green(site: Site) -> None:
    site.write("attestations", attested(*CRYPTO, certificate=CERTIFICATE))
    control = one(site.audited(), "n2sf/N2SF-EA-1")
    assert isinstance(control, ControlResult)
    assert (control.status, control.attested) == ("manual", True)
    assert control.attestation
    assert control.attestation.certificate
    assert control.attestation.certificate.expires == date(2026, 6, 15)
    later = one(site.audited(taken=TAKEN + DAY), "n2sf/N2SF-EA-1")
    assert isinstance(later, ControlResult)
    assert later.attestation
    assert (later.attested, later.attestation.standing) == (False, "void")


def test_a_control_whose_only_check_is_answered_by_the_check_is_answered(site: Site) -> None:
    site.write("attestations", attested("crypto.validated-module", certificate=CERTIFICATE))
    control = one(site.audited(), "n2sf/N2SF-EA-1")
    assert isinstance(control, ControlResult)
    assert control.attested


# --- Tailoring ---------------------------------------------------------------------------------------------


def test_a_threshold_of_the_site_decides_and_is_shown_with_the_one_it_replaces(site: Site) -> None:
    site.write("tailoring", threshold("host.session-timeout", "900"))
    result = site.audited()
    check = one(result, "host.session-timeout")
    assert isinstance(check, Result)
    assert check.status == "pass"
    assert check.tailored
    assert (check.tailored.value, check.tailored.default, check.tailored.direction) == (
        "900",
        "600",
        "looser",
    )
    assert "900" in check.expected.ko, "expected and remedy follow it"
    assert "900" in check.remedy.en
    control = one(result, "n2sf/N2SF-DV-8")
    assert isinstance(control, ControlResult)
    (shown,) = (each for each in control.evidence if each.check == "host.session-timeout")
    assert (shown.status, shown.tailored) == ("pass", "looser"), "and every control that it is evidence for"
    assert result.decisions[0].used_for == ("host.session-timeout",)


def test_it_lapses_and_holds_for_its_grades_only(site: Site) -> None:
    site.write("tailoring", threshold("host.session-timeout", "900", grades="C"))
    assert one(site.audited(grade="S"), "host.session-timeout").status == "fail"
    assert one(site.audited(grade="C"), "host.session-timeout").status == "pass"
    late = site.audited(grade="C", taken=TAKEN + 365 * DAY)
    check = one(late, "host.session-timeout")
    assert isinstance(check, Result)
    assert (check.status, check.tailored) == ("fail", None)
    assert late.decisions[0].standing == "lapsed"


@pytest.mark.parametrize(
    ("value", "default", "stricter", "wanted"),
    [
        ("600", "600.0", "lower", "same"),
        ("300", "600", "lower", "stricter"),
        ("900", "600", "lower", "looser"),
        ("12", "9", "higher", "stricter"),
        ("8", "9", "higher", "looser"),
        ("0400", "0640", "lower", "stricter"),
        ("0440", "0640", "lower", "stricter"),
        ("0660", "0640", "lower", "looser"),
        ("0604", "0640", "lower", "looser"),
        ("077", "022", "higher", "stricter"),
        ("002", "022", "higher", "looser"),
        ("022", "022", "higher", "same"),
    ],
)
def test_looser_and_stricter_are_told_apart(value: str, default: str, stricter: str, wanted: str) -> None:
    assert direction(value, default, stricter) == wanted


# --- Bad files ---------------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[str, tuple[dict[str, Any], ...], str, str]] = {
    "a check that is none": (
        "tailoring",
        (threshold("host.sesion-timeout", "900"),),
        "$.thresholds[0].check",
        "there is no check host.sesion-timeout",
    ),
    "a check without a threshold": (
        "tailoring",
        (threshold("host.unique-uids", "1"),),
        "$.thresholds[0].check",
        "no threshold",
    ),
    "a number for permission bits": (
        "tailoring",
        (threshold("host.umask", "27"),),
        "$.thresholds[0].value",
        "27 is no threshold like 022, 027",
    ),
    "words for a number": (
        "tailoring",
        (threshold("host.session-timeout", "inf"),),
        "$.thresholds[0].value",
        "inf is no threshold",
    ),
    "an exception without an approver": (
        "exceptions",
        ({key: value for key, value in accepted("host.umask").items() if key != "approver"},),
        "$.exceptions[0]",
        "approver",
    ),
    "an exception without an end": (
        "exceptions",
        ({key: value for key, value in accepted("host.umask").items() if key != "expires"},),
        "$.exceptions[0]",
        "expires",
    ),
    "an exception that ends before it begins": (
        "exceptions",
        (accepted("host.umask"), accepted("host.umask", expires="2025-12-31")),
        "$.exceptions[1].expires",
        "before it begins",
    ),
    "an empty reason": (
        "exceptions",
        (accepted("host.umask", reason=""),),
        "$.exceptions[0].reason",
        "this is empty",
    ),
    "a control that is none": (
        "attestations",
        (attested("kisa/U-64", "kisa/U-68"),),
        "$.attestations[0].applies_to[1]",
        "there is no check or control kisa/U-68",
    ),
    "nothing that it applies to": (
        "attestations",
        (attested(),),
        "$.attestations[0].applies_to",
        "this is empty",
    ),
    "an answer that is none": (
        "attestations",
        (attested("kisa/U-64", answer="yes"),),
        "$.attestations[0].answer",
        "yes",
    ),
    "a digest that is none": (
        "attestations",
        (attested("kisa/U-64", evidence=[{"file": "a", "sha256": "b"}]),),
        "$.attestations[0].evidence[0].sha256",
        "no SHA-256",
    ),
    "evidence outside of its folder": (
        "attestations",
        (attested("kisa/U-64", evidence=[{"file": "../shadow", "sha256": "a" * 64}]),),
        "$.attestations[0].evidence[0].file",
        "form",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_entry_is_named_by_file_line_and_place(site: Site, fault: str) -> None:
    name, entries, place, said = FAULTS[fault]
    path = site.write(name, *entries)
    with pytest.raises(BadInputs) as caught:
        read_rules(site.folder)
    (problem,) = caught.value.problems
    where, _, inside = problem.where.partition(": ")
    assert inside == place
    assert said in problem.said.render()
    file, _, line = where.rpartition(":")
    assert file == str(path)
    assert 1 < int(line) <= len(path.read_text("utf-8").splitlines())


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_file_that_others_may_write_decides_nothing(site: Site, mode: int) -> None:
    path = site.write("exceptions", accepted("host.session-timeout"))
    path.chmod(mode)
    with pytest.raises(BadInput, match="others than root") as caught:
        read_rules(site.folder)
    assert caught.value.where == path


@pytest.mark.parametrize("name", ["checklists", "evidence"])
def test_a_folder_that_others_may_write_decides_nothing(site: Site, name: str) -> None:
    (site.folder / name).mkdir()
    (site.folder / name).chmod(0o777)
    with pytest.raises(BadInput, match="others than root") as caught:
        read_rules(site.folder)
    assert caught.value.where == site.folder / name


@pytest.mark.parametrize(
    "name", ["exceptions.yml", "exception.yaml", "Tailoring.yaml", "checklists/agency.yml", "agency.yaml"]
)
def test_a_file_that_nobody_would_read_is_refused(site: Site, name: str) -> None:
    (site.folder / "checklists").mkdir()
    (site.folder / name).write_bytes(site.write("exceptions").read_bytes())
    with pytest.raises(BadInput, match="nothing reads a file of this name") as caught:
        read_rules(site.folder)
    assert caught.value.where == site.folder / name
    (site.folder / name).rename(site.folder / f"{name}.old")
    read_rules(site.folder)


@pytest.mark.parametrize(
    "changes", [{"approver": " "}, {"reason": "\u3000"}, {"ticket": "\t"}, {"expires": "9999-12-31"}]
)
def test_a_decision_of_nobody_or_for_ever_is_refused(site: Site, changes: dict[str, str]) -> None:
    site.write("exceptions", accepted("host.session-timeout", **changes))
    with pytest.raises(BadInputs) as caught:
        read_rules(site.folder)
    assert f"exceptions[0].{next(iter(changes))}" in str(caught.value.lines("en"))
    site.write("exceptions", accepted("host.session-timeout", expires="2031-01-01"))
    read_rules(site.folder)


def test_evidence_that_is_no_file_is_not_the_one_that_was_named(site: Site) -> None:
    digest = "3f0a377ba0a4a460ecb616f6507ce0d8cfa3e704025d4fda3ed0c5ca05468728"
    (site.folder / "evidence").mkdir()
    (site.folder / "evidence" / "x.pdf").symlink_to("/dev/zero")
    site.write("attestations", attested("kisa/U-64", evidence=[{"file": "x.pdf", "sha256": digest}]))
    assert read_rules(site.folder).broken == {digest}


def test_a_link_to_nothing_a_pipe_and_an_endless_file_are_refused(site: Site) -> None:
    path = site.folder / "tailoring.yaml"
    path.symlink_to(site.folder / "gone")
    with pytest.raises(BadInput, match="cannot be read"):
        read_rules(site.folder)
    path.unlink()
    os.mkfifo(path)
    path.chmod(0o600)
    with pytest.raises(BadInput, match="no plain file"):
        read_rules(site.folder)
    path.unlink()
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(BadInput, match="is refused"):
        read_rules(site.folder)


def test_dates_may_stand_without_quotes_and_other_half_words_may_not(site: Site) -> None:
    path = site.write("exceptions", accepted("host.session-timeout"))
    path.write_text(path.read_text("utf-8").replace("'", ""), "utf-8")
    assert "expires: 2026-06-15" in path.read_text("utf-8")
    assert read_rules(site.folder).exceptions[0].expires == date(2026, 6, 15)
    path.write_text(path.read_text("utf-8").replace("보안-2026-17", "12:30"), "utf-8")
    with pytest.raises(BadInputs):
        read_rules(site.folder)


def test_the_files_that_went_in_are_named_by_digest(site: Site) -> None:
    path = site.write("exceptions", accepted("host.session-timeout"))
    (file,) = site.audited().site_files
    assert (file.path, file.sha256) == (str(path), hashlib.sha256(path.read_bytes()).hexdigest())


def test_a_day_is_a_day_in_korea() -> None:
    assert korean_day(datetime(2026, 6, 15, 14, 59, tzinfo=timezone.utc)) == date(2026, 6, 15)
    assert korean_day(datetime(2026, 6, 15, 15, 0, tzinfo=timezone.utc)) == date(2026, 6, 16)


# --- The officer's guide -----------------------------------------------------------------------------------

GUIDE = Path(__file__).parents[1] / "docs" / "ko" / "audit.md"
EXAMPLE = re.compile(r"```yaml\n# /etc/banip/audit/([^\n]+)\n(.*?)```", re.DOTALL)


def examples() -> list[tuple[str, str]]:
    return EXAMPLE.findall(GUIDE.read_text("utf-8"))


def test_the_guide_shows_each_kind_of_file() -> None:
    assert {name.partition("/")[0] for name, _ in examples()} == {
        "attestations.yaml",
        "exceptions.yaml",
        "tailoring.yaml",
        "registers.yaml",
        "checklists",
    }
    assert GUIDE.read_text("utf-8").count("```yaml") == len(examples())


@pytest.mark.parametrize("number", range(len(examples())))
def test_every_example_of_the_guide_is_one(site: Site, number: int) -> None:
    name, content = examples()[number]
    (site.folder / name).parent.mkdir(exist_ok=True)
    (site.folder / name).write_text(content, "utf-8")
    rules = read_rules(site.folder)
    assert rules != no_rules()
    assert [Path(file.path).name for file in rules.files] == [Path(name).name]


def test_what_the_guide_says_of_its_examples_is_so(site: Site) -> None:
    (site.folder / "checklists").mkdir()
    for name, content in examples():  # of two files of a name, the later: that with the certificate
        (site.folder / name).write_text(content, "utf-8")
    result = site.audited()
    check = one(result, "host.session-timeout")
    assert isinstance(check, Result)
    assert check.status == "pass", "900 s are allowed by the site's threshold"
    assert check.tailored
    assert check.tailored.direction == "looser"
    quality = one(result, "host.password-quality")
    assert isinstance(quality, Result)
    assert quality.tailored
    assert quality.tailored.direction == "stricter"
    assert [entry.used_for for entry in result.decisions if entry.kind == "exception"] == [()]
    control = one(result, "n2sf/N2SF-EA-1")
    assert isinstance(control, ControlResult)
    assert (control.status, control.attested) == ("manual", True)
    assert one(result, "agency/A-3").status == "manual"
    clause = one(result, "n2sf/N2SF-LP-4")
    assert isinstance(clause, ControlResult)
    assert clause.clause.startswith("원문")


# --- An own checklist --------------------------------------------------------------------------------------


def own_list(count: int) -> str:
    head = "format: 1\nguide: ours\nlabel: 우리\ntitle: 우리\nedition: '1'\nareas: {a: 가}\ncontrols:\n"
    kinds = (
        "checks: [{check: host.session-timeout, shows: full}]",
        "checks: [{check: host.unique-uids, shows: part, part: p}]\n    rest: {kind: manual, reason: r}",
        "rest: {kind: institution, reason: 기관이 정함, ask: 정했습니까?, look: [/etc/hosts]}",
    )
    rows = [
        f"  - id: A-{number}\n    title: 항목 {number}\n    area: a\n    {kinds[number % len(kinds)]}\n"
        for number in range(count)
    ]
    return head + "".join(rows)


def test_what_judging_costs_grows_with_the_items_and_no_faster(site: Site) -> None:
    """Counted in calls: a clock would measure what else this machine does."""
    (site.folder / "checklists").mkdir()
    site.write("exceptions", accepted("host.session-timeout"), *(accepted("ours/A-1") for _ in range(200)))
    no_rules()  # the guides of Banip are read once a process
    calls = []
    for count in (100, 550, 1000):
        (site.folder / "checklists" / "ours.yaml").write_text(own_list(count), "utf-8")
        rules = read_rules(site.folder)
        result, made = counted(lambda rules=rules: audit(facts(), "S", rules))  # type: ignore[misc]
        calls.append(made)
    (ours,) = (guide for guide in result.guides if guide.guide == "ours")
    assert ours.own
    assert ours.counts["exception"] == 334 + 1
    assert ours.answered == {
        "automated": 334,
        "partial": 333,
        "manual": 0,
        "institution": 333,
        "not-applicable": 0,
    }
    assert calls[2] - calls[1] < 1.1 * (calls[1] - calls[0])


def counted(work: Callable[[], AuditResult]) -> tuple[AuditResult, int]:
    """Return what the work returns, and how many calls of Python functions it took."""
    calls = 0

    def count(_: object, event: str, __: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        return work(), calls
    finally:
        sys.setprofile(None)


def test_a_site_may_name_its_own_controls_in_its_decisions(site: Site) -> None:
    (site.folder / "checklists").mkdir()
    (site.folder / "checklists" / "ours.yaml").write_text(own_list(3), "utf-8")
    site.write("attestations", attested("ours/A-2"))
    control = one(site.audited(), "ours/A-2")
    assert isinstance(control, ControlResult)
    assert control.attested
    check = one(site.audited(), "host.session-timeout")
    assert isinstance(check, Result)
    assert "ours" in {item.guide for item in check.items}, "and checks name them"


def test_additions_may_be_read_in_any_order_of_names(site: Site) -> None:
    folder = site.folder / "checklists"
    folder.mkdir()
    (folder / "b.yaml").write_text(own_list(3), "utf-8")
    added = "format: 1\nextends: ours\ncontrols: [{id: A-0, clause: 조항의 글}]\n"
    (folder / "a.yaml").write_text(added, "utf-8")
    control = one(site.audited(), "ours/A-0")
    assert isinstance(control, ControlResult)
    assert control.clause == "조항의 글"
