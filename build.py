"""The online side's command line: each command parses, calls once, and renders. Only here is printed."""

# ruff: noqa: PLC0415 - the work is imported by the command that does it: --help answers at once

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from appliance.console import Everywhere, echo, language_of, output, stopped
from appliance.errors import BadInput, BanipError
from appliance.text import human_bytes, text
from bundle.command import KEYS, PATH, command, make_screen, now
from bundle.key_command import key_commands, warn_expiry
from bundle.sign_command import sign
from bundle.trouble import told

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bundle.manifest import CheckedManifest
    from bundle.screen import Screen
    from bundle.workshop import Workshop

_MANIFEST = click.argument("manifest", type=PATH)
_BUNDLE = click.argument("bundle", type=PATH)


@click.group(
    cls=Everywhere, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object a line.")
@click.option("--lang", type=click.Choice(["ko", "en"]), help="Language of messages; this help is English.")
def cli(**_: object) -> None:
    """Build, sign and describe what the media carry into a closed network.

    \b
    The way of a release:
      python build.py keys create --product minimal
      python build.py check   manifests/minimal.yaml
      python build.py lock    manifests/minimal.yaml
      python build.py collect manifests/minimal.yaml
      python build.py build   manifests/minimal.yaml --out dist
      python build.py sign    dist/minimal-1.0.0.tar --key keys/release-1.pem
      python build.py verify  dist/minimal-1.0.0.tar
      python build.py packet  dist/minimal-1.0.0.tar
    """  # noqa: D301 - click wants the character


cli.add_command(key_commands)


@command(cli, "check")
@_MANIFEST
def check(screen: Screen, *, manifest: Path) -> None:
    """Check a manifest and the roles that it names; every fault with file, line and path.

    \b
    Example:
      python build.py check manifests/minimal.yaml
    """  # noqa: D301
    from bundle.manifest import check as check_manifest

    checked = check_manifest(manifest)
    facts = {"manifest": checked.name, "product": checked.manifest.product, "roles": len(checked.roles)}
    screen.result(text("{manifest} is good", manifest=checked.name), facts)


@command(cli, "lock")
@_MANIFEST
def lock(screen: Screen, *, manifest: Path) -> None:
    """Turn every name of a manifest into a digest; what cannot be resolved is listed, exit 12.

    \b
    Example:
      python build.py lock manifests/minimal.yaml
    """  # noqa: D301
    from bundle.lock import refuse_unlocked, write_lock
    from bundle.resolve import make_lock

    checked, workshop = _open(manifest)
    made = make_lock(checked, workshop, now=now(), report=screen.event)
    path = write_lock(checked, made)
    refuse_unlocked(made)
    blobs = made.blobs()
    facts = {"lock": path, "blobs": len(blobs), "size_bytes": sum(blob.size_bytes for blob in blobs)}
    screen.result(text("locked: {count} blobs in {lock}", count=len(blobs), lock=path.name), facts)


@command(cli, "collect")
@_MANIFEST
def collect(screen: Screen, *, manifest: Path) -> None:
    """Bring everything that the lock names into the build store; run it again to go on.

    \b
    Example:
      python build.py collect manifests/minimal.yaml
    """  # noqa: D301
    from bundle.collect import collect as collect_blobs
    from bundle.lock import read_lock

    checked, workshop = _open(manifest)
    got = collect_blobs(checked, read_lock(checked), workshop, screen.event)
    said = text(
        "collected: {new} new ({bytes}), {cached} were here",
        new=got.new,
        bytes=human_bytes(got.new_bytes),
        cached=got.cached,
    )
    screen.result(said, {name: getattr(got, name) for name in got.__slots__})


@command(cli, "build")
@_MANIFEST
@click.option("--out", type=PATH, required=True, help="Folder for the bundle and appliance.pyz.")
@KEYS
def build(screen: Screen, *, manifest: Path, out: Path, key_folder: Path) -> None:
    """Write the unsigned bundle and appliance.pyz out of the lock and the build store.

    \b
    Example:
      python build.py build manifests/minimal.yaml --out dist
    """  # noqa: D301
    from bundle.keys import show
    from bundle.lock import read_lock
    from bundle.make import make_bundle

    checked, workshop = _open(manifest)
    locked = read_lock(checked)
    with screen.progress(locked.manifest.product) as progress:
        made = make_bundle(checked, locked, workshop, key_folder=key_folder, out=out, report=progress)
    ring = show(key_folder)
    warn_expiry(screen, ring.root_version, ring.expires)
    facts = {"bundle": made.bundle, "first_contact": made.first_contact, "release": made.release.id}
    said = text("built, not signed yet: {bundle}", bundle=made.bundle)
    if made.signed:
        said = text("the same bundle is there and signed; it stays: {bundle}", bundle=made.bundle)
    screen.result(said, facts | {"signed": made.signed})


command(cli, "sign")(sign)


@command(cli, "verify")
@_BUNDLE
@KEYS
def verify(screen: Screen, *, bundle: Path, key_folder: Path) -> None:
    """Judge a bundle with the code that servers run, and read all of it.

    \b
    Example:
      python build.py verify dist/minimal-1.0.0.tar --keys keys
    """  # noqa: D301
    from bundle import keys
    from bundle.sign import verify_own

    trusted = verify_own(bundle, keys.roots(key_folder), reference_time=now())
    release = trusted.release
    facts = {"release": release.id, "root_version": trusted.root_version, "counter": release.counter}
    said = text(
        "{release} is whole and trusted: root version {root}, counter {counter}",
        release=release.id,
        root=trusted.root_version,
        counter=release.counter,
    )
    screen.result(said, facts | {"expires": trusted.expires})


@command(cli, "inspect")
@_BUNDLE
def inspect(screen: Screen, *, bundle: Path) -> None:
    """Show what a bundle says of itself, reading kilobytes and trusting nothing.

    \b
    Example:
      python build.py inspect dist/minimal-1.0.0.tar --json
    """  # noqa: D301
    from bundle.pack import inspect as inspect_bundle
    from bundle.show import bundle_facts, lines_of

    facts = bundle_facts(inspect_bundle(bundle))
    screen.result(text("nothing of this is verified"), facts, lines_of(facts))


@command(cli, "diff")
@click.argument("old", type=PATH)
@click.argument("new", type=PATH)
def diff(screen: Screen, *, old: Path, new: Path) -> None:
    """Show what a server at the old bundle would have to take in for the new one.

    \b
    Example:
      python build.py diff dist/minimal-1.0.0.tar dist/minimal-1.1.0.tar
    """  # noqa: D301
    from bundle.pack import diff as compare
    from bundle.pack import inspect as inspect_bundle
    from bundle.show import difference_facts, difference_lines

    found = compare(inspect_bundle(old).release, inspect_bundle(new).release)
    said = text(
        "{added} to take in, {kept} shared, {removed} no longer needed",
        added=human_bytes(found.added_bytes),
        kept=human_bytes(found.kept_bytes),
        removed=human_bytes(found.removed_bytes),
    )
    screen.result(said, difference_facts(found), difference_lines(found))


@command(cli, "packet")
@_BUNDLE
@click.option("--first-contact", type=PATH, help="appliance.pyz; otherwise the one beside the bundle.")
@click.option("--html", type=PATH, help="Write a page to print into this file.")
def packet(screen: Screen, *, bundle: Path, first_contact: Path | None, html: Path | None) -> None:
    """Print the paper that goes with the medium, in Korean and English.

    \b
    Example:
      python build.py packet dist/minimal-1.0.0.tar --html dist/packet.html
    """  # noqa: D301
    from bundle.packet import make_packet, packet_facts, packet_html, packet_text

    made = make_packet(bundle, first_contact or bundle.parent / "appliance.pyz")
    if html is not None:
        html.write_text(packet_html(made), "utf-8")
    said = text("carry this paper apart from the medium")
    screen.result(said, packet_facts(made), packet_text(made).splitlines())


# --- Between click and the work ---------------------------------------------------------------------------


def _open(manifest: Path) -> tuple[CheckedManifest, Workshop]:
    from bundle.manifest import check as check_manifest
    from bundle.workshop import Workshop as Folder

    checked = check_manifest(manifest)
    return checked, Folder(checked.project)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; exit with the code that the design gives to the error."""
    arguments = list(sys.argv[1:] if argv is None else argv)

    def screen() -> Screen:
        voice = make_screen(language_of(arguments), as_json="--json" in arguments)
        return replace(voice, write=echo)

    try:
        with output():
            cli.main(arguments, "build.py", standalone_mode=False)
    except BanipError as error:
        screen().error(error)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        if "--json" in arguments:
            screen().error(
                BadInput(text("the command line is wrong: {reason}", reason=error.format_message()))
            )
        else:
            error.show()
        sys.exit(BadInput.exit_code)
    except (click.Abort, KeyboardInterrupt) as stop:
        screen().error(stopped(stop))
        sys.exit(stopped(stop).exit_code)
    except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback without words
        refused = told(error)
        screen().error(refused)
        sys.exit(refused.exit_code)


if __name__ == "__main__":
    main()
