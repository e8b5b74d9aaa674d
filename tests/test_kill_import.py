"""A real import is killed, or runs out of disk, at many moments; what it had done is not done again.

The medium is a FUSE file system that counts what leaves it and kills its reader by itself: no clock decides.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest

from appliance.format import CHUNK_BYTES, sha256_hex
from tests.lying import lying_medium, why_not
from tests.test_main import run
from tests.tiny import Site
from tests.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lying import LyingMedium

pytestmark = [pytest.mark.real, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]

LATER = datetime(2900, 1, 1, tzinfo=timezone.utc)
MIB = 2**20
#: What a kill may cost, by the promise; and what it does cost: the chunk that was not whole.
MOST_LOST, CHUNK_LOST = 64 * MIB, CHUNK_BYTES + MIB
LARGE, LARGE_MIB, SMALL = "models/tiny/large.bin", 100, 40


@dataclass(frozen=True)
class Carried:
    """A bundle of one large blob and many small ones."""

    world: World
    path: Path
    blobs: dict[str, bytes]

    @property
    def large(self) -> str:
        return sha256_hex(self.world.files[LARGE])

    @property
    def size_bytes(self) -> int:
        return self.path.stat().st_size


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Carried:
    world = World(expires=LATER)
    world.generations[0].expires = LATER
    noise = os.urandom(MIB - 4)
    world.files[LARGE] = b"".join(b"%04d" % number + noise for number in range(LARGE_MIB)) + b"the end"
    for number in range(SMALL):
        world.files[f"models/tiny/{number:02}"] = b"%04d" % (1000 + number) + noise
    return Carried(world, world.carrier(tmp_path_factory.mktemp("stick")), world.blobs)


@pytest.fixture
def site(tmp_path: Path, carried: Carried) -> Site:
    site = Site(tmp_path / "banip")
    site.adopt(carried.world)
    return site


@pytest.fixture
def medium(carried: Carried, tmp_path: Path) -> Iterator[LyingMedium]:
    with lying_medium(carried.path, tmp_path / "usb") as mounted:
        yield mounted


def last(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def killed(site: Site, medium: LyingMedium, after_bytes: int) -> bool:
    """Import until so many bytes have left the medium; tell whether that was before the end."""
    medium.tell("kill-at", after_bytes)
    done = run(site, "--json", "import", medium.path)
    assert done.returncode in {-signal.SIGKILL, 0}, done.stdout
    return done.returncode != 0


def assert_nothing_lies(site: Site) -> None:
    for name in site.server.store.blobs():
        assert sha256_hex(site.server.store.path(name).read_bytes()) == name


def assert_whole(site: Site, carried: Carried) -> None:
    assert site.server.store.blobs().keys() == carried.blobs.keys()
    assert_nothing_lies(site)
    assert site.server.store.parts() == ()


@pytest.mark.parametrize("tenth", range(1, 10, 2))
def test_a_kill_costs_no_more_than_a_chunk(
    site: Site, medium: LyingMedium, carried: Carried, tenth: int
) -> None:
    assert killed(site, medium, carried.size_bytes * tenth // 10)
    assert_nothing_lies(site)
    done = run(site, "--json", "import", medium.path)
    assert done.returncode == 0, done.stdout
    assert CHUNK_LOST < MOST_LOST
    assert int(medium.tell("reads")) <= carried.size_bytes + CHUNK_LOST
    assert_whole(site, carried)


def test_an_import_that_is_killed_again_and_again_still_ends(
    site: Site, medium: LyingMedium, carried: Carried
) -> None:
    kills = 0
    while killed(site, medium, 24 * MIB):
        kills += 1
        assert kills < 20
    assert kills >= 4
    assert int(medium.tell("reads")) <= carried.size_bytes + kills * CHUNK_LOST
    assert_whole(site, carried)


def test_a_torn_tail_is_read_again_and_never_believed(
    site: Site, medium: LyingMedium, carried: Carried
) -> None:
    # What a power cut may leave of the last 64 MiB: holes, other files' blocks, an end that came too early.
    while killed(site, medium, 24 * MIB) and f"{carried.large}.part" not in {
        path.name for path in site.server.store.parts() if path.stat().st_size > 40 * MIB
    }:
        pass
    (part,) = (path for path in site.server.store.parts() if path.name == f"{carried.large}.part")
    size = part.stat().st_size
    with part.open("r+b") as file:
        file.truncate(size - 3 * MIB)
        file.truncate(size)
        file.seek(size - 30 * MIB)
        file.write(os.urandom(4096))
    before = int(medium.tell("reads"))
    done = run(site, "--json", "import", medium.path)
    assert done.returncode == 0, done.stdout
    torn = int(medium.tell("reads")) - before
    rest = carried.size_bytes - size
    assert torn <= rest + MOST_LOST
    assert_whole(site, carried)


def test_after_a_kill_another_bundle_trusts_nothing_of_it(
    site: Site, medium: LyingMedium, carried: Carried, tmp_path: Path
) -> None:
    assert killed(site, medium, carried.size_bytes // 2)
    other = carried.world.next(version="2.0.0")
    other.files[LARGE] = b"another" * 3_000_000
    done = run(site, "--json", "import", other.carrier(tmp_path))
    assert done.returncode == 0, done.stdout
    assert_nothing_lies(site)
    assert other.blobs.keys() <= site.server.store.blobs().keys()


# --- A full disk ------------------------------------------------------------------------------------------


@contextmanager
def small_disk(point: Path, options: str) -> Iterator[Path]:
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(point)], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", "--lazy", str(point)], check=True)


def space_for(carried: Carried, spare_mib: int) -> str:
    return f"size={carried.size_bytes // MIB + spare_mib}m"


def test_a_disk_that_is_full_in_the_middle_is_left_clean_and_the_next_run_ends_well(
    tmp_path: Path, medium: LyingMedium, carried: Carried
) -> None:
    with small_disk(tmp_path / "disk", space_for(carried, 24)) as disk:
        site = Site(disk / "banip")
        site.adopt(carried.world)
        filler = disk / "filler"
        medium.tell(
            "run-at", carried.size_bytes // 2, "fallocate", "-l", f"{carried.size_bytes // 2}", filler
        )
        done = run(site, "--json", "import", medium.path)
        assert done.returncode == 20, done.stdout
        assert "the disk is full" in done.stdout
        assert site.server.store.parts() == ()
        assert_nothing_lies(site)
        filler.unlink()
        assert run(site, "--json", "import", medium.path).returncode == 0
        assert_whole(site, carried)


def test_a_disk_that_is_too_small_is_refused_before_a_byte_is_read(
    tmp_path: Path, medium: LyingMedium, carried: Carried
) -> None:
    with small_disk(tmp_path / "disk", f"size={carried.size_bytes // MIB}m") as disk:
        site = Site(disk / "banip")
        site.adopt(carried.world)
        done = run(site, "--json", "import", medium.path)
        assert (done.returncode, last(done)["error"]) == (20, "UnfitServer")
        assert "prune" in last(done)["remedy"]
        assert int(medium.tell("reads")) < MIB
        assert not site.server.store.folder.exists()


def test_too_few_inodes_are_refused_before_a_byte_is_read(
    tmp_path: Path, medium: LyingMedium, carried: Carried
) -> None:
    with small_disk(tmp_path / "disk", f"{space_for(carried, 64)},nr_inodes=60") as disk:
        site = Site(disk / "banip")
        site.adopt(carried.world)
        done = run(site, "--json", "import", medium.path)
        assert done.returncode == 20
        assert "too few more files" in done.stdout
        assert int(medium.tell("reads")) < MIB


def test_inodes_that_run_out_in_the_middle_leave_it_clean(
    tmp_path: Path, medium: LyingMedium, carried: Carried
) -> None:
    with small_disk(tmp_path / "disk", f"{space_for(carried, 64)},nr_inodes=200") as disk:
        site = Site(disk / "banip")
        site.adopt(carried.world)
        fill = 'n=0; while touch "$0/$n" 2>/dev/null; do n=$((n + 1)); done'
        (disk / "many").mkdir()
        medium.tell("run-at", carried.size_bytes // 10, "sh", "-c", fill, disk / "many")
        done = run(site, "--json", "import", medium.path)
        assert done.returncode == 20, done.stdout
        assert site.server.store.parts() == ()
        assert_nothing_lies(site)
        subprocess.run(["rm", "-rf", str(disk / "many")], check=True)
        assert run(site, "--json", "import", medium.path).returncode == 0
        assert_whole(site, carried)
