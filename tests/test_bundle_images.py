"""Container images: by digest, out of a real registry, every blob checked, nothing fetched twice."""

from __future__ import annotations

import gzip
import http.client
import json
import shutil
import subprocess
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from appliance.errors import Incomplete, Tampered
from appliance.format import sha256_hex
from appliance.problems import Incompletes
from bundle import keys
from bundle.collect import Collected, collect
from bundle.contents import read_contents
from bundle.images import OCI_MANIFEST, oci_manifest
from bundle.layers import Unpacked
from bundle.lock import Lock, LockedImage, write_lock
from bundle.make import make_bundle
from bundle.pack import inspect
from bundle.packet import make_packet
from bundle.resolve import make_lock
from bundle.show import bundle_facts, lines_of
from bundle.sign import sign
from tests.project import NOWHERE, Events, TinyProject
from tests.sources.apt import AptRepository
from tests.sources.registry import GUIDE, Registry, digest, make_guide_image, make_image, registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from appliance.format import Blob

pytestmark = pytest.mark.real  # runs docker-registry and skopeo
NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)
OCI = "application/vnd.oci.image."
CONFIG = f"{OCI}config.v1+json"
LAYER = f"sha256:{'0' * 64}"
LOWER, UPPER = {"etc/lower": b"lower" * 1000}, {"etc/upper": b"upper" * 1000}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Run a registry with the guide and an image of two layers."""
    html = tmp_path_factory.mktemp("html")
    (html / "index.html").write_text("<h1>운영자 안내서</h1>", "utf-8")
    with registry(tmp_path_factory.mktemp("registry")) as found:
        make_guide_image(found, html)
        make_image(found, "banip/two:1", [LOWER, UPPER], ["/nothing"])
        found.push(
            found.address("banip/two:1"), "banip/docker:1", "--src-tls-verify=false", "--format", "v2s2"
        )
        make_image(found, "banip/guide:other", [UPPER], ["/nothing"])
        yield found


@pytest.fixture
def project(tmp_path: Path, shelf: Registry) -> TinyProject:
    found = TinyProject(tmp_path / "project")
    found.edit("  find_links: [wheels]\n", f"  find_links: [wheels]\n  registries: ['{shelf.url}']\n")
    found.edit("playbooks:\n", "images:\n  guide:\n    reference: banip/guide:1\nplaybooks:\n")
    return found


def locked(project: TinyProject) -> Lock:
    return make_lock(project.check(), project.workshop, now=NOW, report=Events())


def image(project: TinyProject) -> LockedImage:
    (found,) = locked(project).images
    return found


def collected(project: TinyProject, lock: Lock, report: Events | None = None) -> Collected:
    return collect(project.check(), lock, project.workshop, report or Events())


def failures(project: TinyProject, lock: Lock) -> dict[str, str]:
    with pytest.raises(Incompletes) as caught:
        collected(project, lock)
    assert caught.value.exit_code == 12
    return {problem.where: str(problem.said) for problem in caught.value.problems}


def reason(project: TinyProject) -> str:
    (unlocked,) = locked(project).unlocked
    assert (unlocked.kind, unlocked.name.split(" ")[0]) == ("image", "guide")
    return unlocked.reason


def test_an_image_is_locked_to_its_manifest_config_and_layers(project: TinyProject, shelf: Registry) -> None:
    found = image(project)
    manifest = json.loads(shelf.blob(found.source).read_bytes())
    assert found.source == found.manifest.sha256
    assert manifest["config"]["digest"] == f"sha256:{found.config.sha256}"
    assert [(layer["digest"], layer["size"]) for layer in manifest["layers"]] == [
        (f"sha256:{layer.sha256}", layer.size_bytes) for layer in found.layers
    ]


def test_everything_of_an_image_is_in_the_store_once(project: TinyProject) -> None:
    lock, events = locked(project), Events()
    collected(project, lock, events)
    assert project.workshop.store.missing(lock.blobs()) == ()
    assert project.workshop.store.check(lambda _: None) == ()
    assert len([name for name in events.names("fetched") if name.startswith("images/guide/")]) == 3
    again = Events()
    collected(project, lock, again)
    assert not again.names("fetched")
    assert not (project.folder / ".banip" / "images" / lock.images[0].source).exists()


def test_dockers_manifest_becomes_an_oci_one_of_the_same_config_and_layers(
    project: TinyProject, shelf: Registry
) -> None:
    project.edit("banip/guide:1", "banip/docker:1")
    lock = locked(project)
    (found,) = lock.images
    assert found.source != found.manifest.sha256
    collected(project, lock)
    raw = project.workshop.store.path(found.manifest.sha256).read_bytes()
    written, source = json.loads(raw), json.loads(shelf.blob(found.source).read_bytes())
    assert "docker" in source["mediaType"]
    assert written["mediaType"] == OCI_MANIFEST
    assert b"docker" not in raw
    assert written["config"]["digest"] == source["config"]["digest"]
    assert [layer["digest"] for layer in written["layers"]] == [each["digest"] for each in source["layers"]]


def test_what_is_carried_is_an_image_that_skopeo_reads_back(project: TinyProject, tmp_path: Path) -> None:
    project.edit("banip/guide:1", "banip/docker:1")
    lock = locked(project)
    collected(project, lock)
    (found,) = lock.images
    layout = tmp_path / "layout"
    (layout / "blobs" / "sha256").mkdir(parents=True)
    for blob in (found.manifest, found.config, *found.layers):
        shutil.copy(project.workshop.store.path(blob.sha256), layout / "blobs" / "sha256")
    descriptor = {
        "mediaType": OCI_MANIFEST,
        "digest": f"sha256:{found.manifest.sha256}",
        "size": found.manifest.size_bytes,
    }
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [descriptor]}))
    done = subprocess.run(["skopeo", "inspect", f"oci:{layout}"], capture_output=True, text=True, check=True)
    assert len(json.loads(done.stdout)["Layers"]) == 2


def test_of_an_index_the_manifest_for_the_target_is_taken(project: TinyProject, shelf: Registry) -> None:
    wanted, other = image(project), digest(shelf, "banip/guide:other")
    push_index(shelf, "several", {"arm64": other, "amd64": wanted.source})
    project.edit("banip/guide:1", "banip/guide:several")
    assert replace(image(project), reference=GUIDE) == wanted


def test_an_image_for_other_machines_is_unlocked_and_says_for_which(
    project: TinyProject, shelf: Registry
) -> None:
    push_index(shelf, "elsewhere", {"s390x": digest(shelf, GUIDE)})
    project.edit("banip/guide:1", "banip/guide:elsewhere")
    assert reason(project) == "the image is for linux s390x, not for linux amd64"
    project.edit("banip/guide:elsewhere", "banip/guide:1")
    project.edit("architecture: x86_64", "architecture: aarch64")
    project.edit("platform: x86_64", "platform: aarch64")
    assert reason(project) == "the image is for linux amd64, not for linux arm64"


def test_an_image_that_no_registry_has_is_unlocked(project: TinyProject) -> None:
    project.edit("banip/guide:1", "banip/ghost:1")
    assert "manifest unknown" in reason(project) or "name unknown" in reason(project)


def test_registries_are_asked_in_their_order_until_one_has_it(project: TinyProject, shelf: Registry) -> None:
    project.edit(f"['{shelf.url}']", f"['{NOWHERE}', '{shelf.url}']")
    lock = locked(project)
    assert lock.unlocked == ()
    collected(project, lock)
    project.edit(f", '{shelf.url}'", "")
    assert "refused" in reason(project)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mediaType": "application/vnd.oci.artifact.manifest.v1+json"}, "not a manifest of an image"),
        ({"config": None}, "not a manifest of an image"),
        ({"layers": []}, "not a manifest of an image"),
        ({"layers": [{"mediaType": "x", "digest": f"sha256:{'0' * 64}", "size": 1}]}, "cannot be carried"),
        ({"layers": [{"mediaType": f"{OCI}layer.v1.tar+zstd", "digest": LAYER, "size": 1}]}, "tar+zstd"),
        ({"config": {"mediaType": "x", "digest": "md5:0", "size": 1}}, "cannot be carried"),
        ({"config": {"mediaType": CONFIG, "digest": "../../etc/passwd", "size": 1}}, "malformed"),
        ({"config": {"mediaType": CONFIG, "digest": f"sha256:{'0' * 64}", "size": -1}}, "malformed"),
        ({"layers": "many"}, "malformed"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(change: dict[str, object], words: str) -> None:
    layer = {"mediaType": f"{OCI}layer.v1.tar+gzip", "digest": f"sha256:{'1' * 64}", "size": 1}
    config = {"mediaType": CONFIG, "digest": f"sha256:{'0' * 64}", "size": 1}
    good = {"mediaType": OCI_MANIFEST, "config": config, "layers": [layer]}
    assert oci_manifest(json.dumps(good).encode()) == json.dumps(good).encode()
    with pytest.raises(Incomplete) as caught:
        oci_manifest(json.dumps(good | change).encode())
    assert words in str(caught.value.seen)


def test_a_layer_that_changed_in_the_registry_is_not_taken(project: TinyProject, shelf: Registry) -> None:
    project.edit("banip/guide:1", "banip/two:1")
    lock = locked(project)
    (found,) = lock.images
    kept = shelf.blob(found.layers[1].sha256)
    content = kept.read_bytes()
    kept.write_bytes(content[:-1] + b"?")
    try:
        wrong = failures(project, lock)
    finally:
        kept.write_bytes(content)
    assert [name.rpartition("-")[2] for name in wrong] == [found.layers[1].sha256[:12]]
    assert not project.workshop.store.path(found.layers[1].sha256).exists()
    shutil.rmtree(project.workshop.images)
    events = Events()
    asked = shelf.asked_for(found.layers[0].sha256)
    collected(project, lock, events)
    assert shelf.asked_for(found.layers[0].sha256) == asked
    assert events.names("fetched") == list(wrong), "what was good had stayed"


def test_layers_that_a_killed_run_left_are_not_fetched_again(project: TinyProject, shelf: Registry) -> None:
    project.edit("banip/guide:1", "banip/two:1")
    lock = locked(project)
    (found,) = lock.images
    left = project.workshop.images / found.source / "sha256"
    left.mkdir(parents=True)
    kept = shelf.blob(found.layers[0].sha256)
    shutil.copy(kept, left / found.layers[0].sha256)
    with hidden(kept):
        collected(project, lock)
    assert project.workshop.store.missing(lock.blobs()) == ()


def test_a_wrong_layer_that_a_killed_run_left_is_fetched_anew(project: TinyProject) -> None:
    project.edit("banip/guide:1", "banip/two:1")
    lock = locked(project)
    (found,) = lock.images
    left = project.workshop.images / found.source / "sha256"
    left.mkdir(parents=True)
    for layer, size_bytes in zip(found.layers, (found.layers[0].size_bytes, 1), strict=True):
        (left / layer.sha256).write_bytes(bytes(size_bytes))
    collected(project, lock)
    assert project.workshop.store.missing(lock.blobs()) == ()
    assert project.workshop.store.check(lambda _: None) == ()


# --- What layers unpack to --------------------------------------------------------------------------------


def tar_of(project: TinyProject, layer: Blob) -> Unpacked:
    content = gzip.decompress(project.workshop.store.path(layer.sha256).read_bytes())
    return Unpacked(sha256=sha256_hex(content), size_bytes=len(content))


def put(project: TinyProject, content: bytes) -> Blob:
    path = project.folder / "other"
    path.write_bytes(content)
    return project.workshop.store.add_file(path)


def with_layer(lock: Lock, layer: Blob) -> Lock:
    (found,) = lock.images
    return replace(lock, images=(replace(found, layers=(layer,)),))


def test_what_a_layer_unpacks_to_is_learnt_as_it_arrives_and_not_read_again(project: TinyProject) -> None:
    project.edit("banip/guide:1", "banip/two:1")
    lock = locked(project)
    collected(project, lock)
    (found,) = lock.images
    wanted = {layer.sha256: tar_of(project, layer) for layer in found.layers}
    assert {layer.sha256: project.workshop.layers.find(layer.sha256) for layer in found.layers} == wanted
    for layer in found.layers:  # whoever read them now would see other content
        path = project.workshop.store.path(layer.sha256)
        path.chmod(0o644)
        path.write_bytes(bytes(layer.size_bytes))
        path.chmod(0o444)
    sizes = read_contents(lock, project.workshop).layers
    assert sizes == {digest: unpacked.size_bytes for digest, unpacked in wanted.items()}


def test_layers_of_a_store_without_records_are_read_and_remembered(project: TinyProject) -> None:
    lock = locked(project)
    collected(project, lock)
    (layer,) = lock.images[0].layers
    shutil.rmtree(project.folder / ".banip" / "layers")
    sizes = read_contents(lock, project.workshop).layers
    assert sizes == {layer.sha256: tar_of(project, layer).size_bytes}
    assert project.workshop.layers.find(layer.sha256) == tar_of(project, layer)


def test_a_record_that_is_wrong_costs_a_reading_and_decides_nothing(project: TinyProject) -> None:
    lock = locked(project)
    collected(project, lock)
    (layer,) = lock.images[0].layers
    project.workshop.layers.keep(layer.sha256, Unpacked(sha256="0" * 64, size_bytes=1))
    sizes = read_contents(lock, project.workshop).layers
    assert sizes == {layer.sha256: tar_of(project, layer).size_bytes}
    assert project.workshop.layers.find(layer.sha256) == tar_of(project, layer)


def test_a_layer_that_its_config_does_not_name_is_not_composed(project: TinyProject) -> None:
    lock = locked(project)
    collected(project, lock)
    other = with_layer(lock, put(project, gzip.compress(b"another tar")))
    for _ in ("read", "remembered"):
        with pytest.raises(Tampered, match="config names") as caught:
            read_contents(other, project.workshop)
        assert caught.value.seen == f"sha256:{sha256_hex(b'another tar')}"


@pytest.mark.parametrize("kind", ["short", "followed", "zstd"])
def test_a_layer_that_cannot_be_unpacked_is_not_composed(project: TinyProject, kind: str) -> None:
    lock = locked(project)
    collected(project, lock)
    (layer,) = lock.images[0].layers
    whole = project.workshop.store.path(layer.sha256).read_bytes()
    broken = {"short": whole[:-4], "followed": whole + b"more", "zstd": b"\x28\xb5\x2f\xfd" + whole}[kind]
    with pytest.raises(Tampered, match="config names"):
        read_contents(with_layer(lock, put(project, broken)), project.workshop)


def test_a_bundle_holds_images_and_packages_and_says_so(project: TinyProject, tmp_path: Path) -> None:
    archive = AptRepository(tmp_path / "apt")
    archive.add("tool", "2:1.0~rc1")
    archive.publish()
    source = f"  apt:\n    - uri: {archive.url}\n      suites: [./]\n      trusted: true\n"
    project.edit("  find_links: [wheels]\n", f"  find_links: [wheels]\n{source}")
    project.edit("playbooks:\n", "packages: [tool]\nplaybooks:\n")
    lock = locked(project)
    write_lock(project.check(), lock)
    collected(project, lock)
    keys.create(tmp_path / "keys", "tiny", passphrase=b"test", expires=NOW + timedelta(days=3650))
    made = [
        make_bundle(
            project.check(),
            lock,
            project.workshop,
            key_folder=tmp_path / "keys",
            out=tmp_path / name,
            report=lambda _: None,
        )
        for name in ("a", "b")
    ]
    assert made[0].bundle.read_bytes() == made[1].bundle.read_bytes()
    contents = inspect(made[0].bundle)
    release = contents.release
    (carried,), (package,) = release.images, release.packages
    (found,) = lock.images
    assert carried.manifest == found.manifest.sha256
    assert carried.blobs == (found.config.sha256, *(layer.sha256 for layer in found.layers))
    unpacked = gzip.decompress(project.workshop.store.path(found.layers[0].sha256).read_bytes())
    assert release.space.images_bytes == len(unpacked)
    assert package.path == "packages/tool_2%3a1.0~rc1_all.deb"
    assert {"packages/Packages", package.path} <= {file.path for file in release.files}
    facts = bundle_facts(contents)
    assert facts["packages"] == {"tool": "2:1.0~rc1"}
    assert any("banip/guide:1 sha256:" in line for line in lines_of(facts))
    bom = json.loads(project.workshop.store.path(release.bom).read_bytes())
    parts = {part["bom-ref"]: part for part in bom["components"]}
    assert parts["package:tool"]["purl"] == "pkg:deb/debian/tool@2%3A1.0~rc1?arch=all&distro=debian-12"
    digests = {each["hashes"][0]["content"] for each in parts["image:guide"]["components"]}
    assert digests == {carried.manifest, *carried.blobs}
    sign(made[0].bundle, [keys.load_signer(tmp_path / "keys" / "release-1.pem", b"test")])
    listed = {
        part.sha256: str(part.source) for part in make_packet(made[0].bundle, made[0].first_contact).parts
    }
    assert {listed[digest] for digest in digests} == {"container registry"}
    assert listed[package.sha256] == "operating system's archive"
    index = next(file.sha256 for file in release.files if file.path == "packages/Packages")
    assert listed[index] == "the supplier"


@contextmanager
def hidden(path: Path) -> Iterator[None]:
    """Take a file away until the block ends."""
    away = path.rename(path.with_name("hidden"))
    try:
        yield
    finally:
        away.rename(path)


def push_index(shelf: Registry, tag: str, digests: dict[str, str]) -> None:
    """Put an index of several images under a tag, through the registry's own interface."""
    kind = f"{OCI}index.v1+json"
    manifests = [
        {
            "mediaType": OCI_MANIFEST,
            "digest": f"sha256:{each}",
            "size": shelf.blob(each).stat().st_size,
            "platform": {"os": "linux", "architecture": architecture},
        }
        for architecture, each in digests.items()
    ]
    raw = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": manifests})
    connection = http.client.HTTPConnection("127.0.0.1", shelf.port, timeout=10)
    connection.request("PUT", f"/v2/banip/guide/manifests/{tag}", raw, {"Content-Type": kind})
    assert connection.getresponse().status == 201
    connection.close()
