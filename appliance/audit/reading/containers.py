"""Containers and images as Podman tells them, and the sockets by which others could command it."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.audit.facts_product import Container, Images, Mounted
from appliance.audit.reading.probe import output

if TYPE_CHECKING:
    from appliance.release import Server

#: Whoever may write to one of these is root on this server.
API_SOCKETS = (
    "/run/podman/podman.sock",
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
)


def api_sockets() -> tuple[str, ...]:
    """Look for the sockets of container engines."""
    return tuple(path for path in API_SOCKETS if _is_socket(Path(path)))


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return False


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
    modes = {"pid": "PidMode", "ipc": "IpcMode", "uts": "UTSMode", "cgroup": "CgroupMode"}
    return Container(
        name=told["Name"],
        image=told.get("ImageName", ""),
        image_digest=told.get("ImageDigest", "").removeprefix("sha256:"),
        user=config.get("User", ""),
        privileged=bool(host.get("Privileged")),
        added=tuple(told.get("EffectiveCaps") or ()),
        read_only=bool(host.get("ReadonlyRootfs")),
        no_new_privileges="no-new-privileges" in options,
        shared=tuple(name for name, key in modes.items() if host.get(key) == "host"),
        devices=tuple(one["PathOnHost"] for one in host.get("Devices") or ()),
        mounts=tuple(
            Mounted(str(one.get("Source", "")), str(one.get("Destination", "")), bool(one.get("RW")))
            for one in told.get("Mounts") or ()
        ),
        unconfined=tuple(one.partition("=")[0] for one in options if one.endswith("=unconfined")),
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
