"""The audit of a real closed server: nothing stays unknown, and each planted fault turns its own verdict."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.closed_server import closed_server
from tests.onsite import appliance, result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.carried import Media
    from tests.closed_server import ClosedServer, Snapshot

pytestmark = [pytest.mark.server, pytest.mark.network]

RELEASE = "minimal-1.0.0-c1"
#: What a minimal Debian with the smallest release lacks; the roles of the demo's release mend these.
KNOWN_FAULTS = {
    "clock": {"host.time-source"},
    "firewall": {"network.egress-attempts", "network.firewall-default-deny", "network.kernel-settings"},
    "login": {
        "host.account-lockout",
        "host.login-banner",
        "host.password-age",
        "host.password-quality",
        "host.session-timeout",
        "host.su-restricted",
    },
    "logs": {"host.log-permissions", "log.persistent", "log.retention"},
    "modes": {"host.cron-permissions", "host.shadow-permissions"},
}


@dataclass(frozen=True, slots=True)
class Plant:
    """A fault, put in and taken out by a shell line each, and the checks that must fail then.

    ``hides``: what it breaks is what others are judged by, and those must become unknown.
    """

    put: str
    take: str
    fails: frozenset[str]
    hides: frozenset[str] = frozenset()


RELEASES = f"/var/lib/banip/releases/{RELEASE}"
CONFIG = f"{RELEASES}/models/greeting/config.json"
TARGETS = f"{RELEASES}/metadata/targets.json"
SITE_PACKAGES = "$(ls -d /var/lib/banip/envs/*/lib/python3.11/site-packages | head -1)"
DROP_IN = "/run/systemd/system/banip-api.service.d"
JOURNAL = "/var/lib/banip/state/journal"
THEIRS = "table inet theirs { flags owner; chain forward { type filter hook forward priority 10; }; }"


def fault(put: str, take: str, *fails: str, hides: tuple[str, ...] = ()) -> Plant:
    return Plant(put, take, frozenset(fails), frozenset(hides))


#: What is planted together meets different facts, so that each must be found beside the others.
BATCHES = {
    "shadow alone": (fault("chmod 644 /etc/shadow", "chmod 400 /etc/shadow", "host.shadow-permissions"),),
    "host": (
        fault("chmod 664 /etc/passwd", "chmod 644 /etc/passwd", "host.passwd-permissions"),
        fault(
            "useradd --no-create-home --home /root --non-unique --uid 0 toor",
            "sed -i /^toor:/d /etc/passwd /etc/shadow /etc/group /etc/gshadow",
            "host.only-root-has-uid-0",
            "host.unique-uids",
        ),
        fault("echo umask 0000 > /etc/profile.d/a.sh", "rm /etc/profile.d/a.sh", "host.umask"),
        fault(
            "cp /bin/cat /usr/local/bin/cat && chmod 4755 /usr/local/bin/cat",
            "rm /usr/local/bin/cat",
            "host.privileged-files",
        ),
        fault("touch /var/open && chmod 666 /var/open", "rm /var/open", "host.world-writable-files"),
        fault("touch ~/.rhosts", "rm ~/.rhosts", "host.trust-files"),
        fault("touch /srv/a && chown 4242 /srv/a", "rm /srv/a", "host.unowned-files"),
    ),
    "services and files of the release": (
        fault(
            "systemd-run --unit=port python3 -m http.server 9999 --bind 127.0.0.1 && sleep 1",
            "systemctl stop port",
            "network.listeners",
        ),
        # A table that a process owns, as firewalld does: of such a one nft's whole answer may be no JSON.
        fault(
            f"systemd-run --unit=theirs sh -c '(echo \"{THEIRS}\"; exec sleep 900) | nft -i' && sleep 1"
            " && nft list chain inet theirs forward",
            "systemctl stop theirs",
        ),
        fault(
            f"mkdir -p {DROP_IN} && printf '[Service]\\nNice=1\\n' > {DROP_IN}/x.conf"
            " && systemctl daemon-reload",
            f"rm -r {DROP_IN} && systemctl daemon-reload",
            "service.unit-files",
        ),
        fault("systemctl stop banip-api", "systemctl start banip-api", "service.running"),
        fault(
            f"cp -p {CONFIG} /root/config && rm {CONFIG} && echo changed > {CONFIG}",
            f"mv -f /root/config {CONFIG}",
            "release.files-intact",
        ),
        fault(
            f"echo import os > {SITE_PACKAGES}/evil.pth",
            f"rm {SITE_PACKAGES}/evil.pth",
            "release.environments-intact",
        ),
        fault("chmod 755 /var/lib/banip/state", "chmod 700 /var/lib/banip/state", "keys.state-private"),
    ),
    "operation log": (
        fault(
            f"cp -p {JOURNAL} /root/journal && sed -i 2s/event/evend/ {JOURNAL}",
            f"mv -f /root/journal {JOURNAL}",
            "log.operations-chained",
            hides=("log.no-weakened-safety", "release.trust-unchanged"),
        ),
    ),
    "signature": (
        fault(
            f"cp -p {TARGETS} /root/targets && sed -i s/payloadType/payloadTipe/ {TARGETS}",
            f"mv -f /root/targets {TARGETS}",
            "release.signature",
            # Of a release that is no proof nothing else may be believed.
            hides=(
                "container.image-digests",
                "container.privileges",
                "clock.plausible",
                "network.listeners",
                "release.bill-of-materials",
                "release.environments-intact",
                "release.files-intact",
                "release.grade",
                "release.not-behind",
                "release.not-expired",
                "service.running",
                "service.undeclared-units",
            ),
        ),
    ),
}


@pytest.fixture(scope="module")
def server(media: Media, installed: Snapshot) -> Iterator[ClosedServer]:
    with closed_server(base=installed, media=media.folder) as running:
        yield running


def audited(server: ClosedServer, *options: str) -> dict[str, Any]:
    """Audit, and return the report by check."""
    done = appliance(server, "--json", "audit", "--grade", "S", *options, check=False)
    assert done.returncode in {0, 3}, done.stdout + done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    (ended,) = (line["result"] for line in told if "result" in line)
    report = json.loads(server.exec("cat", ended["reports"][1]).stdout)
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
    assert modes == ["600 root"] * 3
    assert server.exec("sh", "-c", "cat /root/reports/*/audit.html").stdout.startswith("<!doctype html>")


def test_the_audit_tries_to_reach_nobody(server: ClosedServer) -> None:
    server.reset_attempts()
    audited(server)
    assert server.attempts() == []


@pytest.mark.parametrize("batch", BATCHES)
def test_planted_faults_turn_their_own_verdicts_and_no_others(server: ClosedServer, batch: str) -> None:
    plants = BATCHES[batch]
    server.exec("chmod", "400", "/etc/shadow", "/etc/gshadow")
    before = statuses(audited(server))
    for plant in plants:
        server.exec("sh", "-c", plant.put)
    after = statuses(audited(server))
    for plant in plants:
        server.exec("sh", "-c", plant.take)
    turned = {name: after[name] for name in after if after[name] != before[name]}
    wanted = {name: "unknown" for plant in plants for name in plant.hides}
    wanted |= {name: "fail" for plant in plants for name in plant.fails}
    assert turned == wanted
