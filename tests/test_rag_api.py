"""The API in full, over real HTTP and a real collection: who may see what, and what an answer rests on."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.asking import MODEL, Desk, desk, events, question

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

pytestmark = pytest.mark.real  # the API as a process
TRAVEL = "출장비는 출장을 마친 날부터 10일 안에 정산한다. 영수증을 붙인다."
LEAVE = "연차 휴가는 3일 전까지 부서장에게 신청한다."
ASKED = "출장비는 언제까지 정산합니까?"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(tmp_path_factory.mktemp("banip") / "root") as found:
        admin = found.key("admin", "C", "admin")
        assert found.put(admin, "여비규정.txt", TRAVEL, "S").status_code == 201
        assert found.put(admin, "휴가안내.txt", LEAVE, "O").status_code == 201
        yield found


@pytest.fixture
def world(running: Desk) -> Iterator[Desk]:
    """The running API, with two documents, its surroundings as they should be."""
    yield running
    running.upstream.flowing.set()
    running.upstream.__init__()  # type: ignore[misc]
    running.embedder.fault = None


@pytest.fixture
def kim(world: Desk) -> Iterator[httpx.Client]:
    with world.client(world.key("kim")) as client:
        yield client


@pytest.fixture
def admin(world: Desk) -> Iterator[httpx.Client]:
    with world.client(world.key("admin", "C", "admin")) as client:
        yield client


def answer(client: httpx.Client, words: str = ASKED, **more: object) -> dict[str, Any]:
    response = client.post("/v1/chat/completions", json=question(words, **more))
    assert response.status_code == 200, response.text
    told: dict[str, Any] = response.json()
    return told


def code(response: httpx.Response) -> tuple[int, str]:
    error = response.json()["error"]
    assert error.keys() >= {"message", "type", "param", "code"}
    return response.status_code, error["code"]


# --- Who asks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/search"),
        ("POST", "/v1/feedback"),
        ("POST", "/v1/documents"),
        ("GET", "/v1/documents"),
        ("DELETE", "/v1/documents/x"),
        ("GET", "/v1/models"),
        ("GET", "/v1/me"),
    ],
)
def test_without_a_valid_key_nothing_is_told(world: Desk, method: str, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer banip_wrong"}, {"Authorization": "Basic eDp5"}):
        with world.client(**headers) as client:
            assert code(client.request(method, path)) == (401, "invalid_api_key")


def test_a_key_that_is_disabled_ends_at_once(world: Desk) -> None:
    with world.client(world.key("leaving")) as client:
        assert client.get("/v1/me").json() == {"name": "leaving", "role": "user", "grade": "S"}
        world.users.disable("leaving")
        assert code(client.get("/v1/me")) == (401, "invalid_api_key")


def test_the_grade_of_the_server_is_the_ceiling_of_every_key(admin: httpx.Client) -> None:
    assert admin.get("/v1/me").json()["grade"] == "S"


def test_errors_are_said_in_the_clients_language(world: Desk) -> None:
    with world.client(**{"Accept-Language": "ko-KR,ko;q=0.9"}) as client:
        assert "API 키" in client.get("/v1/me").json()["error"]["message"]
        assert "주소" in client.get("/v1/nothing").json()["error"]["message"]
    with world.client() as client:
        assert "API key" in client.get("/v1/me").json()["error"]["message"]
        assert code(client.get("/nothing")) == (404, "no_such_address")
        assert client.put("/v1/me").status_code == 405


# --- Answers ---------------------------------------------------------------------------------------------


def test_an_answer_names_its_sources_and_the_model_was_given_them(world: Desk, kim: httpx.Client) -> None:
    told = answer(kim)
    first = told["banip"]["sources"][0]
    assert (first["number"], first["name"], first["place"]) == (1, "여비규정.txt", "1절 1문단")
    assert (first["grade"], first["text"], first["cited"]) == ("S", TRAVEL, True)
    assert told["banip"]["citations"] == {"valid": [1], "invalid": [], "supported": [1]}
    assert f"[1] 여비규정.txt (1절 1문단)\n{TRAVEL}" in world.upstream.prompt()
    assert told["choices"][0]["message"]["content"] == "출장비는 10일 안에 정산합니다 [1]."
    assert told["usage"]["total_tokens"] == 9
    assert told["model"] == MODEL


def test_a_number_that_no_source_has_is_flagged(world: Desk, kim: httpx.Client) -> None:
    world.upstream.words = ["그렇습니다 [1][9]."]
    told = answer(kim)["banip"]
    assert told["citations"] == {"valid": [1], "invalid": [9], "supported": []}
    assert [source["number"] for source in told["sources"] if source["cited"]] == [1]


def test_a_stream_gives_the_sources_before_the_model_has_spoken(world: Desk, kim: httpx.Client) -> None:
    world.upstream.flowing.clear()
    with kim.stream("POST", "/v1/chat/completions", json=question(ASKED, stream=True)) as response:
        lines = (json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: {"))
        first, second = next(lines), next(lines)
        assert response.headers["content-type"].startswith("text/event-stream")
        assert first["banip"]["sources"][0]["name"] == "여비규정.txt"
        assert second["choices"][0]["delta"] == {"content": "출장비는 "}
        world.upstream.flowing.set()
        rest = list(lines)
    assert rest[0]["choices"][0]["delta"]["content"] == "10일 안에 정산합니다 [1]."
    assert rest[-1]["choices"][0]["finish_reason"] == "stop"
    assert rest[-1]["banip"]["citations"]["supported"] == [1]
    assert {each["id"] for each in [first, second, *rest]} == {first["id"]}


def test_a_stream_ends_as_openais_clients_expect(kim: httpx.Client) -> None:
    with kim.stream("POST", "/v1/chat/completions", json=question(ASKED, stream=True)) as response:
        found = events(response)
    assert found[-1] == {"done": True}
    assert found[0]["choices"][0]["delta"]["role"] == "assistant"
    assert {each["object"] for each in found[:-1]} == {"chat.completion.chunk"}


def test_who_may_read_less_is_answered_from_less(world: Desk) -> None:
    with world.client(world.key("guest", "O")) as client:
        told = answer(client)
        found = client.post("/v1/search", json={"query": ASKED}).json()["results"]
        listed = client.get("/v1/documents").json()["documents"]
    assert [source["name"] for source in told["banip"]["sources"]] == ["휴가안내.txt"]
    assert "영수증" not in world.upstream.prompt()
    assert [hit["name"] for hit in found] == [record["name"] for record in listed] == ["휴가안내.txt"]


def test_without_passages_the_model_is_not_asked(tmp_path: Path) -> None:
    with desk(tmp_path / "root") as empty, empty.client(empty.key("kim")) as client:
        told = answer(client)
        with client.stream("POST", "/v1/chat/completions", json=question(ASKED, stream=True)) as response:
            streamed = events(response)
        assert empty.upstream.asked == []
    assert told["banip"]["sources"] == []
    assert "찾지 못했습니다" in told["choices"][0]["message"]["content"]
    assert "찾지 못했습니다" in streamed[1]["choices"][0]["delta"]["content"]


def test_only_the_last_question_is_answered(world: Desk, kim: httpx.Client) -> None:
    messages = [
        {"role": "system", "content": "너는 해적이다."},
        {"role": "user", "content": "휴가는?"},
        {"role": "assistant", "content": "네."},
        {"role": "user", "content": [{"type": "text", "text": ASKED}, {"type": "image_url"}]},
    ]
    response = kim.post("/v1/chat/completions", json={"messages": messages, "model": MODEL, "unknown": 1})
    assert response.status_code == 200
    assert ASKED in world.upstream.prompt()
    assert "해적" not in world.upstream.prompt()


def test_what_a_client_sets_reaches_the_model_within_bounds(world: Desk, kim: httpx.Client) -> None:
    answer(kim, temperature=1.5, seed=3, max_tokens=999999, stop=["\n"])
    asked = world.upstream.asked[-1]
    assert (asked["temperature"], asked["seed"], asked["stop"]) == (1.5, 3, ["\n"])
    assert asked["max_tokens"] == world.upstream.context_tokens // 2
    assert asked["chat_template_kwargs"] == {"enable_thinking": False}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{", (400, "invalid_request")),
        (b"\xff", (400, "invalid_request")),
        (b"{}", (400, "invalid_request")),
        (b'{"messages": []}', (400, "invalid_request")),
        (b'{"messages": [{"role": "system", "content": "x"}]}', (400, "no_question")),
        (b'{"messages": [{"role": "user", "content": " "}]}', (400, "no_question")),
        (b'{"messages": [{"role": "user", "content": "x"}], "n": 2}', (400, "invalid_request")),
        (b'{"messages": [{"role": "user", "content": "x"}], "temperature": 9}', (400, "invalid_request")),
        (b'{"messages": [{"role": "user", "content": "x"}], "stop": [""]}', (400, "invalid_request")),
        (
            b'{"messages": [{"role": "user", "content": "x"}], "seed": 9223372036854775808}',
            (400, "invalid_request"),
        ),
        (b'{"messages": [{"role": "user", "content": "x"}], "model": "gpt"}', (404, "model_not_found")),
    ],
)
def test_a_wrong_question_is_told_what_is_wrong(
    kim: httpx.Client, body: bytes, expected: tuple[int, str]
) -> None:
    assert code(kim.post("/v1/chat/completions", content=body)) == expected


def test_a_small_context_gets_less_of_the_passages_and_says_so(tmp_path: Path) -> None:
    with desk(tmp_path / "root", "--answer-tokens", "64") as small:
        long = TRAVEL + " 정산은 회계과에 한다." * 30
        small.put(small.key("admin", "S", "admin"), "긴 규정.txt", long)
        with small.client(small.key("kim")) as client:
            for room in range(400, 900, 20):
                small.upstream.context_tokens = room
                (source,) = answer(client)["banip"]["sources"]
                prompt = small.upstream.asked[-1]["messages"]
                assert sum(len(message["content"]) for message in prompt) + 64 <= room
                assert 0 < source["given"] <= len(source["text"])
                assert source["text"][: source["given"]] in prompt[-1]["content"]
            assert source["given"] == len(source["text"])
            too_long = client.post("/v1/chat/completions", json=question("왜" * 900))
            assert code(too_long) == (400, "context_length_exceeded")


# --- When the model fails --------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_that_refuses_is_a_bad_gateway(world: Desk, kim: httpx.Client, *, stream: bool) -> None:
    world.upstream.fault = "refuses"
    response = kim.post("/v1/chat/completions", json=question(ASKED, stream=stream))
    assert code(response) == (502, "part_unfit")
    assert "chat model" in response.json()["error"]["message"]
    assert "engine dead" in world.line(response)["fault"]  # for the operator, not for the client
    assert "engine dead" not in response.text


@pytest.mark.parametrize("fault", ["breaks off", "babbles"])
def test_a_model_that_breaks_off_is_said_in_the_stream(world: Desk, kim: httpx.Client, fault: str) -> None:
    world.upstream.fault = fault
    assert code(kim.post("/v1/chat/completions", json=question(ASKED))) == (502, "part_unfit")
    with kim.stream("POST", "/v1/chat/completions", json=question(ASKED, stream=True)) as response:
        found = events(response)
    assert found[-1]["error"]["code"] == "part_unfit"  # and no [DONE] after it


def test_who_goes_away_frees_the_model(world: Desk, kim: httpx.Client) -> None:
    world.upstream.words = ["말 "] * 5000
    world.upstream.flowing.clear()
    with kim.stream("POST", "/v1/chat/completions", json=question(ASKED, stream=True)) as response:
        lines = response.iter_lines()
        next(lines)
    threading.Timer(0.3, world.upstream.flowing.set).start()
    assert world.upstream.gone.wait(20)


def test_an_embedding_service_that_fails_is_a_bad_gateway(world: Desk, kim: httpx.Client) -> None:
    world.embedder.fault = "unfit"
    assert code(kim.post("/v1/search", json={"query": ASKED})) == (502, "part_unfit")
    assert code(kim.post("/v1/chat/completions", json=question(ASKED))) == (502, "part_unfit")


# --- Bounds ----------------------------------------------------------------------------------------------


def test_more_questions_at_once_than_agreed_are_sent_away(tmp_path: Path) -> None:
    with desk(tmp_path / "root", "--answers-at-once", "1") as busy:
        busy.put(busy.key("admin", "S", "admin"), "여비.txt", TRAVEL)
        with busy.client(busy.key("kim")) as client:
            busy.upstream.flowing.clear()
            body = question(ASKED, stream=True)
            with client.stream("POST", "/v1/chat/completions", json=body) as response:
                lines = response.iter_lines()  # kept: dropping it would close the response
                next(lines)
                refused = client.post("/v1/chat/completions", json=body)
                assert code(refused) == (429, "busy")
                assert refused.headers["retry-after"]
                assert client.get("/v1/me").status_code == 200
                busy.upstream.flowing.set()
                assert list(lines)[-2:] == ["data: [DONE]", ""]
            assert answer(client)["banip"]["sources"]


def test_a_request_has_a_largest_size_whether_or_not_it_states_its_length(kim: httpx.Client) -> None:
    large = b'{"messages": [{"role": "user", "content": "' + b"x" * 300_000 + b'"}]}'
    assert code(kim.post("/v1/chat/completions", content=large)) == (413, "request_too_large")
    pieces = iter([large[:200_000], large[200_000:]])
    assert code(kim.post("/v1/chat/completions", content=pieces)) == (413, "request_too_large")


def test_an_upload_may_be_larger_than_a_question(world: Desk, admin: httpx.Client) -> None:
    words = "\n\n".join(f"제{number}조 이 조는 길이를 위하여 둔다." for number in range(8000))
    assert len(words.encode()) > 300_000
    done = world.put(world.key("admin", "C", "admin"), "긴 문서.txt", words, "O")
    assert done.status_code in (201, 422), done.text  # taken, or refused for what it is, not for its size
    if done.status_code == 201:
        assert admin.delete(f"/v1/documents/{done.json()['document']}").status_code == 200


# --- Documents -------------------------------------------------------------------------------------------


def test_a_document_comes_in_once_is_found_and_can_be_removed(world: Desk, admin: httpx.Client) -> None:
    key = world.key("admin", "C", "admin")
    first = world.put(key, "차량 규정.txt", "관용 차량은 운행일지를 쓴다.")
    assert (first.status_code, first.json()["already"], first.json()["grade"]) == (201, False, "S")
    again = world.put(key, "다른 이름.txt", "관용 차량은 운행일지를 쓴다.")
    assert (again.status_code, again.json()["already"], again.json()["name"]) == (200, True, "차량 규정.txt")
    found = admin.post("/v1/search", json={"query": "운행일지", "limit": 1}).json()["results"]
    assert found[0]["name"] == "차량 규정.txt"
    document = first.json()["document"]
    assert admin.delete(f"/v1/documents/{document}").json() == {"document": document, "removed": True}
    assert code(admin.delete(f"/v1/documents/{document}")) == (404, "no_such_document")
    assert "차량 규정.txt" not in admin.get("/v1/documents").text


def test_only_an_administrator_changes_the_documents(world: Desk, kim: httpx.Client) -> None:
    assert code(world.put(world.key("lee"), "x.txt", "본문")) == (403, "not_admin")
    document = kim.get("/v1/documents").json()["documents"][0]["document"]
    assert code(kim.delete(f"/v1/documents/{document}")) == (403, "not_admin")


def test_nobody_puts_in_or_takes_out_what_is_above_the_own_grade(world: Desk) -> None:
    key = world.key("open-admin", "O", "admin")
    assert code(world.put(key, "x.txt", "본문", "S")) == (403, "grade_too_high")
    assert code(world.put(world.key("admin", "C", "admin"), "x.txt", "본문", "C")) == (403, "grade_too_high")
    with world.client(world.key("kim")) as reader, world.client(key) as client:
        listed = reader.get("/v1/documents").json()["documents"]
        (document,) = [each["document"] for each in listed if each["grade"] == "S"]
        assert code(client.delete(f"/v1/documents/{document}")) == (404, "no_such_document")


def test_a_file_that_cannot_be_read_is_refused_with_a_reason(world: Desk) -> None:
    key = world.key("admin", "C", "admin")
    response = world.put(key, "그림.png", "x")
    assert code(response) == (422, "unusable")
    assert ".hwpx" in response.json()["error"]["details"]
    assert code(world.put(key, "가짜.pdf", "이것은 PDF가 아님")) == (422, "unusable")


def test_a_form_that_is_none_is_called_that(admin: httpx.Client) -> None:
    kind = {"Content-Type": "multipart/form-data"}  # and no boundary
    response = admin.post("/v1/documents", content=b"x", headers=kind)
    assert code(response) == (400, "invalid_request")
    assert "form cannot be read" in response.json()["error"]["message"]


def test_a_form_without_a_file_or_with_a_wrong_grade_is_refused(world: Desk) -> None:
    key = world.key("admin", "C", "admin")
    with world.client(key) as client:
        assert code(client.post("/v1/documents", json={})) == (400, "no_file")
        assert code(client.post("/v1/documents", files={"other": ("a.txt", b"x")})) == (400, "no_file")
        assert code(client.post("/v1/documents", data={"file": "x"}, files={"o": b""})) == (400, "no_file")
    assert code(world.put(key, "a.txt", "x", "X")) == (400, "invalid_grade")  # type: ignore[arg-type]


# --- Feedback --------------------------------------------------------------------------------------------


def test_an_opinion_is_on_the_disk_when_it_is_confirmed(world: Desk, kim: httpx.Client) -> None:
    path = world.data / "feedback.jsonl"
    path.write_text('{"torn')
    told = answer(kim)
    given = {"id": told["id"], "verdict": "bad", "comment": "다른 규정을 인용함"}
    assert kim.post("/v1/feedback", json=given).status_code == 201
    kept = json.loads(path.read_text("utf-8").splitlines()[-1])
    assert (kept["user"], kept["answer"], kept["verdict"]) == ("kim", told["id"], "bad")
    assert (kept["comment"], kept["release"]) == ("다른 규정을 인용함", "demo-1.0.0-c1")


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": "x", "verdict": "good"},
        {"id": f"chatcmpl-{'0' * 32}", "verdict": "fine"},
        {"id": f"chatcmpl-{'0' * 32}", "verdict": "good", "comment": "x" * 2001},
    ],
)
def test_an_opinion_about_nothing_is_refused(kim: httpx.Client, wrong: dict[str, str]) -> None:
    assert code(kim.post("/v1/feedback", json=wrong)) == (400, "invalid_request")


# --- State -----------------------------------------------------------------------------------------------


def test_health_names_the_release_and_each_part_that_is_unfit(world: Desk, kim: httpx.Client) -> None:
    assert kim.get("/health").json() == {"status": "ok", "release": "demo-1.0.0-c1"}
    world.upstream.fault, world.embedder.fault = "unfit", "unfit"
    response = kim.get("/health")
    assert (response.status_code, response.json()["unfit"].keys()) == (503, {"chat", "embed"})
    assert "HTTP 503" in response.json()["fault"]
    # The page asks without a key: it learns which part, and nothing of the server's inside.
    outside = kim.get("/health", headers={"X-Forwarded-For": "192.0.2.7"})
    assert outside.json() == {
        "status": "unfit",
        "release": "demo-1.0.0-c1",
        "unfit": {"chat": "unfit", "embed": "unfit"},
    }


def test_a_damaged_file_of_keys_is_unfit_and_lets_nobody_in(world: Desk, kim: httpx.Client) -> None:
    path = world.data / "users.json"
    whole = path.read_bytes()
    try:
        path.write_bytes(b"{")
        assert kim.get("/health").json()["unfit"].keys() == {"users"}
        assert code(kim.get("/v1/me")) == (500, "server_fault")
    finally:
        path.write_bytes(whole)
    assert kim.get("/v1/me").status_code == 200


def test_the_release_tells_what_the_collection_is_made_of(world: Desk) -> None:
    with world.client() as client:
        told = client.get("/v1/release").json()
    assert told["release"] == "demo-1.0.0-c1"
    assert told["retrieval"]["engine"] == "qdrant-edge"
    assert told["retrieval"]["documents"] == 2


def test_the_models_say_that_this_one_is_a_demonstration(kim: httpx.Client) -> None:
    (model,) = kim.get("/v1/models").json()["data"]
    assert (model["id"], model["object"], model["banip"]["demo"]) == (MODEL, "model", True)


@pytest.mark.parametrize("path", ["/metrics", "/v1/release"])
def test_through_the_gateway_only_an_administrator_looks_inside(
    world: Desk, kim: httpx.Client, admin: httpx.Client, path: str
) -> None:
    through = {"X-Forwarded-For": "192.0.2.7"}
    with world.client() as nobody:
        assert nobody.get(path).status_code == 200
        assert code(nobody.get(path, headers=through)) == (401, "invalid_api_key")
    assert code(kim.get(path, headers=through)) == (403, "not_admin")
    assert admin.get(path, headers=through).status_code == 200


def test_answers_and_requests_are_counted(world: Desk, kim: httpx.Client) -> None:
    def counted() -> tuple[float, float]:
        lines = dict(line.rsplit(" ", 1) for line in kim.get("/metrics").text.splitlines() if line[0] != "#")
        chat = 'banip_requests_total{method="POST",route="/v1/chat/completions",status="200"}'
        return float(lines['banip_answers_total{outcome="answered"}']), float(lines.get(chat, 0))

    before = counted()
    answer(kim)
    world.upstream.fault = "breaks off"
    kim.post("/v1/chat/completions", json=question(ASKED))
    assert counted() == (before[0] + 1, before[1] + 1)
    kim.delete("/v1/documents/abc123")
    assert "abc123" not in kim.get("/metrics").text


def test_the_log_says_who_was_shown_what_and_neither_key_nor_question(world: Desk, kim: httpx.Client) -> None:
    response = kim.post("/v1/chat/completions", json=question("출장비 정산 기한 비밀낱말"))
    told, line = response.json(), world.line(response)
    assert (line["user"], line["path"], line["status"]) == ("kim", "/v1/chat/completions", 200)
    assert line["answer"] == told["id"]
    assert set(line["documents"]) == {source["document"] for source in told["banip"]["sources"]}
    log = world.log.read_text("utf-8")
    assert "비밀낱말" not in log
    assert kim.headers["authorization"].removeprefix("Bearer ") not in log


def test_questions_are_logged_where_the_site_has_decided_so(tmp_path: Path) -> None:
    with desk(tmp_path / "root", "--log-questions") as open_desk:
        with open_desk.client(open_desk.key("kim")) as client:
            response = client.post("/v1/chat/completions", json=question("기록되는 질문"))
        assert open_desk.line(response)["question"] == "기록되는 질문"


def test_every_answer_carries_what_keeps_a_browser_safe(world: Desk) -> None:
    with world.client() as client:
        for path in ("/", "/web/app.js", "/health", "/nothing"):
            headers = client.get(path).headers
            assert headers["content-security-policy"].startswith("default-src 'self';")
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert "server" not in headers
        assert client.get("/v1/me").headers["cache-control"] == "no-store"
