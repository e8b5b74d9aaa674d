"""No second pass: real command lines under strace, and how many bytes they read of what.

A bundle of some 150 MB with a model, an image and wheels, made by ``build.py`` as a person makes it out of a
registry and a hub, and a sparse one of 200 GB.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.carried import (
    HOLLOW_SHARD_BYTES,
    HOLLOW_SHARDS,
    HOLLOW_WHEELS,
    Supplier,
    adopt_script,
    hollow_release,
)
from bench.content import PRODUCT
from bench.measure import measure
from bundle.lock import read_lock
from tests.project import TinyProject
from tests.sources.hub import local_hub
from tests.sources.registry import make_image, registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.format import Blob

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]

PROJECT = Path(__file__).parent.parent
WEIGHTS_BYTES, LAYER_BYTES, SERVED_BYTES = 100_000_000, 24_000_000, 20_000_000
MODEL, IMAGE = "someone/weights", "banip/large:1"
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "LC_ALL": "C.UTF-8",
    "PYTHONPATH": str(PROJECT),
    "PYTHONDONTWRITEBYTECODE": "1",
    "BANIP_PASSPHRASE": "five words that nobody guesses",
}
#: A little more than the whole: headers are compared before content is read.
ONCE = 1.02
HOLLOW_READ_MAX_BYTES = 5_000_000
PEAK_RSS_MAX_BYTES = 128 * 2**20

_READING = "read,pread64,readv,preadv,preadv2"
#: Other ways to get at content; none of them tells in its result how much was looked at.
_OTHER = "mmap,sendfile,splice,copy_file_range,io_uring_setup"
_READ = re.compile(r"^(\w+)\(\d+<([^>]*)>.*\) = (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Trace:
    """What a command asked of the kernel, all threads and processes of it."""

    lines: str

    def bytes_read(self, path: Path) -> int:
        """Sum over a file, or over everything below a folder."""
        inside = (f"{path}", f"{path}/")
        return sum(
            int(count)
            for call, name, count in _READ.findall(self.lines)
            if call in _READING.split(",") and (name == inside[0] or name.startswith(inside[1]))
        )

    def other_ways(self, path: Path) -> list[str]:
        """Return calls that would reach the content without reading it."""
        ways = tuple(_OTHER.split(","))
        return [line for line in self.lines.splitlines() if line.startswith(ways) and f"<{path}" in line]


def trace(folder: Path, *argv: object) -> Trace:
    folder.mkdir()
    options = ["-ff", "-y", "-s", "0", "--seccomp-bpf", "-qq", "-e", f"trace={_READING},{_OTHER}"]
    done = subprocess.run(
        ["strace", *options, "-o", str(folder / "trace"), sys.executable, *map(str, argv)],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Trace("\n".join(path.read_text("utf-8") for path in sorted(folder.glob("trace.*"))))


@dataclass(frozen=True)
class Shop:
    """A project of large models and a large image, collected under strace; a server that trusts its keys."""

    folder: Path
    registry: str
    hub: str

    @cached_property
    def project(self) -> TinyProject:
        """The project, locked."""
        project = TinyProject(self.folder / "project")
        project.edit("weights_bytes: 4096", f"weights_bytes: {WEIGHTS_BYTES}")
        sources = f"  find_links: [wheels]\n  registries: ['{self.registry}']\n  hub: {self.hub}\n"
        project.edit("  find_links: [wheels]\n", sources)
        project.edit("models:\n", f"models:\n  served:\n    hub: {MODEL}\n")
        project.edit("playbooks:\n", f"images:\n  large:\n    reference: {IMAGE}\nplaybooks:\n")
        for argv in (("keys", "create", "--product", "tiny"), ("lock", project.manifest)):
            self.build(*argv)
        return project

    @cached_property
    def collecting(self) -> Trace:
        """What the project's first ``collect`` did."""
        return trace(self.folder / "collecting", PROJECT / "build.py", "collect", self.project.manifest)

    @cached_property
    def layer(self) -> Blob:
        """The only layer of the image."""
        (layer,) = read_lock(self.project.check()).images[0].layers
        return layer

    @property
    def store(self) -> Path:
        """The store of the project, which is filled."""
        assert self.collecting
        return self.project.folder / ".banip" / "store"

    def blob(self, sha256: str) -> Path:
        return self.store / "blobs" / "sha256" / sha256

    @cached_property
    def bundle(self) -> Path:
        assert self.collecting
        self.build("build", self.project.manifest, "--out", "dist")
        bundle = self.project.folder / "dist" / "tiny-1.0.0.tar"
        self.build("sign", bundle, "--key", "keys/release-1.pem")
        return bundle

    @cached_property
    def root(self) -> Path:
        first_root = self.project.folder / "keys" / "roots" / "1.root.json"
        return adopted(self.folder / "site", first_root, "tiny")

    def build(self, *argv: object) -> None:
        subprocess.run(
            [sys.executable, str(PROJECT / "build.py"), *map(str, argv)],
            cwd=self.folder / "project",
            env=ENVIRONMENT,
            check=True,
            capture_output=True,
            timeout=300,
        )


def adopted(root: Path, first_root: Path, product: str) -> Path:
    argv = [sys.executable, *adopt_script(root, first_root, product)]
    subprocess.run(argv, env=ENVIRONMENT, check=True, capture_output=True, timeout=60)
    return root


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("traces").resolve()
    noise = os.urandom(LAYER_BYTES)  # what is packed is no smaller, and the zeros are nothing
    with registry(folder / "registry") as shelf, local_hub() as hub:
        make_image(shelf, IMAGE, [{"noise": noise, "zeros": bytes(LAYER_BYTES)}], ["/nothing"])
        (folder / "model").mkdir()
        (folder / "model" / "model.safetensors").write_bytes(os.urandom(SERVED_BYTES))
        hub.publish(MODEL, folder / "model")
        yield Shop(folder, shelf.url, hub.url)


@pytest.fixture(scope="module")
def hollow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a signed sparse bundle, and a server that trusts it."""
    folder = tmp_path_factory.mktemp("hollow").resolve()
    supplier = Supplier()
    release = hollow_release(HOLLOW_SHARDS, HOLLOW_SHARD_BYTES, HOLLOW_WHEELS)
    supplier.sparse_bundle(folder / "hollow.tar", release)
    (folder / "root.json").write_bytes(supplier.root)
    adopted(folder / "site", folder / "root.json", PRODUCT)
    return folder


def test_collecting_reads_what_arrives_once_and_never_what_it_stored(shop: Shop) -> None:
    seen, layer = shop.collecting, shop.layer
    banip = shop.project.folder / ".banip"
    (image,) = read_lock(shop.project.check()).images
    arrived = banip / "images" / image.source / "sha256" / layer.sha256
    assert layer.size_bytes > LAYER_BYTES
    assert seen.bytes_read(arrived) == layer.size_bytes
    assert seen.bytes_read(banip / "hub") == SERVED_BYTES
    assert seen.bytes_read(banip / "store") < WEIGHTS_BYTES / 100, "what was made and stored is not read"
    assert seen.bytes_read(banip) <= ONCE * (layer.size_bytes + SERVED_BYTES)
    for place in (arrived, banip / "hub", banip / "store"):
        assert seen.other_ways(place) == []


def test_building_reads_each_large_blob_once(shop: Shop, tmp_path: Path) -> None:
    store, dist = shop.store, tmp_path / "dist"
    keys = shop.project.folder / "keys"
    argv = (PROJECT / "build.py", "build", shop.project.manifest, "--out", dist, "--keys", keys)
    seen = trace(tmp_path / "t", *argv)
    sizes = {path: path.stat().st_size for path in (store / "blobs" / "sha256").iterdir()}
    large = {path: size_bytes for path, size_bytes in sizes.items() if size_bytes >= SERVED_BYTES}
    assert len(large) == 3
    assert sizes[shop.blob(shop.layer.sha256)] > LAYER_BYTES
    assert {path: seen.bytes_read(path) for path in large} == large
    assert seen.bytes_read(store) <= ONCE * _content_bytes(dist / "tiny-1.0.0.tar")
    assert seen.bytes_read(dist) < WEIGHTS_BYTES / 100, "what was written is not read again"
    assert seen.other_ways(store) == []


def test_building_from_an_older_store_reads_a_layer_once_more_and_never_again(
    shop: Shop, tmp_path: Path
) -> None:
    layer, records = shop.blob(shop.layer.sha256), shop.project.folder / ".banip" / "layers"
    shutil.rmtree(records)
    keys = shop.project.folder / "keys"
    for times in (2, 1):
        argv = ("build", shop.project.manifest, "--out", tmp_path / f"{times}", "--keys", keys)
        seen = trace(tmp_path / f"t{times}", PROJECT / "build.py", *argv)
        assert seen.bytes_read(layer) == times * shop.layer.size_bytes


def test_building_a_bundle_judges_it_reading_it_once(shop: Shop, tmp_path: Path) -> None:
    keys = shop.project.folder / "keys"
    seen = trace(tmp_path / "t", PROJECT / "build.py", "verify", shop.bundle, "--keys", keys)
    _is_read_once(seen, shop.bundle)


def test_verifying_reads_the_bundle_once(shop: Shop, tmp_path: Path) -> None:
    seen = trace(tmp_path / "t", "-m", "appliance", "--root", shop.root, "verify", shop.bundle)
    _is_read_once(seen, shop.bundle)


def test_importing_reads_the_bundle_once_and_never_what_it_stored(shop: Shop, tmp_path: Path) -> None:
    root = tmp_path / "site"
    shutil.copytree(shop.root, root)
    seen = trace(tmp_path / "t", "-m", "appliance", "--root", root, "import", shop.bundle)
    _is_read_once(seen, shop.bundle)
    assert seen.bytes_read(root / "store") == 0
    assert seen.other_ways(root / "store") == []


def test_importing_again_reads_no_content(shop: Shop, tmp_path: Path) -> None:
    root = tmp_path / "site"
    shutil.copytree(shop.root, root)
    importing = ("-m", "appliance", "--root", root, "import", shop.bundle)
    trace(tmp_path / "first", *importing)
    seen = trace(tmp_path / "second", *importing)
    assert seen.bytes_read(shop.bundle) < WEIGHTS_BYTES / 100
    assert seen.bytes_read(root / "store") == 0


def test_importing_takes_little_memory_and_no_more_for_more_bytes(shop: Shop, tmp_path: Path) -> None:
    root = tmp_path / "site"
    shutil.copytree(shop.root, root)
    argv = (sys.executable, "-m", "appliance", "--root", str(root), "import", str(shop.bundle))
    assert shop.bundle.stat().st_size > WEIGHTS_BYTES
    seen = measure([(argv,)], tmp_path, ENVIRONMENT)
    assert 10 * 2**20 < seen.peak_rss_bytes <= PEAK_RSS_MAX_BYTES


def test_looking_at_200_gb_reads_its_metadata_alone(hollow: Path, tmp_path: Path) -> None:
    bundle = hollow / "hollow.tar"
    assert bundle.stat().st_size > 200e9
    assert bundle.stat().st_blocks * 512 < 10e6
    inspected = trace(tmp_path / "inspect", PROJECT / "build.py", "inspect", bundle)
    planned = trace(tmp_path / "plan", "-m", "appliance", "--root", hollow / "site", "plan", bundle)
    for seen in (inspected, planned):
        assert 100_000 < seen.bytes_read(bundle) < HOLLOW_READ_MAX_BYTES
        assert seen.other_ways(bundle) == []


def _is_read_once(seen: Trace, bundle: Path) -> None:
    assert bundle.stat().st_size > WEIGHTS_BYTES
    assert _content_bytes(bundle) <= seen.bytes_read(bundle) <= ONCE * bundle.stat().st_size
    assert seen.other_ways(bundle) == []


def _content_bytes(bundle: Path) -> int:
    return bundle.stat().st_size - 200_000  # headers, padding and the room for signatures


def test_a_trace_counts_every_way_to_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(4_000_000))
    code = (
        "import mmap, os, sys, threading\n"
        "path = sys.argv[1]; file = os.open(path, os.O_RDONLY)\n"
        "def work(start):\n"
        "    for at in range(start, start + 2_000_000, 1000): os.preadv(file, [bytearray(1000)], at)\n"
        "threads = [threading.Thread(target=work, args=(start,)) for start in (0, 2_000_000)]\n"
        "[thread.start() for thread in threads]; [thread.join() for thread in threads]\n"
        "open(path, 'rb', buffering=0).readinto(bytearray(1_000_000))\n"
        "mmap.mmap(file, 0, prot=mmap.PROT_READ)\n"
    )
    seen = trace(tmp_path / "t", "-c", code, path)
    assert seen.bytes_read(path) == 5_000_000
    assert len(seen.other_ways(path)) == 1
    assert seen.bytes_read(tmp_path / "fil") == 0
