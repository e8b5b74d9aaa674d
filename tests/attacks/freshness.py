"""Releases that were good once, or elsewhere: replayed, rolled back, expired, for somebody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.attacks import rows
from tests.attacks.corpus import (
    LATER,
    LONG_AGO,
    OLD_RELEASE_KEYS,
    RELEASE_KEYS,
    Scene,
    attack,
    earlier,
    generation,
)
from tests.world import key

if TYPE_CHECKING:
    from pathlib import Path


@attack(12, rows.FEWER_ROOTS)
def the_first_release_replayed(scene: Scene) -> Path:
    """As it was carried in then: signed by keys that are revoked since, without the root that says so."""
    return scene.lay(earlier(1).carrier_bytes())


@attack(10, rows.OLDER)
def an_older_release_signed_again_under_the_newest_root(scene: Scene) -> None:
    scene.world.counter = 1


@attack(10, rows.SIGNERS)
def the_first_release_replayed_behind_todays_roots(scene: Scene) -> None:
    scene.world.counter = 1
    scene.world.signers = [key(name) for name in OLD_RELEASE_KEYS]


@attack(10, rows.OLDER)
def another_release_under_the_number_of_the_last(scene: Scene) -> None:
    scene.world.counter = 2


@attack(10, rows.OLDER)
def an_older_release_that_the_operator_says_may_be_expired(scene: Scene) -> None:
    scene.world.counter = 1
    scene.world.expires = LONG_AGO


@attack(10, rows.MALFORMED)
def a_counter_of_zero(scene: Scene) -> None:
    scene.world.counter = 0


@attack(11, rows.OTHER_NUMBER)
def an_older_release_json_under_a_new_number(scene: Scene) -> None:
    scene.world.counter = 1
    scene.world.targets_version = 9


@attack(11, rows.OTHER_NUMBER)
def a_number_in_release_json_above_the_signed_one(scene: Scene) -> None:
    scene.world.targets_version = 3
    scene.world.counter = 2**31


@attack(10, rows.ELSEWHERE)
def for_another_product(scene: Scene) -> None:
    scene.world.product = "other"


@attack(10, rows.ELSEWHERE)
def for_another_site(scene: Scene) -> None:
    scene.world.site = "busan"


@attack(10, rows.EXPIRED)
def expired_targets(scene: Scene) -> None:
    scene.world.expires = LONG_AGO


@attack(10, rows.EXPIRED, new_roots=1)
def an_expired_root(scene: Scene) -> None:
    scene.world.rotate(generation(RELEASE_KEYS, expires=LONG_AGO), scene.world.signers)


@attack(10, rows.ELSEWHERE, new_roots=1)
def for_another_product_behind_a_new_root(scene: Scene) -> None:
    scene.world.rotate(generation(RELEASE_KEYS, expires=LATER), scene.world.signers)
    scene.world.product = "other"
