"""The word half: Korean with its particles is found, and a vector means the same on every machine."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.rag.sparse import (
    K1,
    USUAL_TERMS,
    B,
    Sparse,
    dimension,
    sparse_of_passage,
    sparse_of_question,
    terms,
)

words = st.text(st.sampled_from("가나다라마 점검주기는 45,000일 GPU 漢字 .\n"), max_size=200)


def score(question: str, passage: str) -> float:
    """Return what Qdrant adds up, before it weighs by how rare a term is."""
    asked, found = sparse_of_question(question), sparse_of_passage(passage)
    stored = dict(zip(found.indices, found.values, strict=True))
    pairs = zip(asked.indices, asked.values, strict=True)
    return sum(value * stored.get(index, 0.0) for index, value in pairs)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("점검주기가", ["점검", "검주", "주기", "기가"]),
        ("점검 주기는", ["점검", "주기", "기는"]),
        ("2,200만 원", ["2200", "만", "원"]),
        ("45.5일 GPU", ["45.5", "일", "gpu"]),
        ("漢字語와", ["漢字", "字語", "와"]),
        ("점검합니까?", ["점검", "검합"]),  # 합니, 니까: endings
        ("얼마인가요", ["마인"]),
        ("!?", []),
        ("", []),
    ],
)
def test_terms_are_pairs_of_syllables_whole_words_and_numbers(text: str, expected: list[str]) -> None:
    assert list(terms(text)) == expected


def test_a_question_with_other_particles_finds_the_passage() -> None:
    asked = "점검주기가 얼마입니까?"
    assert score(asked, "액체질소 탱크의 점검 주기는 45일이다.") > score(asked, "휴가는 사흘 전에 신청한다.")


def test_decomposed_hangul_is_the_same_word() -> None:
    assert sparse_of_passage(unicodedata.normalize("NFD", "점검 주기")) == sparse_of_passage("점검 주기")


def test_dimensions_and_values_are_those_that_collections_hold() -> None:
    assert dimension("점검") == 0x19D4C2A1
    assert sparse_of_question("점검") == Sparse((dimension("점검"),), (1.0,))
    (value,) = sparse_of_passage("점검 점검").values
    assert value == pytest.approx(2 * (K1 + 1) / (2 + K1 * (1 - B + B * 2 / USUAL_TERMS)))


def test_a_word_said_often_counts_more_but_not_without_end() -> None:
    values = [score("점검", "점검 " * count) for count in (1, 2, 20)]
    assert values == sorted(values)
    assert values[-1] < K1 + 1


@given(words)
def test_a_vector_is_one_that_the_engine_takes(text: str) -> None:
    for made in (sparse_of_passage(text), sparse_of_question(text)):
        assert list(made.indices) == sorted(set(made.indices))
        assert len(made.indices) == len(made.values) == len(set(terms(text)))
        assert all(0 <= index < 2**32 for index in made.indices)
        assert all(0 < value < K1 + 1 for value in made.values)
