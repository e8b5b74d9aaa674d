"""A bare server of grade S is mended by itself, stays healthy, and is given back as it was."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.closed_server import closed_server
from tests.onsite import appliance, differences, events, kill_at_line, result, tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from subprocess import CompletedProcess

    from tests.carried import Media
    from tests.closed_server import ClosedServer, Snapshot

pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.network]

FIXES = "/var/lib/banip/state/fixes"
JOURNAL = "/var/lib/banip/state/journal"
#: The record of what was done grows, an audit writes reports, and systemd makes folders for its own.
RECORDS = (FIXES, JOURNAL, "/var/lib/banip/state/lock", "/var/log/banip", "/var/tmp")  # noqa: S108 - left out
#: What the smallest release leaves open, and a fix mends. A container's kernel is not its own.
MENDED = {
    "host.core-dumps",
    "host.cron-permissions",
    "host.log-permissions",
    "host.login-banner",
    "host.no-self-update",
    "host.password-age",
    "host.password-minimum-age",
    "host.session-ends",
    "host.session-timeout",
    "host.shadow-permissions",
    "log.persistent",
    "log.retention",
}


@pytest.fixture
def server(media: Media, installed: Snapshot) -> Iterator[ClosedServer]:
    with closed_server(base=installed, media=media.folder) as running:
        yield running


def fix(server: ClosedServer, *words: str) -> tuple[CompletedProcess[str], dict[str, Any]]:
    """Ask for a fix; return the run, and the facts of its result."""
    done = appliance(server, "--json", "audit", "--grade", "S", "--fix", *words, check=False)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    found = [line["result"] for line in told if "result" in line]
    assert found, done.stdout + done.stderr
    return done, found[0]


def statuses(server: ClosedServer) -> dict[str, str]:
    """Audit, and return every status."""
    done = appliance(server, "--json", "audit", "--grade", "S", check=False)
    (ended,) = (one["result"] for one in map(json.loads, done.stdout.splitlines()) if "result" in one)
    (path,) = (one for one in ended["reports"] if one.endswith("/audit.json"))
    return {one["id"]: one["status"] for one in json.loads(server.exec("cat", path).stdout)["results"]}


def test_a_bare_server_is_mended_stays_well_and_is_given_back(server: ClosedServer) -> None:
    was = statuses(server)
    # A dry run shows everything and changes nothing.
    before = tree(server, *RECORDS)
    done, shown = fix(server)
    assert done.returncode == 3
    assert set(shown["would_fix"]) == MENDED
    told = {one["facts"]["id"]: one["facts"] for one in events(done, "fix")}
    assert "-UMASK" not in told["host.shadow-permissions"]["diff"]
    assert told["host.shadow-permissions"]["diff"] == [
        "/etc/shadow: 0640 uid 0 -> 0400 uid 0",
        "/etc/gshadow: 0640 uid 0 -> 0400 uid 0",
    ]
    by_hand = {one["facts"]["id"]: one["facts"] for one in events(done, "by-hand")}
    assert set(shown["left"]) == set(by_hand)
    assert all(one["reason"] and one["remedy"] for one in by_hand.values())
    assert differences(before, tree(server, *RECORDS)) == set()

    # Applied: what was to be mended is right, nothing got worse, and the release is well.
    done, did = fix(server, "--yes")
    assert done.returncode == 3, done.stdout + done.stderr  # what a person has to do is still to do
    assert set(did["fixed"]) == MENDED, did
    assert (did["not_mended"], did["worse"]) == ([], [])
    now = statuses(server)
    assert {name for name in MENDED if now[name] != "pass"} == set()
    right = {"pass", "not-applicable"}
    assert {name for name in now if was[name] in right and now[name] not in right} == set()
    # Again: nothing is left to do, and the role changes nothing.
    done, again = fix(server, "--yes")
    assert again == {"fixed": []}
    # An install of the same release keeps what was mended.
    server.exec("chmod", "0644", "/etc/cron.d/e2scrub_all")
    appliance(server, "install", "/media/usb/minimal-1.0.0.tar")
    assert server.exec("stat", "-c", "%a", "/etc/cron.d/e2scrub_all").stdout == "640\n"

    # Taken back: everything is as it was.
    done = appliance(server, "--json", "audit", "--undo", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert result(done)["result"]["left"] == []
    assert differences(before, tree(server, *RECORDS)) == set()


def test_a_fix_that_makes_the_release_ill_is_taken_back_by_itself(server: ClosedServer) -> None:
    before = tree(server, *RECORDS)
    # The service that is asked for its health stops when this fix touches its first file.
    unit = "[Service]\nType=oneshot\nExecStart=/usr/bin/systemctl stop banip-api.service\n"
    server.exec("sh", "-c", "cat > /etc/systemd/system/ill.service", stdin=unit.encode())
    path = "[Path]\nPathChanged=/etc/cron.d/e2scrub_all\n"
    server.exec("sh", "-c", "cat > /etc/systemd/system/ill.path", stdin=path.encode())
    server.exec("systemctl", "daemon-reload")
    server.exec("systemctl", "start", "ill.path")
    words = ("--fix", "--yes", "--only", "host.cron-permissions")
    done = appliance(server, "--json", "audit", "--grade", "S", *words, check=False)
    assert done.returncode == 30, done.stdout + done.stderr
    server.exec("systemctl", "stop", "ill.path")
    server.exec("rm", "/etc/systemd/system/ill.path", "/etc/systemd/system/ill.service")
    assert differences(before, tree(server, *RECORDS)) == set()


def test_a_fix_that_was_killed_is_named_and_taken_back(server: ClosedServer) -> None:
    before = tree(server, *RECORDS)
    lines = server.exec("cat", JOURNAL).stdout.count("\n")
    words = ("appliance", "--json", "audit", "--grade", "S", "--fix", "--yes")
    assert kill_at_line(server, lines + 1, *words)
    done, _ = fix(server)
    (half,) = events(done, "half-done")
    assert half["facts"]["id"] in half["said"]
    undone = appliance(server, "--json", "audit", "--undo", half["facts"]["id"], check=False)
    assert undone.returncode == 0, undone.stdout + undone.stderr
    assert differences(before, tree(server, *RECORDS)) == set()
