"""Chunks: judged on all cores, against signed digests alone, and named so that just they can be sent."""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from appliance.chunks import (
    Chunk,
    Fault,
    Progress,
    Tally,
    chunks_of,
    judge,
    missing_of,
    refusal,
    unread,
    uses_of,
    wrong,
)
from appliance.errors import Incomplete, Tampered, UnreadableMedium
from appliance.format import CHUNK_BYTES, Blob, Image, Package, ReleaseFile, chunk_count, sha256_hex
from appliance.text import text
from tests.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = sha256_hex(b"some blob")


def pieces(number: int) -> bytes:
    return b"chunk %d" % number


def chunks(count: int) -> tuple[Chunk, ...]:
    """Chunks whose signed content is a word, wherever they claim to lie."""
    blob = Blob(sha256=NAME, size_bytes=count * CHUNK_BYTES)
    return chunks_of(blob, [hashlib.sha256(pieces(number)).digest() for number in range(count)])


@given(size=some.integers(0, 5 * CHUNK_BYTES))
def test_the_chunks_of_a_blob_are_all_of_it_once(size: int) -> None:
    found = chunks_of(Blob(sha256=NAME, size_bytes=size), [bytes(32)] * chunk_count(size))
    assert [chunk.number for chunk in found] == list(range(len(found)))
    assert (found[0].start, found[-1].end) == (0, size)
    assert all(one.end == two.start for one, two in itertools.pairwise(found))
    assert all(chunk.end - chunk.start <= CHUNK_BYTES for chunk in found)


def test_a_blob_without_chunk_digests_is_judged_by_its_name() -> None:
    (chunk,) = chunks_of(Blob(sha256=NAME, size_bytes=9), ())
    assert judge([chunk], lambda _: [b"some", b" blob"]) == ()
    assert judge([chunk], lambda _: [b"some", b" blub"]) == (wrong(chunk),)


def test_every_fault_is_found_and_they_come_in_order() -> None:
    several = chunks(200)
    bad = {3, 77, 78, 199}
    found = judge(several, lambda chunk: [b"?" if chunk.number in bad else pieces(chunk.number)])
    assert [fault.chunk.number for fault in found] == sorted(bad)
    assert not any(fault.unreadable for fault in found)


def test_what_cannot_be_read_is_a_fault_and_the_rest_is_judged() -> None:
    errors = {
        1: UnreadableMedium(text("the medium does not give its bytes"), seen="no"),
        2: Incomplete(text("the bundle ends too early")),
        3: OSError(5, "Input/output error"),
    }

    def read(chunk: Chunk) -> Iterator[bytes]:
        if chunk.number in errors:
            raise errors[chunk.number]
        yield pieces(chunk.number)

    found = judge(chunks(6), read)
    assert [(fault.chunk.number, fault.unreadable) for fault in found] == [(1, True), (2, True), (3, True)]
    assert "Input/output error" in str(found[2].seen)


def test_our_own_bug_is_not_taken_for_a_fault() -> None:
    def read(chunk: Chunk) -> Iterator[bytes]:
        if chunk.number == 5:
            raise ZeroDivisionError
        yield pieces(chunk.number)

    with pytest.raises(ZeroDivisionError):
        judge(chunks(50), read)


def test_chunks_are_read_by_several_threads_where_there_are_cores() -> None:
    threads = set()
    both = threading.Barrier(min(2, len(os.sched_getaffinity(0))))

    def read(chunk: Chunk) -> Iterator[bytes]:
        threads.add(threading.get_ident())
        if chunk.number < both.parties:
            both.wait(timeout=60)  # the first two wait for each other: one thread would wait for ever
        yield pieces(chunk.number)

    assert judge(chunks(20), read) == ()
    assert len(threads) >= both.parties


def test_progress_never_passes_its_end() -> None:
    seen = list[Progress]()
    tally = Tally(10, seen.append)
    for _ in range(4):
        tally.add(NAME, 4)
    assert [one.bytes_done for one in seen] == [4, 8, 10, 10]


def test_neighbours_are_asked_for_as_one_range() -> None:
    several = chunks(9)
    broken = UnreadableMedium(text("the medium does not give its bytes"), seen="no")
    faults = [unread(several[number], broken) for number in (0, 1, 2, 5, 8)]
    (missing,) = missing_of(faults, {NAME: ["models/a", "models/b"]})
    ranges = ((0, 3), (5, 6), (8, 9))
    assert missing.ranges == tuple((start * CHUNK_BYTES, end * CHUNK_BYTES) for start, end in ranges)
    words = str(missing.describe())
    assert f"blob {NAME}, chunk 0-2, 5, 8, bytes 0-{3 * CHUNK_BYTES - 1}, " in words
    assert "of models/a, models/b: " in words


def test_wrong_and_unreadable_are_told_apart_and_wrong_decides() -> None:
    world, several = World(), chunks(3)
    broken = unread(several[0], UnreadableMedium(text("the medium does not give its bytes"), seen="no"))
    assert [one.unreadable for one in missing_of([broken, wrong(several[1])], {})] == [False, True]
    assert type(refusal([broken], world.release, text("ask"))) is UnreadableMedium
    assert type(refusal([broken, wrong(several[1])], world.release, text("ask"))) is Tampered


def test_a_fault_can_be_told_when_it_occurs() -> None:
    event = Fault(chunks(2)[1], unreadable=True, seen=text("no")).event()
    assert (event.name, event.facts) == ("fault", {"blob": NAME, "chunk": 1, "unreadable": True})


def test_uses_are_named_as_people_know_them() -> None:
    world = World()
    deb, layer = sha256_hex(b"deb"), sha256_hex(b"layer")
    package = Package(name="nginx", version="1:1.22", architecture="amd64", sha256=deb)
    config = world.files["models/tiny/config.json"]
    release = world.release
    release = msgspec.structs.replace(
        release,
        blobs=tuple(
            sorted(
                (*release.blobs, Blob(sha256=deb, size_bytes=3), Blob(sha256=layer, size_bytes=5)),
                key=lambda blob: blob.sha256,
            )
        ),
        files=(
            *release.files,
            ReleaseFile(path=package.path, sha256=deb),
            ReleaseFile(path="packages/Packages", sha256=sha256_hex(config)),
        ),
        packages=(package,),
        images=(Image(name="guide", reference="x", manifest=sha256_hex(config), blobs=(layer,)),),
    )
    uses = uses_of(release)
    assert uses[deb] == ["package nginx 1:1.22"]
    assert uses[layer] == ["image guide"]
    assert uses[sha256_hex(config)] == ["models/tiny/config.json", "packages/Packages", "image guide"]
    assert "wheel api-1.0-py3-none-any.whl" in uses[sha256_hex(b"another wheel")]
