"""Sizes that lie, and bombs: what claims to be small, or is large, must cost neither memory nor disk."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from appliance.format import (
    BLOCK_BYTES,
    CHUNKS_TARGET,
    END_OF_CARRIER,
    ROOTS_MAX,
    TARGETS_MEMBER,
    Blob,
    blob_member,
    chunk_count,
    member_header,
    padding_bytes,
    sha256_hex,
)
from tests.attacks import rows
from tests.attacks.corpus import RELEASE_KEYS, Scene, attack, attacks, edit, first_blob, generation, put
from tests.attacks.names import extended, header, pax
from tests.world import Member

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GIB = 2**30

# --- Headers


def _base_256(size: int) -> bytes:
    return b"\x80" + size.to_bytes(11, "big")


SPELLINGS: dict[str, Callable[[int], bytes]] = {
    "a size of one byte less": lambda size: b"%011o\0" % (size - 1),
    "a size of one byte more": lambda size: b"%011o\0" % (size + 1),
    "a size of nothing": lambda _: b"%011o\0" % 0,
    "a size of all that twelve octal digits hold": lambda _: b"777777777777",
    "a size of 8 GiB less one": lambda _: b"77777777777\0",
    "a size in base 256": _base_256,
    "a negative size in base 256": lambda size: b"\xff" + (-size).to_bytes(11, "big", signed=True),
    "a size of 2 to the 80th in base 256": lambda _: _base_256(2**80),
    "a size with a space in the place of the NUL": lambda size: b"%011o " % size,
    "a size without zeros before it": lambda size: b"%o\0" % size,
    "a size with spaces before it": lambda size: (b"%o" % size).rjust(11) + b"\0",
    "a size with digits that are not octal": lambda size: b"%011d\0" % (size - size % 10 + 9),
    "a size with a plus before it": lambda size: b"+%010o\0" % size,
    "a size below zero": lambda size: b"-%010o\0" % size,
    "a size with an underscore": lambda size: b"0_%09o\0" % size,
    "a size with a prefix": lambda size: b"0o%09o\0" % size,
    "a size of letters": lambda _: b"evil evil e\0",
}


@attacks(11, rows.OTHER_SIZE, {f"{name} at a blob": spell for name, spell in SPELLINGS.items()})
def _blob_size(scene: Scene, spell: Callable[[int], bytes]) -> None:
    _resized(scene, first_blob(scene.world), spell)


@attacks(
    11,
    rows.OTHER_SIZE,
    {
        f"{name} at {member}": (member, SPELLINGS[name])
        for member in ("targets.json", "room", "release.json", "chunks.bin")
        for name in ("a size in base 256", "a size with a space in the place of the NUL")
    },
)
@attacks(
    11,
    rows.OTHER_SIZE,
    {
        f"{name} at release.json": ("release.json", SPELLINGS[name])
        for name in ("a size of one byte less", "a size of one byte more", "a size of 8 GiB less one")
    },
)
def _metadata_size(scene: Scene, place: tuple[str, Callable[[int], bytes]]) -> None:
    _resized(scene, *place)


def _resized(scene: Scene, name: str, spell: Callable[[int], bytes]) -> None:
    def changed(member: Member) -> Member:
        field = spell(len(member.content))
        other = header(name.encode(), len(member.content), size=field.ljust(12, b"\0"))
        assert other != member.header
        return Member(name, other, member.content, member.padding)

    edit(scene.world, lambda each: [changed(one) if one.name == name else one for one in each])


@attack(11, rows.OTHER_SIZE)
def a_room_of_nothing(scene: Scene) -> None:
    put(scene.world, "room", b"")


@attack(11, rows.OTHER_SIZE)
def a_room_of_a_block_more(scene: Scene) -> None:
    room = next(member for member in scene.world.members() if member.name == "room")
    put(scene.world, "room", room.content + bytes(512))


# --- Sizes that are signed


@attacks(
    11,
    rows.OTHER_SIZE,
    {"a signed size of a byte less than the blob": -1, "a signed size of a block more than the blob": 512},
)
def _signed_size(scene: Scene, more: int) -> None:
    _sign_sizes(scene, lambda size: size + more)


@attack(11, rows.BAD_CHUNKS)
def a_signed_size_of_eight_pebibytes(scene: Scene) -> None:
    """Its chunk table would have a billion digests, and is not there."""
    _sign_sizes(scene, lambda _: 2**53)


def _sign_sizes(scene: Scene, change: Callable[[int], int]) -> None:
    """Let the release state another size for its first blob; the medium has a header that agrees with it."""
    name = scene.world.release.blobs[0].sha256

    def state(release: dict[str, Any]) -> None:
        release["blobs"][0]["size_bytes"] = change(release["blobs"][0]["size_bytes"])

    scene.world.change_release = state

    def agreed(member: Member) -> Member:
        size = change(len(member.content))
        return Member(member.name, member_header(member.name, size), member.content, member.padding)

    edit(scene.world, lambda all_: [agreed(one) if one.name == blob_member(name) else one for one in all_])


# --- Blobs of more than 8 GiB, whose size stands in a pax header: sparse, so they cost no disk

HUGE = 9 * GIB + 1
#: Each makes another header out of the right one: a pax header, its record, and the member's own.
PAX_HEADERS: dict[str, Callable[[bytes], bytes]] = {
    "a pax size with a zero before it": lambda right: _pax_before(right, pax(size=f"0{HUGE}")),
    "a pax size of one byte less": lambda right: _pax_before(right, pax(size=str(HUGE - 1))),
    "a pax size with a fraction": lambda right: _pax_before(right, pax(size=f"{HUGE}.0")),
    "a pax size in octal": lambda right: _pax_before(right, pax(size=f"0o{HUGE:o}")),
    "a pax size with digits of another script": lambda right: _pax_before(right, pax(size="\uff19" * 10)),
    "a pax size twice": lambda right: _pax_before(right, pax(size="1") + pax(size=str(HUGE))),
    "a pax size beside a path": lambda right: _pax_before(right, pax(path="../../evil", size=str(HUGE))),
    "a pax size beside a comment": lambda right: _pax_before(right, pax(comment="x", size=str(HUGE))),
    "a pax record whose length lies": lambda right: _pax_before(right, b"99 size=%d\n" % HUGE),
    "a pax size for all that follows": lambda right: _pax_before(right, pax(size=str(HUGE)), b"g"),
    "a base-256 size in the place of a pax header": lambda right: header(
        right[-BLOCK_BYTES:][:100].rstrip(b"\0"), 0, size=_base_256(HUGE)
    ),
    "a pax header after its member": lambda right: right[-BLOCK_BYTES:] + right[:-BLOCK_BYTES],
    "a pax header twice": lambda right: right[:-BLOCK_BYTES] + right,
    "no pax header": lambda right: right[-BLOCK_BYTES:],
}


def _pax_before(right: bytes, records: bytes, kind: bytes = b"x") -> bytes:
    return extended(kind, records, b"././@PaxHeader") + right[-BLOCK_BYTES:]


@attacks(11, rows.OTHER_SIZE, {f"{name}, at a blob of 9 GiB": make for name, make in PAX_HEADERS.items()})
def _huge(scene: Scene, make: Callable[[bytes], bytes]) -> Path:
    return _with_a_huge_blob(scene, make)


@attack(12, rows.MISSING)
def a_blob_of_9_gib_that_ends_early(scene: Scene) -> Path:
    return _with_a_huge_blob(scene, bytes, cut=GIB)


def _with_a_huge_blob(scene: Scene, make: Callable[[bytes], bytes], cut: int | None = None) -> Path:
    """Write a bundle whose first blob has 9 GiB of hole, signed as it is, behind a header of ``make``."""
    world = scene.world
    first, *rest = world.release.blobs
    world.fields = {"blobs": (Blob(sha256=first.sha256, size_bytes=HUGE), *rest)}
    _sign_chunks(scene, bytes(32 * chunk_count(HUGE)))
    path = scene.lay(b"")
    with path.open("wb") as file:
        for member in world.members():
            if member.name != blob_member(first.sha256):
                file.write(bytes(member))
                continue
            right = member_header(member.name, HUGE)
            assert cut is not None or make(right) != right
            file.write(make(right))
            file.seek(HUGE + padding_bytes(HUGE), os.SEEK_CUR)
        file.write(END_OF_CARRIER)
        if cut is not None:
            file.truncate(cut)
    return path


# --- chunks.bin


@attacks(
    11,
    rows.BAD_CHUNKS,
    {
        "a chunk table of one digest less": -32,
        "a chunk table of one byte less": -1,
        "a chunk table of one byte more": 1,
        "a chunk table of one digest more": 32,
    },
)
def _chunks(scene: Scene, more: int) -> None:
    scene.world.grow()
    right = scene.world.chunks_bin
    _sign_chunks(scene, (right + bytes(32))[: len(right) + more])


@attack(11, rows.BAD_CHUNKS)
def a_chunk_table_for_blobs_that_have_none(scene: Scene) -> None:
    _sign_chunks(scene, bytes(64))


@attack(11, rows.BAD_CHUNKS)
def a_chunk_table_of_64_mib(scene: Scene) -> None:
    _sign_chunks(scene, bytes(2**26))


def _sign_chunks(scene: Scene, table: bytes) -> None:
    scene.world.change_targets = lambda targets: targets["targets"][CHUNKS_TARGET].update(
        length=len(table), hashes={"sha256": sha256_hex(table)}
    )
    put(scene.world, CHUNKS_TARGET, table)


# --- Bombs


@attack(10, rows.MALFORMED)
def sixty_two_roots_of_a_mebibyte_each(scene: Scene) -> None:
    junk = b'{"payload":"' + b"A" * (2**20 - 100) + b'"}'
    more = [Member.of(f"root/{version}.json", junk) for version in range(3, ROOTS_MAX + 1)]
    edit(scene.world, lambda each: [*each[:3], *more, *each[3:]])


@attack(11, rows.ADDED)
def more_roots_than_may_travel(scene: Scene) -> None:
    for _ in range(ROOTS_MAX - 1):
        scene.world.rotate(generation(RELEASE_KEYS), scene.world.signers)


@attack(10, rows.MALFORMED)
def targets_with_ten_thousand_signatures(scene: Scene) -> None:
    one = '{"keyid":"%064x","sig":"AA=="}'
    many = ",".join(one % number for number in range(9_000))
    raw = f'{{"payload":"e30=","payloadType":"application/vnd.tuf+json","signatures":[{many}]}}\n'
    put(scene.world, TARGETS_MEMBER, raw.encode())


@attack(11, rows.ADDED)
def a_tebibyte_of_nothing_after_the_end(scene: Scene) -> Path:
    path = scene.world.carrier(scene.medium)
    with path.open("r+b") as file:
        file.truncate(2**40)
    return path


@attack(11, rows.ADDED)
def a_tebibyte_of_nothing_before_the_first_blob(scene: Scene) -> Path:
    members = scene.world.members()
    place = sum(len(bytes(member)) for member in members if not member.name.startswith("blobs/"))
    path = scene.lay(scene.world.carrier_bytes()[:place])
    with path.open("r+b") as file:
        file.truncate(2**40)
    return path
