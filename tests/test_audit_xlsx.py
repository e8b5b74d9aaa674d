"""The workbook: text and nothing but text, one row per item, sheets that print and filter."""

from __future__ import annotations

import re
import time
from xml.sax.saxutils import unescape

import msgspec
import pytest

from appliance.audit.catalogue import Words
from appliance.audit.formats.rows import COLUMNS, SHOWN_ORDER
from appliance.audit.formats.workbook import CELL_MOST, sheet_name
from appliance.audit.formats.xlsx import render
from appliance.audit.words import LABELS, STATUS_WORDS
from appliance.text import printable
from tests.editions import HEAD, HOST, HOSTILE, alone, edition, hostile, result, small
from tests.unpacked import Workbook, workbook

OWNER, DUE = list(COLUMNS).index("owner"), list(COLUMNS).index("due")


@pytest.fixture(scope="module")
def book() -> Workbook:
    return workbook(render(edition(found=hostile(result()))))


def table(book: Workbook, name: str) -> list[list[str | float]]:
    """Return the rows of a sheet's table, its head first."""
    rows = book.rows(name)
    head = next(number for number, row in enumerate(rows) if len(row) > 6 and row[0] and row[6])
    return [row for row in rows[head:] if len(row) == len(rows[head])]


def test_no_cell_is_a_formula_or_a_link(book: Workbook) -> None:
    for name, content in book.parts.items():
        assert b"<f>" not in content, name
        assert b"hyperlink" not in content, name
        assert "externalLinks" not in name
        assert "vbaProject" not in name
    types = {
        cell.get("t")
        for name in book.names
        for cell in book.sheet(name).iter("{http://schemas.openxmlformats.org/spreadsheetml/2006/main}c")
        if len(cell)
    }
    assert types == {None, "s"}, "numbers and strings only"


def test_what_begins_like_a_formula_stays_text(book: Workbook) -> None:
    cells = set(book.strings)
    for words in HOSTILE[:6]:
        assert words in cells, words
    assert HOST in cells


def test_an_ampersand_in_a_name_commands_no_header(book: Workbook) -> None:
    for number in range(1, len(book.names) + 1):
        told = book.parts[f"xl/worksheets/sheet{number}.xml"].decode()
        (foot,) = re.findall(r"<oddFooter>(.*?)</oddFooter>", told)
        assert HEAD in foot
        (top,) = re.findall(r"<oddHeader>(.*?)</oddHeader>", told)
        for words, commands in ((foot, 6), (top, 4)):
            assert len(re.findall(r"&(?!&)", unescape(words).replace("&&", ""))) == commands


def test_a_cell_that_is_too_long_says_what_is_cut(book: Workbook) -> None:
    assert max(map(len, book.strings)) <= CELL_MOST
    longest = next(one for one in book.strings if one.startswith("a" * 30_000))
    (left,) = re.findall(r"\[여기서 자름: (\d+)자 더 있으며", longest)
    by_whom = f" ({LABELS['by_hand'].render('ko')})"
    assert longest.index(" [") + int(left) in {len(HOSTILE[-1]), len(HOSTILE[-1] + by_whom)}


def test_signs_outside_the_first_plane_count_twice() -> None:
    found = hostile(small(("fail",) * 12, ("fail",)))
    wide = "𝄞" * 20_000
    (first, *others) = found.results
    first = msgspec.structs.replace(first, observed=Words(ko=wide, en=wide))
    told = workbook(render(alone(msgspec.structs.replace(found, results=(first, *others)))))
    (cut,) = (one for one in told.strings if one.startswith("𝄞") and "cut here" in one)
    assert len(cut.encode("utf-16-le")) // 2 <= CELL_MOST


@pytest.mark.parametrize("language", ["ko", "en"])
def test_there_is_a_sheet_for_each_guide_and_for_the_rest(language: str) -> None:
    made = edition("ko" if language == "ko" else "en")
    book = workbook(render(made))
    labels = [one.label for one in made.result.guides]
    ends = {
        "ko": ["전체 점검 결과", "기관이 정한 것", "한계와 확인"],
        "en": ["All checks", "What the institution decided", "Limits, confirmation"],
    }
    assert book.names[1:-3] == labels
    assert book.names[-3:] == ends[language]


def test_an_officers_row_has_room_to_write(book: Workbook) -> None:
    head = table(book, "KISA 2026")[0]
    assert head == [
        "번호", "분류/영역", "항목", "중요도/등급", "결과", "현황(실제값)", "기대값",
        "확인 위치", "조치 방안", "조치 담당", "조치 기한", "비고",
    ]  # fmt: skip
    for row in table(book, "KISA 2026")[1:]:
        assert row[OWNER] == row[DUE] == ""


def test_what_the_institution_decided_stands_in_the_notes_of_every_item_that_it_touches() -> None:
    book = workbook(render(edition()))
    notes = {str(row[0]): str(row[-1]) for row in table(book, "KISA 2026")[1:]}
    assert "host.root-remote-login: 예외: [유효] " + HOSTILE[0] in notes["U-01"]
    assert "host.umask: 예외: [만료] 장비 교체 예정 · 정보보안담당관 · 보안-2026-3" in notes["U-30"]
    assert "host.password-quality: 기관 기준: 6 (완화; 기본값 9)" in notes["U-02"]
    assert "조항 원문: =1+1\n둘째 줄" in notes["U-01"]
    own = {str(row[0]): str(row[-1]) for row in table(book, "우리")[1:]}
    assert "예외: [유효]" in own["A-2"]
    assert "확인서: [만료]" in own["A-5"]


def test_each_item_and_each_check_is_one_row() -> None:
    made = edition()
    book = workbook(render(made))
    for guide in made.result.guides:
        assert [row[0] for row in table(book, guide.label)[1:]] == [one.id for one in guide.controls]
    assert [row[0] for row in table(book, "전체 점검 결과")[1:]] == [one.id for one in made.result.results]
    assert len(table(book, "기관이 정한 것")) == 1 + len(made.result.decisions)


def test_the_counts_add_up_to_the_rows() -> None:
    made = edition()
    book = workbook(render(made))
    rows = book.rows("요약")
    words = [STATUS_WORDS[status].render("ko") for status in SHOWN_ORDER]
    place = next(number for number, row in enumerate(rows) if row[1:7] == words)
    counts = rows[place + 1][1:7]
    listed = [row[4] for row in table(book, "전체 점검 결과")[1:]]
    assert counts == [listed.count(word) for word in words]
    assert rows[place + 1][0] == made.result.score
    for guide in made.result.guides:
        (told,) = (row for row in rows if row[0] == guide.label and len(row) == 10)
        asked = [row for row in table(book, guide.label)[1:] if "이 등급에서 묻지 않음" not in str(row[-1])]
        assert told[2:8] == [[row[4] for row in asked].count(word) for word in words]
        assert told[8] == len(asked)


def test_the_summary_tells_what_changed_and_how_the_score_went() -> None:
    rows = workbook(render(edition())).rows("요약")
    (changed,) = (row for row in rows if row[0] == "host.umask")
    assert changed[1:3] == ["양호", "취약"]
    assert [row[1:3] for row in rows if row[0] == "gone.check"] == [["양호", "-"]]
    trend = [row for row in rows if len(row) == 10 and "등급 S" in str(row[0])]
    assert [row[2] for row in trend] == [1, 2, 3, 4]
    assert [row[3] for row in trend] == ["-", 55, 70, result().score]


def test_a_sheet_prints_across_and_can_be_filtered(book: Workbook) -> None:
    for name in book.names[1:-1]:
        told = book.parts[f"xl/worksheets/sheet{book.names.index(name) + 1}.xml"].decode()
        assert 'paperSize="9"' in told
        assert 'orientation="landscape"' in told
        assert 'fitToHeight="0"' in told
        assert '<pane xSplit="3"' in told
        assert "<autoFilter " in told
    defined = book.parts["xl/workbook.xml"].decode()
    assert defined.count("_xlnm.Print_Titles") == len(book.names) - 2
    assert defined.count("_xlnm._FilterDatabase") == len(book.names) - 2


def test_each_status_has_a_colour_wherever_it_stands(book: Workbook) -> None:
    for name in [*book.names[1:-2], book.names[0]]:
        told = book.parts[f"xl/worksheets/sheet{book.names.index(name) + 1}.xml"].decode()
        for status in SHOWN_ORDER:
            assert f"&quot;{STATUS_WORDS[status].render('ko')}&quot;" in told or (
                f'"{STATUS_WORDS[status].render("ko")}"' in told
            ), name


def test_a_name_that_no_sheet_may_have_is_changed_and_stands_once() -> None:
    taken: set[str] = set()
    assert sheet_name("KISA 2026", taken) == "KISA 2026"
    assert sheet_name("kisa 2026", taken) == "kisa 2026 (2)"
    assert sheet_name("'a:b/c?*[d]\\'", taken) == "a b c   d"
    assert sheet_name("[]", taken) == "-"
    assert sheet_name("History", taken) == "History (2)"
    assert sheet_name("\x00", taken) == printable("\x00").replace("\\", " ").strip()
    long = sheet_name("가" * 60, taken)
    assert len(long) == 31
    again = sheet_name("가" * 60, taken)
    assert len(again) == 31
    assert again != long


def test_the_workbook_says_when_it_was_made_and_not_by_whom_else(book: Workbook) -> None:
    about = book.parts["docProps/core.xml"].decode()
    assert "2026-11-01T00:00:00Z" in about
    assert "Banip" in about


def test_a_thousand_items_are_written_within_seconds() -> None:
    made = edition(found=result(1000))
    began = time.process_time()
    content = render(made)
    assert time.process_time() - began < 4, "about one second on an idle core"
    assert len(content) < 2_000_000
