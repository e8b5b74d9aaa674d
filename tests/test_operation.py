"""An operation ends in old or in new: with real processes, a real journal and a real store."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.errors import BanipError, Incomplete, Returned, UnfitServer
from appliance.format import HttpAnswers, Owned, Role
from appliance.operation import Operator, carry_out_rest
from appliance.plan import Retire, unfinished
from appliance.release import installed
from tests.tiny import BROKEN_PLAY, PROJECT, Site, running_world, wheel

if TYPE_CHECKING:
    from appliance.text import Event
    from tests.world import World

UNHEALTHY = (Role(name="api", health=(HttpAnswers(url="http://127.0.0.1:10/health"),), health_timeout_s=1),)


@pytest.fixture
def world() -> World:
    return running_world()


@pytest.fixture
def site(tmp_path: Path, world: World) -> Site:
    site = Site(tmp_path / "banip")
    site.adopt(world)
    return site


def test_an_install_ends_in_the_new_release(site: Site, world: World, tmp_path: Path) -> None:
    outcome = site.install(world.carrier(tmp_path))
    assert (outcome.release, outcome.changed, outcome.already) == ("demo-1.0.0-c1", 1, False)
    assert site.now == site.answers == site.current == "demo-1.0.0-c1"
    assert site.trust().floor == world.floor()
    assert unfinished(site.server.state.journal.entries()) is None


def test_what_the_release_itself_does_is_told_as_it_happens(site: Site, world: World, tmp_path: Path) -> None:
    site.install(world.carrier(tmp_path))
    said = [str(event.words) for event in site.events]
    assert said == [
        "put the release folder demo-1.0.0-c1 together",
        f"build the environment controller ({world.release.environment('controller').digest[:12]})",
        "controller: 1 of 1 packages",
        "switch to demo-1.0.0-c1",
        "run the roles of demo-1.0.0-c1",
        "task: say who answers",
        "ask the services of demo-1.0.0-c1 for their health",
        "mark demo-1.0.0-c1 good",
    ]


def test_the_journal_has_every_step_by_whoever_did_it(site: Site, world: World, tmp_path: Path) -> None:
    site.install(world.carrier(tmp_path))
    assert site.journal() == ["started", "planned", *["done"] * 6, "finished"]


def test_installing_again_changes_nothing_and_says_so(site: Site, world: World, tmp_path: Path) -> None:
    site.install(world.carrier(tmp_path))
    outcome = site.install(world.carrier(tmp_path))
    assert outcome.already
    assert outcome.changed == 0
    assert installed(site.server) is not None
    assert site.now == "demo-1.0.0-c1"


def test_blobs_that_are_not_there_are_asked_for_before_anything_else(
    site: Site, world: World, tmp_path: Path
) -> None:
    bundle = site.bring_in(world.carrier(tmp_path))
    site.server.store.path(bundle.release.blobs[0].sha256).unlink()
    with pytest.raises(Incomplete):
        site.operate(lambda operator: operator.apply(bundle))
    assert site.journal() == []


def test_a_first_install_that_fails_returns_to_nothing(site: Site, world: World, tmp_path: Path) -> None:
    owned = tmp_path / "etc" / "banip-demo.conf"
    owned.parent.mkdir()
    owned.write_text("left by a role")
    world.roles = (Role(name="api", owns=Owned(paths=(str(owned),))),)
    world.files["playbooks/site.yml"] = BROKEN_PLAY
    with pytest.raises(Returned) as returned:
        site.install(world.carrier(tmp_path))
    assert returned.value.exit_code == 30
    assert "a broken play" in str(returned.value.seen)
    assert (site.now, site.current, site.trust().floor) == (None, None, None)
    assert not owned.exists()
    assert unfinished(site.server.state.journal.entries()) is None


def test_an_upgrade_takes_away_what_only_the_old_release_owned(
    site: Site, world: World, tmp_path: Path
) -> None:
    files = {name: tmp_path / f"banip-{name}.conf" for name in ("old", "both")}
    for file in files.values():
        file.write_text("")
    world.roles = (Role(name="api", owns=Owned(paths=tuple(map(str, files.values())))),)
    site.install(world.carrier(tmp_path))
    new = world.next(version="2.0.0", roles=(Role(name="api", owns=Owned(paths=(str(files["both"]),))),))
    site.install(new.carrier(tmp_path))
    assert site.now == site.answers == "demo-2.0.0-c2"
    assert not files["old"].exists()
    assert files["both"].exists()


@pytest.mark.real
@pytest.mark.parametrize("fault", ["play", "health", "appliance", "python"])
def test_an_upgrade_that_fails_returns_to_the_old_release(
    site: Site, world: World, tmp_path: Path, fault: str
) -> None:
    site.install(world.carrier(tmp_path))
    new = world.next(version="2.0.0")
    if fault == "play":
        new.files["playbooks/site.yml"] = BROKEN_PLAY
    elif fault == "health":
        new.roles = UNHEALTHY
    else:
        new.fields["variables"] = {"fault": fault}
        spoil_controller(new, fault)
    with pytest.raises(Returned) as returned:
        site.install(new.carrier(tmp_path))
    assert str(returned.value.seen)
    assert site.now == site.answers == site.current == "demo-1.0.0-c1"
    assert site.trust().floor == world.floor()
    assert installed(site.server).previous is None  # type: ignore[union-attr]


def spoil_controller(world: World, fault: str) -> None:
    """Give the release an appliance that ends without a word, or that cannot even be found."""
    program = b"import sys; print('no JSON'); sys.exit(7)\n" if fault == "appliance" else None
    files = {"appliance/__main__.py": program} if program else {"other.py": b""}
    world.wheels = {
        "controller": {"controller-2.0-py3-none-any.whl": wheel("controller", files, version="2.0")}
    }


def test_an_error_inside_the_releases_appliance_is_not_lost(site: Site, world: World, tmp_path: Path) -> None:
    site.install(world.carrier(tmp_path))
    (site.server.data / "answers").unlink()
    (site.server.data / "answers").mkdir()  # the role's own code will break on it
    with pytest.raises(UnfitServer) as refused:
        site.install(world.carrier(tmp_path))
    assert f"{site.server.data / 'answers'}; Is a directory" in str(refused.value.seen)


def test_a_rollback_goes_back_and_then_there_is_nothing_more(
    site: Site, world: World, tmp_path: Path
) -> None:
    new = world.next(version="2.0.0")
    site.install(world.carrier(tmp_path))
    site.install(new.carrier(tmp_path))
    outcome = site.operate(lambda operator: operator.rollback())
    assert outcome.release == site.now == site.answers == site.current == "demo-1.0.0-c1"
    assert site.trust().floor == new.floor()
    with pytest.raises(UnfitServer, match="no release to roll back to"):
        site.operate(lambda operator: operator.rollback())


def test_after_a_rollback_the_new_release_may_come_again(site: Site, world: World, tmp_path: Path) -> None:
    new = world.next(version="2.0.0")
    site.install(world.carrier(tmp_path))
    site.install(new.carrier(tmp_path))
    site.operate(lambda operator: operator.rollback())
    site.install(new.carrier(tmp_path))
    assert site.now == site.answers == "demo-2.0.0-c2"


def test_a_rollback_needs_something_installed(site: Site) -> None:
    with pytest.raises(UnfitServer, match="no release is installed"):
        site.operate(lambda operator: operator.rollback())


def test_a_repair_gives_back_a_damaged_release_folder(site: Site, world: World, tmp_path: Path) -> None:
    site.install(world.carrier(tmp_path))
    shutil.rmtree(site.server.folder("demo-1.0.0-c1") / "metadata")
    (site.server.folder("demo-1.0.0-c1") / "playbooks" / "site.yml").unlink()
    assert site.install(world.carrier(tmp_path)).already


def test_a_repair_that_does_not_help_stays_on_the_release_and_says_unfit(
    site: Site, world: World, tmp_path: Path
) -> None:
    world.roles = (Role(name="api", owns=Owned()),)
    site.install(world.carrier(tmp_path))
    (site.server.data / "answers").unlink()
    (site.server.data / "answers").mkdir()
    with pytest.raises(UnfitServer, match="is not healthy"):
        site.install(world.carrier(tmp_path))
    assert site.now == "demo-1.0.0-c1"
    assert unfinished(site.server.state.journal.entries()) is None


def test_uninstall_leaves_data_state_and_logs(site: Site, world: World, tmp_path: Path) -> None:
    site.install(world.carrier(tmp_path))
    site.operate(lambda operator: operator.uninstall())
    assert sorted(path.name for path in site.root.iterdir()) == ["data", "log", "state"]
    assert site.answers == "demo-1.0.0-c1"
    assert site.server.data.stat().st_mode & 0o777 == 0o700
    assert site.trust().floor == world.floor()
    site.operate(lambda operator: operator.uninstall())


def test_an_uninstall_cut_off_while_it_removes_is_ended_by_the_next(
    site: Site, world: World, tmp_path: Path
) -> None:
    site.install(world.carrier(tmp_path))

    def stop(event: Event) -> None:
        if event.facts.get("step") == "discard":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        site.operate(lambda operator: operator.uninstall(), stop)
    (site.server.folder("demo-1.0.0-c1") / "metadata" / "release.json").unlink()  # half removed
    site.operate(lambda operator: operator.uninstall())
    assert not site.server.releases.exists()
    assert unfinished(site.server.state.journal.entries()) is None


def test_there_must_be_a_plan_to_carry_out(site: Site) -> None:
    with site.server.state.lock() as lock:
        operator = Operator(site.server, site.trust(), lock, site.events.append, {})
        with pytest.raises(BanipError, match="no plan"):
            carry_out_rest(operator)


# --- Cut off at every step --------------------------------------------------------------------------------


def drive(root: str, carrier: str, kill_at: str) -> None:
    """Install in a process that kills itself, and all that it started, at the event of that number."""
    counter = itertools.count(1)

    def say(_event: Event) -> None:
        if next(counter) == int(kill_at):
            os.killpg(0, signal.SIGKILL)

    site = Site(Path(root))
    bundle = site.bring_in(Path(carrier))
    site.operate(lambda operator: operator.apply(bundle), say)


def driven(site: Site, carrier: Path, kill_at: int) -> int:
    code = "import sys; from tests.test_operation import drive; drive(*sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, site.root, carrier, str(kill_at)],
        cwd=PROJECT,
        start_new_session=True,
        stderr=subprocess.PIPE,  # its end is awaited, and so the end of every process that holds the lock
        check=False,
    )
    return done.returncode


def put_back(kept: Path, site: Site) -> None:
    """Bring the server back to how it was, but for environments and store, which only ever grow."""
    for name in ("state", "releases", "current", "data"):
        path, was = site.root / name, kept / name
        path.unlink() if path.is_symlink() else shutil.rmtree(path, ignore_errors=True)
        if was.is_symlink():
            path.symlink_to(was.readlink())
        elif was.exists():
            shutil.copytree(was, path, symlinks=True)


def cut_everywhere(site: Site, carrier: Path, kept: Path, ends: set[str]) -> list[tuple[str, ...]]:
    """Kill at each event in turn, then run again; return the journals of the killed runs."""
    shutil.copytree(site.root, kept, symlinks=True)
    journals: list[tuple[str, ...]] = []
    old = site.now
    for kill_at in itertools.count(1):
        put_back(kept, site)
        if driven(site, carrier, kill_at) != -signal.SIGKILL:
            assert site.now in ends
            return journals
        journals.append(tuple(site.journal()))
        assert site.now in {old, *ends}
        driven(site, carrier, 0)
        assert site.now in ends
        assert site.now == site.answers == site.current
        assert unfinished(site.server.state.journal.entries()) is None
    raise AssertionError


@pytest.mark.real
@pytest.mark.timeout(300)
def test_an_install_killed_anywhere_and_run_again_ends_in_new(
    site: Site, world: World, tmp_path: Path
) -> None:
    journals = cut_everywhere(site, world.carrier(tmp_path), tmp_path / "kept", {"demo-1.0.0-c1"})
    assert len(set(journals)) >= 4  # the release's own process runs on until the signal comes


@pytest.mark.real
@pytest.mark.timeout(300)
def test_an_upgrade_killed_anywhere_and_run_again_ends_in_new(
    site: Site, world: World, tmp_path: Path
) -> None:
    site.install(world.carrier(tmp_path))
    new = world.next(version="2.0.0")
    journals = cut_everywhere(site, new.carrier(tmp_path), tmp_path / "kept", {"demo-2.0.0-c2"})
    assert len(set(journals)) >= 4  # the release's own process runs on until the signal comes


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_failing_upgrade_killed_anywhere_and_run_again_ends_in_old(
    site: Site, world: World, tmp_path: Path
) -> None:
    site.install(world.carrier(tmp_path))
    new = world.next(version="2.0.0")
    new.files["playbooks/site.yml"] = BROKEN_PLAY
    journals = cut_everywhere(site, new.carrier(tmp_path), tmp_path / "kept", {"demo-1.0.0-c1"})
    assert any("failed" in journal for journal in journals)


@pytest.mark.real
def test_a_journal_cut_after_any_entry_is_gone_on_with_and_ends_in_new(
    site: Site, world: World, tmp_path: Path
) -> None:
    carrier = world.carrier(tmp_path)
    site.install(carrier)
    journal = site.server.state.folder / "journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    for count in range(len(lines)):
        journal.write_bytes(b"".join(lines[:count]))
        if count < len(lines) - 2:  # before the release was marked good
            (site.server.state.folder / "installed.json").unlink(missing_ok=True)
        site.events.clear()
        site.install(carrier)
        went_on = "an earlier run was cut off here: going on with it" in [str(e.words) for e in site.events]
        assert went_on == (2 <= count < len(lines) - 2)
        assert site.now == site.answers == site.current == "demo-1.0.0-c1"
        assert unfinished(site.server.state.journal.entries()) is None


@pytest.mark.real
def test_an_upgrade_that_was_cut_off_is_left_when_a_rollback_is_wanted(
    site: Site, world: World, tmp_path: Path
) -> None:
    site.install(world.carrier(tmp_path))
    new = world.next(version="2.0.0")
    site.install(new.carrier(tmp_path))
    third = world.next(version="3.0.0", counter=3).carrier(tmp_path)
    assert driven(site, third, 4) == -signal.SIGKILL
    site.operate(lambda operator: operator.rollback())
    # Leaving it was the way back; the release before that one is another rollback away.
    assert site.now == site.answers == site.current == "demo-2.0.0-c2"
    site.operate(lambda operator: operator.rollback())
    assert site.now == site.answers == site.current == "demo-1.0.0-c1"


@pytest.mark.real
def test_a_rollback_that_was_cut_off_and_then_fails_returns(site: Site, world: World, tmp_path: Path) -> None:
    new = world.next(version="2.0.0")
    site.install(world.carrier(tmp_path))
    site.install(new.carrier(tmp_path))

    def stop(event: Event) -> None:
        if event.facts.get("step") == "buildenvironment":
            play = site.server.folder("demo-1.0.0-c1") / "playbooks" / "site.yml"
            play.unlink()
            play.write_bytes(BROKEN_PLAY)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        site.operate(lambda operator: operator.rollback(), stop)
    with pytest.raises(Returned):
        site.operate(lambda operator: operator.rollback())
    assert site.now == site.answers == site.current == "demo-2.0.0-c2"


def test_a_plan_does_not_retire_what_nobody_owned(site: Site, world: World, tmp_path: Path) -> None:
    site.install(world.carrier(tmp_path))
    (planned,) = [entry for entry in site.server.state.journal.entries() if entry.event == "planned"]
    assert Retire.__struct_config__.tag not in [step["step"] for step in planned.facts["plan"]["steps"]]
