"""Layers: what they unpack to, learnt piece by piece, as Python's own gzip reads them; and its record."""

from __future__ import annotations

import gzip
import hashlib
import io
import tracemalloc
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given
from hypothesis import strategies as some

from appliance.errors import Tampered
from appliance.format import Blob
from bundle.layers import Layers, Unpacked, Unpacking

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

TAR = b"".join(hashlib.sha256(bytes([number])).digest() * 100 for number in range(80))
MIB = 1024 * 1024


@dataclass(frozen=True)
class Member:
    """One member of a gzip file, and the zeros behind it."""

    content: bytes
    level: int
    name: str
    zeros: int

    def packed(self) -> bytes:
        whole = io.BytesIO()
        with gzip.GzipFile(self.name, "wb", self.level, whole, mtime=1) as file:
            file.write(self.content)
        return whole.getvalue() + bytes(self.zeros)


CONTENTS = some.one_of(
    some.binary(max_size=300),
    some.builds(lambda content, times: content * times, some.binary(max_size=50), some.integers(0, 3000)),
)
MEMBERS = some.builds(
    Member, CONTENTS, some.integers(0, 9), some.sampled_from(["", "layer.tar"]), some.integers(0, 3)
)
FILES = some.lists(MEMBERS, min_size=1, max_size=5).map(
    lambda members: b"".join(member.packed() for member in members)
)


def by_gzip(packed: bytes) -> Unpacked | None:
    """Return what Python's gzip makes of a whole file."""
    content = packed
    if packed.startswith(b"\x1f\x8b"):
        try:
            content = gzip.GzipFile(fileobj=io.BytesIO(packed)).read()
        except (EOFError, gzip.BadGzipFile, zlib.error):
            return None
    return Unpacked(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))


def by_pieces(pieces: Iterable[bytes]) -> Unpacked | None:
    unpacking = Unpacking()
    for piece in pieces:
        unpacking.update(piece)
    return unpacking.unpacked()


def cut(whole: bytes, size_bytes: int) -> Iterator[bytes]:
    return (whole[start : start + size_bytes] for start in range(0, len(whole), size_bytes))


@given(FILES, some.integers(1, 5000))
def test_members_are_unpacked_as_gzip_does_it_however_they_arrive(packed: bytes, size_bytes: int) -> None:
    wanted = by_gzip(packed)
    assert wanted is not None
    assert by_pieces(cut(packed, size_bytes)) == wanted == by_pieces([packed])


@given(FILES, some.data(), some.integers(1, 5000))
def test_a_file_that_ends_too_early_has_no_tar(packed: bytes, data: some.DataObject, size_bytes: int) -> None:
    ends = data.draw(some.integers(0, len(packed)))
    assert by_pieces(cut(packed[:ends], size_bytes)) == by_gzip(packed[:ends])


@given(FILES, some.binary(min_size=1, max_size=40), some.integers(1, 5000))
def test_what_is_no_member_behind_members_leaves_no_tar(packed: bytes, more: bytes, size_bytes: int) -> None:
    assume(not more.lstrip(b"\0").startswith(b"\x1f\x8b\x08"))
    garbage = packed + more
    assert by_pieces(cut(garbage, size_bytes)) == by_gzip(garbage)
    assert (by_gzip(garbage) is None) == (more.strip(b"\0") != b"")


@given(FILES, some.data(), some.integers(1, 255))
def test_a_changed_byte_never_gives_another_tar(packed: bytes, data: some.DataObject, change: int) -> None:
    place = data.draw(some.integers(2, len(packed) - 1))
    changed = bytearray(packed)
    changed[place] ^= change
    assert by_pieces([bytes(changed)]) in {None, by_gzip(bytes(changed))}, (
        "zlib may be stricter, never looser"
    )


@given(some.binary(max_size=3000), some.integers(1, 500))
def test_what_is_not_packed_is_its_own_tar(content: bytes, size_bytes: int) -> None:
    assume(not content.startswith(b"\x1f\x8b"))
    wanted = Unpacked(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
    assert by_pieces(cut(content, size_bytes)) == wanted


def test_zstd_is_no_packing_that_is_undone() -> None:
    packed = b"\x28\xb5\x2f\xfd" + bytes(100)
    found = by_pieces([packed])
    assert found is not None
    assert found.diff_id == f"sha256:{hashlib.sha256(packed).hexdigest()}", "which no config names"


def test_a_bomb_takes_little_memory() -> None:
    packer = zlib.compressobj(9, wbits=31)
    packed = b"".join(packer.compress(bytes(MIB)) for _ in range(64)) + packer.flush()
    assert len(packed) < MIB
    tracemalloc.start()
    try:
        found = by_pieces([packed])
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found is not None
    assert found.size_bytes == 64 * MIB
    assert peak_bytes < 8 * MIB


# --- What is remembered -----------------------------------------------------------------------------------


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    return Layers(tmp_path / "layers")


def layer_in(folder: Path, content: bytes) -> tuple[Blob, Path]:
    path = folder / "layer"
    path.write_bytes(content)
    return Blob(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content)), path


def test_a_layer_is_read_once_and_remembered(layers: Layers, tmp_path: Path) -> None:
    blob, path = layer_in(tmp_path, gzip.compress(TAR))
    assert layers.find(blob.sha256) is None
    found = layers.learn(blob, path)
    assert found == Unpacked(sha256=hashlib.sha256(TAR).hexdigest(), size_bytes=len(TAR))
    path.unlink()
    assert layers.find(blob.sha256) == found
    assert [each.name for each in (tmp_path / "layers").iterdir()] == [f"{blob.sha256}.json"]


def test_a_layer_that_does_not_unpack_is_not_remembered(layers: Layers, tmp_path: Path) -> None:
    blob, path = layer_in(tmp_path, gzip.compress(TAR)[:-1])
    assert layers.learn(blob, path) is None
    assert layers.find(blob.sha256) is None


def test_a_layer_that_changed_in_the_store_is_refused_and_not_remembered(
    layers: Layers, tmp_path: Path
) -> None:
    blob, path = layer_in(tmp_path, TAR)
    path.write_bytes(b"?" + TAR[1:])
    with pytest.raises(Tampered, match="not what its name says"):
        layers.learn(blob, path)
    assert layers.find(blob.sha256) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[:-3],
        lambda _: b"",
        lambda _: b"\xff\xfe",
        lambda raw: raw.replace(b'"format":1', b'"format":2'),
        lambda raw: raw.replace(b'"layer":"', b'"layer":"X'),
        lambda raw: raw.replace(b'"size_bytes":', b'"size_bytes":-'),
        lambda raw: raw.replace(b'"size_bytes"', b'"more":1,"size_bytes"'),
    ],
)
def test_a_record_that_cannot_be_understood_is_none(layers: Layers, tmp_path: Path, damage: object) -> None:
    assert callable(damage)
    blob, path = layer_in(tmp_path, TAR)
    found = layers.learn(blob, path)
    record = tmp_path / "layers" / f"{blob.sha256}.json"
    raw = record.read_bytes()
    assert damage(raw) != raw
    record.write_bytes(damage(raw))
    assert layers.find(blob.sha256) is None
    assert layers.learn(blob, path) == found == layers.find(blob.sha256)


def test_the_record_of_another_layer_under_a_layers_name_is_none(layers: Layers, tmp_path: Path) -> None:
    blob, path = layer_in(tmp_path, TAR)
    layers.learn(blob, path)
    folder = tmp_path / "layers"
    (folder / f"{blob.sha256}.json").rename(folder / f"{'0' * 64}.json")
    assert layers.find("0" * 64) is None
