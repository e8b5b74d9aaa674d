"""What the store holds for whom: what prune keeps and removes, what usage counts, and what check finds."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest

from appliance.errors import Incomplete
from appliance.format import CHUNK_BYTES, sha256_hex
from appliance.holdings import accounts, pinned, plan_pruning, prune
from appliance.release import GOOD, assemble, keep
from tests.test_main import run
from tests.tiny import Site
from tests.world import World

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from appliance.verify import TrustedBundle

pytestmark = pytest.mark.real

LATER = datetime(2900, 1, 1, tzinfo=timezone.utc)
LARGE = "models/tiny/large.bin"


@pytest.fixture
def world() -> World:
    world = World(expires=LATER)
    world.generations[0].expires = LATER
    world.files["models/tiny/old"] = b"only in the first release"
    return world


@pytest.fixture
def site(tmp_path: Path, world: World) -> Site:
    site = Site(tmp_path / "banip")
    site.adopt(world)
    return site


def brought(site: Site, world: World, tmp_path: Path, *, good: bool = True) -> TrustedBundle:
    """Bring a release in and put its folder together, as an install does before it switches."""
    bundle = site.bring_in(world.carrier(tmp_path))
    assemble(site.server, bundle)
    for environment in bundle.release.environments:
        built = site.server.environments / environment.digest
        built.mkdir(parents=True, exist_ok=True)
        (built / ".complete").touch()
    if good:
        (site.server.folder(bundle.release.id) / GOOD).touch()
    return bundle


def three(site: Site, world: World, tmp_path: Path) -> tuple[TrustedBundle, ...]:
    """Install three releases, one after the other."""
    second = world.next(version="2.0.0")
    del second.files["models/tiny/old"]
    second.files["models/tiny/new"] = b"since the second release"
    third = second.next(version="3.0.0")
    third.wheels["api"] = {"api-2.0-py3-none-any.whl": b"a newer wheel"}
    bundles = tuple(brought(site, one, tmp_path) for one in (world, second, third))
    keep(site.server, bundles[1], bundles[0].release.id)
    keep(site.server, bundles[2], bundles[1].release.id)
    return bundles


def blobs_of(*bundles: TrustedBundle) -> set[str]:
    return {blob.sha256 for bundle in bundles for blob in bundle.release.blobs}


def ids(bundles: tuple[TrustedBundle, ...]) -> list[str]:
    return sorted(bundle.release.id for bundle in bundles)


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_ino, path.lstat().st_mode) for path in sorted(folder.rglob("*"))}


def said(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


# --- Pruning ----------------------------------------------------------------------------------------------


def test_the_release_in_use_and_the_one_before_it_stay(site: Site, world: World, tmp_path: Path) -> None:
    first, second, third = three(site, world, tmp_path)
    (site.server.store.folder / "incoming" / f"{'0' * 64}.part").write_bytes(b"left")
    (site.server.releases / ".demo-0.9.0-c0.partial").mkdir()
    pruning = plan_pruning(site.server, site.trust())
    assert list(pruning.kept) == ids((second, third))
    assert set(pruning.releases) == {first.release.id, ".demo-0.9.0-c0.partial"}
    assert set(pruning.blobs) == {sha256_hex(b"only in the first release")}
    assert pruning.environments == ()
    prune(site.server, pruning)
    assert site.server.store.blobs().keys() == blobs_of(second, third)
    assert site.server.store.parts() == ()
    assert sorted(path.name for path in site.server.releases.iterdir()) == ids((second, third))
    again = plan_pruning(site.server, site.trust())
    assert (again.releases, again.environments, again.blobs, again.parts) == ((), (), (), ())


def test_environments_of_no_kept_release_go(site: Site, world: World, tmp_path: Path) -> None:
    _, second, third = three(site, world, tmp_path)
    keep(site.server, third, None)  # nothing to roll back to: the second need not stay
    pruning = plan_pruning(site.server, site.trust())
    (old_api,) = {one.digest for one in second.release.environments} - {
        one.digest for one in third.release.environments
    }
    assert pruning.environments == (old_api,)
    prune(site.server, pruning)
    assert {path.name for path in site.server.environments.iterdir()} == {
        one.digest for one in third.release.environments
    }


def test_the_release_that_proves_the_floor_stays_after_a_rollback(
    site: Site, world: World, tmp_path: Path
) -> None:
    first, second, third = three(site, world, tmp_path)
    keep(site.server, first, None)  # rolled back twice: the record names the first alone
    assert ids(pinned(site.server, site.trust())) == ids((first, third))
    assert plan_pruning(site.server, site.trust()).releases == (second.release.id,)


def test_what_a_run_that_was_cut_off_needs_stays(site: Site, world: World, tmp_path: Path) -> None:
    import msgspec  # noqa: PLC0415 - only here

    from appliance.plan import make_plan  # noqa: PLC0415 - only here

    first = brought(site, world, tmp_path)
    keep(site.server, first, None)
    second = world.next(version="2.0.0")
    second.files["models/tiny/new"] = b"half installed"
    new = site.bring_in(second.carrier(tmp_path))
    plan = make_plan(first.release, new.release, "upgrade")
    journal = site.server.state.journal
    journal.append("started", operation="upgrade", release=new.release.id)
    journal.append("planned", plan=msgspec.to_builtins(plan))
    with pytest.raises(Incomplete):  # its blobs are here and its folder is not: nobody can say what it needs
        plan_pruning(site.server, site.trust())
    assemble(site.server, new)
    assert list(plan_pruning(site.server, site.trust()).kept) == ids((first, new))
    journal.append("finished", outcome="abandoned")
    assert list(plan_pruning(site.server, site.trust()).kept) == ids((first,))


def test_where_a_kept_release_is_damaged_nothing_is_pruned(site: Site, world: World, tmp_path: Path) -> None:
    *_, third = three(site, world, tmp_path)
    (site.server.folder(third.release.id) / "metadata" / "release.json").unlink()
    before = tree(site.root)
    done = run(site, "--json", "store", "prune", "--yes")
    assert done.returncode == 12
    after = tree(site.root)
    assert {path for path in after.keys() ^ before.keys() if not path.endswith("/lock")} == set()


def test_pruning_is_shown_first_and_done_only_when_told(site: Site, world: World, tmp_path: Path) -> None:
    first, second, third = three(site, world, tmp_path)
    before = tree(site.root)
    shown = run(site, "--json", "store", "prune")
    assert shown.returncode == 0
    assert tree(site.root) == before
    assert said(shown)[-1]["result"]["releases"] == [first.release.id]
    assert said(shown)[-1]["result"]["done"] is False
    assert f"release {first.release.id}" in run(site, "store", "prune").stderr
    done = run(site, "--json", "store", "prune", "--yes")
    assert done.returncode == 0
    assert site.server.store.blobs().keys() == blobs_of(second, third)
    (entry,) = site.server.state.journal.entries()
    assert (entry.event, entry.facts["releases"]) == ("pruned", [first.release.id])


def test_two_at_once_are_one_and_a_clear_refusal(site: Site, world: World, tmp_path: Path) -> None:
    three(site, world, tmp_path)
    with site.server.state.lock("a long import"):
        done = run(site, "store", "prune", "--yes")
        assert run(site, "store", "check").returncode == 0  # only reads: it waits for nobody
    assert done.returncode == 4
    assert "a long import" in done.stderr


# --- Counting ---------------------------------------------------------------------------------------------


def test_own_and_shared_bytes_are_told_apart(site: Site, world: World, tmp_path: Path) -> None:
    first, second, third = three(site, world, tmp_path)
    found = accounts(site.server, site.trust())
    shares = {one.release: one for one in found.shares}
    assert shares[first.release.id].own_bytes == len(b"only in the first release")
    assert [shares[name].kept for name in ids((first, second, third))] == [False, True, True]
    total = sum(site.server.store.blobs().values())
    for bundle in (first, second, third):
        share = shares[bundle.release.id]
        assert share.own_bytes + share.shared_bytes == sum(blob.size_bytes for blob in bundle.release.blobs)
    assert found.reclaimable_bytes == len(b"only in the first release")
    assert found.unused_bytes == 0
    assert total > found.reclaimable_bytes
    reclaimed = plan_pruning(site.server, site.trust()).store_bytes
    assert reclaimed == found.reclaimable_bytes
    assert said(run(site, "--json", "store", "usage"))[-1]["result"]["reclaimable_bytes"] == reclaimed


def test_a_blob_that_nobody_names_counts_as_unused(site: Site, world: World, tmp_path: Path) -> None:
    three(site, world, tmp_path)
    stray = b"imported and never installed"
    site.server.store.add(
        next(iter(World(files={"bom.cdx.json": stray}).release.blobs)), [stray]
    ) if False else None
    path = site.server.store.path(sha256_hex(stray))
    path.write_bytes(stray)
    path.chmod(0o444)
    found = accounts(site.server, site.trust())
    assert found.unused_bytes == len(stray)


# --- Checking ---------------------------------------------------------------------------------------------


@pytest.fixture
def large(site: Site, world: World, tmp_path: Path) -> TrustedBundle:
    world.files[LARGE] = b"".join(bytes([number]) * CHUNK_BYTES for number in range(3)) + b"end"
    bundle = brought(site, world, tmp_path)
    keep(site.server, bundle, None)
    return bundle


def rot(path: Path, offset: int) -> None:
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"rotten")
    path.chmod(0o444)


def test_a_whole_store_is_said_to_be_whole(site: Site, large: TrustedBundle) -> None:
    before = tree(site.root)
    done = run(site, "--json", "store", "check")
    assert done.returncode == 0
    assert said(done)[-1]["result"]["blobs"] == len(large.release.blobs)
    assert tree(site.root) == before


def test_damage_names_blob_chunk_and_file_and_the_bundle_that_heals_it(
    site: Site, world: World, large: TrustedBundle, tmp_path: Path
) -> None:
    name = sha256_hex(world.files[LARGE])
    wheel = sha256_hex(b"another wheel")
    rot(site.server.store.path(name), 2 * CHUNK_BYTES + 5)
    rot(site.server.store.path(wheel), 0)
    gone = sha256_hex(b"- hosts: all\n")
    site.server.store.path(gone).unlink()
    done = run(site, "--json", "store", "check")
    assert done.returncode == 11
    damaged = {one["blob"]: one for one in said(done)[-1]["damaged"]}
    assert damaged.keys() == {name, wheel, gone}
    assert damaged[name]["missing"][0]["chunks"] == [2]
    assert damaged[name]["uses"] == {large.release.id: [LARGE]}
    assert damaged[wheel]["uses"] == {large.release.id: ["wheel api-1.0-py3-none-any.whl"]}
    told = run(site, "store", "check").stderr
    assert f"blob {name}, chunk 2: " in told
    assert LARGE in told
    assert f"install --recheck BUNDLE` with the bundle of {large.release.id}" in told

    healed = run(site, "--json", "import", "--recheck", world.carrier(tmp_path))
    assert healed.returncode == 0, healed.stdout
    assert said(healed)[-1]["result"]["blobs_new"] == 3
    assert run(site, "store", "check").returncode == 0
    bundle = site.bring_in(world.carrier(tmp_path))
    assemble(site.server, bundle)  # an install: the folder gets the healed file
    kept = site.server.folder(large.release.id) / LARGE
    assert kept.samefile(site.server.store.path(name))
    assert sha256_hex(kept.read_bytes()) == name


def test_damage_that_no_release_uses_is_removed_by_pruning(site: Site, large: TrustedBundle) -> None:
    stray = site.server.store.path("f" * 64)
    stray.write_bytes(b"not what its name says")
    stray.chmod(0o444)
    odd = site.server.store.path("odd")
    odd.write_bytes(b"no digest at all")
    odd.chmod(0o444)
    done = run(site, "store", "check")
    assert done.returncode == 11
    assert "no release uses it" in done.stderr
    assert run(site, "store", "prune", "--yes").returncode == 0
    assert not stray.exists()
    assert not odd.exists()
    assert run(site, "store", "check").returncode == 0
    assert site.server.store.blobs().keys() == blobs_of(large)


def test_the_store_needs_trust_to_know_what_stays(tmp_path: Path) -> None:
    for command in ("check", "usage", "prune"):
        assert run(Site(tmp_path / "new"), "store", command).returncode == 10
    assert not (tmp_path / "new").exists()
