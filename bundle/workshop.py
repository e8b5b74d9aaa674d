"""Where the online side works: ``.banip/`` in the project, and what long work reports."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from appliance.store import Store
from bundle.bootstrap import held, sweep
from bundle.layers import Layers

if TYPE_CHECKING:
    from collections.abc import Iterator

EventKind = Literal["resolved", "built", "cached", "fetched", "made", "copied", "failed", "unanswered"]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened during long work; ``size_bytes`` where there are bytes to count."""

    kind: EventKind
    name: str
    size_bytes: int = 0
    detail: str = ""


Report = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Workshop:
    """The build machine's own folders in a project; both are git-ignored and may be deleted."""

    project: Path

    @property
    def store(self) -> Store:
        """Return the build store, content by digest, shared by all manifests of the project."""
        return Store(self.project / ".banip" / "store")

    @property
    def layers(self) -> Layers:
        """Return what is remembered of images' layers in the build store."""
        return Layers(self.project / ".banip" / "layers")

    def wheels(self, tag: str) -> Path:
        """Return the folder in which a person finds the wheels of a target: ``offline-wheels/TAG``."""
        return self.project / "offline-wheels" / tag

    @property
    def hub(self) -> Path:
        """Return where the hub's client keeps its downloads, to resume them."""
        return self.project / ".banip" / "hub"

    @property
    def images(self) -> Path:
        """Return where skopeo leaves the layers of an image until all of it is there."""
        return self.project / ".banip" / "images"

    def apt(self, name: str) -> Path:
        """Return the private folder of apt for one kind of target and one set of sources."""
        return self.project / ".banip" / "apt" / name

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yield a fresh folder on the store's file system, and remove it; also those of killed runs."""
        home = self.project / ".banip" / "work"
        home.mkdir(parents=True, exist_ok=True)
        with _locked(home):  # nobody sweeps between making a folder and holding it
            sweep(home)
            folder = Path(tempfile.mkdtemp(dir=home))
            descriptor = held(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)


def ended(process: subprocess.Popen[bytes], within_s: float) -> int | None:
    """Return the exit code of a program that ends within that time, otherwise None."""
    try:
        return process.wait(within_s)
    except subprocess.TimeoutExpired:
        return None


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
