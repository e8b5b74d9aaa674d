"""A bare server of grade S is mended by itself, stays healthy, and is given back as it was."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from appliance.audit.checks.network import WANTED_SETTINGS
from appliance.audit.checks.system import WANTED_PROTECTION
from tests.closed_server import closed_server
from tests.onsite import answer, appliance, differences, events, kill_at_line, result, tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from subprocess import CompletedProcess

    from tests.carried import Media
    from tests.closed_server import ClosedServer, Snapshot

pytestmark = [pytest.mark.server, pytest.mark.network]

BANIP = "/var/lib/banip"
#: One of the files that are open to more than they should be.
OPENED = "/etc/cron.d/e2scrub_all"
CRON = "host.cron-permissions"
FIXES = "/var/lib/banip/state/fixes"
JOURNAL = "/var/lib/banip/state/journal"
#: The record of what was done grows, an audit is sealed with its key, and systemd makes folders for its own.
RECORDS = (
    *(FIXES, JOURNAL, "/var/lib/banip/state/lock", "/var/lib/banip/state/audits"),
    *("/var/lib/banip/secrets/audit", "/var/log/banip", "/var/tmp"),  # noqa: S108 - left out
)
#: The checks of the kernel's switches, with the values that are right.
WANTED = {"host.kernel-protection": WANTED_PROTECTION, "network.kernel-settings": WANTED_SETTINGS}
#: One format is enough here, and none takes less time.
AUDIT = ("audit", "--grade", "S", "--format", "html")
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
    return ended(appliance(server, "--json", *AUDIT, "--fix", *words, check=False))


def ended(done: CompletedProcess[str]) -> tuple[CompletedProcess[str], dict[str, Any]]:
    found = [one["result"] for one in map(json.loads, done.stdout.splitlines()) if "result" in one]
    assert found, done.stdout + done.stderr
    return done, found[0]


def audited(server: ClosedServer) -> dict[str, Any]:
    """Audit, and return where it is sealed."""
    return ended(appliance(server, "--json", *AUDIT, check=False))[1]


def statuses(server: ClosedServer, sealed: dict[str, Any]) -> dict[str, str]:
    """Return every status of a sealed audit."""
    told = json.loads(server.exec("cat", f"{sealed['folder']}/audit.json").stdout)
    return {one["id"]: one["status"] for one in told["results"]}


def test_a_bare_server_is_mended_stays_well_and_is_given_back(server: ClosedServer) -> None:
    first = audited(server)
    was = statuses(server, first)
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
    # What was found before and what is found now are links of the chain, each with its report.
    assert (did["before"]["previous"], did["after"]["previous"]) == (first["head"], did["before"]["head"])
    assert events(done, "sealed")[-1]["facts"]["head"] == did["after"]["head"]
    assert all(server.exec("test", "-s", one["reports"][0]) for one in (did["before"], did["after"]))
    assert result(appliance(server, "--json", "audit", "verify"))["result"]["head"] == did["after"]["head"]
    found, now = statuses(server, did["before"]), statuses(server, did["after"])
    assert {name: found[name] for name in was if found[name] != was[name]} == {"audit.chain": "pass"}
    assert {name for name in MENDED if now[name] != "pass"} == set()
    right = {"pass", "not-applicable"}
    assert {name for name in now if was[name] in right and now[name] not in right} == set()
    # Again: nothing is left to do, and the role changes nothing.
    done, again = fix(server, "--yes")
    assert again == {"fixed": []}
    # Taken back: everything is as it was.
    done = appliance(server, "--json", "audit", "--undo", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert result(done)["result"]["left"] == []
    assert differences(before, tree(server, *RECORDS)) == set()


@pytest.mark.slow
def test_what_was_mended_outlives_an_upgrade_and_the_way_back(server: ClosedServer) -> None:
    before = tree(server, *RECORDS, BANIP)
    _, did = fix(server, "--yes")
    assert set(did["fixed"]) == MENDED, did
    fixed = tree(server, *RECORDS, BANIP)
    # What somebody opened since is closed by every installation.
    server.exec("chmod", "0644", OPENED)
    appliance(server, "upgrade", "/media/usb/minimal-1.1.0.tar")
    assert answer(server)["release"] == "minimal-1.1.0-c2"
    assert still_open(server) == set()
    appliance(server, "rollback")
    assert answer(server)["release"] == "minimal-1.0.0-c1"
    assert still_open(server) == set()
    assert differences(fixed, tree(server, *RECORDS, BANIP)) == set()
    appliance(server, "audit", "--undo")
    assert differences(before, tree(server, *RECORDS, BANIP)) == set()


def still_open(server: ClosedServer) -> set[str]:
    now = statuses(server, audited(server))
    return {name for name in MENDED if now[name] != "pass"}


def close_off(server: ClosedServer, path: str) -> None:
    """Let nobody, root neither, write a file: as far as its own file system goes, it is read-only."""
    server.exec("mount", "--bind", path, path)
    server.exec("mount", "-o", "remount,bind,ro", path)


def test_a_place_that_cannot_be_written_costs_its_own_fix_and_no_other(server: ClosedServer) -> None:
    audited(server)  # makes the key and the ledger
    before = tree(server, *RECORDS)
    close_off(server, OPENED)
    # Seen in the dry run, with what to do.
    done, shown = fix(server)
    assert set(shown["would_fix"]) == MENDED - {CRON}
    assert CRON in shown["left"]
    (said,) = [one["facts"] for one in events(done, "by-hand") if one["facts"]["id"] == CRON]
    assert said["reason"] == f"{OPENED} lies on a file system that is mounted read-only"
    assert said["remedy"].startswith(f"see findmnt -T {OPENED}, mount it writable")
    # Done without it: the others are mended, and what is left is told and still wrong.
    done, did = fix(server, "--yes")
    assert done.returncode == 3, done.stdout + done.stderr
    assert set(did["fixed"]) == MENDED - {CRON}, did
    assert (did["not_mended"], did["worse"]) == ([], [])
    assert [one["facts"]["id"] for one in events(done, "by-hand")] == [CRON]
    now = statuses(server, did["after"])
    assert {name: now[name] for name in MENDED if now[name] != "pass"} == {CRON: "fail"}
    # Given back bit by bit, the closed place as well as the others.
    undone = appliance(server, "--json", "audit", "--undo", check=False)
    assert undone.returncode == 0, undone.stdout + undone.stderr
    server.exec("umount", OPENED)
    assert differences(before, tree(server, *RECORDS)) == set()


def test_a_fix_that_fails_midway_is_taken_back_by_itself(server: ClosedServer) -> None:
    before = tree(server, *RECORDS)
    # The role writes files first and sets modes last. By then one place cannot be written any more, which
    # nobody could see before.
    commands = f"mount --bind {OPENED} {OPENED}; mount -o remount,bind,ro {OPENED}"
    arm(server, "closing", f'/bin/sh -c "{commands}"', "/etc/issue")
    done = appliance(server, "--json", *AUDIT, "--fix", "--yes", check=False)
    assert done.returncode == 30, done.stdout + done.stderr
    assert OPENED in str(result(done)["seen"])
    server.exec("umount", OPENED)
    disarm(server, "closing")
    assert differences(before, tree(server, *RECORDS)) == set()


def arm(server: ClosedServer, name: str, command: str, path: str) -> None:
    """Let systemd run a command as soon as a file is changed, once."""
    unit = f"[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart={command}\n"
    server.exec("sh", "-c", f"cat > /etc/systemd/system/{name}.service", stdin=unit.encode())
    watch = f"[Path]\nPathChanged={path}\n"
    server.exec("sh", "-c", f"cat > /etc/systemd/system/{name}.path", stdin=watch.encode())
    server.exec("systemctl", "daemon-reload")
    server.exec("systemctl", "start", f"{name}.path")


def disarm(server: ClosedServer, name: str) -> None:
    server.exec("systemctl", "stop", f"{name}.path", f"{name}.service")
    server.exec("rm", f"/etc/systemd/system/{name}.path", f"/etc/systemd/system/{name}.service")


@pytest.mark.slow  # a release is given a minute to become well
def test_a_fix_that_makes_the_release_ill_is_taken_back_by_itself(server: ClosedServer) -> None:
    before = tree(server, *RECORDS)
    # The service that is asked for its health stops when this fix touches its first file.
    arm(server, "ill", "/usr/bin/systemctl stop banip-api.service", OPENED)
    words = ("--fix", "--yes", "--only", CRON)
    done = appliance(server, "--json", *AUDIT, *words, check=False)
    assert done.returncode == 30, done.stdout + done.stderr
    disarm(server, "ill")
    assert differences(before, tree(server, *RECORDS)) == set()


def test_a_fix_that_was_killed_is_named_and_taken_back(server: ClosedServer) -> None:
    before = tree(server, *RECORDS)
    lines = server.exec("cat", JOURNAL).stdout.count("\n")
    words = ("appliance", "--json", *AUDIT, "--fix", "--yes")
    assert kill_at_line(server, lines + 1, *words)
    done, _ = fix(server)
    (half,) = events(done, "half-done")
    assert half["facts"]["id"] in half["said"]
    undone = appliance(server, "--json", "audit", "--undo", half["facts"]["id"], check=False)
    assert undone.returncode == 0, undone.stdout + undone.stderr
    assert differences(before, tree(server, *RECORDS)) == set()


@pytest.mark.slow
@pytest.mark.qemu
@pytest.mark.timeout(3600)
def test_the_kernel_s_switches_are_set_and_given_back_in_a_guest(installed: Snapshot) -> None:
    with closed_server("qemu", base=installed, whole_kernel=True) as guest:
        # Whether its address comes from a router, only a person knows. And it forwards: where that changes,
        # the kernel sets other switches anew.
        by_hand = b"net.ipv6.conf.all.accept_ra=0\nnet.ipv4.ip_forward=1\n"
        guest.exec("sh", "-c", "cat > /etc/sysctl.d/10-site.conf; sysctl --quiet --system", stdin=by_hand)
        before = switches(guest)
        only = [word for name in WANTED for word in ("--only", name)]
        slow = guest.exec("appliance", "--json", *AUDIT, "--fix", "--yes", *only, timeout_s=2400, check=False)
        did = ended(slow)[1]
        assert set(did["fixed"]) == WANTED.keys(), did
        assert {statuses(guest, did["before"])[name] for name in WANTED} == {"fail"}
        assert {statuses(guest, did["after"])[name] for name in WANTED} == {"pass"}
        mended = switches(guest)
        wanted = {name: good for switches in WANTED.values() for name, good in switches.items()}
        assert {name: mended[name] for name in mended if mended[name] not in wanted[name]} == {}
        # What the next start reads comes to the same.
        guest.exec("sysctl", "--quiet", "--system")
        assert switches(guest) == mended
        undone = guest.exec("appliance", "--json", "audit", "--undo", timeout_s=600, check=False)
        assert undone.returncode == 0, undone.stdout + undone.stderr
        assert switches(guest) == before
        guest.exec("sysctl", "--quiet", "--system")
        assert switches(guest) == before


def switches(server: ClosedServer) -> dict[str, str]:
    """Return what the kernel says of every switch that it has."""
    names = sorted(name for switches in WANTED.values() for name in switches)
    paths = " ".join(f"/proc/sys/{name.replace('.', '/')}" for name in names)
    told = server.exec("sh", "-c", f"grep -H . {paths} 2>/dev/null", check=False).stdout
    rows = (line.removeprefix("/proc/sys/").partition(":") for line in told.splitlines())
    found = {path.replace("/", "."): value for path, _, value in rows}
    assert len(found) > 10
    return found
