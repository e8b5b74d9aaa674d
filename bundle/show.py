"""Bundles and differences as facts for programs and lines for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.text import human_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bundle.pack import Contents, Difference

_PACKAGES_SHOWN = 10
_NOUNS = ("environments", "files", "images", "packages", "roles")


def bundle_facts(contents: Contents) -> dict[str, object]:
    """Return what a bundle says of itself."""
    release = contents.release
    return {
        "release": release.id,
        "product": release.product,
        "version": release.version,
        "counter": release.counter,
        "grade": release.grade,
        "site": release.site,
        "target": f"{release.target.os} {release.target.architecture} python {release.target.python}",
        "built": release.built,
        "expires": contents.expires,
        "root_version": contents.root_version,
        "signed_by": list(contents.signed_by),
        "release_sha256": contents.release_sha256,
        "size_bytes": contents.size_bytes,
        "blobs": len(release.blobs),
        "blob_bytes": contents.blob_bytes,
        "store_bytes": release.space.store_bytes,
        "environments_bytes": release.space.environments_bytes,
        "images_bytes": release.space.images_bytes,
        "packages_bytes": release.space.packages_bytes,
        "environments": {each.name: len(each.wheels) for each in release.environments},
        "files": len(release.files),
        "images": {image.name: f"{image.reference} sha256:{image.manifest}" for image in release.images},
        "packages": {package.name: package.version for package in release.packages},
        "roles": [role.name for role in release.roles],
        "bytes_read": contents.bytes_read,
    }


def lines_of(facts: Mapping[str, object]) -> list[str]:
    """Return facts as aligned lines, sizes in people's units too."""
    width = max(map(len, facts))
    return [f"{name:<{width}}  {_words(name, value)}" for name, value in facts.items()]


def difference_facts(found: Difference) -> dict[str, object]:
    """Return a difference as ``--json`` has it."""
    changes = {
        noun: {kind: getattr(getattr(found, noun), kind) for kind in ("added", "removed", "changed")}
        for noun in _NOUNS
    }
    sizes = {name: getattr(found, name) for name in ("added_bytes", "removed_bytes", "kept_bytes")}
    blobs = {name: [blob.sha256 for blob in getattr(found, name)] for name in ("added", "removed")}
    return {**sizes, **changes, "blobs": blobs}


def difference_lines(found: Difference) -> list[str]:
    """Return a difference line by line: ``+ - ~``, the noun, the name."""
    signs = (("+", "added"), ("-", "removed"), ("~", "changed"))
    return [
        f"{sign} {noun} {name}"
        for noun in _NOUNS
        for sign, kind in signs
        for name in getattr(getattr(found, noun), kind)
    ]


def _words(name: str, value: object) -> str:
    if name.endswith("_bytes") and isinstance(value, int):
        return f"{value} ({human_bytes(value)})"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    if name == "packages" and isinstance(value, dict) and len(value) > _PACKAGES_SHOWN:
        return f"{len(value)}"  # the paper and --json name them all
    if isinstance(value, dict) and not value:
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{key} ({count})" for key, count in value.items())
    return "-" if value is None else str(value)
