"""Nothing older comes in, by counter, floor and clock: with memory lost or put back, and a wrong clock."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from appliance.chain import name_of
from appliance.clock import EARLIEST
from appliance.errors import Expired
from tests.tiny import PROJECT
from tests.typed import Desk, StoppedClock
from tests.world import BUILT, EXPIRES, NOW, Generation, World, key

if TYPE_CHECKING:
    from collections.abc import Callable

ROOTS = [key("root-1"), key("root-2")]
DEAD_BATTERY = datetime(1970, 1, 1, 0, 1, tzinfo=timezone.utc)
FAR_AHEAD = datetime(2050, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def world() -> World:
    return World(counter=5)


@pytest.fixture
def desk(tmp_path: Path, world: World) -> Desk:
    desk = Desk(tmp_path / "banip")
    desk.adopt(world)
    assert desk.take(world.carrier(tmp_path)).code == 0
    return desk


def rotated(world: World, **changes: object) -> World:
    """Return the next release, after the first release key was revoked."""
    after = world.next(version="2.0.0", **changes)
    after.rotate(Generation(ROOTS, [key("release-2")]))
    return after


# --- The clock --------------------------------------------------------------------------------------------


def test_a_clock_in_1970_does_not_bring_back_what_is_over(desk: Desk, world: World, tmp_path: Path) -> None:
    desk.clock.time = DEAD_BATTERY
    over = world.next(version="2.0.0", expires=BUILT - timedelta(days=1))
    done = desk.type("import", over.carrier(tmp_path))
    assert (done.code, done.last["error"], done.last["seen"]) == (10, "Expired", BUILT.isoformat())


def test_in_1970_a_server_verifies_adopts_and_imports(world: World, tmp_path: Path) -> None:
    desk = Desk(tmp_path / "banip", clock=StoppedClock(DEAD_BATTERY), pyz=world)
    carrier = world.carrier(tmp_path)
    assert desk.type("verify", carrier).code == 0
    assert desk.type("adopt").code == 0
    done = desk.type("import", carrier)
    assert done.code == 0
    (told,) = done.events("clock")
    assert told["facts"] == {"seen": DEAD_BATTERY.isoformat(), "signed": BUILT.isoformat()}
    assert desk.clock.told == []


@pytest.mark.parametrize(
    ("time", "level"),
    [
        (DEAD_BATTERY, "block"),
        (EARLIEST - timedelta(seconds=1), "block"),
        (EARLIEST, "warn"),
        (BUILT - timedelta(seconds=1), "warn"),
        (BUILT, "ok"),
        (FAR_AHEAD, "ok"),
    ],
)
def test_the_preflight_says_what_a_clock_behind_means(
    desk: Desk, world: World, tmp_path: Path, time: datetime, level: str
) -> None:
    desk.clock.time = time
    later = world.next(version="2.0.0", expires=FAR_AHEAD + timedelta(days=1))
    later.rotate(Generation(ROOTS, [key("release-1")], expires=FAR_AHEAD + timedelta(days=1)))
    done = desk.type("preflight", later.carrier(tmp_path))
    (finding,) = (one for one in done.events("finding") if one["facts"]["id"] == "clock")
    assert finding["facts"]["level"] == level
    assert (level == "ok") == (BUILT.isoformat() not in finding["said"])
    if level == "block":
        assert done.code == 20
        assert "--set-clock" in done.last["remedy"]


def test_the_floor_of_time_is_the_newest_build_that_was_accepted(
    desk: Desk, world: World, tmp_path: Path
) -> None:
    newer = BUILT + timedelta(days=100)
    assert desk.take(world.next(version="2.0.0", fields={"built": newer}).carrier(tmp_path)).code == 0
    desk.clock.time = BUILT + timedelta(days=50)
    done = desk.type("import", "--set-clock", world.next(version="3.0.0", counter=7).carrier(tmp_path))
    assert (done.code, desk.clock.told) == (0, [newer])


def test_installing_in_1970_is_refused_before_anything_is_read_in(
    desk: Desk, world: World, tmp_path: Path
) -> None:
    desk.clock.time = DEAD_BATTERY
    before, later = desk.holds(), world.next(version="2.0.0")
    done = desk.type("install", later.carrier(tmp_path))
    assert done.code == 20
    assert "1970-01-01" in done.last["seen"]
    assert "--set-clock" in done.last["remedy"]
    assert desk.holds() == before


def test_set_clock_sets_it_to_the_floor_and_writes_it_down(desk: Desk, world: World, tmp_path: Path) -> None:
    desk.clock.time = DEAD_BATTERY
    done = desk.type("import", "--set-clock", world.next(version="2.0.0").carrier(tmp_path))
    assert (done.code, desk.clock.told) == (0, [BUILT])
    facts = {"seen": DEAD_BATTERY.isoformat(), "set": BUILT.isoformat(), "hardware": True}
    assert [one["facts"] for one in done.events("clock-set")] == [facts]
    (entry,) = (one for one in desk.server.state.journal.entries() if one.event == "clock-set")
    assert entry.facts == facts
    done = desk.type("preflight", world.next(version="3.0.0").carrier(tmp_path))
    assert [one["facts"]["level"] for one in done.events("finding") if one["facts"]["id"] == "clock"] == [
        "ok"
    ]


@pytest.mark.parametrize("time", [BUILT, NOW, FAR_AHEAD])
def test_a_clock_that_is_not_behind_is_never_moved(
    desk: Desk, world: World, tmp_path: Path, time: datetime
) -> None:
    desk.clock.time = time
    words = ("--set-clock", "--accept-expired", "demo-2.0.0-c6")
    assert desk.type("import", *words, world.next(version="2.0.0").carrier(tmp_path)).code == 0
    assert (desk.clock.told, "clock-set" in desk.journal()) == ([], False)


@pytest.mark.parametrize(("answer", "sets"), [("yes", True), ("네", True), ("", False), ("no", False)])
def test_a_person_at_a_terminal_is_asked_about_the_clock(
    desk: Desk, world: World, answer: str, *, sets: bool
) -> None:
    desk.clock.time = DEAD_BATTERY
    desk.session(lambda _: answer).mind_clock(world.release, set_clock=False)
    assert desk.clock.told == ([BUILT] if sets else [])


def test_a_bundle_that_is_refused_sets_no_clock(desk: Desk, world: World, tmp_path: Path) -> None:
    desk.clock.time = DEAD_BATTERY
    world.signers = [key("stranger")]
    carrier = world.next(version="2.0.0", fields={"built": FAR_AHEAD}).carrier(tmp_path)
    assert desk.type("import", "--set-clock", carrier).code == 10
    assert desk.clock.told == []


def test_in_2050_everything_is_over_until_a_person_types_the_id(
    desk: Desk, world: World, tmp_path: Path
) -> None:
    desk.clock.time = FAR_AHEAD
    later = world.next(version="2.0.0")
    carrier, release_id = later.carrier(tmp_path), later.release.id
    for words in ((), ("--accept-expired", world.release.id), ("--accept-expired", "yes")):
        for command in ("verify", "import"):
            assert desk.type(command, *words, carrier).last["error"] == "Expired"
    assert desk.type("verify", "--accept-expired", release_id, carrier).code == 0
    assert "expired-accepted" not in desk.journal()
    assert desk.type("import", "--accept-expired", release_id, carrier).code == 0
    assert desk.journal().count("expired-accepted") == 1
    for command in ("status", "inventory"):
        assert desk.type(command).last["result"]["accepted_expired"] == [release_id]


@pytest.mark.parametrize(("answer", "is_taken"), [("demo-2.0.0-c6", True), ("yes", False), ("", False)])
def test_a_person_at_a_terminal_is_asked_for_the_id(
    desk: Desk, world: World, tmp_path: Path, answer: str, *, is_taken: bool
) -> None:
    desk.clock.time = FAR_AHEAD
    carrier = world.next(version="2.0.0").carrier(tmp_path)
    session = desk.session(lambda _: f" {answer} ")
    taken = False
    try:
        with session.accepted(carrier, None):
            taken = True
    except Expired:
        pass
    assert taken == is_taken
    assert desk.journal()[-1] == ("expired-accepted" if is_taken else "refused")


def test_at_a_real_terminal_the_question_is_asked_there(desk: Desk, world: World, tmp_path: Path) -> None:
    """By this machine's own clock, as a person types it."""
    over = world.next(version="2.0.0", expires=BUILT + timedelta(days=1))
    person, terminal = pty.openpty()
    try:
        os.write(person, f"{over.release.id}\n".encode())
        done = subprocess.run(
            [sys.executable, "-m", "appliance", "--root", desk.root, "import", over.carrier(tmp_path)],
            cwd=PROJECT,
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=terminal,
            timeout=60,
            check=False,
        )
        shown = os.read(person, 65536).decode()
    finally:
        os.close(person)
        os.close(terminal)
    assert (done.returncode, done.stdout.decode()) == (0, f"{over.release.id} is in the store\n")
    assert "type the id of the release" in shown
    assert desk.journal()[-2:] == ["expired-accepted", "imported"]


@pytest.mark.parametrize(("time", "days"), [(EXPIRES - timedelta(days=10), 10), (FAR_AHEAD, -8401)])
def test_status_says_how_long_the_signatures_hold(desk: Desk, time: datetime, days: int) -> None:
    desk.clock.time = time
    told = desk.type("status")
    assert told.last["result"]["expires_in_days"] == days
    assert told.last["result"]["root_version"] == 1
    words = f"hold for {days} more days" if days > 0 else f"expired {-days} days ago"
    assert any(words in line["said"] for line in told.events("status"))


def test_the_operators_guide_quotes_what_the_screen_says() -> None:
    said = "\n".join(json.loads((PROJECT / "appliance" / "korean.json").read_text("utf-8")).values())
    guide = (PROJECT / "docs" / "ko" / "trust.md").read_text("utf-8")
    cells = re.findall(r"^\| (.+?) \((?:10|11|12|20)\) \|", guide, re.MULTILINE)
    quoted = [words for cell in cells for words in cell.split(" / ")]
    assert len(quoted) >= 12
    assert not [words for words in quoted if words.removesuffix(" …") not in said]
    for words in ("서명은 앞으로 {days}일 동안 유효합니다", "시각을 {time}(으)로 맞추었습니다"):
        assert words in said


# --- Memory -----------------------------------------------------------------------------------------------


def forget_state(desk: Desk) -> None:
    shutil.rmtree(desk.server.state.folder)


def forget_counter(desk: Desk) -> None:
    (desk.server.state.folder / "counter.json").unlink()


def forget_releases(desk: Desk) -> None:
    shutil.rmtree(desk.server.releases)


def forget_nothing(desk: Desk) -> None:
    assert desk.root.exists()


@pytest.mark.parametrize("forget", [forget_nothing, forget_counter, forget_state, forget_releases])
def test_either_memory_keeps_the_floor(
    desk: Desk, world: World, tmp_path: Path, forget: Callable[[Desk], None]
) -> None:
    forget(desk)
    desk.pyz = world
    for counter in (1, 4):
        assert desk.type("import", world.next(counter=counter).carrier(tmp_path)).code == 10
    # another release under the very number
    done = desk.type("import", world.next(version="1.0.1", counter=5).carrier(tmp_path))
    assert (done.code, done.last["expected"]) == (10, world.floor().release_sha256)
    assert desk.type("import", world.carrier(tmp_path)).code == 0
    assert desk.type("import", world.next(counter=6).carrier(tmp_path)).code == 0


def test_with_both_memories_gone_it_is_first_contact_again(desk: Desk, world: World, tmp_path: Path) -> None:
    forget_state(desk)
    forget_releases(desk)
    older = world.next(version="0.9.0", counter=1).carrier(tmp_path)
    assert desk.type("import", older).code == 10, "nobody is trusted before a person adopts"
    desk.pyz = world
    assert desk.type("adopt").code == 0
    assert desk.type("import", older).code == 0


def test_a_backup_of_state_brings_back_neither_counter_nor_revoked_key(
    desk: Desk, world: World, tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    shutil.copytree(desk.server.state.folder, backup)
    after = rotated(world)
    assert desk.take(after.carrier(tmp_path)).code == 0
    shutil.rmtree(desk.server.state.folder)
    shutil.copytree(backup, desk.server.state.folder)
    assert desk.root_version() == 1
    # read only: known all the same, and nothing is written
    before = desk.holds()
    assert desk.type("verify", world.next(counter=9).carrier(tmp_path)).code == 12
    assert desk.type("status").last["result"]["root_version"] == 2
    assert desk.type("status").last["result"]["counter"] == 6
    assert desk.holds() == before
    # last year's release, as it came; and with the roots added by whoever stole the key
    assert desk.type("import", world.carrier(tmp_path)).code == 12
    assert desk.root_version() == 2
    assert desk.journal()[-2:] == ["roots-recovered", "refused"]
    stolen = rotated(world, counter=9)
    stolen.signers = [key("release-1")]
    assert desk.type("import", stolen.carrier(tmp_path)).code == 10
    assert desk.type("import", rotated(world, counter=5).carrier(tmp_path)).code == 10
    assert desk.take(after.next(version="3.0.0").carrier(tmp_path)).code == 0


def test_adopting_after_state_was_lost_takes_the_revocations_back_from_the_release_folders(
    desk: Desk, world: World, tmp_path: Path
) -> None:
    assert desk.take(rotated(world).carrier(tmp_path)).code == 0
    forget_state(desk)
    desk.pyz = world
    assert desk.type("adopt").code == 0
    assert desk.root_version() == 2
    assert desk.journal() == ["adopted", "roots-recovered"]


def test_a_folder_that_was_never_good_proves_its_roots_and_no_floor(
    desk: Desk, world: World, tmp_path: Path
) -> None:
    after = rotated(world, counter=9)
    assert desk.take(after.carrier(tmp_path)).code == 0
    (desk.server.folder(after.release.id) / "good").unlink()
    forget_state(desk)
    desk.pyz = world
    assert desk.type("adopt").code == 0
    assert desk.root_version() == 2
    assert desk.type("import", rotated(world, counter=6).carrier(tmp_path)).code == 0


def test_a_folder_of_strangers_proves_nothing(desk: Desk, world: World, tmp_path: Path) -> None:
    strangers = World(generations=[Generation([key("x-1"), key("x-2")], [key("x")])], signers=[key("x")])
    strangers.rotate(Generation([key("x-1"), key("x-2")], [key("y")]))
    other = Desk(tmp_path / "other")
    other.adopt(strangers)
    assert other.take(strangers.next(version="7.0.0", counter=99).carrier(tmp_path)).code == 0
    shutil.copytree(other.server.releases, desk.server.releases, dirs_exist_ok=True)
    assert desk.take(world.next(version="2.0.0").carrier(tmp_path)).code == 0
    assert desk.root_version() == 1


def test_what_is_in_use_is_repaired_from_its_own_bundle_below_the_floor(
    desk: Desk, world: World, tmp_path: Path
) -> None:
    later = world.next(version="2.0.0")
    assert desk.take(later.carrier(tmp_path)).code == 0
    desk.server.state.keep(later.floor())
    record = desk.server.state.folder / "installed.json"
    record.write_bytes(record.read_bytes().replace(later.release.id.encode(), world.release.id.encode()))
    digest = (later.floor().release_sha256.encode(), world.floor().release_sha256.encode())
    record.write_bytes(record.read_bytes().replace(*digest))
    assert desk.type("import", world.carrier(tmp_path)).code == 0
    assert desk.type("import", world.next(version="1.0.1", counter=5).carrier(tmp_path)).code == 10


# --- Any of it, in any order ------------------------------------------------------------------------------

#: A server's fsync is tested elsewhere; here it would only be waited for.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - only the folder above our own
Ring = Literal["a", "b"]
SUPPLIERS: some.SearchStrategy[Ring] = some.sampled_from(["a", "a", "a", "b"])


@dataclass(frozen=True)
class Bundle:
    """A carrier: under whose first root, how many roots, and which of them its signer was named by."""

    ring: Ring
    roots: int
    signed_under: int
    counter: int
    digest: str
    path: Path
    id: str


@dataclass(frozen=True)
class Remembered:
    """What ``state`` should hold: roots of the ring in force and of former ones, counter, what is in use."""

    ring: Ring
    roots: int
    former: tuple[tuple[Ring, int], ...] = ()
    counter: int = 0
    counted: str = ""
    installed: str = ""


class Years(RuleBasedStateMachine):
    """One server over years: an oracle says of each bundle whether it may come in; memory is compared."""

    def __init__(self) -> None:
        super().__init__()
        self.home = TemporaryDirectory(dir=MEMORY)
        self.folder = Path(self.home.name)
        self.desk = Desk(self.folder / "banip")
        second = Generation([key("new-1"), key("new-2")], [key("b-1")])
        self.supply: dict[Ring, World] = {
            "a": World(generations=[Generation(ROOTS, [key("a-1")])], signers=[key("a-1")]),
            "b": World(generations=[second], signers=[key("b-1")]),
        }
        self.state: Remembered | None = None
        self.kept: dict[str, Bundle] = {}  # release folders that are there
        self.carriers: list[Bundle] = []
        self.backups: list[tuple[Path, Remembered]] = []
        self.made = 0
        self.in_hand: Ring = "a"
        self.adopt(ring="a", agrees=False)
        self.release("a")
        self.back_up()

    def teardown(self) -> None:
        self.home.cleanup()

    # --- the supplier, and who steals from him

    def lay(self, ring: Ring, roots: int, signed_under: int, counter: int) -> Bundle:
        self.made += 1
        world = self.supply[ring].next(version=f"{self.made}.0.0", counter=counter)
        world.generations = world.generations[:roots]
        world.signers = [key(f"{ring}-{signed_under}")]
        path = self.folder / f"{self.made}.tar"
        path.write_bytes(world.carrier_bytes())
        made = (world.floor().release_sha256, path, world.release.id)
        self.carriers.append(Bundle(ring, roots, signed_under, counter, *made))
        return self.carriers[-1]

    @rule(ring=SUPPLIERS)
    def release(self, ring: Ring) -> None:
        newest = len(self.supply[ring].generations)
        self.carry(self.lay(ring, newest, newest, self._highest() + 1), typed=True)

    @rule(ring=SUPPLIERS, releases=some.booleans())
    def revoke(self, ring: Ring, *, releases: bool) -> None:
        world = self.supply[ring]
        number = len(world.generations) + 1
        world.rotate(Generation(world.generations[0].root_keys, [key(f"{ring}-{number}")]))
        if releases:
            self.release(ring)

    @rule(ring=SUPPLIERS, ahead=some.sampled_from([1, 1, 1, 0, -1]))
    def steal(self, ring: Ring, ahead: int) -> None:
        """Sign with every release key there ever was: behind the roots of its time, and behind today's."""
        newest, counter = len(self.supply[ring].generations), max(self._highest() + ahead, 1)
        for under in range(1, newest + 1):
            for roots in {under, newest}:
                self.carry(self.lay(ring, roots, under, counter), typed=True)

    @precondition(lambda self: self.carriers)
    @rule(data=some.data(), typed=some.booleans())
    def carry_again(self, data: some.DataObject, *, typed: bool) -> None:
        self.carry(data.draw(some.sampled_from(self.carriers)), typed=typed)

    @rule(data=some.data())
    def replay(self, data: some.DataObject) -> None:
        """Carry much of what there ever was once more, in any order."""
        for bundle in data.draw(some.permutations(self.carriers[-8:])):
            self.carry(bundle, typed=True)

    def _highest(self) -> int:
        return max((one.counter for one in self.carriers), default=0)

    # --- the server

    @rule(time=some.sampled_from([DEAD_BATTERY, NOW, FAR_AHEAD]))
    def set_clock(self, time: datetime) -> None:
        self.desk.clock.time = time

    @rule()
    def back_up(self) -> None:
        if self.state is not None:
            path = self.folder / f"backup-{len(self.backups)}"
            shutil.copytree(self.desk.server.state.folder, path)
            self.backups.append((path, self.state))

    @precondition(lambda self: self.backups)
    @rule(data=some.data())
    def restore(self, data: some.DataObject) -> None:
        path, self.state = data.draw(some.sampled_from(self.backups))
        shutil.rmtree(self.desk.server.state.folder, ignore_errors=True)
        shutil.copytree(path, self.desk.server.state.folder)

    @rule()
    def lose_state(self) -> None:
        shutil.rmtree(self.desk.server.state.folder, ignore_errors=True)
        self.state = None

    @precondition(lambda self: self.state is not None and self.state.counter)
    @rule()
    def lose_the_counter(self) -> None:
        (self.desk.server.state.folder / "counter.json").unlink()
        if self.state is not None:
            self.state = replace(self.state, counter=0, counted="")

    @precondition(lambda self: self.kept)
    @rule(data=some.data())
    def lose_a_release(self, data: some.DataObject) -> None:
        gone = data.draw(some.sampled_from(sorted(self.kept)))
        shutil.rmtree(self.desk.server.folder(gone))
        del self.kept[gone]

    @rule(ring=some.sampled_from(["a", "b"]), agrees=some.sampled_from([True, True, False]))
    def adopt(self, ring: Ring, *, agrees: bool) -> None:
        self.in_hand = ring
        self.desk.pyz = self.supply[ring]
        words = ["--replace-trust", name_of(self.desk.pyz.root(1))[:16]] if agrees else []
        replaces = self._replaces()
        assert self.desk.type("adopt", *words).code == (10 if replaces and not agrees else 0)
        if replaces and not agrees:
            return
        old = self.state or Remembered(self.in_hand, 1)
        former = dict(old.former)
        if old.ring != self.in_hand:
            former[old.ring] = max(old.roots, former.get(old.ring, 0))
            old = replace(old, ring=self.in_hand, roots=former.get(self.in_hand, 1))
        self.state = replace(old, former=tuple(sorted(former.items())))
        self._recover()

    # --- what ought to be

    def _replaces(self) -> bool:
        """Tell whether the pyz in hand would take the place of another first root that anything remembers."""
        rings = {self.state.ring} if self.state else {one.ring for one in self.kept.values()}
        return bool(rings) and self.in_hand not in rings

    def _trusted_ring(self) -> Ring | None:
        if self.state is not None:
            return self.state.ring
        return None if self._replaces() else self.in_hand

    def _known_roots(self, ring: Ring) -> int:
        own = [self.state.roots] if self.state else []
        return max([1, *own, *(one.roots for one in self.kept.values() if one.ring == ring)])

    def _recover(self) -> None:
        if self.state is not None:
            self.state = replace(self.state, roots=self._known_roots(self.state.ring))

    def _floor(self, ring: Ring) -> Bundle | Remembered | None:
        loadable = {ring, *(name for name, _ in (self.state.former if self.state else ()))}
        found: list[Bundle | Remembered] = [self.state] if self.state and self.state.counter else []
        found += [one for _, one in sorted(self.kept.items()) if one.ring in loadable]
        return max(found, key=lambda one: one.counter, default=None)

    def _may_come_in(self, bundle: Bundle, ring: Ring, *, typed: bool) -> bool:
        if bundle.ring != ring or bundle.roots < self._known_roots(ring):
            return False  # another supplier, or before a revocation that any memory has
        if bundle.signed_under != bundle.roots:
            return False  # a key that the newest root does not name
        floor = self._floor(ring)
        fresh = floor is None or bundle.counter > floor.counter or self._is_known(bundle, floor)
        return fresh and (typed or self.desk.clock.time < EXPIRES)

    def _is_known(self, bundle: Bundle, floor: Bundle | Remembered) -> bool:
        if self.state and bundle.digest == self.state.installed:
            return True
        digest = floor.digest if isinstance(floor, Bundle) else floor.counted
        return bundle.counter == floor.counter and bundle.digest == digest

    def carry(self, bundle: Bundle, *, typed: bool) -> None:
        ring = self._trusted_ring()
        expected = ring is not None and self._may_come_in(bundle, ring, typed=typed)
        done = self.desk.take(bundle.path, bundle.id if typed else None)
        assert (done.code == 0) == expected, done.last
        self._recover()
        if ring is not None and bundle.ring == ring and bundle.roots >= self._known_roots(ring):
            if self.state is not None:
                self.state = replace(self.state, roots=bundle.roots)
            elif expected:
                self.state = Remembered(ring, bundle.roots)
        if expected and self.state is not None:
            self.kept[bundle.id] = bundle
            self.state = replace(self.state, installed=bundle.digest)
            if bundle.counter > self.state.counter:
                self.state = replace(self.state, counter=bundle.counter, counted=bundle.digest)

    @invariant()
    def memory_is_what_it_ought_to_be(self) -> None:
        trust = self.desk.server.state.trust()
        assert (trust is None) == (self.state is None)
        if self.state is not None and trust is not None:
            assert trust.root == self.supply[self.state.ring].root(self.state.roots)
            assert (trust.floor.counter if trust.floor else 0) == self.state.counter


TestYears = pytest.mark.real(Years.TestCase)  # years of releases: ten seconds
TestYears.settings = settings(
    max_examples=40, stateful_step_count=20, suppress_health_check=list(HealthCheck)
)
