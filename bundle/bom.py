"""``bom.cdx.json``: CycloneDX 1.6, the parts of a release by name, version and digest.

Written by hand: the CycloneDX library adds itself and the moment to every document, and the same lock
must give the same bytes. The one date is the lock's. Source: CycloneDX 1.6, JSON schema.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import UUID

from appliance.format import canonical_json, sha256_hex

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bundle.lock import Lock, LockedImage, LockedModel, LockedPackage, LockedWheel


def make_bom(lock: Lock, licences: Mapping[str, str]) -> bytes:
    """Return the document; ``licences``: what wheels state of themselves, by digest."""
    components = sorted(_components(lock, licences), key=lambda component: str(component["bom-ref"]))
    manifest = lock.manifest
    product = {
        "type": "application",
        "bom-ref": f"product:{manifest.product}",
        "name": manifest.product,
        "version": manifest.version,
    }
    # Named by its content, so that equal releases have equal documents.
    serial = UUID(sha256_hex(canonical_json([product, components]))[:32], version=4)
    return canonical_json(
        {
            "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "serialNumber": f"urn:uuid:{serial}",
            "version": 1,
            "metadata": {"timestamp": lock.locked_at, "component": product},
            "components": components,
            "dependencies": [
                {"ref": product["bom-ref"], "dependsOn": [component["bom-ref"] for component in components]}
            ],
        }
    )


def _components(lock: Lock, licences: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    wheels = {wheel.sha256: wheel for each in lock.environments for wheel in each.wheels}
    yield from (_wheel(wheel, licences.get(wheel.sha256, "")) for wheel in wheels.values())
    yield from (_model(model, lock.manifest.models[model.name].hub) for model in lock.models)
    yield from map(_image, lock.images)
    yield from (_package(package, lock.manifest.target.os) for package in lock.packages)
    yield from (_role(role.name, lock) for role in lock.roles)


def _wheel(wheel: LockedWheel, licence: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "library",
        "bom-ref": f"wheel:{wheel.filename}",
        "name": wheel.name,
        "version": wheel.version,
        "hashes": [_sha256(wheel.sha256)],
    }
    if not wheel.local:  # what is built here is on no index
        version = wheel.version.replace("+", "%2B")
        found["purl"] = f"pkg:pypi/{wheel.name}@{version}?file_name={wheel.filename}"
    return found | ({"licenses": [{"license": {"name": licence}}]} if licence else {})


def _model(model: LockedModel, hub: str | None) -> dict[str, Any]:
    files = [
        {
            "type": "file",
            "bom-ref": f"model:{model.name}/{file.path}",
            "name": file.path,
            "hashes": [_sha256(file.sha256)],
        }
        for file in model.files
    ]
    found: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": f"model:{model.name}",
        "name": model.name,
        "components": files,
    }
    if model.commit is not None:
        found |= {"version": model.commit, "purl": f"pkg:huggingface/{hub}@{model.commit}"}
    return found


def _image(image: LockedImage) -> dict[str, Any]:
    blobs = [("manifest", image.manifest), ("config", image.config)]
    blobs += [(f"layer-{number}", layer) for number, layer in enumerate(image.layers, start=1)]
    files = [
        {
            "type": "file",
            "bom-ref": f"image:{image.name}/{part}",
            "name": part,
            "hashes": [_sha256(blob.sha256)],
        }
        for part, blob in blobs
    ]
    repository, _, tag = image.reference.rpartition(":")
    return {
        "type": "container",
        "bom-ref": f"image:{image.name}",
        "name": image.reference,
        "version": f"sha256:{image.manifest.sha256}",
        "purl": f"pkg:oci/{repository.rpartition('/')[2]}@sha256%3A{image.source}?tag={tag}",
        "hashes": [_sha256(image.manifest.sha256)],
        "components": files,
    }


def _package(package: LockedPackage, system: str) -> dict[str, Any]:
    vendor = system.partition("-")[0]
    qualifiers = f"arch={package.architecture}&distro={system}"
    return {
        "type": "library",
        "bom-ref": f"package:{package.name}",
        "name": package.name,
        "version": package.version,
        "purl": f"pkg:deb/{vendor}/{quote(package.name)}@{quote(package.version, safe='')}?{qualifiers}",
        "hashes": [_sha256(package.sha256)],
    }


def _role(name: str, lock: Lock) -> dict[str, Any]:
    inside = f"playbooks/roles/{name}/"
    files = {file.path: file.sha256 for file in lock.playbooks if file.path.startswith(inside)}
    return {
        "type": "application",
        "bom-ref": f"role:{name}",
        "name": name,
        "version": lock.manifest.version,
        # A role is a folder: its digest is the one of the list of its files' digests.
        "properties": [{"name": "banip:files:sha256", "value": sha256_hex(canonical_json(files))}],
    }


def _sha256(digest: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": digest}
