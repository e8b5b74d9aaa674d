"""An image's name is the proof that it is loaded; what needs podman itself is tried on a closed server."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest

from appliance.errors import Incomplete, UnfitServer
from appliance.format import Blob, Image, canonical_json, sha256_hex
from appliance.images import Containers, image_reference
from appliance.store import Store

if TYPE_CHECKING:
    from pathlib import Path

LAYER, CONFIG = b"a layer", b'{"os":"linux"}'
MANIFEST = canonical_json({"schemaVersion": 2})
#: Source: OCI distribution specification, "Pulling manifests": what a tag may be.
TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")


@pytest.fixture
def containers(tmp_path: Path) -> Containers:
    return Containers(tmp_path / "containers", tmp_path / "run", tmp_path / "scratch")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    for content in (LAYER, CONFIG, MANIFEST):
        store.add(Blob(sha256=sha256_hex(content), size_bytes=len(content)), [content])
    return store


@pytest.fixture
def image() -> Image:
    blobs = (sha256_hex(CONFIG), sha256_hex(LAYER))
    return Image(name="guide", reference="banip/guide:1", manifest=sha256_hex(MANIFEST), blobs=blobs)


@pytest.mark.parametrize("release", ["demo-1.0.0-c1", "demo-1.0.0+local.1-c12"])
def test_the_name_of_an_image_is_one_that_podman_takes(release: str) -> None:
    name, _, tag = image_reference("guide", release).rpartition(":")
    assert name == "localhost/banip/guide"
    assert TAG.fullmatch(tag)


def test_looking_makes_no_storage(containers: Containers, tmp_path: Path) -> None:
    assert containers.loaded() == {}
    containers.keep_only([])
    containers.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(shutil.which("podman") is not None, reason="this machine has podman")
def test_without_podman_it_says_so(containers: Containers, store: Store, image: Image) -> None:
    with pytest.raises(UnfitServer) as refused:
        containers.load(image, "demo-1.0.0-c1", store)
    assert "no podman" in str(refused.value)
    assert refused.value.remedy is not None


def test_a_blob_that_is_not_there_is_asked_for(containers: Containers, store: Store, image: Image) -> None:
    store.path(image.blobs[1]).unlink()
    with pytest.raises(Incomplete) as refused:
        containers.load(image, "demo-1.0.0-c1", store)
    assert refused.value.where == image.blobs[1]
    assert not containers.scratch.exists()
