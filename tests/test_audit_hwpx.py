"""The document that an office files: a sound package, real tables, the same words in other readers."""

from __future__ import annotations

import io
import re
import time
import zipfile
from functools import cache
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from hwpx.tools.package_validator import validate_package
from hwpx.tools.validator import validate_document

from appliance.audit.formats.hwpx import render
from appliance.audit.formats.hwpx_body import TEXT_WIDTH, Body, Styles
from appliance.audit.formats.rows import SHOWN_ORDER
from appliance.audit.words import STATUS_WORDS
from appliance.rag.parsing import parse_hwp
from appliance.text import printable
from tests.editions import HEAD, HOST, HOSTILE, alone, edition, hostile, result, small
from tests.unpacked import hwpx_tables, hwpx_text, parts_of

if TYPE_CHECKING:
    from pathlib import Path

PARAGRAPH = "{http://www.hancom.co.kr/hwpml/2011/paragraph}"


@cache
def content() -> bytes:
    return render(edition(found=hostile(result())))


def test_the_package_is_as_hancom_wants_it() -> None:
    with zipfile.ZipFile(io.BytesIO(content())) as archive:
        first, *others = archive.infolist()
        assert archive.testzip() is None
    assert (first.filename, first.compress_type) == ("mimetype", zipfile.ZIP_STORED)
    assert {one.compress_type for one in others} == {zipfile.ZIP_DEFLATED}
    assert {one.date_time for one in (first, *others)} == {(1980, 1, 1, 0, 0, 0)}
    assert len({one.filename for one in (first, *others)}) == len(others) + 1
    parts = parts_of(content())
    assert parts["mimetype"] == b"application/hwp+zip"
    for name in re.findall(r'href="([^"]+)"', parts["Contents/content.hpf"].decode()):
        assert name in parts
    for name, part in parts.items():
        if name.endswith((".xml", ".hpf", ".rdf")):
            ET.fromstring(part)  # noqa: S314 - what this process has just written


def test_every_count_in_the_head_is_right() -> None:
    head = ET.fromstring(parts_of(content())["Contents/header.xml"])  # noqa: S314 - as above
    counted = [one for one in head.iter() if "itemCnt" in one.attrib]
    assert len(counted) > 5
    for one in counted:
        assert int(one.attrib["itemCnt"]) == len(one), one.tag


@pytest.mark.real
@pytest.mark.parametrize("language", ["ko", "en"])
def test_it_is_valid_by_the_schemas(language: str) -> None:
    made = render(edition("ko" if language == "ko" else "en"))
    # The empty document of Hancom's own does not name its version part either.
    known = "manifest does not reference a version part"
    assert [str(one) for one in validate_package(made).issues if known not in str(one)] == []
    assert [str(one) for one in validate_document(made).issues] == []
    assert validate_package(content()).ok


def test_every_style_that_is_used_is_defined() -> None:
    head = ET.fromstring(parts_of(content())["Contents/header.xml"])  # noqa: S314 - as above
    section = ET.fromstring(parts_of(content())["Contents/section0.xml"])  # noqa: S314 - as above
    for attribute, kind in (
        ("charPrIDRef", "charPr"),
        ("paraPrIDRef", "paraPr"),
        ("borderFillIDRef", "borderFill"),
    ):
        known = {one.attrib["id"] for one in head.iter() if one.tag.endswith("}" + kind)}
        used = {one.attrib[attribute] for one in section.iter() if attribute in one.attrib}
        assert used
        assert used <= known, attribute


def test_tables_are_whole_and_as_wide_as_the_text() -> None:
    section = ET.fromstring(parts_of(content())["Contents/section0.xml"])  # noqa: S314 - as above
    tables = list(section.iter(f"{PARAGRAPH}tbl"))
    assert len(tables) > 8
    for table in tables:
        rows = table.findall(f"{PARAGRAPH}tr")
        assert int(table.attrib["rowCnt"]) == len(rows)
        for number, row in enumerate(rows):
            cells = row.findall(f"{PARAGRAPH}tc")
            spans = [int(one.find(f"{PARAGRAPH}cellSpan").attrib["colSpan"]) for one in cells]  # type: ignore[union-attr]
            widths = [int(one.find(f"{PARAGRAPH}cellSz").attrib["width"]) for one in cells]  # type: ignore[union-attr]
            places = [one.find(f"{PARAGRAPH}cellAddr").attrib for one in cells]  # type: ignore[union-attr]
            assert sum(spans) == int(table.attrib["colCnt"])
            assert sum(widths) == TEXT_WIDTH
            assert [int(one["colAddr"]) for one in places] == [sum(spans[:at]) for at in range(len(spans))]
            assert {one["rowAddr"] for one in places} == {str(number)}
    given = [one.attrib["id"] for one in section.iter(f"{PARAGRAPH}p")] + [one.attrib["id"] for one in tables]
    assert len(set(given)) == len(given)


def test_our_own_reader_reads_the_same_words() -> None:
    blocks = list(parse_hwp(content()))
    read = " ".join(" ".join(one.text for one in blocks).split())
    tables = hwpx_tables(content())
    assert sum(one.kind == "table" for one in blocks) == len(tables)
    for table in tables:
        for row in table:
            for cell in row:
                assert " ".join(cell.split()) in read
    assert HEAD in read
    assert HOST in read


def test_a_reader_that_is_not_ours_reads_the_same_words(tmp_path: Path) -> None:
    import unhwp  # noqa: PLC0415 - it loads a library

    path = tmp_path / "audit.hwpx"
    path.write_bytes(content())
    read = " ".join(unhwp.extract_text(str(path)).split())
    _, head, *asked = [" ".join(words.split()) for words in hwpx_text(content()).split("\n")]
    assert head == "보안 점검 보고서 · 이 문서의 등급: S 민감"
    assert len(asked) > 4000
    assert [words for words in asked if words not in read] == [], "all but the head, which it leaves out"
    with unhwp.parse(str(path)) as parsed:
        heads = [line for line in parsed.markdown.splitlines() if line.startswith("| :---")]
        assert len(heads) == len(hwpx_tables(content()))


def test_words_of_the_server_stay_words() -> None:
    words = hwpx_text(content())
    for one in HOSTILE:
        assert printable(one).replace("\t", " ") in words
    assert b"<script>" not in parts_of(content())["Contents/section0.xml"]


@pytest.mark.parametrize("language", ["ko", "en"])
def test_the_counts_add_up_to_the_rows(language: str) -> None:
    made = edition("ko" if language == "ko" else "en")
    tables = hwpx_tables(render(made))
    words = [STATUS_WORDS[status].render(made.language) for status in SHOWN_ORDER]
    (counts,) = (table[1] for table in tables if table[0][1:] == words)
    checks = tables[[len(table) for table in tables].index(len(made.result.results) + 1)]
    listed = [row[3] for row in checks[1:]]
    assert [int(one) for one in counts[1:]] == [listed.count(word) for word in words]
    assert counts[0] == str(made.result.score)
    urgent = sum(one.status in {"fail", "unknown"} for one in made.result.results)
    assert sum(len(table) == urgent + 1 and len(table[0]) == 7 for table in tables) == 1


def test_there_is_room_for_names_and_seals() -> None:
    signed = hwpx_tables(content())[-1]
    assert [row[0] for row in signed] == ["", "성명", "일자", "서명", "의견 및 예외"]
    assert signed[0][1:] == ["운영자", "보안담당관", "승인자"]
    assert [len(row) for row in signed] == [4, 4, 4, 4, 2]


def test_what_nobody_decided_and_what_did_not_fail_is_said() -> None:
    words = hwpx_text(render(alone(small(("pass",), ("pass",)))))
    assert "Nothing failed." in words
    assert "in no chain" in words


def test_the_foot_counts_the_pages_and_names_the_head() -> None:
    section = parts_of(content())["Contents/section0.xml"].decode()
    (foot,) = re.findall(r"<hp:footer .*?</hp:footer>", section)
    assert 'numType="PAGE"' in foot
    assert 'numType="TOTAL_PAGE"' in foot
    assert HEAD in foot


def test_another_empty_document_is_refused() -> None:
    styles = Styles({"text": "0", "small": "0"}, {"text": "0", "centre": "0"}, {"cell": "1"})
    body = Body(styles)
    body.paragraph("a")
    with pytest.raises(ValueError, match="section settings"):
        body.section("<hs:sec></hs:sec>", "head", "foot")


def test_a_thousand_items_are_written_within_seconds() -> None:
    made = edition(found=result(1000))
    began = time.process_time()
    render(made)
    assert time.process_time() - began < 4
