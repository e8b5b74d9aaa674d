"""Bundle format 1: one spelling for every value, and nothing contradictory can exist."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import appliance.format
from appliance.errors import Tampered, UnfitServer, Untrusted
from appliance.format import (
    CHUNK_BYTES,
    AccountName,
    Blob,
    ChunkTable,
    HostPath,
    Name,
    Owned,
    PackageName,
    PackageVersion,
    RelativePath,
    Sha256,
    Socket,
    TableName,
    UnitName,
    Version,
    WheelName,
    canonical_json,
    check_format_line,
    chunk_count,
    envelope_from_bytes,
    envelope_to_bytes,
    format_line,
    member_header,
    padding_bytes,
    release_from_bytes,
    release_to_bytes,
    strict_payload,
)
from tests.world import World, key, signed


@pytest.fixture
def world() -> World:
    return World()


def changed(world: World, **fields: Any) -> bytes:  # noqa: ANN401
    return canonical_json(msgspec.json.decode(world.release_json) | fields)


# --- release.json


def test_a_release_survives_the_way_there_and_back(world: World) -> None:
    world.variables = {"depth": [1, 2.5, None, True, {"한글": "값"}]}
    assert release_from_bytes(release_to_bytes(world.release)) == world.release


def test_a_release_has_one_spelling_only(world: World) -> None:
    raw = world.release_json
    for spelling in (
        raw + b"\n",
        b" " + raw,
        raw.replace(b":", b": ", 1),
        raw.replace(b'"counter":1', b'"counter":1,"counter":1'),
        raw.replace(b"2026-01-01T00:00:00Z", b"2026-01-01T00:00:00+00:00"),
        raw.replace(b'"grade":"S",', b""),
    ):
        assert spelling != raw
        with pytest.raises(Tampered):
            release_from_bytes(spelling)


BLOB = {"sha256": "0" * 64, "size_bytes": 1}
CONTRADICTIONS: dict[str, dict[str, Any]] = {
    "a blob that nothing uses": {"blobs": [BLOB]},
    "no blobs": {"blobs": []},
    "no environment": {"environments": []},
    "a site that is no name": {"site": "Seoul/1"},
    "a grade that does not exist": {"grade": "A"},
    "a counter of zero": {"counter": 0},
    "a counter that is true": {"counter": True},
    "a time without a zone": {"built": "2026-01-01T00:00:00"},
    "a version with a slash": {"version": "1/0"},
    "a product that climbs": {"product": ".."},
    "two roles of a name": {"roles": [{"name": "api"}, {"name": "api"}]},
    "a unit of another's": {"roles": [{"name": "api", "owns": {"units": ["ssh.service"]}}]},
    "an account of another's": {"roles": [{"name": "api", "owns": {"users": ["root"]}}]},
    "a path of another's": {"roles": [{"name": "api", "owns": {"paths": ["/etc/passwd"]}}]},
    "a health check that leaves the machine": {
        "roles": [{"name": "api", "health": [{"kind": "http", "url": "http://10.0.0.1:80/"}]}]
    },
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_release_that_contradicts_itself_cannot_be_read(world: World, name: str) -> None:
    with pytest.raises(Tampered):
        release_from_bytes(changed(world, **CONTRADICTIONS[name]))


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../x",
        "models/../x",
        "models/./x",
        "models//x",
        "models/",
        "models/.hidden",
        "models/a\\b",
        "models/a\nb",
        "models/a\x00b",
        "etc/x",
        "bin/appliance",
        "metadata/targets.json",
        "models/" + "x" * 240,
    ],
)
def test_a_file_outside_the_folders_of_a_release_cannot_be_named(world: World, path: str) -> None:
    files = msgspec.json.decode(world.release_json)["files"]
    files[1]["path"] = path
    with pytest.raises(Tampered):
        release_from_bytes(changed(world, files=files))


def test_a_file_cannot_be_a_folder_too_nor_stand_twice(world: World) -> None:
    files = msgspec.json.decode(world.release_json)["files"]
    for path in ("models/tiny", files[1]["path"]):
        with pytest.raises(Tampered):
            release_from_bytes(changed(world, files=[*files, {"path": path, "sha256": files[1]["sha256"]}]))


def test_a_release_without_the_environment_that_installs_it_cannot_be_read(world: World) -> None:
    del world.wheels["controller"]
    with pytest.raises(ValueError, match="controller"):
        world.release  # noqa: B018


def test_blobs_stand_in_the_order_of_their_digests(world: World) -> None:
    blobs = msgspec.json.decode(world.release_json)["blobs"]
    for order in (blobs[::-1], [*blobs, blobs[-1]]):
        with pytest.raises(Tampered):
            release_from_bytes(changed(world, blobs=order))


@pytest.mark.parametrize("number", [0, 2, 999])
def test_a_release_of_another_format_finds_the_server_unfit(world: World, number: int) -> None:
    with pytest.raises(UnfitServer) as caught:
        release_from_bytes(changed(world, format=number, invented_later={}))
    assert caught.value.seen == number


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"null", b"[" * 100_000, b"\xff", b'{"format":null}'])
def test_what_is_no_release_is_tampering(raw: bytes) -> None:
    with pytest.raises(Tampered):
        release_from_bytes(raw)


def test_equal_environments_have_one_digest_and_others_another(world: World) -> None:
    one = world.release.environment("api")
    assert msgspec.structs.replace(one, name="other").digest == one.digest
    assert msgspec.structs.replace(one, python="3.12").digest != one.digest
    assert msgspec.structs.replace(one, platform="linux_aarch64").digest != one.digest
    with pytest.raises(KeyError):
        world.release.environment("absent")


def test_a_role_owns_only_paths_that_carry_the_name() -> None:
    assert Owned(paths=("/etc/banip/site.yaml",)).paths
    with pytest.raises(ValueError, match="to own"):
        Owned(paths=("/etc/ssh",))
    for path in ("/var/lib/banip", "/var/lib/banip/data", "/etc/banip"):
        with pytest.raises(ValueError, match="to own"):
            Owned(paths=(path,))


PATTERNED = [
    *(("Sha256", Sha256, "0" * 64), ("Name", Name, "demo"), ("Version", Version, "1.0")),
    *(("RelativePath", RelativePath, "models/x"), ("HostPath", HostPath, "/etc/banip-x")),
    *(("WheelName", WheelName, "a-1-py3-none-any.whl"), ("UnitName", UnitName, "banip-api.service")),
    *(("Socket", Socket, "tcp/127.0.0.1:8600"), ("AccountName", AccountName, "banip-api")),
    *(("TableName", TableName, "banip"), ("PackageName", PackageName, "nginx")),
    ("PackageVersion", PackageVersion, "1.0-1"),
]


@pytest.mark.parametrize(("name", "kind", "good"), PATTERNED)
def test_a_line_end_after_a_name_makes_it_another(name: str, kind: Any, good: str) -> None:  # noqa: ANN401
    assert msgspec.convert(good, kind) == good, name
    for end in ("\n", "\r", "\0", " ", "\u2028", "\n\n"):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(good + end, kind)


def test_every_pattern_ends_where_the_text_ends() -> None:
    """In Python ``$`` alone lets a line's end follow; what is not held to the end is another name."""
    source = Path(appliance.format.__file__).read_text("utf-8")
    patterns = re.findall(r'pattern=((?:\s*r"[^"]*")+)', source)
    assert len(patterns) > 15
    assert [one for one in patterns if not one.endswith(r'$(?!\n)"')] == []


# --- chunks.bin


@pytest.mark.parametrize(
    ("size", "count"),
    [(0, 0), (1, 0), (CHUNK_BYTES, 0), (CHUNK_BYTES + 1, 2), (2 * CHUNK_BYTES, 2), (2 * CHUNK_BYTES + 1, 3)],
)
def test_only_a_blob_of_several_chunks_has_chunk_digests(size: int, count: int) -> None:
    assert chunk_count(size) == count


def test_chunk_digests_are_found_by_blob(world: World) -> None:
    world.grow()
    table = ChunkTable(world.release, world.chunks_bin)
    for sha256, data in world.blobs.items():
        parts = [data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES)]
        wanted = tuple(hashlib.sha256(part).digest() for part in parts) if len(parts) > 1 else ()
        assert table.of(sha256) == wanted


def test_a_size_that_claims_a_billion_chunks_costs_nothing(world: World) -> None:
    first, *rest = world.release.blobs
    huge = msgspec.structs.replace(world.release, blobs=(Blob(sha256=first.sha256, size_bytes=2**53), *rest))
    with pytest.raises(Tampered):
        ChunkTable(huge, b"")


@pytest.mark.parametrize("change", [-32, -1, 1, 32])
def test_a_chunk_table_of_another_length_is_tampering(world: World, change: int) -> None:
    world.grow()
    with pytest.raises(Tampered):
        ChunkTable(world.release, (world.chunks_bin + bytes(32))[: len(world.chunks_bin) + change])


# --- headers


@given(
    size=st.integers(0, 2**40), name=st.sampled_from(["format", "root/7.json", "blobs/sha256/" + "a" * 64])
)
def test_every_tar_reader_reads_our_header_as_that_name_and_size(size: int, name: str) -> None:
    header = member_header(name, size)
    with tarfile.open(fileobj=io.BytesIO(header + bytes(1024))) as archive:
        member = archive.next()
    assert member is not None
    assert (member.name, member.size, member.isreg(), member.mode, member.mtime) == (
        name,
        size,
        True,
        0o444,
        0,
    )
    assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
    assert len(header) == (512 if size < 2**33 else 3 * 512)


def test_gnu_tar_lists_and_extracts_a_carrier(world: World, tmp_path: Path) -> None:
    carrier = world.carrier(tmp_path)
    subprocess.run(["tar", "-C", tmp_path, "-xf", carrier], check=True, capture_output=True, timeout=60)
    for sha256, data in world.blobs.items():
        assert (tmp_path / "blobs/sha256" / sha256).read_bytes() == data


@given(st.integers(0, 2**60))
def test_padding_fills_the_last_block(size: int) -> None:
    assert (size + padding_bytes(size)) % 512 == 0
    assert 0 <= padding_bytes(size) < 512


# --- the format line


def test_our_own_format_line_passes() -> None:
    check_format_line(format_line())


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b"banip bundle format 2\n", UnfitServer),
        (b"banip bundle format 2; bridge 1.9.0+c7\n", UnfitServer),
        (b"banip bundle format 0\n", Untrusted),
        (b"banip bundle format 1", Untrusted),
        (b"banip bundle format 2; bridge \x1b[31m\n", Untrusted),
        (b"banip bundle format 99999\n", Untrusted),
        (b"", Untrusted),
    ],
)
def test_another_format_line_is_refused(line: bytes, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        check_format_line(line)


# --- envelopes


@given(payload=st.binary(max_size=300), names=st.sets(st.sampled_from("abcd")))
def test_an_envelope_survives_the_way_there_and_back(payload: bytes, names: set[str]) -> None:
    raw = signed(payload, [key(name) for name in sorted(names)])
    envelope = envelope_from_bytes(raw, "here")
    assert envelope.payload == payload
    assert set(envelope.signatures) == {key(name).public_key.keyid for name in names}
    assert envelope_to_bytes(envelope) == raw


ENVELOPE = {"payload": "AA==", "payloadType": "application/vnd.tuf+json", "signatures": []}
SIGNATURE = {"keyid": "a" * 64, "sig": "AA=="}
BAD_ENVELOPES: dict[str, dict[str, Any]] = {
    "another payload type": {"payloadType": "application/vnd.in-toto+json"},
    "larger than 1 MiB": {"payload": base64.b64encode(bytes(2**20)).decode()},
    "base64 with bits in its padding": {"payload": "AB=="},
    "base64 with white space": {"payload": "AA==\n"},
    "base64 without its padding": {"payload": "AA"},
    "a payload that is no text": {"payload": 0},
    "a signature twice": {"signatures": [SIGNATURE, SIGNATURE]},
    "two signatures under one key id": {"signatures": [SIGNATURE, {**SIGNATURE, "sig": "AQ=="}]},
    "a key id in capitals": {"signatures": [{**SIGNATURE, "keyid": "A" * 64}]},
    "a key id that is too short": {"signatures": [{**SIGNATURE, "keyid": "a" * 63}]},
    "a key id that is no text": {"signatures": [{**SIGNATURE, "keyid": 7}]},
    "a signature with more in it": {"signatures": [{**SIGNATURE, "more": 1}]},
    "a signature that is no text": {"signatures": [{**SIGNATURE, "sig": None}]},
    "signatures that are no list": {"signatures": {}},
    "a member too many": {"more": 1},
}


def test_the_envelope_that_the_bad_ones_differ_from_is_a_good_one() -> None:
    assert (
        envelope_from_bytes(canonical_json({**ENVELOPE, "signatures": [SIGNATURE]}), "here").payload == b"\0"
    )


@pytest.mark.parametrize("fault", BAD_ENVELOPES)
def test_a_bad_envelope_is_refused_by_the_parser_itself(fault: str) -> None:
    with pytest.raises(Untrusted):
        envelope_from_bytes(canonical_json(ENVELOPE | BAD_ENVELOPES[fault]), "here")


@given(st.binary(max_size=300))
def test_noise_is_no_envelope(noise: bytes) -> None:
    with pytest.raises(Untrusted):
        envelope_from_bytes(noise, "here")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=9))
def test_a_payload_is_an_object_or_nothing(value: object) -> None:
    with pytest.raises(Untrusted):
        strict_payload(canonical_json(value), "here")


@pytest.mark.parametrize(
    "payload",
    [b'{"a":1,"a":1}', b'{"a":{"b":1,"b":2}}', b'{"a":NaN}', b'{"a":Infinity}', b'{"a":-Infinity}', b"\xff"],
)
def test_a_payload_with_duplicate_keys_or_foreign_constants_is_untrusted(payload: bytes) -> None:
    with pytest.raises(Untrusted):
        strict_payload(payload, "here")


@pytest.mark.parametrize(
    "number", ["1.0", "1e3", "1e400", "9" * 17, "-" + "9" * 16, "9" * 500_000, "0." + "9" * 500_000]
)
def test_a_payload_has_whole_numbers_of_16_digits_at_most(number: str) -> None:
    assert strict_payload(b'{"a":9999999999999999}', "here") == {"a": 9_999_999_999_999_999}
    with pytest.raises(Untrusted) as caught:
        strict_payload(b'{"a":%b}' % number.encode(), "here")
    assert len("".join(caught.value.lines())) < 1000  # and the number is not said back


def test_a_deep_payload_is_untrusted_and_breaks_nothing() -> None:
    with pytest.raises(Untrusted):
        strict_payload(b'{"a":' * 100_000, "here")
