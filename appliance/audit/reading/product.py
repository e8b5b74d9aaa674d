"""Banip's own: the installed release judged again, its units, its state, its containers."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Literal

import psutil

from appliance.audit.facts_product import InstalledRelease, SensitiveCommand, StateJournal, Unit
from appliance.audit.reading.probe import Unreadable, look, look_below, output
from appliance.audit.reading.services import shown
from appliance.audit.reason import reason_of, why
from appliance.errors import BanipError
from appliance.format import HttpAnswers, sha256_hex
from appliance.pieces import digest_of_file
from appliance.plan import owned_by
from appliance.release import GOOD, installed, load
from appliance.roots import trusted_root
from appliance.standing import TRUST_REPLACED, replacements
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from appliance.audit.facts_host import File
    from appliance.format import Release
    from appliance.journal import Entry
    from appliance.release import Server
    from appliance.verify import Trust, TrustedBundle

_PROPERTIES = (
    "Id,ActiveState,Type,User,MainPID,ExecStart,FragmentPath,DropInPaths,IPAddressDeny,Environment,NRestarts"
)
#: Names of variables whose value would be a secret; what follows is never kept.
_SECRET = re.compile(
    r"(?:^|_)(PASSWORD|PASSWD|SECRET|TOKEN|APIKEY|API_KEY|PRIVATE_KEY|CREDENTIALS?)$", re.IGNORECASE
)
_IN_AN_ADDRESS = re.compile(r"://[^/\s:@]*:[^/\s@]+@")
_INTAKES_MOST = 500
#: Journal events of which each means that somebody had a medium at this server.
_INTAKES = ("adopted", "imported", "refused", "started")

#: Journal events by which somebody weakened safety on purpose.
_UNSAFE = ("unsafe", "expired-accepted", "journal-set-aside")
#: Journal events that somebody has to approve, besides the unsafe ones, and operations that begin.
_SENSITIVE = ("adopted", TRUST_REPLACED, "clock-set", "fix-applied", "fix-undone", "pruned")
_SENSITIVE_OPERATIONS = frozenset({"rollback", "uninstall"})


def current(server: Server, trust: Trust) -> TrustedBundle | BanipError:
    """Judge the installed release again; a refusal is a finding, so it is returned. Raises ``Unreadable``."""
    try:
        now = installed(server)
        if now is not None:
            return load(server, now.release, trust)
    except BanipError as refusal:
        return refusal
    raise Unreadable(text("no release is installed"))


def release(server: Server, trust: Trust, found: TrustedBundle | BanipError) -> InstalledRelease:
    """Say what the signed metadata proves, or why it proves nothing any more."""
    if isinstance(found, BanipError):
        return InstalledRelease(id="?", refused=reason_of(why(found)))
    one, keys = found.release, trusted_root(trust.root).roles["root"]
    owned, now = owned_by(one), installed(server)
    previous = (now.previous if now else None) or ""
    return InstalledRelease(
        id=one.id,
        product=one.product,
        version=one.version,
        counter=one.counter,
        grade=one.grade,
        built=one.built,
        expires=found.expires,
        root_version=found.root_version,
        root_keys=len(keys.keyids),
        root_threshold=keys.threshold,
        bom=_bom(server, one),
        floor=trust.floor.counter if trust.floor else None,
        listens=tuple(sorted(_listens(one))),
        health=tuple(_health(one)),
        packages=tuple(sorted(f"{package.name}={package.version}" for package in one.packages)),
        images=tuple(image.manifest for image in one.images),
        units=owned.units,
        accounts=owned.users,
        paths=owned.paths,
        previous=previous,
        previous_whole=bool(previous) and (server.folder(previous) / GOOD).exists(),
    )


def _health(one: Release) -> Iterator[str]:
    for role in one.roles:
        yield from (check.url for check in role.health if isinstance(check, HttpAnswers))


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
        return StateJournal(lines=0, broken=reason_of(why(error)))
    last = path.read_bytes().splitlines(keepends=True)[-1:] if path.exists() else []
    unsafe = [
        f"{entry.at:%Y-%m-%dT%H:%M:%SZ} {entry.event}" for entry in entries if entry.event.startswith(_UNSAFE)
    ]
    replaced = [
        f"{one.at:%Y-%m-%dT%H:%M:%SZ} {one.former}" if one.at else one.former for one in replacements(server)
    ]
    finished = [str(entry.facts.get("outcome", "")) for entry in entries if entry.event == "finished"]
    backups = [entry.at for entry in entries if entry.event == "backup"]
    return StateJournal(
        lines=len(entries),
        head=sha256_hex(last[0]) if last else "",
        unsafe=tuple(unsafe),
        replaced=tuple(replaced),
        first=entries[0].at if entries else None,
        intakes=tuple(entry.at for entry in entries if entry.event in _INTAKES)[-_INTAKES_MOST:],
        last_backup=max(backups, default=None),
        last_outcome=finished[-1] if finished else "",
        sensitive=tuple(SensitiveCommand(entry.at, name) for entry in entries if (name := _sensitive(entry))),
        returns=tuple(entry.at for entry in entries if _is_return(entry)),
    )


def _is_return(entry: Entry) -> bool:
    return entry.event == "finished" and entry.facts.get("outcome") == "rollback"


def _sensitive(entry: Entry) -> str:
    """Return what a register of approvals calls a command that somebody has to approve; else nothing."""
    if entry.event == "started":
        operation = str(entry.facts.get("operation", ""))
        return operation if operation in _SENSITIVE_OPERATIONS else ""
    return entry.event if entry.event in _SENSITIVE or entry.event.startswith(_UNSAFE) else ""


# --- Units -------------------------------------------------------------------------------------------------


def units(declared: tuple[str, ...]) -> tuple[Unit, ...]:
    """Ask systemd for Banip's units: those the release declares, and any other of that name."""
    rows = output("systemctl", "list-units", "--all", "--no-legend", "--no-pager", "--plain", "banip-*")
    names = sorted({*declared, *(line.split()[0] for line in rows.splitlines() if line.split())})
    if not names:
        return ()
    exposures = _exposures()
    return tuple(_unit(one, exposures) for one in shown(_PROPERTIES, names))


def _exposures() -> Mapping[str, float]:
    told = json.loads(output("systemd-analyze", "security", "--no-pager", "--json=short"))
    return {one["unit"]: float(one["exposure"]) for one in told}


def _unit(one: dict[str, str], exposures: Mapping[str, float]) -> Unit:
    pid = int(one.get("MainPID") or 0)
    return Unit(
        name=one["Id"],
        active=one["ActiveState"],
        kind=one.get("Type", ""),
        user=one.get("User", ""),
        process_user=_user_of(pid) if pid else "",
        program=one.get("ExecStart", "").partition("path=")[2].partition(" ")[0],
        exposure=exposures.get(one["Id"]),
        fragment=one.get("FragmentPath", ""),
        drop_ins=tuple(one.get("DropInPaths", "").split()),
        denies=tuple(one.get("IPAddressDeny", "").split()),
        secrets=secret_names(one.get("Environment", "")),
        failures=int(one.get("NRestarts") or 0),
    )


def secret_names(environment: str) -> tuple[str, ...]:
    """Return the names of variables that hold a secret, as systemd shows an environment; never a value."""
    pairs = (word.partition("=") for word in shlex.split(environment))
    return tuple(name for name, _, value in pairs if _SECRET.search(name) or _IN_AN_ADDRESS.search(value))


def _user_of(pid: int) -> str:
    try:
        return psutil.Process(pid).username()
    except psutil.NoSuchProcess:
        return ""
