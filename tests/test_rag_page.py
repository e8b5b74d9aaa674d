"""The web page in a real browser: log in, ask, see the answer and its sources, say what it was worth."""

from __future__ import annotations

import json
import os
import re
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from appliance.rag.page import page_files
from tests.asking import Desk, desk

if TYPE_CHECKING:
    from collections.abc import Iterator

CHROMIUM = Path("/usr/bin/chromium")
#: Where pictures of the page go, for people; none are taken without it.
PICTURES = os.environ.get("BANIP_PICTURES")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-domain-reliability",
    "--no-first-run",
    "--no-default-browser-check",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
TRAVEL = (
    "제12조(여비의 정산) 출장자는 출장을 마친 날부터 10일 이내에 영수증을 붙여 여비를 정산하여야 한다. "
    "다만, 국외 출장은 20일 이내로 한다.\n\n"
    "제13조(숙박비) 숙박비의 상한은 1일 7만원으로 하고, 광역시는 8만원으로 한다."
)
LEAVE = "연차 휴가는 3일 전까지 부서장에게 신청하고, 부서장은 업무에 지장이 없으면 승인한다."
BUDGET = "예산 전용은 기획예산과와 협의한 뒤 회계연도 종료 10일 전까지 정산 내역과 함께 요청한다."
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(tmp_path_factory.mktemp("banip") / "root") as found:
        admin = found.key("관리자", "S", "admin")
        found.put(admin, "공무출장 여비규정 시행세칙.txt", TRAVEL, "S")
        found.put(admin, "휴가 안내.txt", LEAVE, "O")
        found.put(admin, "예산 집행 지침.txt", BUDGET, "O")
        yield found


@pytest.fixture
def world(running: Desk) -> Iterator[Desk]:
    yield running
    running.upstream.flowing.set()
    running.upstream.__init__()  # type: ignore[misc]


@pytest.fixture
def page(browser: Browser, world: Desk) -> Iterator[Page]:
    """A page that fails the test for an error on its console, or a request that leaves this server."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, locale="ko-KR")
    context.set_default_timeout(15_000)
    page = context.new_page()
    asked: list[str] = []
    faults: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(world.url)
    yield page
    context.close()
    assert asked
    assert not [url for url in asked if not url.startswith(f"{world.url}/")]
    # The browser itself notes each refused request; a wrong key is one.
    assert not [fault for fault in faults if "401 (Unauthorized)" not in fault]


def enter(page: Page, key: str) -> None:
    page.get_by_label("접속 키").fill(key)
    page.get_by_role("button", name="들어가기").click()
    expect(page.get_by_role("button", name="나가기")).to_be_visible()


def ask(page: Page, words: str) -> None:
    page.get_by_label("질문", exact=True).fill(words)
    page.get_by_label("질문", exact=True).press("Enter")


def picture(page: Page, name: str) -> None:
    if PICTURES:
        page.screenshot(path=f"{PICTURES}/{name}.png")


def test_a_wrong_key_is_told_and_kept_nowhere(page: Page) -> None:
    page.get_by_label("접속 키").fill("banip_wrong")
    page.get_by_label("접속 키").press("Enter")
    expect(page.get_by_role("alert")).to_have_text("접속 키가 맞지 않습니다.")
    assert page.evaluate("sessionStorage.length + localStorage.length") == 0
    expect(page.get_by_label("질문", exact=True)).to_be_hidden()


def test_a_question_is_answered_with_sources_while_one_watches(page: Page, world: Desk) -> None:
    picture(page, "login")
    enter(page, world.key("김민지"))
    expect(page.get_by_text("시연용 모델입니다.")).to_be_visible()
    picture(page, "empty")
    world.upstream.words = [
        "출장을 마친 날부터 10일 이내에 영수증을 붙여 여비를 정산하여야 합니다 [1]. ",
        "국외 출장은 별도입니다 [9].",
    ]
    world.upstream.flowing.clear()
    ask(page, "출장 여비는 언제까지 정산해야 합니까?")
    first = page.locator(".source-list li").first
    expect(page.locator(".words")).to_contain_text("10일 이내")  # the second half is still held back
    expect(page.locator(".words")).not_to_contain_text("국외 출장은")
    expect(first).to_contain_text("공무출장 여비규정 시행세칙.txt")
    expect(first).to_contain_text("S 민감")
    expect(page.get_by_role("button", name="멈추기")).to_be_visible()
    picture(page, "streaming")
    world.upstream.flowing.set()
    expect(page.locator(".words")).to_contain_text("국외 출장은 별도입니다")
    expect(page.locator(".checked")).to_contain_text("근거와 표현이 맞는 번호: 1")
    expect(page.locator(".checked")).to_contain_text("없는 근거를 가리킨 번호: 9")
    expect(first).to_contain_text("답에서 인용")
    expect(page.locator(".cite.unknown")).to_have_text("9?")
    picture(page, "answer")


def test_a_citation_opens_its_source_also_by_keyboard(page: Page, world: Desk) -> None:
    enter(page, world.key("김민지"))
    world.upstream.words = ["휴가는 부서장에게 신청합니다 [2]."]
    ask(page, "휴가와 여비")
    second = page.locator(".source-list li").nth(1)
    expect(second.locator("blockquote")).to_be_hidden()
    page.get_by_role("link", name="근거 2 보기").focus()
    page.keyboard.press("Enter")
    expect(second.locator("blockquote")).to_be_visible()
    expect(second.locator("summary")).to_be_focused()
    page.keyboard.press("Enter")
    expect(second.locator("blockquote")).to_be_hidden()


def test_an_opinion_reaches_the_disk(page: Page, world: Desk) -> None:
    enter(page, world.key("김민지"))
    ask(page, "여비 정산 기한")
    page.get_by_role("button", name="잘못되었음").click()
    expect(page.get_by_role("button", name="잘못되었음")).to_have_attribute("aria-pressed", "true")
    page.get_by_label("의견 (선택)").fill("국외 출장 기한이 빠졌습니다.")
    picture(page, "opinion")
    page.get_by_role("button", name="의견 보내기").click()
    expect(page.get_by_text("의견을 저장했습니다.")).to_be_visible()
    kept = json.loads((world.data / "feedback.jsonl").read_text("utf-8").splitlines()[-1])
    assert (kept["user"], kept["verdict"], kept["comment"]) == (
        "김민지",
        "bad",
        "국외 출장 기한이 빠졌습니다.",
    )


def test_an_answer_can_be_stopped_and_the_next_question_asked(page: Page, world: Desk) -> None:
    enter(page, world.key("김민지"))
    world.upstream.flowing.clear()
    ask(page, "여비 정산 기한")
    page.get_by_role("button", name="멈추기").click()
    expect(page.get_by_text("답변을 멈췄습니다.")).to_be_visible()
    world.upstream.flowing.set()
    ask(page, "휴가 신청 기한")
    expect(page.locator(".turn").last.locator(".opinion")).to_be_visible()


def test_a_model_that_fails_is_told_in_korean(page: Page, world: Desk) -> None:
    enter(page, world.key("김민지"))
    world.upstream.fault = "breaks off"
    ask(page, "여비 정산 기한")
    expect(page.get_by_role("alert").filter(has_text="대화 모델이 제대로 응답하지 않습니다")).to_be_visible()


def test_hangul_in_composition_sends_nothing_and_shift_enter_makes_a_line(page: Page, world: Desk) -> None:
    enter(page, world.key("김민지"))
    field = page.get_by_label("질문", exact=True)
    field.fill("여비")
    field.press("Shift+Enter")
    field.evaluate(
        "field => field.dispatchEvent("
        "new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, bubbles: true}))"
    )
    expect(field).to_have_value("여비\n")
    assert page.locator(".turn").count() == 0


def test_words_of_documents_and_models_never_become_markup(page: Page, world: Desk) -> None:
    admin = world.key("관리자", "S", "admin")
    hostile = '<img src=x onerror="document.title=1"> 주입 시험 <script>document.title=2</script>'
    document = world.put(admin, "<b>주입<b>.txt", hostile, "O").json()["document"]
    enter(page, world.key("김민지"))
    world.upstream.words = [f"{hostile} [1]"]
    ask(page, "주입 시험")
    expect(page.locator(".words")).to_contain_text("<script>document.title=2</script>")
    expect(page.locator(".source-list")).to_contain_text("<img src=x")
    assert page.locator(".turn img, .turn script, .turn b").count() == 0
    with world.client(admin) as client:
        client.delete(f"/v1/documents/{document}")


def test_an_administrator_takes_documents_in_and_removes_them(
    page: Page, world: Desk, tmp_path: Path
) -> None:
    enter(page, world.key("관리자", "S", "admin"))
    page.get_by_role("button", name="문서", exact=True).click()
    good, bad = tmp_path / "보안 지침.txt", tmp_path / "그림.png"
    good.write_text("보안 서약서는 매년 1월에 갱신한다.", "utf-8")
    bad.write_bytes(b"x")
    assert page.get_by_label("등급").locator("option").all_text_contents() == ["S 민감", "O 공개"]
    with page.expect_response(re.compile("/v1/documents")):
        page.get_by_label("파일").set_input_files([good])
        page.get_by_label("등급").select_option("O")
        page.get_by_role("button", name="등록").click()
    expect(page.locator("#uploads li").first).to_contain_text("등록됨, 구절 1개")
    row = page.get_by_role("row", name="보안 지침.txt")
    expect(row).to_contain_text("O 공개")
    picture(page, "documents")
    page.on("dialog", lambda dialog: dialog.accept())
    row.get_by_role("button", name="보안 지침.txt 삭제").click()
    expect(row).to_have_count(0)


def test_a_reader_sees_documents_and_cannot_change_them(page: Page, world: Desk) -> None:
    enter(page, world.key("손님", "O"))
    page.get_by_role("button", name="문서", exact=True).click()
    expect(page.get_by_role("row", name="휴가 안내.txt")).to_be_visible()
    expect(page.get_by_text("열람할 수 있는 문서 2개")).to_be_visible()
    expect(page.get_by_text("여비규정")).to_have_count(0)
    expect(page.get_by_role("button", name="등록")).to_be_hidden()
    expect(page.get_by_role("button", name=re.compile("삭제"))).to_have_count(0)


def test_a_key_that_is_disabled_meanwhile_leads_back_to_the_door(page: Page, world: Desk) -> None:
    enter(page, world.key("떠나는이"))
    world.users.disable("떠나는이")
    ask(page, "여비 정산 기한")
    expect(page.get_by_role("alert").filter(has_text="더 이상 유효하지 않습니다")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


def test_the_page_says_which_part_is_unfit(page: Page, world: Desk) -> None:
    expect(page.locator("#health")).to_have_text("정상")
    world.upstream.fault = "unfit"
    page.route("**/health", lambda route: route.fulfill(status=200, body=route.fetch().text()))
    page.reload()
    expect(page.locator("#health")).to_have_text("이상: 대화 모델")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1400])
def test_it_fits_any_screen(page: Page, world: Desk, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    enter(page, world.key("관리자", "S", "admin"))
    ask(page, "출장 여비 정산은 언제까지이고 숙박비 상한은 얼마입니까?")
    expect(page.locator(".opinion")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    picture(page, f"chat-{width}-{scheme}")
    page.get_by_role("button", name="문서", exact=True).click()
    expect(page.get_by_role("row", name="휴가 안내.txt")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    picture(page, f"documents-{width}-{scheme}")


CONTRAST = """() => {
  const channel = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const parse = (color) => (color.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = (e) => { for (; e; e = e.parentElement) {
    const c = parse(getComputedStyle(e).backgroundColor); if (c.length && c[3] !== 0) return c; } };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const poor = [];
  for (let node; (node = texts.nextNode());) {
    const element = node.parentElement;
    if (!node.data.trim() || !element.checkVisibility()) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${ratio.toFixed(2)} ${node.data.trim().slice(0, 30)}`);
  }
  return poor;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_stands_out_from_its_ground(page: Page, world: Desk, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    assert page.evaluate(CONTRAST) == []
    enter(page, world.key("관리자", "S", "admin"))
    world.upstream.words = ["여비는 10일 이내에 정산합니다 [1]. 없는 번호 [9]."]
    ask(page, "여비 정산 기한")
    page.get_by_role("button", name="도움이 되었음").click()
    assert page.evaluate(CONTRAST) == []
    page.get_by_role("button", name="문서", exact=True).click()
    expect(page.get_by_role("row", name="휴가 안내.txt")).to_be_visible()
    assert page.evaluate(CONTRAST) == []


def test_every_control_has_a_name(page: Page, world: Desk) -> None:
    enter(page, world.key("관리자", "S", "admin"))
    ask(page, "여비 정산 기한")
    page.get_by_role("button", name="도움이 되었음").click()
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, input, textarea, select, a')]"
        ".filter((e) => !(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.length))"
        ".map((e) => e.outerHTML)"
    )
    assert unnamed == []


def test_the_pages_files_are_all_here_and_name_no_other_server() -> None:
    files = page_files()
    folder = resources.files("appliance.rag").joinpath("web")
    assert {path.rpartition("/")[2] or "index.html" for path in files} == {
        each.name for each in folder.iterdir()
    }
    for path, (_, content) in files.items():
        words = content.decode("utf-8")
        assert not re.search(r"(?<!xmlns=\")https?://", words), path
        for named in re.findall(r'(?:src|href)="(/[^"]*)"', words):
            assert named in files
    page = files["/"][1].decode("utf-8")
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=", page)
