"""An environment is built once, whole, out of exactly the wheels that were signed."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from appliance.environment import COMPLETE, build_environment
from appliance.errors import BanipError, Tampered, UnfitServer
from appliance.format import Blob, Environment, Wheel, sha256_hex
from appliance.store import Store
from tests.tiny import wheel

if TYPE_CHECKING:
    from pathlib import Path

HELLO = wheel("hello", {"hello.py": b"def main():\n    print('hello')\n"}, "hello = hello:main")
BROKEN = wheel("broken", {"broken.py": b"this is no Python\n"})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def environment(store: Store, *wheels: bytes, python: str = "3.11") -> Environment:
    found = []
    for data in wheels:
        blob = Blob(sha256=sha256_hex(data), size_bytes=len(data))
        store.add(blob, [data])
        name = "hello" if data == HELLO else "broken"
        found.append(Wheel(filename=f"{name}-1.0-py3-none-any.whl", sha256=blob.sha256))
    return Environment(name="api", python=python, platform="any", wheels=tuple(found))


def build(wanted: Environment, store: Store, folder: Path) -> Path:
    return build_environment(wanted, store, folder, lambda *_: None)


def test_it_stands_at_its_final_path_and_its_programs_run(store: Store, tmp_path: Path) -> None:
    wanted = environment(store, HELLO)
    home = build(wanted, store, tmp_path / "envs")
    assert home == tmp_path / "envs" / wanted.digest
    said = subprocess.run([home / "bin" / "hello"], capture_output=True, text=True, check=True)
    assert said.stdout == "hello\n"
    assert list(home.glob("lib/python3.11/site-packages/__pycache__/hello.*.pyc"))
    assert (home / "lib/python3.11/site-packages/hello-1.0.dist-info/INSTALLER").read_text() == "banip\n"
    assert not list(home.glob("lib/python3.11/site-packages/pip*"))


def test_progress_counts_the_wheels(store: Store, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    build_environment(
        environment(store, HELLO, BROKEN), store, tmp_path / "envs", lambda *step: seen.append(step)
    )
    assert seen == [(1, 2), (2, 2)]


def test_it_is_built_once_for_a_digest(store: Store, tmp_path: Path) -> None:
    wanted = environment(store, HELLO)
    home = build(wanted, store, tmp_path / "envs")
    before = {path: path.lstat().st_mtime_ns for path in home.rglob("*")}
    again = Environment(name="other", python="3.11", platform="any", wheels=wanted.wheels)
    assert build(again, store, tmp_path / "envs") == home
    assert {path: path.lstat().st_mtime_ns for path in home.rglob("*")} == before


def test_complete_is_the_last_thing_written(store: Store, tmp_path: Path) -> None:
    home = build(environment(store, HELLO), store, tmp_path / "envs")
    complete = (home / COMPLETE).lstat().st_mtime_ns
    assert complete == max(path.lstat().st_mtime_ns for path in home.rglob("*") if path.is_file())


def test_the_rest_of_a_killed_run_is_thrown_away(store: Store, tmp_path: Path) -> None:
    wanted = environment(store, HELLO)
    home = build(wanted, store, tmp_path / "envs")
    (home / COMPLETE).unlink()
    (home / "half.py").write_text("")
    (home / "bin" / "hello").unlink()
    build(wanted, store, tmp_path / "envs")
    assert not (home / "half.py").exists()
    assert (home / "bin" / "hello").exists()
    assert (home / COMPLETE).exists()


def test_a_wheel_whose_record_was_changed_in_the_store_is_refused(store: Store, tmp_path: Path) -> None:
    wanted = environment(store, HELLO)
    path = store.path(wanted.wheels[0].sha256)
    path.chmod(0o644)
    path.write_bytes(HELLO.replace(b"hello.py,sha256=", b"hullo.py,sha256="))
    with pytest.raises(Tampered) as refused:
        build(wanted, store, tmp_path / "envs")
    assert refused.value.where == "hello-1.0-py3-none-any.whl"
    assert not (tmp_path / "envs" / wanted.digest / COMPLETE).exists()


@pytest.mark.parametrize(
    "bad",
    [
        b"no zip",
        HELLO[1:],
        wheel("hello", {"../../evil.py": b"x = 1\n"}),
        wheel("hello", {"/evil.py": b"x = 1\n"}),
        wheel("hello", {"hello.py": b"x = 1\n", "hello.py/below.py": b"x = 1\n"}),
        wheel("hello", {"x" * 300: b""}),
        wheel("hello", {"hello.py": b"x = 1\n"}, "../../evil = hello:x"),
        wheel("hello", {"hello.py": b"x = 1\n"}, "]"),
        wheel("other", {"hello.py": b"x = 1\n"}),
    ],
)
def test_what_is_no_wheel_is_tampering_though_it_was_signed(store: Store, tmp_path: Path, bad: bytes) -> None:
    blob = Blob(sha256=sha256_hex(bad), size_bytes=len(bad))
    store.add(blob, [bad])
    named = Wheel(filename="hello-1.0-py3-none-any.whl", sha256=blob.sha256)
    wanted = Environment(name="api", python="3.11", platform="any", wheels=(named,))
    with pytest.raises(Tampered) as refused:
        build(wanted, store, tmp_path / "envs")
    assert (refused.value.where, refused.value.remedy is not None) == (named.filename, True)
    assert not list(tmp_path.rglob("evil*"))
    assert not (tmp_path / "envs" / wanted.digest / COMPLETE).exists()


def test_a_file_that_no_python_compiles_is_no_failure(store: Store, tmp_path: Path) -> None:
    home = build(environment(store, BROKEN, HELLO), store, tmp_path / "envs")
    assert (home / "lib/python3.11/site-packages/broken.py").exists()


def test_a_python_that_is_not_here_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UnfitServer) as refused:
        build(environment(store, HELLO, python="3.99"), store, tmp_path / "envs")
    assert "3.99" in str(refused.value)
    assert not (tmp_path / "envs").exists()


def test_a_venv_that_cannot_be_made_says_what_the_command_said(store: Store, tmp_path: Path) -> None:
    (tmp_path / "envs").mkdir()
    wanted = environment(store, HELLO)
    (tmp_path / "envs" / wanted.digest).symlink_to("/proc/1/no-such-folder")
    with pytest.raises(BanipError) as refused:
        build(wanted, store, tmp_path / "envs")
    assert "venv" in str(refused.value.where)
