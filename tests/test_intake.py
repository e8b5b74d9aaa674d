"""The import: each byte is read once, a kill costs little, and what no medium gives is asked for by name."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from functools import cache, cached_property
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from appliance.chunks import Fault, Progress, missing_of, refusal
from appliance.errors import Incomplete, Tampered, UnfitServer, UnreadableMedium
from appliance.format import CHUNK_BYTES, Blob, sha256_hex
from appliance.intake import Imported, Resumed, import_bundle
from appliance.media import open_carrier
from appliance.store import Store
from appliance.text import Text, text
from appliance.verify import verify
from tests.world import NOW, World

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from appliance.format import Release
    from appliance.verify import TrustedBundle

LARGE = "models/tiny/large.bin"
PIECE = 256 * 1024


class Medium:
    """A medium in memory: it says what was asked of it, and some places of it cannot be read.

    ``scratches``: for a blob, offsets that are never given. ``bytes_given`` counts all that left it.
    """

    def __init__(
        self, contents: Mapping[str, bytes], scratches: Mapping[str, set[int]] | None = None
    ) -> None:
        self.contents, self.scratches = dict(contents), dict(scratches or {})
        self.asked: list[tuple[str, int, int]] = []
        self.bytes_given = 0
        self.retries = 0

    def blob(self, blob: Blob, start: int, end: int, /) -> Iterator[bytes]:
        self.asked.append((blob.sha256, start, end))
        content, bad = self.contents[blob.sha256], self.scratches.get(blob.sha256, set())
        while start < end:
            stop = min(start + PIECE, end)
            if any(start <= offset < stop for offset in bad):
                self.retries += 2
                raise UnreadableMedium(
                    text("the medium does not give its bytes"), seen=os.strerror(errno.EIO)
                )
            piece = content[start:stop]
            if not piece:
                raise Incomplete(text("the bundle ends too early"))
            self.bytes_given += len(piece)
            yield piece
            start = stop

    @property
    def blobs_asked(self) -> list[str]:
        return list(dict.fromkeys(sha256 for sha256, _, _ in self.asked))


class Killed(BaseException):
    """A kill inside this process: nothing in the product may catch it and tidy up."""


class KilledMedium(Medium):
    """Ends everything after so many bytes, as a kill does."""

    def __init__(self, contents: Mapping[str, bytes], after_bytes: int) -> None:
        super().__init__(contents)
        self.after_bytes = after_bytes

    def blob(self, blob: Blob, start: int, end: int, /) -> Iterator[bytes]:
        for piece in super().blob(blob, start, end):
            if self.bytes_given > self.after_bytes:
                raise Killed
            yield piece


def flipped(content: bytes, *offsets: int) -> bytes:
    changed = bytearray(content)
    for offset in offsets:
        changed[offset] ^= 1
    return bytes(changed)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def world() -> World:
    return World()


class StillWorld(World):
    """A world that nobody changes, so that it is hashed once."""

    @cached_property
    def blobs(self) -> dict[str, bytes]:
        return super().blobs

    @cached_property
    def release(self) -> Release:
        return super().release

    @cache  # noqa: B019 - one world a module
    def trusted(self) -> TrustedBundle:
        return super().trusted()

    __hash__ = object.__hash__


@cache
def large_world() -> StillWorld:
    """Return a world with one blob of four chunks, the last one short."""
    world = StillWorld()
    world.files[LARGE] = b"".join(bytes([number]) * CHUNK_BYTES for number in range(3)) + b"the end"
    return world


@pytest.fixture
def large() -> StillWorld:
    return large_world()


def name_of(world: World, path: str = LARGE) -> str:
    return sha256_hex(world.files[path])


def bring_in(bundle: TrustedBundle, store: Store, *media: Medium, recheck: bool = False) -> Imported:
    return import_bundle(bundle, media[0], store, lambda _: None, copies=media[1:], recheck=recheck)


def parts(store: Store) -> list[str]:
    return [path.name for path in store.parts()]


def assert_whole(store: Store, world: World) -> None:
    assert store.check(lambda _: None, world.release.blobs) == ()
    assert parts(store) == []
    for sha256, content in world.blobs.items():
        assert store.path(sha256).read_bytes() == content


# --- Once -------------------------------------------------------------------------------------------------


def test_every_blob_is_read_once_and_progress_is_told(store: Store, world: World) -> None:
    world.files["models/tiny/empty"] = b""
    medium, seen = Medium(world.blobs), list[Progress | Resumed | Fault]()
    bundle = world.trusted()
    receipt = import_bundle(bundle, medium, store, seen.append)
    total = sum(map(len, world.blobs.values()))
    assert medium.blobs_asked == [sha256 for sha256 in world.blobs if sha256 != sha256_hex(b"")]
    assert (receipt.bytes_read, receipt.bytes_stored, medium.bytes_given) == (total, total, total)
    assert (receipt.blobs_new, receipt.blobs_kept, receipt.faults) == (len(world.blobs), 0, ())
    assert (receipt.bytes_resumed, receipt.retries) == (0, 0)
    last = seen[-1]
    assert isinstance(last, Progress)
    assert (last.bytes_done, last.bytes_total) == (total, total)
    assert_whole(store, world)


def test_a_large_blob_is_read_once_too(store: Store, large: StillWorld) -> None:
    medium = Medium(large.blobs)
    bring_in(large.trusted(), store, medium)
    assert medium.bytes_given == sum(map(len, large.blobs.values()))
    assert_whole(store, large)


def test_what_is_here_is_not_touched(store: Store, world: World) -> None:
    here = world.files["playbooks/site.yml"]
    store.add(Blob(sha256=sha256_hex(here), size_bytes=len(here)), [here])
    medium, bundle = Medium(world.blobs), world.trusted()
    receipt = bring_in(bundle, store, medium)
    assert sorted([*medium.blobs_asked, sha256_hex(here)]) == sorted(world.blobs)
    assert (receipt.blobs_new, receipt.blobs_kept) == (len(world.blobs) - 1, 1)
    assert receipt.bytes_read == sum(map(len, world.blobs.values())) - len(here)
    again = Medium(world.blobs)
    assert bring_in(bundle, store, again).blobs_kept == len(world.blobs)
    assert again.asked == []


def test_what_is_here_is_skipped_on_the_medium(store: Store, world: World, tmp_path: Path) -> None:
    world.grow()
    content = world.files[LARGE]
    store.add(Blob(sha256=sha256_hex(content), size_bytes=len(content)), [content])
    with open_carrier(world.carrier(tmp_path)) as carrier:
        bundle = verify(carrier, world.trust(), reference_time=NOW)
        carrier.check_layout(bundle.release)
        import_bundle(bundle, carrier, store, lambda _: None)
        assert carrier.bytes_read < 100_000 < len(content)
    assert_whole(store, world)


def test_what_is_coming_in_is_private(store: Store, world: World) -> None:
    modes = set()

    class Looking(Medium):
        def blob(self, blob: Blob, start: int, end: int, /) -> Iterator[bytes]:
            part = store.folder / "incoming" / f"{blob.sha256}.part"
            modes.add((part.stat().st_mode & 0o777, part.parent.stat().st_mode & 0o777))
            return super().blob(blob, start, end)

    bring_in(world.trusted(), store, Looking(world.blobs))
    assert modes == {(0o600, 0o700)}


# --- Killed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quarters", [1, 5, 9, 11])
def test_a_killed_import_goes_on_where_it_was(store: Store, large: StillWorld, quarters: int) -> None:
    bundle, total = large.trusted(), sum(map(len, large.blobs.values()))
    killed = KilledMedium(large.blobs, quarters * CHUNK_BYTES // 4)
    with pytest.raises(Killed):
        bring_in(bundle, store, killed)
    told = list[Progress | Resumed | Fault]()
    medium = Medium(large.blobs)
    receipt = import_bundle(bundle, medium, store, told.append)
    assert killed.bytes_given + medium.bytes_given <= total + CHUNK_BYTES
    assert medium.bytes_given == receipt.bytes_read
    assert_whole(store, large)
    resumed = [one.bytes_kept for one in told if isinstance(one, Resumed)]
    assert sum(resumed) <= receipt.bytes_resumed
    assert receipt.bytes_read + receipt.bytes_resumed <= total
    last = [one for one in told if isinstance(one, Progress)][-1]
    assert last.bytes_done == last.bytes_total


def test_small_blobs_that_wait_for_their_names_are_not_read_again(store: Store, world: World) -> None:
    for number in range(20):
        world.files[f"models/tiny/{number}"] = bytes([number]) * PIECE
    total = sum(map(len, world.blobs.values()))
    killed = KilledMedium(world.blobs, total - PIECE)
    with pytest.raises(Killed):
        bring_in(world.trusted(), store, killed)
    medium = Medium(world.blobs)
    bring_in(world.trusted(), store, medium)
    assert killed.bytes_given + medium.bytes_given <= total + 2 * PIECE
    assert_whole(store, world)


def _tear(part: Path) -> None:
    with part.open("r+b") as file:  # a power cut: the last blocks never reached the disk
        file.truncate(2 * CHUNK_BYTES + 5000)
        file.truncate(3 * CHUNK_BYTES + 2)


def _garble(part: Path) -> None:
    with part.open("r+b") as file:
        file.seek(CHUNK_BYTES + 7)
        file.write(b"garbage of another file")


def _punch(part: Path) -> None:
    content = bytearray(part.read_bytes())
    content[:CHUNK_BYTES] = bytes(CHUNK_BYTES)
    part.write_bytes(content)


def _lengthen(part: Path) -> None:
    with part.open("ab") as file:
        file.write(bytes(40 * 1024 * 1024))


def _finish_with_lies(part: Path) -> None:
    part.write_bytes(bytes([9]) * (3 * CHUNK_BYTES + 7))


def _empty(part: Path) -> None:
    part.write_bytes(b"")


def _close_to_writing(part: Path) -> None:
    part.chmod(0o444)  # killed after the mode was given and before the name


@pytest.mark.parametrize(
    ("spoil", "most_bytes"),
    [
        (_tear, 2 * CHUNK_BYTES),
        (_garble, 2 * CHUNK_BYTES),
        (_punch, 2 * CHUNK_BYTES),
        (_lengthen, CHUNK_BYTES),
        (_finish_with_lies, 4 * CHUNK_BYTES),
        (_empty, 4 * CHUNK_BYTES),
        (_close_to_writing, CHUNK_BYTES),
    ],
)
def test_a_part_is_believed_chunk_by_chunk_and_never_by_its_name(
    store: Store, large: StillWorld, spoil: object, most_bytes: int
) -> None:
    rest = sum(map(len, large.blobs.values())) - len(large.files[LARGE])
    with pytest.raises(Killed):
        bring_in(large.trusted(), store, KilledMedium({**large.blobs}, rest + 3 * CHUNK_BYTES))
    part = store.folder / "incoming" / f"{name_of(large)}.part"
    assert part.stat().st_size >= 2 * CHUNK_BYTES
    assert callable(spoil)
    spoil(part)
    medium = Medium(large.blobs)
    bring_in(large.trusted(), store, medium)
    assert medium.bytes_given <= rest + most_bytes
    assert_whole(store, large)


@given(torn=some.lists(some.tuples(some.integers(0, 3 * CHUNK_BYTES), some.binary(min_size=1, max_size=64))))
@settings(max_examples=10)
def test_whatever_became_of_a_part_the_blob_is_right(
    tmp_path_factory: pytest.TempPathFactory, torn: list[tuple[int, bytes]]
) -> None:
    world = large_world()
    store = Store(tmp_path_factory.mktemp("torn") / "store")
    store.make_folders()
    part = store.folder / "incoming" / f"{name_of(world)}.part"
    with part.open("wb") as file:
        for offset, noise in torn:
            file.seek(offset)
            file.write(noise)
    bring_in(world.trusted(), store, Medium(world.blobs))
    assert_whole(store, world)
    shutil.rmtree(store.folder)


def test_a_link_planted_as_a_part_is_replaced_and_its_target_stays(
    store: Store, large: StillWorld, tmp_path: Path
) -> None:
    store.make_folders()
    incoming = store.folder / "incoming"
    victims = [tmp_path / "victim", tmp_path / "other"]
    for victim in victims:
        victim.write_bytes(b"untouched")
    names = [name_of(large), name_of(large, "playbooks/site.yml")]
    (incoming / f"{names[0]}.part").symlink_to(victims[0])
    os.link(victims[1], incoming / f"{names[1]}.part")
    (incoming / f"{name_of(large, 'bom.cdx.json')}.part").mkdir()
    with pytest.raises(OSError, match="directory"):
        bring_in(large.trusted(), store, Medium(large.blobs))
    (incoming / f"{name_of(large, 'bom.cdx.json')}.part").rmdir()
    bring_in(large.trusted(), store, Medium(large.blobs))
    assert [victim.read_bytes() for victim in victims] == [b"untouched"] * 2
    assert_whole(store, large)


# --- What the medium does not give ------------------------------------------------------------------------


def test_the_rest_comes_in_and_what_is_missing_is_named_exactly(store: Store, large: StillWorld) -> None:
    name = name_of(large)
    medium = Medium(large.blobs, {name: {CHUNK_BYTES + 5, 2 * CHUNK_BYTES}})
    told = list[Progress | Resumed | Fault]()
    receipt = import_bundle(large.trusted(), medium, store, told.append)
    assert [(one.chunk.number, one.unreadable) for one in receipt.faults] == [(1, True), (2, True)]
    assert [one for one in told if isinstance(one, Fault)] == list(receipt.faults)
    assert store.missing(large.release.blobs) == tuple(
        blob for blob in large.release.blobs if blob.sha256 == name
    )
    error = refusal(receipt.faults, large.release, text("ask"))
    assert isinstance(error, UnreadableMedium)
    words = "\n".join(error.lines())
    assert f"blob {name}, chunk 1-2, bytes {CHUNK_BYTES}-{3 * CHUNK_BYTES - 1} of {LARGE}" in words
    assert error.as_json()["missing"] == [
        {
            "blob": name,
            "size_bytes": 3 * CHUNK_BYTES + 7,
            "fault": "unreadable",
            "seen": "the medium does not give its bytes (Input/output error)",
            "chunks": [1, 2],
            "ranges": [[CHUNK_BYTES, 3 * CHUNK_BYTES]],
            "uses": [LARGE],
        }
    ]
    assert error.as_json()["release"] == large.release.id


def test_the_next_run_asks_the_medium_for_nothing_else(store: Store, large: StillWorld) -> None:
    bundle, name = large.trusted(), name_of(large)
    first = bring_in(bundle, store, Medium(large.blobs, {name: {CHUNK_BYTES}}))
    assert len(first.faults) == 1
    medium = Medium(large.blobs)
    receipt = bring_in(bundle, store, medium)
    assert medium.asked == [(name, CHUNK_BYTES, 2 * CHUNK_BYTES)]
    assert (receipt.blobs_new, receipt.faults) == (1, ())
    assert_whole(store, large)


def test_wrong_content_is_tampering_and_names_its_chunk(store: Store, large: StillWorld) -> None:
    name = name_of(large)
    contents = {**large.blobs, name: flipped(large.files[LARGE], 5, 3 * CHUNK_BYTES)}
    receipt = bring_in(large.trusted(), store, Medium(contents))
    assert [(one.chunk.number, one.unreadable) for one in receipt.faults] == [(0, False), (3, False)]
    error = refusal(receipt.faults, large.release, text("ask"))
    assert isinstance(error, Tampered)
    assert f"blob {name}, chunk 0, 3, bytes 0-{CHUNK_BYTES - 1}" in "\n".join(error.lines())
    assert not store.path(name).exists()


def test_a_small_blob_that_is_wrong_leaves_no_part_and_the_others_come_in(store: Store, world: World) -> None:
    blobs = world.release.blobs
    contents = {**world.blobs, blobs[2].sha256: bytes(blobs[2].size_bytes)}
    receipt = bring_in(world.trusted(), store, Medium(contents))
    assert [one.chunk.blob for one in receipt.faults] == [blobs[2]]
    assert store.missing(blobs) == (blobs[2],)
    assert parts(store) == []


def test_a_medium_that_ends_early_is_unreadable_there(store: Store, large: StillWorld) -> None:
    name = name_of(large)
    contents = {**large.blobs, name: large.files[LARGE][: 2 * CHUNK_BYTES]}
    receipt = bring_in(large.trusted(), store, Medium(contents))
    assert [(one.chunk.number, one.unreadable) for one in receipt.faults] == [(2, True), (3, True)]


def test_another_copy_gives_only_what_the_first_does_not(store: Store, large: StillWorld) -> None:
    name = name_of(large)
    first = Medium(large.blobs, {name: {0, 3 * CHUNK_BYTES + 1}})
    second = Medium(large.blobs)
    receipt = bring_in(large.trusted(), store, first, second)
    assert second.asked == [(name, 0, CHUNK_BYTES), (name, 3 * CHUNK_BYTES, 3 * CHUNK_BYTES + 7)]
    assert receipt.faults == ()
    assert receipt.retries == 4
    assert_whole(store, large)


def test_two_damaged_copies_make_a_whole_one(store: Store, large: StillWorld) -> None:
    name, content = name_of(large), large.files[LARGE]
    first = Medium({**large.blobs, name: flipped(content, CHUNK_BYTES)}, {name: {0}})
    second = Medium({**large.blobs, name: flipped(content, 2 * CHUNK_BYTES)}, {name: {3 * CHUNK_BYTES}})
    assert bring_in(large.trusted(), store, first, second).faults == ()
    assert_whole(store, large)


def test_a_chunk_that_no_copy_has_is_missing(store: Store, large: StillWorld) -> None:
    name, content = name_of(large), large.files[LARGE]
    first = Medium(large.blobs, {name: {0, CHUNK_BYTES}})
    second = Medium({**large.blobs, name: flipped(content, 0)})
    receipt = bring_in(large.trusted(), store, first, second)
    assert [(one.chunk.number, one.unreadable) for one in receipt.faults] == [(0, False)]
    last = Medium(large.blobs)
    bring_in(large.trusted(), store, last)
    assert last.asked == [(name, 0, CHUNK_BYTES)]
    assert_whole(store, large)


def test_digests_that_contradict_each_other_are_never_believed(store: Store, large: StillWorld) -> None:
    bundle, name = large.trusted(), name_of(large)
    other = World(files={**large.files, LARGE: flipped(large.files[LARGE], 9)})
    chunks = {
        **{one: bundle.chunks.of(one) for one in large.blobs},
        name: other.trusted().chunks.of(name_of(other)),
    }

    class Table:
        def of(self, sha256: str) -> tuple[bytes, ...]:
            return chunks[sha256]

    lying = replace(bundle, chunks=Table())  # type: ignore[arg-type]
    with pytest.raises(Tampered, match="contradict"):
        bring_in(lying, store, Medium({**large.blobs, name: other.files[LARGE]}))
    assert not store.path(name).exists()
    assert f"{name}.part" not in parts(store)


def test_hundreds_of_faults_are_named_in_few_lines_and_all_in_json(store: Store, world: World) -> None:
    for number in range(60):
        world.files[f"models/tiny/{number:03}"] = b"%d" % number
    receipt = bring_in(world.trusted(), store, Medium(world.blobs, {one: {0} for one in world.blobs}))
    error = refusal(receipt.faults, world.release, text("ask"))
    assert len(error.lines()[1].splitlines()) == 21
    missing = error.as_json()["missing"]
    assert isinstance(missing, list)
    assert len(missing) == len(world.blobs) == len(missing_of(receipt.faults, {}))


# --- What is here and damaged -----------------------------------------------------------------------------


def test_a_damaged_blob_is_healed_by_reading_only_the_damaged_chunk(store: Store, large: StillWorld) -> None:
    bundle, name = large.trusted(), name_of(large)
    bring_in(bundle, store, Medium(large.blobs))
    before = store.path(name).stat().st_ino
    store.path(name).chmod(0o644)
    with store.path(name).open("r+b") as file:
        file.seek(2 * CHUNK_BYTES + 100)
        file.write(b"rotten")
    store.path(name).chmod(0o444)
    assert bring_in(bundle, store, Medium(large.blobs)).blobs_new == 0  # by its size it is here
    medium = Medium(large.blobs)
    receipt = bring_in(bundle, store, medium, recheck=True)
    assert medium.asked == [(name, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES)]
    assert (receipt.blobs_new, receipt.bytes_resumed) == (1, 2 * CHUNK_BYTES + 7)
    assert store.path(name).stat().st_ino != before  # a release's hardlink is another file, never written to
    assert_whole(store, large)


def test_rechecking_what_is_good_reads_nothing_from_the_medium(store: Store, large: StillWorld) -> None:
    bring_in(large.trusted(), store, Medium(large.blobs))
    medium = Medium(large.blobs)
    assert bring_in(large.trusted(), store, medium, recheck=True).blobs_kept == len(large.blobs)
    assert medium.asked == []


# --- Space ------------------------------------------------------------------------------------------------


def test_a_bundle_too_large_for_the_disk_is_refused_before_anything_is_read_or_written(
    store: Store, world: World
) -> None:
    medium, bundle = Medium(world.blobs), world.trusted()
    *others, last = bundle.release.blobs
    blobs = (*others, Blob(sha256=last.sha256, size_bytes=2**50))
    larger = replace(bundle, release=msgspec.structs.replace(bundle.release, blobs=blobs))
    with pytest.raises(UnfitServer) as refusal:
        bring_in(larger, store, medium)
    assert isinstance(refusal.value.expected, Text)
    assert isinstance(refusal.value.seen, Text)
    needs, has = (
        int(str(each.values["size_bytes"])) for each in (refusal.value.expected, refusal.value.seen)
    )
    assert needs > 2**50 > has > 0
    assert medium.asked == []
    assert not store.folder.exists()
