"""An audit as an institution has one: faults, decisions that hold and that lapsed, audits before it."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import msgspec

from appliance.audit.edition import Change, Comparison, Edition, Record
from appliance.audit.facts import AuditFacts, Fact
from appliance.audit.facts_host import Host
from appliance.audit.result import audit
from appliance.audit.site import read_rules
from appliance.format import sha256_hex
from tests.test_audit_checks import cases, facts_of

if TYPE_CHECKING:
    from datetime import datetime

    from appliance.audit.outcome import AuditResult, Status
    from appliance.audit.site import SiteRules
    from appliance.format import Grade
    from appliance.text import Language

#: Checks whose failing facts are taken, so that something is to be mended.
FAILING = ("host.umask", "host.session-timeout", "log.retention", "network.listeners", "tls.certificate")
ACCEPTED: dict[str, Any] = {
    "reason": "관제실 콘솔은 24시간 상주하며 출입을 통제함",
    "approver": "정보보안담당관 김철수",
    "ticket": "보안-2026-17",
    "date": "2026-03-02",
}
ANSWER: dict[str, Any] = {"by": "홍길동 (정보보안담당관)", "date": "2026-03-02"}
SITE: dict[str, list[dict[str, Any]]] = {
    "exceptions": [
        {**ACCEPTED, "applies_to": ["host.session-timeout"], "expires": "2026-12-31"},
        {**ACCEPTED, "applies_to": ["kisa/U-64"], "expires": "2026-06-30"},
    ],
    "attestations": [
        {
            **ANSWER,
            "applies_to": ["nis/M25"],
            "answer": "holds",
            "statement": "반입 확인서의 취약점 보고서와 설치 목록을 대조하였고 남은 조치 없음",
            "expires": "2026-12-01",
            "evidence": [{"file": "취약점 대조표.pdf", "sha256": "3f" * 32}],
        },
        {
            **ANSWER,
            "applies_to": ["n2sf/N2SF-LP-M2"],
            "answer": "does-not-hold",
            "statement": "주요 사용자 위험 관리 절차를 아직 정하지 않음",
            "expires": "2026-12-30",
        },
        {
            **ANSWER,
            "applies_to": ["crypto.validated-module"],
            "answer": "holds",
            "statement": "디스크 암호화에 아래 모듈을 사용함",
            "expires": "2027-03-01",
            "certificate": {"module": "모듈 X", "number": "CM-1", "expires": "2026-05-31"},
        },
    ],
    "tailoring": [
        {
            "check": "host.password-age",
            "value": "120",
            "reason": "기관 비밀번호 지침 제5조",
            "approver": "정보보안담당관 김철수",
            "date": "2026-01-01",
            "expires": "2026-12-31",
        }
    ],
}


@cache
def facts() -> AuditFacts:
    """Return facts of a server that is right in most things."""
    merged: dict[str, object] = {}
    for case in cases():
        if case.status == "fail" and case.check in FAILING:
            merged = {**case.facts, **merged}
    for case in cases():
        if case.status == "pass":
            merged = {**case.facts, **merged}
    merged.pop("usb_events", None)
    about = Host(
        name="ai-server-01",
        os="Debian GNU/Linux 12 (bookworm)",
        kernel="6.1.0-40-amd64",
        virtualization="none",
    )
    return msgspec.structs.replace(
        facts_of(merged), host=Fact(source="uname", value=about, unread=None), appliance="0.1.0"
    )


@cache
def rules() -> SiteRules:
    """Return what the institution decided."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        for kind, entries in SITE.items():
            member = {"tailoring": "thresholds"}.get(kind, kind)
            (folder / f"{kind}.yaml").write_bytes(msgspec.yaml.encode({"format": 1, member: entries}))
        return read_rules(folder)


@cache
def result(grade: Grade = "S") -> AuditResult:
    return audit(facts(), grade, rules())


def record(
    number: int, taken: datetime, score: int, grade: Grade = "S", counts: dict[Status, int] | None = None
) -> Record:
    given: dict[Status, int] = counts or {}
    return Record(
        format=1,
        number=number,
        previous=sha256_hex(b"%d" % (number - 1)) if number > 1 else None,
        taken=taken,
        host="ai-server-01",
        release="demo-1.0.0",
        grade=grade,
        report_grade=max(grade, "S", key="OSC".index),
        score=score,
        counts=given,
        facts=sha256_hex(b"facts %d" % number),
        result=sha256_hex(b"result %d" % number),
        key=sha256_hex(b"key"),
    )


@cache
def edition(language: Language = "ko", *, redacted: bool = False) -> Edition:
    """Return an edition that is the twelfth of its server, with what changed since the eleventh."""
    now = result().taken
    scores = (58, 61, 61, 70, 74, 73, 79, 84, 83, 88, 91)
    trend = tuple(
        record(
            number,
            now - timedelta(days=30 * (len(scores) + 1 - number)),
            score,
            "C" if number == 5 else "S",
            {"pass": 100 + 8 * number, "fail": 40 - 3 * number, "unknown": 3, "manual": 6},
        )
        for number, score in enumerate(scores, 1)
    )
    own = record(12, now, result().score or 0, "S", result().counts)
    return Edition(
        result=result(),
        language=language,
        record=own,
        head=sha256_hex(b"12"),
        comparison=Comparison(earlier=trend[-1], changes=changes()),
        trend=trend,
        redacted=redacted,
    )


def changes() -> tuple[Change, ...]:
    """Return what turned: what fails now was right before, and some of what is right now failed."""
    checks = {one.id: one for one in result().results}
    faults = {name: one.status for name, one in checks.items() if one.status in {"fail", "unknown"}}
    worse = [Change(name, "pass", status) for name, status in faults.items()]
    right = [name for name, one in checks.items() if one.status == "pass"]
    mended = [Change(name, "fail", "pass") for name in right[:9]]
    gone = Change("host.of-an-older-release", "fail", None)
    control = Change("n2sf/N2SF-LP-M2", "manual", "fail")
    followed = Change("kisa/U-12", "pass", "exception")
    accepted = Change("host.session-timeout", "fail", "exception")
    return (*worse[:5], *mended, gone, control, followed, accepted)
