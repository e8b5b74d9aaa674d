"""Keys change over the years, release keys, root keys, thresholds; a server hears of it by media alone."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from appliance.audit.reading import product
from appliance.chain import Chain, name_of
from appliance.release import load
from tests.tiny import running_world
from tests.typed import Desk
from tests.world import EXPIRES, Generation, World, key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.real

ROOTS = [key("root-1"), key("root-2")]
SECOND = Generation(ROOTS, [key("release-2")])
PAST = datetime(2020, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def world() -> World:
    return World(counter=5)


@pytest.fixture
def desk(tmp_path: Path, world: World) -> Desk:
    """A server that has the first release, and trusts root version 1."""
    desk = Desk(tmp_path / "banip")
    desk.adopt(world)
    assert desk.take(world.carrier(tmp_path)).code == 0
    return desk


def rotated(world: World, *generations: Generation, **changes: object) -> World:
    """Return the next release, after these root versions."""
    after = world.next(version="2.0.0", **changes)
    for generation in generations or (SECOND,):
        after.rotate(generation)
    return after


# --- Roots count at once ----------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Callable[[World], object], int]] = {
    "targets that are no envelope": (lambda world: world.mutate("targets.json", 0), 10),
    "targets with a bad signature": (lambda world: world.mutate("targets.json", -80), 10),
    "targets that nobody signed": (lambda world: setattr(world, "signers", []), 10),
    "room that is not empty": (lambda world: world.mutate("room", 7), 11),
    "a release that was changed": (lambda world: world.mutate("release.json", 40), 11),
    "another product": (lambda world: setattr(world, "product", "other"), 10),
    "another site": (lambda world: setattr(world, "site", "busan"), 10),
    "an older counter": (lambda world: setattr(world, "counter", 4), 10),
    "a time that is over": (lambda world: setattr(world, "expires", PAST), 10),
    "more than was signed": (lambda world: setattr(world, "tail", world.tail + b"x"), 11),
    "a blob that is missing": (lambda world: setattr(world, "change_members", lambda all_: all_[:-1]), 12),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_revocation_in_a_bundle_that_is_refused_counts_for_the_next_one(
    desk: Desk, world: World, tmp_path: Path, case: str
) -> None:
    break_it, code = REFUSED[case]
    junk, before = rotated(world), desk.holds()
    break_it(junk)
    assert desk.type("import", junk.carrier(tmp_path)).code == code
    assert desk.root_version() == 2
    assert desk.holds().keys() - before.keys() == {"state/roots/2.root.json"}
    assert {name: desk.holds()[name] for name in before} == before
    accepted, refused = desk.server.state.journal.entries()[-2:]
    assert (accepted.event, accepted.facts["versions"], refused.event) == ("roots-accepted", [2], "refused")
    # by the revoked key alone; both; before its revocation
    revoked = rotated(world, counter=9)
    for signers in ([key("release-1")], [key("release-1"), key("release-2")]):
        revoked.signers = signers
        assert desk.type("import", revoked.carrier(tmp_path)).code == 10
    assert desk.type("import", world.next(counter=9).carrier(tmp_path)).code == 12
    # the true one, which carries those roots, is not shut out
    assert desk.take(rotated(world).carrier(tmp_path)).code == 0


@pytest.mark.parametrize("command", ["verify", "plan", "preflight"])
@pytest.mark.parametrize("is_good", [True, False])
def test_commands_that_only_read_remember_no_root(
    desk: Desk, world: World, tmp_path: Path, command: str, *, is_good: bool
) -> None:
    after = rotated(world)
    after.counter = 6 if is_good else 1
    before, journal = desk.holds(), desk.journal()
    assert desk.type(command, after.carrier(tmp_path)).code in ({0, 20} if is_good else {10})
    assert (desk.holds(), desk.journal()) == (before, journal)


MALICIOUS: dict[str, tuple[Generation, ...]] = {
    "signed by its own keys alone": (
        Generation([key("x-1"), key("x-2")], [key("x")], signers=[key("x-1"), key("x-2")]),
    ),
    "signed by one of two": (Generation(ROOTS, [key("x")], signers=ROOTS[:1]),),
    "signed by the release key": (Generation(ROOTS, [key("x")], signers=[key("release-1")]),),
    "signed by nobody": (Generation(ROOTS, [key("x")], signers=[]),),
    "good, and then a bad one": (SECOND, Generation(ROOTS, [key("x")], signers=ROOTS[:1])),
    "a version left out": (Generation(ROOTS, [key("x")], change=lambda root: root.update(version=3)),),
}


@pytest.mark.parametrize("case", MALICIOUS)
def test_a_chain_with_a_bad_root_leaves_the_refusal_and_nothing_else(
    desk: Desk, world: World, tmp_path: Path, case: str
) -> None:
    before, journal = desk.holds(), desk.journal()
    assert desk.type("import", rotated(world, *MALICIOUS[case]).carrier(tmp_path)).code in {10, 12}
    assert desk.holds() == before
    assert desk.journal() == [*journal, "refused"]
    assert desk.take(rotated(world).carrier(tmp_path)).code == 0


def test_on_first_contact_a_refused_bundle_leaves_no_trust_and_no_root(world: World, tmp_path: Path) -> None:
    desk = Desk(tmp_path / "banip", pyz=world)
    junk = rotated(world)
    junk.signers = []
    assert desk.type("import", junk.carrier(tmp_path)).code == 10
    assert desk.holds() == {}
    assert desk.take(rotated(world).carrier(tmp_path)).code == 0
    assert desk.root_version() == 2


def test_a_kill_between_two_roots_leaves_a_chain_that_goes_on(
    desk: Desk, world: World, tmp_path: Path
) -> None:
    after = rotated(world, SECOND, Generation(ROOTS, [key("release-3")]))

    def killed() -> Iterator[bytes]:
        yield after.root(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        desk.server.state.accept_roots(killed())
    assert desk.root_version() == 2
    assert desk.type("import", rotated(world, counter=9).carrier(tmp_path)).code == 0
    assert desk.take(after.carrier(tmp_path)).code == 0
    assert desk.root_version() == 3


# --- Years ------------------------------------------------------------------------------------------------

YEARS = (
    Generation(ROOTS, [key("release-2")]),  # the release key
    Generation([key("root-2"), key("root-3")], [key("release-2")], expires=PAST),  # one root key
    Generation([key("root-2"), key("root-3"), key("root-4")], [key("release-2")], root_threshold=3),
    Generation([key("root-4"), key("root-5"), key("root-6")], [key("release-3"), key("release-4")],
               signers=[key(f"root-{number}") for number in (2, 3, 4, 5, 6)]),
    Generation([key("root-5"), key("root-6")], [key("release-3"), key("release-4")], release_threshold=2),
)  # fmt: skip


def test_a_server_that_skipped_every_rotation_follows_them_at_once(
    desk: Desk, world: World, tmp_path: Path
) -> None:
    years = rotated(world, *YEARS, counter=40)
    assert desk.take(years.carrier(tmp_path)).code == 0
    assert desk.root_version() == 6
    told = desk.type("verify", years.next(version="3.0.0").carrier(tmp_path)).last["result"]
    assert (told["root_version"], told["counter"]) == (6, 41)
    years.signers = [key("release-3")]  # one of two
    assert desk.type("import", years.next(version="4.0.0").carrier(tmp_path)).code == 10


@pytest.mark.parametrize("left_out", range(2, 6))
def test_no_rotation_before_the_last_can_be_left_out(
    desk: Desk, world: World, tmp_path: Path, left_out: int
) -> None:
    years, before = rotated(world, *YEARS, counter=40), desk.holds()
    years.change_members = lambda members: [one for one in members if one.name != f"root/{left_out}.json"]
    assert desk.type("import", years.carrier(tmp_path)).code in {10, 12}
    assert desk.holds() == before


def test_the_last_one_can_be_withheld_which_only_the_paper_tells(
    desk: Desk, world: World, tmp_path: Path
) -> None:
    years = rotated(world, *YEARS, counter=40)
    years.change_members = lambda members: [one for one in members if one.name != "root/6.json"]
    told = desk.type("verify", years.carrier(tmp_path)).last["result"]
    assert told["root_version"] == 5
    years.change_members = None
    assert desk.type("import", years.carrier(tmp_path)).code == 0
    years.change_members = lambda members: [one for one in members if one.name != "root/6.json"]
    assert desk.type("import", years.carrier(tmp_path)).code == 12, "from then on nobody can"


def test_a_chain_whose_end_cannot_be_seen_is_not_taken(desk: Desk, world: World, tmp_path: Path) -> None:
    after, before = rotated(world), desk.holds()
    after.mutate("targets.json", 3, part="header")
    assert desk.type("import", after.carrier(tmp_path)).code == 11
    assert desk.holds() == before


def test_keys_that_were_taken_away_cannot_make_the_next_root(
    desk: Desk, world: World, tmp_path: Path
) -> None:
    assert desk.take(rotated(world, *YEARS[:3]).carrier(tmp_path)).code == 0
    stolen = Generation(ROOTS, [key("release-1")], signers=ROOTS)
    after = rotated(world, *YEARS[:3], stolen, counter=50)
    assert desk.type("import", after.carrier(tmp_path)).code == 10
    assert desk.root_version() == 4


def test_renewed_signatures_are_asked_of_nobody_where_the_old_ones_are_over(
    desk: Desk, world: World, tmp_path: Path
) -> None:
    desk.clock.time = EXPIRES + timedelta(days=200)
    same = world.carrier(tmp_path)
    assert desk.type("import", same).last["error"] == "Expired"
    renewed = rotated(world, SECOND, expires=EXPIRES + timedelta(days=365))
    assert desk.take(renewed.carrier(tmp_path)).code == 0
    assert "expired-accepted" not in desk.journal()


def test_the_time_of_the_newest_root_alone_counts(desk: Desk, world: World, tmp_path: Path) -> None:
    over = Generation(ROOTS, [key("release-2")], expires=PAST)
    assert desk.type("import", rotated(world, over).carrier(tmp_path)).last["error"] == "Expired"
    assert desk.root_version() == 2
    assert desk.type("import", rotated(world, over, SECOND).carrier(tmp_path)).code == 0


# --- A revoked key ----------------------------------------------------------------------------------------


def test_what_is_installed_under_a_revoked_key_is_returned_to_and_not_brought_in_again(
    world: World, tmp_path: Path
) -> None:
    world = running_world()
    desk = Desk(tmp_path / "banip")
    desk.adopt(world)
    first = world.carrier(tmp_path)
    desk.install(first)
    second = rotated(world)
    desk.server.state.accept_roots([second.root(2)])
    desk.install(second.carrier(tmp_path))
    assert desk.type("rollback").code == 0
    assert (desk.now, desk.answers) == (world.release.id, world.release.id)
    # its own medium is older than the revocation; with the roots added, its signature counts no more
    assert desk.type("import", first).code == 12
    again = world.next(counter=world.counter)
    again.rotate(SECOND, signers=[key("release-1")])
    assert desk.type("import", again.carrier(tmp_path)).code == 10
    # the same content signed anew is what repairs it
    again.signers = [key("release-2")]
    assert desk.type("import", again.carrier(tmp_path)).code == 0


# --- Another first root -----------------------------------------------------------------------------------


@pytest.fixture
def other(world: World) -> World:
    """The same product after its custodians lost their keys: another first root, the counter goes on."""
    strangers = Generation([key("new-1"), key("new-2")], [key("new-release")])
    return world.next(version="9.0.0", generations=[strangers], signers=[key("new-release")], counter=7)


def digits(world: World) -> str:
    return name_of(world.root(1))[:16]


def test_another_first_root_is_refused_until_its_digits_are_typed(
    desk: Desk, world: World, other: World, tmp_path: Path
) -> None:
    desk.pyz = other
    before = desk.holds()
    assert desk.type("import", other.carrier(tmp_path)).code == 10
    refused = desk.type("adopt")
    assert (refused.code, refused.last["where"]) == (10, name_of(world.root(1)))
    assert name_of(other.root(1))[:8] not in str(refused.lines), "the digits stand on the paper alone"
    for wrong in (digits(world), digits(other)[:15], digits(other) + "0", ""):
        assert desk.type("adopt", "--replace-trust", wrong).code == 2
    assert desk.holds() == before
    assert desk.journal()[-6:] == ["refused"] * 6
    words = f" {digits(other)[:8].upper()} {digits(other)[8:]} "
    assert desk.type("adopt", "--replace-trust", words).last["result"] == {"replaced": name_of(world.root(1))}
    assert desk.journal()[-2:] == ["trust-replaced", "adopted"]
    assert desk.type("import", other.carrier(tmp_path)).code == 0


def test_after_that_the_former_keys_bring_nothing_in_and_the_floor_stays(
    desk: Desk, world: World, other: World, tmp_path: Path
) -> None:
    desk.pyz = other
    assert desk.type("adopt", "--replace-trust", digits(other)).code == 0
    assert desk.type("import", world.next(counter=50).carrier(tmp_path)).code == 10
    for counter, code in ((4, 10), (5, 10), (6, 0)):
        other.counter = counter
        assert desk.type("import", other.carrier(tmp_path)).code == code
    (desk.server.state.folder / "counter.json").unlink()
    other.counter = 4
    assert desk.type("import", other.carrier(tmp_path)).code == 10, "the release folder knows it too"


def test_releases_from_before_are_upgraded_from_and_returned_to(tmp_path: Path, other: World) -> None:
    world = running_world()
    desk = Desk(tmp_path / "banip")
    desk.adopt(world)
    desk.install(world.carrier(tmp_path))
    other.files, other.wheels = world.files, world.wheels
    desk.pyz = other
    assert desk.type("adopt", "--replace-trust", digits(other)).code == 0
    assert desk.type("status").last["result"]["release"] == world.release.id
    desk.install(other.carrier(tmp_path))
    assert desk.type("rollback").code == 0
    assert (desk.now, desk.answers) == (world.release.id, world.release.id)


def test_it_is_shown_for_ever_after(desk: Desk, world: World, other: World, tmp_path: Path) -> None:
    assert desk.type("status").last["result"]["replaced"] == []
    desk.pyz = other
    desk.type("adopt", "--replace-trust", digits(other))
    desk.take(other.carrier(tmp_path))
    former = name_of(world.root(1))
    for command in ("status", "inventory"):
        (told,) = desk.type(command).last["result"]["replaced"]
        assert (told["former"], told["at"]) == (former, "2026-06-01T00:00:00Z")
    assert product.state(desk.server).replaced == (f"2026-06-01T00:00:00Z {former}",)
    journal = desk.server.state.folder / "journal"
    journal.write_bytes(journal.read_bytes().replace(b"trust-replaced", b"nothing-at-all", 1))
    assert desk.type("adopt").code == 0  # sets the damaged journal aside
    for command in ("status", "inventory"):
        (told,) = desk.type(command).last["result"]["replaced"]
        assert (told["former"], told["at"]) == (former, None)
    assert product.state(desk.server).replaced == (former,)


def test_going_back_to_a_former_root_forgets_no_revocation(
    desk: Desk, world: World, other: World, tmp_path: Path
) -> None:
    desk.take(rotated(world).carrier(tmp_path))
    shutil.rmtree(desk.server.releases)  # no other memory
    for at_hand in (other, world):
        desk.pyz = at_hand
        assert desk.type("adopt", "--replace-trust", digits(at_hand)).code == 0
    assert desk.root_version() == 2
    revoked = rotated(world, counter=9)
    revoked.signers = [key("release-1")]
    assert desk.type("import", revoked.carrier(tmp_path)).code == 10


def test_a_person_at_a_terminal_is_asked_for_the_digits(desk: Desk, other: World) -> None:
    desk.pyz = other
    asked: list[str] = []

    def answer(question: str) -> str:
        asked.append(question)
        return digits(other)

    session = desk.session(answer)
    assert session.first_contact is not None
    session.adopt(session.first_contact, None)
    assert len(asked) == 1
    assert "from the paper" in asked[0]
    assert desk.journal()[-2:] == ["trust-replaced", "adopted"]


def test_where_state_is_lost_the_release_folders_still_tell_whom_this_server_trusted(
    desk: Desk, world: World, other: World, tmp_path: Path
) -> None:
    shutil.rmtree(desk.server.state.folder)
    desk.pyz = other
    assert desk.type("import", other.carrier(tmp_path)).code == 10
    assert desk.type("adopt").code == 10
    assert desk.server.state.trust() is None
    desk.pyz = world
    assert desk.type("import", world.next(version="2.0.0").carrier(tmp_path)).code == 0


def test_a_replacement_that_was_cut_off_trusts_nobody_until_it_is_run_again(
    desk: Desk, world: World, other: World
) -> None:
    desk.pyz = other
    desk.type("adopt", "--replace-trust", digits(other))
    (desk.server.state.folder / "binding.json").unlink()  # it is written last
    (desk.server.state.folder / "counter.json").unlink()
    for at_hand in (world, other):
        desk.pyz = at_hand
        assert desk.type("status").code == 11
    assert desk.type("adopt").code == 0
    assert desk.trust().root == other.root(1)


def test_adopting_the_same_root_again_asks_nothing_and_keeps_what_is_sound(
    desk: Desk, world: World, tmp_path: Path
) -> None:
    after = rotated(world, SECOND, Generation(ROOTS, [key("release-3")]))
    desk.type("import", after.carrier(tmp_path))
    (desk.server.state.folder / "roots" / "3.root.json").write_bytes(b"")
    desk.pyz = world
    assert desk.type("status").code == 11
    assert desk.type("adopt").last["result"] == {"replaced": None}
    assert desk.root_version() == 2
    assert "trust-replaced" not in desk.journal()


def test_a_first_root_that_cannot_be_read_is_compared_with_the_release_folders(
    desk: Desk, world: World, other: World
) -> None:
    (desk.server.state.folder / "roots" / "1.root.json").write_bytes(bytes(64))
    desk.pyz = other
    assert desk.type("adopt").code == 10
    desk.pyz = world
    assert desk.type("adopt").code == 0
    (desk.server.state.folder / "roots" / "1.root.json").write_bytes(bytes(64))
    shutil.rmtree(desk.server.releases)
    assert desk.type("adopt").code == 10, "nothing tells any more whose it was"
    assert desk.type("adopt", "--replace-trust", digits(world)).code == 0


def test_former_roots_load_what_is_installed_and_never_judge_a_bundle(
    desk: Desk, world: World, other: World, tmp_path: Path
) -> None:
    desk.pyz = other
    desk.type("adopt", "--replace-trust", digits(other))
    former = desk.server.state.folder / "former" / name_of(world.root(1))
    assert Chain(former).sound() == [world.root(1)]
    assert {path.stat().st_mode & 0o777 for path in (former.parent, former)} == {0o700}
    assert load(desk.server, world.release.id, desk.trust()).release == world.release
    assert desk.type("verify", world.next(counter=50).carrier(tmp_path)).code == 10
    shutil.rmtree(former)
    assert desk.type("status").code == 10, "a folder proves nothing by itself"
