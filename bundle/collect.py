"""From a lock to the build store: everything fetched once, checked by digest, resumable, all failures told.

A file is either there under its digest or not there at all; what is there is called cached and left alone.
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.format import Blob
from appliance.problems import Incompletes
from appliance.store import PIECE_BYTES
from appliance.text import text
from bundle.collection import Collection
from bundle.images import collect_image
from bundle.index import find_index, masked
from bundle.local import playbook_files
from bundle.lock import refuse_unlocked
from bundle.models import pieces
from bundle.packages import collect_packages
from bundle.wheels import wheel_target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Executor
    from pathlib import Path

    from bundle.index import Index
    from bundle.lock import Lock, LockedModel, LockedWheel
    from bundle.manifest import CheckedManifest
    from bundle.wheels import WheelTarget
    from bundle.workshop import Report, Workshop

_THREADS = 4
#: One pip brings so much: little enough that a killed run loses little, enough that pip's start is cheap.
_BATCH_WHEELS, _BATCH_BYTES = 8, 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Collected:
    """Receipt of a collection: files and bytes that were already there, and that came in now."""

    cached: int
    cached_bytes: int
    new: int
    new_bytes: int


def collect(checked: CheckedManifest, lock: Lock, workshop: Workshop, report: Report) -> Collected:
    """Bring every blob of the lock into the build store.

    Raises ``Incompletes`` with everything that is unlocked, or that could not be had; what could be had
    stays, so the next run goes on from there.
    """
    refuse_unlocked(lock)
    run = Collection(workshop.store, report)
    _Wheels(checked, lock, workshop, run).collect()
    for model in lock.models:
        _collect_model(checked, workshop, model, run)
    for image in lock.images:
        collect_image(image, checked.manifest, workshop, run)
    collect_packages(checked, lock, workshop, run)
    files = playbook_files(checked)
    for file in lock.playbooks:
        run.take(file.path, file, "copied", _read(files[file.path]))
    if run.problems:
        raise Incompletes(
            text("{count} files could not be collected", count=len(run.problems)),
            run.problems,
            text("run the same command again; it goes on from what is there"),
        )
    return Collected(run.cached, run.cached_bytes, run.new, run.new_bytes)


# --- Wheels, through pip --------------------------------------------------------------------------------


class _Wheels:
    """Fetches wheels into ``offline-wheels/TAG``, where a person finds them, and into the store."""

    def __init__(self, checked: CheckedManifest, lock: Lock, workshop: Workshop, run: Collection) -> None:
        self._lock, self._workshop, self._run = lock, workshop, run
        self._target: WheelTarget = wheel_target(lock.manifest.target)
        self._folder = workshop.wheels(self._target.folder)
        self._find_index: Callable[[], Index] = lambda: find_index(
            checked.manifest.sources, checked.project, run.report
        )

    def collect(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        missing = [wheel for wheel in self._lock.wheels() if not self._have(wheel)]
        if missing:
            self._fetch(missing)

    def _have(self, wheel: LockedWheel) -> bool:
        """Tell whether the wheel is in both places; what is in one is linked to the other."""
        blob = Blob(sha256=wheel.sha256, size_bytes=wheel.size_bytes)
        visible = self._folder / wheel.filename
        store = self._run.store
        if not store.has(blob) and not (visible.is_file() and store.add_file_of(blob, visible)):
            return self._refuse_local(wheel)
        self._show(wheel)
        self._run.keep(wheel.filename, wheel.size_bytes)
        return True

    def _refuse_local(self, wheel: LockedWheel) -> bool:
        if wheel.local:
            said = text("it was built where the lock was made, and no index has it; run lock here")
            self._run.fail(wheel.filename, said)
        return wheel.local

    def _show(self, wheel: LockedWheel) -> None:
        """Link a blob under its wheel's name, replacing another file of that name."""
        visible, blob = self._folder / wheel.filename, self._run.store.path(wheel.sha256)
        if not visible.exists() or not visible.samefile(blob):
            visible.unlink(missing_ok=True)
            visible.hardlink_to(blob)

    def _fetch(self, missing: Sequence[LockedWheel]) -> None:
        index = self._find_index()
        with self._workshop.scratch() as scratch, ThreadPoolExecutor(_THREADS) as threads:
            left = self._bring(batches(missing), scratch / "together", index, threads)
            # pip gives up a whole batch for one failure: what is left is asked for one by one.
            alone = ([wheel] for wheel, _ in left)
            for wheel, reason in self._bring(alone, scratch / "alone", index, threads):
                self._run.fail(wheel.filename, text("pip could not fetch it: {reason}", reason=reason))

    def _bring(
        self, wanted: Iterable[list[LockedWheel]], home: Path, index: Index, threads: Executor
    ) -> list[tuple[LockedWheel, str]]:
        """Download batches and keep each as soon as it is there; return what is not, with pip's reason."""
        home.mkdir()
        running = {
            threads.submit(self._download, batch, home / str(number), index): (batch, home / str(number))
            for number, batch in enumerate(wanted)
        }
        left: list[tuple[LockedWheel, str]] = []
        for done in as_completed(running):
            batch, folder = running[done]
            left += [(wheel, done.result()) for wheel in batch if not self._arrived(wheel, folder)]
        return left

    def _arrived(self, wheel: LockedWheel, folder: Path) -> bool:
        blob = Blob(sha256=wheel.sha256, size_bytes=wheel.size_bytes)
        if not self._run.arrived(wheel.filename, blob, folder / wheel.filename):
            return False
        self._show(wheel)
        return True

    def _download(self, batch: Sequence[LockedWheel], folder: Path, index: Index) -> str:
        folder.mkdir()
        wishes = folder / "requirements.txt"
        lines = [f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n" for wheel in batch]
        wishes.write_text("".join(lines), "utf-8")
        argv = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes"]
        argv += ["--only-binary", ":all:", "--dest", str(folder), "-r", str(wishes)]
        argv += ["--implementation", "cp", "--python-version", self._target.python]
        argv += [word for platform in self._target.platforms for word in ("--platform", platform)]
        done = subprocess.run(
            argv,
            env=index.pip_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return masked(" ".join(done.stderr.split()))[-400:]


def batches(wheels: Iterable[LockedWheel]) -> Iterator[list[LockedWheel]]:
    """Yield small groups in which no name stands twice: pip refuses two versions of one name."""
    left = list(wheels)
    while left:
        batch: dict[str, LockedWheel] = {}
        size_bytes = 0
        for wheel in left:
            full = len(batch) == _BATCH_WHEELS or size_bytes + wheel.size_bytes > _BATCH_BYTES
            if wheel.name not in batch and not (batch and full):
                batch[wheel.name] = wheel
                size_bytes += wheel.size_bytes
        left = [wheel for wheel in left if wheel not in batch.values()]
        yield list(batch.values())


# --- Models -----------------------------------------------------------------------------------------------


def _collect_model(
    checked: CheckedManifest, workshop: Workshop, locked: LockedModel, run: Collection
) -> None:
    model = checked.manifest.models[locked.name]
    if model.hub is not None:
        from bundle.hub import Hub  # noqa: PLC0415 - only where a manifest has hub models

        Hub(checked.manifest.sources.hub, workshop.hub).collect(model.hub, locked, run)
        return
    for file in locked.files:
        name = f"models/{locked.name}/{file.path}"
        if model.generate is not None:
            run.take(name, file, "made", pieces(model.generate, file.path))
        elif model.folder is not None:
            run.take(name, file, "copied", _read(checked.path(model.folder) / file.path))


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        yield from iter(lambda: file.read(PIECE_BYTES), b"")
