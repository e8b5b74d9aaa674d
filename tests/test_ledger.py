"""The ledger: a counter belongs to one release for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.errors import AlreadyRunning, BadInput, Incomplete, Tampered
from bundle.folder import locked
from bundle.keys import create, show
from bundle.ledger import NAME, Entry, intend, read_ledger
from tests.world import NOW, ROOT_EXPIRES, key

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create(
        tmp_path / "keys",
        "demo",
        passphrase=b"",
        expires=ROOT_EXPIRES,
        root_keys=0,
        root_threshold=1,
        release_keys=0,
        custodians=[key("root-1").public_key],
        releasers=[key("release-1").public_key],
    )
    return tmp_path / "keys"


def entry(counter: int, digit: str = "a") -> Entry:
    return Entry(counter=counter, release=f"demo-1.0.{counter}-c{counter}", release_sha256=digit * 64, at=NOW)


def test_a_counter_is_written_down_once_and_the_same_release_may_be_signed_again(folder: Path) -> None:
    assert read_ledger(folder).entries == ()
    assert intend(folder, entry(3), "demo") is None
    before = (folder / NAME).read_bytes()
    assert intend(folder, entry(3), "demo") is None
    assert (folder / NAME).read_bytes() == before
    assert (folder / NAME).stat().st_mode & 0o777 == 0o600
    assert show(folder).highest == entry(3)


def test_another_release_under_a_used_counter_is_refused_with_a_remedy(folder: Path) -> None:
    intend(folder, entry(3))
    before = (folder / NAME).read_bytes()
    with pytest.raises(BadInput, match="counter 3") as caught:
        intend(folder, entry(3, "b"))
    assert (caught.value.expected, caught.value.seen) == ("a" * 64, "b" * 64)
    assert "raise the counter" in str(caught.value.remedy)
    assert caught.value.exit_code == 2
    assert (folder / NAME).read_bytes() == before


def test_a_lower_counter_is_told_of_the_highest(folder: Path) -> None:
    intend(folder, entry(2))
    intend(folder, entry(7))
    assert intend(folder, entry(5)) == entry(7)
    assert intend(folder, entry(8)) is None
    assert [each.counter for each in read_ledger(folder).entries] == [2, 5, 7, 8]


def test_the_ledger_of_another_product_is_not_written(folder: Path) -> None:
    with pytest.raises(BadInput, match="another product"):
        intend(folder, entry(1), "other")
    assert not (folder / NAME).exists()


def test_a_damaged_ledger_stops_signing(folder: Path) -> None:
    intend(folder, entry(1))
    (folder / NAME).write_bytes((folder / NAME).read_bytes()[:-5])
    with pytest.raises(Tampered):
        intend(folder, entry(2))


def test_two_runs_do_not_write_one_ledger(folder: Path) -> None:
    with locked(folder), pytest.raises(AlreadyRunning):
        intend(folder, entry(1))


def test_a_folder_that_is_none_has_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(Incomplete):
        intend(tmp_path, entry(1))
