"""The log of a guest's writes, and its replay to the last flush: what a power cut leaves on a disk.

Written by QEMU's blklogwrites in the format of Linux's dm-log-writes (its documentation: device-mapper,
log-writes.rst): a superblock, then for each write one sector with its header, followed by its data in whole
sectors. QEMU brings the superblock's count up to date at each flush.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECTOR_BYTES = 512
MAGIC = 0x6A736677736872
SUPERBLOCK = struct.Struct("<QQQI")  # magic, version, number of entries, sector size
ENTRY = struct.Struct("<QQQQ")  # sector, sectors, flags, bytes of data
FLUSH, FUA, DISCARD = 1, 2, 4


def create(log: Path) -> None:
    """Begin an empty log."""
    log.write_bytes(b"")


def replay_flushed(log: Path, disk: Path) -> int:
    """Write to a disk image, in order, what the log says was flushed.

    Returns how many later writes were dropped.

    A write counts as flushed when a flush came after it, or when it was a forced one itself.
    """
    with log.open("rb") as source:
        entries = list(_entries(source))
        last = max((at for at, entry in enumerate(entries) if entry[2] & FLUSH), default=-1)
        target = os.open(disk, os.O_RDWR)
        dropped = 0
        try:
            for at, entry in enumerate(entries):
                if at <= last or entry[2] & FUA:
                    _apply(source, target, entry)
                else:
                    dropped += 1
        finally:
            os.close(target)
    return dropped


def _entries(source: BinaryIO) -> Iterator[tuple[int, int, int, int]]:
    """List (sector, sectors, flags, where its data is) of every entry that the superblock vouches for."""
    magic, _, count, sector_bytes = SUPERBLOCK.unpack(
        source.read(SUPERBLOCK.size).ljust(SUPERBLOCK.size, b"\0")
    )
    if magic != MAGIC or sector_bytes != SECTOR_BYTES:
        return
    at = SECTOR_BYTES
    for _ in range(count):
        source.seek(at)
        sector, sectors, flags, _ = ENTRY.unpack(source.read(ENTRY.size))
        yield sector, sectors, flags, at + SECTOR_BYTES
        at += SECTOR_BYTES + (0 if flags & DISCARD else sectors * SECTOR_BYTES)


def _apply(source: BinaryIO, target: int, entry: tuple[int, int, int, int]) -> None:
    """Write one entry; a discard leaves the old bytes, which is one of the things a disk may do."""
    sector, sectors, flags, at = entry
    if flags & DISCARD or not sectors:
        return
    source.seek(at)
    os.pwrite(target, source.read(sectors * SECTOR_BYTES), sector * SECTOR_BYTES)
