"""The commands by which keys come and go: ``keys create|new|rotate|show``."""

# ruff: noqa: PLC0415 - the work is imported by the command that does it: --help answers at once

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from appliance.errors import BadInput
from appliance.text import text
from bundle.command import (
    KEY_FILES,
    KEYS,
    MORE_SIGNATURES,
    PASSPHRASE,
    PATH,
    SIGNATURES,
    command,
    now,
    passphrase,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from bundle.ceremony import Change, Step
    from bundle.keys import KeyRing
    from bundle.screen import Screen

_DAYS = click.IntRange(1, 36500)
_COUNT = click.IntRange(1, 20)


@click.group("keys")
def key_commands() -> None:
    """Make, replace, show and use the keys that servers will trust."""


@command(key_commands, "new")
@click.argument("file", type=PATH)
@PASSPHRASE
def keys_new(screen: Screen, *, file: Path, passphrase_file: Path | None) -> None:
    """Make one custodian's pair, on any machine: FILE, encrypted, and its .pub.pem to hand out.

    \b
    Example:
      python build.py keys new kim.pem
    """  # noqa: D301
    from bundle.keys import new_pair
    from bundle.paper import grouped

    key = new_pair(file, passphrase(passphrase_file, confirm=True))
    said = text("made: {file} stays with its custodian, its .pub.pem is handed out", file=file)
    lines = [key.keyid, *(f"    {line}" for line in grouped(key.keyid, 4))]
    screen.result(said, {"key_id": key.keyid, "file": file}, lines)


@command(key_commands, "create")
@click.option("--product", required=True, help="The product that the keys are for.")
@click.option("--root-keys", type=int, help="Root keys made here.  [default: 3, none with --root-key]")
@click.option(
    "--root-key", "custodians", type=PATH, multiple=True, help="A custodian's .pub.pem; repeatable."
)
@click.option("--root-threshold", default=2, show_default=True, help="How many root keys must sign.")
@click.option(
    "--release-keys", type=int, help="Release keys made here.  [default: 1, none with --release-key]"
)
@click.option("--release-key", "releasers", type=PATH, multiple=True, help="A .pub.pem; repeatable.")
@click.option("--release-threshold", default=1, show_default=True)
@click.option("--valid-days", type=_DAYS, default=3650, show_default=True, help="Until the root expires.")
@KEYS
@PASSPHRASE
def keys_create(  # noqa: PLR0913 - each is an option
    screen: Screen,
    *,
    product: str,
    root_keys: int | None,
    custodians: Sequence[Path],
    release_keys: int | None,
    releasers: Sequence[Path],
    valid_days: int,
    key_folder: Path,
    passphrase_file: Path | None,
    **thresholds: int,
) -> None:
    r"""Make root and release keys, encrypted, and root version 1, in a new folder.

    With custodians' public keys, root 1 is a draft until enough of them have signed it: go on with `keys
    rotate --export` and `--signature`.

    \b
    Examples:
      python build.py keys create --product minimal --keys keys
      python build.py keys create --product minimal --root-key kim.pub.pem --root-key lee.pub.pem
    """
    from bundle import keys

    made_roots = root_keys if root_keys is not None else 0 if custodians else 3
    made_releases = release_keys if release_keys is not None else 0 if releasers else 1
    ring = keys.create(
        key_folder,
        product,
        passphrase=passphrase(passphrase_file, confirm=True) if made_roots + made_releases else b"",
        expires=now() + timedelta(days=valid_days),
        root_keys=made_roots,
        release_keys=made_releases,
        custodians=[keys.load_public(path) for path in custodians],
        releasers=[keys.load_public(path) for path in releasers],
        **thresholds,
    )
    _show_ring(screen, ring, key_folder)


@command(key_commands, "rotate")
@click.option(
    "--replace",
    "replaced",
    multiple=True,
    metavar="NAME[=FILE.pub.pem]",
    help="By a pair made here, or by a custodian's.",
)
@click.option(
    "--revoke", "revoked", multiple=True, metavar="NAME", help="Leave a key out, without a successor."
)
@click.option("--add-root", type=PATH, multiple=True, help="A custodian's .pub.pem; repeatable.")
@click.option("--add-release", type=PATH, multiple=True, help="A .pub.pem; repeatable.")
@click.option("--root-threshold", type=_COUNT)
@click.option("--release-threshold", type=_COUNT)
@click.option("--valid-days", type=_DAYS, help="From today; otherwise the next root expires with this one.")
@KEY_FILES
@SIGNATURES
@MORE_SIGNATURES
@click.option("--export", "export_to", type=PATH, help="Write exactly the bytes to be signed.")
@click.option("--discard", is_flag=True, help="Throw the draft away.")
@KEYS
@PASSPHRASE
def keys_rotate(  # noqa: PLR0913 - each is an option
    screen: Screen,
    *,
    key_files: Sequence[Path],
    signatures: Sequence[Path],
    export_to: Path | None,
    discard: bool,
    key_folder: Path,
    passphrase_file: Path | None,
    **change: Any,  # noqa: ANN401 - the change's own options
) -> None:
    """Replace, revoke or add keys, or renew the expiry: the next root, once old and new keys have signed it.

    The first call names the change and opens a draft; further calls add signatures, by --key here or by
    --signature from other machines. NAME is a file's, such as release-1, or a key id's first digits.

    \b
    Examples:
      python build.py keys rotate --replace release-1 --key keys/root-1.pem --key keys/root-2.pem
      python build.py keys rotate --valid-days 3650 --export root-2.bin
      python build.py keys rotate --signature root-2.bin.*.sig
      python build.py keys rotate --discard
    """  # noqa: D301
    from bundle import ceremony, keys

    asked = _change(**change)
    if discard:
        _refuse_more(bool(asked or key_files or signatures or export_to))
        _discard(screen, key_folder)
        return
    new_words = asked.makes_pairs and not key_files
    words = passphrase(passphrase_file, confirm=new_words) if key_files or asked.makes_pairs else b""
    step = ceremony.rotate(
        key_folder,
        asked,
        now=now(),
        passphrase=words,
        signers=[keys.load_signer(path, words) for path in key_files],
        signatures=signatures,
        export_to=export_to,
    )
    _show_step(screen, step, keys.show(key_folder), export_to)


@command(key_commands, "show")
@click.option("--html", type=PATH, help="Write a page to print into this file.")
@KEYS
def keys_show(screen: Screen, *, html: Path | None, key_folder: Path) -> None:
    """Print the paper: fingerprints, thresholds, roots, expiry, highest counter; no passphrase is asked for.

    \b
    Example:
      python build.py keys show --keys keys --html keys.html
    """  # noqa: D301
    from bundle import keys
    from bundle.key_paper import ring_html

    ring = keys.show(key_folder)
    if html is not None:
        html.write_text(ring_html(ring, now()), "utf-8")
    _show_ring(screen, ring, key_folder)


# --- Between click and the work ---------------------------------------------------------------------------


def _change(  # noqa: PLR0913 - each is an option
    *,
    replaced: Sequence[str],
    revoked: Sequence[str],
    add_root: Sequence[Path],
    add_release: Sequence[Path],
    root_threshold: int | None,
    release_threshold: int | None,
    valid_days: int | None,
) -> Change:
    from pathlib import Path as File

    from bundle.ceremony import Change as Value
    from bundle.keys import load_public

    pairs = [each.partition("=") for each in replaced]
    return Value(
        replace=tuple((name, load_public(File(file)) if equals else None) for name, equals, file in pairs),
        revoke=tuple(revoked),
        add_root=tuple(map(load_public, add_root)),
        add_release=tuple(map(load_public, add_release)),
        root_threshold=root_threshold,
        release_threshold=release_threshold,
        valid_days=valid_days,
    )


def _refuse_more(more: bool) -> None:  # noqa: FBT001 - one caller
    if more:
        raise BadInput(text("--discard stands alone"))


def _discard(screen: Screen, folder: Path) -> None:
    from bundle.ceremony import throw_away

    gone = throw_away(folder)
    said = text(
        "the draft is thrown away; have its exported bytes and signatures destroyed too: two roots of one "
        "version would divide the servers"
    )
    screen.result(said if gone else text("there was no draft"), {"discarded": gone})


def warn_expiry(screen: Screen, version: int, expires: datetime) -> None:
    """Warn of a root that expires soon."""
    from bundle.root import expiry_warning, renewal

    said = expiry_warning(version, expires, now())
    if said is not None:
        screen.warning(said, renewal())


def _show_ring(screen: Screen, ring: KeyRing, folder: Path) -> None:
    from bundle.key_paper import ring_facts, ring_text

    said = text("keys of {product} in {folder}", product=ring.product, folder=folder)
    screen.result(said, ring_facts(ring, now()), ring_text(ring, now()).splitlines())


def _show_step(screen: Screen, step: Step, ring: KeyRing, exported: Path | None) -> None:
    from bundle.key_paper import pending_lines, ring_facts

    lines = [text("signed by {key}", key=key).render(screen.language) for key in step.signed_by]
    if ring.draft is not None:
        lines += pending_lines(ring.draft, screen.language)
    if exported is not None:
        lines += exported_lines(screen, exported, step.exported_sha256 or "")
    said = text("root version {version} is a draft yet", version=ring.root_version + 1)
    if step.finished is not None:
        said = text(
            "root version {version} is signed; bundles built from now on carry it", version=step.finished
        )
    facts = {"finished": step.finished, "signed_by": step.signed_by, "exported_sha256": step.exported_sha256}
    screen.result(said, facts | {"ring": ring_facts(ring, now())}, lines)


def exported_lines(screen: Screen, path: Path, sha256: str) -> list[str]:
    """Return what to tell of an exported file: its name, and what to compare."""
    from bundle.paper import grouped

    said = text("to be signed: {file}, SHA-256", file=path)
    return [said.render(screen.language), *(f"    {line}" for line in grouped(sha256, 4))]
