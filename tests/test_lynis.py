"""The comparison with Lynis: its report is read right, and nothing in the tables is left unexplained.

The run itself, two servers before and after hardening, is `make audit-lynis`.
"""

from __future__ import annotations

import pytest

from appliance.audit.catalogue import checks
from tests.audit.compared import AGREEMENT, Compared
from tests.lynis import BEGIN, DOCUMENT, END, Report, Server, figures, page, parse, unexplained
from tests.truth import _today

REPORT = """# Lynis Report
report_version_major=1
lynis_version=3.0.8
warning[]=NETW-2705|Couldn't find 2 responsive nameservers|-|-|
suggestion[]=SSH-7408|Consider hardening SSH configuration|Port (set 22 to )|-|
suggestion[]=SSH-7408|Consider hardening SSH configuration|MaxSessions (set 10 to 2)|-|
tests_executed=AUTH-9204|SSH-7408|NETW-2705|
tests_skipped=FIRE-4512|
hardening_index=58
"""


def report(index: int = 58, **said: tuple[str, ...]) -> Report:
    return Report("3.0.8", index, frozenset({"A-1", "A-2"}), {}, said)


def test_a_report_is_read_by_test_and_a_test_that_did_not_run_is_not_fine() -> None:
    found = parse(REPORT)
    assert (found.index, found.version) == (58, "3.0.8")
    assert found.suggestions["SSH-7408"] == (
        "Consider hardening SSH configuration (Port (set 22 to ))",
        "Consider hardening SSH configuration (MaxSessions (set 10 to 2))",
    )
    words = [found.word(test) for test in ("AUTH-9204", "SSH-7408", "NETW-2705", "FIRE-4512")]
    assert words == ["fine", "suggestion", "warning", "not run"]


def test_a_report_without_an_index_is_no_report() -> None:
    with pytest.raises(KeyError):
        parse(REPORT.replace("hardening_index", "hardening"))


def test_what_nobody_explained_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    alike = dict.fromkeys(checks().checks, "pass")
    before = Server("bare", report(), alike)
    after = Server("after", Report("3.0.8", 90, frozenset({"A-1"}), {}, {"A-1": ("mend this",)}), alike)
    monkeypatch.setattr("tests.lynis.AGREEMENT", (Compared("a", "A-1", ("host.umask",)),))
    document = page(f"{BEGIN}\n{END}\n", figures((before, after), _today()))
    assert [row.split(" | ")[0] for row in unexplained(document)] == ["| A-1", "| a"]
    assert "| bare | **58** |" in document


def test_the_comparison_names_checks_that_exist_each_once() -> None:
    names = [name for one in AGREEMENT for name in one.checks]
    assert set(names) <= checks().checks.keys()
    assert len({one.what for one in AGREEMENT}) == len(AGREEMENT)


def test_the_document_explains_all_that_lynis_left_and_reaches_85() -> None:
    document = DOCUMENT.read_text("utf-8")
    assert unexplained(document) == []
    shown = document.partition(BEGIN)[2].partition(END)[0]
    indices = [
        int(line.split("**")[1]) for line in shown.splitlines() if "hardening" in line and "**" in line
    ]
    assert indices
    assert max(indices) >= 85
