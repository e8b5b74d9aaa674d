"""What an operator does in front of a closed server, and what the tests read there afterwards."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path
    from subprocess import CompletedProcess

    from tests.closed_server import ClosedServer

PYZ = "/root/appliance.pyz"
JOURNAL = "/var/lib/banip/state/journal"
_RELEASE_URL = "http://127.0.0.1:8600/v1/release"

_ASK = """
import sys, time, urllib.request
for attempt in range(100):  # a restart may be under way
    try:
        print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())
        break
    except OSError as error:
        last = error
        time.sleep(0.1)
else:
    sys.exit(str(last))
"""

#: Signals a command's whole process group as soon as the journal has that many lines; prints how it ended.
_KILL_AT_LINE = """
import os, signal, subprocess, sys, time
number, journal, lines, argv = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:]
signal.signal(signal.SIGINT, signal.SIG_DFL)  # a test in the background ignores it, and so would its children
child = subprocess.Popen(argv, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
killed = False
while child.poll() is None and not killed:
    try:
        killed = open(journal, "rb").read().count(b"\\n") >= lines
    except FileNotFoundError:
        pass
    if killed:
        os.killpg(child.pid, number)
    time.sleep(0.0005)
print(child.wait())
sys.exit(0 if killed else 77)
"""

#: Everything on the disk by path: kind, mode, owner, and a digest of what it holds.
_TREE = """
import hashlib, json, os, stat, sys
left_out = set(sys.argv[1:])
found = {}
for folder, folders, files in os.walk("/"):
    folders[:] = [name for name in folders if os.path.join(folder, name) not in left_out]
    for name in folders + files:
        path = os.path.join(folder, name)
        if path in left_out:
            continue
        about = os.lstat(path)
        fact = [oct(about.st_mode), about.st_uid, about.st_gid]
        if stat.S_ISREG(about.st_mode):
            with open(path, "rb") as file:
                fact.append(hashlib.file_digest(file, "sha256").hexdigest())
        elif stat.S_ISLNK(about.st_mode):
            fact.append(os.readlink(path))
        found[path] = fact
json.dump(found, sys.stdout)
"""
#: What changes by itself while a server runs.
RESTLESS = (
    *("/proc", "/sys", "/dev", "/run", "/tmp", "/media"),  # noqa: S108
    *("/var/log/journal", "/var/lib/systemd", "/var/backups"),  # the last: dpkg's own, at midnight
)


def first_contact(server: ClosedServer, pyz: Path) -> None:
    """Copy the one file to the disk, as the paper says."""
    server.exec("cp", f"/media/usb/{pyz.name}", PYZ)


def by_pyz(server: ClosedServer, *argv: str, check: bool = True) -> CompletedProcess[str]:
    """Run the copied file."""
    return server.exec("python3", "-I", PYZ, *argv, check=check)


def appliance(server: ClosedServer, *argv: str, check: bool = True) -> CompletedProcess[str]:
    """Run the installed command."""
    return server.exec("appliance", *argv, check=check)


def result(done: CompletedProcess[str]) -> dict[str, Any]:
    """Return the last JSON line: the result, or the error."""
    told: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return told


def events(done: CompletedProcess[str], name: str) -> list[dict[str, Any]]:
    """Return the events of a ``--json`` run that have that name."""
    told = [json.loads(line) for line in done.stdout.splitlines()]
    return [one for one in told if one.get("event") == name]


def answer(server: ClosedServer) -> dict[str, Any]:
    """Return what the service says of itself."""
    told: dict[str, Any] = json.loads(server.exec("python3", "-I", "-c", _ASK, _RELEASE_URL).stdout)
    return told


def journal_lines(server: ClosedServer) -> int:
    """Count the journal's lines."""
    done = server.exec("cat", JOURNAL, check=False)
    return done.stdout.count("\n")


def kill_at_line(server: ClosedServer, line: int, *argv: str, path: str = JOURNAL) -> bool:
    """Run a command and SIGKILL its process group when the file gets that line; False: it ended before."""
    done = _signalled(server, signal.SIGKILL, path, line, *argv)
    assert done.returncode in {0, 77}, done.stderr
    return done.returncode == 0


def interrupt_at_line(server: ClosedServer, line: int, *argv: str) -> int | None:
    """Run a command, press Ctrl-C when the journal gets that line; return its exit code, None: too late."""
    done = _signalled(server, signal.SIGINT, JOURNAL, line, *argv)
    return int(done.stdout) if done.returncode == 0 else None


def _signalled(
    server: ClosedServer, number: signal.Signals, path: str, line: int, *argv: str
) -> CompletedProcess[str]:
    words = (str(int(number)), path, str(line), *argv)
    return server.exec("python3", "-I", "-c", _KILL_AT_LINE, *words, check=False)


def tree(server: ClosedServer, *left_out: str) -> dict[str, list[Any]]:
    """Return the state of every file on the server."""
    found: dict[str, list[Any]] = json.loads(
        server.exec("python3", "-I", "-c", _TREE, *RESTLESS, *left_out).stdout
    )
    return found


def host_state(server: ClosedServer) -> dict[str, str]:
    """Return packages, accounts, units and firewall as the programs themselves tell them."""
    questions = {
        "packages": ("dpkg-query", "-W"),
        "users": ("getent", "passwd"),
        "groups": ("getent", "group"),
        "units": ("systemctl", "list-unit-files", "--no-legend", "--no-pager"),
        "running": ("systemctl", "list-units", "--type=service", "--state=running", "--no-legend", "--plain"),
        "nftables": ("nft", "list", "ruleset"),
    }
    return {noun: server.exec(*argv).stdout for noun, argv in questions.items()}


def differences(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """Return the keys under which two states differ."""
    return {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
