"""The commands that sign: ``sign`` a bundle, and ``keys sign`` on a custodian's own machine."""

# ruff: noqa: PLC0415 - the work is imported by the command that does it: --help answers at once

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import click

from appliance.errors import BadInput, Incomplete
from appliance.text import text
from bundle.command import (
    KEY_FILES,
    MORE_SIGNATURES,
    PASSPHRASE,
    PATH,
    SIGNATURES,
    command,
    now,
    passphrase,
)
from bundle.key_command import exported_lines, key_commands, warn_expiry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bundle.ledger import Entry
    from bundle.request import Request
    from bundle.screen import Screen
    from bundle.sign import Signable

_LEDGER = click.option(
    "--keys",
    "key_folder",
    type=PATH,
    default=None,
    help="Key folder whose ledger remembers the counter, wherever the key lies.  [default: keys, if there]",
)


@command(key_commands, "sign")
@click.argument("file", type=PATH)
@KEY_FILES
@click.option("--yes", is_flag=True, help="Do not ask.")
@_LEDGER
@PASSPHRASE
def keys_sign(  # noqa: PLR0913 - each is an option
    screen: Screen,
    *,
    file: Path,
    key_files: Sequence[Path],
    yes: bool,
    key_folder: Path | None,
    passphrase_file: Path | None,
) -> None:
    """Sign an exported file on a machine of your own: shows what it is, asks, writes FILE.KEY.sig beside it.

    \b
    Example:
      python build.py keys sign root-2.bin --key kim.pem
    """  # noqa: D301
    from bundle.key_paper import request_facts, request_lines
    from bundle.keys import load_signer
    from bundle.request import read_request, sign_request

    _require_key(key_files)
    request = read_request(file)
    lines = request_lines(request, screen.language, now())
    if not yes:
        _ask(screen, lines)
    words = passphrase(passphrase_file, confirm=False)
    signers = [load_signer(path, words) for path in key_files]
    _remember_request(
        screen, _ledger_folder(key_folder), request, [each.public_key.keyid for each in signers]
    )
    made = sign_request(file, request, signers)
    said = text("signed; carry back: {files}", files=", ".join(path.name for path in made))
    screen.result(said, request_facts(request) | {"signatures": made}, lines if yes else ())


@click.argument("bundle", type=PATH)
@KEY_FILES
@SIGNATURES
@MORE_SIGNATURES
@click.option("--export", "export_to", type=PATH, help="Write exactly the bytes to be signed.")
@_LEDGER
@PASSPHRASE
def sign(  # noqa: PLR0913 - each is an option
    screen: Screen,
    *,
    bundle: Path,
    key_files: Sequence[Path],
    signatures: Sequence[Path],
    export_to: Path | None,
    key_folder: Path | None,
    passphrase_file: Path | None,
) -> None:
    """Sign a bundle in place; may run on another machine, without a network.

    Custodians elsewhere sign what --export wrote, with `keys sign` or openssl; --signature brings it back.
    The key folder's ledger remembers each counter, exported ones too, and refuses it for another release.

    \b
    Examples:
      python build.py sign dist/minimal-1.0.0.tar --key keys/release-1.pem
      python build.py sign dist/minimal-1.0.0.tar --export minimal.bin
      python build.py sign dist/minimal-1.0.0.tar --signature minimal.bin.*.sig
    """  # noqa: D301
    from bundle import keys
    from bundle import sign as signing
    from bundle.request import export

    if not (key_files or signatures or export_to):
        _require_key(key_files)
    words = passphrase(passphrase_file, confirm=False) if key_files else b""
    signers = [keys.load_signer(path, words) for path in key_files]
    signable = signing.read_signable(bundle)
    signing.refuse_strangers(signable, signers)
    warn_expiry(screen, signable.root.version, signable.root.expires)
    folder = _ledger_folder(key_folder)
    _warn_other_roots(screen, folder, signable)
    _remember_release(screen, folder, signable)
    exported = export(signable.envelope, export_to) if export_to is not None else None
    if signers or signatures:
        signing.sign(bundle, signers, signatures, signable)
    _show_signed(screen, signable, export_to, exported)


# --- Between click and the work ---------------------------------------------------------------------------


def _ask(screen: Screen, lines: Sequence[str]) -> None:
    for line in lines:
        screen.write_aside(line)
    click.confirm(text("sign this?").render(screen.language), abort=True, err=True)


def _require_key(key_files: Sequence[Path]) -> None:
    if not key_files:
        raise BadInput(
            text("no key was named"),
            remedy=text("name one, with --key keys/release-1.pem; --help shows other ways"),
        )


def _ledger_folder(named: Path | None) -> Path | None:
    """Return the folder whose ledger counts; a named one must be one, the default may be absent."""
    from pathlib import Path as Folder

    from bundle.folder import is_key_folder

    folder = Folder("keys") if named is None else named
    if is_key_folder(folder):
        return folder
    if named is not None:
        raise BadInput(
            text("this is no key folder"), where=folder, remedy=text("name the one with keys.json in it")
        )
    return None


def _warn_other_roots(screen: Screen, folder: Path | None, signable: Signable) -> None:
    """Say so where the bundle carries other roots than the key folder holds: built before, or elsewhere."""
    from bundle.folder import roots

    held = signable.roots
    with suppress(Incomplete):  # a folder that keeps the ledger alone
        held = roots(folder) if folder is not None else held
    if held != signable.roots:
        screen.warning(
            text("this bundle carries other roots than the key folder {folder} has", folder=folder),
            text("build it again with this key folder, or find out who built it and with which keys"),
        )


def _remember_release(screen: Screen, folder: Path | None, signable: Signable) -> None:
    from bundle.ledger import Entry as Line
    from bundle.ledger import intend

    if folder is None:
        return
    release = signable.release
    entry = Line(
        counter=release.counter, release=release.id, release_sha256=signable.release_sha256, at=now()
    )
    _warn_lower(screen, entry, intend(folder, entry, release.product))


def _remember_request(screen: Screen, folder: Path | None, request: Request, key_ids: Sequence[str]) -> None:
    """Write a release down where the key is one of the folder's: what is signed for others is theirs."""
    from tuf.api._payload import Targets

    from bundle.keys import show
    from bundle.ledger import Entry as Line
    from bundle.ledger import intend

    if folder is None or not isinstance(request.signed, Targets):
        return
    if {key_id for _, key_id in show(folder).release_keys} & set(key_ids):
        digest = request.signed.targets["release.json"].hashes["sha256"]
        entry = Line(counter=request.signed.version, release=None, release_sha256=digest, at=now())
        _warn_lower(screen, entry, intend(folder, entry))


def _warn_lower(screen: Screen, entry: Entry, higher: Entry | None) -> None:
    if higher is not None:
        screen.warning(
            text(
                "counter {counter} is lower than {highest}, which was signed on {date}",
                counter=entry.counter,
                highest=higher.counter,
                date=higher.at.date(),
            ),
            text("servers that have had the higher one will refuse this release"),
        )


def _show_signed(screen: Screen, signable: Signable, export_to: Path | None, exported: str | None) -> None:
    from bundle.key_paper import root_words

    quorum = signable.quorum
    lines = [root_words(signable.root.version).render(screen.language)]
    lines += [text("signed by {key}", key=key).render(screen.language) for key in quorum.signed]
    if export_to is not None:
        lines += exported_lines(screen, export_to, exported or "")
    said = text("signatures: {count}", count=len(quorum.signed))
    if quorum.lacking:
        said = text(
            "signatures: {count}; {lacking} more of the release keys must sign",
            count=len(quorum.signed),
            lacking=quorum.lacking,
        )
    facts = {"signed_by": quorum.signed, "threshold": quorum.threshold, "lacking": quorum.lacking}
    facts |= {"waiting": quorum.waiting, "root_version": signable.root.version, "exported_sha256": exported}
    screen.result(said, facts, lines)
