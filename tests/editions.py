"""Editions of a report for tests: a server with everything that a report may have to say, under bad names."""

from __future__ import annotations

import tempfile
from datetime import datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from appliance.audit.catalogue import Words
from appliance.audit.edition import Change, Comparison, Edition, Record
from appliance.audit.facts import Fact
from appliance.audit.facts_host import Host
from appliance.audit.outcome import STATUSES, AuditResult, ControlResult, Result
from appliance.audit.result import audit
from appliance.audit.site import read_rules
from tests.test_audit_checks import cases, facts_of
from tests.test_audit_site import Site, accepted, attested, own_list, threshold

if TYPE_CHECKING:
    from appliance.audit.facts import AuditFacts
    from appliance.audit.outcome import Status
    from appliance.text import Language

#: What a spreadsheet, a document or a reader of Markdown may take for more than text.
HOSTILE = (
    '=HYPERLINK("http://a.invalid","x")',
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "http://a.invalid/",
    "mailto:a@a.invalid",
    "<script>alert(1)</script>&amp;&L&P",
    "[link](javascript:alert(1)) `code` **bold**",
    "two\nlines\tand a tab",
    "_x000D_ \x00\x1b[31m\x85\u202e\ufffe",
    "a" * 40_000,
)
HOST = '=cmd|"/C calc"!A0 <b>&'
HEAD = "5e" * 32
CLAUSE = "format: 1\nextends: kisa\ncontrols:\n  - id: U-01\n    clause: |\n      =1+1\n      둘째 줄\n"
#: Checks whose facts are those of a bad server.
_BAD = ("host.root-remote-login", "host.umask", "host.password-quality", "host.session-timeout")


@cache
def facts() -> AuditFacts:
    """Return facts of a server that is right in most things and wrong in some."""
    found = cases()
    merged: dict[str, Any] = {}
    for case in found:
        if case.status == "pass":
            merged = {**case.facts, **merged}
    for case in found:
        if case.status == "fail" and case.check in _BAD:
            merged |= case.facts
    about = Host(name=HOST, os="Debian GNU/Linux 12", kernel="6.1", virtualization="none")
    host = Fact(source="uname", value=about, unread=None)
    return msgspec.structs.replace(facts_of(merged), host=host, appliance="0.1.0")


@cache
def result(own_items: int = 12) -> AuditResult:
    """Return an audit with decisions of every standing and a checklist of the institution's own."""
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        (site.folder / "checklists").mkdir()
        (site.folder / "checklists" / "ours.yaml").write_text(own_list(own_items), "utf-8")
        (site.folder / "checklists" / "text.yaml").write_text(CLAUSE, "utf-8")
        until = {"expires": "2026-12-31"}
        site.write(
            "exceptions",
            accepted("host.root-remote-login", reason=HOSTILE[0], **until),
            accepted("host.umask", "kisa/U-64", ticket="보안-2026-3"),
            accepted("ours/A-2", approver="@SUM(A1)", **until),
        )
        site.write(
            "attestations",
            attested("nis/M13", "n2sf/N2SF-IN-9", statement=HOSTILE[3], by="홍길동 (정보보안담당관)"),
            attested("n2sf/N2SF-LP-M2", answer="does-not-hold", statement="절차가 없음"),
            attested("crypto.validated-module", statement="인증서 없이"),
            attested("ours/A-5", expires="2026-03-01"),
        )
        site.write("tailoring", threshold("host.password-quality", "6"))
        return audit(facts(), "S", read_rules(site.folder))


def hostile(found: AuditResult) -> AuditResult:
    """Put bad words into whatever a server or a person may have written."""
    results = list(found.results)
    for number, words in enumerate(HOSTILE):
        bad = Words(ko=words, en=words)
        results[number] = msgspec.structs.replace(
            results[number], observed=bad, expected=bad, remedy=bad, where=words
        )
    first, *others = found.guides[-1].controls
    guide = msgspec.structs.replace(
        found.guides[-1],
        label="'[우리]: a/b?*\\ " + "긴 이름 " * 20,
        controls=(msgspec.structs.replace(first, title=HOSTILE[0], clause=HOSTILE[-1]), *others),
    )
    return msgspec.structs.replace(
        found, results=tuple(results), guides=(*found.guides[:-1], guide), release="=1+1"
    )


def record(number: int, found: AuditResult, score: int | None = 70) -> Record:
    """Return a link of the chain."""
    taken = found.taken - timedelta(days=30 * (4 - number))
    return Record(
        format=1,
        number=number,
        previous=f"{number - 1:064x}" if number > 1 else None,
        taken=taken,
        host=found.host,
        release=found.release,
        grade=found.grade,
        report_grade=found.report_grade,
        score=score,
        counts=found.counts,
        facts="fa" * 32,
        result="ce" * 32,
        key="4e" * 32,
    )


def edition(
    language: Language = "ko", *, found: AuditResult | None = None, redacted: bool = False
) -> Edition:
    """Return the fourth audit of a server, with what changed since the third."""
    found = found or result()
    changes = (
        Change("host.umask", "pass", "fail"),
        Change("kisa/U-30", "unknown", "fail"),
        Change("gone.check", "pass", None),
        Change("host.audit-rules", None, "fail"),
    )
    earlier = tuple(record(number, found, score) for number, score in ((1, None), (2, 55), (3, 70)))
    return Edition(
        result=found,
        language=language,
        record=record(4, found, found.score),
        head=HEAD,
        comparison=Comparison(earlier[-1], changes),
        trend=earlier,
        redacted=redacted,
    )


def alone(found: AuditResult, language: Language = "en") -> Edition:
    """Return an edition in no chain, with nothing to compare with."""
    return Edition(result=found, language=language)


def small(statuses: tuple[Status, ...], shown: tuple[Status, ...]) -> AuditResult:
    """Return an audit of nothing but a few checks and items, with these statuses."""
    found = result()
    ours = found.guides[-1]
    results = tuple(_with(one, status) for one, status in zip(found.results, statuses, strict=False))
    named = {one.id for one in results}
    controls = tuple(_shown(one, status, named) for one, status in zip(ours.controls, shown, strict=False))
    guide = msgspec.structs.replace(
        ours, controls=controls, counts={status: _count(controls, status) for status in STATUSES}
    )
    counts = {status: sum(one.status == status for one in results) for status in STATUSES}
    return msgspec.structs.replace(found, results=results, guides=(guide,), counts=counts, decisions=())


def _with(one: Result, status: Status) -> Result:
    found: Status = "fail" if status == "exception" else status
    return msgspec.structs.replace(one, status=status, found=found)


def _shown(one: ControlResult, status: Status, known: set[str]) -> ControlResult:
    evidence = tuple(each for each in one.evidence if each.check in known)
    return msgspec.structs.replace(one, status=status, evidence=evidence)


def _count(controls: tuple[ControlResult, ...], status: Status) -> int:
    return sum(one.status == status for one in controls if one.applies)


def moment() -> datetime:
    """Return when the facts of the cases were taken."""
    return datetime(2026, 11, 1, tzinfo=timezone.utc)
