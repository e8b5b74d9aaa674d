"""What must hold of any bytes: they are refused with an error of Banip's, or are exactly what was signed.

Each target takes bytes and returns, or fails: any other error, or an assertion, is a finding.
"""

from __future__ import annotations

import io
import os
import tempfile
import warnings
import zipfile
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from tuf.api._payload import Root, Targets
from tuf.api.dsse import SimpleEnvelope

from appliance.environment import _install
from appliance.errors import BanipError
from appliance.format import (
    BLOCK_BYTES,
    FORMAT,
    TARGETS_MEMBER,
    ChunkTable,
    Wheel,
    canonical_json,
    check_format_line,
    chunk_count,
    envelope_from_bytes,
    envelope_to_bytes,
    member_header,
    release_from_bytes,
    release_to_bytes,
    sha256_hex,
)
from appliance.media import _name_in, _size_in, open_carrier
from appliance.roots import check_root, open_envelope, parse_signed
from appliance.store import Store
from appliance.text import printable
from appliance.verify import parse_targets, verify
from tests.attacks.corpus import whole_world
from tests.world import NOW, MemorySource, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: The order of P-256.
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
#: In memory: a fuzzer writes a file a thousand times a second.
_FAST = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a folder of a random name in it


@cache
def world() -> World:
    """Return the bundle that is changed: two roots, two signatures of three."""
    return whole_world()


@cache
def carrier_bytes() -> bytes:
    return world().carrier_bytes()


@cache
def members() -> dict[str, bytes]:
    return {member.name: member.content for member in world().members()}


@contextmanager
def _file(content: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=_FAST) as folder:
        path = Path(folder) / "bundle.tar"
        path.write_bytes(content)
        yield path


def _server() -> Any:  # noqa: ANN401 - Trust
    from dataclasses import replace  # noqa: PLC0415

    return replace(world().trust(2), older=(world().root(1),))


# --- Carriers


def carrier(data: bytes) -> None:
    """Any file: nothing but the signed bundle itself crosses the whole way."""
    with _file(data) as path, suppress(BanipError):
        with open_carrier(path) as opened:
            bundle = verify(opened, _server(), reference_time=NOW)
            opened.check_layout(bundle.release)
            for blob in bundle.release.blobs:
                if sha256_hex(b"".join(opened.blob(blob))) != blob.sha256:
                    return  # what the store says of it
        assert data == carrier_bytes(), "another bundle than the signed one was accepted"


def edits(data: bytes) -> None:
    """The signed bundle after a few edits, which the bytes spell: where, what, how long, with what."""
    whole = bytearray(carrier_bytes())
    source = io.BytesIO(data[:256])
    while len(head := source.read(4)) == 4:
        place, kind, count = int.from_bytes(head[:2], "big") % (len(whole) + 1), head[2], head[3]
        _edit(whole, place, kind % 6, count, source)
    carrier(bytes(whole))


def _edit(whole: bytearray, place: int, kind: int, count: int, source: io.BytesIO) -> None:
    block = place - place % BLOCK_BYTES
    if kind == 0:
        whole[place : place + 1] = bytes(one ^ count for one in whole[place : place + 1])
    elif kind == 1:
        whole[place:place] = source.read(count)
    elif kind == 2:
        del whole[place : place + count]
    elif kind == 3:  # a block to another place
        other = count * BLOCK_BYTES % (len(whole) + 1)
        whole[block : block + BLOCK_BYTES], whole[other : other + BLOCK_BYTES] = (
            whole[other : other + BLOCK_BYTES],
            whole[block : block + BLOCK_BYTES],
        )
    elif kind == 4:
        whole[block:block] = whole[block : block + count * BLOCK_BYTES]
    else:
        content = source.read(count)
        whole[place : place + len(content)] = content


def header(data: bytes) -> None:
    """Any block: a name and a size are read only out of the one right header for them."""
    name, size = _name_in(data), _size_in(data)
    if name not in {None, "END"}:
        assert name is not None
        assert size is not None
        assert data[:BLOCK_BYTES] == member_header(name, size)[:BLOCK_BYTES]


def format_line(data: bytes) -> None:
    """Any first line: only our own format passes."""
    with suppress(BanipError):
        check_format_line(data)
        assert data.startswith(b"banip bundle format %d" % FORMAT)


# --- Envelopes and payloads


def envelope(data: bytes) -> None:
    """Any envelope: what is taken has one spelling."""
    with suppress(BanipError):
        opened = open_envelope(data, "here")
        assert envelope_to_bytes(opened) == data
        assert envelope_from_bytes(data, "here").payload == opened.payload


def signed_targets(data: bytes) -> None:
    """Any targets in the signed bundle: the very bytes, or signatures mirrored, which everybody can."""
    with suppress(BanipError):
        verify(MemorySource({**members(), TARGETS_MEMBER: data}), _server(), reference_time=NOW)
        assert _meaning(data) == _meaning(members()[TARGETS_MEMBER])


def signed_root(data: bytes) -> None:
    """Any second root in the signed bundle, which the server knows."""
    with suppress(BanipError):
        verify(MemorySource({**members(), "root/2.json": data}), _server(), reference_time=NOW)
        assert _meaning(data) == _meaning(members()["root/2.json"])


def _meaning(raw: bytes) -> tuple[bytes, dict[str, tuple[int, int]]]:
    """Return the payload and each signature as its r and the smaller of s and n - s."""
    opened = open_envelope(raw, "here")
    pairs = {
        name: decode_dss_signature(bytes.fromhex(one.signature)) for name, one in opened.signatures.items()
    }
    return opened.payload, {name: (r, min(s, N - s)) for name, (r, s) in pairs.items()}


def root(data: bytes) -> None:
    """Any payload that the right keys signed as a root."""
    with suppress(BanipError):
        parsed = parse_signed(_envelope(data), Root, "here")
        assert canonical_json(parsed.to_dict()) == data
        check_root(parsed)


def targets(data: bytes) -> None:
    """Any payload that the right keys signed as targets."""
    with suppress(BanipError):
        parsed = parse_targets(_envelope(data))
        assert canonical_json(parsed.to_dict()) == data
        assert isinstance(parsed, Targets)


def _envelope(payload: bytes) -> SimpleEnvelope[Any]:
    return SimpleEnvelope(payload, SimpleEnvelope.DEFAULT_PAYLOAD_TYPE, {})


# --- What the targets sign


def release(data: bytes) -> None:
    """Any release.json: what is taken has one spelling, and no path that leaves its folder."""
    with suppress(BanipError):
        parsed = release_from_bytes(data)
        assert release_to_bytes(parsed) == data
        names = [file.path for file in parsed.files] + [parsed.id]
        names += [wheel.filename for one in parsed.environments for wheel in one.wheels]
        for name in names:
            assert name == os.path.normpath(name) == printable(name)
            assert not name.startswith(("/", "."))
            assert "\n" not in name


def chunks(data: bytes) -> None:
    """Any chunks.bin: it has a digest for each chunk, or is refused."""
    with suppress(BanipError):
        table = ChunkTable(_large_release(), data)
        assert len(data) == 32 * sum(chunk_count(blob.size_bytes) for blob in _large_release().blobs)
        assert b"".join(b"".join(table.of(blob.sha256)) for blob in _large_release().blobs) == data


@cache
def _large_release() -> Any:  # noqa: ANN401 - Release
    large = World()
    large.files["models/tiny/large.bin"] = bytes(20 * 2**20)
    return large.release


# --- Wheels


def wheel(data: bytes) -> None:
    """Any bytes that somebody signed as a wheel: installed below the environment, or refused."""
    with tempfile.TemporaryDirectory(dir=_FAST) as folder:
        home, store = Path(folder) / "envs" / "home", Store(Path(folder) / "store")
        store.path("x").parent.mkdir(parents=True)
        store.path(sha256_hex(data)).write_bytes(data)
        with suppress(BanipError):
            _install(Wheel(filename=WHEEL, sha256=sha256_hex(data)), store, home, "3.11")
        assert {path.name for path in Path(folder).iterdir()} <= {"envs", "store"}
        assert [path.name for path in (Path(folder) / "envs").glob("*")] in ([], ["home"])
        assert len(list((Path(folder) / "store").rglob("*"))) == 3


WHEEL = "hello-1.0-py3-none-any.whl"


def wheel_members(data: bytes) -> None:
    """A wheel whose members, RECORD, METADATA and entry points the bytes spell, a line each."""
    lines = (data[:2000].decode("utf-8", "surrogateescape").split("\n") + [""] * 4)[:40]
    names = [line for line in lines[4:] if line]
    content = {
        "hello-1.0.dist-info/RECORD": lines[0].replace("\r", "\n"),
        "hello-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n" + lines[1],
        "hello-1.0.dist-info/METADATA": lines[2],
        "hello-1.0.dist-info/entry_points.txt": f"[console_scripts]\n{lines[3]}\n",
    }
    whole = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(whole, "w") as archive, suppress(UnicodeEncodeError):
        warnings.simplefilter("ignore")  # two members of one name are what is wanted
        for name, words in (*content.items(), *((name, "x") for name in names)):
            archive.writestr(zipfile.ZipInfo(name), words.encode("utf-8", "surrogateescape"))
    wheel(whole.getvalue())


# --- What a person reads


def words(data: bytes) -> None:
    """Any name: what is shown of it steers nothing, and is shown the same again."""
    shown = printable(data.decode("utf-8", "surrogateescape"))
    assert printable(shown) == shown
    assert shown.encode("utf-8") or not data
    assert not set(shown) & {"\x1b", "\x9b", "\x00", "\x7f", "\r", "\u202e", "\u2028", "\u2066", "\ufeff"}


TARGETS: dict[str, Callable[[bytes], None]] = {
    each.__name__: each
    for each in (
        carrier, edits, header, format_line, envelope, signed_targets, signed_root, root, targets, release,
        chunks, wheel, wheel_members, words,
    )
}  # fmt: skip


@cache
def seeds(name: str) -> tuple[bytes, ...]:
    """Return good inputs of a target, and those that were kept."""
    kept = sorted((Path(__file__).parent / "corpus" / name).glob("*"))
    return (*_good(name), *(path.read_bytes() for path in kept))


def _good(name: str) -> tuple[bytes, ...]:
    from tests.tiny import wheel as make_wheel  # noqa: PLC0415

    payload = {
        "root": world().root(2),
        "targets": world().targets,
    }
    found: dict[str, tuple[bytes, ...]] = {
        "carrier": (carrier_bytes(), carrier_bytes()[:2048]),
        "edits": (b"\x00\x10\x00\x01", b"\x40\x00\x04\x02\x00\x00\x03\x05"),
        "header": (member_header("room", 513), member_header("blobs/sha256/" + "a" * 64, 2**33 - 1)),
        "format_line": (b"banip bundle format 1\n", b"banip bundle format 2; bridge 1.9.0\n"),
        "envelope": (world().targets, world().root(2)),
        "signed_targets": (world().targets,),
        "signed_root": (world().root(2),),
        "release": (world().release_json,),
        "chunks": (bytes(96),),
        "wheel": (make_wheel("hello", {"hello.py": b"x = 1\n"}, "hello = hello:x"),),
        "wheel_members": (
            b"hello.py,,\n\nName: hello\nhello = hello:x\nhello.py\n../evil\n/evil\na/../../../b",
        ),
        "words": ("한글 \x1b[2J \u202e".encode(), b"\xff\xfe"),
    }
    if name in payload:
        return (envelope_from_bytes(payload[name], "here").payload,)
    return found[name]
