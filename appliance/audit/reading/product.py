"""Banip's own: the installed release judged again, its units, its state, its containers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import psutil

from appliance.audit.facts import Container, File, Images, InstalledRelease, StateJournal, Unit
from appliance.audit.reading.probe import Unreadable, look, look_below, output
from appliance.errors import BanipError
from appliance.format import HttpAnswers, sha256_hex
from appliance.pieces import digest_of_file
from appliance.plan import owned_by
from appliance.release import installed, load
from appliance.standing import replacements

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from appliance.format import Release
    from appliance.release import Server
    from appliance.verify import Trust, TrustedBundle

_PROPERTIES = "Id,ActiveState,Type,User,MainPID,ExecStart,FragmentPath,DropInPaths"
#: Journal events by which somebody weakened safety on purpose.
_UNSAFE = ("unsafe", "expired-accepted", "journal-set-aside")


def current(server: Server, trust: Trust) -> TrustedBundle | BanipError:
    """Judge the installed release again; a refusal is a finding, so it is returned. Raises ``Unreadable``."""
    try:
        now = installed(server)
        if now is not None:
            return load(server, now.release, trust)
    except BanipError as refusal:
        return refusal
    message = "no release is installed"
    raise Unreadable(message)


def release(server: Server, trust: Trust, found: TrustedBundle | BanipError) -> InstalledRelease:
    """Say what the signed metadata proves, or why it proves nothing any more."""
    if isinstance(found, BanipError):
        return InstalledRelease(id="?", refused="; ".join(found.lines("en")))
    one = found.release
    owned = owned_by(one)
    return InstalledRelease(
        id=one.id,
        product=one.product,
        version=one.version,
        counter=one.counter,
        grade=one.grade,
        built=one.built,
        expires=found.expires,
        root_version=found.root_version,
        bom=_bom(server, one),
        floor=trust.floor.counter if trust.floor else None,
        listens=tuple(sorted(_listens(one))),
        packages=len(one.packages),
        images=tuple(image.manifest for image in one.images),
        units=owned.units,
        accounts=owned.users,
    )


def _bom(server: Server, one: Release) -> Literal["present", "missing", "changed"]:
    blob = server.store.path(one.bom)
    if not blob.is_file():
        return "missing"
    return "present" if digest_of_file(blob).hex() == one.bom else "changed"


def _listens(one: Release) -> Iterator[str]:
    """Yield the sockets that the signed release declares; a health URL declares its own."""
    for role in one.roles:
        yield from role.listens
        for check in role.health:
            if isinstance(check, HttpAnswers):
                yield "tcp/" + check.url.split("/")[2]


def keys(server: Server) -> tuple[File, ...]:
    """Look at the folders and files that hold keys, tokens and what this server trusts."""
    data = [
        file
        for file in (look(path) for path in sorted(server.data.glob("*/*.json")))
        if any(word in file.path.rpartition("/")[2] for word in ("user", "key", "token"))
    ]
    site = [file for file in look_below("/etc/banip") if file.path.endswith((".key", ".pem", "site.yaml"))]
    secrets = look_below(server.root / "secrets")
    return (look(server.state.folder), *look_below(server.state.folder)[1:], *secrets, *data, *site)


def state(server: Server) -> StateJournal:
    """Follow the operation log's chain of digests from its first line."""
    path = server.state.folder / "journal"
    try:
        entries = server.state.journal.entries()
    except BanipError as error:
        return StateJournal(lines=0, broken="; ".join(error.lines("en")))
    last = path.read_bytes().splitlines(keepends=True)[-1:] if path.exists() else []
    unsafe = [
        f"{entry.at:%Y-%m-%dT%H:%M:%SZ} {entry.event}" for entry in entries if entry.event.startswith(_UNSAFE)
    ]
    replaced = [
        f"{one.at:%Y-%m-%dT%H:%M:%SZ} {one.former}" if one.at else one.former for one in replacements(server)
    ]
    return StateJournal(
        lines=len(entries),
        head=sha256_hex(last[0]) if last else "",
        unsafe=tuple(unsafe),
        replaced=tuple(replaced),
    )


# --- Units -------------------------------------------------------------------------------------------------


def units(declared: tuple[str, ...]) -> tuple[Unit, ...]:
    """Ask systemd for Banip's units: those the release declares, and any other of that name."""
    rows = output("systemctl", "list-units", "--all", "--no-legend", "--no-pager", "--plain", "banip-*")
    names = sorted({*declared, *(line.split()[0] for line in rows.splitlines() if line.split())})
    if not names:
        return ()
    told = output("systemctl", "show", "--no-pager", f"--property={_PROPERTIES}", *names)
    exposures = _exposures()
    shown = [dict(line.split("=", 1) for line in block.splitlines()) for block in told.strip().split("\n\n")]
    return tuple(_unit(one, exposures) for one in shown)


def _exposures() -> Mapping[str, float]:
    told = json.loads(output("systemd-analyze", "security", "--no-pager", "--json=short"))
    return {one["unit"]: float(one["exposure"]) for one in told}


def _unit(shown: dict[str, str], exposures: Mapping[str, float]) -> Unit:
    pid = int(shown.get("MainPID") or 0)
    return Unit(
        name=shown["Id"],
        active=shown["ActiveState"],
        kind=shown.get("Type", ""),
        user=shown.get("User", ""),
        process_user=_user_of(pid) if pid else "",
        program=shown.get("ExecStart", "").partition("path=")[2].partition(" ")[0],
        exposure=exposures.get(shown["Id"]),
        fragment=shown.get("FragmentPath", ""),
        drop_ins=tuple(shown.get("DropInPaths", "").split()),
    )


def _user_of(pid: int) -> str:
    try:
        return psutil.Process(pid).username()
    except psutil.NoSuchProcess:
        return ""


# --- Containers --------------------------------------------------------------------------------------------


def containers(server: Server, wanted: tuple[str, ...]) -> tuple[Container, ...]:
    """Ask Podman for Banip's containers; a release without images needs no Podman."""
    if not wanted:
        return ()
    ids = _podman(server, "ps", "--all", "--quiet", "--no-trunc").split()
    told = json.loads(_podman(server, "inspect", *ids)) if ids else []
    return tuple(map(_container, told))


def _container(told: dict[str, Any]) -> Container:
    host, config = told["HostConfig"], told["Config"]
    options = host.get("SecurityOpt") or []
    return Container(
        name=told["Name"],
        image=told.get("ImageName", ""),
        image_digest=told.get("ImageDigest", "").removeprefix("sha256:"),
        user=config.get("User", ""),
        privileged=bool(host.get("Privileged")),
        added=tuple(told.get("EffectiveCaps") or ()),
        read_only=bool(host.get("ReadonlyRootfs")),
        no_new_privileges="no-new-privileges" in options,
    )


def images(server: Server, wanted: tuple[str, ...]) -> Images:
    """Ask Podman which images its storage holds, by the digest of their manifests."""
    if not wanted:
        return Images()
    told = json.loads(_podman(server, "images", "--all", "--digests", "--format", "json"))
    found = {
        digest.rpartition(":")[2] for one in told for digest in (one.get("Digest"), *_digests(one)) if digest
    }
    return Images(digests=tuple(sorted(found)))


def _digests(one: dict[str, Any]) -> list[str]:
    return [*(one.get("RepoDigests") or ()), *(one.get("Digests") or ())]


def _podman(server: Server, *words: str) -> str:
    storage = server.containers
    folders = ("--root", str(storage.folder), "--runroot", str(storage.runtime))
    return output("podman", *folders, *words)
