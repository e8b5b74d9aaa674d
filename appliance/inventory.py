"""What is on this server, as values: for ``status``, for ``inventory``, for people and for the builder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from appliance.chain import root_version
from appliance.errors import UnfitServer
from appliance.format import sha256_hex
from appliance.host import unit_state
from appliance.images import image_reference
from appliance.plan import is_well, owned_by, unfinished
from appliance.release import installed, load
from appliance.standing import replacements
from appliance.text import Text, text
from appliance.versions import lacking

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from appliance.format import Release
    from appliance.journal import Entry
    from appliance.release import Server
    from appliance.standing import Replacement, Standing
    from appliance.verify import TrustedBundle

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Status:
    """What an operator asks first: what is installed, does it run, was something cut off."""

    release: str | None
    previous: str | None
    counter: int | None
    units: dict[str, str]
    cut_off: str | None
    at_work: str | None
    store_bytes: int
    free_bytes: int
    images: dict[str, str] = field(default_factory=dict)  # by name: "loaded", "missing" or "unknown"
    packages: int = 0  # of the installed release
    packages_lacking: tuple[str, ...] = ()
    root_version: int = 0
    expires: datetime | None = None  # of the installed release's signatures
    expires_in_days: int | None = None
    replaced: tuple[Replacement, ...] = ()  # first roots that were trusted here before
    accepted_expired: tuple[str, ...] = ()  # releases that somebody took although their time was over

    def lines(self) -> Iterator[Text]:
        """Yield one fact a line."""
        for unit, state in self.units.items():
            yield text("{unit}: {state}", unit=unit, state=state)
        for image, state in self.images.items():
            yield text("image {image}: {state}", image=image, state=state)
        if self.packages:
            yield text(
                "operating system packages: {count}, lacking: {lacking}",
                count=self.packages,
                lacking=", ".join(self.packages_lacking) or "0",
            )
        yield from self._trust_lines()
        if self.previous:
            yield text("rollback goes to {release}", release=self.previous)
        yield text("store: {used} bytes, free: {free} bytes", used=self.store_bytes, free=self.free_bytes)
        if self.at_work:
            yield text("a run of {operation} is at work now", operation=self.at_work)
        if self.cut_off:
            yield text(
                "a run of {operation} was cut off: run it again, or run `appliance rollback`",
                operation=self.cut_off,
            )

    def _trust_lines(self) -> Iterator[Text]:
        yield text(
            "root version {root}, counter {counter}", root=self.root_version, counter=self.counter or "-"
        )
        days = self.expires_in_days
        if days is not None and days >= 0:
            yield text(
                "the signatures of {release} hold for {days} more days", release=self.release, days=days
            )
        elif days is not None:
            yield text(
                "the signatures of {release} expired {days} days ago: it runs on; the next one renews them",
                release=self.release,
                days=-days,
            )
        for one in self.replaced:
            when = one.at.isoformat(timespec="seconds") if one.at else "?"
            yield text(
                "{time}: trust was replaced; before it, first root {former}", time=when, former=one.former
            )
        if self.accepted_expired:
            yield text("taken although expired: {releases}", releases=", ".join(self.accepted_expired))

    def summary(self) -> Text:
        """Say it in one sentence."""
        if self.release is None:
            return text("no release is installed")
        if all(is_well(unit, state, self.units) for unit, state in self.units.items()):
            return text("{release} is installed and its services run", release=self.release)
        return text("{release} is installed, and not all of its services run", release=self.release)

    def as_json(self) -> dict[str, Any]:
        """Return the same facts for a program."""
        return asdict(self)


def status(server: Server, standing: Standing) -> Status:
    """Read the status; nothing is changed."""
    now, trust = installed(server), standing.trust
    bundle = _installed_bundle(server, standing, now.release) if now else None
    busy = server.state.is_busy()  # asked first: a run that ends in between must not look cut off
    entries = server.state.journal.entries()
    left = unfinished(entries)
    operation = left.operation if left else None
    usage = server.store.usage()
    return Status(
        release=now.release if now else None,
        previous=now.previous if now else None,
        counter=trust.floor.counter if trust.floor else None,
        units={unit: unit_state(unit) for unit in owned_by(bundle.release).units} if bundle else {},
        cut_off=None if busy else operation,
        at_work=operation if busy else None,
        store_bytes=usage.blob_bytes,
        free_bytes=usage.free_bytes,
        images=_images(server, bundle.release) if bundle else {},
        packages=len(bundle.release.packages) if bundle else 0,
        packages_lacking=_lacking(server, bundle.release) if bundle else (),
        root_version=root_version(trust.root),
        expires=bundle.expires if bundle else None,
        expires_in_days=_days_left(server, standing, bundle.expires) if bundle else None,
        replaced=replacements(server),
        accepted_expired=_accepted_expired(entries),
    )


def _installed_bundle(server: Server, standing: Standing, release_id: str) -> TrustedBundle:
    kept = (one for one in standing.kept if one.release.id == release_id)
    return next(kept, None) or load(server, release_id, standing.trust)


def _days_left(server: Server, standing: Standing, expires: datetime) -> int:
    return (expires - standing.reference_time(server.clock.now())).days


def _accepted_expired(entries: Iterable[Entry]) -> tuple[str, ...]:
    found = (str(entry.facts["release"]) for entry in entries if entry.event == "expired-accepted")
    return tuple(dict.fromkeys(found))


def _images(server: Server, release: Release) -> dict[str, str]:
    try:
        loaded = server.containers.loaded() if release.images else {}
    except UnfitServer:  # podman is gone or broken: that is told, and hides nothing else
        return {image.name: "unknown" for image in release.images}
    return {
        image.name: "loaded"
        if f"sha256:{image.manifest}" in loaded.get(image_reference(image.name, release.id), ())
        else "missing"
        for image in release.images
    }


def _lacking(server: Server, release: Release) -> tuple[str, ...]:
    if not release.packages:
        return ()
    return tuple(one.name for one in lacking(release.packages, server.packages.installed()))


def take(server: Server, standing: Standing) -> dict[str, Any]:
    """Return the inventory: what a site may carry out so that the next bundle holds only what it lacks.

    A hint to the builder, never proof: the server hashes what it receives all the same.
    """
    now, trust, bundles = installed(server), standing.trust, standing.kept
    return {
        "format": FORMAT,
        "product": trust.product,
        "site": trust.site,
        "root_version": root_version(trust.root),
        "counter": trust.floor.counter if trust.floor else None,
        "replaced": [asdict(one) for one in replacements(server)],
        "accepted_expired": list(_accepted_expired(server.state.journal.entries())),
        "installed": now.release if now else None,
        "previous": now.previous if now else None,
        "releases": [of_bundle(bundle) for bundle in bundles],
        "blobs": sorted(
            {blob.sha256 for one in bundles for blob in one.release.blobs if server.store.has(blob)}
        ),
        "environments": sorted(
            path.parent.name for path in server.environments.glob("*/.complete") if path.is_file()
        ),
        "images": {one.release.id: _images(server, one.release) for one in bundles if one.release.images},
        "packages": _packages(server, bundles),
        "owned": asdict_of_owned(bundles),
    }


def _packages(server: Server, bundles: tuple[TrustedBundle, ...]) -> dict[str, str]:
    """Return the installed version of each package that a release names."""
    names = {package.name for one in bundles for package in one.release.packages}
    found = server.packages.installed() if names else {}
    return {name: found[name] for name in sorted(names & found.keys())}


def of_bundle(bundle: TrustedBundle) -> dict[str, Any]:
    """Return the facts by which people name a release."""
    release = bundle.release
    return {
        "release": release.id,
        "product": release.product,
        "version": release.version,
        "counter": release.counter,
        "grade": release.grade,
        "root_version": bundle.root_version,
        "expires": bundle.expires.isoformat(),
        "release_sha256": sha256_hex(bundle.release_json),
    }


def asdict_of_owned(bundles: tuple[TrustedBundle, ...]) -> dict[str, dict[str, list[str]]]:
    """Return, for each release, what its roles own on the host."""
    return {
        bundle.release.id: {
            noun: list(getattr(owned_by(bundle.release), noun))
            for noun in ("units", "users", "paths", "nftables")
        }
        for bundle in bundles
    }
