"""Makes what is kept for ever: one bundle of each format, and the verifier of each release.

As ``docs/releasing.md`` says, once for a release, on its commit::

    python -m tests.released.make

It writes what is not there yet and overwrites nothing. The keys of the bundle exist in memory alone and are
gone when this ends, so nobody can sign another bundle that those who keep its root would trust.
"""

from __future__ import annotations

import json
import lzma
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomllib

from appliance.format import (
    CHUNKS_TARGET,
    FORMAT,
    PACKAGES_INDEX,
    HttpAnswers,
    Image,
    Owned,
    Package,
    Role,
    Space,
    Tolerated,
    UnitActive,
    sha256_hex,
)
from bundle.pack import build_carrier
from bundle.sign import sign
from tests.world import Generation, World, key

if TYPE_CHECKING:
    from appliance.verify import TrustedBundle

KEPT = Path(__file__).parent
PROJECT = KEPT.parents[1]
BUNDLE, ROOT, FACTS = "bundle.tar.xz", "1.root.json", "facts.json"
_DATE = (1980, 1, 1, 0, 0, 0)  # the first that zip can say


def main() -> None:
    """Make what this release lacks and say what there is."""
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    bundle, verifier = KEPT / f"format-{FORMAT}", KEPT / f"verifier-{version}.zip"
    if bundle.exists() and verifier.exists():
        sys.exit("everything is there, and nothing is overwritten: raise the version in pyproject.toml first")
    if not bundle.exists():
        make_format(bundle)
        sys.stdout.write(f"made {bundle.relative_to(PROJECT)}\n")
    if not verifier.exists():
        make_verifier(verifier)
        sys.stdout.write(f"made {verifier.relative_to(PROJECT)}\n")


def make_format(folder: Path) -> None:
    """Write a packed, signed bundle of this format, its first root, and its facts, into a new folder."""
    world = full_world()
    with tempfile.TemporaryDirectory() as scratch:
        bundle = Path(scratch) / "bundle.tar"
        build_carrier(bundle, world.roots, world.release, world.open_blob, expires=world.expires)
        sign(bundle, world.signers)
        content = bundle.read_bytes()
    facts = facts_of(world.trusted()) | {"bundle_sha256": sha256_hex(content), "bundle_bytes": len(content)}
    folder.mkdir()  # now that nothing can go wrong: what is half made would look kept
    (folder / BUNDLE).write_bytes(lzma.compress(content, preset=9))
    (folder / ROOT).write_bytes(world.root(1))
    (folder / FACTS).write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", "utf-8")


def make_verifier(path: Path, source: Path = PROJECT / "appliance") -> None:
    """Write the source of the server's side into a new zip; the same source, the same members."""
    files = (each for each in source.rglob("*") if each.is_file() and "__pycache__" not in each.parts)
    with path.open("xb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for each in sorted(files):
            info = zipfile.ZipInfo(f"appliance/{each.relative_to(source)}", _DATE)
            info.create_system, info.external_attr = 3, 0o100644 << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, each.read_bytes())


def facts_of(trusted: TrustedBundle) -> dict[str, Any]:
    """Return all that a release of this format says, in words that outlive our classes."""
    release = trusted.release
    return {
        "release": release.id,
        "product": release.product,
        "version": release.version,
        "counter": release.counter,
        "grade": release.grade,
        "site": release.site,
        "built": release.built.isoformat(),
        "expires": trusted.expires.isoformat(),
        "root_version": trusted.root_version,
        "new_roots": [sha256_hex(root) for root in trusted.new_roots],
        "release_sha256": sha256_hex(trusted.release_json),
        "target": [release.target.os, release.target.architecture, release.target.python],
        "blobs": {blob.sha256: blob.size_bytes for blob in release.blobs},
        CHUNKS_TARGET: [digest.hex() for blob in release.blobs for digest in trusted.chunks.of(blob.sha256)],
        "files": {file.path: file.sha256 for file in release.files},
        "environments": {environment.name: environment.digest for environment in release.environments},
        "images": {image.name: [image.reference, image.manifest, *image.blobs] for image in release.images},
        "packages": {package.path: package.sha256 for package in release.packages},
        "tolerates": [[one.name, one.at_least, one.below] for one in release.tolerates],
        "roles": {role.name: _facts_of_role(role) for role in release.roles},
        "variables": release.variables,
        "space": {name: getattr(release.space, name) for name in release.space.__struct_fields__},
        "bom": release.bom,
    }


def _facts_of_role(role: Role) -> dict[str, Any]:
    asked = [one.unit if isinstance(one, UnitActive) else [one.url, one.names_release] for one in role.health]
    owned = [role.owns.units, role.owns.users, role.owns.paths, role.owns.nftables]
    return {
        "owns": [list(nouns) for nouns in owned],
        "listens": list(role.listens),
        "health": asked,
        "health_timeout_s": role.health_timeout_s,
    }


def full_world() -> World:
    """Return a release that uses everything the format can say, after a rotation, by 2 of 3 release keys."""
    world = World(product="kept", site="seoul", version="1.2.3+4", counter=7)
    world.grow()
    deb, index = b"!<arch>\nno real package", b"Package: libnuma1\n"
    manifest, config, layer = b'{"schemaVersion":2}', b'{"os":"linux"}', b"no real layer"
    world.files |= {
        "models/guide/manifest.json": manifest,
        "models/guide/config.json": config,
        "models/guide/layer.tar": layer,
        PACKAGES_INDEX: index,
    }
    package = Package(name="libnuma1", version="1:2.0.16-1", architecture="amd64", sha256=sha256_hex(deb))
    world.files[package.path] = deb
    image = Image(
        name="guide",
        reference="banip/guide:1",
        manifest=sha256_hex(manifest),
        blobs=(sha256_hex(config), sha256_hex(layer)),
    )
    space = Space(store_bytes=8_500_000, environments_bytes=4096, images_bytes=12, packages_bytes=3)
    world.fields = {"images": (image,), "packages": (package,), "tolerates": (_TOLERATED,), "space": space}
    world.roles = (_ROLE,)
    world.variables = {"api_port": 8600, "api_title": "반입", "rates": [0.5, None, True], "empty": {}}
    releasers = [key("release-2"), key("release-3"), key("release-4")]
    root_keys = [key("root-2"), key("root-3"), key("root-4")]
    world.rotate(Generation(root_keys, releasers, release_threshold=2), releasers[:2])
    return world


_TOLERATED = Tolerated(name="libnuma1", at_least="2.0.16", below="3")
_ROLE = Role(
    name="api",
    owns=Owned(
        units=("banip-api.service",),
        users=("banip-api",),
        paths=("/etc/systemd/system/banip-api.service",),
        nftables=("banip",),
    ),
    listens=("tcp/127.0.0.1:8600", "tcp/127.0.0.1:*@banip-api.service"),
    health=(
        UnitActive(unit="banip-api.service"),
        HttpAnswers(url="http://127.0.0.1:8600/health", names_release=True),
    ),
    health_timeout_s=90,
)


if __name__ == "__main__":
    main()
