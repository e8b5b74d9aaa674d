"""Releases on the server: their folders, their signed metadata, and which one is installed.

``releases/<id>/`` holds hardlinks into the store beside ``metadata/``, the signed files that named them.
Metadata is judged again by the numbered rules each time it is read: a folder is no proof, a
``TrustedBundle`` is.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.chain import name_of
from appliance.clock import SYSTEM_CLOCK
from appliance.durable import (
    clear,
    make_folder,
    remove_file,
    rename_durably,
    replace_link,
    sync_file_system,
    write_file,
)
from appliance.errors import BanipError, Incomplete, Tampered, UnfitServer, Untrusted
from appliance.format import (
    RELEASE_TARGET,
    Value,
    canonical_json,
    decode_json,
    release_from_bytes,
    sha256_hex,
)
from appliance.images import Containers, image_reference
from appliance.metadata import INSTALL_AGAIN, FolderSource, write_metadata
from appliance.packages import Packages
from appliance.remedies import remembered
from appliance.state import State
from appliance.store import Store
from appliance.text import text
from appliance.verify import Floor, verify

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from appliance.clock import Clock
    from appliance.format import Release
    from appliance.verify import Trust, TrustedBundle

DEFAULT_ROOT = Path("/var/lib/banip")
#: In a release folder: it was good once. Only then its metadata counts for the floor.
GOOD = "good"
COMMAND_LINK = Path("/usr/local/sbin/appliance")
#: Whose key the command uses when it asks the API of its own server.
OPERATOR = "operator"


class Installed(Value, frozen=True):
    """``state/installed.json``: the release that was last marked good, and the one to roll back to."""

    release: str
    previous: str | None = None
    release_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """Where everything is under one root, and which clock is believed there."""

    root: Path = DEFAULT_ROOT
    clock: Clock = SYSTEM_CLOCK

    @property
    def store(self) -> Store:
        """The content-addressed store."""
        return Store(self.root / "store")

    @property
    def state(self) -> State:
        """Trust, counters, journal and lock."""
        return State(self.root, self.clock.now)

    @property
    def environments(self) -> Path:
        """Folder of the Python environments, by digest."""
        return self.root / "envs"

    @property
    def releases(self) -> Path:
        """Folder of the release folders, by id."""
        return self.root / "releases"

    @property
    def current(self) -> Path:
        """Link to the release folder in use."""
        return self.root / "current"

    @property
    def containers(self) -> Containers:
        """Banip's own container storage; only a private root keeps its run-time part with it."""
        runtime = Path("/run/banip-containers")
        if self.root != DEFAULT_ROOT:
            runtime = self.root / "containers-run"
        return Containers(self.root / "containers", runtime, self.scratch / "images")

    @property
    def packages(self) -> Packages:
        """The operating system's packages, as apt brings them."""
        return Packages(self.scratch / "packages", self.logs / "operations.log")

    @property
    def scratch(self) -> Path:
        """Folder of what a step needs while it is at work."""
        return self.root / "scratch"

    @property
    def data(self) -> Path:
        """Folder of what survives every release and the uninstall."""
        return self.root / "data"

    @property
    def logs(self) -> Path:
        """Folder of the operation logs; a private root keeps its own."""
        return Path("/var/log/banip") if self.root == DEFAULT_ROOT else self.root / "log"

    def folder(self, release_id: str) -> Path:
        """Folder of a release."""
        return self.releases / release_id

    def python(self, release: Release) -> Path:
        """Return the Python of the release's own appliance and Ansible."""
        return self.environments / release.environment(release.CONTROLLER).digest / "bin" / "python"


# --- Which release is installed --------------------------------------------------------------------------


def installed(server: Server) -> Installed | None:
    """Return what was last marked good, or None on a server without a release."""
    try:
        raw = _installed_file(server).read_bytes()
    except FileNotFoundError:
        return None
    try:
        return decode_json(raw, Installed, "installed.json")
    except Tampered as error:
        raise Tampered(
            text("a file of this server's state is damaged"),
            where=_installed_file(server),
            seen=error.seen,
            remedy=text("move this file away, then run install again with the bundle of the release in use"),
        ) from error


def keep(server: Server, bundle: TrustedBundle, previous: str | None) -> None:
    """Mark a release good: the counter first, then the record, so that a cut between them is harmless."""
    server.state.keep(floor_of(bundle))
    write_file(server.folder(bundle.release.id) / GOOD, b"", mode=0o444)
    record = Installed(
        release=bundle.release.id, previous=previous, release_sha256=sha256_hex(bundle.release_json)
    )
    write_file(_installed_file(server), canonical_json(record), mode=0o600)


def switch(server: Server, release_id: str | None) -> None:
    """Point ``current`` and the ``appliance`` command at a release, or take both away."""
    if release_id is None:
        if _is_ours(server, COMMAND_LINK):
            remove_file(COMMAND_LINK)
        remove_file(_installed_file(server))
        remove_file(server.current)
        return
    replace_link(server.current, f"releases/{release_id}")
    if server.root == DEFAULT_ROOT and (_is_ours(server, COMMAND_LINK) or not os.path.lexists(COMMAND_LINK)):
        replace_link(COMMAND_LINK, str(_command(server)))


def _command(server: Server) -> Path:
    return server.current / "bin" / "appliance"


def _is_ours(server: Server, link: Path) -> bool:
    return link.is_symlink() and link.readlink() == _command(server)


def _installed_file(server: Server) -> Path:
    return server.state.folder / "installed.json"


# --- Release folders -------------------------------------------------------------------------------------


def assemble(server: Server, bundle: TrustedBundle) -> Path:
    """Make the release folder under a temporary name, sync it, and give it its name in one rename.

    A folder that is there already gets back what it has lost: this is the repair, too.
    """
    final = server.folder(bundle.release.id)
    if final.exists() and not _is_of_another(final, bundle):
        _fill(final, server, bundle)
        return final
    make_folder(server.releases, mode=0o755)
    partial = server.releases / f".{bundle.release.id}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    make_folder(partial, mode=0o755)
    _fill(partial, server, bundle)
    clear(final)
    rename_durably(partial, final)
    return final


def heal_store(server: Server, release: Release) -> None:
    """Give the store back what only the release folder still holds, after its digest was compared."""
    for file in release.files:
        blob, kept = server.store.path(file.sha256), server.folder(release.id) / file.path
        if not blob.exists() and kept.is_file() and sha256_hex(kept.read_bytes()) == file.sha256:
            os.link(kept, blob)


def refuse_changed_playbooks(server: Server, release: Release) -> None:
    """Hash what Ansible will run as root; a blob that changed on this disk goes, and is read anew."""
    for file in release.files:
        blob = server.store.path(file.sha256)
        if not file.path.startswith("playbooks/") or not blob.exists():
            continue
        if sha256_hex(blob.read_bytes()) != file.sha256:
            remove_file(blob)
            raise Tampered(
                text(
                    "a file of the release was changed on this server's disk; it was removed from the store"
                ),
                where=file.path,
                remedy=text("run the same command again: it is read from the medium anew"),
            )


def known(server: Server, release_id: str, trust: Trust) -> Release | None:
    """Return what a release folder says of itself, proven or not, or None where nothing can be read.

    Only to take away what it owns, whose names carry Banip's: never to install or to trust anything.
    """
    with suppress(BanipError):
        return load(server, release_id, trust).release
    with suppress(BanipError, OSError):
        return release_from_bytes((server.folder(release_id) / "metadata" / RELEASE_TARGET).read_bytes())
    return None


def _is_of_another(folder: Path, bundle: TrustedBundle) -> bool:
    """Tell whether an attempt that never was good left this folder under the number of the new bundle."""
    kept = folder / "metadata" / RELEASE_TARGET
    return not (folder / GOOD).exists() and not (kept.is_file() and kept.read_bytes() == bundle.release_json)


def _fill(folder: Path, server: Server, bundle: TrustedBundle) -> None:
    for file in bundle.release.files:
        _link(server.store.path(file.sha256), folder / file.path)
    write_metadata(folder / "metadata", bundle)
    _write_command(folder / "bin" / "appliance", server, bundle.release)
    sync_file_system(folder)


def _link(blob: Path, target: Path) -> None:
    if not blob.exists():
        raise Incomplete(
            text("a blob of the release is not in the store"),
            where=blob.name,
            remedy=text("run install again with the bundle of this release"),
        )
    if os.path.lexists(target):
        if target.exists() and target.samefile(blob):
            return
        clear(target)
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    os.link(blob, target)


def _write_command(path: Path, server: Server, release: Release) -> None:
    make_folder(path.parent, mode=0o755)
    python = server.python(release)
    script = (
        f"#!/bin/sh\n[ -x {python} ] || {{\n"
        f"  echo '{python} is missing: run python3 -I appliance.pyz install BUNDLE' >&2\n  exit 20\n}}\n"
        f'exec {python} -I -m appliance --root {server.root} "$@"\n'
    )
    write_file(path, script.encode(), mode=0o755)


def load(server: Server, release_id: str, trust: Trust) -> TrustedBundle:
    """Return an installed release as proof, judged again under the newest root that it came with.

    Freshness, expiry and revocation are not asked again: what is installed may be returned to, also where
    another first root is trusted by now. Its root is taken from this server's state, so a folder proves
    nothing by itself.
    """
    source = FolderSource(server.folder(release_id) / "metadata")
    root = _accepted_root(server, source.envelopes().roots) or trust.root
    bundle = verify(
        source,
        replace(trust, root=root, older=(), floor=None),
        reference_time=server.clock.now(),
        accept_expired=release_id,
    )
    if bundle.release.id != release_id:
        raise Tampered(
            text("the folder of an installed release holds another release"),
            where=source.folder,
            expected=release_id,
            seen=bundle.release.id,
            remedy=INSTALL_AGAIN,
        )
    return bundle


def _accepted_root(server: Server, carried: tuple[bytes, ...]) -> bytes | None:
    """Return the root of state under which a release came in: of the chain in force, or of a former one."""
    former = server.state.former(name_of(carried[0])) if carried else None
    if former is not None:
        return former.root(len(carried)) or former.newest()
    return server.state.chain.root(len(carried))


def release_ids(server: Server) -> Iterator[str]:
    """Yield the ids of the complete release folders."""
    if server.releases.is_dir():
        yield from sorted(path.name for path in server.releases.iterdir() if not path.name.startswith("."))


def kept_bundles(server: Server, trust: Trust) -> tuple[TrustedBundle, ...]:
    """Return what the release folders' own signed metadata proves.

    A damaged folder proves nothing and is passed over, or nobody could repair or remove it, and so is one
    that a newer appliance left in a format unknown to this one; the floor that it stood for is in ``state``
    as well.
    """
    found = []
    for release_id in release_ids(server):
        with suppress(Incomplete, Tampered, UnfitServer, Untrusted):
            found.append(load(server, release_id, trust))
    return tuple(found)


def role_variables(server: Server, release: Release, site: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the roles get: the release's own variables, the site's over them, Banip's over both."""
    return {
        **release.variables,
        **site,
        "banip_roles": [role.name for role in release.roles],
        **remembered(server.state.folder, [role.name for role in release.roles]),
        "banip_release": release.id,
        "banip_release_folder": str(server.folder(release.id)),
        "banip_data_folder": str(server.data),
        "banip_root": str(server.root),
        "banip_grade": release.grade,
        "banip_environments": {
            environment.name: str(server.environments / environment.digest)
            for environment in release.environments
        },
        "banip_images": {
            image.name: {
                "reference": image_reference(image.name, release.id),
                "digest": f"sha256:{image.manifest}",
            }
            for image in release.images
        },
    }


def good_bundles(server: Server, trust: Trust) -> tuple[TrustedBundle, ...]:
    """Return the kept releases that were marked good: they prove the floor where ``state`` is lost."""
    return tuple(one for one in kept_bundles(server, trust) if is_good(server, one))


def is_good(server: Server, bundle: TrustedBundle) -> bool:
    """Tell whether a kept release was ever marked good.

    One that failed must not count, or its number would shut out the repaired release before it.
    """
    return (server.folder(bundle.release.id) / GOOD).exists()


def floor_of(bundle: TrustedBundle) -> Floor:
    """Return the floor that a release sets once it was accepted."""
    return Floor(bundle.release.counter, sha256_hex(bundle.release_json))
