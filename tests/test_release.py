"""Release folders are hardlinks and proof; which one is installed is one small file."""

from __future__ import annotations

import shutil
import subprocess
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from appliance.errors import Incomplete, Tampered, Untrusted
from appliance.format import Image, sha256_hex
from appliance.release import (
    COMMAND_LINK,
    DEFAULT_ROOT,
    Installed,
    Server,
    assemble,
    floor_of,
    good_bundles,
    installed,
    keep,
    kept_bundles,
    load,
    release_ids,
    role_variables,
    switch,
)
from tests.tiny import Site
from tests.world import Generation, World, key

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.verify import TrustedBundle


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def site(tmp_path: Path, world: World) -> Site:
    site = Site(tmp_path / "banip")
    site.adopt(world)
    return site


def assembled(site: Site, world: World, tmp_path: Path) -> tuple[TrustedBundle, Path]:
    bundle = site.bring_in(world.carrier(tmp_path))
    return bundle, assemble(site.server, bundle)


def test_files_are_the_blobs_themselves(site: Site, world: World, tmp_path: Path) -> None:
    bundle, folder = assembled(site, world, tmp_path)
    assert folder == site.root / "releases" / "demo-1.0.0-c1"
    for file in bundle.release.files:
        assert (folder / file.path).samefile(site.server.store.path(file.sha256))
        assert (folder / file.path).read_bytes() == world.files[file.path]


def test_the_signed_metadata_is_kept_as_it_came(site: Site, world: World, tmp_path: Path) -> None:
    bundle, folder = assembled(site, world, tmp_path)
    kept = {path.name: path.read_bytes() for path in (folder / "metadata").iterdir()}
    assert kept == {
        "1.root.json": world.root(1),
        "targets.json": bundle.targets,
        "release.json": world.release_json,
        "chunks.bin": world.chunks_bin,
    }
    assert {path.stat().st_mode & 0o777 for path in (folder / "metadata").iterdir()} == {0o444}


def test_its_command_runs_the_releases_own_python(site: Site, world: World, tmp_path: Path) -> None:
    bundle, folder = assembled(site, world, tmp_path)
    script = (folder / "bin" / "appliance").read_text()
    python = site.server.environments / bundle.release.environment("controller").digest / "bin" / "python"
    assert script.endswith(f'exec {python} -I -m appliance --root {site.root} "$@"\n')
    gone = subprocess.run([folder / "bin" / "appliance"], capture_output=True, text=True, check=False)
    assert (gone.returncode, "appliance.pyz install" in gone.stderr) == (20, True)
    assert (folder / "bin" / "appliance").stat().st_mode & 0o777 == 0o755


def test_what_a_killed_run_left_is_replaced_and_never_counts(
    site: Site, world: World, tmp_path: Path
) -> None:
    bundle = site.bring_in(world.carrier(tmp_path))
    partial = site.root / "releases" / ".demo-1.0.0-c1.partial"
    partial.mkdir(parents=True)
    (partial / "models").write_text("half")
    assert list(release_ids(site.server)) == []
    folder = assemble(site.server, bundle)
    assert not partial.exists()
    assert (folder / "models" / "tiny" / "config.json").exists()
    assert list(release_ids(site.server)) == ["demo-1.0.0-c1"]


def test_a_folder_never_appears_half(site: Site, world: World, tmp_path: Path) -> None:
    bundle = site.bring_in(world.carrier(tmp_path))
    last = max(bundle.release.files, key=lambda file: file.path)
    site.server.store.path(last.sha256).unlink()
    with pytest.raises(Incomplete):
        assemble(site.server, bundle)
    assert not site.server.folder(bundle.release.id).exists()


def test_assembling_again_gives_back_what_was_lost(site: Site, world: World, tmp_path: Path) -> None:
    bundle, folder = assembled(site, world, tmp_path)
    (folder / "metadata" / "targets.json").unlink()
    (folder / "bom.cdx.json").unlink()
    (folder / "playbooks" / "site.yml").unlink()
    (folder / "playbooks" / "site.yml").write_text("something else")
    assemble(site.server, bundle)
    assert load(site.server, bundle.release.id, site.trust()).release_json == bundle.release_json
    for file in bundle.release.files:
        assert (folder / file.path).samefile(site.server.store.path(file.sha256))


def test_what_a_failed_attempt_left_under_the_same_number_does_not_stay(
    site: Site, world: World, tmp_path: Path
) -> None:
    world.files["playbooks/only-in-the-failed-one.yml"] = b"x"
    _, folder = assembled(site, world, tmp_path)
    del world.files["playbooks/only-in-the-failed-one.yml"]
    bundle, again = assembled(site, world, tmp_path)
    assert again == folder
    assert not (folder / "playbooks" / "only-in-the-failed-one.yml").exists()
    assert load(site.server, bundle.release.id, site.trust()).release_json == bundle.release_json


def test_only_what_was_good_proves_the_floor(site: Site, world: World, tmp_path: Path) -> None:
    bundle, _ = assembled(site, world, tmp_path)
    assert kept_bundles(site.server, site.trust())[0].release == bundle.release
    assert good_bundles(site.server, site.trust()) == ()
    keep(site.server, bundle, None)
    assert good_bundles(site.server, site.trust())[0].release == bundle.release


@pytest.mark.parametrize("name", ["targets.json", "release.json", "chunks.bin", "1.root.json"])
def test_changed_metadata_is_no_proof(site: Site, world: World, tmp_path: Path, name: str) -> None:
    world.grow()
    bundle, folder = assembled(site, world, tmp_path)
    path = folder / "metadata" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    with pytest.raises((Tampered, Untrusted)):
        load(site.server, bundle.release.id, site.trust())
    assert kept_bundles(site.server, site.trust()) == ()


def test_missing_metadata_names_a_remedy_that_works(site: Site, world: World, tmp_path: Path) -> None:
    bundle, folder = assembled(site, world, tmp_path)
    (folder / "metadata" / "release.json").unlink()
    with pytest.raises(Incomplete) as refused:
        load(site.server, bundle.release.id, site.trust())
    assert "install again" in str(refused.value.remedy)
    assemble(site.server, bundle)
    assert load(site.server, bundle.release.id, site.trust()).release == bundle.release


def test_a_folder_that_holds_another_release_is_refused(site: Site, world: World, tmp_path: Path) -> None:
    _, first = assembled(site, world, tmp_path)
    _, second = assembled(site, world.next(version="2.0.0"), tmp_path)
    shutil.rmtree(second)
    first.rename(second)
    with pytest.raises(Tampered, match="another release"):
        load(site.server, second.name, site.trust())


def test_an_expired_release_that_is_installed_can_be_returned_to(
    site: Site, world: World, tmp_path: Path
) -> None:
    world.expires = datetime(2020, 1, 1, tzinfo=timezone.utc)  # over, by any clock
    bundle = site.bring_in(world.carrier(tmp_path), world.expires - timedelta(days=1))
    assemble(site.server, bundle)
    found = load(site.server, bundle.release.id, site.trust())
    assert found.release == bundle.release
    assert found.expired


def test_a_release_stays_loadable_after_its_signer_was_revoked(
    site: Site, world: World, tmp_path: Path
) -> None:
    bundle, _ = assembled(site, world, tmp_path)
    world.rotate(Generation([key("root-1"), key("root-2")], [key("release-2")]))
    site.server.state.accept_roots([world.root(2)])
    assert site.trust().root == world.root(2)
    assert load(site.server, bundle.release.id, site.trust()).release == bundle.release


def test_a_folder_cannot_bring_its_own_root(site: Site, world: World, tmp_path: Path) -> None:
    stranger = World(generations=[Generation([key("x-1"), key("x-2")], [key("x-3")])], signers=[key("x-3")])
    other = Site(tmp_path / "other")
    other.adopt(stranger)
    bundle = other.bring_in(stranger.carrier(tmp_path))
    site.bring_in(world.carrier(tmp_path))
    assemble(site.server, bundle)
    with pytest.raises(Untrusted):
        load(site.server, bundle.release.id, site.trust())


def test_a_release_counts_only_after_mark_good(site: Site, world: World, tmp_path: Path) -> None:
    bundle, _ = assembled(site, world, tmp_path)
    assert installed(site.server) is None
    assert site.trust().floor is None
    keep(site.server, bundle, "demo-0.9.0-c0")
    assert installed(site.server) == Installed(
        release="demo-1.0.0-c1", previous="demo-0.9.0-c0", release_sha256=sha256_hex(bundle.release_json)
    )
    assert site.trust().floor == floor_of(bundle) == world.floor()


def test_a_damaged_record_of_what_is_installed_is_named(site: Site) -> None:
    (site.server.state.folder / "installed.json").write_text('{"release": 7}')
    with pytest.raises(Tampered) as refused:
        installed(site.server)
    assert str(refused.value.where).endswith("installed.json")


def test_switching_points_current_and_back_at_nothing(site: Site, world: World, tmp_path: Path) -> None:
    bundle, folder = assembled(site, world, tmp_path)
    keep(site.server, bundle, None)
    switch(site.server, bundle.release.id)
    assert site.server.current.resolve() == folder
    switch(site.server, None)
    assert not site.server.current.exists()
    assert installed(site.server) is None
    switch(site.server, None)


def test_a_private_root_leaves_the_machines_command_alone(site: Site, world: World, tmp_path: Path) -> None:
    before = COMMAND_LINK.readlink() if COMMAND_LINK.is_symlink() else None
    bundle, _ = assembled(site, world, tmp_path)
    switch(site.server, bundle.release.id)
    assert (COMMAND_LINK.readlink() if COMMAND_LINK.is_symlink() else None) == before


def test_a_private_root_keeps_its_own_logs(tmp_path: Path) -> None:
    assert Server(tmp_path).logs == tmp_path / "log"
    assert str(Server(DEFAULT_ROOT).logs) == "/var/log/banip"


def test_the_sites_variables_win_over_the_releases_and_banips_over_both(site: Site) -> None:
    release = World(variables={"port": 1, "model": "tiny"}).release
    given = role_variables(site.server, release, {"port": 2, "banip_grade": "O"})
    assert given["port"] == 2
    assert given["model"] == "tiny"
    assert given["banip_grade"] == release.grade == "S"
    assert given["banip_environments"].keys() == {"api", "controller"}
    assert given["banip_release_folder"] == str(site.root / "releases" / release.id)


def test_roles_are_told_by_which_name_podman_has_an_image(site: Site, world: World) -> None:
    blob = sha256_hex(world.files["models/tiny/config.json"])
    world.fields["images"] = (Image(name="guide", reference="banip/guide:1", manifest=blob, blobs=()),)
    given = role_variables(site.server, world.release, {})
    assert given["banip_images"] == {
        "guide": {"reference": "localhost/banip/guide:demo-1.0.0-c1", "digest": f"sha256:{blob}"}
    }
    assert role_variables(site.server, World().release, {})["banip_images"] == {}
