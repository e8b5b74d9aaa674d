"""The paper that goes with a medium: what to compare, what to type, and what the gatekeeper writes down.

Plain text for any printer, and a page; Korean and English side by side, because both are read on site. The
operator believes the digest on this paper, so it must reach the site by another way than the medium.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from appliance.errors import BadInput, Incomplete
from appliance.format import PACKAGES_INDEX, sha256_hex
from appliance.media import open_carrier
from appliance.text import Text, human_bytes, text
from appliance.verify import Trust, trusted_root, verify
from bundle.firstcontact import Introduced, read_first_contact
from bundle.local import file_sha256
from bundle.pack import inspect
from bundle.paper import both, grouped, paper_html, paper_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from appliance.format import Release
    from appliance.media import Carrier
    from bundle.pack import Contents

_DEVICE, _MEDIUM = "/dev/sdX1", "/media/usb"
_COMPARE = "sha256sum"
_COPY = "/root/banip"
_ROOT_ROLE, _RELEASE_ROLE = "root", "targets"


@dataclass(frozen=True, slots=True)
class Part:
    """One line of the intake list."""

    name: str
    version: str
    source: Text
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Packet:
    """Everything that the paper says."""

    bundle: str
    bundle_bytes: int
    bundle_sha256: str
    first_contact: str
    first_contact_bytes: int
    first_contact_sha256: str
    release: Release
    first_root_sha256: str
    root_version: int
    root_sha256: str
    root_keys: tuple[str, ...]
    release_keys: tuple[str, ...]
    signed_by: tuple[str, ...]
    expires: datetime
    parts: tuple[Part, ...]


def make_packet(bundle: Path, first_contact: Path) -> Packet:
    """Gather what the paper says.

    Raises ``BadInput`` for an unsigned bundle and for another bundle's ``appliance.pyz``, ``Incomplete``
    without one.
    """
    contents = inspect(bundle)
    _refuse_useless(bundle, contents, first_contact)
    release = contents.release
    with open_carrier(bundle) as carrier:
        # The carrier's own root proves nothing to a stranger; the paper is printed by who made it.
        first = carrier.envelopes().roots[0]
        trust = Trust(root=first, product=release.product, site=release.site, floor=None)
        trusted = verify(carrier, trust, reference_time=release.built)
        carrier.check_layout(trusted.release)
        _refuse_strange(first_contact, Introduced(release.product, release.site, first))
        root = trusted_root(trusted.roots[-1])
        parts = tuple(_parts(release, _bom(carrier, release)))
    return Packet(
        bundle=bundle.name,
        bundle_bytes=bundle.stat().st_size,
        bundle_sha256=file_sha256(bundle),
        first_contact=first_contact.name,
        first_contact_bytes=first_contact.stat().st_size,
        first_contact_sha256=file_sha256(first_contact),
        release=release,
        first_root_sha256=sha256_hex(first),
        root_version=contents.root_version,
        root_sha256=sha256_hex(trusted.roots[-1]),
        root_keys=tuple(root.roles[_ROOT_ROLE].keyids),
        release_keys=tuple(root.roles[_RELEASE_ROLE].keyids),
        signed_by=contents.signed_by,
        expires=contents.expires,
        parts=parts,
    )


def _refuse_useless(bundle: Path, contents: Contents, first_contact: Path) -> None:
    if not contents.signed_by:
        raise BadInput(
            text("the bundle is not signed; its paper would be worth nothing"),
            where=bundle,
            remedy=text("sign it first, then print the paper"),
        )
    if not first_contact.is_file():
        raise Incomplete(
            text("there is no first contact file"),
            where=first_contact,
            remedy=text("name it with --first-contact"),
        )


def _refuse_strange(path: Path, expected: Introduced) -> None:
    """Refuse a first contact file that would not trust the bundle: its digest must not get onto the paper."""
    seen = read_first_contact(path)
    for name, wanted, found in (
        (text("product"), expected.product, seen.product),
        (text("site"), expected.site, seen.site),
        (text("SHA-256 of the first root"), sha256_hex(expected.root), sha256_hex(seen.root)),
    ):
        if wanted != found:
            raise BadInput(
                text("the first contact file is another bundle's; not the same: {name}", name=name),
                where=path,
                expected=wanted or "-",
                seen=found or "-",
                remedy=text("name the appliance.pyz that was built with the bundle, with --first-contact"),
            )


def _bom(carrier: Carrier, release: Release) -> Mapping[str, Any]:
    blob = next(blob for blob in release.blobs if blob.sha256 == release.bom)
    found: Mapping[str, Any] = json.loads(b"".join(carrier.blob(blob)))
    return found


def _parts(release: Release, bom: Mapping[str, Any]) -> Iterator[Part]:
    sizes = {blob.sha256: blob.size_bytes for blob in release.blobs}
    for component in bom["components"]:
        version = component.get("version", release.version)
        source = _source(component)
        for each in component.get("components", [component]):
            if "hashes" not in each:
                continue
            digest = each["hashes"][0]["content"]
            name = component["name"] if each is component else f"{component['name']}/{each['name']}"
            yield Part(name, version, source, digest, sizes[digest])
    for file in release.files:
        made = file.sha256 == release.bom or file.path == PACKAGES_INDEX
        if made or file.path.startswith("playbooks/"):
            yield Part(file.path, release.version, text("the supplier"), file.sha256, sizes[file.sha256])


def _source(component: Mapping[str, Any]) -> Text:
    purl = component.get("purl", "")
    if purl.startswith("pkg:pypi/"):
        return text("Python package index")
    if purl.startswith("pkg:huggingface/"):
        return text("model hub")
    if purl.startswith("pkg:deb/"):
        return text("operating system's archive")
    if component["type"] == "container":
        return text("container registry")
    return text("the supplier")


# --- In words -----------------------------------------------------------------------------------------------


def commands(packet: Packet) -> list[str]:
    """Return what the operator types, in order."""
    bundle = f"{_MEDIUM}/{packet.bundle}"
    run = f"python3 -I {packet.first_contact}"
    return [
        f"mkdir -p {_MEDIUM}",
        f"mount -o ro,nosuid,nodev,noexec {_DEVICE} {_MEDIUM}",
        f"install -d -m 0700 {_COPY}",
        f"cp {_MEDIUM}/{packet.first_contact} {_COPY}/",
        f"cd {_COPY}",
        f"{_COMPARE} {packet.first_contact}",
        f"{run} verify {bundle}",
        f"{run} preflight {bundle}",
        f"{run} install {bundle}",
    ]


def packet_text(packet: Packet) -> str:
    """Return the paper as plain text."""
    return f"{_title(packet)}\n\n{paper_text(_sections(packet))}"


def packet_html(packet: Packet) -> str:
    """Return the paper as one page to print, without anything that must be fetched."""
    return paper_html(_title(packet), _sections(packet))


def _title(packet: Packet) -> str:
    return both(text("Carry-in paper of {release}", release=packet.release.id))


def packet_facts(packet: Packet) -> dict[str, object]:
    """Return the paper as ``--json`` has it."""
    release = packet.release
    return {
        "release": release.id,
        "bundle": packet.bundle,
        "bundle_bytes": packet.bundle_bytes,
        "bundle_sha256": packet.bundle_sha256,
        "first_contact": packet.first_contact,
        "first_contact_sha256": packet.first_contact_sha256,
        "first_root_sha256": packet.first_root_sha256,
        "root_version": packet.root_version,
        "root_sha256": packet.root_sha256,
        "root_keys": list(packet.root_keys),
        "release_keys": list(packet.release_keys),
        "signed_by": list(packet.signed_by),
        "expires": packet.expires,
        "commands": commands(packet),
        "parts": [
            {
                "name": part.name,
                "version": part.version,
                "source": str(part.source),
                "sha256": part.sha256,
                "size_bytes": part.size_bytes,
            }
            for part in packet.parts
        ],
    }


def _sections(packet: Packet) -> Iterator[tuple[str, list[str]]]:
    """Yield each heading with its items; an item has one line or several, and no page may end in it."""
    yield both(text("Compare this before anything runs")), list(_comparison(packet))
    yield both(text("What is carried")), list(_carried(packet))
    yield both(text("What to type on the server")), list(_typed(packet))
    yield both(text("Intake record")), list(_record())
    yield both(text("Intake list")), list(_intake(packet))


def _typed(packet: Packet) -> Iterator[str]:
    lines = commands(packet)
    yield from (f"{number}. {line}" for number, line in enumerate(lines, start=1))
    yield ""
    device = text("lsblk shows the medium; write its name in the place of {device}", device=_DEVICE)
    step = next(number for number, line in enumerate(lines, start=1) if line.startswith(_COMPARE))
    compared = text("go on after step {number} only if its line is the one printed above", number=step)
    yield from (both(device), both(compared))


def _comparison(packet: Packet) -> Iterator[str]:
    yield both(text("SHA-256 of {name}", name=packet.first_contact))
    yield ""
    yield from (f"    {line}" for line in grouped(packet.first_contact_sha256))
    yield ""
    yield both(text("sha256sum must print exactly"))
    yield f"{packet.first_contact_sha256}  {packet.first_contact}"


def _carried(packet: Packet) -> Iterator[str]:
    release = packet.release
    facts = (
        (text("product"), f"{release.product} {release.version}"),
        (text("release"), release.id),
        (text("counter"), release.counter),
        (text("grade"), release.grade),
        (text("site"), release.site or "-"),
        (text("bundle"), f"{packet.bundle}, {packet.bundle_bytes} B ({human_bytes(packet.bundle_bytes)})"),
        (text("SHA-256 of the bundle"), packet.bundle_sha256),
        (text("first contact"), f"{packet.first_contact}, {packet.first_contact_bytes} B"),
        (text("root version"), packet.root_version),
        (text("expires"), packet.expires.date()),
    )
    yield from (f"{both(label)}: {value}" for label, value in facts)
    for label, keys in (
        (text("SHA-256 of the first root"), (packet.first_root_sha256,)),
        (text("SHA-256 of root version {version}", version=packet.root_version), (packet.root_sha256,)),
        (text("root keys"), packet.root_keys),
        (text("release keys"), packet.release_keys),
        (text("signed by"), packet.signed_by),
    ):
        yield "\n".join([f"{both(label)}:", *(f"    {line}" for key in keys for line in grouped(key))])


def _record() -> Iterator[str]:
    for blank in (
        text("medium number"),
        text("carried by"),
        text("purpose"),
        text("in / out"),
        text("time"),
        text("malware scan"),
        text("confirmed by"),
    ):
        yield f"{both(blank)}: ______________________________"


def _intake(packet: Packet) -> Iterator[str]:
    first = Part(
        packet.first_contact,
        packet.release.version,
        text("the supplier"),
        packet.first_contact_sha256,
        packet.first_contact_bytes,
    )
    for number, part in enumerate((first, *packet.parts), start=1):
        yield (
            f"{number:4}. {part.name} {part.version}\n"
            f"      {both(part.source)}, {part.size_bytes} B\n"
            f"      {part.sha256}"
        )
