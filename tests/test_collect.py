"""Collecting: once, by digest, resumable, every failure told, nothing half there."""

from __future__ import annotations

import fcntl
import os
import shutil
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest

from appliance.errors import Incomplete
from appliance.format import Blob
from appliance.problems import Incompletes
from bundle.collect import Collected, batches, collect
from bundle.lock import Lock, LockedWheel, Unlocked
from bundle.resolve import make_lock
from tests.project import Events, TinyProject, make_wheel, sha256

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real  # runs uv and pip
NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)
FOLDER = "offline-wheels/cp311-manylinux_2_36_x86_64"


@pytest.fixture
def project(tmp_path: Path) -> TinyProject:
    found = TinyProject(tmp_path / "project")
    make_wheel(found.folder / "wheels", "twig", "2.0")
    found.edit("- leaf==1.0", "- leaf==1.0\n      - twig")
    return found


def locked(project: TinyProject) -> Lock:
    return make_lock(project.check(), project.workshop, now=NOW, report=Events())


def collected(project: TinyProject, lock: Lock, report: Events | None = None) -> Collected:
    return collect(project.check(), lock, project.workshop, report or Events())


def failures(project: TinyProject, lock: Lock) -> set[str]:
    with pytest.raises(Incompletes) as caught:
        collected(project, lock)
    assert caught.value.exit_code == 12
    return {problem.where for problem in caught.value.problems}


def test_everything_in_the_lock_is_in_the_store_afterwards(project: TinyProject) -> None:
    lock = locked(project)
    events = Events()
    collected(project, lock, events)
    store = project.workshop.store
    assert store.missing(lock.blobs()) == ()
    assert store.check(lambda _: None) == ()
    assert set(events.names("fetched")) == {"leaf-1.0-py3-none-any.whl", "twig-2.0-py3-none-any.whl"}
    assert "tiny-1.0-py3-none-any.whl" in events.names("cached"), "it came into the store with the lock"


def test_wheels_lie_where_people_look_and_cost_no_second_copy(project: TinyProject) -> None:
    lock = locked(project)
    collected(project, lock)
    for wheel in lock.wheels():
        visible = project.folder / FOLDER / wheel.filename
        assert sha256(visible) == wheel.sha256
        assert visible.samefile(project.workshop.store.path(wheel.sha256))


def test_a_second_run_fetches_nothing_and_asks_no_index(project: TinyProject) -> None:
    lock = locked(project)
    first = collected(project, lock)
    shutil.rmtree(project.folder / "wheels")
    (project.folder / "wheels").mkdir()
    events = Events()
    second = collected(project, lock, events)
    assert (second.new, second.new_bytes) == (0, 0)
    assert second.cached == first.cached + first.new
    assert len(events.names("cached")) == second.cached


def test_all_failures_are_told_and_what_could_be_had_stays(project: TinyProject) -> None:
    lock = locked(project)
    (project.folder / "wheels" / "twig-2.0-py3-none-any.whl").unlink()
    project.write("playbooks/site.yml", "--- # changed since\n")
    assert failures(project, lock) == {"twig-2.0-py3-none-any.whl", "playbooks/site.yml"}
    store = project.workshop.store
    leaf = next(wheel for wheel in lock.wheels() if wheel.name == "leaf")
    assert store.has(Blob(sha256=leaf.sha256, size_bytes=leaf.size_bytes))
    assert list((store.folder / "incoming").iterdir()) == []
    assert list((project.folder / ".banip" / "work").iterdir()) == []


def test_the_next_run_goes_on_from_there(project: TinyProject) -> None:
    lock = locked(project)
    twig = project.folder / "wheels" / "twig-2.0-py3-none-any.whl"
    content = twig.read_bytes()
    twig.unlink()
    assert failures(project, lock) == {twig.name}
    twig.write_bytes(content)
    events = Events()
    collected(project, lock, events)
    assert events.names("fetched") == [twig.name]


def test_a_wheel_with_another_digest_under_the_same_name_is_not_taken(project: TinyProject) -> None:
    lock = locked(project)
    make_wheel(project.folder / "wheels", "twig", "2.0", content="X = 'changed upstream'\n")
    assert failures(project, lock) == {"twig-2.0-py3-none-any.whl"}
    assert not (project.folder / FOLDER / "twig-2.0-py3-none-any.whl").exists()


def test_a_wheel_that_a_person_brought_is_taken_if_it_is_the_right_one(project: TinyProject) -> None:
    lock = locked(project)
    visible = project.folder / FOLDER
    visible.mkdir(parents=True)
    shutil.copy(project.folder / "wheels" / "twig-2.0-py3-none-any.whl", visible)
    (visible / "leaf-1.0-py3-none-any.whl").write_bytes(b"not a wheel")
    events = Events()
    collected(project, lock, events)
    assert events.names("fetched") == ["leaf-1.0-py3-none-any.whl"]


def test_two_versions_of_one_name_are_both_fetched(project: TinyProject) -> None:
    make_wheel(project.folder / "wheels", "twig", "3.0")
    project.edit("environments:\n", "environments:\n  other:\n    requirements: [twig==2.0]\n")
    lock = locked(project)
    assert {wheel.version for wheel in lock.wheels() if wheel.name == "twig"} == {"2.0", "3.0"}
    collected(project, lock)
    assert project.workshop.store.missing(lock.blobs()) == ()


def test_a_killed_run_loses_at_most_a_small_batch() -> None:
    mebibyte = 1024 * 1024
    sizes = [1, 900, *(20 for _ in range(30)), 2000]
    wheels = [
        LockedWheel(
            name=f"w{number % 25}",
            version=str(number),
            filename=f"w{number}.whl",
            sha256=f"{number:064x}",
            size_bytes=size * mebibyte if size > 100 else size,
        )
        for number, size in enumerate(sizes)
    ]
    made = list(batches(wheels))
    assert sorted((wheel for batch in made for wheel in batch), key=wheels.index) == wheels
    for batch in made:
        assert len(batch) <= 8
        assert len({wheel.name for wheel in batch}) == len(batch)
        assert len(batch) == 1 or sum(wheel.size_bytes for wheel in batch) <= 32 * mebibyte


def test_what_killed_runs_left_is_removed_and_what_live_ones_hold_is_not(project: TinyProject) -> None:
    work = project.folder / ".banip" / "work"
    for name in ("dead", "alive"):
        (work / name).mkdir(parents=True)
        (work / name / "half.whl").write_bytes(b"half")
    descriptor = os.open(work / "alive", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        collected(project, locked(project))
        assert [path.name for path in work.iterdir()] == ["alive"]
    finally:
        os.close(descriptor)


def test_a_wheel_built_elsewhere_cannot_be_collected_here(project: TinyProject) -> None:
    lock = locked(project)
    shutil.rmtree(project.folder / ".banip")
    assert failures(project, lock) == {"tiny-1.0-py3-none-any.whl"}


def test_a_lock_with_unlocked_names_is_refused_before_anything_is_fetched(project: TinyProject) -> None:
    lock = locked(project)
    holes = (Unlocked(kind="model", name="big", reason="no hub"),)
    from msgspec.structs import replace  # noqa: PLC0415

    with pytest.raises(Incomplete):
        collected(project, replace(lock, unlocked=holes))
    assert not (project.folder / FOLDER).exists()


def test_a_folder_model_that_changed_since_the_lock_is_a_failure(project: TinyProject) -> None:
    project.edit("models:\n", "models:\n  own:\n    folder: weights\n")
    project.write("weights/config.json", "{}")
    lock = locked(project)
    project.write("weights/config.json", "[]")
    assert failures(project, lock) == {"models/own/config.json"}
