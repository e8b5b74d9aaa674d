"""Every target of the fuzzers, asked of bytes that hypothesis makes out of good ones.

Bounded and the same each time in `make test`; ``BANIP_FUZZ_EXAMPLES`` asks for more, at random (`make fuzz`).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, edits, seeds, world

pytestmark = pytest.mark.real  # no program, but thousands of examples

if TYPE_CHECKING:
    from collections.abc import Callable

ASKED = int(os.environ.get("BANIP_FUZZ_EXAMPLES", "0"))
#: A few seconds in all; these write files, which is slow.
BOUNDED = {"wheel": 40, "wheel_members": 60, "carrier": 80, "edits": 150, "release": 200}
TOKENS = [
    *(b'"', b"{", b"}", b"[", b"]", b":", b",", b"\\", b"\0", b"\n", b" ", b"=", b"==", b"/", b"..", b"../"),
    *(
        b"-0",
        b"1e400",
        b"NaN",
        b"null",
        b"true",
        b"9" * 17,
        b"9" * 5000,
        b"-1",
        b"1.0",
        b"18446744073709551616",
    ),
    *(
        b"\\u0000",
        b"\\ud800",
        b"\\n",
        b"\x1b[2J",
        b"\xe2\x80\xae",
        b"\xff",
        b'"a":1,',
        b'"a":{"a":',
        b"[" * 2000,
    ),
    *(b'"version":', b'"keyid":', b'"sig":', b'"sha256":', b'"size_bytes":', b'"_type":"root"', b'"path":'),
    *(
        b"00000000017\0",
        b"ustar\x0000",
        b"\x80\0\0\0",
        b"PK\x03\x04",
        b"PK\x05\x06",
        b"RECORD",
        b".dist-info/",
    ),
]


@st.composite
def changed(draw: st.DrawFn, good: tuple[bytes, ...]) -> bytes:
    """Return good bytes after a few cuts, copies, flips and insertions; sometimes any bytes at all."""
    data = bytearray(draw(st.sampled_from(good)))
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from((0, 1, 1, 2, 8, 64, 512))))
        piece = draw(st.sampled_from(TOKENS) | st.binary(max_size=20) | st.just(bytes(data[start:end]) * 2))
        data[start:end] = piece
    return bytes(data)


def profile(name: str) -> settings:
    """Return how much is asked of a target."""
    return settings(
        max_examples=ASKED or BOUNDED.get(name, 300),
        derandomize=not ASKED,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_kept_still_holds(name: str) -> None:
    assert seeds(name)
    for data in (*seeds(name), b"", b"\0", b"\xff" * 1024):
        TARGETS[name](data)


@pytest.mark.timeout(0 if ASKED else 120)
@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_are_refused_or_are_what_was_signed(name: str) -> None:
    check: Callable[[bytes], None] = TARGETS[name]

    @profile(name)
    @given(changed(seeds(name)) | st.binary(max_size=600))
    def ask(data: bytes) -> None:
        check(data)

    ask()


@profile("edits")
@given(st.data())
def test_any_changed_byte_before_release_json_is_refused(data: st.DataObject) -> None:
    """The strong oracle, member by member, so that the zeros of the room do not take all the places."""
    members = world().members()
    member = data.draw(st.sampled_from(range(5)))
    start = sum(len(bytes(one)) for one in members[:member])
    place = start + data.draw(st.integers(0, len(bytes(members[member])) - 1))
    flip = data.draw(st.integers(1, 255))
    edits(place.to_bytes(2, "big") + bytes([0, flip]))
