"""``appliance.pyz``: the one file that a server runs before it has anything of Banip's.

A zip that Python runs: the bootstrap, the first root, and the wheels of the ``first-contact`` environment,
stored, sorted and without dates, so that the same lock and root give the same bytes and one digest on paper.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from appliance.errors import BadInput
from appliance.format import FORMAT, canonical_json
from appliance.text import text
from bundle.lock import refuse_unlocked

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import RawIOBase
    from pathlib import Path

    from bundle.lock import Lock

NAME = "appliance.pyz"
_ROOT, _DESCRIPTION = "1.root.json", "first_contact.json"
_DATE = (1980, 1, 1, 0, 0, 0)  # the first that zip can say
_PLAIN_FILE = 0o100644 << 16


def make_first_contact(lock: Lock, root: bytes, open_blob: Callable[[str], RawIOBase]) -> bytes:
    """Return ``appliance.pyz``; ``root``: the envelope of root version 1, ``open_blob`` opens by digest.

    Raises ``BadInput`` for a wheel that cannot be used by unpacking alone.
    """
    refuse_unlocked(lock)
    members = {"__main__.py": resources.files("bundle").joinpath("bootstrap.py").read_bytes()}
    members |= {_ROOT: root, _DESCRIPTION: canonical_json(_described(lock))}
    for wheel in lock.first_contact.wheels:
        with open_blob(wheel.sha256) as file:
            content = file.read() or b""
        _refuse_data(wheel.filename, content)
        members[f"wheels/{wheel.filename}"] = content
    return _zip(members)


@dataclass(frozen=True, slots=True)
class Introduced:
    """What a first contact file makes a server trust; ``root`` is the envelope of root version 1."""

    product: str
    site: str | None
    root: bytes


def read_first_contact(path: Path) -> Introduced:
    """Read whom an ``appliance.pyz`` makes a server trust. Raises ``BadInput`` for any other file."""
    try:
        with zipfile.ZipFile(path) as carried:
            described = json.loads(carried.read(_DESCRIPTION))
            return Introduced(described["product"], described["site"], carried.read(_ROOT))
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        raise BadInput(
            text("this is no first contact file of Banip's"),
            where=path,
            remedy=text("name the appliance.pyz that was built with the bundle, with --first-contact"),
        ) from error


def _described(lock: Lock) -> dict[str, object]:
    wheels = [{"filename": wheel.filename, "sha256": wheel.sha256} for wheel in lock.first_contact.wheels]
    glibc = lock.first_contact.platform.removeprefix("manylinux_").split("_")[:2]
    return {
        "format": FORMAT,
        "product": lock.manifest.product,
        "site": lock.manifest.site,
        "architecture": lock.manifest.target.architecture,
        "glibc": [int(part) for part in glibc],
        "python": {lock.first_contact.python: wheels},
    }


def _refuse_data(filename: str, content: bytes) -> None:
    """Refuse a wheel that wants files elsewhere than where it is unpacked."""
    with zipfile.ZipFile(io.BytesIO(content)) as wheel:
        for name in wheel.namelist():
            place = name.split("/")
            if place[0].endswith(".data") and place[1] in {"purelib", "platlib"}:
                raise BadInput(
                    text("the wheel {name} cannot be part of first contact", name=filename), seen=name
                )


def _zip(members: dict[str, bytes]) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(members.items()):
            info = zipfile.ZipInfo(name, _DATE)
            info.create_system, info.external_attr = 3, _PLAIN_FILE
            archive.writestr(info, content)
    return whole.getvalue()
