"""No second pass: real command lines under strace, and how many bytes they read of what.

A bundle of some 100 MB, made by ``build.py`` as a person makes it, and a sparse one of 200 GB.
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
from tests.project import TinyProject

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]

PROJECT = Path(__file__).parent.parent
WEIGHTS_BYTES = 100_000_000
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
    """A project with a model of 100 MB, collected, and a server that trusts its keys."""

    folder: Path

    @cached_property
    def project(self) -> TinyProject:
        project = TinyProject(self.folder / "project")
        project.edit("weights_bytes: 4096", f"weights_bytes: {WEIGHTS_BYTES}")
        for argv in (("keys", "create", "--product", "tiny"), ("lock", project.manifest)):
            self.build(*argv)
        self.build("collect", project.manifest)
        return project

    @cached_property
    def bundle(self) -> Path:
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
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("traces").resolve())


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


def test_building_reads_each_large_blob_once(shop: Shop, tmp_path: Path) -> None:
    store = shop.project.folder / ".banip" / "store"
    seen = trace(
        tmp_path / "t",
        PROJECT / "build.py",
        *("build", shop.project.manifest, "--out", tmp_path / "dist", "--keys", shop.project.folder / "keys"),
    )
    large = [path for path in (store / "blobs" / "sha256").iterdir() if path.stat().st_size > WEIGHTS_BYTES]
    assert len(large) == 1
    assert seen.bytes_read(large[0]) == large[0].stat().st_size
    assert seen.bytes_read(store) <= ONCE * _content_bytes(tmp_path / "dist" / "tiny-1.0.0.tar")
    assert seen.bytes_read(tmp_path / "dist") < WEIGHTS_BYTES / 100, "what was written is not read again"
    assert seen.other_ways(store) == []


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
