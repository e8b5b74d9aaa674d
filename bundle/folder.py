"""The key folder: what lies in it, under which names, and who works in it.

::

    keys.json                       the product
    root-1.pem, release-1.pem ...   private keys, encrypted; none where a custodian keeps their own
    root-1.pub.pem ...              their public halves
    roots/1.root.json ...           every root version, from the first on
    ledger.json                     which release was signed under which counter (``bundle/ledger.py``)
    draft/                          the next root, until enough custodians have signed (``bundle/draft.py``)

Only the public half of it ever goes into a bundle.
"""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from appliance.errors import AlreadyRunning, BadInput, Incomplete
from appliance.format import Name, Value, decode_json
from appliance.text import text
from bundle.pair import PRIVATE, PUBLIC, load_public

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

DESCRIPTION = "keys.json"
ROOTS = "roots"
DRAFT = "draft"
_ROOT_FILE = re.compile(r"([1-9][0-9]?)\.root\.json")


class Description(Value, frozen=True):
    """``keys.json``: what the keys are for."""

    format: int
    product: Name


def describe(product: str) -> Description:
    """Make the description of a new folder; ``BadInput`` for what is no name of a product."""
    try:
        return msgspec.convert({"format": 1, "product": product}, Description)
    except msgspec.ValidationError as error:
        raise BadInput(
            text("this is no name for a product"),
            seen=product,
            expected=text("small letters, digits and hyphens, a letter first"),
        ) from error


def described(folder: Path) -> Description:
    """Return the folder's description; ``Incomplete`` where it was never finished."""
    try:
        return decode_json((folder / DESCRIPTION).read_bytes(), Description, DESCRIPTION)
    except OSError as error:
        raise Incomplete(
            text("the key folder was not finished"),
            where=folder / DESCRIPTION,
            seen=error.strerror,
            remedy=text("remove it, unless its keys have signed something, and create the keys again"),
        ) from error


def is_key_folder(folder: Path) -> bool:
    """Tell whether the folder was made by ``keys create``."""
    return (folder / DESCRIPTION).is_file()


def root_path(folder: Path, version: int) -> Path:
    """Return where that version of the root is kept."""
    return folder / ROOTS / f"{version}.root.json"


def root_versions(folder: Path) -> list[int]:
    """Return the versions that are there, in order."""
    home = folder / ROOTS
    names = [path.name for path in home.iterdir()] if home.is_dir() else []
    return sorted(int(match[1]) for match in map(_ROOT_FILE.fullmatch, names) if match)


def roots(folder: Path) -> tuple[bytes, ...]:
    """Return every root envelope, versions 1..N; ``Incomplete`` where one is missing."""
    versions = root_versions(folder)
    if not versions and (folder / DRAFT).is_dir():
        raise Incomplete(
            text("root version 1 is a draft: too few of its keys have signed it yet"),
            where=folder / DRAFT,
            remedy=text("export it and import the signatures: build.py keys rotate --export FILE"),
        )
    if not versions or versions != list(range(1, versions[-1] + 1)):
        raise Incomplete(
            text("the key folder does not hold every root from version 1 on"),
            where=folder / ROOTS,
            seen=versions,
            remedy=text("bring back the missing files from your copy of the folder")
            if versions
            else text("name the key folder with --keys, or make the keys first: build.py keys create"),
        )
    return tuple(root_path(folder, version).read_bytes() for version in versions)


def file_names(*folders: Path) -> Mapping[str, str]:
    """Return key id -> file name: the private file where it is here, otherwise the public one."""
    found: dict[str, str] = {}
    for folder in folders:
        for public in sorted(folder.glob(f"*{PUBLIC}")):
            private = public.with_name(public.name.removesuffix(PUBLIC) + PRIVATE)
            try:
                found[load_public(public).keyid] = (private if private.exists() else public).name
            except BadInput:  # a damaged file only costs the key its name
                continue
    return found


def next_number(role: str, *folders: Path) -> int:
    """Return the number for a new key of a role: higher than any that was ever given in these folders."""
    pattern = re.compile(rf"{role}-([0-9]{{1,6}})(\.pub)?\.pem")
    names = [path.name for folder in folders if folder.is_dir() for path in folder.iterdir()]
    return max((int(match[1]) for match in map(pattern.fullmatch, names) if match), default=0) + 1


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let nobody else change the folder meanwhile; ``AlreadyRunning`` where somebody does."""
    described(folder)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise AlreadyRunning(
            text("another run is changing the key folder"),
            where=folder,
            remedy=text("wait until it has ended; a killed run leaves no lock behind"),
        ) from error
