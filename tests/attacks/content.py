"""Content that is not what was signed: found while it is read; true blobs before it may be stored by then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from appliance.format import (
    CHUNK_BYTES,
    PACKAGES_INDEX,
    Image,
    Package,
    blob_member,
    padding_bytes,
    sha256_hex,
)
from tests.attacks import rows
from tests.attacks.corpus import Scene, attack, attacks, edit
from tests.world import Member

if TYPE_CHECKING:
    from collections.abc import Callable

LARGE = "models/tiny/large.bin"


def _flip(scene: Scene, sha256: str, offset: int) -> None:
    scene.world.mutate(blob_member(sha256), offset, flip=0x80)


@attacks(
    11,
    rows.FLIPPED_BLOB,
    {
        "a flipped byte in the first blob": (0, 0),
        "a flipped byte in the middle of a blob": (2, 5),
        "a flipped byte at the end of the last blob": (-1, -1),
    },
    stores=True,
)
def _flipped_blob(scene: Scene, place: tuple[int, int]) -> None:
    number, offset = place
    _flip(scene, scene.world.release.blobs[number].sha256, offset)


@attacks(
    11,
    rows.FLIPPED_BLOB,
    {
        "a flipped byte in the first chunk of a large blob": 7,
        "a flipped byte in the second chunk of a large blob": CHUNK_BYTES + 7,
    },
    stores=True,
)
def _flipped_chunk(scene: Scene, offset: int) -> None:
    scene.world.grow()
    _flip(scene, sha256_hex(scene.world.files[LARGE]), offset)


@attacks(
    11,
    rows.FLIPPED_BLOB,
    {
        "a playbook changed on the medium": "playbooks/site.yml",
        "a bill of materials changed on the medium": "bom.cdx.json",
    },
    stores=True,
)
def _changed_file(scene: Scene, path: str) -> None:
    _flip(scene, sha256_hex(scene.world.files[path]), 1)


@attack(11, rows.FLIPPED_BLOB, stores=True)
def a_wheel_of_the_controller_changed_on_the_medium(scene: Scene) -> None:
    (wheel,) = scene.world.wheels["controller"].values()
    _flip(scene, sha256_hex(wheel), 0)


@attack(11, rows.FLIPPED_BLOB, stores=True)
def every_blob_zeroed(scene: Scene) -> None:
    def zeroed(member: Member) -> Member:
        return Member(member.name, member.header, bytes(len(member.content)), member.padding)

    edit(scene.world, lambda all_: [zeroed(one) if one.name.startswith("blobs/") else one for one in all_])


@attack(11, rows.FLIPPED_BLOB, stores=True)
def two_blobs_of_one_size_with_their_content_exchanged(scene: Scene) -> None:
    scene.world.files |= {"models/a": b"a" * 700, "models/b": b"b" * 700}
    one, other = (blob_member(sha256_hex(scene.world.files[f"models/{name}"])) for name in "ab")

    def exchanged(members: list[Member]) -> list[Member]:
        contents = {member.name: member.content for member in members}
        contents[one], contents[other] = contents[other], contents[one]
        return [Member(each.name, each.header, contents[each.name], each.padding) for each in members]

    edit(scene.world, exchanged)


@attack(11, rows.FLIPPED_FRAME)
def a_flipped_byte_in_the_padding_of_a_blob(scene: Scene) -> None:
    blob = scene.world.release.blobs[1]
    assert padding_bytes(blob.size_bytes)
    scene.world.mutate(blob_member(blob.sha256), 3, part="padding")


def _layer(scene: Scene) -> str:
    """Give the release an image of a manifest and a layer; return the layer's digest."""
    scene.world.files |= {"models/manifest": b'{"schemaVersion":2}', "models/layer": b"a layer" * 99}
    manifest, layer = (sha256_hex(scene.world.files[f"models/{name}"]) for name in ("manifest", "layer"))
    image = Image(name="guide", reference="guide:1", manifest=manifest, blobs=(layer,))
    scene.world.fields = {"images": (image,)}
    return layer


def _package(scene: Scene) -> str:
    """Give the release a package and its index; return the package's digest."""
    content = b"!<arch>\ndebian-binary   " * 9
    package = Package(name="hello", version="1.0-1", architecture="amd64", sha256=sha256_hex(content))
    scene.world.files |= {package.path: content, PACKAGES_INDEX: b"Package: hello\n"}
    scene.world.fields = {"packages": (package,)}
    return package.sha256


@attacks(
    11,
    rows.FLIPPED_PART,
    {"a layer of an image changed on the medium": _layer, "a package changed on the medium": _package},
    stores=True,
)
def _changed_part(scene: Scene, part: Callable[[Scene], str]) -> None:
    _flip(scene, part(scene), 3)


@attack(11, rows.HALF_REPOSITORY)
def a_repository_without_its_index(scene: Scene) -> None:
    _package(scene)

    def without(release: dict[str, Any]) -> None:
        release["files"] = [file for file in release["files"] if file["path"] != PACKAGES_INDEX]

    scene.world.change_release = without
