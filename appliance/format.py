"""Bundle format 1: the values and the bytes that the online side and the server share.

Nothing here touches a disk. ``docs/design.md`` is the prose of this module, with the threat model.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import tarfile
from datetime import datetime  # noqa: TC003 - msgspec resolves annotations at run time
from itertools import islice
from typing import Annotated, Any, ClassVar, Literal, NoReturn, TypeVar

import msgspec
from msgspec import Meta, Struct
from securesystemslib.signer._signature import Signature
from tuf.api.dsse import SimpleEnvelope

from appliance.errors import Tampered, UnfitServer, Untrusted
from appliance.text import Text, text

FORMAT = 1
CHUNK_BYTES = 8 * 1024 * 1024
ENVELOPE_MAX_BYTES = 1024 * 1024
ROOTS_MAX = 64
RELEASE_MAX_BYTES = 64 * 1024 * 1024
#: Room kept beside the targets envelope, so that signing a 60 GB bundle rewrites kilobytes.
SIGNATURE_ROOM_BYTES = 32 * 1024
BLOCK_BYTES = 512
END_OF_CARRIER = bytes(2 * BLOCK_BYTES)
RELEASE_TARGET = "release.json"
CHUNKS_TARGET = "chunks.bin"
#: A flat apt repository: the packages of the release, and their index.
PACKAGES_FOLDER = "packages"
PACKAGES_INDEX = "packages/Packages"

RIGHT_BUNDLE = text("compare the bundle with the paper that came with it")
#: For what was signed as it is: no other copy of it can be better.
BUILD_AGAIN = text("have the bundle built and signed again: no copy of this one can be better")

# ``$`` alone lets a line's end follow in Python, and \Z is no JSON Schema: so ``$(?!\n)`` ends each pattern.
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,40}$(?!\n)")]
Version = Annotated[str, Meta(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+-]{0,40}$(?!\n)")]
#: Components never start with a dot, so neither ``.`` nor ``..`` nor a hidden file can be spelled.
RelativePath = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+@=~%-]*(/[A-Za-z0-9_][A-Za-z0-9_.+@=~%-]*)*$(?!\n)",
        max_length=240,
    ),
]
HostPath = Annotated[str, Meta(pattern=r"^(/[A-Za-z0-9_@.+-]*[A-Za-z0-9_@+-])+$(?!\n)", max_length=240)]
WheelName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+!-]*\.whl$(?!\n)", max_length=240)]
UnitName = Annotated[
    str, Meta(pattern=r"^banip-[A-Za-z0-9@_.-]{1,80}\.(service|socket|timer|target|path|mount)$(?!\n)")
]
#: A socket that waits for others, as a role declares it: "tcp/127.0.0.1:8600", "tcp/0.0.0.0:443"; any port of
#: loopback for one unit: "tcp/127.0.0.1:*@banip-vllm.service".
Socket = Annotated[
    str,
    Meta(
        pattern=r"^(tcp|udp)/((127\.0\.0\.1|0\.0\.0\.0|\[::1\]|\[::\]):[1-9][0-9]{0,4}"
        r"|127\.0\.0\.1:\*@banip-[a-z0-9-]{1,40}\.service)$(?!\n)",
        max_length=80,
    ),
]
AccountName = Annotated[str, Meta(pattern=r"^banip-[a-z0-9-]{1,25}$(?!\n)")]
TableName = Annotated[str, Meta(pattern=r"^banip(-[a-z0-9-]{1,25})?$(?!\n)")]
PackageName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9+.-]{1,80}$(?!\n)")]
PackageVersion = Annotated[str, Meta(pattern=r"^[0-9][0-9A-Za-z.+~:-]{0,80}$(?!\n)")]
Grade = Literal["C", "S", "O"]


class Value(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A frozen value that refuses keys it does not know."""


class Blob(Value, frozen=True):
    """Content by its digest."""

    sha256: Sha256
    size_bytes: Count


class ReleaseFile(Value, frozen=True):
    """A file of the release folder: a hardlink to a blob, and so 0444 and never executable."""

    path: RelativePath
    sha256: Sha256


class Wheel(Value, frozen=True):
    """A wheel of an environment."""

    filename: WheelName
    sha256: Sha256


class Environment(Value, frozen=True):
    """A Python environment, built on the server at its final path out of exactly these wheels."""

    name: Name
    python: Annotated[str, Meta(pattern=r"^3\.[0-9]{1,2}$(?!\n)")]
    platform: Annotated[str, Meta(pattern=r"^[a-z0-9_-]{1,60}$(?!\n)")]
    wheels: Annotated[tuple[Wheel, ...], Meta(min_length=1)]

    @property
    def digest(self) -> str:
        """Name of its folder: SHA-256 over Python, platform and wheels; equal content is built once."""
        wheels = sorted((wheel.filename, wheel.sha256) for wheel in self.wheels)
        return sha256_hex(canonical_json([FORMAT, self.python, self.platform, wheels]))


class Image(Value, frozen=True):
    """A container image: its OCI manifest blob, and the config and layer blobs that it names."""

    name: Name
    reference: Annotated[str, Meta(max_length=240)]
    manifest: Sha256
    blobs: tuple[Sha256, ...]


class Package(Value, frozen=True):
    """An operating system package, as a .deb blob."""

    name: PackageName
    version: PackageVersion
    architecture: Annotated[str, Meta(pattern=r"^[a-z0-9]{2,20}$(?!\n)")]
    sha256: Sha256

    @property
    def path(self) -> str:
        """Where the release folder has it, named as apt names what it downloads."""
        return f"{PACKAGES_FOLDER}/{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"


class Tolerated(Value, frozen=True):
    """Versions of a package under which this release was tested: ``at_least`` <= version < ``below``."""

    name: PackageName
    at_least: PackageVersion
    below: PackageVersion | None = None


_OWN_FOLDERS = ("/var/lib/banip", "/var/log/banip", "/etc/banip")


class Owned(Value, frozen=True):
    """Everything that a role leaves on the host, so that return and uninstall need no role to run."""

    units: tuple[UnitName, ...] = ()
    users: tuple[AccountName, ...] = ()
    paths: tuple[HostPath, ...] = ()
    nftables: tuple[TableName, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a path that removal must not reach: what is not ours, and Banip's own root and logs."""
        for path in self.paths:
            if "banip" not in path or path in _OWN_FOLDERS or path.startswith(_OWN_FOLDERS[0] + "/"):
                _fail(f"the path {path} is not a role's to own")


class UnitActive(Value, frozen=True, tag="unit", tag_field="kind"):
    """The unit is active."""

    unit: UnitName


class HttpAnswers(Value, frozen=True, tag="http", tag_field="kind"):
    """A GET on loopback answers 200; ``names_release``: its JSON's ``release`` is the release's id."""

    url: Annotated[str, Meta(pattern=r"^http://127\.0\.0\.1:[0-9]{2,5}/[A-Za-z0-9/_.-]*$(?!\n)")]
    names_release: bool = False


class Role(Value, frozen=True):
    """An Ansible role: what it owns on the host, where it listens, and how its health is asked for."""

    name: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,40}$(?!\n)")]
    owns: Owned = Owned()
    listens: tuple[Socket, ...] = ()
    health: tuple[UnitActive | HttpAnswers, ...] = ()
    health_timeout_s: Annotated[int, Meta(ge=1, le=3600)] = 60


class Target(Value, frozen=True):
    """The kind of server that the release is for."""

    os: Annotated[str, Meta(pattern=r"^[a-z]+-[0-9.]+$(?!\n)")]
    architecture: Literal["x86_64", "aarch64"]
    python: Annotated[str, Meta(pattern=r"^3\.[0-9]{1,2}$(?!\n)")]


class Space(Value, frozen=True):
    """Exact bytes that an install from nothing writes; all but the packages' under Banip's root.

    ``images_bytes``: what the layers of the images unpack to, each layer once. ``packages_bytes``: what the
    packages state as their installed size, in the file system of the host.
    """

    store_bytes: Count
    environments_bytes: Count
    images_bytes: Count
    packages_bytes: Count


class Release(Value, frozen=True):
    """``release.json``: the whole release, signed through its digest in the targets metadata."""

    format: Literal[1]
    product: Name
    version: Version
    counter: Annotated[int, Meta(ge=1, le=2**31)]
    grade: Grade
    site: Name | None
    target: Target
    built: datetime
    blobs: Annotated[tuple[Blob, ...], Meta(min_length=1)]
    files: tuple[ReleaseFile, ...]
    environments: Annotated[tuple[Environment, ...], Meta(min_length=1)]
    images: tuple[Image, ...]
    packages: tuple[Package, ...]
    tolerates: tuple[Tolerated, ...]
    roles: tuple[Role, ...]
    variables: dict[str, Any]
    space: Space
    bom: Sha256

    CONTROLLER: ClassVar[str] = "controller"

    def __post_init__(self) -> None:
        """Refuse a release that contradicts itself; msgspec turns the ValueError into one with a path."""
        digests = [blob.sha256 for blob in self.blobs]
        if digests != sorted(set(digests)):
            _fail("blobs are not sorted by distinct digest")
        if set(digests) != self._referenced():
            _fail("blobs and the digests in use are not the same set")
        _refuse_overlap([file.path for file in self.files])
        self._refuse_half_repository()
        if self.built.tzinfo is None:
            _fail("built has no time zone")
        for nouns in (self.environments, self.images, self.roles):
            names = [noun.name for noun in nouns]
            if len(names) != len(set(names)):
                _fail("two of a kind share a name")
        if self.CONTROLLER not in {environment.name for environment in self.environments}:
            _fail("no environment named controller")

    @property
    def id(self) -> str:
        """Name of the release folder, unique because a counter is never given twice."""
        return f"{self.product}-{self.version}-c{self.counter}"

    def environment(self, name: str) -> Environment:
        """Return the environment of that name (``KeyError`` if there is none)."""
        return {environment.name: environment for environment in self.environments}[name]

    def _refuse_half_repository(self) -> None:
        """Hold ``packages/`` to exactly the packages and their index: it is what they are installed from."""
        inside = {
            file.path: file.sha256 for file in self.files if file.path.startswith(f"{PACKAGES_FOLDER}/")
        }
        indexed = inside.pop(PACKAGES_INDEX, None) is not None
        if inside != {package.path: package.sha256 for package in self.packages} or indexed != bool(inside):
            _fail("the packages and the files in packages/ are not the same")

    def _referenced(self) -> set[str]:
        used = {file.sha256 for file in self.files} | {self.bom}
        used |= {wheel.sha256 for environment in self.environments for wheel in environment.wheels}
        used |= {package.sha256 for package in self.packages}
        for image in self.images:
            used |= {image.manifest, *image.blobs}
        return used


class ChunkTable:
    """``chunks.bin``: SHA-256 of every 8 MiB of each blob larger than that, in the order of the blobs."""

    def __init__(self, release: Release, raw: bytes) -> None:
        counts = {blob.sha256: chunk_count(blob.size_bytes) for blob in release.blobs}
        length = 32 * sum(counts.values())
        if length != len(raw):  # before it is cut up: a size that is signed may still claim a billion chunks
            raise Tampered(
                text("chunks.bin does not fit the blobs of the release"),
                where=CHUNKS_TARGET,
                expected=length,
                seen=len(raw),
                remedy=BUILD_AGAIN,
            )
        digests = (raw[start : start + 32] for start in range(0, length, 32))
        self._of = {sha256: tuple(islice(digests, count)) for sha256, count in counts.items()}

    def of(self, sha256: str) -> tuple[bytes, ...]:
        """Return the chunk digests of a blob; none for a blob of one chunk, whose name says it all."""
        return self._of[sha256]


def chunk_count(size_bytes: int) -> int:
    """Return how many chunk digests a blob has in ``chunks.bin``."""
    return -(-size_bytes // CHUNK_BYTES) if size_bytes > CHUNK_BYTES else 0


def sha256_hex(data: bytes) -> str:
    """Return the digest in the one spelling that Banip uses."""
    return hashlib.sha256(data).hexdigest()


def canonical_json(value: object) -> bytes:
    """Encode with sorted keys, no white space and a final newline: equal values, equal bytes."""
    return msgspec.json.encode(value, order="sorted") + b"\n"


def release_to_bytes(release: Release) -> bytes:
    """Return ``release.json``."""
    return canonical_json(release)


class _Numbered(Struct):
    """The one member that every format keeps."""

    format: int


def check_format(number: int, where: str, bridge: str = "?") -> None:
    """Refuse another format than the one this appliance reads, naming the bridge release."""
    if number != FORMAT:
        raise UnfitServer(
            text("the bundle has format {number}, which this appliance cannot read", number=number),
            where=where,
            expected=FORMAT,
            seen=number,
            remedy=text("install the bridge release {bridge} first, then this bundle", bridge=bridge),
        )


def release_from_bytes(data: bytes) -> Release:
    """Parse ``release.json`` after its digest was found in signed metadata.

    Raises ``UnfitServer`` for another format and for members that only a newer builder can know, ``Tampered``
    for anything else that is not exactly what ``release_to_bytes`` writes (no room for duplicate keys).
    """
    check_format(decode_json(data, _Numbered, RELEASE_TARGET, BUILD_AGAIN).format, RELEASE_TARGET)
    try:
        release = decode_json(data, Release, RELEASE_TARGET, BUILD_AGAIN)
    except Tampered as refusal:
        _refuse_newer(refusal)
        raise
    if release_to_bytes(release) != data:
        raise Tampered(
            text("release.json is not in canonical form"), where=RELEASE_TARGET, remedy=BUILD_AGAIN
        )
    return release


def _refuse_newer(refusal: Tampered) -> None:
    """Say of a signed release with an unknown member that it is too new: no other copy would do better."""
    if _UNKNOWN_MEMBER in str(refusal.seen):
        raise UnfitServer(
            text("the release has a member that this appliance does not know: a newer builder wrote it"),
            where=RELEASE_TARGET,
            seen=refusal.seen,
            remedy=text("install the release before it first, or have it built again under a new format"),
        ) from refusal


_UNKNOWN_MEMBER = "Object contains unknown field"  # msgspec's words; other words would make it Tampered
_T = TypeVar("_T")
#: Of what a parser says about a document: it may quote as much of it as it likes.
_REASON_CHARACTERS = 500


def decode_json(data: bytes, kind: type[_T], where: str, remedy: Text | None = None) -> _T:
    """Decode trusted JSON into ``kind``; ``Tampered`` names the JSON path of what does not fit."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Tampered(
            text("{name} does not have the form it must have", name=where),
            where=where,
            seen=str(error)[:_REASON_CHARACTERS],
            remedy=remedy,
        ) from error


# --- The carrier: a tar that has exactly one right spelling --------------------------------------------


def member_header(name: str, size_bytes: int) -> bytes:
    """Return the only header that Banip writes, and accepts, for a member of that name and size.

    POSIX.1-2001 ustar, with a pax record where a size needs one (8 GiB and more). A reader compares
    bytes with this instead of parsing, so links, devices, sparse files and lying extensions cannot occur.
    """
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size_bytes, 0o444, 0
    return info.tobuf(tarfile.PAX_FORMAT)


def padding_bytes(size_bytes: int) -> int:
    """Return how many zero bytes follow a member's content."""
    return -size_bytes % BLOCK_BYTES


def root_member(version: int) -> str:
    """Return the name of the member that holds that version of the root metadata."""
    return f"root/{version}.json"


def blob_member(sha256: str) -> str:
    """Return the name of the member that holds a blob."""
    return f"blobs/sha256/{sha256}"


FORMAT_MEMBER = "format"
TARGETS_MEMBER = "targets.json"
ROOM_MEMBER = "room"
_FORMAT_LINE = re.compile(rb"banip bundle format ([1-9][0-9]{0,3})(?:; bridge ([0-9A-Za-z.+-]{1,40}))?\n")


def format_line() -> bytes:
    """Return the content of the first member, by which an older appliance knows a newer bundle."""
    return b"banip bundle format %d\n" % FORMAT


def check_format_line(line: bytes) -> None:
    """Refuse another format with the bridge release that it names. The line is unsigned: a hint only."""
    match = _FORMAT_LINE.fullmatch(line)
    if match is None:
        raise not_a_bundle(FORMAT_MEMBER)
    check_format(int(match[1]), FORMAT_MEMBER, (match[2] or b"?").decode())


def not_a_bundle(where: object) -> Untrusted:
    """Return what is said of a file that does not begin as a bundle does."""
    return Untrusted(text("this file is not a Banip bundle"), where=where, remedy=RIGHT_BUNDLE)


# --- Envelopes: the only thing parsed before it is trusted ----------------------------------------------

_PAYLOAD_TYPE = SimpleEnvelope.DEFAULT_PAYLOAD_TYPE
_KEYID = re.compile(r"[0-9a-f]{64}")
_INTEGER_DIGITS = 16


def envelope_from_bytes(data: bytes, where: str) -> SimpleEnvelope[Any]:
    """Parse a DSSE envelope strictly, before anything in it is trusted.

    At most 1 MiB; exactly the members payload, payloadType and signatures; no duplicate keys; one
    signature a key; canonical base64. Raises ``Untrusted`` otherwise. Source: DSSE 1.0.2, envelope.md.
    """
    try:
        if len(data) > ENVELOPE_MAX_BYTES:
            _fail("larger than 1 MiB")
        outer = _exactly(_strict_json(data), {"payload", "payloadType", "signatures"})
        if outer["payloadType"] != _PAYLOAD_TYPE:
            _fail("another payloadType")
        if not isinstance(outer["signatures"], list):
            _fail("signatures is not a list")
        signatures: dict[str, Signature] = {}
        for item in outer["signatures"]:
            entry = _exactly(item, {"keyid", "sig"})
            keyid = entry["keyid"]
            if not isinstance(keyid, str) or not _KEYID.fullmatch(keyid) or keyid in signatures:
                _fail("a key id that is malformed or stands twice")
            signatures[keyid] = Signature(keyid, _base64(entry["sig"]).hex())
        return SimpleEnvelope(_base64(outer["payload"]), _PAYLOAD_TYPE, signatures)
    except (ValueError, RecursionError) as error:
        raise Untrusted(
            text("the signed envelope is malformed"), where=where, seen=error, remedy=RIGHT_BUNDLE
        ) from error


def envelope_to_bytes(envelope: SimpleEnvelope[Any]) -> bytes:
    """Return the envelope in canonical form, signatures sorted by key id."""
    signatures = [
        {"keyid": keyid, "sig": base64.b64encode(bytes.fromhex(signature.signature)).decode()}
        for keyid, signature in sorted(envelope.signatures.items())
    ]
    payload = base64.b64encode(envelope.payload).decode()
    return canonical_json({"payload": payload, "payloadType": _PAYLOAD_TYPE, "signatures": signatures})


def strict_payload(payload: bytes, where: str) -> dict[str, Any]:
    """Parse a verified payload, still refusing duplicate keys and constants that JSON does not have."""
    try:
        return _exactly(_strict_json(payload), None)
    except (ValueError, RecursionError) as error:
        raise Untrusted(
            text("the signed metadata is malformed"), where=where, seen=error, remedy=BUILD_AGAIN
        ) from error


def _strict_json(data: bytes) -> object:
    def distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) != len(pairs):
            _fail("a key stands twice")
        return found

    def fraction(_digits: str) -> NoReturn:
        _fail("a number that is not a whole number")

    return json.loads(
        data.decode("utf-8"),
        object_pairs_hook=distinct,
        parse_constant=_fail,
        parse_float=fraction,
        parse_int=_whole_number,
    )


def _whole_number(digits: str) -> int:
    """Read a whole number of at most 16 digits: longer ones take time by the square of their length."""
    if len(digits) > _INTEGER_DIGITS:
        _fail(f"a number of {len(digits)} digits")
    return int(digits)


def _exactly(value: object, keys: set[str] | None) -> dict[str, Any]:
    if not isinstance(value, dict) or (keys is not None and set(value) != keys):
        _fail("not an object of exactly the expected members")
    return value


def _base64(value: object) -> bytes:
    if not isinstance(value, str):
        _fail("base64 that is not a string")
    try:
        decoded = base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error
    if base64.b64encode(decoded).decode() != value:
        _fail("base64 that is not canonical")
    return decoded


def _refuse_overlap(paths: list[str]) -> None:
    files = set(paths)
    if len(files) != len(paths):
        _fail("two files share a path")
    for path in paths:
        if path.split("/")[0] not in {"models", "playbooks", PACKAGES_FOLDER, "bom.cdx.json"}:
            _fail("a file outside models/, playbooks/, packages/ and bom.cdx.json")
        parts = path.split("/")
        if any("/".join(parts[:depth]) in files for depth in range(1, len(parts))):
            _fail("a file that is also a folder")


def _fail(reason: str) -> NoReturn:
    raise ValueError(reason)
