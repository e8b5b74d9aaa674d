"""What a manager reads first: what turned, which way it goes, what waits."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import msgspec

from appliance.audit.edition import Change, Comparison, Edition
from appliance.audit.formats import page, summary
from appliance.audit.formats.summary import POINTS_MOST, TURNS_MOST
from tests import audited

FULL = audited.edition()
NOW = FULL.result.taken


def turned(*changes: Change) -> summary.Difference:
    assert FULL.comparison
    found = summary.difference(replace(FULL, comparison=Comparison(FULL.comparison.earlier, changes)))
    assert found
    return found


def ids(turns: tuple[summary.Turn, ...]) -> list[str]:
    return [one.id for one in turns]


def test_what_turned_is_sorted_by_what_a_manager_does_about_it() -> None:
    found = turned(
        Change("host.umask", "pass", "fail"),
        Change("host.shadow-permissions", None, "fail"),
        Change("network.listeners", "fail", "unknown"),
        Change("host.root-remote-login", "unknown", "pass"),
        Change("host.session-timeout", "fail", "exception"),
        Change("host.password-age", "manual", "pass"),
        Change("host.gone", "fail", None),
    )
    assert set(ids(found.failing)) == {"host.umask", "host.shadow-permissions"}
    assert ids(found.unread) == ["network.listeners"]
    assert ids(found.mended) == ["host.root-remote-login"]
    assert set(ids(found.other)) == {"host.session-timeout", "host.password-age", "host.gone"}, (
        "what is accepted, or asked no more, is not mended"
    )


def test_the_important_comes_first() -> None:
    names = [one.id for one in FULL.result.results]
    found = turned(*(Change(name, "pass", "fail") for name in names))
    order = ["high", "medium", "low"]
    places = [order.index(str(one.importance)) for one in found.failing]
    assert places == sorted(places)


def test_a_control_that_turned_with_its_check_is_counted_and_not_told_twice() -> None:
    found = turned(
        Change("host.session-timeout", "pass", "fail"),
        Change("kisa/U-12", "pass", "fail"),
        Change("n2sf/N2SF-LP-M2", "manual", "fail"),
    )
    assert ids(found.failing) in (
        ["host.session-timeout", "n2sf/N2SF-LP-M2"],
        ["n2sf/N2SF-LP-M2", "host.session-timeout"],
    )
    assert found.with_checks == 1


def test_without_an_earlier_audit_nothing_is_compared() -> None:
    alone = Edition(FULL.result, "en")
    assert summary.difference(alone) is None
    assert summary.headlines(alone)[-1].render("en").startswith("No earlier audit")
    again = page.render(replace(alone, verified=False, judged_from=FULL.record)).decode()
    assert "Judged again from the facts of audit no. 12" in again
    assert "Nobody vouches for these facts" in again
    told = page.render(alone).decode()
    assert "Nobody vouches" not in told
    assert "There is no earlier audit for this grade." in told
    assert "in no chain: judged elsewhere" in told


def test_the_trend_is_of_one_grade_and_ends_with_this_audit() -> None:
    points = summary.line(FULL)
    assert [one.score for one in points] == [58, 61, 61, 70, 73, 79, 84, 83, 88, 91, FULL.result.score]
    assert [one.x for one in points] == sorted({one.x for one in points})
    assert all(0 <= one.y <= summary.FLOOR for one in points)
    assert [bool(one.year) for one in points] == [True, False, True, *(False,) * 8] or points[
        0
    ].year == "2025"


def test_a_long_trend_keeps_the_newest() -> None:
    many = tuple(
        audited.record(number, NOW - timedelta(days=100 - number), number) for number in range(1, 90)
    )
    points = summary.line(Edition(FULL.result, "ko", trend=many))
    assert len(points) == POINTS_MOST
    assert [one.score for one in points[:-1]] == list(range(79, 90))


def test_an_audit_without_a_score_is_no_point() -> None:
    bare = msgspec.structs.replace(FULL.trend[0], score=None)
    assert len(summary.line(Edition(FULL.result, "ko", trend=(bare,)))) == 1


def test_each_grade_has_the_newest_score_that_was_ever_found_for_it() -> None:
    secret, sensitive, public = summary.by_grade(FULL)
    assert (secret.grade, secret.score, secret.now) == ("C", 74, False)
    assert (sensitive.grade, sensitive.score, sensitive.now) == ("S", FULL.result.score, True)
    assert (public.grade, public.score, public.day) == ("O", None, None)


def test_the_headlines_count_what_waits_and_what_lapsed() -> None:
    told = [one.render("ko") for one in summary.headlines(FULL)]
    assert told[0].startswith(f"살펴볼 것 {FULL.result.findings()}건")
    (lapsed,) = (words for words in told if "기관의 결정" in words)
    assert "2건" in lapsed, "an exception that ended, an answer whose certificate ended"
    waiting = sum(guide.counts["manual"] - guide.attested for guide in FULL.result.guides)
    assert f"안내서 항목 {waiting}건" in " ".join(told)


def test_the_first_page_names_a_few_and_another_table_all() -> None:
    found = summary.difference(FULL)
    assert found
    assert found.cut
    told = page.render(FULL).decode()
    first, rest = told.split('class="urgent"', 1)
    more = len(found.mended) - TURNS_MOST
    assert f'<li class="soft">외 {more}</li>' in first
    table = rest.split('class="by-guide"', 1)[0]
    assert all(f"<code>{one.id}</code>" in table for _, _, turns in found.kinds for one in turns)


def test_the_page_shows_the_place_in_the_chain() -> None:
    told = page.render(FULL).decode()
    assert FULL.record
    assert FULL.head
    for digest in (FULL.head, FULL.record.previous, FULL.record.key, FULL.record.facts, FULL.record.result):
        assert digest
        assert " ".join(re.findall(".{8}", digest)) in told


def test_the_margins_of_printed_pages_carry_grade_and_head_and_believe_nobody() -> None:
    named = msgspec.structs.replace(FULL.result, host='"; } </style> \\')
    told = page.page_rule(replace(FULL, result=named))
    assert "이 문서의 등급 S (민감)" in told
    assert FULL.head
    assert FULL.head[:8] in told
    assert "</style" not in told
    assert told.count('"') == 2 * 4, "three of ours, and the one between page numbers"
    assert "\\22 \\3b  \\7d  \\3c /style" in told
