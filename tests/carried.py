"""Real bundles for tests that cross into a closed server: made by ``build.py``, as a person makes them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PROJECT = Path(__file__).parents[1]
PASSPHRASE = "only for tests: nothing real is signed with it"
_CARRIED = ("build.py", "bundle", "appliance", "playbooks", "manifests", "pyproject.toml", "README.md")


@dataclass(frozen=True, slots=True)
class Change:
    """How a version differs from the project as it stands: (file, pattern, replacement)."""

    version: str
    counter: int
    edits: tuple[tuple[str, str, str], ...] = ()


VERSION_1 = Change("1.0.0", 1)
#: Changed wheel, changed role, changed model file; the rest as it was.
VERSION_2 = Change(
    "1.1.0",
    2,
    (
        ("manifests/minimal.yaml", r"itsdangerous==2\.1\.2", "itsdangerous==2.2.0"),
        ("manifests/minimal.yaml", r"Hello from the closed network", "Hello again"),
        ("playbooks/roles/api/templates/banip-api.service.j2", r"RestartSec=2", "RestartSec=3"),
    ),
)
#: Its service starts and says that it is unfit: only the health gate can find out.
VERSION_3_UNHEALTHY = Change(
    "1.2.0",
    3,
    (
        ("manifests/minimal.yaml", r"api_model: greeting", "api_model: nothing"),
        ("playbooks/roles/api/meta/banip.yaml", r"health_timeout_s: 60", "health_timeout_s: 4"),
    ),
)


class Workshop:
    """A copy of the project, with its keys, from which versions are built."""

    def __init__(self, folder: Path, product: str = "minimal") -> None:
        self.folder = folder
        self.product = product
        self.keys = folder / "keys"
        self.passphrase = folder / "passphrase"
        folder.mkdir(parents=True, exist_ok=True)
        self.passphrase.write_text(PASSPHRASE, "utf-8")
        self._restore()

    def run(self, *argv: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``build.py`` in the copy; a failure shows both streams."""
        done = subprocess.run(
            [sys.executable, "build.py", *map(str, argv)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )
        if check and done.returncode != 0:
            message = f"build.py {argv} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
            raise AssertionError(message)
        return done

    def follow(self, say: Callable[[str], None], *argv: object) -> int:
        """Run ``build.py`` in the copy, say each line as it comes, and return the exit code."""
        with subprocess.Popen(
            [sys.executable, "build.py", *map(str, argv)],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        ) as child:
            for line in child.stdout or ():
                say(line.rstrip("\n"))
        return child.returncode

    @property
    def manifest(self) -> Path:
        """The manifest, relative to the workshop, as a person types it."""
        return Path("manifests") / f"{self.product}.yaml"

    def create_keys(self) -> None:
        """Make throw-away keys, 2 of 3."""
        words = ("--product", self.product, "--keys", self.keys, "--passphrase-file", self.passphrase)
        self.run("keys", "create", *words)

    def build(self, change: Change, out: Path) -> Path:
        """Lock, collect, build and sign one version into ``out``; return the bundle."""
        manifest = self.restore(change)
        self.run("lock", manifest)
        self.run("collect", manifest)
        self.run("build", manifest, "--keys", self.keys, "--out", out)
        bundle = out / f"{self.product}-{change.version}.tar"
        self.run("sign", bundle, "--key", self.keys / "release-1.pem", "--passphrase-file", self.passphrase)
        return bundle

    def restore(self, change: Change) -> Path:
        """Lay out one version's manifest and roles; return the manifest."""
        self._restore()
        edits = (
            (str(self.manifest), r"(?m)^version: .*$", f"version: {change.version}"),
            (str(self.manifest), r"(?m)^counter: .*$", f"counter: {change.counter}"),
            *change.edits,
        )
        for name, pattern, replacement in edits:
            path = self.folder / name
            text, count = re.subn(pattern, replacement, path.read_text("utf-8"))
            assert count, f"{name} has nothing that matches {pattern}"
            path.write_text(text, "utf-8")
        return self.folder / self.manifest

    def _restore(self) -> None:
        """Lay the project's files anew; store, wheels and keys stay, as on a builder's machine."""
        for name in _CARRIED:
            source, target = PROJECT / name, self.folder / name
            if source.is_dir():
                shutil.rmtree(target, ignore_errors=True)
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.lock.json"))
            else:
                shutil.copy2(source, target)


@dataclass(frozen=True, slots=True)
class Media:
    """What the stick holds: first contact beside the bundles of three versions."""

    folder: Path
    workshop: Workshop
    first: Path
    second: Path
    unhealthy: Path

    @property
    def pyz(self) -> Path:
        """The one file of first contact."""
        return self.folder / "appliance.pyz"


def make_media(folder: Path) -> Media:
    """Build all three versions, really, with the index that this machine has."""
    workshop = Workshop(folder / "workshop")
    workshop.create_keys()
    stick = folder / "stick"
    # The first version last: its appliance.pyz is the one that first contact uses.
    unhealthy = workshop.build(VERSION_3_UNHEALTHY, stick)
    second = workshop.build(VERSION_2, stick)
    first = workshop.build(VERSION_1, stick)
    return Media(stick, workshop, first, second, unhealthy)
