"""What is done to the host outside of Ansible: units asked and stopped, owned things removed, health asked.

Every program is run as an argument list under a fixed environment. Only things that a signed release
says it owns are removed, and their names always carry Banip's (``appliance.format.Owned``).
"""

from __future__ import annotations

import http.client
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from appliance.errors import BanipError
from appliance.format import UnitActive
from appliance.text import Text, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.format import HttpAnswers, Owned, Release

CLEAN_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/root",
}
HEALTH_PAUSE_S = 0.5
HEALTH_ANSWER_S = 10


def run(
    *argv: str, check: bool = True, environment: Mapping[str, str] = CLEAN_ENVIRONMENT
) -> subprocess.CompletedProcess[str]:
    """Run a program; with ``check`` a failure is an error that shows what the program said."""
    done = subprocess.run(
        argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if check and done.returncode != 0:
        raise BanipError(
            text("a system command failed"),
            where=" ".join(argv),
            expected=0,
            seen=f"{done.returncode}: {(done.stderr or done.stdout).strip()[-1000:]}",
        )
    return done


def retire(owned: Owned) -> None:
    """Stop and remove what is owned; what is already gone is no fault, so this may be done again."""
    for unit in owned.units:
        run("systemctl", "disable", "--now", unit, check=False)
        run("systemctl", "reset-failed", unit, check=False)
    for path in map(Path, owned.paths):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for table in owned.nftables:
        run("nft", "delete", "table", "inet", table, check=False)
    for user in owned.users:
        _remove_user(user)
    if owned.units:
        run("systemctl", "daemon-reload")


def unit_state(unit: str) -> str:
    """Return systemd's word for the unit: active, inactive, failed, ..."""
    return run("systemctl", "is-active", unit, check=False).stdout.strip() or "unknown"


def wait_for_health(release: Release) -> tuple[Text, ...]:
    """Ask all health checks of the release until they hold; return the faults left when time is over."""
    faults: tuple[Text, ...] = ()
    for role in release.roles:
        deadline = time.monotonic() + role.health_timeout_s
        pending = list(role.health)
        while pending:
            faults_now = {check: _fault(check, release.id) for check in pending}
            pending = [check for check, fault in faults_now.items() if fault is not None]
            if pending and time.monotonic() >= deadline:
                faults += tuple(fault for fault in faults_now.values() if fault is not None)
                break
            if pending:
                time.sleep(HEALTH_PAUSE_S)
    return faults


def _fault(check: UnitActive | HttpAnswers, release_id: str) -> Text | None:
    if isinstance(check, UnitActive):
        state = unit_state(check.unit)
        if state == "active":
            return None
        return text("the unit {unit} is {state}, not active", unit=check.unit, state=state)
    try:
        # No proxy may stand between us and loopback, whatever the environment says.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(check.url, timeout=HEALTH_ANSWER_S) as answer:
            status, body = answer.status, answer.read(1_000_000)
    except (OSError, http.client.HTTPException) as error:
        return text("{url} does not answer with 200: {error}", url=check.url, error=repr(error))
    if status != http.client.OK:
        return text("{url} does not answer with 200: {error}", url=check.url, error=status)
    if check.names_release and _released(body) != release_id:
        return text(
            "{url} answers for {seen}, not {release}", url=check.url, seen=_released(body), release=release_id
        )
    return None


def _released(body: bytes) -> object:
    try:
        answer = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return None
    return answer.get("release") if isinstance(answer, dict) else None


def _remove_user(user: str) -> None:
    exists = run("getent", "passwd", user, check=False).returncode == 0
    if exists:
        run("pkill", "-KILL", "-u", user, check=False)
        run("userdel", user)
