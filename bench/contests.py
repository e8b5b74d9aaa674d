"""Who runs against whom, over which files, and what each must have produced in the end.

Every contestant is a list of programs with arguments, started anew for each run: starting Python counts.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING

from appliance.format import release_to_bytes
from bench.carried import (
    HOLLOW_SHARD_BYTES,
    HOLLOW_SHARDS,
    HOLLOW_WHEELS,
    Supplier,
    adopt_script,
    hollow_release,
)
from bench.content import fill_store, release_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from appliance.format import Release
    from bench.content import Mix
    from bench.measure import Pipeline

PROJECT = Path(__file__).parent.parent
SEED = "banip 1"
#: What fits on FAT32: 4 GiB less one sector's worth.
VOLUME_BYTES = 4_294_966_784
_DIGEST = re.compile(r"[0-9a-f]{64}")

#: Digests of everything that came out, sorted.
Outcome = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Contestant:
    """A name for the table, pipelines one after another, and how to see in a folder what they produced.

    ``reads``: the files that are to be in the cache for a warm run, and not for a cold one.
    """

    name: str
    steps: tuple[Pipeline, ...]
    outcome: Callable[[Path], Outcome]
    reads: tuple[Path, ...]
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Goal:
    """Our median time, at most ``times`` that of another contestant."""

    against: str
    times: float


@dataclass(frozen=True, slots=True)
class Contest:
    """Contestants over the same files; ``prepare`` lays out what a run starts from, outside of the clock."""

    name: str
    title: str
    contestants: tuple[Contestant, ...]
    goals: tuple[Goal, ...] = ()
    prepare: Callable[[], None] = field(default=lambda: None)


@dataclass(frozen=True)
class Scene:
    """Everything that contests are run on, in one folder; ``code`` is the checkout under test."""

    folder: Path
    mix: Mix
    code: Path = PROJECT

    @property
    def out(self) -> Path:
        """Where contestants write; emptied before each run."""
        return self.folder / "out"

    @property
    def store(self) -> Path:
        """The content, by digest."""
        return self.folder / "store"

    @property
    def bundle(self) -> Path:
        """The same content as a signed bundle."""
        return self.folder / "bundle.tar"

    @property
    def site(self) -> Path:
        """A server that trusts the supplier and has nothing yet."""
        return self.folder / "site"

    @property
    def hollow(self) -> Path:
        """A signed bundle of 200 GB that takes a megabyte on disk."""
        return self.folder / "hollow.tar"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every contestant: the code under test, and bytecode kept out of its tree."""
        return {
            "PATH": os.environ["PATH"],
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": str(self.code),
            "PYTHONPYCACHEPREFIX": str(self.folder / "bytecode"),
        }

    @cached_property
    def release(self) -> Release:
        """The release of the content; the first to ask has it made."""
        return release_of(fill_store(self.store, self.mix.sizes(SEED), SEED))

    @cached_property
    def digests(self) -> Outcome:
        """What must come out of everything."""
        return tuple(sorted(blob.sha256 for blob in self.release.blobs))

    @property
    def content_bytes(self) -> int:
        """Size of the content."""
        return sum(blob.size_bytes for blob in self.release.blobs)

    def set(self) -> None:
        """Make content, bundles and a server that trusts them."""
        supplier = Supplier()
        (self.folder / "release.json").write_bytes(release_to_bytes(self.release))
        (self.folder / "root.json").write_bytes(supplier.root)
        supplier.bundle(self.bundle, self.release, self.store)
        hollow = hollow_release(HOLLOW_SHARDS, HOLLOW_SHARD_BYTES, HOLLOW_WHEELS)
        supplier.sparse_bundle(self.hollow, hollow)
        subprocess.run(
            [sys.executable, *adopt_script(self.site, self.folder / "root.json")],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            check=True,
        )

    def clear(self) -> None:
        """Empty the folder that contestants write into."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()

    def contests(self) -> tuple[Contest, ...]:
        """Return every contest."""
        return (_packing(self), _verifying(self), _importing(self), _looking(self))


def _python(*arguments: object) -> tuple[str, ...]:
    return (sys.executable, "-P", *map(str, arguments))


def _ours(name: str, outcome: Callable[[Path], Outcome], reads: Sequence[Path], *argv: object) -> Contestant:
    return Contestant(name, ((_python(*argv),),), outcome, tuple(reads), ours=True)


def _synced(contestant: Contestant) -> Contestant:
    """Return the contestant with what it wrote made durable, as ours is when it ends."""
    flush: Pipeline = (("sync", "-f", "."),)
    return replace(contestant, name=f"{contestant.name}; sync", steps=(*contestant.steps, flush))


# --- Packing ----------------------------------------------------------------------------------------------


def _packing(scene: Scene) -> Contest:
    files = tuple(sorted(scene.store.iterdir()))
    tar = ("tar", "-C", str(scene.folder), "-cf")
    plain = Contestant(
        "tar -cf", (((*tar, "out.tar", "store"),),), lambda out: _in_tar([out / "out.tar"]), files
    )
    split = Contestant(
        "tar | split",
        (((*tar, "-", "store"), ("split", "-b", str(VOLUME_BYTES), "-", "volume.")),),
        lambda out: _in_tar(sorted(out.glob("volume.*"))),
        files,
    )
    ours = _ours(
        "banip pack",
        lambda out: _in_tar([out / "bundle.tar"]),
        files,
        PROJECT / "bench" / "pack_once.py",
        scene.folder,
        "bundle.tar",
    )
    return Contest(
        "pack",
        "Pack: every blob hashed whole and by chunk, compared with its name, written, durable",
        (ours, plain, _synced(plain), split, _synced(split)),
        (Goal("tar | split", 1.1), Goal("tar | split; sync", 1.1)),
    )


def _in_tar(volumes: Sequence[Path]) -> Outcome:
    """Return the digests of what a tar in volumes holds under names that end in a digest."""
    found = []
    with (
        subprocess.Popen(["cat", *map(str, volumes)], stdout=subprocess.PIPE) as joined,
        tarfile.open(fileobj=joined.stdout, mode="r|") as archive,
    ):
        for member in archive:
            file = archive.extractfile(member)
            if file is not None and _DIGEST.fullmatch(Path(member.name).name):
                found.append(_digest(file))
    return tuple(sorted(found))


def _digest(file: IO[bytes]) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


# --- Verifying --------------------------------------------------------------------------------------------


def _verifying(scene: Scene) -> Contest:
    hashing = Contestant(
        "hashlib, all cores",
        ((_python(PROJECT / "bench" / "hash_files.py", scene.store),),),
        lambda out: tuple(
            sorted(re.findall("^[0-9a-f]{64}", (out / "stdout").read_text("ascii"), re.MULTILINE))
        ),
        tuple(sorted(scene.store.iterdir())),
    )
    alone = Contestant(
        "sha256sum",
        ((("sha256sum", str(scene.bundle)),),),
        lambda _: scene.digests,  # one digest of the whole says nothing of the blobs
        (scene.bundle,),
    )
    ours = _ours(
        "banip verify",
        lambda out: scene.digests if '"release"' in (out / "stdout").read_text("utf-8") else (),
        [scene.bundle],
        *("-m", "appliance", "--root", scene.site, "--json", "verify", scene.bundle),
    )
    return Contest(
        "verify",
        "Verify: signatures, every header, every blob",
        (ours, hashing, alone),
        (Goal(hashing.name, 1.1),),
    )


# --- Importing --------------------------------------------------------------------------------------------


def _importing(scene: Scene) -> Contest:
    unpack: Pipeline = (("tar", "-xf", str(scene.bundle)),)

    def after(name: str, *check: str) -> Contestant:
        return Contestant(
            f"{name}, tar -x", (((*check, str(scene.bundle)),), unpack), _in_folder, (scene.bundle,)
        )

    openssl, sha256sum = after("openssl dgst", "openssl", "dgst", "-sha256"), after("sha256sum", "sha256sum")
    ours = _ours(
        "banip import",
        lambda out: _in_folder(out / "root" / "store"),
        [scene.bundle],
        *("-m", "appliance", "--root", scene.out / "root", "--json", "import", scene.bundle),
    )
    rivals = (_synced(openssl), _synced(sha256sum))
    return Contest(
        "import",
        "Import: signatures, every header, every blob, into the store, durable",
        (ours, openssl, rivals[0], sha256sum, rivals[1]),
        (Goal(rivals[0].name, 1 / 1.5), Goal(rivals[1].name, 1 / 4)),
        prepare=lambda: _lay_out_site(scene),
    )


def _lay_out_site(scene: Scene) -> None:
    shutil.copytree(scene.site, scene.out / "root")


def _in_folder(folder: Path) -> Outcome:
    found = []
    for path in sorted((folder / "blobs" / "sha256").iterdir()):
        with path.open("rb") as file:
            found.append(_digest(file))
    return tuple(sorted(found))


# --- Looking ----------------------------------------------------------------------------------------------


def _looking(scene: Scene) -> Contest:
    def accepted(_: Path) -> Outcome:
        return scene.digests  # there is no content to look at: that it ended well is all

    build = scene.code / "build.py"
    return Contest(
        "look",
        "Look at 200 GB: metadata alone (a sparse bundle)",
        (
            _ours("build.py inspect", accepted, (), build, "inspect", scene.hollow),
            _ours(
                "appliance plan",
                accepted,
                (),
                *("-m", "appliance", "--root", scene.site, "plan", scene.hollow),
            ),
        ),
    )
