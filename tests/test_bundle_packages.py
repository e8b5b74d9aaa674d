"""Operating system packages online: apt resolves them, its signatures count, what is not there is said."""

from __future__ import annotations

import shutil
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.errors import BadInput
from appliance.problems import BadInputs, Incompletes
from bundle.collect import Collected, collect
from bundle.compose import compose
from bundle.contents import read_contents
from bundle.resolve import make_lock
from tests.project import NOWHERE, Events, TinyProject
from tests.sources.apt import AptRepository

if TYPE_CHECKING:
    from bundle.lock import Lock

pytestmark = pytest.mark.real  # runs apt
NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)
FAR_AWAY = "    - uri: https://example.org/x\n      suites: [a/]\n      trusted: true"
#: What minimal Debian lacks and the demo needs.
DEMO = ("auditd", "libnuma1", "nftables", "nginx-light", "podman")


@pytest.fixture
def repository(tmp_path: Path) -> AptRepository:
    found = AptRepository(tmp_path / "apt")
    found.add("libsmall", "1:2.0~rc1+x", Architecture="amd64")
    found.add("tool", "1.0", Depends="libsmall (>= 1:1.0), shell", Recommends="manual")
    found.add("manual", "1.0")
    found.add("shell", "5.0", Essential="yes", Depends="shell-data")
    found.add("shell-data", "5.0")
    found.add("old-way", "1.0", Conflicts="tool")
    found.add("broken", "1.0", Depends="nowhere-to-be-found")
    found.publish()
    return found


@pytest.fixture
def project(tmp_path: Path, repository: AptRepository) -> TinyProject:
    found = TinyProject(tmp_path / "project")
    source = f"  apt:\n    - uri: {repository.url}\n      suites: [./]\n      trusted: true\n"
    found.edit("  find_links: [wheels]\n", f"  find_links: [wheels]\n{source}")
    found.edit("playbooks:\n", "packages: [tool]\nplaybooks:\n")
    return found


def locked(project: TinyProject) -> Lock:
    return make_lock(project.check(), project.workshop, now=NOW, report=Events())


def collected(project: TinyProject, lock: Lock, report: Events | None = None) -> Collected:
    return collect(project.check(), lock, project.workshop, report or Events())


def failures(project: TinyProject, lock: Lock) -> dict[str, str]:
    with pytest.raises(Incompletes) as caught:
        collected(project, lock)
    assert caught.value.exit_code == 12
    return {problem.where: str(problem.said) for problem in caught.value.problems}


def names(lock: Lock) -> list[str]:
    return [each.name for each in lock.packages]


def unlocked(project: TinyProject) -> dict[str, str]:
    return {each.name: each.reason for each in locked(project).unlocked}


# --- Locking ----------------------------------------------------------------------------------------------


def test_the_closure_is_locked_without_what_every_system_has(project: TinyProject) -> None:
    lock = locked(project)
    assert lock.unlocked == ()
    # neither shell, which is essential, nor what it needs, nor manual, which is only recommended
    assert [(each.name, each.version) for each in lock.packages] == [
        ("libsmall", "1:2.0~rc1+x"),
        ("tool", "1.0"),
    ]
    assert {each.installed_bytes for each in lock.packages} == {4096}


def test_what_every_system_has_is_carried_where_it_is_asked_for(project: TinyProject) -> None:
    project.edit("packages: [tool]", "packages: [tool, shell]")
    lock = locked(project)
    assert names(lock) == ["libsmall", "shell", "tool"]
    collected(project, lock)


def test_of_what_every_system_has_a_revision_that_it_may_lack_is_carried(
    project: TinyProject, repository: AptRepository
) -> None:
    newest = "2.36-9+deb12u2"
    repository.add("base-library", newest, Priority="required", Depends=f"base-data (= {newest})")
    repository.add("base-data", newest, Priority="required")
    repository.add("upstream", "1.0", Depends="base-library (>= 2.36)")
    repository.add("revision", "1.0", Depends="base-library (>= 2.36-9+deb12u1)")
    repository.publish()
    project.edit("packages: [tool]", "packages: [upstream]")
    assert names(locked(project)) == ["upstream"]
    project.edit("packages: [upstream]", "packages: [revision]")
    assert names(locked(project)) == ["base-data", "base-library", "revision"]


def test_the_same_repository_gives_the_same_lock(project: TinyProject) -> None:
    assert locked(project) == locked(project)


def test_a_name_that_nobody_has_is_unlocked_and_the_others_are_there(project: TinyProject) -> None:
    project.edit("packages: [tool]", "packages: [tool, ghost, broken]")
    lock = locked(project)
    reasons = {each.name: each.reason for each in lock.unlocked}
    assert reasons.keys() == {"ghost", "broken"}
    assert "Unable to locate package ghost" in reasons["ghost"]
    assert "nowhere-to-be-found" in reasons["broken"]
    assert names(lock) == ["libsmall", "tool"]
    assert failures(project, lock).keys() == {"package ghost", "package broken"}


def test_names_that_cannot_live_together_are_unlocked_with_the_conflict(project: TinyProject) -> None:
    project.edit("packages: [tool]", "packages: [tool, old-way]")
    found = unlocked(project)
    assert found.keys() == {"tool", "old-way"}
    assert "onflict" in found["tool"]


# --- Whom it believes -------------------------------------------------------------------------------------


def test_a_repository_that_does_not_answer_leaves_all_names_unlocked(
    project: TinyProject, repository: AptRepository
) -> None:
    project.edit(repository.url, NOWHERE)
    assert "onnect" in unlocked(project)["tool"]


def test_another_systems_sources_are_not_asked(project: TinyProject, repository: AptRepository) -> None:
    project.edit(f"  apt:\n    - uri: {repository.url}\n      suites: [./]\n      trusted: true\n", "")
    project.edit("os: debian-12", "os: ubuntu-99.04")
    assert "name sources.apt" in unlocked(project)["tool"]


def test_an_unsigned_repository_is_refused(project: TinyProject) -> None:
    project.edit("      trusted: true\n", "")
    assert "not signed" in unlocked(project)["tool"]


def test_a_repository_is_believed_by_the_keyring_that_the_manifest_names(
    project: TinyProject, repository: AptRepository, tmp_path: Path
) -> None:
    project.write("tests.gpg", repository.sign(tmp_path / "gpg").read_bytes())
    project.edit("trusted: true", "signed_by: tests.gpg")
    assert unlocked(project) == {}
    shutil.rmtree(project.folder / ".banip" / "apt")
    index = repository.folder / "repository" / "Packages"
    index.write_bytes(index.read_bytes().replace(b"Version: 1.0", b"Version: 6.6", 1))
    assert "tool" in unlocked(project), "an index that the signature does not name"
    repository.publish()
    repository.sign(tmp_path / "another")
    assert "signatures couldn't be verified" in unlocked(project)["tool"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("trusted: true", f"trusted: true\n{FAR_AWAY}", "on this machine"),
        ("suites: [./]", "suites: [./]\n      components: [main]", "no components"),
        ("suites: [./]", "suites: [stable]", "no components"),
        ("trusted: true", "signed_by: nothere.gpg", "no keyring"),
        ("suites: [./]", 'suites: ["a\\nTrusted: yes"]', "does not match"),
    ],
)
def test_a_faulty_source_is_refused_when_the_manifest_is_checked(
    project: TinyProject, old: str, new: str, words: str
) -> None:
    project.edit(old, new)
    with pytest.raises(BadInputs) as caught:
        project.check()
    assert any(words in str(problem.said) for problem in caught.value.problems)


# --- Collecting -------------------------------------------------------------------------------------------


def test_packages_are_collected_once(project: TinyProject) -> None:
    lock, events = locked(project), Events()
    collected(project, lock, events)
    expected = {"libsmall_1%3a2.0~rc1+x_amd64.deb", "tool_1.0_all.deb"}
    assert expected <= set(events.names("fetched"))
    assert project.workshop.store.missing(lock.blobs()) == ()
    again = Events()
    collected(project, lock, again)
    assert expected <= set(again.names("cached"))


def test_of_a_release_that_is_half_here_only_the_rest_is_fetched(
    project: TinyProject, repository: AptRepository
) -> None:
    with repository.serving() as server:
        project.edit(repository.url, server.url)
        collected(project, locked(project))
        project.edit("packages: [tool]", "packages: [tool, manual]")
        lock = locked(project)
        server.asked.clear()
        collected(project, lock)
        assert server.asked == [("manual_1.0_all.deb", 0)]
    assert project.workshop.store.missing(lock.blobs()) == (), "apt left what it was lent as it was"


def test_a_cut_line_is_gone_on_with(project: TinyProject, repository: AptRepository) -> None:
    repository.add("large", payload=bytes(range(256)) * 1000)
    repository.publish()
    project.edit("packages: [tool]", "packages: [large]")
    with repository.serving() as server:
        project.edit(repository.url, server.url)
        lock = locked(project)
        server.cut["large_1.0_all.deb"] = 100_000
        collected(project, lock)
        asked = [start for name, start in server.asked if name == "large_1.0_all.deb"]
        assert asked == [0, 100_000]


def test_a_killed_run_is_gone_on_with_inside_a_file(project: TinyProject, repository: AptRepository) -> None:
    path = repository.add("large", payload=bytes(range(256)) * 1000)
    repository.publish()
    project.edit("packages: [tool]", "packages: [large]")
    with repository.serving() as server:
        project.edit(repository.url, server.url)
        lock = locked(project)
        (home,) = (project.folder / ".banip" / "apt").iterdir()
        (home / "cache/archives/partial" / path.name).write_bytes(path.read_bytes()[:100_000])
        collected(project, lock)
        assert (path.name, 100_000) in server.asked
        assert (path.name, 0) not in server.asked


def test_a_package_with_other_content_than_its_index_says_is_not_taken(
    project: TinyProject, repository: AptRepository
) -> None:
    lock = locked(project)
    repository.add("tool", "1.0", payload=b"changed by somebody", Depends="libsmall")
    assert failures(project, lock).keys() == {"tool_1.0_all.deb"}
    digest = next(each.sha256 for each in lock.packages if each.name == "tool")
    assert not project.workshop.store.path(digest).exists()


def test_a_package_whose_index_changed_since_the_lock_is_not_taken(
    project: TinyProject, repository: AptRepository
) -> None:
    lock = locked(project)
    repository.add("tool", "1.0", payload=b"changed by the archive itself", Depends="libsmall")
    repository.publish()
    assert failures(project, lock).keys() == {"tool_1.0_all.deb"}


def test_a_package_that_the_archive_replaced_since_is_told_by_its_version(
    project: TinyProject, repository: AptRepository
) -> None:
    lock = locked(project)
    (repository.folder / "repository" / "tool_1.0_all.deb").unlink()
    repository.add("tool", "1.1", Depends="libsmall")
    repository.publish()
    assert failures(project, lock)["tool_1.0_all.deb"].endswith("the archive has no tool=1.0")
    again = Events()
    with pytest.raises(Incompletes):
        collected(project, lock, again)
    assert "libsmall_1%3a2.0~rc1+x_amd64.deb" in again.names("cached"), "what could be had has stayed"


# --- What the release has ---------------------------------------------------------------------------------


def test_the_release_carries_a_repository_that_apt_reads(project: TinyProject, tmp_path: Path) -> None:
    lock = locked(project)
    collected(project, lock)
    store = project.workshop.store
    composed = compose(lock, read_contents(lock, project.workshop))
    assert composed == compose(lock, read_contents(lock, project.workshop))
    made = {file.path: file.sha256 for file in composed.release.files}
    (index,) = (raw for raw in composed.made if raw.startswith(b"Package: libsmall"))
    flat = tmp_path / "flat"
    flat.mkdir()
    (flat / "Packages").write_bytes(index)
    for package in composed.release.packages:
        assert made[package.path] == package.sha256
        shutil.copy(store.path(package.sha256), flat / Path(package.path).name)
    assert composed.release.space.packages_bytes == 8192
    server = TinyProject(tmp_path / "server")
    source = f"  apt:\n    - uri: file://{flat}\n      suites: [./]\n      trusted: true\n"
    server.edit("  find_links: [wheels]\n", f"  find_links: [wheels]\n{source}")
    server.edit("playbooks:\n", "packages: [libsmall]\nplaybooks:\n")
    again = locked(server)
    assert [each for each in lock.packages if each.name == "libsmall"] == list(again.packages)
    collected(server, again)


def test_a_package_of_another_name_than_its_index_says_is_not_composed(
    project: TinyProject, repository: AptRepository
) -> None:
    repository.stanzas["tool"] = repository.stanzas["tool"].replace("Version: 1.0", "Version: 1.5")
    repository.publish()
    lock = locked(project)
    collected(project, lock)
    with pytest.raises(BadInput, match="not the package"):
        read_contents(lock, project.workshop)


@pytest.mark.network
def test_the_machines_own_archive_gives_what_the_demo_needs(tmp_path: Path) -> None:
    project = TinyProject(tmp_path / "project")
    project.edit("playbooks:\n", f"packages: [{', '.join(DEMO)}]\nplaybooks:\n")
    lock = locked(project)
    found = {each.name: each for each in lock.packages}
    assert lock.unlocked == ()
    assert found.keys() >= set(DEMO)
    assert not found.keys() & {"libc6", "bash", "dpkg", "apt", "perl-base"}
    assert "libaudit1" in found, "auditd wants the same revision"
    collected(project, lock)
    deb = project.workshop.store.path(found["libnuma1"].sha256)
    listed = subprocess.run(["dpkg-deb", "-c", str(deb)], capture_output=True, text=True, check=True)
    assert "libnuma.so.1" in listed.stdout
