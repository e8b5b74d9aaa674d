"""The rules of conftest.py, each shown on a small project of its own that breaks it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.real  # runs pytest
HERE = Path(__file__).parent
INI = """[pytest]
markers =
  server: s
  qemu: q
  network: n
"""
NO_BACKEND = "def why_not(backend):\n    return f'no {backend} here'\n"


def run(folder: Path, test: str, **environment: str) -> str:
    """Run pytest on one test module beside a copy of our conftest.py; return what it says."""
    for name, content in {
        "pytest.ini": INI,
        "tests/conftest.py": (HERE / "conftest.py").read_text("utf-8"),
        "tests/closed_server/__init__.py": NO_BACKEND,
        "tests/test_it.py": f"import socket\nimport pytest\n{test}",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, "utf-8")
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("CI", "PYTEST"))}
    argv = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", "-p", "no:xdist", "tests"]
    done = subprocess.run(
        argv, cwd=folder, env=outside | environment, capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout


@pytest.mark.parametrize(
    "leave",
    [
        "socket.create_connection(('192.0.2.1', 80), timeout=1)",
        "socket.getaddrinfo('index.example', 443)",
        "socket.gethostbyname('index.example')",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
        "socket.socket(socket.AF_INET6).connect(('2001:db8::1', 80))",
    ],
)
def test_a_test_cannot_leave_this_machine_even_if_its_code_swallows_the_refusal(
    tmp_path: Path, leave: str
) -> None:
    said = run(
        tmp_path,
        f"def test_loud():\n    {leave}\n"
        f"def test_quiet():\n    try:\n        {leave}\n    except Exception:\n        pass\n",
    )
    assert "a test tried to reach" in said
    assert "ERROR tests/test_it.py::test_quiet" in said
    assert "FAILED tests/test_it.py::test_loud" in said


def test_loopback_and_local_sockets_stay_open(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        "def test_it(tmp_path):\n"
        "    with socket.create_server(('127.0.0.1', 0)) as server:\n"
        "        socket.create_connection(('localhost', server.getsockname()[1])).close()\n"
        "    one, two = socket.socketpair()\n    one.sendall(b'x')\n    one.close()\n    two.close()\n",
    )
    assert "1 passed" in said


def test_a_network_test_may_leave_and_the_next_one_may_not(tmp_path: Path) -> None:
    # Connecting a datagram socket asks the kernel for a route and sends nothing.
    leave = (
        "    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, contextlib.suppress(OSError):\n"
        "        one.connect(('192.0.2.1', 9))\n"
    )
    said = run(
        tmp_path,
        f"import contextlib\n@pytest.mark.network\ndef test_marked():\n{leave}def test_after():\n{leave}",
    )
    assert "PASSED tests/test_it.py::test_marked" in said
    assert "FAILED tests/test_it.py::test_after" in said


SKIPPING = """
@pytest.mark.server
def test_a(): pass
@pytest.mark.qemu
def test_b(): pass
@pytest.mark.skip(reason="not today")
def test_c(): pass
@pytest.mark.xfail(reason="known")
def test_d(): assert False
"""


def test_without_a_backend_its_tests_are_skipped_with_the_reason(tmp_path: Path) -> None:
    said = run(tmp_path, SKIPPING)
    assert "no nspawn here" in said
    assert "no qemu here" in said
    assert "3 skipped, 1 xfailed" in said


def test_in_ci_every_skip_is_a_failure(tmp_path: Path) -> None:
    said = run(tmp_path, SKIPPING, CI="true")
    assert "skipped, which CI does not allow: Skipped: no nspawn here" in said
    assert "skipped" not in said.splitlines()[-1]
    assert "failed" in said.splitlines()[-1]
    assert "1 xfailed" in said.splitlines()[-1]


def test_in_ci_a_module_that_skips_itself_is_a_failure(tmp_path: Path) -> None:
    said = run(tmp_path, "pytest.importorskip('no_such_module')\n", CI="true")
    assert "skipped, which CI does not allow" in said
    assert "1 error" in said.splitlines()[-1]
