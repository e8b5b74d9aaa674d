"""From a lock and a full store to the two files that leave this machine: the bundle and first contact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.errors import BadInput
from appliance.format import Blob
from appliance.store import write_file
from appliance.text import text
from bundle import keys
from bundle.compose import compose, read_wheels
from bundle.firstcontact import NAME, make_first_contact
from bundle.pack import build_carrier
from bundle.secrets import refuse_secrets

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import RawIOBase
    from pathlib import Path

    from appliance.format import Release
    from appliance.store import Progress
    from bundle.lock import Lock
    from bundle.manifest import CheckedManifest
    from bundle.workshop import Workshop


@dataclass(frozen=True, slots=True)
class Made:
    """The files that were written, and the release in them."""

    bundle: Path
    first_contact: Path
    release: Release


def make_bundle(  # noqa: PLR0913 - what it is made of, and where it goes
    checked: CheckedManifest,
    lock: Lock,
    workshop: Workshop,
    *,
    key_folder: Path,
    out: Path,
    report: Callable[[Progress], None],
) -> Made:
    """Write ``PRODUCT-VERSION.tar``, unsigned, and ``appliance.pyz`` into ``out``.

    Only the public half of the keys is read. Raises ``BadInput`` for a secret in the content or keys of
    another product, ``Incomplete`` for what is not collected, ``Tampered`` for a store that is damaged.
    """
    store = workshop.store
    roots, product = keys.roots(key_folder), keys.show(key_folder).product
    if product != checked.manifest.product:
        raise BadInput(
            text("the keys are another product's"), expected=checked.manifest.product, seen=product
        )
    contents = read_wheels(lock, store)
    refuse_secrets(checked, lock, store)
    composed = compose(lock, contents)
    bom = Blob(sha256=composed.release.bom, size_bytes=len(composed.bom))
    if not store.has(bom):
        store.add(bom, [composed.bom])

    def open_blob(sha256: str) -> RawIOBase:
        return store.path(sha256).open("rb", buffering=0)

    out.mkdir(parents=True, exist_ok=True)
    bundle = out / f"{composed.release.product}-{composed.release.version}.tar"
    write_file(out / NAME, make_first_contact(lock, roots[0], open_blob))
    build_carrier(bundle, roots, composed.release, open_blob, expires=composed.expires, report=report)
    return Made(bundle, out / NAME, composed.release)
