"""What the store holds for whom: releases and their blobs, what may be pruned, and what is damaged.

Kept are the release in use, the one before it, what a run that was cut off still needs, and the release
that proves the floor. What a kept release needs is read from its own signed metadata, judged again; where
that fails, nothing is pruned.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from appliance.chunks import missing_of, uses_of
from appliance.durable import clear, rename_durably, sync_folder
from appliance.plan import unfinished
from appliance.release import good_bundles, installed, kept_bundles, load, release_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from appliance.chunks import Progress
    from appliance.release import Server
    from appliance.store import Damage
    from appliance.verify import Trust, TrustedBundle


def pinned(server: Server, trust: Trust) -> tuple[TrustedBundle, ...]:
    """Return the releases that must stay, as proof.

    Raises what ``load`` raises where one is damaged, or where a run that was cut off has no folder yet.
    """
    now, left = installed(server), unfinished(server.state.journal.entries())
    names = [now.release] if now else []
    if left and left.plan and left.plan.operation != "uninstall":
        names += [name for name in (left.plan.old, left.plan.new) if name]
    if now and now.previous in set(release_ids(server)):
        names.append(now.previous)
    newest = max(good_bundles(server, trust), key=lambda one: one.release.counter, default=None)
    names += [newest.release.id] if newest else []
    return tuple(load(server, name, trust) for name in dict.fromkeys(names))


# --- Space ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Share:
    """A release's part of the store: ``own_bytes`` nobody else uses, ``shared_bytes`` others use too."""

    release: str
    kept: bool
    own_bytes: int
    shared_bytes: int


@dataclass(frozen=True, slots=True)
class Accounts:
    """Where the bytes of the store are; ``reclaimable_bytes`` is what ``prune`` gives back of it."""

    shares: tuple[Share, ...]
    unused_bytes: int
    parts_bytes: int
    reclaimable_bytes: int
    free_bytes: int


def accounts(server: Server, trust: Trust) -> Accounts:
    """Count the bytes; nothing is changed. Damaged release folders that need not stay count as unused."""
    sizes, kept = server.store.blobs(), pinned(server, trust)
    bundles = {one.release.id: one for one in (*kept, *kept_bundles(server, trust))}
    users = Counter(blob.sha256 for one in bundles.values() for blob in one.release.blobs)
    staying = {blob.sha256 for one in kept for blob in one.release.blobs}
    names = {one.release.id for one in kept}
    going_bytes = sum(size for name, size in sizes.items() if name not in staying)
    usage = server.store.usage()
    return Accounts(
        shares=tuple(_share(one, sizes, users, kept=name in names) for name, one in sorted(bundles.items())),
        unused_bytes=sum(size for name, size in sizes.items() if name not in users),
        parts_bytes=usage.incoming_bytes,
        reclaimable_bytes=going_bytes + usage.incoming_bytes,
        free_bytes=usage.free_bytes,
    )


def _share(one: TrustedBundle, sizes: dict[str, int], users: Counter[str], *, kept: bool) -> Share:
    here = [blob.sha256 for blob in one.release.blobs if blob.sha256 in sizes]
    own = sum(sizes[sha256] for sha256 in here if users[sha256] == 1)
    return Share(one.release.id, kept, own, sum(sizes[sha256] for sha256 in here) - own)


# --- Pruning ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pruning:
    """What may go, and the bytes that the store gets back; built environments and images come on top."""

    kept: tuple[str, ...]
    releases: tuple[str, ...]
    environments: tuple[str, ...]
    blobs: tuple[str, ...]
    parts: tuple[str, ...]
    store_bytes: int


def plan_pruning(server: Server, trust: Trust) -> Pruning:
    """Decide what may go; nothing is changed. Raises what ``pinned`` raises."""
    kept = pinned(server, trust)
    names = {one.release.id for one in kept}
    needed = {blob.sha256 for one in kept for blob in one.release.blobs}
    built = {environment.digest for one in kept for environment in one.release.environments}
    sizes, usage = server.store.blobs(), server.store.usage()
    going = tuple(sorted(sizes.keys() - needed))
    return Pruning(
        kept=tuple(sorted(names)),
        releases=tuple(name for name in _folders(server.releases) if name not in names),
        environments=tuple(name for name in _folders(server.environments) if name not in built),
        blobs=going,
        parts=tuple(path.name for path in server.store.parts()),
        store_bytes=sum(sizes[name] for name in going) + usage.incoming_bytes,
    )


def prune(server: Server, pruning: Pruning) -> None:
    """Remove what the plan names, releases first: killed anywhere, nothing refers to what is gone."""
    _remove_folders(server.releases, pruning.releases)
    server.containers.keep_only(pruning.kept)
    _remove_folders(server.environments, pruning.environments)
    server.store.remove(pruning.blobs)


def _folders(folder: Path) -> list[str]:
    """Return all names, those of runs that were cut off included."""
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def _remove_folders(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        # A half-removed folder under its own name would be read as a damaged release.
        going = folder / name
        if not name.startswith("."):
            going = folder / f".{name}.going"
            clear(going)
            rename_durably(folder / name, going)
        clear(going)
    if folder.is_dir():
        sync_folder(folder)


# --- Checking ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """Something damaged in the store, and which releases use it for what."""

    damage: Damage
    uses: dict[str, list[str]]

    def as_json(self) -> dict[str, Any]:
        """Return the facts for a program; ``missing`` is as an import asks for it."""
        return {
            "path": str(self.damage.path),
            "blob": self.damage.path.name,
            "happened": str(self.damage.happened),
            "missing": [one.as_json() for one in missing_of(self.damage.faults, {})],
            "uses": self.uses,
        }


def check(server: Server, trust: Trust, progress: Callable[[Progress], None]) -> tuple[Found, ...]:
    """Hash the whole store on all cores, chunk by chunk where a release signed chunks; change nothing.

    What a kept release needs and is not here is damage too.
    """
    bundles = {one.release.id: one for one in (*pinned(server, trust), *kept_bundles(server, trust))}
    digests = {
        blob.sha256: one.chunks.of(blob.sha256) for one in bundles.values() for blob in one.release.blobs
    }
    expected = {blob.sha256: blob for one in pinned(server, trust) for blob in one.release.blobs}
    found = server.store.check(progress, expected.values(), digests)
    uses = {name: uses_of(one.release) for name, one in bundles.items()}
    return tuple(
        Found(damage, {name: of[damage.path.name] for name, of in uses.items() if damage.path.name in of})
        for damage in found
    )
