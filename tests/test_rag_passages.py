"""Documents are cut where people would cut them, nothing is lost, and a place stays true."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.rag.passages import (
    PASSAGE_MAX_CHARACTERS,
    Block,
    Passage,
    cut,
    normalise,
    passages_of,
    readable_grades,
)

DOCUMENT = "a" * 64
texts = st.text(st.sampled_from("가나다 라마.\n바사?아 자차1,000"), max_size=3000)
blocks = st.builds(
    Block, st.sampled_from(["page", "paragraph", "table"]), st.integers(1, 99), texts, st.integers(1, 3)
)


def passages(*found: Block) -> tuple[Passage, ...]:
    return passages_of(DOCUMENT, "지침.hwp", "S", found)


def paragraph(number: int, text: str, section: int = 1) -> Block:
    return Block("paragraph", number, text, section)


def letters(text: str) -> str:
    return "".join(text.split())


def test_short_paragraphs_of_a_section_are_one_passage_that_says_from_where_to_where() -> None:
    (found,) = passages(paragraph(1, "제목"), paragraph(2, "첫째."), paragraph(3, "둘째."))
    assert found == Passage(DOCUMENT, "지침.hwp", "S", 0, "1절 1~3문단", "제목\n첫째.\n둘째.")


def test_a_passage_ends_with_its_section_its_page_and_its_table() -> None:
    found = passages(
        paragraph(1, "가"),
        Block("table", 1, "표"),
        paragraph(2, "나"),
        paragraph(1, "다", 2),
        Block("page", 7, "라"),
    )
    assert [each.place for each in found] == ["1절 1문단", "표 1", "1절 2문단", "2절 1문단", "7쪽"]
    assert [each.number for each in found] == [0, 1, 2, 3, 4]


def test_a_long_page_is_cut_after_sentences() -> None:
    sentences = [f"{number}번 규정은 다음과 같이 정한다." for number in range(100)]
    found = passages(Block("page", 2, " ".join(sentences)))
    assert len(found) > 2
    assert {each.place for each in found} == {"2쪽"}
    assert all(each.text.endswith("정한다.") for each in found)


def test_each_piece_of_a_long_table_starts_with_the_names_of_its_columns() -> None:
    rows = ["부품 | 주기", *(f"부품 {number} | {number}개월" for number in range(200))]
    found = passages(Block("table", 3, "\n".join(rows)))
    assert len(found) > 2
    assert {each.text.split("\n")[0] for each in found} == {"부품 | 주기"}
    assert [row for each in found for row in each.text.split("\n")[1:]] == rows[1:]


@given(st.lists(blocks, max_size=8))
def test_no_passage_is_empty_or_too_long_and_no_letter_is_lost(found: list[Block]) -> None:
    made = passages(*found)
    assert all(0 < len(each.text) <= PASSAGE_MAX_CHARACTERS for each in made)
    assert [each.number for each in made] == list(range(len(made)))
    without_tables = passages(*(each for each in found if each.kind != "table"))
    whole = "".join(letters(normalise(each.text)) for each in found if each.kind != "table")
    assert "".join(letters(each.text) for each in without_tables) == whole


@given(texts, st.integers(1, 50))
def test_cutting_loses_nothing_and_keeps_to_its_limit(text: str, limit: int) -> None:
    pieces = list(cut(text, limit))
    assert all(piece and len(piece) <= limit for piece in pieces)
    assert letters("".join(pieces)) == letters(text)


@given(st.text(max_size=300))
def test_normal_text_stays_as_it_is_and_holds_no_control_characters(text: str) -> None:
    found = normalise(text)
    assert normalise(found) == found
    assert not [c for c in found if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co"} and c != "\n"]


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        (unicodedata.normalize("NFD", "설비안전팀"), "설비안전팀"),
        ("\u1100\u200b\u1161", "가"),
        ("가\u200b나\ufeff다", "가나다"),
        ("국내\x01출장의\x01숙박비", "국내 출장의 숙박비"),  # a PDF's blank whose font does not name it
        ("가\r\n나\r다", "가\n나\n다"),
        ("가 \t 나\u00a0다", "가 나 다"),
        ("가\n\n\n\n나", "가\n\n나"),
    ],
)
def test_what_programs_write_differently_becomes_the_same(given_text: str, expected: str) -> None:
    assert normalise(given_text) == expected


def test_a_clearance_reads_its_grade_and_those_below() -> None:
    assert {grade: readable_grades(grade) for grade in ("O", "S", "C")} == {
        "O": ("O",),
        "S": ("O", "S"),
        "C": ("O", "S", "C"),
    }
