"""The audit of a bare closed server: nothing stays unknown, what fails is known, nobody outside is asked.

What a fault turns is tried on a server of grade S: `test_audit_truth`.
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from appliance.format import sha256_hex
from tests.closed_server import closed_server
from tests.onsite import appliance, result

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.carried import Media
    from tests.closed_server import ClosedServer, Snapshot

pytestmark = [pytest.mark.server, pytest.mark.network]

RELEASE = "minimal-1.0.0-c1"
RECORD, UNIT = "/var/lib/banip/state/integrity", "appliance-integrity.service"
#: Stops a unit's processes as soon as a file has that many lines.
_HOLD_AT_LINE = """
import subprocess, sys, time
path, lines, unit = sys.argv[1], int(sys.argv[2]), sys.argv[3]
while True:
    try:
        if open(path, "rb").read().count(b"\\n") >= lines:
            sys.exit(subprocess.call(["systemctl", "kill", "--signal=STOP", unit]))
    except FileNotFoundError:
        pass
    time.sleep(0.002)
"""
AUDIT = (
    "accounts", "configuration", "kept", "keys", "media", "modules", "privileges", "product", "root-commands",
    "running", "time",
)  # fmt: skip
#: What a minimal Debian with the smallest release lacks; the roles of the demo's release mend these.
KNOWN_FAULTS = {
    "audit": {f"log.audit-{name}" for name in AUDIT},
    "clock": {"clock.synchronised", "host.time-source"},
    "firewall": {
        "network.egress-attempts",
        "network.firewall-at-boot",
        "network.firewall-default-deny",
        "network.firewall-openings",
        "network.kernel-settings",
        "network.refusals-logged",
    },
    "kernel": {"host.core-dumps", "host.kernel-protection"},
    "login": {
        "host.account-lockout",
        "host.lockout-duration",
        "host.login-banner",
        "host.password-age",
        "host.password-complexity",
        "host.password-history",
        "host.password-minimum-age",
        "host.password-quality",
        "host.session-ends",
        "host.session-timeout",
        "host.su-restricted",
    },
    "logs": {"host.log-permissions", "log.persistent", "log.retention"},
    "modes": {"host.cron-permissions", "host.shadow-permissions"},
    "site": {"backup.age", "host.malware-scanner", "host.no-self-update"},
}


@pytest.fixture(scope="module")
def server(media: Media, installed: Snapshot) -> Iterator[ClosedServer]:
    with closed_server(base=installed, media=media.folder) as running:
        appliance(running, "audit", "integrity")
        yield running


def audited(server: ClosedServer, *options: str) -> dict[str, Any]:
    """Audit, and return the report by check."""
    done = appliance(server, "--json", "audit", "--grade", "S", *options, check=False)
    assert done.returncode in {0, 3}, done.stdout + done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    (ended,) = (line["result"] for line in told if "result" in line)
    (path,) = (one for one in ended["reports"] if one.endswith("/audit.json"))
    report = json.loads(server.exec("cat", path).stdout)
    return {**report, "results": {one["id"]: one for one in report["results"]}}


def statuses(report: dict[str, Any]) -> dict[str, str]:
    return {name: one["status"] for name, one in report["results"].items()}


def test_nothing_is_unknown_and_only_what_is_known_fails(server: ClosedServer) -> None:
    report = audited(server)
    found = statuses(report)
    reasons = {name: one["observed"]["en"] for name, one in report["results"].items()}
    assert [f"{name}: {reasons[name]}" for name in found if found[name] == "unknown"] == []
    known = set[str]().union(*KNOWN_FAULTS.values())
    # The smallest release is built for grade O, and leaves USB to the roles of larger ones.
    fails = {name for name in found if found[name] == "fail"}
    assert fails - {"device.usb-storage"} == known | {"release.grade"}
    assert report["release"] == RELEASE
    assert report["report_grade"] == "S"


def test_the_audit_ends_with_3_and_leaves_reports_for_root_alone(server: ClosedServer) -> None:
    done = appliance(server, "--json", "audit", "--out", "/root/reports", check=False)
    assert done.returncode == 3
    assert result(done)["error"] == "AuditFindings"
    modes = server.exec("sh", "-c", "stat -c '%a %U' /root/reports/*/*").stdout.splitlines()
    assert set(modes) == {"600 root"}
    names = server.exec("sh", "-c", "ls /root/reports/*").stdout.split()
    assert {"audit.html", "audit.json", "facts.json", "record.json", "SHA256SUMS.sig"} <= set(names)
    assert server.exec("sh", "-c", "cat /root/reports/*/audit.html").stdout.startswith("<!doctype html>")


def test_the_audit_tries_to_reach_nobody(server: ClosedServer) -> None:
    server.reset_attempts()
    audited(server)
    assert server.attempts() == []


def test_what_was_sealed_on_the_server_is_found_whole_on_another_machine(
    server: ClosedServer, tmp_path: Path
) -> None:
    report = audited(server)
    assert report["results"]["audit.chain"]["status"] in {"pass", "not-applicable"}
    said = result(appliance(server, "--json", "audit", "verify"))["result"]
    folder = f"/var/log/banip/audit/{server.exec('ls', '/var/log/banip/audit').stdout.split()[-1]}"
    for name in server.exec("ls", folder).stdout.split():
        server.copy_out(f"{folder}/{name}", tmp_path / name)
    for argv in (
        ("sha256sum", "--strict", "--check", "--quiet", "SHA256SUMS"),
        (
            "openssl",
            "dgst",
            "-sha256",
            "-verify",
            "audit-key.pub",
            "-signature",
            "SHA256SUMS.sig",
            "SHA256SUMS",
        ),
    ):
        assert subprocess.run(argv, cwd=tmp_path, check=False).returncode == 0
    assert sha256_hex((tmp_path / "record.json").read_bytes()) == said["head"]
    assert audited(server)["results"]["audit.chain"]["status"] == "pass"


def test_in_the_background_it_is_a_passing_unit_where_no_role_brought_one(server: ClosedServer) -> None:
    server.exec("rm", "-r", RECORD)
    told = result(appliance(server, "--json", "audit", "integrity", "--background"))["result"]
    assert told == {"unit": UNIT}
    # Held still in the midst of it, so that it is seen at work however fast this machine is.
    server.exec("python3", "-I", "-c", _HOLD_AT_LINE, f"{RECORD}/part.jsonl", "20", UNIT)
    shown = server.exec("systemctl", "show", "--property=ActiveState,Nice,Transient,ExecStart", UNIT).stdout
    assert {"ActiveState=active", "Nice=19", "Transient=yes"} <= set(shown.splitlines())
    assert " -I -m appliance --root /var/lib/banip audit integrity " in shown
    far = integrity_status(server)
    assert (far["at_work"], far["last"]) == (True, None)
    assert 0 < far["progress"]["bytes_done"] < far["progress"]["bytes_total"]
    server.exec("systemctl", "kill", "--signal=CONT", UNIT)
    server.exec("sh", "-c", f"while systemctl is-active --quiet {UNIT}; do sleep 0.1; done", timeout_s=300)
    ended = integrity_status(server)
    assert (ended["at_work"], ended["progress"], ended["last"]["drift"]) == (False, None, [])
    # Nothing of it is left, not even as a failed unit.
    assert server.exec("systemctl", "show", "--property=LoadState", "--value", UNIT).stdout == "not-found\n"


def integrity_status(server: ClosedServer) -> dict[str, Any]:
    told: dict[str, Any] = result(appliance(server, "--json", "audit", "integrity", "--status"))["result"]
    return told
