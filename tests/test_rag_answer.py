"""What the model is asked, and what may be believed of its answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.rag.answer import Citations, Source, citations, prompts
from appliance.rag.passages import Hit, Passage

TRAVEL = (
    "출장자는 출장을 마친 날부터 10일 이내에 영수증을 붙여 여비를 정산하여야 한다. "
    "숙박비 상한은 1일 7만원이다."
)
LEAVE = "연차 휴가는 3일 전까지 부서장에게 신청하고, 부서장은 업무에 지장이 없으면 승인한다."


def hit(text: str, name: str = "규정.hwp") -> Hit:
    return Hit(Passage("ab" * 32, name, "S", 0, "1절 2문단", text), 1.0)


def sources(*texts: str) -> tuple[Source, ...]:
    return tuple(Source(number, hit(text), text) for number, text in enumerate(texts, 1))


def shown(question: str, *texts: str) -> list[str]:
    return [each.messages[-1]["content"] for each in prompts(question, [hit(text) for text in texts])]


def test_the_first_prompt_holds_every_passage_whole_under_its_number() -> None:
    first = shown("정산은 언제까지?", TRAVEL, LEAVE)[0]
    assert f"[1] 규정.hwp (1절 2문단)\n{TRAVEL}" in first
    assert f"[2] 규정.hwp (1절 2문단)\n{LEAVE}" in first
    assert first.endswith("질문: 정산은 언제까지?")


def test_the_best_passage_is_given_up_last_and_never_wholly() -> None:
    last = shown("언제?", "가" * 2000, "나" * 2000, "다" * 2000)[-1]
    assert "[1]" in last
    assert last.count("가") == 75
    assert "나나" not in last


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=8))
def test_prompts_only_become_smaller_and_say_what_was_given(lengths: list[int]) -> None:
    found = list(prompts("질문", [hit("가" * length) for length in lengths]))
    sizes = [len(prompt.messages[-1]["content"]) for prompt in found]
    assert sizes == sorted(sizes, reverse=True)
    for prompt in found:
        numbers = [source.number for source in prompt.sources]
        assert numbers == list(range(1, len(numbers) + 1))
        for source in prompt.sources:
            assert source.given in prompt.messages[-1]["content"]
            assert source.hit.passage.text.startswith(source.given)
            assert source.as_json()["given"] == len(source.given)


@pytest.mark.parametrize(
    ("answer", "valid", "invalid"),
    [
        ("정산합니다 [1].", (1,), ()),
        ("정산합니다 [1][2].", (1, 2), ()),
        ("정산합니다 [1, 2].", (1, 2), ()),
        ("정산합니다 [2] 그리고 [2].", (2,), ()),
        ("정산합니다 [3].", (), (3,)),
        ("정산합니다 [0] [1] [77].", (1,), (0, 77)),
        ("정산합니다.", (), ()),
        ("배열[가]와 [1a], [], [1234]는 인용이 아닙니다.", (), ()),
    ],
)
def test_each_number_is_one_of_a_source_or_flagged(
    answer: str, valid: tuple[int, ...], invalid: tuple[int, ...]
) -> None:
    found = citations(answer, sources(TRAVEL, LEAVE))
    assert (found.valid, found.invalid) == (valid, invalid)


BUDGET = "예산 전용은 기획예산과와 협의한 뒤 회계연도 종료 10일 전까지 정산 내역과 함께 요청한다."
SECURITY = (
    "보안 서약서는 매년 1월에 갱신하며, 갱신하지 않은 사람은 업무망에 접속할 수 없다. "
    "저장매체 반출은 정보보호 담당관의 승인을 받아야 한다."
)
REWORDED = [
    (1, "출장비는 10일 안에 정산합니다"),
    (1, "여비는 출장이 끝난 뒤 10일 이내에 정산해야 합니다"),
    (1, "하루 숙박비는 최대 7만원입니다"),
    (2, "휴가는 3일 전에 부서장에게 신청해야 합니다"),
    (2, "부서장이 승인해야 연차를 쓸 수 있습니다"),
    (2, "연차 휴가 신청은 사흘 전까지입니다"),
    (3, "예산 전용은 기획예산과와 협의해야 합니다"),
    (3, "회계연도가 끝나기 10일 전까지 요청하십시오"),
    (4, "서약서는 해마다 1월에 갱신합니다"),
    (4, "서약서를 갱신하지 않으면 업무망에 접속할 수 없습니다"),
    (4, "저장매체를 반출하려면 담당관의 승인이 필요합니다"),
]


@pytest.mark.parametrize(("number", "sentence"), REWORDED)
def test_a_reworded_sentence_is_supported_by_its_own_source_and_by_no_other(
    number: int, sentence: str
) -> None:
    answer = " ".join(f"{sentence} [{each}]." for each in (1, 2, 3, 4))
    found = citations(answer, sources(TRAVEL, LEAVE, BUDGET, SECURITY))
    assert found.valid == (1, 2, 3, 4)
    assert found.supported == (number,)


@pytest.mark.parametrize(
    "answer",
    [
        "출장을 마친 날부터 10일 이내에 여비를 정산하여야 합니다 [1].",
        "여비는 출장을 마친 날부터 10일 이내에 영수증을 붙여 정산합니다. [1]",
        "숙박비는 하루 7만원이 상한입니다.[1] 휴가는 별개입니다.",
        "부서장에게 3일 전까지 신청합니다 [2]. 여비 정산은 10일 이내입니다 [1].",
        "1. 여비 정산은 10일 이내입니다 [1].\n2) 휴가는 3일 전까지 신청합니다 [2].",
    ],
)
def test_a_sentence_that_says_what_its_source_says_is_supported(answer: str) -> None:
    assert 1 in citations(answer, sources(TRAVEL, LEAVE)).supported


@pytest.mark.parametrize(
    "answer",
    [
        "대통령은 국가의 원수이며 외국에 대하여 국가를 대표합니다 [1].",
        "출장을 마친 날부터 10일 이내에 정산합니다. 보안 서약서는 매년 갱신하십시오 [1].",
        "출장을 마친 날부터 14일 이내에 여비를 정산하여야 합니다 [1].",
        "숙박비 상한은 1일 70,000원입니다 [1].",
        "[1]",
        "네 [1].",
        "afk qwe zxc [1] the lazy dog",
    ],
)
def test_what_the_source_does_not_say_is_not_supported(answer: str) -> None:
    found = citations(answer, sources(TRAVEL, LEAVE))
    assert found.valid == (1,)
    assert found.supported == ()


def test_figures_are_compared_without_their_commas() -> None:
    passage = sources("여비 정액은 1,250,000원으로 한다.")
    assert citations("여비 정액은 1250000원입니다 [1].", passage).supported == (1,)
    assert citations("여비 정액은 1,250,001원입니다 [1].", passage).supported == ()


def test_only_what_the_model_was_given_can_support_it() -> None:
    cut = (Source(1, hit(TRAVEL), TRAVEL[:5]),)
    assert citations("출장을 마친 날부터 10일 이내에 정산합니다 [1].", cut).supported == ()


def test_a_full_stop_inside_a_number_ends_no_sentence() -> None:
    found = citations("이율은 연 3.5 퍼센트입니다 [1].", sources("이율은 연 3.5 퍼센트로 한다."))
    assert found == Citations((1,), (), (1,))


@given(st.text(max_size=300))
def test_any_words_can_be_checked(answer: str) -> None:
    found = citations(answer, sources(TRAVEL))
    assert set(found.supported) <= set(found.valid) <= {1}
