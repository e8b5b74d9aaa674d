"""The medium: whatever is cut, flipped, added, left out or swapped is refused, and with the right code."""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import (
    BadInput,
    BanipError,
    Incomplete,
    Tampered,
    UnfitServer,
    UnreadableMedium,
    Untrusted,
)
from appliance.format import (
    END_OF_CARRIER,
    ROOTS_MAX,
    Blob,
    blob_member,
    format_line,
    member_header,
    padding_bytes,
    sha256_hex,
)
from appliance.media import open_carrier, room_bytes
from appliance.pieces import PIECE_BYTES
from appliance.text import text
from appliance.verify import verify
from tests.world import NOW, Generation, Member, World, key

if TYPE_CHECKING:
    from collections.abc import Callable

REFUSED = {Untrusted.exit_code, Tampered.exit_code, Incomplete.exit_code, UnfitServer.exit_code}


@pytest.fixture
def world() -> World:
    return World()


def cross(path: Path, world: World) -> dict[str, bytes]:
    """Judge a carrier to the end, as an import does; return the blobs that are what was signed."""
    with open_carrier(path) as carrier:
        bundle = verify(carrier, world.trust(site=world.site), reference_time=NOW)
        carrier.check_layout(bundle.release)
        contents = {blob.sha256: b"".join(carrier.blob(blob)) for blob in bundle.release.blobs}
    for sha256, data in contents.items():
        if sha256_hex(data) != sha256:
            raise Tampered(text("a blob has another digest"))  # what the store says of it
    return contents


def refusal(path: Path, world: World) -> BanipError:
    with pytest.raises(BanipError) as caught:
        cross(path, world)
    return caught.value


# --- what passes


def test_a_whole_carrier_gives_its_metadata_and_its_blobs(world: World, tmp_path: Path) -> None:
    world.files["models/tiny/empty"] = b""
    world.files["models/tiny/block"] = bytes(512)
    assert cross(world.carrier(tmp_path), world) == world.blobs


def test_a_large_blob_comes_in_pieces_and_the_metadata_costs_kilobytes(world: World, tmp_path: Path) -> None:
    world.grow()
    large = Blob(
        sha256=sha256_hex(world.files["models/tiny/large.bin"]),
        size_bytes=len(world.files["models/tiny/large.bin"]),
    )
    with open_carrier(world.carrier(tmp_path)) as carrier:
        bundle = verify(carrier, world.trust(), reference_time=NOW)
        carrier.check_layout(bundle.release)
        assert carrier.bytes_read < 64 * 1024
        before = carrier.bytes_read
        pieces = list(carrier.blob(large))
        read = carrier.bytes_read - before
    assert {len(piece) for piece in pieces[:-1]} == {PIECE_BYTES}
    assert b"".join(pieces) == world.files["models/tiny/large.bin"]
    assert read == large.size_bytes


def test_a_carrier_with_as_many_roots_as_allowed_passes_and_one_more_does_not(
    world: World, tmp_path: Path
) -> None:
    keys = world.generations[0]
    for _ in range(ROOTS_MAX - 1):
        world.rotate(Generation(keys.root_keys, keys.release_keys))
    assert cross(world.carrier(tmp_path), world)
    world.rotate(Generation(keys.root_keys, keys.release_keys))
    assert isinstance(refusal(world.carrier(tmp_path), world), Tampered)


def test_metadata_may_be_asked_for_again(world: World, tmp_path: Path) -> None:
    with open_carrier(world.carrier(tmp_path)) as carrier:
        first = verify(carrier, world.trust(), reference_time=NOW)
        assert verify(carrier, world.trust(), reference_time=NOW).release == first.release


def test_a_blob_is_not_given_out_before_the_layout_was_checked(world: World, tmp_path: Path) -> None:
    with open_carrier(world.carrier(tmp_path)) as carrier, pytest.raises(KeyError):
        next(carrier.blob(world.release.blobs[0]))


def test_a_blob_of_more_than_8_gib_is_found_behind_its_longer_header(world: World, tmp_path: Path) -> None:
    first = world.release.blobs[0]
    huge = Blob(sha256=first.sha256, size_bytes=9 * 2**30 + 1)
    world.fields = {"blobs": (huge, *world.release.blobs[1:])}
    path = tmp_path / "huge.tar"
    members = {member.name: member for member in world.members()}
    with path.open("wb") as file:
        for name, member in members.items():
            if name == blob_member(huge.sha256):
                file.write(member_header(name, huge.size_bytes) + b"begin")
                file.seek(huge.size_bytes - len(b"begin") + padding_bytes(huge.size_bytes), os.SEEK_CUR)
            else:
                file.write(bytes(member))
        file.write(END_OF_CARRIER)
    assert len(member_header(blob_member(huge.sha256), huge.size_bytes)) == 3 * 512
    with open_carrier(path) as carrier:
        carrier.target("release.json", len(world.release_json))
        carrier.target("chunks.bin", 0)
        carrier.check_layout(world.release)
        assert next(carrier.blob(huge)).startswith(b"begin")
        assert b"".join(carrier.blob(world.release.blobs[1])) == world.blobs[world.release.blobs[1].sha256]


# --- one flipped byte in each kind of member

SIGNATURE, STRUCTURE, PAYLOAD = -20, 0, 40
FLIPS: dict[str, tuple[str, str, int, type[BanipError]]] = {
    "format line: the word": ("format", "content", 0, Untrusted),
    "format line: the number": ("format", "content", len(format_line()) - 2, UnfitServer),
    "format header": ("format", "header", 0, Untrusted),
    "format padding": ("format", "padding", 3, Tampered),
    "first root: structure": ("root/1.json", "content", STRUCTURE, Untrusted),
    "first root: payload": ("root/1.json", "content", PAYLOAD, Untrusted),
    "first root: signature": ("root/1.json", "content", SIGNATURE, Untrusted),
    "first root: header": ("root/1.json", "header", 140, Tampered),
    "first root: size": ("root/1.json", "header", 134, Tampered),
    "first root: name": ("root/1.json", "header", 3, Tampered),
    "first root: padding": ("root/1.json", "padding", 0, Tampered),
    "second root: structure": ("root/2.json", "content", STRUCTURE, Untrusted),
    "second root: payload": ("root/2.json", "content", PAYLOAD, Untrusted),
    "second root: signature": ("root/2.json", "content", SIGNATURE, Untrusted),
    "second root: header": ("root/2.json", "header", 300, Tampered),
    "targets: structure": ("targets.json", "content", STRUCTURE, Untrusted),
    "targets: payload": ("targets.json", "content", PAYLOAD, Untrusted),
    "targets: signature": ("targets.json", "content", SIGNATURE, Untrusted),
    "targets: header": ("targets.json", "header", 150, Tampered),
    "targets: padding": ("targets.json", "padding", 1, Tampered),
    "room": ("room", "content", 20_000, Tampered),
    "room: header": ("room", "header", 500, Tampered),
    "release.json": ("release.json", "content", 100, Tampered),
    "release.json: header": ("release.json", "header", 108, Tampered),
    "release.json: padding": ("release.json", "padding", 0, Tampered),
    "chunks.bin": ("chunks.bin", "content", 33, Tampered),
    "chunks.bin: header": ("chunks.bin", "header", 156, Tampered),
    "chunks.bin: padding": ("chunks.bin", "padding", -1, Tampered),
}


@pytest.mark.parametrize("place", FLIPS)
def test_one_flipped_byte_is_refused(world: World, tmp_path: Path, place: str) -> None:
    name, part, offset, kind = FLIPS[place]
    if name == "chunks.bin":
        world.grow()
    world.rotate(Generation([key("root-1"), key("root-2")], [key("release-2")]))
    assert cross(world.carrier(tmp_path), world)
    world.mutate(name, offset, flip=2, part=part)
    assert type(refusal(world.carrier(tmp_path), world)) is kind


@pytest.mark.parametrize(("part", "offset"), [("header", 0), ("header", 128), ("content", 2), ("padding", 9)])
@pytest.mark.parametrize("number", [0, 2, -1])
def test_one_flipped_byte_at_a_blob_is_tampering(
    world: World, tmp_path: Path, number: int, part: str, offset: int
) -> None:
    world.mutate(blob_member(world.release.blobs[number].sha256), offset, part=part)
    assert isinstance(refusal(world.carrier(tmp_path), world), Tampered)


@pytest.mark.parametrize("offset", [0, 511, 512, 1023])
def test_one_flipped_byte_in_the_end_is_tampering(world: World, tmp_path: Path, offset: int) -> None:
    world.tail = bytes(offset) + b"\x01" + bytes(1023 - offset)
    assert isinstance(refusal(world.carrier(tmp_path), world), Tampered)


# --- any flipped byte, any cut


@cache
def built() -> tuple[World, bytes, int]:
    """A world of two roots, its carrier, and the size of its head (all before the first blob)."""
    world = World()
    world.rotate(Generation([key("root-1"), key("root-2")], [key("release-2")]))
    head = sum(len(bytes(member)) for member in world.members() if not member.name.startswith("blobs/"))
    return world, world.carrier_bytes(), head


def offsets() -> st.SearchStrategy[int]:
    """Offsets of a carrier, each member as likely as another though the room is most of the bytes."""
    world, _, _ = built()
    found, start = [], 0
    for member in [*world.members(), Member("end", b"", END_OF_CARRIER, b"")]:
        found.append(st.integers(start, start + len(bytes(member)) - 1))
        start += len(bytes(member))
    return st.one_of(found)


def seen_of(changed: bytes) -> BanipError:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "changed.tar"
        path.write_bytes(changed)
        return refusal(path, built()[0])


@settings(max_examples=250)
@given(offset=offsets(), flip=st.integers(1, 255))
def test_any_one_changed_byte_anywhere_is_refused(offset: int, flip: int) -> None:
    changed = bytearray(built()[1])
    changed[offset] ^= flip
    assert seen_of(bytes(changed)).exit_code in REFUSED


@settings(max_examples=120)
@given(offset=offsets())
def test_a_carrier_cut_anywhere_is_incomplete(offset: int) -> None:
    seen = seen_of(built()[1][:offset])
    assert seen.exit_code == Incomplete.exit_code
    assert "ends too early" in str(seen)


@settings(max_examples=60)
@given(offset=offsets(), more=st.binary(min_size=1, max_size=2000))
def test_bytes_put_in_anywhere_are_refused(offset: int, more: bytes) -> None:
    whole = built()[1]
    changed = whole[:offset] + more + whole[offset:]
    if changed != whole:
        assert seen_of(changed).exit_code in REFUSED


@settings(max_examples=60)
@given(noise=st.binary(max_size=3000))
def test_noise_is_refused(noise: bytes) -> None:
    assert seen_of(noise).exit_code in REFUSED


def boundaries() -> list[int]:
    found = [0]
    for member in built()[0].members():
        found.append(found[-1] + len(bytes(member)))
    return [*found, found[-1] + 512]


@pytest.mark.parametrize("number", range(len(World().members()) + 3))
def test_a_carrier_cut_at_a_member_is_incomplete_and_says_how_much_is_missing(number: int) -> None:
    whole, head = built()[1:]
    cut = boundaries()[number]
    seen = seen_of(whole[:cut])
    assert isinstance(seen, Incomplete)
    missing = int(str(seen.happened.values["count"]))
    assert missing == len(whole) - cut if cut >= head else missing >= 1


# --- members missing, extra, twice, in another order


def edited(world: World, tmp_path: Path, edit: Callable[[list[Member]], list[Member]]) -> BanipError:
    world.rotate(Generation([key("root-1"), key("root-2")], [key("release-2")]))
    world.change_members = edit
    return refusal(world.carrier(tmp_path), world)


MEMBERS = [member.name for member in World().members()]


@pytest.mark.parametrize("number", range(1, len(MEMBERS) + 1))
def test_a_missing_member_is_incomplete_and_is_named(world: World, tmp_path: Path, number: int) -> None:
    missing: list[str] = []

    def leave_out(members: list[Member]) -> list[Member]:
        missing.append(members.pop(number).name)
        return members

    seen = edited(world, tmp_path, leave_out)
    if missing == ["root/2.json"]:  # nothing says that there was to be a second root: its key is unknown then
        assert isinstance(seen, Untrusted)
    else:
        assert type(seen) is Incomplete
        assert missing[0] in f"{seen.where} {seen.expected}"


def test_a_carrier_that_does_not_begin_with_its_format_is_no_bundle(world: World, tmp_path: Path) -> None:
    assert isinstance(edited(world, tmp_path, lambda members: members[1:]), Untrusted)


def test_several_missing_blobs_are_all_counted(world: World, tmp_path: Path) -> None:
    seen = edited(world, tmp_path, lambda members: [*members[:8], *members[11:]])
    assert isinstance(seen, Incomplete)
    assert seen.happened.values["count"] == 3
    assert str(seen.expected).count("blobs/") == 3


@pytest.mark.parametrize(
    "name", ["extra", "root/3.json", "targets.json", "room", "blobs/sha256/" + "0" * 64, "../x"]
)
@pytest.mark.parametrize("number", range(len(MEMBERS) + 2))
def test_an_extra_member_is_refused_wherever_it_stands(
    world: World, tmp_path: Path, number: int, name: str
) -> None:
    extra = Member.of(name, b"{}")
    seen = edited(world, tmp_path, lambda members: [*members[:number], extra, *members[number:]])
    assert seen.exit_code in {Untrusted.exit_code, Tampered.exit_code, Incomplete.exit_code}


def test_an_extra_member_at_the_end_is_tampering(world: World, tmp_path: Path) -> None:
    seen = edited(world, tmp_path, lambda members: [*members, Member.of("extra", b"")])
    assert isinstance(seen, Tampered)
    assert "more in it" in str(seen)


@pytest.mark.parametrize("number", range(len(MEMBERS) + 1))
def test_a_member_twice_is_refused(world: World, tmp_path: Path, number: int) -> None:
    seen = edited(world, tmp_path, lambda members: [*members[: number + 1], *members[number:]])
    assert seen.exit_code in {Untrusted.exit_code, Tampered.exit_code, Incomplete.exit_code}


@pytest.mark.parametrize("first", range(len(MEMBERS)))
def test_two_members_swapped_are_refused(world: World, tmp_path: Path, first: int) -> None:
    def swap(members: list[Member]) -> list[Member]:
        members[first], members[first + 1] = members[first + 1], members[first]
        return members

    seen = edited(world, tmp_path, swap)
    assert seen.exit_code in {Untrusted.exit_code, Tampered.exit_code, Incomplete.exit_code}


def test_two_blobs_swapped_are_tampering_for_none_is_missing(world: World, tmp_path: Path) -> None:
    seen = edited(world, tmp_path, lambda members: [*members[:8], members[9], members[8], *members[10:]])
    assert isinstance(seen, Tampered)


@pytest.mark.parametrize("more", [b"\x00", b"x", bytes(512), END_OF_CARRIER, bytes(10240)])
def test_bytes_after_the_end_are_tampering(world: World, tmp_path: Path, more: bytes) -> None:
    world.tail += more
    assert isinstance(refusal(world.carrier(tmp_path), world), Tampered)


@pytest.mark.parametrize("size", [0, 511, 32 * 1024 + 512])
def test_a_room_of_another_size_is_tampering(world: World, tmp_path: Path, size: int) -> None:
    assert room_bytes(world.targets) != size

    def resize(members: list[Member]) -> list[Member]:
        return [Member.of("room", bytes(size)) if member.name == "room" else member for member in members]

    assert isinstance(edited(world, tmp_path, resize), Tampered)


def test_signatures_that_outgrow_their_room_are_untrusted(world: World, tmp_path: Path) -> None:
    world.signers = [key(f"stranger-{number}") for number in range(200)]
    assert room_bytes(world.targets) < 0
    world.change_members = None
    targets = world.targets
    members = [
        Member.of("format", format_line()),
        Member.of("root/1.json", world.root(1)),
        Member.of("targets.json", targets),
        Member.of("room", b""),
    ]
    path = tmp_path / "signed.tar"
    path.write_bytes(b"".join(map(bytes, members)) + END_OF_CARRIER)
    assert isinstance(refusal(path, world), Untrusted)


def test_an_envelope_of_more_than_1_mib_is_not_even_read(world: World, tmp_path: Path) -> None:
    world.change_members = lambda members: [
        members[0],
        Member.of("root/1.json", b" " * (2**20 + 1)),
        *members[2:],
    ]
    path = world.carrier(tmp_path)
    assert isinstance(refusal(path, world), Tampered)
    with open_carrier(path) as carrier:
        with pytest.raises(Tampered):
            carrier.envelopes()
        assert carrier.bytes_read < 4096


@pytest.mark.parametrize("line", [b"banip bundle format 2; bridge 1.9.0\n", b"banip bundle format 12\n"])
def test_a_newer_format_finds_the_server_unfit_and_names_the_bridge(
    world: World, tmp_path: Path, line: bytes
) -> None:
    seen = edited(world, tmp_path, lambda members: [Member.of("format", line), *members[1:]])
    assert isinstance(seen, UnfitServer)
    assert ("1.9.0" in str(seen.remedy)) == (b"1.9.0" in line)


@pytest.mark.parametrize(
    "line",
    [b"banip bundle format 1; bridge 1.9.0\n", b"banip bundle format 01\n", b"", b"x" * 513, b"\xff" * 30],
)
def test_another_format_line_is_untrusted(world: World, tmp_path: Path, line: bytes) -> None:
    seen = edited(world, tmp_path, lambda members: [Member.of("format", line), *members[1:]])
    assert isinstance(seen, Untrusted)


# --- the file itself


def test_what_is_no_regular_file_is_bad_input(world: World, tmp_path: Path) -> None:
    carrier = world.carrier(tmp_path)
    link, pipe = tmp_path / "link.tar", tmp_path / "pipe.tar"
    link.symlink_to(carrier)
    os.mkfifo(pipe)
    for path in (link, pipe, tmp_path, tmp_path / "absent.tar", carrier / "below", Path("/dev/null")):
        with pytest.raises(BadInput), open_carrier(path):
            pass


def test_an_empty_file_is_incomplete_and_a_letter_is_no_bundle(world: World, tmp_path: Path) -> None:
    path = tmp_path / "file.tar"
    path.write_bytes(b"")
    assert isinstance(refusal(path, world), Incomplete)
    path.write_bytes(b"Dear operator,\n")
    assert isinstance(refusal(path, world), Untrusted)


def test_a_medium_that_fails_to_read_is_unreadable_and_the_offset_is_named() -> None:
    # A regular file whose first bytes the kernel refuses with EIO: this process's own unmapped memory.
    with open_carrier(Path("/proc/self/mem")) as carrier, pytest.raises(UnreadableMedium) as caught:
        carrier.envelopes()
    assert caught.value.exit_code == 13
    assert "byte 0" in str(caught.value.where)
    assert "Input/output error" in str(caught.value.seen)


def test_a_carrier_that_shrinks_while_it_is_read_is_incomplete(world: World, tmp_path: Path) -> None:
    world.files["models/tiny/block"] = bytes(512)  # it has no padding whose absence would tell
    path = world.carrier(tmp_path)
    with open_carrier(path) as carrier:
        bundle = verify(carrier, world.trust(), reference_time=NOW)
        carrier.check_layout(bundle.release)
        os.truncate(path, 30_000)
        for blob in bundle.release.blobs:
            with pytest.raises(Incomplete):
                list(carrier.blob(blob))


def test_no_descriptor_stays_open(world: World, tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    path = world.carrier(tmp_path)
    with pytest.raises(RuntimeError), open_carrier(path):
        raise RuntimeError
    assert len(list(Path("/proc/self/fd").iterdir())) == before
