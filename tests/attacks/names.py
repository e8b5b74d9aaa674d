"""Hostile names and kinds: headers that another reader of tars would obey, and paths in signed metadata."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING, Any

from appliance.format import BLOCK_BYTES, member_header, padding_bytes
from tests.attacks import rows
from tests.attacks.corpus import Scene, attack, attacks, edit, first_blob
from tests.world import Member

if TYPE_CHECKING:
    from collections.abc import Callable


# --- Headers


def header(name: bytes, length: int, **fields: bytes) -> bytes:
    """Return our header with other fields and a checksum that fits them: any reader of tars takes it."""
    block = bytearray(member_header("x", length)[-BLOCK_BYTES:])
    own = {"name": (0, name), "mode": (100, b""), "size": (124, b""), "kind": (156, b""), "link": (157, b"")}
    places = {**own, "uid": (108, b""), "mtime": (136, b""), "uname": (265, b""), "device": (329, b"")}
    places |= {"prefix": (345, b""), "magic": (257, b""), "tail": (500, b"")}
    block[0:100] = name[:100].ljust(100, b"\0")
    for field, value in fields.items():
        start = places[field][0]
        block[start : start + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def extended(kind: bytes, content: bytes, name: bytes = b"././@LongLink") -> bytes:
    """Return a member that speaks about the next one: pax ``x`` and ``g``, GNU ``L`` and ``K``."""
    return header(name, len(content), kind=kind) + content + bytes(padding_bytes(len(content)))


def pax(**records: str) -> bytes:
    """Return pax records. Source: POSIX.1-2024, pax, extended header."""
    found = b""
    for name, value in records.items():
        rest = f" {name}={value}\n".encode("utf-8", "surrogateescape")
        length = len(rest)
        while length != len(str(length)) + len(rest):
            length = len(str(length)) + len(rest)
        found += str(length).encode() + rest
    return found


#: Each makes the header of a member out of its right name and size.
KINDS: dict[str, Callable[[bytes, int], bytes]] = {
    "a hardlink": lambda name, size: header(name, size, kind=b"1", link=b"/etc/shadow"),
    "a symbolic link": lambda name, size: header(name, size, kind=b"2", link=b"/etc/cron.d"),
    "a character device": lambda name, size: header(name, size, kind=b"3", device=b"0000001\x000000003\x00"),
    "a block device": lambda name, size: header(name, size, kind=b"4", device=b"0000010\x000000000\x00"),
    "a folder": lambda name, size: header(name, size, kind=b"5"),
    "a named pipe": lambda name, size: header(name, size, kind=b"6"),
    "a contiguous file": lambda name, size: header(name, size, kind=b"7"),
    "a file of old tars": lambda name, size: header(name, size, kind=b"\0"),
    "a GNU sparse file": lambda name, size: header(name, size, kind=b"S"),
    "a GNU multi-volume piece": lambda name, size: header(name, size, kind=b"M"),
    "a GNU volume label": lambda name, size: header(name, size, kind=b"V"),
    "a kind that nobody knows": lambda name, size: header(name, size, kind=b"Z"),
    "a file that may be run as root": lambda name, size: header(name, size, mode=b"0004755\0"),
    "a file of another owner": lambda name, size: header(name, size, uid=b"0001750\0"),
    "a file of another day": lambda name, size: header(name, size, mtime=b"14723545345\0"),
    "a file with an owner's name": lambda name, size: header(name, size, uname=b"root\0"),
    "a header of GNU's own kind": lambda name, size: header(name, size, magic=b"ustar  \0"),
    "a header with bytes in its unused end": lambda name, size: header(name, size, tail=b"evil"),
    "a name behind a NUL": lambda name, size: header(name + b"\0/../../etc/cron.d/evil", size),
    "a name with a dot and a slash before it": lambda name, size: header(b"./" + name, size),
    "a name with a slash before it": lambda name, size: header(b"/" + name, size),
    "a name that climbs out": lambda name, size: header(b"../" * 9 + name, size),
    "a name in a prefix": lambda name, size: header(name.rpartition(b"/")[2], size, prefix=b"../../etc"),
    "a name of a hundred bytes": lambda name, size: header(name.ljust(100, b"a"), size),
    "a name with a letter that only looks alike": lambda name, size: header(
        name.replace(b"o", "\u043e".encode()).replace(b"a", "\u0430".encode()), size
    ),
    "a name in capitals": lambda name, size: header(name.upper(), size),
    "a name that steers the terminal": lambda name, size: header(b"\x1b[2K\x1b[1A" + name, size),
    "a name that writes from right to left": lambda name, size: header("\u202e".encode() + name, size),
    "a name that is no UTF-8": lambda name, size: header(b"\xff\xfe" + name, size),
    "a pax header with another path": lambda name, size: (
        extended(b"x", pax(path="../../etc/cron.d/evil")) + member_header(name.decode(), size)
    ),
    "a pax header with another link": lambda name, _: (
        extended(b"x", pax(linkpath="/etc/shadow")) + header(name, 0, kind=b"1")
    ),
    "a pax header with another size": lambda name, size: (
        extended(b"x", pax(size="0")) + member_header(name.decode(), size)
    ),
    "a pax header that is right and not needed": lambda name, size: (
        extended(b"x", pax(size=str(size))) + member_header(name.decode(), size)
    ),
    "a pax header with a GNU sparse map": lambda name, size: (
        extended(b"x", pax(**{"GNU.sparse.realsize": str(2**60), "GNU.sparse.map": "0,1"}))
        + member_header(name.decode(), size)
    ),
    "a pax header for all that follows": lambda name, size: (
        extended(b"g", pax(path="evil")) + member_header(name.decode(), size)
    ),
    "a GNU header with a long name": lambda name, size: (
        extended(b"L", b"../" * 60 + b"evil\0") + member_header(name.decode(), size)
    ),
    "a GNU header with a long link": lambda name, _: (
        extended(b"K", b"/etc/" + b"x" * 200 + b"\0") + header(name, 0, kind=b"1")
    ),
    "a GNU folder of names": lambda name, size: (
        extended(b"D", b"Yevil\0\0", b"x") + member_header(name.decode(), size)
    ),
}
#: Where the kinds do not tell one from another, three of them stand for all.
SAMPLE = ("a symbolic link", "a pax header with another path", "a name that climbs out")


def _placed(scene: Scene, name: str, make: Callable[[bytes, int], bytes]) -> None:
    def replaced(member: Member) -> Member:
        other = make(member.name.encode(), len(member.content))
        assert other != member.header
        return Member(member.name, other, member.content, member.padding)

    edit(scene.world, lambda each: [replaced(one) if one.name == name else one for one in each])


@attacks(11, rows.OTHER_HEADER, {f"{kind} in the place of a blob": make for kind, make in KINDS.items()})
def _instead_of_a_blob(scene: Scene, make: Callable[[bytes, int], bytes]) -> None:
    _placed(scene, first_blob(scene.world), make)


@attacks(11, rows.OTHER_HEADER, {f"{kind} in the place of release.json": KINDS[kind] for kind in SAMPLE})
def _instead_of_the_release(scene: Scene, make: Callable[[bytes, int], bytes]) -> None:
    _placed(scene, "release.json", make)


@attacks(11, rows.OTHER_HEADER, {f"{kind} in the place of targets.json": KINDS[kind] for kind in SAMPLE})
def _instead_of_the_targets(scene: Scene, make: Callable[[bytes, int], bytes]) -> None:
    _placed(scene, "targets.json", make)


@attacks(10, rows.NO_BUNDLE, {f"{kind} in the place of the format line": KINDS[kind] for kind in SAMPLE})
def _instead_of_the_format(scene: Scene, make: Callable[[bytes, int], bytes]) -> None:
    _placed(scene, "format", make)


def readable(make: Callable[[bytes, int], bytes]) -> bool:
    """Tell whether Python's own tarfile takes such a header: what it refuses is no attack on anybody."""
    content = make(b"blobs/sha256/" + b"0" * 64, 0) + bytes(2 * BLOCK_BYTES)
    try:
        tarfile.TarInfo.frombuf(content[:BLOCK_BYTES], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


# --- Paths and names that somebody signed

PATHS = {
    "a path that climbs out": "models/../../../etc/cron.d/evil",
    "a path that begins with a climb": "../models/x",
    "an absolute path": "/etc/cron.d/evil",
    "a path through the folder itself": "models/./x",
    "a path with two slashes": "models//x",
    "a path that ends in a slash": "models/",
    "a path with a NUL": "models/a\0b",
    "a path with a line's end inside": "models/a\nb",
    "a path with a line's end after it": "models/tiny/config.json\n",
    "a path with a backslash": "models\\..\\x",
    "a path of hidden files": "models/.ssh/authorized_keys",
    "a path of 4,000 letters": "models/" + "x" * 4000,
    "a path with letters that look alike": "m\u043edels/x",
    "a path that writes from right to left": "models/\u202etxt.exe",
    "a path into the signed metadata": "metadata/targets.json",
    "a path in the place of the command": "bin/appliance",
    "a path in the place of the mark of a good release": "good",
}


@attacks(11, rows.CONTRADICTION, {f"{name}, signed": path for name, path in PATHS.items()})
def _signed_path(scene: Scene, path: str) -> None:
    def change(release: dict[str, Any]) -> None:
        release["files"][1]["path"] = path

    scene.world.change_release = change


CONTRADICTIONS: dict[str, Callable[[dict[str, Any]], object]] = {
    "a file that is a folder too, signed": lambda release: release["files"].append(
        {**release["files"][1], "path": "models/tiny"}
    ),
    "a path that stands twice, signed": lambda release: release["files"].append(release["files"][1]),
    "a wheel whose name climbs out, signed": lambda release: release["environments"][0]["wheels"][0].update(
        filename="../../evil.whl"
    ),
    "a role that owns the password file, signed": lambda release: release.update(
        roles=[{"name": "api", "owns": {"paths": ["/etc/passwd"]}}]
    ),
    "a role that owns somebody else's unit, signed": lambda release: release.update(
        roles=[{"name": "api", "owns": {"units": ["ssh.service"]}}]
    ),
    "a role that asks another machine for its health, signed": lambda release: release.update(
        roles=[{"name": "api", "health": [{"kind": "http", "url": "http://10.0.0.1:80/"}]}]
    ),
    "a product that climbs out, signed": lambda release: release.update(product="../demo"),
    "a product with a line's end, signed": lambda release: release.update(product="demo\n"),
    "a version with a line's end, signed": lambda release: release.update(version="3.0.0\n"),
    "a digest with a line's end, signed": lambda release: release.update(bom=release["bom"] + "\n"),
    "a blob that nothing uses, signed": lambda release: release["blobs"].insert(
        0, {"sha256": "0" * 64, "size_bytes": 1}
    ),
    "a file of a blob that is not carried, signed": lambda release: release["files"][1].update(
        sha256="0" * 64
    ),
    "a package that is in no repository, signed": lambda release: release.update(
        packages=[{"name": "evil", "version": "1", "architecture": "amd64", "sha256": release["bom"]}]
    ),
    "no blobs at all, signed": lambda release: release.update(blobs=[]),
    "no environment that installs it, signed": lambda release: release["environments"].pop(1),
}


@attacks(11, rows.CONTRADICTION, CONTRADICTIONS)
def _contradiction(scene: Scene, change: Callable[[dict[str, Any]], object]) -> None:
    scene.world.change_release = change


@attack(20, rows.UNKNOWN_MEMBER)
def a_member_that_nobody_knows_signed(scene: Scene) -> None:
    scene.world.change_release = lambda release: release.update(hooks=["evil"])
