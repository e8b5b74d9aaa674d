"""What is on the server, as values: complete, and read without changing anything."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import msgspec
import pytest

from appliance import inventory
from appliance.errors import Incomplete
from appliance.format import Owned, Role, sha256_hex
from appliance.holdings import plan_pruning, prune
from appliance.inventory import Status
from tests.tiny import Site, running_world

if TYPE_CHECKING:
    from pathlib import Path

    from tests.world import World


@pytest.fixture
def world() -> World:
    world = running_world()
    world.roles = (Role(name="api", owns=Owned(paths=("/etc/banip/no-such-file",))),)
    return world


@pytest.fixture
def site(tmp_path: Path, world: World) -> Site:
    site = Site(tmp_path / "banip")
    site.adopt(world)
    return site


def test_before_anything_is_installed_it_says_so(site: Site) -> None:
    status = inventory.status(site.server, site.standing())
    assert str(status.summary()) == "no release is installed"
    assert (status.release, status.previous, status.counter, status.units) == (None, None, None, {})
    taken = inventory.take(site.server, site.standing())
    assert (taken["releases"], taken["blobs"], taken["environments"], taken["owned"]) == ([], [], [], {})


def test_after_an_upgrade_both_releases_are_here(site: Site, world: World, tmp_path: Path) -> None:
    site.install(world.carrier(tmp_path))
    site.install(world.next(version="2.0.0").carrier(tmp_path))
    status = inventory.status(site.server, site.standing())
    assert (status.release, status.previous, status.counter) == ("demo-2.0.0-c2", "demo-1.0.0-c1", 2)
    assert status.cut_off is None
    assert "rollback goes to demo-1.0.0-c1" in map(str, status.lines())
    taken = inventory.take(site.server, site.standing())
    assert [release["release"] for release in taken["releases"]] == ["demo-1.0.0-c1", "demo-2.0.0-c2"]
    assert taken["releases"][0]["release_sha256"] == sha256_hex(world.release_json)
    assert taken["blobs"] == sorted(world.blobs)
    assert taken["environments"] == [world.release.environment("controller").digest]
    assert taken["owned"]["demo-1.0.0-c1"]["paths"] == ["/etc/banip/no-such-file"]
    assert taken["owned"]["demo-1.0.0-c1"].keys() == set(Owned.__struct_fields__)
    assert msgspec.json.decode(msgspec.json.encode(taken)) == taken


def test_a_blob_that_is_gone_is_not_listed(site: Site, world: World, tmp_path: Path) -> None:
    site.install(world.carrier(tmp_path))
    gone = min(world.blobs)
    site.server.store.path(gone).unlink()
    assert gone not in inventory.take(site.server, site.standing())["blobs"]


def test_an_operation_that_was_cut_off_is_seen(site: Site) -> None:
    site.server.state.journal.append("started", operation="upgrade", release="demo-2.0.0-c2")
    status = inventory.status(site.server, site.standing())
    assert status.cut_off == "upgrade"
    assert any("upgrade was cut off" in str(line) for line in status.lines())


def test_a_damaged_installed_release_is_told_and_another_is_passed_over(
    site: Site, world: World, tmp_path: Path
) -> None:
    site.install(world.carrier(tmp_path))
    site.install(world.next(version="2.0.0").carrier(tmp_path))
    (site.server.folder("demo-1.0.0-c1") / "metadata" / "targets.json").unlink()
    taken = inventory.take(site.server, site.standing())
    assert [release["release"] for release in taken["releases"]] == ["demo-2.0.0-c2"]
    shutil.rmtree(site.server.folder("demo-2.0.0-c2") / "metadata")
    with pytest.raises(Incomplete):
        inventory.status(site.server, site.standing())


@pytest.mark.parametrize(
    ("units", "words"),
    [
        ({"banip-api.service": "active"}, "demo is installed and its services run"),
        ({"banip-api.service": "failed"}, "demo is installed, and not all of its services run"),
        ({"a": "active", "b": "inactive"}, "demo is installed, and not all of its services run"),
    ],
)
def test_the_summary_follows_the_units(units: dict[str, str], words: str) -> None:
    status = Status("demo", None, 1, units, None, None, 0, 0)
    assert str(status.summary()) == words
    assert [str(line) for line in status.lines()][: len(units)] == [f"{u}: {s}" for u, s in units.items()]


def test_reading_changes_nothing(site: Site, world: World, tmp_path: Path) -> None:
    site.install(world.carrier(tmp_path))
    before = {path: path.lstat().st_mtime_ns for path in site.root.rglob("*")}
    inventory.status(site.server, site.standing())
    inventory.take(site.server, site.standing())
    assert {path: path.lstat().st_mtime_ns for path in site.root.rglob("*")} == before


def test_an_image_that_is_not_loaded_is_told(site: Site, world: World, tmp_path: Path) -> None:
    site.install(world.carrier(tmp_path))
    installed = Status("demo", None, 1, {}, None, None, 0, 0, {"guide": "missing"}, 12, ("podman",))
    assert [str(line) for line in installed.lines()][:2] == [
        "image guide: missing",
        "operating system packages: 12, lacking: podman",
    ]
    status = inventory.status(site.server, site.standing())
    assert (status.images, status.packages, status.packages_lacking) == ({}, 0, ())


def test_a_file_under_a_release_s_name_is_told_with_its_remedy_and_the_remedy_mends_it(
    site: Site, world: World, tmp_path: Path
) -> None:
    bundle = world.carrier(tmp_path)
    site.install(bundle)
    (site.server.releases / "demo-9.9.9-c9").touch()
    assert inventory.status(site.server, site.standing()).release == "demo-1.0.0-c1", "another is passed over"
    folder = site.server.folder("demo-1.0.0-c1")
    shutil.rmtree(folder)
    folder.touch()
    with pytest.raises(Incomplete) as told:
        inventory.status(site.server, site.standing())
    assert str(folder) in str(told.value.where)
    assert told.value.seen == "Not a directory"
    assert "run install again" in str(told.value.remedy)
    site.install(bundle)
    assert inventory.status(site.server, site.standing()).release == "demo-1.0.0-c1"
    prune(site.server, plan_pruning(site.server, site.trust()))
    assert [path.name for path in site.server.releases.iterdir()] == ["demo-1.0.0-c1"]
