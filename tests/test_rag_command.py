"""The commands that speak to the API: as processes, against a running API."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from appliance.errors import BadInput, UnfitServer
from appliance.rag import documents
from appliance.rag.client import DEFAULT_URL, FILE_MAX_BYTES, Client
from appliance.rag.command import files_below
from tests.asking import Desk, desk
from tests.serving import PROJECT, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.real  # the API as a process
TRAVEL = "출장비는 출장을 마친 날부터 10일 안에 정산한다. 영수증을 붙인다."


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(tmp_path_factory.mktemp("banip") / "root") as found:
        yield found


@pytest.fixture
def world(running: Desk) -> Iterator[Desk]:
    yield running
    running.upstream.flowing.set()
    running.upstream.__init__()  # type: ignore[misc]


def run(root: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "appliance", "--root", str(root), *map(str, arguments)]
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    return subprocess.run(argv, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)


def at(world: Desk, *arguments: object) -> subprocess.CompletedProcess[str]:
    return run(world.root, *arguments, "--url", world.socket)


def last(done: subprocess.CompletedProcess[str]) -> Any:  # noqa: ANN401
    return json.loads(done.stdout.splitlines()[-1])


def test_a_folder_is_taken_in_asked_and_taken_in_again(world: Desk, tmp_path: Path) -> None:
    folder = tmp_path / "documents"
    (folder / "deep").mkdir(parents=True)
    (folder / "여비.txt").write_text(TRAVEL, "utf-8")
    (folder / "deep" / "휴가.txt").write_text("연차 휴가는 3일 전에 신청한다.", "utf-8")
    (folder / "._여비.txt").write_bytes(b"left by another system")

    first = at(world, "ingest", folder, "--grade", "O")
    assert first.returncode == 0, first.stderr
    assert "2 documents taken in, 0 were in already" in first.stdout
    assert "1/2" in first.stderr

    again = last(at(world, "ingest", folder, "--grade", "O", "--json"))
    assert [each["already"] for each in again["result"]["documents"]] == [True, True]

    asked = at(world, "ask", "출장비는 언제까지 정산합니까?")
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.startswith("출장비는 10일 안에 정산합니다 [1].\n")
    assert "[1] 여비.txt · 1절 1문단 · O · cited" in asked.stdout
    assert TRAVEL in asked.stdout


def test_json_has_the_answer_and_its_sources(world: Desk, tmp_path: Path) -> None:
    (tmp_path / "여비.txt").write_text(TRAVEL, "utf-8")
    at(world, "ingest", tmp_path, "--grade", "O")
    world.upstream.words = ["모릅니다 [7]."]
    told = last(at(world, "ask", "출장비 정산", "--json"))["result"]
    assert told["answer"] == "모릅니다 [7]."
    assert told["sources"][0]["name"] == "여비.txt"
    assert told["citations"]["invalid"] == [7]
    plain = at(world, "ask", "출장비 정산").stdout
    assert "cites numbers that no source has: 7" in plain
    assert "cites none of its sources" in plain

    done = at(world, "feedback", told["id"], "bad", "--comment", "근거 없음")
    assert done.returncode == 0, done.stderr
    kept = json.loads((world.data / "feedback.jsonl").read_text("utf-8").splitlines()[-1])
    assert (kept["user"], kept["answer"], kept["comment"]) == ("operator", told["id"], "근거 없음")


def test_files_that_cannot_be_taken_in_are_all_listed_and_the_others_are_in(
    world: Desk, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "b.txt").write_text("청사 출입은 출입증으로 한다.", "utf-8")
    (tmp_path / "c.pdf").write_bytes(b"no pdf")
    done = at(world, "ingest", tmp_path, tmp_path / "missing.txt")
    assert done.returncode == 2
    assert "3 of 4 files were not taken in" in done.stderr
    assert all(name in done.stderr for name in ("a.png", "c.pdf", "missing.txt"))
    assert "b.txt" in at(world, "documents", "list").stderr


def test_documents_are_listed_and_removed(world: Desk, tmp_path: Path) -> None:
    (tmp_path / "지울 문서.txt").write_text("곧 지울 문서이다.", "utf-8")
    taken = last(at(world, "ingest", tmp_path, "--json"))["result"]["documents"]
    (document,) = [each["document"] for each in taken]
    listed = last(at(world, "documents", "list", "--json"))["result"]["documents"]
    assert [each["grade"] for each in listed if each["document"] == document] == ["S"]  # the server's own
    assert at(world, "documents", "remove", document).returncode == 0
    again = at(world, "documents", "remove", document)
    assert again.returncode == 2
    assert "no such document" in again.stderr


def test_the_operators_key_is_made_once_and_shown_nowhere(world: Desk) -> None:
    path = world.root / "secrets" / "operator.key"
    said = [at(world, "documents", "list"), at(world, "documents", "list", "--json")]
    key = path.read_text().strip()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert len([user for user in world.users.read().users if user.name == "operator"]) == 1
    assert not [done for done in said if key in done.stdout + done.stderr]
    assert key not in world.log.read_text("utf-8")


def test_a_lost_operators_key_is_made_again(world: Desk) -> None:
    at(world, "documents", "list")
    path = world.root / "secrets" / "operator.key"
    before = path.read_text()
    path.unlink()
    assert at(world, "documents", "list").returncode == 0
    assert path.read_text() != before
    world.users.path.write_bytes(b'{"format":1,"users":[]}')
    assert at(world, "documents", "list").returncode == 0


def test_a_disabled_operators_key_is_refused_and_not_made_again(world: Desk) -> None:
    at(world, "documents", "list")
    world.users.disable("operator")
    done = at(world, "documents", "list")
    assert (done.returncode, "refuses the key" in done.stderr) == (2, True)
    (world.root / "secrets" / "operator.key").unlink()  # root's way to a new one
    assert at(world, "documents", "list").returncode == 0


def test_a_key_is_made_shown_once_works_and_is_disabled(world: Desk) -> None:
    made = last(run(world.root, "user", "add", "kim", "--grade", "O", "--json"))["result"]
    client = Client(world.url, made["key"])
    assert client.me() == {"name": "kim", "role": "user", "grade": "O"}
    listed = run(world.root, "user", "list", "--json").stdout
    assert "kim" in listed
    assert made["key"] not in listed
    assert "sha256" not in listed
    assert run(world.root, "user", "add", "kim", "--grade", "S").returncode == 2
    assert run(world.root, "user", "disable", "kim").returncode == 0
    with pytest.raises(BadInput, match="refuses the key"):
        client.me()
    assert "kim: grade O, user, disabled" in run(world.root, "user", "list").stderr


def test_the_name_of_the_command_line_is_taken(world: Desk) -> None:
    done = run(world.root, "user", "add", "operator", "--grade", "S")
    assert (done.returncode, "command line itself" in done.stderr) == (2, True)


def test_the_key_goes_to_a_socket_that_only_the_apis_account_can_make(world: Desk) -> None:
    """A port is anybody's while the service is down, and whoever had taken it would be sent the key."""
    assert DEFAULT_URL == "unix:/run/banip-api/api.sock"
    assert at(world, "documents", "list").returncode == 0
    with pytest.raises(UnfitServer, match="does not answer"):
        Client(f"unix:{world.root}/gone.sock", "a key").me()


def test_where_nothing_is_installed_it_says_so(tmp_path: Path) -> None:
    done = run(tmp_path / "nothing", "ask", "x")
    assert (done.returncode, "no API is installed" in done.stderr) == (20, True)


def test_an_api_that_is_down_is_said_with_a_remedy(world: Desk) -> None:
    done = run(world.root, "ask", "x", "--url", f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 20
    assert "banip-api.service" in done.stderr


def test_a_model_that_fails_before_or_within_its_answer_is_said(world: Desk, tmp_path: Path) -> None:
    (tmp_path / "여비.txt").write_text(TRAVEL, "utf-8")
    at(world, "ingest", tmp_path, "--grade", "O")
    world.upstream.fault = "refuses"
    before = at(world, "ask", "출장비 정산")
    assert (before.returncode, before.stdout) == (20, "")
    world.upstream.fault = "breaks off"
    within = at(world, "ask", "출장비 정산")
    assert within.returncode == 20
    assert within.stdout.startswith("출장비는 ")
    assert "broke off" in within.stderr


@pytest.mark.parametrize(
    "url", ["http://192.0.2.1:8600", "https://127.0.0.1:8600", "http://127.0.0.1/x", "x"]
)
def test_the_key_never_leaves_this_server(world: Desk, url: str) -> None:
    done = run(world.root, "ask", "x", "--url", url)
    assert (done.returncode, "on this server only" in done.stderr) == (2, True)


def test_what_steers_a_terminal_is_not_passed_on(world: Desk, tmp_path: Path) -> None:
    (tmp_path / "여비.txt").write_text(TRAVEL, "utf-8")
    at(world, "ingest", tmp_path, "--grade", "O")
    world.upstream.words = ["가\x1b[2J나\x07다\n라"]
    assert at(world, "ask", "출장비").stdout.startswith("가\\x1b[2J나\\x07다\n라\n")


def test_the_name_of_a_file_on_a_medium_steers_no_terminal(world: Desk, tmp_path: Path) -> None:
    (tmp_path / "가\x1b]0;나\x07.txt").write_text("이름이 이상한 파일이다.", "utf-8")
    (tmp_path / "다\x1b[2J.png").write_bytes(b"x")
    done = at(world, "ingest", tmp_path)
    assert ("가\\x1b]0;나\\x07.txt" in done.stderr, "다\\x1b[2J.png" in done.stderr) == (True, True)
    assert "\x1b" not in done.stdout + done.stderr


def test_a_file_too_large_is_refused_before_it_is_sent(world: Desk, tmp_path: Path) -> None:
    assert FILE_MAX_BYTES == documents.FILE_MAX_BYTES
    with (tmp_path / "large.txt").open("wb") as file:
        file.truncate(FILE_MAX_BYTES + 1)
    done = at(world, "ingest", tmp_path)
    assert (done.returncode, "too large" in done.stderr) == (2, True)


@pytest.mark.parametrize("name", ['이상한 "이름".txt', "줄\n바꿈.txt", "물음?표;a=b.txt"])
def test_any_name_of_a_file_travels(world: Desk, name: str) -> None:
    client = Client(world.url, world.key("admin", "S", "admin"))
    taken = client.ingest(name, f"이 파일의 이름은 {name!r} 이다.".encode(), "O")
    assert taken["name"].startswith(name[:2].strip())
    assert taken["name"].endswith(".txt")
    client.remove(taken["document"])


def test_a_folder_gives_its_files_in_order_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.txt", "a/c.txt", ".hidden", ".git/x.txt", "a/._c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    found = [str(path.relative_to(tmp_path)) for path in files_below([tmp_path, tmp_path / "b.txt"])]
    assert found == ["a/c.txt", "b.txt"]
    assert files_below([tmp_path / ".hidden"]) == (tmp_path / ".hidden",)


def test_a_link_on_a_medium_leads_to_no_file_of_this_server(tmp_path: Path) -> None:
    secret, medium = tmp_path / "operator.key", tmp_path / "medium"
    secret.write_text("banip_secret")
    medium.mkdir()
    (medium / "a.txt").write_text("x")
    (medium / "b.txt").symlink_to(secret)
    (medium / "c").symlink_to(tmp_path)
    assert files_below([medium]) == (medium / "a.txt",)
