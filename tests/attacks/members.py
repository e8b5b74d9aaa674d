"""Members flipped, cut, left out, added, doubled, swapped; releases mixed; what is no bundle at all."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import tarfile
import zipfile
from typing import TYPE_CHECKING

from appliance.format import blob_member, format_line
from tests.attacks import rows
from tests.attacks.corpus import (
    ATTACKS,
    Scene,
    attack,
    attacks,
    edit,
    generation,
    put,
    whole_world,
)
from tests.world import Member, World, key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


#: The members of the scene's bundle; blobs by their place.
HEAD = ("format", "root/1.json", "root/2.json", "targets.json", "room", "release.json", "chunks.bin")
LAST = len(whole_world().members()) - 1

# --- Flips: each kind of member, in header, content and padding

Place = tuple[str, str, int]
FORMAT_FLIPS: dict[str, Place] = {
    "a flipped byte in the format line": ("format", "content", 3),
    "a flipped byte in the header of the format line": ("format", "header", 60),
}
SIGNED_FLIPS: dict[str, Place] = {
    f"a flipped byte in the {part} of {member}": (member, "content", offset)
    for member in ("root/1.json", "root/2.json", "targets.json")
    for part, offset in (("structure", 0), ("payload", 60), ("last signature", -20))
}
FRAME_FLIPS: dict[str, Place] = {
    **{f"a flipped byte in the name in the header of {member}": (member, "header", 2) for member in HEAD[1:]},
    **{
        f"a flipped byte in the size in the header of {member}": (member, "header", 133)
        for member in HEAD[1:]
    },
    **{
        f"a flipped byte in the {part} of the header of release.json": ("release.json", "header", offset)
        for part, offset in {
            "mode": 104,
            "owner": 112,
            "time": 140,
            "checksum": 150,
            "type": 156,
            "magic": 257,
            "prefix": 400,
            "unused end": 511,
        }.items()
    },
    "a flipped byte in the padding of the format line": ("format", "padding", 0),
    "a flipped byte in the padding of root/2.json": ("root/2.json", "padding", 0),
    "a flipped byte in the padding of targets.json": ("targets.json", "padding", -1),
    "a flipped byte in the padding of release.json": ("release.json", "padding", 0),
    "a flipped byte in the room": ("room", "content", 12_345),
}


@attacks(10, rows.NO_BUNDLE, FORMAT_FLIPS)
@attacks(10, rows.FLIPPED_SIGNED, SIGNED_FLIPS)
@attacks(11, rows.FLIPPED_FRAME, FRAME_FLIPS)
def _flipped(scene: Scene, place: Place) -> None:
    member, part, offset = place
    scene.world.mutate(member, offset, flip=2, part=part)


@attack(11, rows.FLIPPED_METADATA)
def a_flipped_byte_in_release_json(scene: Scene) -> None:
    scene.world.mutate("release.json", 100)


@attack(11, rows.FLIPPED_METADATA)
def a_flipped_byte_in_chunks_bin(scene: Scene) -> None:
    scene.world.grow()
    scene.world.mutate("chunks.bin", 33)


@attacks(
    11,
    rows.FLIPPED_FRAME,
    {
        "a flipped byte in the header of the first blob": ("header", 100, 0),
        "a flipped byte in the header of the last blob": ("header", 124, -1),
    },
)
def _flipped_blob_frame(scene: Scene, place: tuple[str, int, int]) -> None:
    part, offset, number = place
    scene.world.mutate(blob_member(scene.world.release.blobs[number].sha256), offset, part=part)


@attacks(
    11,
    rows.FLIPPED_FRAME,
    {
        "a flipped byte in the first of the end blocks": 0,
        "a flipped byte in the last of the end blocks": 1023,
    },
)
def _flipped_end(scene: Scene, offset: int) -> None:
    scene.world.tail = bytes(offset) + b"\x02" + bytes(1023 - offset)


# --- Truncation, at and inside every member


def _start(members: list[Member], number: int) -> int:
    return sum(len(bytes(member)) for member in members[:number])


def _cut(scene: Scene, offset: int) -> Path:
    return scene.lay(scene.world.carrier_bytes()[:offset])


NUMBERED = {**dict(enumerate(HEAD)), len(HEAD): "the first blob", LAST: "the last blob"}


@attacks(12, rows.MISSING, {f"a bundle cut right before {name}": number for number, name in NUMBERED.items()})
def _cut_before(scene: Scene, number: int) -> Path:
    return _cut(scene, _start(scene.world.members(), number))


@attacks(12, rows.MISSING, {f"a bundle cut inside the header of {name}": n for n, name in NUMBERED.items()})
def _cut_inside_the_header(scene: Scene, number: int) -> Path:
    return _cut(scene, _start(scene.world.members(), number) + 200)


@attacks(
    12,
    rows.MISSING,
    {f"a bundle cut inside {name}": n for n, name in NUMBERED.items() if name != "chunks.bin"},
)
def _cut_inside(scene: Scene, number: int) -> Path:
    return _cut(scene, _start(scene.world.members(), number) + 512 + 5)


@attacks(12, rows.MISSING, {"a bundle cut before its end": 1024, "a bundle cut inside its end": 512 + 7})
def _cut_at_the_end(scene: Scene, count: int) -> Path:
    return _cut(scene, len(scene.world.carrier_bytes()) - count)


# --- Members left out


@attacks(12, rows.MISSING, {f"{name} is left out": name for name in HEAD[3:]})
def _left_out(scene: Scene, name: str) -> None:
    edit(scene.world, lambda members: [member for member in members if member.name != name])


@attacks(12, rows.MISSING, {"the first blob is left out": len(HEAD), "the last blob is left out": LAST})
def _blob_left_out(scene: Scene, number: int) -> None:
    edit(scene.world, lambda members: [*members[:number], *members[number + 1 :]])


@attack(12, rows.MISSING)
def every_blob_is_left_out(scene: Scene) -> None:
    edit(scene.world, lambda members: members[: len(HEAD)])


@attack(12, rows.MISSING)
def no_root_at_all(scene: Scene) -> None:
    edit(scene.world, lambda members: [one for one in members if not one.name.startswith("root/")])


@attack(10, rows.NO_BUNDLE)
def the_format_line_is_left_out(scene: Scene) -> None:
    edit(scene.world, lambda members: members[1:])


@attack(12, rows.FEWER_ROOTS)
def the_newest_root_is_left_out(scene: Scene) -> None:
    edit(scene.world, lambda members: [one for one in members if one.name != "root/2.json"])


# --- Members too many, twice, or in another order


@attacks(11, rows.ADDED, {f"{name} stands twice": number for number, name in NUMBERED.items()})
def _twice(scene: Scene, number: int) -> None:
    edit(scene.world, lambda members: [*members[: number + 1], *members[number:]])


@attacks(
    11,
    rows.ADDED,
    {
        "a foreign member after the format line": 1,
        "a foreign member before the targets": 3,
        "a foreign member before the first blob": len(HEAD),
        "a foreign member between blobs": LAST,
        "a foreign member after the last blob": LAST + 1,
    },
)
def _extra(scene: Scene, number: int) -> None:
    extra = Member.of("playbooks/roles/evil/tasks/main.yml", b"- ansible.builtin.command: evil\n")
    edit(scene.world, lambda members: [*members[:number], extra, *members[number:]])


@attack(11, rows.ADDED)
def a_blob_that_the_release_does_not_name(scene: Scene) -> None:
    extra = Member.of(blob_member("0" * 64), b"evil")
    edit(scene.world, lambda members: [*members[: len(HEAD)], extra, *members[len(HEAD) :]])


@attack(11, rows.ADDED)
def two_blobs_swapped(scene: Scene) -> None:
    first = len(HEAD)
    edit(scene.world, lambda each: [*each[:first], each[first + 1], each[first], *each[first + 2 :]])


@attack(12, rows.MISSING)
def the_room_before_the_targets(scene: Scene) -> None:
    edit(scene.world, lambda each: [*each[:3], each[4], each[3], *each[5:]])


@attacks(
    11,
    rows.ADDED,
    {
        "one zero byte after the end": b"\0",
        "a third zero block after the end": bytes(512),
        "zeros up to a tape's record after the end": bytes(10_240 - 1024),
        "a whole second bundle after the end": whole_world().carrier_bytes(),
    },
)
def _after_the_end(scene: Scene, more: bytes) -> None:
    scene.world.tail += more


@attack(11, rows.ADDED)
def a_second_bundle_in_the_place_of_the_end(scene: Scene) -> None:
    scene.world.tail = whole_world().carrier_bytes()


# --- Releases mixed


def _other() -> World:
    """Return another good release of the same supplier under another number."""
    other = whole_world().next(version="4.0.0")
    other.files["models/tiny/weights.bin"] = b"\xff" * 1280
    return other


@attack(12, rows.MISSING)
def the_head_of_one_release_with_fewer_blobs_of_another(scene: Scene) -> Path:
    ours, theirs = scene.world.members(), _other().members()
    shared = {member.name for member in ours}
    mixed = [*ours[: len(HEAD)], *(one for one in theirs[len(HEAD) :] if one.name in shared)]
    return scene.lay(b"".join(map(bytes, mixed)) + scene.world.tail)


@attack(11, rows.ADDED)
def the_head_of_one_release_with_the_blobs_of_another(scene: Scene) -> Path:
    other = _other()
    other.files["models/tiny/weights.bin"] *= 3
    mixed = [*scene.world.members()[: len(HEAD)], *other.members()[len(HEAD) :]]
    return scene.lay(b"".join(map(bytes, mixed)) + scene.world.tail)


@attack(11, rows.FLIPPED_METADATA)
def the_targets_of_one_release_with_release_json_of_another(scene: Scene) -> None:
    put(scene.world, "release.json", _other().release_json)


@attack(11, rows.FLIPPED_METADATA)
def chunks_bin_of_another_release(scene: Scene) -> None:
    scene.world.grow()
    other = whole_world()
    other.grow()
    other.files["models/tiny/large.bin"] = other.files["models/tiny/large.bin"][::-1]
    put(scene.world, "chunks.bin", other.chunks_bin)


@attack(10, rows.SIGNERS)
def the_targets_of_another_product_of_the_same_shape(scene: Scene) -> None:
    other = World(generations=[generation(("other-1", "other-2"))], expires=LATER_OF_OTHER)
    other.signers = [key("other-1"), key("other-2")]
    put(scene.world, "targets.json", other.targets)


LATER_OF_OTHER = whole_world().expires

# --- What is no bundle, or none for this version of the appliance


@attacks(
    20,
    rows.NEWER,
    {
        "a newer format that names its bridge": b"banip bundle format 2; bridge 1.9.0\n",
        "a newer format that names no bridge": b"banip bundle format 12\n",
    },
)
@attacks(
    10,
    rows.NO_BUNDLE,
    {
        "a format of no number": b"banip bundle format one\n",
        "a format with a leading zero": b"banip bundle format 01\n",
        "a format of many digits": b"banip bundle format " + b"9" * 400 + b"\n",
        "a bridge that steers the terminal": b"banip bundle format 2; bridge \x1b]0;evil\x07\n",
        "our own format with a bridge": b"banip bundle format 1; bridge 9.9.9\n",
        "an empty format line": b"",
        "a format line of more than a block": format_line() * 30,
    },
)
def _format_line(scene: Scene, line: bytes) -> None:
    put(scene.world, "format", line)


def _packed_tar(members: dict[str, bytes]) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return whole.getvalue()


def _packed_zip(members: dict[str, bytes]) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return whole.getvalue()


EVIL = {"../../etc/cron.d/evil": b"* * * * * root evil\n"}
FOREIGN: dict[str, Callable[[bytes], bytes]] = {
    "a tar of somebody else's that climbs out": lambda _: _packed_tar(EVIL),
    "a zip": lambda _: _packed_zip(EVIL),
    "a bundle packed by gzip": gzip.compress,
    "a bundle packed by xz": lzma.compress,
    "a gzip bomb": lambda _: gzip.compress(bytes(64 * 2**20)),
    "a bundle with a byte before it": lambda whole: b"\0" + whole,
    "a text": lambda _: b"Dear operator,\nplease install this.\n" * 40,
    "zeros": lambda _: bytes(10_240),
}


@attacks(10, rows.NO_BUNDLE, FOREIGN)
def _foreign(scene: Scene, change: Callable[[bytes], bytes]) -> Path:
    return scene.lay(change(scene.world.carrier_bytes()))


@attack(12, rows.MISSING)
def an_empty_file(scene: Scene) -> Path:
    return scene.lay(b"")


# --- The file that is named

INSTEAD: dict[str, Callable[[Path, Path], object]] = {
    "a link to a good bundle": lambda path, good: path.symlink_to(good),
    "a link that leads nowhere": lambda path, good: path.symlink_to(good / "x"),
    "a link to itself": lambda path, _: path.symlink_to(path),
    "a named pipe": lambda path, _: os.mkfifo(path),
    "a folder": lambda path, _: path.mkdir(),
    "a link to a device": lambda path, _: path.symlink_to("/dev/zero"),
}


@attacks(2, rows.NO_FILE, INSTEAD)
def _instead(scene: Scene, lay: Callable[[Path, Path], object]) -> Path:
    path = scene.medium / "bundle.tar"
    lay(path, scene.world.carrier(scene.medium))
    return path


@attack(2, rows.NO_FILE)
def a_device(scene: Scene) -> Path:
    assert scene.medium.exists()
    return scene.medium.joinpath("/dev/zero")


FILE_NAMES = {
    "named to steer the terminal": "\x1b]0;evil\x07\x1b[2J\x9b2J.tar",
    "named to be read from right to left": "demo-\u202erat.0.0.3.tar",
    "named with a remedy of its own": "demo\n  \uc870\uce58: sh evil\u2028.tar",
    "named in no UTF-8": "\udcff\udcfe.tar",
    "named with what formats text": "{name}%s\\x1b.tar",
    "named with 255 letters": "x" * 251 + ".tar",
}


@attacks(11, rows.ADDED, {f"a bundle {defect}, and longer": name for defect, name in FILE_NAMES.items()})
def _named(scene: Scene, name: str) -> Path:
    """Give it a defect whose place is the whole file, so that its name is said."""
    return scene.lay(scene.world.carrier_bytes() + b"x").rename(scene.medium / name)


@attack(13, rows.UNREADABLE)
def a_medium_that_answers_with_errors(scene: Scene) -> Path:
    """A regular file whose first bytes the kernel refuses with EIO: this process's own unmapped memory."""
    return scene.medium.joinpath("/proc/self/mem")


# --- A server that cannot take it


def _target(**changes: str) -> dict[str, str]:
    return {"os": "debian-12", "architecture": "x86_64", "python": "3.11", **changes}


@attacks(
    20,
    rows.UNFIT,
    {
        "for another operating system": _target(os="plan-9"),
        "for a Python that is not here": _target(python="3.99"),
    },
    commands=("preflight", "install"),
)
def _for_another_server(scene: Scene, target: dict[str, str]) -> None:
    scene.world.change_release = lambda release: release.update(target=target)


assert ATTACKS
