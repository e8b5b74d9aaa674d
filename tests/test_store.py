"""The store: a name is given only to the content it promises, and nothing else is ever left behind."""

from __future__ import annotations

import itertools
import os
import stat
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from appliance.durable import make_folder, remove_file, replace_link, write_file
from appliance.errors import Incomplete, Tampered, UnreadableMedium
from appliance.format import Blob, sha256_hex
from appliance.store import PIECE_BYTES, Progress, Store
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Iterator


def blob_of(content: bytes) -> Blob:
    return Blob(sha256=sha256_hex(content), size_bytes=len(content))


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


# --- Adding -----------------------------------------------------------------------------------------------


@given(content=some.binary(max_size=5000), cuts=some.lists(some.integers(0, 5000), max_size=5))
@settings(max_examples=40)
def test_what_was_added_in_any_pieces_is_there_and_nothing_else(content: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    pieces = [content[start:end] for start, end in itertools.pairwise(edges)]
    with TemporaryDirectory() as folder:
        store, blob = Store(Path(folder)), blob_of(content)
        assert not store.has(blob)
        store.add(blob, pieces)
        assert store.has(blob)
        assert store.path(blob.sha256).read_bytes() == content
        assert files_below(Path(folder)) == [f"blobs/sha256/{blob.sha256}"]


def test_a_blob_is_a_plain_file_of_mode_0444_whatever_the_umask(store: Store) -> None:
    before = os.umask(0o077)
    try:
        store.add(blob_of(b"weights"), [b"weights"])
    finally:
        os.umask(before)
    found = store.path(sha256_hex(b"weights")).lstat()
    assert stat.filemode(found.st_mode) == "-r--r--r--"
    assert stat.S_IMODE(store.path(sha256_hex(b"weights")).parent.stat().st_mode) == 0o755


def test_other_content_is_refused_by_the_blob_s_name_and_leaves_nothing(store: Store) -> None:
    blob = blob_of(b"signed")
    with pytest.raises(Tampered) as refusal:
        store.add(blob, [b"forged"])
    assert blob.sha256 in str(refusal.value.where)
    assert files_below(store.folder) == []


def test_never_more_than_the_signed_size_reaches_the_disk(store: Store) -> None:
    blob, seen = blob_of(b"12345678"), list[int]()

    def endless() -> Iterator[bytes]:
        while len(seen) < 100:
            yield b"1234567"
            seen.append((store.folder / "incoming" / f"{blob.sha256}.part").stat().st_size)

    with pytest.raises(Tampered):
        store.add(blob, endless())
    assert seen == [7]
    assert files_below(store.folder) == []


def test_less_than_the_signed_size_is_incomplete(store: Store) -> None:
    with pytest.raises(Incomplete) as refusal:
        store.add(blob_of(b"12345678"), [b"1234"])
    assert (refusal.value.expected, refusal.value.seen) == (8, 4)
    assert files_below(store.folder) == []


def test_a_medium_that_fails_midway_leaves_no_part(store: Store) -> None:
    def failing() -> Iterator[bytes]:
        yield b"1234"
        raise UnreadableMedium(text("the medium does not answer"))

    with pytest.raises(UnreadableMedium):
        store.add(blob_of(b"12345678"), failing())
    assert files_below(store.folder) == []


def test_content_that_is_still_coming_in_is_private(store: Store) -> None:
    modes = []

    def pieces() -> Iterator[bytes]:
        part = next((store.folder / "incoming").iterdir())
        modes.append((stat.filemode(part.stat().st_mode), stat.filemode(part.parent.stat().st_mode)))
        yield b"secret"

    store.add(blob_of(b"secret"), pieces())
    assert modes == [("-rw-------", "drwx------")]


def test_the_part_of_a_killed_run_is_never_trusted(store: Store) -> None:
    blob = blob_of(b"whole")
    part = store.folder / "incoming" / f"{blob.sha256}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"half, and longer than the whole")
    store.add(blob, [b"whole"])
    assert store.path(blob.sha256).read_bytes() == b"whole"
    assert not part.exists()


def test_a_link_planted_as_a_part_is_replaced_and_not_followed(store: Store, tmp_path: Path) -> None:
    blob, victim = blob_of(b"content"), tmp_path / "victim"
    victim.write_bytes(b"untouched")
    incoming = store.folder / "incoming"
    incoming.mkdir(parents=True)
    (incoming / f"{blob.sha256}.part").symlink_to(victim)
    store.add(blob, [b"content"])
    assert victim.read_bytes() == b"untouched"
    assert not store.path(blob.sha256).is_symlink()


# --- Having -----------------------------------------------------------------------------------------------


def _shorten(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(b"shor")
    path.chmod(0o444)


def _link(path: Path) -> None:
    content = path.with_name("elsewhere")
    path.rename(content)
    path.symlink_to(content)


def _open_to_writing(path: Path) -> None:
    path.chmod(0o644)


@pytest.mark.parametrize("damage", [Path.unlink, _shorten, _link, _open_to_writing])
def test_a_blob_of_another_size_mode_or_kind_is_missing_and_comes_back_by_adding(
    store: Store, damage: object
) -> None:
    blob, other = blob_of(b"content"), blob_of(b"other")
    for each, content in ((blob, b"content"), (other, b"other")):
        store.add(each, [content])
    assert store.missing([other, blob]) == ()
    assert callable(damage)
    damage(store.path(blob.sha256))
    assert store.missing([other, blob]) == (blob,)
    store.add(blob, [b"content"])
    assert store.missing([other, blob]) == ()


def test_usage_counts_blobs_leftovers_and_free_space(store: Store) -> None:
    assert store.usage().blobs == 0
    assert store.usage().free_bytes > 0
    store.add(blob_of(b"12345"), [b"12345"])
    store.add(blob_of(b"123"), [b"123"])
    with (store.folder / "incoming" / "left.part").open("wb") as left:
        left.seek(2**30)  # a hole takes no space
        left.write(b"1234")
    usage = store.usage()
    assert (usage.blobs, usage.blob_bytes) == (2, 8)
    assert 4 <= usage.incoming_bytes <= 64 * 1024


def test_what_is_in_a_part_already_needs_no_space_again(store: Store) -> None:
    store.make_folders()
    blob = blob_of(bytes(100_000))
    before = store.needs_bytes([blob])
    part = store.folder / "incoming" / f"{blob.sha256}.part"
    part.write_bytes(bytes(50_000))
    part.open("r+b").close()
    os.sync()
    assert before == 102_400
    assert store.needs_bytes([blob]) == before - part.stat().st_blocks * 512


def test_space_is_counted_in_blocks_for_missing_blobs_only(store: Store) -> None:
    store.add(blob_of(b"12345"), [b"12345"])
    assert store.needs_bytes([blob_of(b"12345"), blob_of(b"1"), blob_of(bytes(4097))]) == 3 * 4096


# --- Checking ---------------------------------------------------------------------------------------------


def test_a_whole_store_has_no_damage_and_progress_reaches_the_end(store: Store) -> None:
    contents = [bytes([number]) * (number * 700_000) for number in range(5)]
    for content in contents:
        store.add(blob_of(content), [content])
    seen: list[Progress] = []
    assert store.check(seen.append, [blob_of(content) for content in contents]) == ()
    total = sum(map(len, contents))
    assert (seen[-1].bytes_done, seen[-1].bytes_total) == (total, total)
    assert [each.bytes_done for each in seen] == sorted(each.bytes_done for each in seen)


def test_every_kind_of_damage_is_found_in_one_run(store: Store) -> None:
    contents = {name: name.encode() for name in ("flipped", "writable", "good", "gone")}
    blobs = {name: blob_of(content) for name, content in contents.items()}
    for name, content in contents.items():
        store.add(blobs[name], [content])
    paths = {name: store.path(blob.sha256) for name, blob in blobs.items()}
    paths["flipped"].chmod(0o644)
    paths["flipped"].write_bytes(b"fl1pped")
    paths["flipped"].chmod(0o444)
    paths["writable"].chmod(0o644)
    paths["gone"].unlink()
    stranger = store.path("stranger")
    stranger.write_bytes(b"who put me here")
    found = {damage.path: str(damage.happened) for damage in store.check(lambda _: None, blobs.values())}
    assert found.keys() == {paths["flipped"], paths["writable"], paths["gone"], stranger}
    assert "content" in found[paths["flipped"]]
    assert "0444" in found[paths["writable"]]
    assert "not in the store" in found[paths["gone"]]


# --- Files of the online side -----------------------------------------------------------------------------


def test_a_file_is_taken_in_and_stays_where_and_what_it_was(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "model.safetensors"
    source.write_bytes(b"weights")
    source.chmod(0o640)
    blob = store.add_file(source)
    assert blob == blob_of(b"weights")
    assert store.has(blob)
    assert (source.read_bytes(), stat.S_IMODE(source.stat().st_mode)) == (b"weights", 0o640)


def test_a_file_that_may_be_written_cannot_change_the_blob_later(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "model.safetensors"
    source.write_bytes(b"weights")
    blob = store.add_file(source)
    source.write_bytes(b"changed")
    assert store.path(blob.sha256).read_bytes() == b"weights"


def test_a_read_only_file_is_linked_and_costs_no_space(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "model.safetensors"
    source.write_bytes(b"weights")
    source.chmod(0o444)
    blob = store.add_file(source)
    assert store.path(blob.sha256).samefile(source)
    assert files_below(store.folder) == [f"blobs/sha256/{blob.sha256}"]
    assert store.add_file(source) == blob


def test_a_file_reached_through_a_link_is_taken_in_as_content(store: Store, tmp_path: Path) -> None:
    # The layout of a hub's cache: a snapshot of links to blobs.
    (tmp_path / "content").write_bytes(b"weights")
    (tmp_path / "content").chmod(0o444)
    (tmp_path / "snapshot").symlink_to("content")
    blob = store.add_file(tmp_path / "snapshot")
    assert store.has(blob)


def test_a_file_is_taken_in_under_a_digest_only_if_it_is_that_content(store: Store, tmp_path: Path) -> None:
    for mode in (0o444, 0o640):
        source = tmp_path / f"{mode:o}"
        source.write_bytes(b"weights")
        source.chmod(mode)
        assert not store.add_file_of(blob_of(b"w3ights"), source)
        assert not store.add_file_of(blob_of(b"weights and more"), source)
        assert files_below(store.folder) == [], "nothing of it is left"
        assert (source.read_bytes(), stat.S_IMODE(source.stat().st_mode)) == (b"weights", mode)
    assert store.add_file_of(blob_of(b"weights"), tmp_path / "640")
    assert store.add_file_of(blob_of(b"weights"), tmp_path / "444"), "again, under the name that is there"
    assert files_below(store.folder) == [f"blobs/sha256/{sha256_hex(b'weights')}"]
    assert store.check(lambda _: None) == ()


@pytest.mark.parametrize("mode", [0o444, 0o640])
def test_whoever_wants_to_see_a_file_pass_sees_all_of_it_in_order(
    store: Store, tmp_path: Path, mode: int
) -> None:
    content = bytes(PIECE_BYTES) + b"x" * PIECE_BYTES + b"end"
    source = tmp_path / "file"
    source.write_bytes(content)
    source.chmod(mode)
    seen: list[bytes] = []
    assert store.add_file_of(blob_of(content), source, seen.append)
    assert b"".join(seen) == content
    assert len(seen) == 3


@pytest.mark.parametrize("mode", [0o444, 0o640])
def test_a_file_that_changes_while_it_is_read_is_not_taken_in(
    store: Store, tmp_path: Path, mode: int
) -> None:
    content = bytes(2 * PIECE_BYTES)
    source = tmp_path / "file"
    source.write_bytes(content)
    source.chmod(mode)

    def grow(_: bytes) -> None:
        source.chmod(0o644)
        with source.open("ab") as file:
            file.write(b"more")
        source.chmod(mode)

    assert not store.add_file_of(blob_of(content), source, grow)
    assert files_below(store.folder) == []


def test_another_file_put_under_the_name_while_it_is_read_is_not_linked(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(b"weights")
    source.chmod(0o444)

    def exchange(_: bytes) -> None:
        other = tmp_path / "other"
        other.write_bytes(b"changed")
        other.chmod(0o444)
        other.rename(source)

    assert store.add_file_of(blob_of(b"weights"), source, exchange)
    assert store.path(sha256_hex(b"weights")).read_bytes() == b"weights"


def test_a_file_whose_reader_is_stopped_leaves_nothing(store: Store, tmp_path: Path) -> None:
    def stop(_: bytes) -> None:
        raise KeyboardInterrupt

    for mode in (0o444, 0o640):
        source = tmp_path / f"{mode:o}"
        source.write_bytes(b"weights")
        source.chmod(mode)
        with pytest.raises(KeyboardInterrupt):
            store.add_file_of(blob_of(b"weights"), source, stop)
    assert files_below(store.folder) == []


# --- Blobs seen through a release folder ------------------------------------------------------------------

_WRITES = ("echo changed > model", "echo changed >> model", "chmod u+w model", "truncate -s 0 model")


@pytest.mark.parametrize("attempt", _WRITES)
def test_a_service_cannot_change_a_blob_through_its_release_folder(
    store: Store, tmp_path: Path, attempt: str
) -> None:
    store.add(blob_of(b"weights"), [b"weights"])
    release = tmp_path / "release"
    release.mkdir(mode=0o755)
    os.link(store.path(sha256_hex(b"weights")), release / "model")
    nobody = 65534 if os.geteuid() == 0 else None
    reads = subprocess.run(
        ["sh", "-c", "cat model"], cwd=release, user=nobody, capture_output=True, check=True
    )
    assert reads.stdout == b"weights"
    subprocess.run(["sh", "-c", attempt], cwd=release, user=nobody, capture_output=True, check=False)
    found = store.path(sha256_hex(b"weights"))
    assert found.read_bytes() == b"weights"
    assert nobody is None or store.has(blob_of(b"weights"))


# --- Writing so that a power cut cannot lie ---------------------------------------------------------------


def test_a_file_is_replaced_as_a_whole_with_the_mode_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "counter.json"
    (tmp_path / ".counter.json.new").write_bytes(b"left by a killed run")
    before = os.umask(0o077)
    try:
        write_file(path, b"one", 0o644)
        write_file(path, b"two", 0o640)
    finally:
        os.umask(before)
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert files_below(tmp_path) == ["counter.json"]


def test_a_link_moves_in_one_step_even_after_a_killed_run(tmp_path: Path) -> None:
    (tmp_path / ".current.new").symlink_to("half")
    replace_link(tmp_path / "current", "releases/one")
    replace_link(tmp_path / "current", Path("releases") / "two")
    assert (tmp_path / "current").readlink() == Path("releases/two")
    assert files_below(tmp_path) == ["current"]


def test_a_private_folder_does_not_make_its_parents_private(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        make_folder(tmp_path / "banip" / "state", 0o700)
    finally:
        os.umask(before)
    make_folder(tmp_path / "banip" / "state", 0o755)  # it is here: nothing is changed
    paths = (tmp_path / "banip", tmp_path / "banip" / "state")
    assert [stat.S_IMODE(path.stat().st_mode) for path in paths] == [0o755, 0o700]


def test_a_file_is_removed_once_and_its_absence_is_fine(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    remove_file(tmp_path / "dangling")
    remove_file(tmp_path / "dangling")
    assert files_below(tmp_path) == []
