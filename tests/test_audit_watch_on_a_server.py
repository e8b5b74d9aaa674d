"""Timers on a closed server: their units see what a person's audit sees, and what became worse is told."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests import onsite
from tests.carried import Change
from tests.closed_server import closed_server
from tests.onsite import appliance, result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.carried import Media
    from tests.closed_server import ClosedServer, Snapshot

pytestmark = [pytest.mark.server, pytest.mark.network, pytest.mark.timeout(900)]

MANIFEST = "manifests/minimal.yaml"
#: Signed with the keys of the other versions, which use up the counters before.
RELEASE = Change("1.3.0", 4, ((MANIFEST, r"roles: \[api, remedy\]", "roles: [api, remedy, watch]"),))
BUNDLE = f"/media/usb/minimal-{RELEASE.version}.tar"
AUDITS, METRICS = "/var/log/banip/audit", "/var/lib/banip-metrics"
RECORD = "/var/lib/banip/state/integrity"
UNITS = {"banip-audit.service", "banip-audit.timer", "banip-integrity.service", "banip-integrity.timer"}
LONG_S = 600
_FLIP = """
import os, sys
for path in sys.argv[1:]:
    about = os.stat(path)
    with open(path, "r+b") as file:
        byte = file.read(1)
        file.seek(0)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
"""
_UNTIL = """
import sys, time
path, lines = sys.argv[1], int(sys.argv[2])
while True:
    try:
        if open(path, "rb").read().count(b"\\n") >= lines:
            break
    except FileNotFoundError:
        pass
    time.sleep(0.01)
"""
_RESTS = """
works() { systemctl is-active $1 | grep -q activating; }
waits() { systemctl list-jobs --no-legend $1 | grep -q .; }
while works $0 || waits $0; do sleep 0.1; done
"""


@pytest.fixture(scope="module")
def server(
    media: Media, contacted: Snapshot, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ClosedServer]:
    bundle = media.workshop.build(RELEASE, tmp_path_factory.mktemp("watch"))
    with closed_server(base=contacted, media=bundle.parent) as running:
        onsite.by_pyz(running, "install", BUNDLE)
        yield running


def newest(server: ClosedServer) -> tuple[dict[str, tuple[str, str]], dict[str, Any]]:
    """Return verdicts and facts of the newest audit."""
    folder = max(server.exec("ls", AUDITS).stdout.split())
    found = json.loads(server.exec("cat", f"{AUDITS}/{folder}/audit.json").stdout)
    facts = json.loads(server.exec("cat", f"{AUDITS}/{folder}/facts.json").stdout)
    return {one["id"]: (one["status"], one["observed"]["en"]) for one in found["results"]}, facts


def started(server: ClosedServer, unit: str) -> None:
    """Start a unit as its timer does, and see that it did its work."""
    server.exec("systemctl", "start", unit, timeout_s=LONG_S)
    told = server.exec("systemctl", "show", "--property=Result", "--value", unit).stdout.strip()
    assert told == "success", server.exec("journalctl", "--no-pager", "-u", unit).stdout


def rests(server: ClosedServer, unit: str) -> None:
    """Wait until a unit is neither waiting to start, nor starting, which is when it works, nor ending."""
    server.exec("sh", "-c", _RESTS, unit, timeout_s=LONG_S)


def metrics(server: ClosedServer) -> dict[str, float]:
    told = server.exec("sh", "-c", f"cat {METRICS}/*.prom").stdout
    rows = (line.rpartition(" ") for line in told.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in rows}


def logged(server: ClosedServer, event: str) -> list[dict[str, Any]]:
    lines = server.exec("cat", onsite.JOURNAL).stdout.splitlines()
    return [one["facts"] for one in map(json.loads, lines) if one["event"] == event]


def warnings(server: ClosedServer, unit: str) -> str:
    told = ("journalctl", "--no-pager", "--output=cat", "--priority=warning", f"--unit={unit}")
    return server.exec(*told).stdout


def test_the_timers_wait(server: ClosedServer) -> None:
    told = server.exec("systemctl", "list-timers", "--all", "--no-pager").stdout
    assert {"banip-audit.timer", "banip-integrity.timer"} <= set(told.split())
    assert "its services run" in appliance(server, "status").stdout


def test_a_timer_s_audit_sees_what_a_person_s_audit_sees(server: ClosedServer) -> None:
    server.reset_attempts()
    assert appliance(server, "audit", "integrity", check=False).returncode == 0
    # The very first one has no chain that it could judge.
    for _ in range(2):
        assert appliance(server, "audit", "--format", "html", check=False).returncode == 3
    by_hand, facts_by_hand = newest(server)
    server.exec("sleep", "1")  # an audit's folder is named by its second
    started(server, "banip-audit.service")
    by_timer, facts = newest(server)
    differing = {
        name: (by_hand[name], by_timer[name]) for name in by_hand if by_hand[name][0] != by_timer[name][0]
    }
    assert differing == {}
    unread = {name for name, one in facts.items() if isinstance(one, dict) and one.get("unread")}
    assert unread == {
        name for name, one in facts_by_hand.items() if isinstance(one, dict) and one.get("unread")
    }
    assert [name for name, (status, _) in by_timer.items() if status == "unknown"] == []
    for check in ("service.running", "service.undeclared-units", "service.unit-files", "service.hardening"):
        assert by_timer[check][0] == "pass", by_timer[check]
    assert {one["name"] for one in facts["units"]["value"]} >= UNITS
    assert server.attempts() == []


@pytest.mark.parametrize("unit", ["banip-audit.service", "banip-integrity.service"])
def test_a_timer_s_unit_is_closed_as_systemd_measures_it(server: ClosedServer, unit: str) -> None:
    told = server.exec("systemd-analyze", "security", "--no-pager", unit).stdout
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", told)
    assert found, told
    assert float(found[1]) <= 4.0


def test_the_numbers_are_there_for_a_collector(server: ClosedServer) -> None:
    started(server, "banip-audit.service")
    found = metrics(server)
    assert found["banip_audit_worse"] == 0
    assert found['banip_audit_checks{status="pass"}'] > 50
    modes = server.exec("sh", "-c", f"stat -c '%a %U' {METRICS} {METRICS}/*").stdout.splitlines()
    assert modes[0] == "755 root"
    assert set(modes[1:]) == {"644 root"}
    assert server.exec("cat", "/etc/banip/prometheus-rules.yaml").stdout.count("alert: ") == 9


def test_a_planted_fault_raises_metric_operation_log_and_journal(server: ClosedServer) -> None:
    assert logged(server, "audit-drift") == []
    server.exec("chmod", "0666", "/etc/hosts")
    started(server, "banip-audit.service")
    worse = metrics(server)["banip_audit_worse"]
    (told,) = logged(server, "audit-drift")
    assert worse == len(told["worse"]) >= 1
    assert any(line.endswith("pass -> fail") for line in told["worse"])
    names = {line.partition(":")[0] for line in told["worse"]}
    said = warnings(server, "banip-audit.service")
    assert all(name in said for name in names)
    server.exec("chmod", "0644", "/etc/hosts")
    server.exec("sleep", "1")
    started(server, "banip-audit.service")
    assert metrics(server)["banip_audit_worse"] == 0
    assert len(logged(server, "audit-drift")) == 1
    assert newest(server)[0]["log.operations-chained"][0] == "pass"


def test_a_killed_run_goes_on_and_one_flipped_byte_is_found_in_file_and_model(server: ClosedServer) -> None:
    python = server.exec("cat", "/var/lib/banip/current/bin/appliance").stdout
    (home,) = set(re.findall(r"(/\S+)/bin/python", python))
    program = server.exec("sh", "-c", f"ls {home}/lib/python*/site-packages/click-*/METADATA").stdout.strip()
    model = server.exec(
        "sh", "-c", "find /var/lib/banip/current/models/ -type f | sort | head -1"
    ).stdout.strip()
    server.exec("rm", "-r", RECORD)
    server.exec("systemctl", "start", "--no-block", "banip-integrity.service")
    server.exec("python3", "-I", "-c", _UNTIL, f"{RECORD}/part.jsonl", "100", timeout_s=LONG_S)
    server.exec("systemctl", "kill", "--signal=KILL", "banip-integrity.service")
    rests(server, "banip-integrity.service")
    before = server.exec("cat", f"{RECORD}/part.jsonl").stdout
    status = result(appliance(server, "--json", "audit", "integrity", "--status"))["result"]
    assert status["progress"]["bytes_done"] > 0
    assert (status["at_work"], status["last"]) == (False, None)

    # What a run has hashed it does not hash again; what changed meanwhile it does.
    server.exec("python3", "-I", "-c", _FLIP, program, model)
    started(server, "banip-integrity.service")
    whole = before[: before.rfind("\n") + 1]
    assert server.exec("cat", f"{RECORD}/seen.jsonl").stdout.startswith(whole)
    assert metrics(server)["banip_integrity_drift"] == 2
    (told,) = logged(server, "integrity-drift")
    assert {path.rpartition("/")[2] for path in told["paths"]} == {"METADATA", model.rpartition("/")[2]}
    assert program in warnings(server, "banip-integrity.service")
    assert appliance(server, "audit", check=False).returncode == 3
    found, _ = newest(server)
    assert found["release.models-intact"][0] == found["release.environments-intact"][0] == "fail"
    server.exec("python3", "-I", "-c", _FLIP, program, model)


def test_in_the_background_it_is_the_role_s_unit(server: ClosedServer) -> None:
    server.exec("rm", "-r", RECORD)
    told = result(appliance(server, "--json", "audit", "integrity", "--background"))["result"]
    assert told == {"unit": "banip-integrity.service"}
    rests(server, "banip-integrity.service")
    status = result(appliance(server, "--json", "audit", "integrity", "--status"))["result"]
    assert (status["at_work"], status["last"]["drift"]) == (False, [])


@pytest.mark.slow
def test_a_second_run_changes_nothing(server: ClosedServer) -> None:
    again = onsite.by_pyz(server, "--json", "install", BUNDLE)
    assert result(again)["result"]["changed"] == 0


@pytest.mark.slow
def test_a_site_changes_the_time_and_switches_it_off(server: ClosedServer) -> None:
    site = "format: 1\nvariables:\n  watch_audit_calendar: Mon *-*-* 06:30:00\n  watch_enabled: false\n"
    server.exec("sh", "-c", "cat > /etc/banip/site.yaml", stdin=site.encode())
    onsite.by_pyz(server, "install", BUNDLE)
    timer = server.exec("cat", "/etc/systemd/system/banip-audit.timer").stdout
    assert "OnCalendar=Mon *-*-* 06:30:00" in timer
    states = server.exec("systemctl", "is-active", "banip-audit.timer", "banip-integrity.timer", check=False)
    assert states.stdout.split() == ["inactive", "inactive"]
    appliance(server, "audit", check=False)
    assert newest(server)[0]["service.running"][0] == "fail"
