"""A plan is a value: it leads from one release to another and loses nothing on the way."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from appliance.format import Image, Owned, Package, Release, Role, sha256_hex
from appliance.journal import Entry
from appliance.plan import (
    FORWARD,
    PREPARATION,
    Assemble,
    BuildEnvironment,
    CheckHealth,
    Converge,
    Discard,
    InstallPackages,
    Keep,
    LoadImage,
    Operation,
    Plan,
    Retire,
    Switch,
    Unfinished,
    make_plan,
    make_uninstall,
    owned_by,
    plan_for,
    subtract,
    unfinished,
)
from tests.world import World

NAMES = st.sampled_from("abcd")
CONTENT = b"what a plan never looks into"
NOUNS = Owned.__struct_fields__


def a_role(name: str, letters: list[str]) -> Role:
    return Role(
        name=name,
        owns=Owned(
            units=tuple(f"banip-{letter}.service" for letter in letters),
            users=tuple(f"banip-{letter}" for letter in letters[1:]),
            paths=tuple(f"/etc/banip/{letter}" for letter in letters),
            nftables=tuple(f"banip-{letter}" for letter in letters[2:]),
        ),
    )


def a_package(name: str) -> Package:
    return Package(name=f"lib{name}", version="1", architecture="all", sha256=sha256_hex(CONTENT))


def an_image(name: str) -> Image:
    return Image(name=name, reference=f"{name}:1", manifest=sha256_hex(CONTENT), blobs=())


@st.composite
def releases(draw: st.DrawFn) -> Release:
    letters = draw(st.lists(st.lists(NAMES, unique=True), max_size=3))
    roles = tuple(a_role(f"role_{number}", each) for number, each in enumerate(letters))
    counter = draw(st.integers(1, 3))
    packages = tuple(map(a_package, draw(st.lists(NAMES, unique=True))))
    images = tuple(map(an_image, draw(st.lists(NAMES, unique=True))))
    world = World(counter=counter, version=f"{counter}.0", roles=roles)
    world.files |= {package.path: CONTENT for package in packages}
    world.files |= {"packages/Packages": CONTENT} if packages else {}
    world.files["models/layer"] = CONTENT
    world.fields = {"packages": packages, "images": images}
    return world.release


MAYBE = st.none() | releases()
OPERATIONS = st.sampled_from(["install", "upgrade", "reapply", "rollback", "return", "uninstall"])


@given(MAYBE, releases(), OPERATIONS, st.none() | st.just("demo-0.1-c0"))
def test_a_plan_to_a_release_ends_by_keeping_it(
    old: Release | None, new: Release, operation: Operation, previous: str | None
) -> None:
    plan = make_plan(old, new, operation, previous=previous)
    assert plan.steps[-1] == Keep(release=new.id, previous=previous)
    kinds = [type(step) for step in plan.steps if not isinstance(step, Retire)]
    packages = [InstallPackages] * bool(new.packages and operation in FORWARD)
    environments = [BuildEnvironment] * len(new.environments)
    images = [LoadImage] * len(new.images)
    assert kinds == [Assemble, *packages, *environments, *images, Switch, Converge, CheckHealth, Keep]
    assert all(step.release == new.id for step in plan.steps if not isinstance(step, Retire | Discard))


@given(MAYBE)
def test_a_return_to_nothing_leaves_nothing_in_use(old: Release | None) -> None:
    plan = make_plan(old, None, "return")
    assert Switch(release=None) in plan.steps
    assert (plan.new, plan.old) == (None, old.id if old else None)
    assert not any(isinstance(step, PREPARATION) for step in plan.steps)


@given(st.lists(releases(), max_size=3))
def test_an_uninstall_retires_what_any_release_on_the_disk_owns(releases: list[Release]) -> None:
    plan = make_uninstall(releases, None)
    assert plan.steps[-2:] == (Switch(release=None), Discard())
    retired = [step.owned for step in plan.steps if isinstance(step, Retire)]
    for noun in NOUNS:
        owned = {item for release in releases for item in getattr(owned_by(release), noun)}
        assert {item for one in retired for item in getattr(one, noun)} == owned


@given(MAYBE, MAYBE, OPERATIONS)
def test_exactly_what_only_the_old_release_owned_is_retired(
    old: Release | None, new: Release | None, operation: Operation
) -> None:
    plan = make_plan(old, new, operation)
    retired = [step.owned for step in plan.steps if isinstance(step, Retire)]
    for noun in NOUNS:
        gone = {name for owned in retired for name in getattr(owned, noun)}
        assert gone == set(getattr(owned_by(old), noun)) - set(getattr(owned_by(new), noun))
    assert len(retired) == (subtract(owned_by(old), owned_by(new)) != Owned())


@given(MAYBE, releases(), OPERATIONS)
def test_preparation_comes_first_and_what_is_old_goes_before_the_roles_run(
    old: Release | None, new: Release, operation: Operation
) -> None:
    steps = make_plan(old, new, operation).steps
    prepared = [isinstance(step, PREPARATION) for step in steps]
    assert prepared == sorted(prepared, reverse=True)
    retire = [number for number, step in enumerate(steps) if isinstance(step, Retire)]
    converge = next(number for number, step in enumerate(steps) if isinstance(step, Converge))
    assert all(number < converge for number in retire)


@given(MAYBE, MAYBE, OPERATIONS)
def test_no_step_stands_twice_and_the_journal_gives_back_the_same_plan(
    old: Release | None, new: Release | None, operation: Operation
) -> None:
    plan = make_plan(old, new, operation)
    assert all(step not in plan.steps[:number] for number, step in enumerate(plan.steps))
    assert msgspec.convert(msgspec.to_builtins(plan), type=Plan) == plan
    assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan


@given(releases())
def test_every_step_says_what_it_does_in_words(release: Release) -> None:
    steps = [*make_plan(None, release, "install").steps, *make_plan(release, None, "uninstall").steps]
    assert all(str(step.describe()) for step in steps)
    retire = [step for step in steps if isinstance(step, Retire)]
    count = sum(len(getattr(owned_by(release), noun)) for noun in NOUNS)
    assert all(str(count) in str(step.describe()) for step in retire)


@given(st.lists(NAMES, unique=True), st.lists(NAMES, unique=True))
def test_what_two_roles_own_is_owned_once_in_the_order_of_the_roles(
    first: list[str], second: list[str]
) -> None:
    release = World(roles=(a_role("one", first), a_role("two", second))).release
    expected = list(dict.fromkeys(f"/etc/banip/{letter}" for letter in [*first, *second]))
    assert list(owned_by(release).paths) == expected


@given(releases(), releases())
def test_no_way_back_asks_apt_for_anything(old: Release, new: Release) -> None:
    back: tuple[Operation, ...] = ("rollback", "return")
    for operation in back:
        kinds = {type(step) for step in make_plan(new, old, operation).steps}
        assert InstallPackages not in kinds
        assert (LoadImage in kinds) == bool(old.images)


def test_nothing_owns_nothing() -> None:
    assert owned_by(None) == Owned()


def test_which_operation_it_is_follows_from_what_is_installed() -> None:
    one, two = World().release, World(version="2.0.0", counter=2).release
    assert plan_for(None, one, None).operation == "install"
    again = plan_for(two, two, one.id)
    assert (again.operation, again.steps[-1]) == ("reapply", Keep(release=two.id, previous=one.id))
    upgrade = plan_for(one, two, None)
    assert (upgrade.operation, upgrade.steps[-1]) == ("upgrade", Keep(release=two.id, previous=one.id))


# --- What the journal says was left -----------------------------------------------------------------------


def entries(*events: tuple[str, dict[str, Any]]) -> list[Entry]:
    at = datetime(2026, 1, 1, tzinfo=timezone.utc)
    return [
        Entry(number=number, at=at, before="0" * 64, event=event, facts=facts)
        for number, (event, facts) in enumerate(events)
    ]


def journal_of(plan: Plan) -> list[tuple[str, dict[str, Any]]]:
    return [
        ("started", {"operation": plan.operation, "release": plan.new}),
        ("planned", {"plan": msgspec.to_builtins(plan)}),
        *[("done", {"step": number}) for number in range(len(plan.steps))],
        ("finished", {"outcome": plan.operation}),
    ]


@given(MAYBE, releases(), OPERATIONS, st.booleans())
def test_a_journal_cut_anywhere_names_the_first_step_that_is_not_done(
    old: Release | None,
    new: Release,
    operation: Operation,
    before: bool,  # noqa: FBT001 - hypothesis gives it
) -> None:
    plan = make_plan(old, new, operation)
    earlier = journal_of(make_plan(None, new, "install")) if before else []
    earlier += [("refused", {"bundle": "x.tar"}), ("imported", {"blobs_new": 1})]
    whole = journal_of(plan)
    assert unfinished(entries(*earlier)) is None
    assert unfinished(entries(*earlier, *whole)) is None
    assert unfinished(entries(*earlier, *whole[:1])) == Unfinished(operation, None, 0)
    for done in range(len(plan.steps) + 1):
        cut = [*earlier, *whole[: 2 + done]]
        assert unfinished(entries(*cut)) == Unfinished(operation, plan, done)
        assert unfinished(entries(*cut, ("refused", {}))) == Unfinished(operation, plan, done)


@given(releases(), releases(), st.data())
def test_after_a_failure_it_is_the_return_that_is_unfinished(
    old: Release, new: Release, data: st.DataObject
) -> None:
    plan, back = make_plan(old, new, "upgrade"), make_plan(new, old, "return")
    failed_at = data.draw(st.integers(0, len(plan.steps) - 1))
    done = data.draw(st.integers(0, len(back.steps)))
    whole = [
        *journal_of(plan)[: 2 + failed_at],
        ("failed", {"step": "Converge", "faults": []}),
    ]
    assert unfinished(entries(*whole)) == Unfinished("upgrade", plan, failed_at)
    returning = [*whole, *journal_of(back)[1 : 2 + done]]
    assert unfinished(entries(*returning)) == Unfinished("upgrade", back, done)
