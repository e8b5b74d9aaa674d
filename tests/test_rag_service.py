"""What a server answers with: which release it is, and whether its model is fit to serve."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

import pytest

from appliance.rag.service import model_fault
from appliance.release import assemble
from tests.serving import ask, serving
from tests.tiny import Site
from tests.world import World

if TYPE_CHECKING:
    from pathlib import Path

HEADER = json.dumps({"weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
WEIGHTS = struct.pack("<Q", len(HEADER)) + HEADER + bytes(4)
FILE = "models/tiny/model.safetensors"


@pytest.fixture
def world() -> World:
    world = World()
    world.files[FILE] = WEIGHTS
    return world


@pytest.fixture
def folder(world: World, tmp_path: Path) -> Path:
    site = Site(tmp_path / "banip")
    site.adopt(world)
    return assemble(site.server, site.bring_in(world.carrier(tmp_path)))


def put(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def test_a_whole_release_is_healthy_and_says_which_it_is(folder: Path) -> None:
    with serving(folder, "tiny") as port:
        assert ask(port, "/health") == (200, {"status": "ok", "release": "demo-1.0.0-c1"})


def test_it_says_what_it_is_made_of(folder: Path, world: World) -> None:
    with serving(folder, "tiny") as port:
        status, told = ask(port, "/v1/release")
    digests = {file.path: file.sha256 for file in world.release.files if file.path.startswith("models/tiny/")}
    assert (status, told["release"], told["counter"]) == (200, "demo-1.0.0-c1", 1)
    assert told["model"] == {"name": "tiny", "files": digests}
    assert "fastapi" in told["packages"]


def test_a_missing_model_file_is_named_and_its_return_is_seen(folder: Path) -> None:
    hidden = folder / "hidden"
    with serving(folder, "tiny") as port:
        (folder / FILE).rename(hidden)
        status, told = ask(port, "/health")
        assert (status, told["status"]) == (503, "unfit")
        assert told["fault"] == f"{FILE} is missing"
        hidden.rename(folder / FILE)
        assert ask(port, "/health")[0] == 200


def test_a_truncated_header_is_unfit(folder: Path) -> None:
    put(folder / FILE, WEIGHTS[: len(HEADER)])
    with serving(folder, "tiny") as port:
        status, told = ask(port, "/health")
    assert (status, told["fault"]) == (503, f"{FILE} has no safetensors header")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234567",
        struct.pack("<Q", 2**63) + HEADER,
        struct.pack("<Q", len(HEADER) + 1) + HEADER,
        struct.pack("<Q", 7) + b"not json",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 2) + b"\xff\xff",
    ],
)
def test_what_is_no_header_is_a_fault(folder: Path, world: World, content: bytes) -> None:
    put(folder / FILE, content)
    assert model_fault(folder, world.release, "tiny") == f"{FILE} has no safetensors header"


def test_a_model_that_the_release_does_not_have_is_a_fault(folder: Path, world: World) -> None:
    assert model_fault(folder, world.release, "large") == "the release has no model named large"


def test_a_sound_model_has_no_fault(folder: Path, world: World) -> None:
    assert (folder / FILE).stat().st_size == len(WEIGHTS)
    assert model_fault(folder, world.release, "tiny") is None
