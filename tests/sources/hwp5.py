"""A .hwp v5 file, byte by byte: an OLE compound file of FileHeader, DocInfo and one section.

Written from the two public specifications (Hancom's "한글 문서 파일 구조 5.0", Microsoft's MS-CFB), not with
the library that reads it later, so that the two judge each other. It holds paragraphs of text, no layout.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from itertools import pairwise

COMPRESSED, LOCKED = 0x1, 0x2  # bits of FileHeader's properties

_SECTOR, _MINI, _CUTOFF = 512, 64, 4096  # streams shorter than the last live in the mini stream
_FREE, _END, _FAT, _NONE = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD, 0xFFFFFFFF
_STORAGE, _STREAM, _ROOT = 1, 2, 5
_DOCUMENT_PROPERTIES, _ID_MAPPINGS = 0x10, 0x11
_PARA_HEADER, _PARA_TEXT, _PARA_CHAR_SHAPE = 0x42, 0x43, 0x44


def hwp5_file(paragraphs: list[str], *, properties: int = COMPRESSED) -> bytes:
    """Return a .hwp v5 file; ``LOCKED`` among the properties says that it needs a password."""
    pack = _deflated if properties & COMPRESSED else bytes
    return compound_file(
        {
            "FileHeader": _file_header(properties),
            "DocInfo": pack(_document_info()),
            "BodyText/Section0": pack(b"".join(_paragraph(words) for words in paragraphs)),
        }
    )


def _file_header(properties: int) -> bytes:
    version = 5 << 24 | 0 << 16 | 3 << 8 | 0
    return (b"HWP Document File".ljust(32, b"\0") + struct.pack("<II", version, properties)).ljust(256, b"\0")


def _document_info() -> bytes:
    properties = struct.pack(
        "<7H3I", 1, 1, 1, 1, 1, 1, 1, 0, 0, 0
    )  # one section; numbering from 1; the caret
    return _record(_DOCUMENT_PROPERTIES, 0, properties) + _record(_ID_MAPPINGS, 0, bytes(4 * 18))


def _paragraph(words: str) -> bytes:
    content = (words + "\r").encode("utf-16-le")
    # Characters, controls, shape, style, break, one character shape, no range tags, no line segments, id.
    header = struct.pack("<IIHBBHHHI", len(content) // 2, 0, 0, 0, 0, 1, 0, 0, 0)
    return (
        _record(_PARA_HEADER, 0, header)
        + _record(_PARA_TEXT, 1, content)
        + _record(_PARA_CHAR_SHAPE, 1, bytes(8))
    )


def _record(tag: int, level: int, payload: bytes) -> bytes:
    if len(payload) < 0xFFF:
        return struct.pack("<I", tag | level << 10 | len(payload) << 20) + payload
    return struct.pack("<II", tag | level << 10 | 0xFFF << 20, len(payload)) + payload


def _deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


# --- The compound file --------------------------------------------------------------------------------------


@dataclass
class _Entry:
    name: str
    kind: int
    content: bytes = b""
    start: int = _END
    child: int = _NONE
    right: int = _NONE  # siblings hang to the right, in order: a legal, if unbalanced, tree


def compound_file(streams: dict[str, bytes]) -> bytes:
    """Return a version 3 compound file of streams, at most one storage deep."""
    entries = _entries(streams)
    minis: list[int] = []
    mini_stream = b""
    for entry in entries:
        if entry.kind == _STREAM and len(entry.content) < _CUTOFF:
            entry.start = _append_chain(minis, _count(entry.content, _MINI)) if entry.content else _END
            mini_stream += _padded(entry.content, _MINI)
    entries[0].content = mini_stream
    fat: list[int] = []
    body = b""
    for entry in entries:
        if entry.kind == _ROOT or len(entry.content) >= _CUTOFF:
            entry.start = _append_chain(fat, _count(entry.content, _SECTOR))
            body += _padded(entry.content, _SECTOR)
    minifat = struct.pack(f"<{len(minis)}I", *minis)
    minifat_start = _append_chain(fat, _count(minifat, _SECTOR))
    body += _padded(minifat, _SECTOR, b"\xff")
    directory = b"".join(map(_entry_bytes, entries))
    directory_start = _append_chain(fat, _count(directory, _SECTOR))
    body += _padded(directory, _SECTOR)
    return _with_fat(body, fat, directory_start, (minifat_start, _count(minifat, _SECTOR)))


def _entries(streams: dict[str, bytes]) -> list[_Entry]:
    """Return root, storages and streams, linked: names of one level are ordered by length, then letters."""
    entries = [_Entry("Root Entry", _ROOT)]
    levels: dict[str, list[int]] = {"": []}
    for path, content in streams.items():
        folder, _, name = path.rpartition("/")
        if folder and folder not in levels:
            levels[folder] = []
            levels[""].append(len(entries))
            entries.append(_Entry(folder, _STORAGE))
        levels[folder].append(len(entries))
        entries.append(_Entry(name, _STREAM, content))
    for folder, numbers in levels.items():
        numbers.sort(key=lambda number: (len(entries[number].name), entries[number].name.upper()))
        parent = next(e for e in entries if e.name == folder or (not folder and e.kind == _ROOT))
        parent.child = numbers[0]
        for left, right in pairwise(numbers):
            entries[left].right = right
    return entries


def _entry_bytes(entry: _Entry) -> bytes:
    name = entry.name.encode("utf-16-le")
    size = 0 if entry.kind == _STORAGE else len(entry.content)
    start = 0 if entry.kind == _STORAGE else entry.start
    black = 1
    links = struct.pack("<HBBIII", len(name) + 2, entry.kind, black, _NONE, entry.right, entry.child)
    return name.ljust(64, b"\0") + links + bytes(16 + 4 + 8 + 8) + struct.pack("<IQ", start, size)


def _with_fat(body: bytes, fat: list[int], directory_start: int, minifat: tuple[int, int]) -> bytes:
    sectors = 1
    while (len(fat) + sectors) * 4 > sectors * _SECTOR:
        sectors += 1
    first = len(fat)
    fat += [_FAT] * sectors
    header = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(16)
    header += struct.pack("<HHHHH6x", 0x3E, 3, 0xFFFE, 9, 6)  # version 3, little endian, 2**9 and 2**6
    header += struct.pack("<IIIIIII", 0, sectors, directory_start, 0, _CUTOFF, *minifat)
    header += struct.pack("<II", _END, 0)  # no DIFAT sectors: 109 places in the header are enough here
    places = [*range(first, first + sectors)] + [_FREE] * (109 - sectors)
    table = _padded(struct.pack(f"<{len(fat)}I", *fat), _SECTOR, b"\xff")
    return header + struct.pack("<109I", *places) + body + table


def _append_chain(table: list[int], count: int) -> int:
    start = len(table)
    table += [*range(start + 1, start + count), _END]
    return start


def _count(content: bytes, unit: int) -> int:
    return -(-len(content) // unit)


def _padded(content: bytes, unit: int, filler: bytes = b"\0") -> bytes:
    return content.ljust(_count(content, unit) * unit, filler)
