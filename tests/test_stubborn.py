"""A file on a medium that fails: tried three times, and given up as a whole only when nothing answers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.errors import UnreadableMedium
from appliance.stubborn import PAUSES_S, StubbornFile, open_stubbornly

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def unreadable() -> Iterator[int]:
    """Open a file of which the kernel gives nothing but EIO: this process's memory where there is none."""
    descriptor = os.open("/proc/self/mem", os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def test_a_read_that_fails_is_tried_twice_more_with_rests_between(unreadable: int) -> None:
    rests = list[float]()
    file = StubbornFile(Path("usb"), unreadable, 4096, rests.append)
    with pytest.raises(UnreadableMedium) as caught:
        file.read(7, 100)
    assert rests == list(PAUSES_S)
    assert file.retries == len(PAUSES_S)
    assert "byte 7" in str(caught.value.where)
    assert "Input/output error" in str(caught.value.seen)


def test_a_medium_that_answers_nowhere_is_gone_and_not_asked_for_ever(unreadable: int) -> None:
    rests = list[float]()
    file = StubbornFile(Path("usb"), unreadable, 4096, rests.append)
    for number in range(20):
        with pytest.raises(UnreadableMedium) as caught:
            file.read(number, 1)
    assert file.gone
    assert len(rests) == 8 * len(PAUSES_S)
    assert "pulled out" in str(caught.value.seen)


def test_a_medium_that_answers_elsewhere_is_asked_on(unreadable: int) -> None:
    # The probes go to eighths of the size given here; one of them is memory of ours.
    lines = Path("/proc/self/maps").read_text().splitlines()
    start = next(int(line.split("-")[0], 16) for line in lines if " r" in line)
    file = StubbornFile(Path("usb"), unreadable, start * 8, lambda _: None)
    for number in range(20):
        with pytest.raises(UnreadableMedium):
            file.read(number, 1)
    assert not file.gone


def test_bytes_and_the_end_of_a_good_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(range(100)))
    with open_stubbornly(tmp_path / "file") as file:
        assert (file.size_bytes, file.path) == (100, tmp_path / "file")
        assert file.read(90, 50) == bytes(range(90, 100))
        assert file.read(200, 5) == b""
        assert (file.bytes_read, file.retries, file.gone) == (10, 0, False)
