"""From a lock and a full store to the two files that leave this machine: the bundle and first contact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.errors import BadInput, BanipError
from appliance.format import Blob, release_to_bytes, sha256_hex
from appliance.media import open_carrier
from appliance.store import write_file
from appliance.text import text
from bundle import keys
from bundle.compose import compose
from bundle.contents import read_contents
from bundle.firstcontact import NAME, make_first_contact
from bundle.pack import build_carrier, inspect
from bundle.secrets import refuse_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from io import RawIOBase
    from pathlib import Path

    from appliance.format import Release
    from appliance.store import Progress
    from bundle.lock import Lock
    from bundle.manifest import CheckedManifest
    from bundle.workshop import Workshop


@dataclass(frozen=True, slots=True)
class Made:
    """The files, and the release in them; ``signed``: the same bundle was there, signed, and stays."""

    bundle: Path
    first_contact: Path
    release: Release
    signed: bool


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

    Only the public half of the keys is read. A signed bundle of that name is never overwritten. Raises
    ``BadInput`` where it holds something else, for a secret in the content or keys of another product,
    ``Incomplete`` for what is not collected, ``Tampered`` for a store that is damaged.
    """
    store = workshop.store
    roots = _roots(key_folder, checked.manifest.product)
    contents = read_contents(lock, workshop)
    refuse_secrets(checked, lock, store)
    composed = compose(lock, contents)
    for content in composed.made:
        blob = Blob(sha256=sha256_hex(content), size_bytes=len(content))
        if not store.has(blob):
            store.add(blob, [content])

    def open_blob(sha256: str) -> RawIOBase:
        return store.path(sha256).open("rb", buffering=0)

    bundle = out / f"{composed.release.product}-{composed.release.version}.tar"
    signed = _is_signed(bundle, composed.release, roots)
    out.mkdir(parents=True, exist_ok=True)
    write_file(out / NAME, make_first_contact(lock, roots[0], open_blob))
    if not signed:
        build_carrier(bundle, roots, composed.release, open_blob, expires=composed.expires, report=report)
    return Made(bundle, out / NAME, composed.release, signed)


def _roots(key_folder: Path, product: str) -> tuple[bytes, ...]:
    seen = keys.show(key_folder).product
    if seen != product:
        raise BadInput(text("the keys are another product's"), expected=product, seen=seen)
    return keys.roots(key_folder)


def _is_signed(bundle: Path, release: Release, roots: Sequence[bytes]) -> bool:
    """Tell whether the same bundle is there and signed; ``BadInput`` where a signed one differs."""
    try:
        contents = inspect(bundle)
        with open_carrier(bundle) as carrier:
            seen = carrier.envelopes().roots
    except BanipError:  # none, or none that anybody could have signed
        return False
    if not contents.signed_by:
        return False
    if contents.release_sha256 != sha256_hex(release_to_bytes(release)) or seen != tuple(roots):
        raise BadInput(
            text("a signed bundle of this name holds something else; it is not overwritten"),
            where=bundle,
            expected=release.id,
            seen=contents.release.id,
            remedy=text("raise version and counter in the manifest and lock it again, or remove that bundle"),
        )
    return True
