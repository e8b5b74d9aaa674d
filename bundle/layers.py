"""Layers of container images: what each unpacks to, learnt while its bytes pass, and remembered.

A manifest names a layer by the digest of the file that travels, a config by that of the tar inside (its
DiffID). Both come out of one reading: ``collect``'s, when the layer arrives, or ``build``'s where nobody has
left a record. Source: OCI image specification 1.1, config.md, "Layer DiffID"; RFC 1952.
"""

from __future__ import annotations

import hashlib
import zlib
from typing import TYPE_CHECKING, Literal

from appliance.durable import make_folder, write_file
from appliance.errors import BanipError, Tampered
from appliance.format import Blob, Count, Sha256, Value, canonical_json, decode_json
from appliance.pieces import PIECE_BYTES, pieces_of
from appliance.text import text

if TYPE_CHECKING:
    from pathlib import Path

_GZIP_MAGIC = b"\x1f\x8b"
#: zlib's word for one member of a gzip file, its header and its checksum included.
_GZIP_MEMBER = 16 + zlib.MAX_WBITS
#: The inflater is fed so much at a time: what a short member leaves over is copied, so it must be little.
_FED_BYTES = 16 * 1024


class Unpacked(Value, frozen=True):
    """The tar of a layer."""

    sha256: Sha256
    size_bytes: Count

    @property
    def diff_id(self) -> str:
        """The tar's digest, as a config writes it."""
        return f"sha256:{self.sha256}"


class Unpacking:
    """A layer that passes piece by piece: a gzip file of one or several members, or a plain tar.

    It takes what a bomb unpacks to 1 MiB at a time, keeps nothing of it, and never raises on the way: a
    layer that cannot be unpacked has no tar.
    """

    def __init__(self) -> None:
        self._digest, self._size_bytes = hashlib.sha256(), 0
        self._head: bytes | None = b""
        self._is_gzip = self._is_broken = False
        self._member: zlib._Decompress | None = None

    def update(self, piece: bytes) -> None:
        """Take the next piece."""
        if self._head is not None:
            piece = self._head + piece
            if len(piece) < len(_GZIP_MAGIC):
                self._head = piece
                return
            self._head, self._is_gzip = None, piece.startswith(_GZIP_MAGIC)
        if not self._is_gzip:
            self._add(piece)
            return
        for start in range(0, len(piece), _FED_BYTES):
            if not self._is_broken:
                self._inflate(piece[start : start + _FED_BYTES])

    def unpacked(self) -> Unpacked | None:
        """Return the tar, when all pieces are in; None where the packing is broken or ends too early."""
        if self._head is not None:  # too little for a gzip file
            self._add(self._head)
            self._head = None
        if self._is_broken or self._member is not None:
            return None
        return Unpacked(sha256=self._digest.hexdigest(), size_bytes=self._size_bytes)

    def _inflate(self, packed: bytes) -> None:
        try:
            while packed:
                if self._member is None:
                    packed = packed.lstrip(b"\0")  # zeros may fill up a file behind a member
                    self._member = zlib.decompressobj(_GZIP_MEMBER) if packed else None
                else:
                    self._add(self._member.decompress(packed, PIECE_BYTES))
                    packed = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
                    self._member = None if self._member.eof else self._member
        except zlib.error:
            self._is_broken = True

    def _add(self, content: bytes) -> None:
        self._digest.update(content)
        self._size_bytes += len(content)


class _Record(Value, frozen=True):
    """What is remembered of a layer; it names the layer itself, so that no other file's name can lie."""

    format: Literal[1]
    layer: Sha256
    unpacked: Unpacked


class Layers:
    """A folder of ``LAYER.json``, beside the build store. A record spares a reading and proves nothing.

    What is refused is refused for its bytes, and podman compares each layer with the config on the server.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, sha256: str) -> Unpacked | None:
        """Return what is remembered of a layer; None where nothing is, or nothing that can be understood."""
        path = self._path(sha256)
        try:
            record = decode_json(path.read_bytes(), _Record, path.name)
        except (BanipError, OSError):
            return None
        return record.unpacked if record.layer == sha256 else None

    def keep(self, sha256: str, unpacked: Unpacked | None) -> None:
        """Remember what a layer unpacks to; of one that does not unpack there is nothing to remember."""
        if unpacked is not None:
            make_folder(self._folder)
            record = _Record(format=1, layer=sha256, unpacked=unpacked)
            write_file(self._path(sha256), canonical_json(record))

    def learn(self, layer: Blob, path: Path) -> Unpacked | None:
        """Read a layer in the store, and remember what it unpacks to; ``Tampered`` for other content."""
        digest, unpacking = hashlib.sha256(), Unpacking()
        with path.open("rb", buffering=0) as file:
            for piece in pieces_of(file.fileno()):
                digest.update(piece)
                unpacking.update(piece)
        if digest.hexdigest() != layer.sha256:
            raise Tampered(
                text("a blob in the store is not what its name says"),
                where=layer.sha256,
                expected=layer.sha256,
                seen=digest.hexdigest(),
                remedy=text("remove it from the store and collect again"),
            )
        unpacked = unpacking.unpacked()
        self.keep(layer.sha256, unpacked)
        return unpacked

    def _path(self, sha256: str) -> Path:
        return self._folder / f"{sha256}.json"
