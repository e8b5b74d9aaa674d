"""Which release was signed, or given away to be signed, under which counter: ``ledger.json`` of a key folder.

Servers refuse two releases under one number, and whoever sees both must suspect the holders of the keys. So a
number is written down before anything is signed under it, and never given to a second release.
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - msgspec resolves annotations at run time
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from appliance.durable import write_file
from appliance.errors import BadInput
from appliance.format import Name, Sha256, Value, canonical_json, decode_json
from appliance.text import text
from bundle.folder import described, locked

if TYPE_CHECKING:
    from pathlib import Path

NAME = "ledger.json"
_MODE = 0o600


class Entry(Value, frozen=True):
    """One counter: the digest of its ``release.json``, since when, and the release's id where it is known."""

    counter: Annotated[int, Meta(ge=1)]
    release: str | None
    release_sha256: Sha256
    at: datetime


class Ledger(Value, frozen=True):
    """Every counter that was used, in ascending order."""

    format: Literal[1]
    product: Name
    entries: tuple[Entry, ...]

    @property
    def highest(self) -> Entry | None:
        """The highest counter that was used."""
        return max(self.entries, key=lambda entry: entry.counter, default=None)


def read_ledger(folder: Path) -> Ledger:
    """Return the ledger of a key folder, empty where nothing was signed; ``Tampered`` where it is damaged."""
    try:
        return decode_json((folder / NAME).read_bytes(), Ledger, NAME)
    except FileNotFoundError:
        return Ledger(format=1, product=described(folder).product, entries=())


def intend(folder: Path, entry: Entry, product: str | None = None) -> Entry | None:
    """Write down that a release is about to be signed; return the entry above it where there is a higher one.

    ``product``: the release's, where it is known. Raises ``BadInput`` for another product's folder and for a
    counter that another release has.
    """
    with locked(folder):
        ledger = read_ledger(folder)
        if product not in {None, ledger.product}:
            raise BadInput(
                text("the keys are another product's"),
                where=folder,
                expected=product,
                seen=ledger.product,
                remedy=text(
                    "name the key folder of this product with --keys: its ledger remembers the counters"
                ),
            )
        known = {each.counter: each for each in ledger.entries}
        if entry.counter not in known:
            entries = tuple(sorted((*ledger.entries, entry), key=lambda each: each.counter))
            made = Ledger(format=1, product=ledger.product, entries=entries)
            write_file(folder / NAME, canonical_json(made), _MODE)
        elif known[entry.counter].release_sha256 != entry.release_sha256:
            raise _used(folder, known[entry.counter], entry)
        highest = ledger.highest
    return highest if highest is not None and highest.counter > entry.counter else None


def _used(folder: Path, before: Entry, now: Entry) -> BadInput:
    return BadInput(
        text(
            "counter {counter} was given to another release on {date}; every server that has seen the one "
            "refuses the other",
            counter=before.counter,
            date=before.at.date(),
        ),
        where=folder / NAME,
        expected=before.release_sha256,
        seen=now.release_sha256,
        remedy=text("raise the counter in the manifest, then lock, build and sign again"),
    )
