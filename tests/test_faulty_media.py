"""Real media that stumble, are scratched, are pulled out, or show something else after they were verified.

The command line reads them through a FUSE file system, so the errors are the kernel's own.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest

from appliance.format import CHUNK_BYTES, END_OF_CARRIER, blob_member, member_header, sha256_hex
from tests.lying import lying_medium, why_not
from tests.test_main import run
from tests.tiny import Site
from tests.world import World

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lying import LyingMedium

pytestmark = [pytest.mark.real, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]

LATER = datetime(2900, 1, 1, tzinfo=timezone.utc)
LARGE = "models/tiny/large.bin"
CHUNKS = 14


@dataclass(frozen=True)
class Carried:
    """A bundle with one large blob, where the blobs lie in it, and another one that differs in one byte."""

    world: World
    path: Path
    large: str
    blobs: dict[str, bytes]
    starts: dict[str, int]

    def at(self, chunk: int, offset: int = 0) -> int:
        """Offset in the bundle of a byte of a chunk of the large blob."""
        return self.starts[self.large] + chunk * CHUNK_BYTES + offset

    @property
    def size_bytes(self) -> int:
        return self.path.stat().st_size


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Carried:
    world = World(expires=LATER)
    world.generations[0].expires = LATER
    chunk = os.urandom(CHUNK_BYTES - 4)
    world.files[LARGE] = b"".join(b"%04d" % number + chunk for number in range(CHUNKS - 1)) + b"the end"
    blobs, path = world.blobs, world.carrier(tmp_path_factory.mktemp("stick"))
    starts, offset = {}, path.stat().st_size - len(END_OF_CARRIER)
    for sha256, content in reversed(blobs.items()):
        offset -= -(-len(content) // 512) * 512
        starts[sha256] = offset
        offset -= len(member_header(blob_member(sha256), len(content)))
    return Carried(world, path, sha256_hex(world.files[LARGE]), blobs, starts)


@pytest.fixture
def site(tmp_path: Path, carried: Carried) -> Site:
    site = Site(tmp_path / "banip")
    site.adopt(carried.world)
    return site


@pytest.fixture
def medium(carried: Carried, tmp_path: Path) -> Iterator[LyingMedium]:
    with lying_medium(carried.path, tmp_path / "usb") as mounted:
        yield mounted


def said(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def last(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    return said(done)[-1]


def missing(done: subprocess.CompletedProcess[str]) -> list[tuple[str, str, list[int]]]:
    return [(each["blob"], each["fault"], each["chunks"]) for each in last(done)["missing"]]


def assert_whole(site: Site, carried: Carried) -> None:
    for sha256, content in carried.blobs.items():
        assert site.server.store.path(sha256).read_bytes() == content
    assert site.server.store.parts() == ()


def test_a_good_medium_is_read_once_and_hardly_more(
    site: Site, medium: LyingMedium, carried: Carried
) -> None:
    done = run(site, "--json", "import", medium.path)
    assert done.returncode == 0, done.stdout
    assert int(medium.tell("reads")) <= 1.02 * carried.size_bytes
    assert_whole(site, carried)


def test_what_stumbles_is_read_again_and_comes_in(site: Site, medium: LyingMedium, carried: Carried) -> None:
    medium.tell("fail", carried.at(3, 70_000), carried.at(3, 70_512), 2)
    medium.tell("fail", 600, 700, 1)  # in the head, before anything is trusted
    done = run(site, "--json", "import", medium.path)
    assert done.returncode == 0, done.stdout
    assert last(done)["result"]["retries"] >= 1
    assert_whole(site, carried)


def test_a_head_that_cannot_be_read_is_thirteen_and_changes_nothing(site: Site, medium: LyingMedium) -> None:
    medium.tell("fail", 600, 700, -1)
    done = run(site, "--json", "import", medium.path)
    assert (done.returncode, last(done)["error"]) == (13, "UnreadableMedium")
    assert site.journal() == ["refused"]
    assert not site.server.store.folder.exists()


def test_scratches_are_named_and_only_they_are_asked_for_again(
    site: Site, medium: LyingMedium, carried: Carried
) -> None:
    medium.tell("fail", carried.at(2, 5), carried.at(2, 6), -1)
    medium.tell("fail", carried.at(5), carried.at(7), -1)
    done = run(site, "--json", "import", medium.path)
    assert done.returncode == 13
    assert missing(done) == [(carried.large, "unreadable", [2, 5, 6])]
    assert last(done)["missing"][0]["uses"] == [LARGE]
    assert [line.get("event") for line in said(done)].count("fault") == 3
    assert site.journal() == ["imported-in-part"]
    here = {blob.sha256 for blob in carried.world.release.blobs if site.server.store.has(blob)}
    assert here == carried.blobs.keys() - {carried.large}
    with lying_medium(carried.path, medium.path.parent.parent / "second") as second:
        again = run(site, "--json", "import", second.path)
        assert again.returncode == 0, again.stdout
        assert int(second.tell("reads")) <= 3 * CHUNK_BYTES + 200_000
    assert [line for line in said(again) if line.get("event") == "resumed"]
    assert last(again)["result"]["bytes_resumed"] == len(carried.blobs[carried.large]) - 3 * CHUNK_BYTES
    assert_whole(site, carried)


def test_a_person_is_told_blob_chunk_bytes_and_file(
    site: Site, medium: LyingMedium, carried: Carried
) -> None:
    medium.tell("fail", carried.at(2), carried.at(3), -1)
    done = run(site, "import", medium.path)
    assert done.returncode == 13
    place = f"blob {carried.large}, chunk 2, bytes {2 * CHUNK_BYTES}-{3 * CHUNK_BYTES - 1} of {LARGE}"
    assert place in done.stderr
    assert "Input/output error" in done.stderr
    assert "--repair" in done.stderr
    assert "청크 2" in run(site, "--lang", "ko", "import", medium.path).stderr


def test_two_scratched_copies_make_a_whole_one(site: Site, medium: LyingMedium, carried: Carried) -> None:
    medium.tell("fail", carried.at(1), carried.at(4), -1)
    with lying_medium(carried.path, medium.path.parent.parent / "second") as second:
        second.tell("fail", carried.at(7), carried.at(9), -1)
        done = run(site, "--json", "import", medium.path, "--repair", second.path)
        assert done.returncode == 0, done.stdout
        assert int(second.tell("reads")) <= 3 * CHUNK_BYTES + 200_000
    assert_whole(site, carried)


def test_another_release_is_no_copy(
    site: Site, medium: LyingMedium, carried: Carried, tmp_path: Path
) -> None:
    other = carried.world.next(version="9.9.9", files={"bom.cdx.json": b"{}"}).carrier(tmp_path)
    done = run(site, "--json", "import", medium.path, "--repair", other)
    assert (done.returncode, last(done)["error"]) == (2, "BadInput")
    forged = carried.world.next(version="9.9.9", signers=[]).carrier(tmp_path)
    assert run(site, "--json", "import", medium.path, "--repair", forged).returncode == 10
    assert site.journal() == ["refused", "refused"]
    assert not site.server.store.folder.exists()


@pytest.mark.parametrize("how", ["pull", "pull-silently"])
def test_a_medium_that_is_pulled_out_ends_the_run_soon_and_the_next_goes_on(
    site: Site, medium: LyingMedium, carried: Carried, how: str
) -> None:
    medium.tell("pull-at", carried.at(4, 77), how)
    done = run(site, "--json", "import", medium.path)
    assert done.returncode == 13
    assert carried.large in {blob for blob, _, _ in missing(done)}
    assert {number for _, _, numbers in missing(done) for number in numbers} >= set(range(4, CHUNKS))
    with lying_medium(carried.path, medium.path.parent.parent / "again") as again:
        assert run(site, "--json", "import", again.path).returncode == 0
        assert int(again.tell("reads")) <= carried.size_bytes - 4 * CHUNK_BYTES + 200_000
    assert_whole(site, carried)


def test_a_medium_that_changes_after_it_was_verified_gains_nothing(
    site: Site, medium: LyingMedium, carried: Carried, tmp_path: Path
) -> None:
    content = bytearray(carried.path.read_bytes())
    content[carried.at(6, 123)] ^= 1
    small = carried.starts[sha256_hex(b"- hosts: all\n")]
    content[small + 2] ^= 1
    (tmp_path / "other.tar").write_bytes(content)
    assert run(site, "verify", medium.path).returncode == 0
    medium.tell("show", tmp_path / "other.tar")
    done = run(site, "--json", "import", medium.path)
    assert (done.returncode, last(done)["error"]) == (11, "Tampered")
    assert {(blob, tuple(chunks)) for blob, _, chunks in missing(done)} == {
        (carried.large, (6,)),
        (sha256_hex(b"- hosts: all\n"), (0,)),
    }
    for path in (site.server.store.folder / "blobs" / "sha256").iterdir():
        assert sha256_hex(path.read_bytes()) == path.name


def test_a_medium_that_changes_while_it_is_read_gains_nothing(
    site: Site, medium: LyingMedium, carried: Carried, tmp_path: Path
) -> None:
    (tmp_path / "zeros").write_bytes(bytes(carried.size_bytes))
    medium.tell("show-at", carried.at(4), tmp_path / "zeros")
    done = run(site, "--json", "import", medium.path)
    assert done.returncode == 11
    assert site.server.store.check(lambda _: None) == ()
    assert not site.server.store.path(carried.large).exists()


def test_verify_names_every_fault_in_one_run_and_writes_nothing(
    site: Site, medium: LyingMedium, carried: Carried, tmp_path: Path
) -> None:
    content = bytearray(carried.path.read_bytes())
    content[carried.at(6, 123)] ^= 1
    content[carried.starts[sha256_hex(b"- hosts: all\n")] + 2] ^= 1
    (tmp_path / "other.tar").write_bytes(content)
    medium.tell("show", tmp_path / "other.tar")
    medium.tell("fail", carried.at(8), carried.at(9), -1)
    before = sorted(str(path) for path in site.root.rglob("*"))
    done = run(site, "--json", "verify", medium.path)
    assert done.returncode == 11
    assert sorted(missing(done)) == sorted(
        [
            (carried.large, "wrong", [6]),
            (carried.large, "unreadable", [8]),
            (sha256_hex(b"- hosts: all\n"), "wrong", [0]),
        ]
    )
    assert sorted(str(path) for path in site.root.rglob("*")) == before


def test_a_header_that_cannot_be_read_fails_verify_and_not_the_import(
    site: Site, medium: LyingMedium, carried: Carried
) -> None:
    medium.tell("fail", carried.starts[carried.large] - 100, carried.starts[carried.large], -1)
    done = run(site, "--json", "verify", medium.path)
    assert (done.returncode, last(done)["error"]) == (13, "UnreadableMedium")
    assert run(site, "--json", "import", medium.path).returncode == 0
    assert_whole(site, carried)
