"""Locks: digests only, nothing invented, and worth nothing once their sources have changed."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from datetime import datetime, timezone
from pathlib import Path

import pytest

from appliance.errors import BadInput, Incomplete
from bundle.index import Index
from bundle.local import file_sha256, wheel_tops
from bundle.lock import Lock, read_lock, refuse_unlocked, write_lock
from bundle.manifest import check
from bundle.resolve import make_lock
from bundle.wheels import WheelTarget, build_project
from tests.project import NOWHERE, Events, TinyProject, make_wheel, sha256

pytestmark = pytest.mark.real

PROJECT = Path(__file__).parents[1]
NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=timezone.utc)
DEBIAN_12 = WheelTarget("3.11", "x86_64-manylinux_2_36")


@pytest.fixture
def project(tmp_path: Path) -> TinyProject:
    return TinyProject(tmp_path / "project")


def locked(project: TinyProject) -> Lock:
    return make_lock(project.check(), project.workshop, now=NOW, report=Events())


@pytest.fixture(scope="module")
def lock(tmp_path_factory: pytest.TempPathFactory) -> Lock:
    """Give the lock of the project as it stands, which is that of every copy of it."""
    return locked(TinyProject(tmp_path_factory.mktemp("pristine") / "project"))


def test_every_name_becomes_a_digest(project: TinyProject, lock: Lock) -> None:
    assert lock.unlocked == ()
    api = {wheel.name: wheel for environment in lock.environments for wheel in environment.wheels}
    leaf = project.folder / "wheels" / "leaf-1.0-py3-none-any.whl"
    assert (api["leaf"].sha256, api["leaf"].size_bytes) == (sha256(leaf), leaf.stat().st_size)
    assert {environment.name for environment in lock.environments} == {"api", "controller"}
    assert [wheel.name for wheel in lock.first_contact.wheels] == ["tiny"]
    assert [file.path for file in lock.models[0].files] == [
        "config.json",
        "greeting.txt",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert "playbooks/roles/api/meta/banip.yaml" in {file.path for file in lock.playbooks}
    assert lock.locked_at == NOW.replace(microsecond=0)


def test_the_same_sources_give_the_same_lock_in_any_folder(project: TinyProject, lock: Lock) -> None:
    assert locked(project) == lock


def test_a_lock_comes_back_as_it_was_written(project: TinyProject, lock: Lock) -> None:
    checked = project.check()
    path = write_lock(checked, lock)
    assert path.name == "tiny.lock.json"
    assert read_lock(checked) == lock


def test_no_address_stands_in_a_lock(project: TinyProject) -> None:
    project.edit("find_links: [wheels]", f"find_links: [wheels]\n  hub: {NOWHERE}")
    path = write_lock(project.check(), locked(project))
    words = path.read_text("utf-8")
    assert "://" not in words
    assert "127.0.0.1" not in words
    assert str(project.folder) not in words


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("manifests/tiny.yaml", "counter: 1", "counter: 2"),
        ("playbooks/roles/api/tasks/main.yml", "---", "--- "),
        ("playbooks/roles/api/meta/banip.yaml", "units: [banip-api.service]", "units: [banip-b.service]"),
        ("tiny/__init__.py", "NUMBER = 1", "NUMBER = 2"),
        ("pyproject.toml", 'version = "1.0"', 'version = "1.1"'),
    ],
)
def test_a_lock_whose_sources_changed_is_refused(
    project: TinyProject, lock: Lock, name: str, old: str, new: str
) -> None:
    write_lock(project.check(), lock)
    project.edit(old, new, name)
    with pytest.raises(BadInput, match="changed since"):
        read_lock(project.check())


def test_a_new_source_file_counts_as_a_change_and_a_test_does_not(project: TinyProject, lock: Lock) -> None:
    write_lock(project.check(), lock)
    project.write("tests/test_tiny.py", "")
    read_lock(project.check())
    project.write("tiny/more.py", "")
    with pytest.raises(BadInput, match=r"project \."):
        read_lock(project.check())


def test_what_hatch_puts_into_the_wheel_from_elsewhere_is_a_source_too(project: TinyProject) -> None:
    project.write("lists/a.yaml", "a: 1")
    forced = '[tool.hatch.build.targets.wheel.force-include]\n"lists" = "tiny/lists"\n"gone" = "tiny/gone"\n'
    project.edit("[build-system]", f"{forced}\n[build-system]", "pyproject.toml")
    lock = locked(project)
    assert [one.tops for one in lock.projects] == [("lists", "tiny")]
    write_lock(project.check(), lock)
    project.edit("a: 1", "a: 2", "lists/a.yaml")
    with pytest.raises(BadInput, match=r"project \."):
        read_lock(project.check())


def test_without_a_lock_the_remedy_is_to_lock(project: TinyProject) -> None:
    with pytest.raises(BadInput) as caught:
        read_lock(project.check())
    assert "build.py lock manifests/tiny.yaml" in str(caught.value.remedy)


@pytest.mark.parametrize("change", [lambda raw: raw + b" ", lambda raw: raw[:-20], lambda _: b"{}"])
def test_a_lock_that_was_edited_is_refused(project: TinyProject, lock: Lock, change: object) -> None:
    checked = project.check()
    path = write_lock(checked, lock)
    path.write_bytes(change(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(BadInput):
        read_lock(checked)


def test_what_no_source_has_is_unlocked_with_the_reason(project: TinyProject) -> None:
    project.edit("leaf==1.0", "leaf==9.9")
    lock = locked(project)
    (unlocked,) = lock.unlocked
    assert (unlocked.kind, unlocked.name) == ("environment", "api")
    assert "9.9" in unlocked.reason
    with pytest.raises(Incomplete) as caught:
        refuse_unlocked(lock)
    assert caught.value.exit_code == 12
    # what could be resolved is there all the same
    assert lock.models
    assert lock.first_contact.wheels


def test_wheels_for_other_servers_only_do_not_resolve(project: TinyProject) -> None:
    shutil.rmtree(project.folder / "wheels")
    make_wheel(project.folder / "wheels", "leaf", "1.0", "cp311-cp311-manylinux_2_39_x86_64")
    assert "environment" in {unlocked.kind for unlocked in locked(project).unlocked}


def test_of_several_wheels_the_best_for_the_target_is_taken(project: TinyProject) -> None:
    for tag in ("cp311-cp311-manylinux_2_28_x86_64", "cp312-cp312-manylinux_2_28_x86_64"):
        make_wheel(project.folder / "wheels", "leaf", "1.0", tag)
    names = {wheel.filename for wheel in locked(project).wheels()}
    assert "leaf-1.0-cp311-cp311-manylinux_2_28_x86_64.whl" in names
    assert "leaf-1.0-py3-none-any.whl" not in names


def test_a_hub_that_is_not_there_leaves_its_models_unlocked(
    project: TinyProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "2")
    project.edit("find_links: [wheels]", f"find_links: [wheels]\n  hub: {NOWHERE}")
    project.edit("models:\n", "models:\n  big:\n    hub: someone/something\n")
    (unlocked,) = locked(project).unlocked
    assert (unlocked.kind, unlocked.name) == ("model", "big (someone/something)")
    assert "refused" in unlocked.reason


def test_images_and_packages_say_why_they_are_unlocked(
    project: TinyProject, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))  # no skopeo here
    project.edit(
        "playbooks:", "images:\n  db:\n    reference: qdrant/qdrant:v1\npackages: [libnuma1]\nplaybooks:"
    )
    found = {unlocked.kind: unlocked.reason for unlocked in locked(project).unlocked}
    assert found["image"] == "skopeo is not installed"
    assert found["package"] == "apt-get, apt-cache, dpkg-deb: not installed"


def test_a_folder_model_is_locked_file_by_file_and_links_are_refused(project: TinyProject) -> None:
    project.edit("models:\n", "models:\n  own:\n    folder: weights\n")
    project.write("weights/config.json", "{}")
    model = next(model for model in locked(project).models if model.name == "own")
    assert [file.path for file in model.files] == ["config.json"]
    (project.folder / "weights" / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(BadInput, match="links"):
        locked(project)


def test_a_link_in_a_role_is_refused(project: TinyProject) -> None:
    (project.folder / "playbooks" / "roles" / "api" / "files").symlink_to("/etc")
    with pytest.raises(BadInput, match="links"):
        locked(project)


def test_generated_models_differ_by_seed_and_share_what_is_equal(project: TinyProject, lock: Lock) -> None:
    before = {file.path: file.sha256 for file in lock.models[0].files}
    project.edit("text: hello", "text: again")
    after = {file.path: file.sha256 for file in locked(project).models[0].files}
    assert {path for path in before if before[path] != after[path]} == {"greeting.txt"}
    project.edit("seed: one", "seed: two")
    seeded = {file.path: file.sha256 for file in locked(project).models[0].files}
    assert seeded["model.safetensors"] != after["model.safetensors"]


def test_a_project_that_does_not_build_is_named(project: TinyProject) -> None:
    project.write("backend.py", "def build_wheel(*_, **__):\n    raise SystemExit('broken on purpose')\n")
    with pytest.raises(BadInput, match="could not be built"):
        locked(project)


@pytest.mark.parametrize(
    ("filename", "fits"),
    [
        ("a-1-py3-none-any.whl", True),
        ("a-1-cp36-abi3-manylinux2014_x86_64.whl", True),
        ("a-1-cp311-cp311-manylinux_2_36_x86_64.whl", True),
        ("a-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", True),
        ("a-1-cp311-cp311-linux_x86_64.whl", True),
        ("a-1-cp311-cp311-manylinux_2_37_x86_64.whl", False),
        ("a-1-cp312-cp312-manylinux_2_17_x86_64.whl", False),
        ("a-1-cp311-cp311-manylinux_2_17_aarch64.whl", False),
        ("a-1-cp311-cp311-musllinux_1_2_x86_64.whl", False),
    ],
)
def test_a_wheel_fits_the_target_not_this_machine(filename: str, *, fits: bool) -> None:
    assert (DEBIAN_12.rank(filename) is not None) == fits


def test_sources_of_the_manifest_replace_those_of_the_machine(
    project: TinyProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere/at/all")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", NOWHERE)
    monkeypatch.setenv("UV_INDEX", NOWHERE)
    assert locked(project).unlocked == ()


def test_where_no_source_is_named_pip_says_where(
    project: TinyProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.edit("sources:\n  find_links: [wheels]\n", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(project.folder / "wheels"))
    assert locked(project).unlocked == ()


@pytest.mark.network
def test_the_real_project_builds_the_same_wheel_twice(tmp_path: Path) -> None:
    from bundle.index import find_index  # noqa: PLC0415 - beside the one test that needs the index
    from bundle.sources import Sources  # noqa: PLC0415

    index = find_index(Sources(), PROJECT)
    first, second = (build_project(PROJECT, tmp_path / name, index) for name in ("a", "b"))
    assert first.name == second.name
    assert file_sha256(first) == file_sha256(second)
    lists = {path.name: path.read_bytes() for path in (PROJECT / "manifests" / "checklists").iterdir()}
    with zipfile.ZipFile(first) as wheel:
        assert {name: wheel.read(f"appliance/audit/checklists/{name}") for name in lists} == lists
    assert "manifests/checklists" in wheel_tops(PROJECT, first), "a change there must stop an old lock"


def test_a_local_project_builds_the_same_wheel_twice(project: TinyProject, tmp_path: Path) -> None:
    index = Index(None)
    first, second = (build_project(project.folder, tmp_path / name, index) for name in ("a", "b"))
    assert file_sha256(first) == file_sha256(second)


@pytest.mark.network
def test_the_large_manifest_locks_what_the_index_has_and_lists_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    copy = tmp_path / "project"
    names = ("appliance", "playbooks", "manifests", "pyproject.toml", "README.md")
    for name in names:
        source = PROJECT / name
        ignore = shutil.ignore_patterns("__pycache__", "*.lock.json")
        shutil.copytree(source, copy / name, ignore=ignore) if source.is_dir() else shutil.copy2(source, copy)
    checked = check(copy / "manifests" / "l40s-x2.yaml")
    from bundle.workshop import Workshop  # noqa: PLC0415

    lock = make_lock(checked, Workshop(checked.project), now=NOW, report=Events())
    unlocked = {each.name.split(" ")[0]: each.reason for each in lock.unlocked}
    assert {"qwen3-32b-awq", "bge-m3-ko", "bge-reranker-v2-m3-ko", "qdrant", "libnuma1"} <= unlocked.keys()
    assert all(unlocked.values())
    assert lock.first_contact.wheels
    assert json.loads((write_lock(checked, lock)).read_bytes())["unlocked"]
    with pytest.raises(Incomplete):
        refuse_unlocked(lock)
