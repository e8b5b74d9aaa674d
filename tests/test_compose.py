"""Composing: a lock becomes a release, the same bytes anywhere and any day."""

from __future__ import annotations

import json
import shutil
import zipfile
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from appliance.errors import BadInput, Incomplete
from appliance.format import release_from_bytes, release_to_bytes
from bundle import keys
from bundle.collect import collect
from bundle.compose import Composed, compose
from bundle.contents import Contents, read_contents
from bundle.lock import Lock, Unlocked, write_lock
from bundle.make import make_bundle
from bundle.pack import inspect
from bundle.resolve import make_lock
from tests.project import Events, TinyProject

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> TinyProject:
    found = TinyProject(tmp_path_factory.mktemp("compose") / "project")
    collect(found.check(), lock_of(found), found.workshop, Events())
    return found


@pytest.fixture(scope="module")
def lock(project: TinyProject) -> Lock:
    return lock_of(project)


def lock_of(project: TinyProject) -> Lock:
    return make_lock(project.check(), project.workshop, now=NOW, report=Events())


@pytest.fixture(scope="module")
def composed(project: TinyProject, lock: Lock) -> Composed:
    return compose(lock, read_contents(lock, project.workshop))


def test_the_release_says_what_the_manifest_says(composed: Composed) -> None:
    release = composed.release
    assert (release.id, release.grade, release.built) == ("tiny-1.0.0-c1", "O", NOW)
    assert release.variables == {"api_port": 8600}
    assert [role.name for role in release.roles] == ["api"]
    assert {environment.name for environment in release.environments} == {"api", "controller"}
    assert composed.expires == NOW + timedelta(days=730)


def test_the_release_survives_its_own_strict_reader(composed: Composed) -> None:
    assert release_from_bytes(release_to_bytes(composed.release)) == composed.release


def test_every_file_is_where_the_server_will_look(composed: Composed) -> None:
    paths = {file.path for file in composed.release.files}
    assert {"bom.cdx.json", "playbooks/site.yml", "models/greeting/model.safetensors"} <= paths
    assert "playbooks/roles/api/meta/banip.yaml" in paths


def test_the_same_lock_gives_the_same_bytes_in_another_folder(
    lock: Lock, composed: Composed, tmp_path: Path
) -> None:
    other = TinyProject(tmp_path / "elsewhere")
    again = lock_of(other)
    assert again == lock
    collect(other.check(), again, other.workshop, Events())
    second = compose(again, read_contents(again, other.workshop))
    assert release_to_bytes(second.release) == release_to_bytes(composed.release)
    assert second.made == composed.made


def test_the_space_is_counted_from_the_wheels_each_environment_once(
    project: TinyProject, lock: Lock, composed: Composed
) -> None:
    expected = 0
    for environment in lock.environments:
        for wheel in environment.wheels:
            with zipfile.ZipFile(project.workshop.store.path(wheel.sha256)) as archive:
                expected += sum(len(archive.read(name)) for name in archive.namelist())
    # api and controller hold the same two wheels here, so they are one folder on the server
    assert composed.release.space.environments_bytes * 2 == expected
    assert composed.release.space.store_bytes == sum(blob.size_bytes for blob in composed.release.blobs)


def test_the_bill_of_materials_names_every_part_and_no_other_day(composed: Composed) -> None:
    bom = json.loads(composed.made[0])
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    assert bom["metadata"]["timestamp"] == "2026-03-01T00:00:00Z"
    parts = {part["name"]: part for part in bom["components"]}
    assert parts["leaf"]["purl"].startswith("pkg:pypi/leaf@1.0")
    assert parts["tiny"]["licenses"] == [{"license": {"name": "MIT"}}]
    assert "purl" not in parts["tiny"], "what was built here is on no index"
    assert parts["greeting"]["type"] == "machine-learning-model"
    wheels = {wheel.sha256 for each in composed.release.environments for wheel in each.wheels}
    assert wheels <= {part["hashes"][0]["content"] for part in parts.values() if "hashes" in part}


def test_first_contact_is_not_in_the_release(composed: Composed, lock: Lock) -> None:
    names = {environment.name for environment in composed.release.environments}
    assert lock.first_contact.name not in names


def test_a_lock_with_unlocked_names_composes_nothing(lock: Lock) -> None:
    holes = replace(lock, unlocked=(Unlocked(kind="model", name="big", reason="no hub"),))
    with pytest.raises(Incomplete):
        compose(holes, Contents({}, {}, {}))


def test_what_is_not_collected_is_not_composed(lock: Lock, tmp_path: Path) -> None:
    with pytest.raises(Incomplete, match="not collected"):
        read_contents(lock, TinyProject(tmp_path / "empty").workshop)


def test_building_twice_gives_the_same_two_files(project: TinyProject, lock: Lock, tmp_path: Path) -> None:
    ring = tmp_path / "keys"
    keys.create(ring, "tiny", passphrase=b"test", expires=NOW + timedelta(days=3650))
    write_lock(project.check(), lock)
    made = [
        make_bundle(
            project.check(),
            lock,
            project.workshop,
            key_folder=ring,
            out=tmp_path / name,
            report=lambda _: None,
        )
        for name in ("a", "b")
    ]
    assert made[0].bundle.read_bytes() == made[1].bundle.read_bytes()
    assert made[0].first_contact.read_bytes() == made[1].first_contact.read_bytes()
    assert inspect(made[0].bundle).release == made[0].release


def test_keys_of_another_product_build_nothing(project: TinyProject, lock: Lock, tmp_path: Path) -> None:
    ring = tmp_path / "keys"
    keys.create(ring, "other", passphrase=b"test", expires=NOW + timedelta(days=3650))
    with pytest.raises(BadInput, match="another product"):
        make_bundle(
            project.check(),
            lock,
            project.workshop,
            key_folder=ring,
            out=tmp_path / "out",
            report=lambda _: None,
        )
    assert not (tmp_path / "out").exists()


def test_a_release_shares_with_the_next_what_did_not_change(
    project: TinyProject, composed: Composed, tmp_path: Path
) -> None:
    copy = TinyProject(tmp_path / "next")
    shutil.copytree(project.folder / ".banip", copy.folder / ".banip")
    copy.edit("text: hello", "text: again")
    copy.edit("counter: 1", "counter: 2")
    lock = lock_of(copy)
    collect(copy.check(), lock, copy.workshop, Events())
    after = compose(lock, read_contents(lock, copy.workshop))
    changed = {blob.sha256 for blob in after.release.blobs} - {blob.sha256 for blob in composed.release.blobs}
    greeting = next(file.sha256 for file in after.release.files if file.path.endswith("greeting.txt"))
    assert changed == {greeting, after.release.bom}
