"""What is carried in the benchmark: pseudo-random files out of a seed, in a store, and the release of them.

Three shards of a model, two hundred wheels between 50 KB and 80 MB, one layer of an image. Nothing in them
compresses, as nothing in real ones does; the same seed gives the same bytes on any machine.
"""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from appliance.format import Blob, Environment, Image, Release, ReleaseFile, Space, Target, Wheel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

PRODUCT = "bench"
BUILT = datetime(2026, 1, 1, tzinfo=timezone.utc)
_PIECE_BYTES = 4 * 1024 * 1024
_SHARD, _WHEEL, _LAYER = "shard", "wheel", "layer"
_SMALL_FILES = {"bom": 4096, "image-manifest": 1024, "image-config": 2048}


@dataclass(frozen=True, slots=True)
class Mix:
    """How much of what: ``shards`` and ``layer`` in bytes, wheels between two sizes in bytes."""

    shards: Sequence[int]
    wheels: int
    wheel_bytes: tuple[int, int]
    layer: int

    def sizes(self, seed: str) -> dict[str, int]:
        """Return name and size of every file; wheels are spread evenly over the orders of magnitude."""
        numbers = random.Random(seed)  # noqa: S311 - the same sizes everywhere is the point
        low, high = map(math.log, self.wheel_bytes)
        wheels = [int(math.exp(numbers.uniform(low, high))) for _ in range(self.wheels)]
        return {
            **_SMALL_FILES,
            **{f"{_SHARD}-{number}": size for number, size in enumerate(self.shards)},
            **{f"{_WHEEL}-{number}": size for number, size in enumerate(wheels)},
            f"{_LAYER}-0": self.layer,
        }


FULL = Mix((1_600_000_000, 1_600_004_096, 1_600_012_345), 200, (50_000, 80_000_000), 700_000_000)
SMALL = Mix((40_000_000, 40_004_096, 40_012_345), 30, (5_000, 8_000_000), 25_000_000)
TINY = Mix((20_000_000, 9_000_001), 5, (1_000, 60_000), 300_000)


def fill_store(folder: Path, sizes: Mapping[str, int], seed: str) -> dict[str, Blob]:
    """Write every file under its digest into ``folder``, and return which is which."""
    folder.mkdir(parents=True)
    blobs = {}
    for name, size_bytes in sizes.items():
        new = folder / name
        digest = hashlib.sha256()
        with new.open("wb", buffering=0) as file:
            for piece in pseudo_random(f"{seed} {name}", size_bytes):
                digest.update(piece)
                file.write(piece)
        new.chmod(0o444)
        new.rename(folder / digest.hexdigest())
        blobs[name] = Blob(sha256=digest.hexdigest(), size_bytes=size_bytes)
    return blobs


def pseudo_random(seed: str, size_bytes: int) -> Iterator[memoryview]:
    """Yield that many bytes of AES-128 in counter mode under the seed's digest: gigabytes a second."""
    key = hashlib.sha256(seed.encode()).digest()[:16]
    stream = Cipher(AES(key), CTR(bytes(16))).encryptor()
    zeros = bytes(_PIECE_BYTES)
    for start in range(0, size_bytes, _PIECE_BYTES):
        yield memoryview(stream.update(zeros))[: size_bytes - start]


def release_of(blobs: Mapping[str, Blob]) -> Release:
    """Return a release in which each of these files has its kind of place."""
    of_kind = {
        kind: {name: blob.sha256 for name, blob in blobs.items() if name.startswith(f"{kind}-")}
        for kind in (_SHARD, _WHEEL, _LAYER)
    }
    wheels = tuple(
        Wheel(filename=f"{name.replace('-', '_')}-1.0-py3-none-any.whl", sha256=digest)
        for name, digest in of_kind[_WHEEL].items()
    )
    platform = "manylinux_2_28_x86_64"
    image = Image(
        name="guide",
        reference="registry.example/guide:1",
        manifest=blobs["image-manifest"].sha256,
        blobs=(blobs["image-config"].sha256, *of_kind[_LAYER].values()),
    )
    files = {f"models/big/{name}.safetensors": digest for name, digest in of_kind[_SHARD].items()}
    return Release(
        format=1,
        product=PRODUCT,
        version="1.0.0",
        counter=1,
        grade="O",
        site=None,
        target=Target(os="debian-12", architecture="x86_64", python="3.11"),
        built=BUILT,
        blobs=tuple(sorted(blobs.values(), key=lambda blob: blob.sha256)),
        files=tuple(ReleaseFile(path=path, sha256=digest) for path, digest in sorted(files.items())),
        environments=(Environment(name="controller", python="3.11", platform=platform, wheels=wheels),),
        images=(image,),
        packages=(),
        tolerates=(),
        roles=(),
        variables={},
        space=Space(
            store_bytes=sum(blob.size_bytes for blob in blobs.values()),
            environments_bytes=0,
            images_bytes=0,
            packages_bytes=0,
        ),
        bom=blobs["bom"].sha256,
    )
