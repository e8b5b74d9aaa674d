"""Packing and signing: one pass, the same bytes everywhere, and nothing signed that is not there."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.errors import BadInput, Incomplete, Tampered, Untrusted
from appliance.format import (
    CHUNK_BYTES,
    END_OF_CARRIER,
    Blob,
    ChunkTable,
    envelope_from_bytes,
    release_to_bytes,
    sha256_hex,
)
from appliance.media import open_carrier
from appliance.verify import parse_targets
from bundle.pack import (
    blob_bytes,
    build_carrier,
    chunk_table,
    diff,
    inspect,
    targets_envelope,
    write_carrier,
)
from bundle.sign import sign, verify_own
from tests.world import EXPIRES, NOW, Generation, World, key

if TYPE_CHECKING:
    from appliance.store import Progress

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture
def world() -> World:
    return World()


def build(world: World, folder: Path) -> Path:
    path = folder / "demo.tar"
    build_carrier(path, world.roots, world.release, world.open_blob, expires=world.expires)
    return path


# --- building


def test_an_unsigned_carrier_is_what_the_world_says_it_is_byte_for_byte(world: World, tmp_path: Path) -> None:
    world.grow()
    world.signers = []
    assert build(world, tmp_path).read_bytes() == world.carrier_bytes()


def test_packing_a_signed_release_again_gives_the_same_bytes(world: World, tmp_path: Path) -> None:
    world.grow()
    path = tmp_path / "again.tar"
    write_carrier(
        path,
        world.roots,
        world.targets,
        world.release,
        world.release_json,
        world.chunks_bin,
        world.open_blob,
    )
    assert path.read_bytes() == world.carrier_bytes()


def test_every_blob_is_opened_once(world: World, tmp_path: Path) -> None:
    world.grow()
    opened: list[str] = []

    def open_blob(sha256: str) -> io.BytesIO:
        opened.append(sha256)
        return world.open_blob(sha256)

    build_carrier(tmp_path / "once.tar", world.roots, world.release, open_blob, expires=EXPIRES)
    assert opened == list(world.blobs)


_BUILD = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
os.umask(int(sys.argv[3], 8))
from bundle.pack import build_carrier
from tests.world import EXPIRES, World
world = World()
world.grow()
roots = tuple(path.read_bytes() for path in sorted(Path(sys.argv[4]).iterdir()))
build_carrier(Path(sys.argv[2]), roots, world.release, world.open_blob, expires=EXPIRES)
"""


def test_the_same_release_gives_the_same_bytes_on_any_machine(world: World, tmp_path: Path) -> None:
    (tmp_path / "roots").mkdir()
    (tmp_path / "roots" / "1.json").write_bytes(world.root(1))
    surroundings = [
        ("022", {"TZ": "UTC", "LC_ALL": "C", "PYTHONHASHSEED": "1"}),
        ("077", {"TZ": "Asia/Seoul", "LC_ALL": "ko_KR.UTF-8", "PYTHONHASHSEED": "2"}),
        (
            "000",
            {"TZ": "America/St_Johns", "LANG": "tr_TR.UTF-8", "HOME": "/nonexistent", "PYTHONHASHSEED": "3"},
        ),
    ]
    packed = set()
    for number, (umask, environment) in enumerate(surroundings):
        path = tmp_path / str(number) / ("deeper" * (number + 1)) / "out.tar"
        path.parent.mkdir(parents=True)
        subprocess.run(
            [sys.executable, "-c", _BUILD, PROJECT, path, umask, tmp_path / "roots"],
            env={"PATH": os.environ["PATH"], **environment},
            cwd=path.parent,
            check=True,
            timeout=120,
        )
        packed.add(sha256_hex(path.read_bytes()))
        assert path.stat().st_mode & 0o777 == 0o644
    assert len(packed) == 1


def test_progress_is_told_to_the_last_byte(world: World, tmp_path: Path) -> None:
    world.grow()
    told: list[Progress] = []
    build_carrier(
        tmp_path / "x.tar", world.roots, world.release, world.open_blob, expires=EXPIRES, report=told.append
    )
    total = sum(map(len, world.blobs.values()))
    assert told[-1].bytes_done == told[-1].bytes_total == total
    assert [one.bytes_done for one in told] == sorted(one.bytes_done for one in told)
    assert {one.blob for one in told} == set(world.blobs)


@pytest.mark.parametrize("change", ["flipped", "shorter", "longer", "empty"])
@pytest.mark.parametrize("path", ["models/tiny/config.json", "models/tiny/large.bin"])
def test_a_store_gone_bad_is_never_packed(world: World, tmp_path: Path, path: str, change: str) -> None:
    world.grow()
    good = world.files[path]
    bad = {
        "flipped": bytes([good[0] ^ 1]) + good[1:],
        "shorter": good[:-1],
        "longer": good + b"x",
        "empty": b"",
    }
    release, blobs = world.release, world.blobs
    blobs[sha256_hex(good)] = bad[change]
    with pytest.raises(Tampered) as caught:
        build_carrier(
            tmp_path / "out.tar",
            world.roots,
            release,
            lambda sha256: io.BytesIO(blobs[sha256]),
            expires=EXPIRES,
        )
    assert caught.value.where == sha256_hex(good)
    assert list(tmp_path.iterdir()) == []


def test_a_blob_that_is_not_in_the_store_leaves_nothing_behind(world: World, tmp_path: Path) -> None:
    def absent(sha256: str) -> io.BufferedReader:
        return (tmp_path / sha256).open("rb")

    with pytest.raises(Incomplete):
        build_carrier(tmp_path / "out.tar", world.roots, world.release, absent, expires=EXPIRES)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_build_leaves_the_bundle_that_was_there(world: World, tmp_path: Path) -> None:
    path = build(world, tmp_path)
    before = path.read_bytes()
    with pytest.raises(Tampered):
        build_carrier(path, world.roots, world.release, lambda _: io.BytesIO(b""), expires=EXPIRES)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


_BUILD_WITHOUT_SPACE = """
import io, resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from bundle.pack import build_carrier
from tests.world import EXPIRES, World
world = World()
world.grow()
world.files["models/tiny/larger.bin"] = bytes(40_000_000)
release, blobs = world.release, world.blobs
resource.setrlimit(resource.RLIMIT_FSIZE, (6_000_000, 6_000_000))
build_carrier(Path(sys.argv[2]), world.roots, release, lambda name: io.BytesIO(blobs[name]), expires=EXPIRES)
"""


def test_a_disk_that_takes_no_more_stops_the_build_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _BUILD_WITHOUT_SPACE, PROJECT, tmp_path / "out.tar"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "OSError: [Errno 27]" in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["here", "/dev/shm"])  # noqa: S108 - a tmpfs
def test_a_file_system_without_direct_writing_gets_the_same_bytes(
    world: World, tmp_path: Path, folder: str
) -> None:
    world.grow()
    world.signers = []
    with tempfile.TemporaryDirectory(dir=tmp_path if folder == "here" else folder) as place:
        assert build(world, Path(place)).read_bytes() == world.carrier_bytes()


def test_blobs_of_every_size_around_a_block_and_a_buffer_come_out_whole(world: World, tmp_path: Path) -> None:
    for size in (
        1,
        511,
        512,
        513,
        4095,
        4096,
        4097,
        2**21 - 1,
        2**21,
        2**21 + 1,
        CHUNK_BYTES,
        CHUNK_BYTES + 1,
    ):
        world.files[f"models/tiny/{size}.bin"] = bytes([size % 251]) * size
    world.signers = []
    assert build(world, tmp_path).read_bytes() == world.carrier_bytes()


def test_what_a_killed_build_left_is_replaced(world: World, tmp_path: Path) -> None:
    (tmp_path / ".demo.tar.part").write_bytes(b"half")
    path = build(world, tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_metadata_of_other_blobs_is_not_packed(world: World, tmp_path: Path) -> None:
    world.grow()
    chunks = bytes(len(world.chunks_bin))
    with pytest.raises(Tampered):
        write_carrier(
            tmp_path / "out.tar",
            world.roots,
            world.targets,
            world.release,
            world.release_json,
            chunks,
            world.open_blob,
        )
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(world: World, tmp_path: Path) -> None:
    first, *rest = world.release.blobs
    world.fields = {"blobs": (Blob(sha256=first.sha256, size_bytes=2**43), *rest)}
    with pytest.raises(BadInput, match="disk is too small"):
        build_carrier(tmp_path / "out.tar", world.roots, world.release, world.open_blob, expires=EXPIRES)
    assert list(tmp_path.iterdir()) == []


def test_the_size_is_known_before_a_byte_is_written(world: World, tmp_path: Path) -> None:
    world.grow()
    path = build(world, tmp_path)
    head = path.read_bytes().index(b"blobs/sha256/")
    assert path.stat().st_size == head + blob_bytes(world.release)


def test_the_chunk_table_reads_only_blobs_that_have_chunks(world: World) -> None:
    world.grow()
    opened: list[str] = []

    def open_blob(sha256: str) -> io.BytesIO:
        opened.append(sha256)
        return world.open_blob(sha256)

    large = sha256_hex(world.files["models/tiny/large.bin"])
    raw = chunk_table(world.release, open_blob)
    assert opened == [large]
    assert ChunkTable(world.release, raw).of(large)[0].hex() == sha256_hex(
        world.files["models/tiny/large.bin"][:CHUNK_BYTES]
    )


def test_the_targets_name_both_files_under_the_number_of_the_release(world: World) -> None:
    envelope = targets_envelope(world.release, b"release", b"chunks", EXPIRES)
    targets = parse_targets(envelope)
    assert (targets.version, targets.expires) == (world.counter, EXPIRES)
    assert targets.targets["release.json"].hashes == {"sha256": sha256_hex(b"release")}
    assert targets.targets["chunks.bin"].length == len(b"chunks")
    assert envelope.signatures == {}


# --- signing


def test_a_signed_carrier_differs_from_the_unsigned_one_in_its_head_only(
    world: World, tmp_path: Path
) -> None:
    path = build(world, tmp_path)
    before = path.read_bytes()
    assert sign(path, [key("release-1")]) == (key("release-1").public_key.keyid,)
    after = path.read_bytes()
    with open_carrier(path) as carrier:
        start, end = carrier.head.targets_offset, carrier.head.end
    assert len(before) == len(after)
    assert before[:start] == after[:start]
    assert before[end:] == after[end:]
    assert verify_own(path, world.roots, reference_time=NOW).release == world.release


def test_an_unsigned_carrier_is_not_trusted_by_its_own_builder(world: World, tmp_path: Path) -> None:
    path = build(world, tmp_path)
    with pytest.raises(Untrusted):
        verify_own(path, world.roots, reference_time=NOW)


def test_signing_again_changes_the_signature_and_nothing_else(world: World, tmp_path: Path) -> None:
    path = build(world, tmp_path)
    sign(path, [key("release-1")])
    first = path.read_bytes()
    sign(path, [key("release-1")])
    with open_carrier(path) as carrier:
        start, end = carrier.head.targets_offset, carrier.head.end
        assert len(envelope_from_bytes(carrier.envelopes().targets, "targets").signatures) == 1
    again = path.read_bytes()
    assert (first[:start], first[end:]) == (again[:start], again[end:])
    assert verify_own(path, world.roots, reference_time=NOW)


def test_signers_who_come_one_after_another_are_all_kept(world: World, tmp_path: Path) -> None:
    world.generations[0].release_keys = [key("release-1"), key("release-2")]
    world.generations[0].release_threshold = 2
    path = build(world, tmp_path)
    sign(path, [key("release-2")])
    with pytest.raises(Untrusted):
        verify_own(path, world.roots, reference_time=NOW)
    both = sign(path, [key("release-1")])
    assert both == tuple(sorted(key(name).public_key.keyid for name in ("release-1", "release-2")))
    assert verify_own(path, world.roots, reference_time=NOW)


@pytest.mark.parametrize("name", ["stranger", "root-1", "release-1"])
def test_a_key_that_the_newest_root_does_not_name_is_refused(world: World, tmp_path: Path, name: str) -> None:
    world.rotate(Generation([key("root-1"), key("root-2")], [key("release-2")]))
    path = build(world, tmp_path)
    before = path.read_bytes()
    with pytest.raises(BadInput, match="not one of"):
        sign(path, [key("release-2"), key(name)])
    assert path.read_bytes() == before
    assert sign(path, [key("release-2")])
    assert verify_own(path, world.roots, reference_time=NOW).root_version == 2


@pytest.mark.parametrize("member", ["release.json", "chunks.bin"])
def test_what_does_not_fit_the_targets_is_not_signed(world: World, tmp_path: Path, member: str) -> None:
    world.grow()
    world.signers = []
    world.mutate(member, 9)
    path = world.carrier(tmp_path)
    before = path.read_bytes()
    with pytest.raises(Tampered, match="about to be signed"):
        sign(path, [key("release-1")])
    assert path.read_bytes() == before


def test_more_signatures_than_there_is_room_for_are_refused(world: World, tmp_path: Path) -> None:
    many = [key(f"release-{number}") for number in range(1, 200)]
    world.generations[0].release_keys = many
    path = build(world, tmp_path)
    before = path.read_bytes()
    with pytest.raises(BadInput, match="room"):
        sign(path, many)
    assert path.read_bytes() == before
    assert len(sign(path, many[:50])) == 50
    assert verify_own(path, world.roots, reference_time=NOW)


def test_the_builder_finds_a_blob_that_rotted_after_signing(world: World, tmp_path: Path) -> None:
    world.mutate("blobs/sha256/" + world.release.blobs[2].sha256, 1)
    with pytest.raises(Tampered, match="not what was signed"):
        verify_own(world.carrier(tmp_path), world.roots, reference_time=NOW)


def test_the_builder_does_not_pass_what_expires_before_it_arrives(world: World, tmp_path: Path) -> None:
    path = world.carrier(tmp_path)
    with pytest.raises(Untrusted, match="expired"):
        verify_own(path, world.roots, reference_time=world.expires + timedelta(seconds=1))


def test_the_builder_does_not_pass_a_carrier_under_keys_that_have_been_replaced(
    world: World, tmp_path: Path
) -> None:
    path = world.carrier(tmp_path)
    assert verify_own(path, world.roots, reference_time=NOW)
    world.rotate(Generation([key("root-1"), key("root-2")], [key("release-2")]))
    with pytest.raises(Incomplete):
        verify_own(path, world.roots, reference_time=NOW)


# --- looking


def test_a_carrier_tells_what_it_is_for_some_kilobytes(world: World, tmp_path: Path) -> None:
    world.grow()
    contents = inspect(world.carrier(tmp_path))
    assert contents.release == world.release
    assert contents.release_sha256 == sha256_hex(release_to_bytes(world.release))
    assert (contents.root_version, contents.expires) == (1, EXPIRES)
    assert contents.signed_by == (key("release-1").public_key.keyid,)
    assert contents.size_bytes == len(world.carrier_bytes())
    assert contents.blob_bytes == sum(map(len, world.blobs.values()))
    assert contents.bytes_read < 64 * 1024


def test_looking_at_what_is_no_bundle_is_refused_politely(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(END_OF_CARRIER)
    with pytest.raises(Untrusted):
        inspect(path)


def test_a_release_does_not_differ_from_itself(world: World) -> None:
    found = diff(world.release, world.release)
    assert (found.added, found.removed) == ((), ())
    assert found.kept == world.release.blobs
    assert not any((found.environments, found.files, found.images, found.packages, found.roles))


def test_what_changed_between_two_releases_is_named(world: World) -> None:
    later = world.next(version="1.1.0")
    later.files["models/tiny/weights.bin"] = b"other weights"
    later.files["models/tiny/more.bin"] = b"more"
    del later.files["playbooks/site.yml"]
    later.wheels["api"] = {"api-1.1-py3-none-any.whl": b"a newer wheel"}
    found = diff(world.release, later.release)
    assert found.files.added == ("models/tiny/more.bin",)
    assert found.files.removed == ("playbooks/site.yml",)
    assert found.files.changed == ("models/tiny/weights.bin",)
    assert (found.environments.added, found.environments.changed) == ((), ("api",))
    assert found.added_bytes == len(b"other weights") + len(b"more") + len(b"a newer wheel")
    assert found.removed_bytes == 1280 + len(b"- hosts: all\n") + len(b"another wheel")
    assert found.kept_bytes + found.added_bytes == sum(blob.size_bytes for blob in later.release.blobs)
    assert not found.roles
