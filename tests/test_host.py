"""Health is asked over real sockets; only what is owned is removed, and removing it twice is no fault."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from appliance.errors import BanipError
from appliance.format import HttpAnswers, Owned, Role
from appliance.host import retire, run, wait_for_health
from tests.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from appliance.format import Release


class Answer(BaseHTTPRequestHandler):
    """Answers with what the server was told, one answer after another; the last one stays."""

    server: Answers

    def do_GET(self) -> None:
        answers = self.server.answers
        status, body = answers.pop(0) if len(answers) > 1 else answers[0]
        if status == 0:  # not HTTP at all
            self.wfile.write(b"garbage\r\n")
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Answers(ThreadingHTTPServer):
    answers: list[tuple[int, bytes]]


@contextmanager
def answering(*answers: tuple[int, bytes]) -> Iterator[int]:
    with Answers(("127.0.0.1", 0), Answer) as server:
        server.answers = list(answers)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def release(port: int, *, names_release: bool = True, roles: int = 1, timeout_s: int = 0) -> Release:
    """Return a release that asks that port, and only once where ``timeout_s`` is 0."""
    check = HttpAnswers(url=f"http://127.0.0.1:{port}/health", names_release=names_release)
    return World(
        roles=tuple(Role(name=f"r{n}", health=(check,), health_timeout_s=timeout_s) for n in range(roles))
    ).release


def naming(name: str) -> bytes:
    return json.dumps({"release": name}).encode()


ID = "demo-1.0.0-c1"


def faults(port: int, *, names_release: bool = True) -> list[str]:
    return [str(fault) for fault in wait_for_health(release(port, names_release=names_release))]


def test_two_hundred_from_the_right_release_is_health() -> None:
    with answering((200, naming(ID))) as port:
        assert faults(port) == []


def test_another_release_that_answers_is_named() -> None:
    with answering((200, naming("demo-0.9.0-c0"))) as port:
        assert faults(port) == [f"http://127.0.0.1:{port}/health answers for demo-0.9.0-c0, not {ID}"]


@pytest.mark.parametrize("body", [b"fine", b"[]", b"", b'"release"'])
def test_an_answer_that_names_nobody_is_not_the_release(body: bytes) -> None:
    with answering((200, body)) as port:
        assert faults(port) == [f"http://127.0.0.1:{port}/health answers for None, not {ID}"]


def test_where_no_name_is_asked_for_any_two_hundred_will_do() -> None:
    with answering((200, b"fine")) as port:
        assert faults(port, names_release=False) == []


@pytest.mark.parametrize("status", [204, 404, 503])
def test_any_other_status_is_a_fault(status: int) -> None:
    with answering((status, b"")) as port:
        (fault,) = faults(port, names_release=False)
        assert str(status) in fault


def test_what_does_not_speak_http_is_a_fault() -> None:
    with answering((0, b"")) as port:
        (fault,) = faults(port)
        assert "does not answer with 200" in fault


def test_nobody_listening_is_a_fault() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        (fault,) = faults(taken.getsockname()[1])
    assert "refused" in fault


def test_a_service_that_needs_a_moment_gets_it() -> None:
    with answering((503, b""), (200, b"warming up"), (200, naming(ID))) as port:
        assert wait_for_health(release(port, timeout_s=30)) == ()


def test_every_role_that_is_not_healthy_is_told() -> None:
    with answering((503, b"")) as port:
        assert len(wait_for_health(release(port, roles=2))) == 2


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with answering((200, naming(ID))) as port:
        assert faults(port) == []


def test_only_what_is_owned_goes_and_going_twice_is_no_fault(tmp_path: Path) -> None:
    folder, file = tmp_path / "banip-folder", tmp_path / "banip.conf"
    folder.mkdir()
    (folder / "inside").write_text("")
    file.write_text("")
    (tmp_path / "other.conf").write_text("")
    owned = Owned(paths=(str(folder), str(file)))
    retire(owned)
    retire(owned)
    assert [path.name for path in tmp_path.iterdir()] == ["other.conf"]


def test_a_link_is_removed_and_what_it_points_at_stays(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "file").write_text("")
    (tmp_path / "banip-link").symlink_to(tmp_path / "theirs")
    retire(Owned(paths=(str(tmp_path / "banip-link"),)))
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]
    assert (tmp_path / "theirs" / "file").exists()


def test_a_path_without_banips_name_cannot_even_be_owned() -> None:
    with pytest.raises(ValueError, match="is not a role's to own"):
        Owned(paths=("/etc/passwd",))


def test_a_program_that_fails_is_quoted() -> None:
    with pytest.raises(BanipError) as failed:
        run("ls", "/no such folder")
    assert "No such file" in str(failed.value.seen)
    assert run("ls", "/no such folder", check=False).returncode != 0


def test_programs_get_a_fixed_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD_OF_SOMEBODY", "x")
    assert "LD_PRELOAD_OF_SOMEBODY" not in run("env").stdout
