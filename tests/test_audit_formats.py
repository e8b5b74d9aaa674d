"""What all formats of a report have in common: the same statuses, both languages, the same bytes again."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.audit.formats import FORMATS, Unavailable, hwpx, oscal, page, pdf, xlsx
from appliance.audit.formats.rows import COLUMNS, SHOWN_ORDER, check_rows
from appliance.audit.formats.voice import Voice, signed
from appliance.audit.outcome import STATUSES
from appliance.audit.words import STATUS_WORDS
from tests import audited
from tests.editions import HEAD, HOST, alone, edition, hostile, result, small
from tests.unpacked import hwpx_tables, hwpx_text, workbook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from appliance.audit.edition import Edition
    from appliance.audit.outcome import AuditResult, Status
    from appliance.text import Language

    #: By guide (None: our own checks) and id.
    Statuses = dict[tuple[str | None, str], str]

LANGUAGES: tuple[Language, ...] = ("ko", "en")
STATUS = st.sampled_from(STATUSES)


def statuses_of(found: AuditResult) -> Statuses:
    """Return what audit.json says."""
    told = json.loads(msgspec.json.encode(found))
    checks = {(None, one["id"]): one["status"] for one in told["results"]}
    return checks | {
        (guide["guide"], one["id"]): one["status"] for guide in told["guides"] for one in guide["controls"]
    }


def _by_word(language: Language) -> dict[str, Status]:
    return {STATUS_WORDS[status].render(language): status for status in STATUSES}


def in_xlsx(made: Edition) -> Statuses:
    book, words = workbook(xlsx.render(made)), _by_word(made.language)
    guides = [one.guide for one in made.result.guides]
    sheets = dict(zip([*guides, None], book.names[1 : len(guides) + 2], strict=True))
    found: Statuses = {}
    for guide, name in sheets.items():
        for row in book.rows(name):
            if len(row) == len(COLUMNS) and row[4] in words:
                found[guide, str(row[0])] = words[str(row[4])]
    return found


def in_hwpx(made: Edition) -> Statuses:
    words = _by_word(made.language)
    guides = [one.guide for one in made.result.guides]
    number = COLUMNS["id"].render(made.language)
    found = hwpx_tables(hwpx.render(made))
    tables = [table for table in found if table[0][0] == number and len(table[0]) == 6]
    return {
        (guide, row[0]): words[row[3]]
        for guide, table in zip([*guides, None], tables, strict=True)
        for row in table[1:]
    }


def in_oscal(made: Edition) -> Statuses:
    (told,) = json.loads(oscal.render(made))["assessment-results"]["results"]
    found: Statuses = {}
    for one in told["observations"]:
        props = own_props(one)
        if "check" in props:
            found[None, props["check"]] = props["status"]
    for one in told.get("findings", ()):
        props = own_props(one)
        found[props["guide"], props["control"]] = props["status"]
    return found


def own_props(one: dict[str, Any]) -> dict[str, str]:
    return {prop["name"]: prop["value"] for prop in one["props"] if "ns" in prop}


WORDS: dict[str, Callable[[Edition], str]] = {
    "xlsx": lambda made: "\n".join(workbook(xlsx.render(made)).strings),
    "hwpx": lambda made: hwpx_text(hwpx.render(made)),
    "oscal": lambda made: "\n".join(_strings(json.loads(oscal.render(made)))),
}


def _strings(found: object) -> Iterator[str]:
    """Return all words of a JSON document, as a reader of Markdown shows them."""
    if isinstance(found, str):
        yield re.sub(r"\\([\\`*\[\]<>])", r"\1", found)
    for one in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
        yield from _strings(one)


READERS: dict[str, Callable[[Edition], Statuses]] = {"xlsx": in_xlsx, "hwpx": in_hwpx, "oscal": in_oscal}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", READERS)
def test_every_item_has_the_status_that_the_result_has(name: str, language: Language) -> None:
    made = edition(language)
    expected = statuses_of(made.result)
    if name == "oscal":  # what the grade does not ask is named as excluded, and has no finding
        asked = {
            (guide.guide, one.id) for guide in made.result.guides for one in guide.controls if one.applies
        }
        expected = {key: status for key, status in expected.items() if key[0] is None or key in asked}
    assert READERS[name](made) == expected
    assert set(expected.values()) == set(STATUSES), "each status is among them"


@settings(max_examples=15)
@given(
    statuses=st.lists(STATUS, min_size=1, max_size=9).map(tuple),
    shown=st.lists(STATUS, min_size=1, max_size=9).map(tuple),
    language=st.sampled_from(LANGUAGES),
)
def test_no_format_turns_a_status(
    statuses: tuple[Status, ...], shown: tuple[Status, ...], language: Language
) -> None:
    found = small(statuses, shown)
    for read in READERS.values():
        assert read(alone(found, language)) == statuses_of(found)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_format_names_the_grade_the_head_and_the_limits(language: Language) -> None:
    made = edition(language)
    told = {
        "xlsx": "\n".join(workbook(xlsx.render(made)).strings),
        "hwpx": hwpx_text(hwpx.render(made)),
        "oscal": oscal.render(made).decode(),
    }
    grade, limit = {
        "ko": ("이 문서의 등급: S 민감", "국가정보원이 검토하며"),
        "en": ("Grade of this document: S sensitive", "reviewed by the NIS"),
    }[language]
    for name, words in told.items():
        assert grade in words, name
        assert HEAD in words, name
        assert limit in words, name


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_redacted_edition_says_so_in_its_title(language: Language) -> None:
    word = {"ko": "반출용", "en": "redacted edition"}[language]
    whole, cut = edition(language), edition(language, redacted=True)
    for made, said in ((whole, False), (cut, True)):
        book = workbook(xlsx.render(made))
        assert (word in str(book.rows(book.names[0])[0][0])) == said
        assert (word in hwpx_text(hwpx.render(made))[:400]) == said
        assert (word in json.loads(oscal.render(made))["assessment-results"]["metadata"]["title"]) == said


@pytest.mark.parametrize("read", WORDS.values(), ids=WORDS)
def test_a_redacted_edition_names_neither_server_nor_people(read: Callable[[Edition], str]) -> None:
    named = (HOST, "Debian", "demo-1.0.0", "정보보안담당관", "보안-2026-17", "우리")
    whole, cut = read(edition()), read(edition(redacted=True))
    assert [words for words in named if words not in whole] == []
    assert [words for words in named if words in cut] == []
    assert HEAD in cut, "by which the institution finds the whole"


@pytest.mark.parametrize("read", WORDS.values(), ids=WORDS)
def test_what_nobody_vouches_for_says_so(read: Callable[[Edition], str]) -> None:
    made = edition("en")
    lost = replace(made, record=None, head=None, verified=False, judged_from=made.record)
    assert "Nobody vouches for these facts" in read(lost)
    assert "Nobody vouches for these facts" not in read(made)


@pytest.mark.parametrize("render", [xlsx.render, hwpx.render, oscal.render])
def test_the_same_edition_gives_the_same_bytes(render: Callable[[Edition], bytes]) -> None:
    found = hostile(result())
    assert render(edition(found=found)) == render(edition(found=found))


@pytest.mark.parametrize("render", [xlsx.render, hwpx.render, oscal.render])
def test_a_result_without_a_chain_is_reported_as_well(render: Callable[[Edition], bytes]) -> None:
    assert render(alone(small((), ())))


@pytest.mark.parametrize(
    ("render", "module", "package"),
    [(xlsx.render, "xlsxwriter", "XlsxWriter"), (hwpx.render, "hwpx", "python-hwpx")],
)
def test_a_missing_library_is_named(
    render: Callable[[Edition], bytes], module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(Unavailable, match=package):
        render(edition())


def test_no_format_claims_what_the_institution_decides() -> None:
    for language in LANGUAGES:
        made = edition(language)
        for words in (
            "\n".join(workbook(xlsx.render(made)).strings),
            hwpx_text(hwpx.render(made)),
            oscal.render(made).decode(),
        ):
            assert "준수" not in words
            assert "complian" not in words.lower()


def test_every_format_has_a_name_and_a_file_of_its_own() -> None:
    assert len({one.name for one in FORMATS}) == len({one.file for one in FORMATS}) == len(FORMATS)
    assert {"html", "xlsx", "hwpx", "oscal"} <= {one.name for one in FORMATS}


def test_what_cannot_be_seen_is_spelled_out_in_every_format() -> None:
    made = edition(found=hostile(result()))
    for words in (
        "\n".join(workbook(xlsx.render(made)).strings),
        hwpx_text(hwpx.render(made)),
        json.dumps(json.loads(oscal.render(made)), ensure_ascii=False),
    ):
        assert not {"\x00", "\x1b", "\x85", "\u202e", "\ufffe"} & set(words)
        assert "u202e" in words
    assert set(SHOWN_ORDER) == set(STATUSES)


@pytest.mark.parametrize("language", ["ko", "en"])
def test_where_people_sign_the_audit_is_named(language: Language) -> None:
    """The last page may be all that is kept on paper: it says what was signed."""
    voice, one = Voice(language), audited.edition(language)
    words = "\n".join(signed(one, voice))
    for wanted in (
        "ai-server-01",
        "2026-11-01",
        voice.label("grade"),
        f"{voice.label('number')}: 12",
        one.head,
    ):
        assert str(wanted) in words
    page_end = page.render(one).decode().rpartition('class="signature"')[2]
    paper_end = pdf.paper(one).replace("\u2060", "").rpartition('class="signature"')[2]
    for told in (page_end, paper_end):
        assert "ai-server-01" in told
        assert "2026-11-01 09:00 KST" in told
        assert " ".join(re.findall("." * 8, one.head or "")) in told
    assert all(words in xlsx_words(one) for words in signed(one, voice))


def xlsx_words(one: Edition) -> set[str]:
    return set(workbook(xlsx.render(one)).strings)


@pytest.mark.parametrize("language", ["ko", "en"])
def test_every_finding_says_whether_its_remedy_is_automatic(language: Language) -> None:
    voice = Voice(language)
    automatic, by_hand = voice.label("automatic"), voice.label("by_hand")
    one = audited.edition(language)
    found = [each for each in one.result.results if each.status in {"fail", "unknown"}]
    assert {each.automatic for each in found} == {True, False}
    told = pdf.paper(one).replace("\u2060", "")
    assert told.count(f"({automatic})") == sum(each.automatic for each in found)
    assert told.count(f"({by_hand})") == sum(not each.automatic for each in found)
    whole = page.render(one).decode()
    assert whole.count(f'class="by-whom auto">{automatic}') == sum(each.automatic for each in found)
    assert whole.count(f'class="by-whom">{by_hand}') == sum(not each.automatic for each in found)
    rows = {row.id: row.cells["remedy"] for row in check_rows(one.result, voice)}
    for each in found:
        assert rows[each.id].endswith(f"({automatic if each.automatic else by_hand})")
