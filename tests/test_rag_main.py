"""The process behind the API's unit: it listens on loopback only, and says what it lacks."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from appliance.release import assemble
from tests.serving import PROJECT, serving
from tests.tiny import Site
from tests.world import World

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.real  # the API as a process


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "appliance.rag", *map(str, arguments)]
    return subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, check=False)


def test_it_listens_on_loopback_and_nowhere_else(tmp_path: Path) -> None:
    world, site = World(), Site(tmp_path / "banip")
    site.adopt(world)
    folder = assemble(site.server, site.bring_in(world.carrier(tmp_path)))
    with serving(folder, "tiny") as port:
        listening = [
            each.laddr.ip
            for child in psutil.Process().children()
            for each in child.net_connections()
            if each.status == psutil.CONN_LISTEN and each.laddr.port == port
        ]
    assert listening == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "--release"),
        (("--release", "/no/such/folder", "--model", "tiny"), "does not exist"),
        (("--release", "/", "--model", "tiny", "--port", "0"), "--port"),
        (("--release", "/", "--model", "tiny", "--ranking", "best"), "--ranking"),
    ],
)
def test_a_wrong_command_line_is_two(arguments: tuple[str, ...], told: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert told in done.stderr


def test_a_damaged_collection_is_said_with_its_file_and_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "collection").mkdir()
    (tmp_path / "collection" / "collection.json").write_text("{")
    done = run("--release", str(tmp_path), "--chat-model", "tiny", "--data", str(tmp_path))
    assert done.returncode == 1
    assert "where: " + str(tmp_path / "collection" / "collection.json") in done.stderr
    assert "remedy: " in done.stderr
    assert "Traceback" not in done.stderr
