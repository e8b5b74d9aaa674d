"""Scheduled audits: what became worse is told, in numbers that Prometheus reads and alerts on."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from appliance.audit.edition import Change
from appliance.audit.history import changes
from appliance.audit.result import audit
from appliance.audit.watch import audit_metrics, integrity_metrics, worse, write_metrics
from tests.test_audit_checks import cases, facts_of
from tests.test_audit_integrity import a_run
from tests.test_role_files import rendered

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.audit.facts import AuditFacts

RULES = "watch/templates/prometheus-rules.yaml.j2"
TAKEN = datetime(2026, 11, 1, tzinfo=timezone.utc)
HOUR, DAY = 3600, 86400


def good() -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for case in cases():
        if case.status == "pass":
            merged = {**case.facts, **merged}
    merged["host"] = {"name": "secret-host", "os": "Debian", "kernel": "6.1", "virtualization": "none"}
    return merged


def facts(**changed: Any) -> AuditFacts:  # noqa: ANN401 - facts as JSON has them
    return facts_of({**good(), **changed})


# --- What became worse -------------------------------------------------------------------------------------


def test_what_fails_now_and_did_not_before_is_worse_and_what_was_mended_is_not() -> None:
    before, now = audit(facts(), "S"), audit(facts(failed_units=["x.service"], api_sockets=["/s"]), "S")
    assert {(one.id, one.before, one.after) for one in worse(changes(before, now))} == {
        ("service.none-failed", "pass", "fail"),
        ("container.no-api-socket", "pass", "fail"),
    }
    assert worse(changes(now, before)) == ()


@pytest.mark.parametrize(
    ("before", "after", "counts"),
    [
        ("pass", "unknown", True),
        ("manual", "fail", True),
        ("exception", "fail", True),
        ("unknown", "fail", True),
        (None, "fail", True),
        ("fail", "unknown", False),
        ("fail", "exception", False),
        (None, "pass", False),
        ("pass", None, False),
        ("pass", "manual", False),
    ],
)
def test_worse_is_what_fails_or_cannot_be_told_any_more(before: Any, after: Any, counts: bool) -> None:  # noqa: ANN401, FBT001
    assert bool(worse([Change("x", before, after)])) is counts


# --- Metrics -----------------------------------------------------------------------------------------------


def parsed(content: bytes) -> dict[str, float]:
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415 - not for the rest

    found = {}
    for family in text_string_to_metric_families(content.decode()):
        for one in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in one.labels.items())
            found[f"{one.name}{{{labels}}}" if labels else one.name] = one.value
    return found


def test_the_metrics_are_numbers_that_prometheus_reads() -> None:
    state = {**good()["state"], "last_backup": "2026-10-31T00:00:00Z"}
    firewall = {"counts_egress": True, "attempts": [{"set": "attempts4", "element": "1 . 192.0.2.1"}]}
    taken = facts(state=state, firewall=firewall)
    result = audit(taken, "S")
    found = parsed(audit_metrics(taken, result, 2))
    assert found["banip_audit_timestamp_seconds"] == TAKEN.timestamp()
    assert found["banip_audit_grade_info{grade=S}"] == 1
    for status, count in result.counts.items():
        assert found[f"banip_audit_checks{{status={status}}}"] == count
    assert found["banip_audit_score"] == result.score
    assert found["banip_audit_worse"] == 2
    assert found["banip_egress_attempts"] == 1
    assert found["banip_backup_timestamp_seconds"] == TAKEN.timestamp() - DAY
    assert found["banip_backup_overdue"] == 0
    assert found["banip_certificate_end_timestamp_seconds"] > TAKEN.timestamp()
    late = facts(state={**state, "last_backup": "2026-10-01T00:00:00Z"})
    assert parsed(audit_metrics(late, audit(late, "S"), 0))["banip_backup_overdue"] == 1


def test_what_was_not_read_has_no_number_and_is_no_zero() -> None:
    nothing = facts_of({})
    found = parsed(audit_metrics(nothing, audit(nothing, "S"), None))
    assert found["banip_audit_checks{status=unknown}"] > 100
    assert not {"banip_egress_attempts", "banip_audit_worse", "banip_backup_timestamp_seconds"} & found.keys()
    uncounted = facts(firewall={"counts_egress": False})
    assert "banip_egress_attempts" not in parsed(audit_metrics(uncounted, audit(uncounted, "S"), 0))


def test_the_metrics_name_no_host_no_account_no_file_and_no_fault() -> None:
    taken = facts(failed_units=["evil.service"])
    told = (audit_metrics(taken, audit(taken, "S"), 1) + integrity_metrics(a_run(changed=("/x/y",)))).decode()
    assert "secret-host" not in told
    labels = set(re.findall(r"\{(.*?)\}", told))
    assert all(re.fullmatch(r'(status|grade)="[A-Za-z-]+"', one) for one in labels)
    assert not re.findall(r"evil|/x/y", told)


def test_an_integrity_run_in_numbers() -> None:
    found = parsed(integrity_metrics(a_run(changed=("/x/y",), unread="dpkg is not installed")))
    assert found["banip_integrity_drift"] == 1
    assert found["banip_integrity_unread"] == 1
    assert found["banip_integrity_seconds"] == 60


def test_the_file_may_be_read_by_the_collector_and_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    write_metrics(folder, "banip-audit.prom", b"banip_audit_worse 0\n")
    write_metrics(folder, "banip-audit.prom", b"banip_audit_worse 1\n")
    assert [path.name for path in folder.iterdir()] == ["banip-audit.prom"]
    assert (folder / "banip-audit.prom").read_bytes() == b"banip_audit_worse 1\n"
    assert (folder / "banip-audit.prom").stat().st_mode & 0o777 == 0o644
    assert folder.stat().st_mode & 0o777 == 0o755


# --- Alerts ------------------------------------------------------------------------------------------------

#: A point each two minutes, for more than the longest limit.
MINUTES, POINTS = 2, 7500
MOMENT = "250h"
#: What is well: the audit and the hash are of the moment, and nothing is wrong.
WELL = {
    "banip_audit_timestamp_seconds": f"0+{60 * MINUTES}x{POINTS}",
    "banip_integrity_timestamp_seconds": f"0+{60 * MINUTES}x{POINTS}",
    "banip_audit_worse": f"0x{POINTS}",
    'banip_audit_checks{status="unknown"}': f"0x{POINTS}",
    'banip_audit_checks{status="fail"}': f"3x{POINTS}",
    "banip_integrity_drift": f"0x{POINTS}",
    "banip_integrity_unread": f"0x{POINTS}",
    "banip_egress_attempts": f"0x{POINTS}",
    "banip_backup_overdue": f"0x{POINTS}",
    "banip_certificate_end_timestamp_seconds": f"{365 * DAY}x{POINTS}",
}
#: What is wrong instead, and the alert that it raises.
WRONG: tuple[tuple[str, str, str | None], ...] = (
    ("BanipAuditTooOld", "banip_audit_timestamp_seconds", f"{197 * HOUR}x{POINTS}"),
    ("BanipAuditTooOld", "banip_audit_timestamp_seconds", None),
    ("BanipAuditWorse", "banip_audit_worse", f"1x{POINTS}"),
    ("BanipAuditUnknown", 'banip_audit_checks{status="unknown"}', f"1x{POINTS}"),
    ("BanipIntegrityDrift", "banip_integrity_drift", f"1x{POINTS}"),
    ("BanipIntegrityUnread", "banip_integrity_unread", f"1x{POINTS}"),
    ("BanipIntegrityTooOld", "banip_integrity_timestamp_seconds", f"{50 * HOUR}x{POINTS}"),
    ("BanipIntegrityTooOld", "banip_integrity_timestamp_seconds", None),
    ("BanipEgressAttempts", "banip_egress_attempts", f"1x{POINTS}"),
    ("BanipBackupTooOld", "banip_backup_overdue", f"1x{POINTS}"),
    ("BanipCertificateEnds", "banip_certificate_end_timestamp_seconds", f"{31 * DAY}x{POINTS}"),
)
#: The last value that is still well.
JUST_WELL = (
    ("banip_audit_timestamp_seconds", f"{201 * HOUR}x{POINTS}"),
    ("banip_integrity_timestamp_seconds", f"{59 * HOUR}x{POINTS}"),
    ("banip_certificate_end_timestamp_seconds", f"{32 * DAY}x{POINTS}"),
)


def rules() -> dict[str, Any]:
    told: dict[str, Any] = yaml.safe_load(rendered(RULES, "S"))
    return told


def test_every_alert_has_a_test_and_says_what_to_do() -> None:
    (group,) = rules()["groups"]
    assert {one["alert"] for one in group["rules"]} == {alert for alert, _, _ in WRONG}
    assert all(set(one["annotations"]) == {"summary", "remedy"} for one in group["rules"])
    assert {one["labels"]["severity"] for one in group["rules"]} == {"warning", "critical"}


def test_every_metric_that_an_alert_asks_for_is_written() -> None:
    taken = facts(state={**good()["state"], "last_backup": "2026-10-31T00:00:00Z"})
    written = parsed(audit_metrics(taken, audit(taken, "S"), 0)) | parsed(integrity_metrics(a_run()))
    names = {name.partition("{")[0] for name in written}
    asked = {name for one in rules()["groups"][0]["rules"] for name in re.findall(r"banip_\w+", one["expr"])}
    assert asked <= names
    assert {name.partition("{")[0] for name in WELL} <= names


def tried(folder: Path, series: dict[str, str], raised: set[str]) -> subprocess.CompletedProcess[str]:
    """Let promtool play the series and look at every alert."""
    alerts = {one["alert"]: one for one in rules()["groups"][0]["rules"]}
    (folder / "rules.yaml").write_text(rendered(RULES, "S"), "utf-8")
    expected = [
        {
            "eval_time": MOMENT,
            "alertname": name,
            "exp_alerts": [
                {"exp_labels": one["labels"] | _labels(name), "exp_annotations": one["annotations"]}
            ]
            if name in raised
            else [],
        }
        for name, one in alerts.items()
    ]
    test = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "10m",
        "tests": [
            {
                "interval": f"{MINUTES}m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "alert_rule_test": expected,
            }
        ],
    }
    (folder / "test.yaml").write_text(json.dumps(test), "utf-8")
    return subprocess.run(
        ["promtool", "test", "rules", "test.yaml"], cwd=folder, capture_output=True, text=True, check=False
    )


def _labels(name: str) -> dict[str, str]:
    return {"status": "unknown"} if name == "BanipAuditUnknown" else {}


promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="alert rules are tried by promtool (Debian package prometheus)"
)


@pytest.mark.real
@promtool
def test_promtool_finds_the_rules_well_formed(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(rendered(RULES, "S"), "utf-8")
    done = subprocess.run(
        ["promtool", "check", "rules", tmp_path / "rules.yaml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(rules()['groups'][0]['rules'])} rules found" in done.stdout


@pytest.mark.real
@promtool
def test_a_server_that_is_well_raises_no_alert(tmp_path: Path) -> None:
    done = tried(tmp_path, WELL, set())
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.real
@promtool
@pytest.mark.parametrize(("name", "values"), JUST_WELL)
def test_a_limit_is_not_reached_before_its_time(name: str, values: str, tmp_path: Path) -> None:
    done = tried(tmp_path, WELL | {name: values}, set())
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.real
@promtool
@pytest.mark.parametrize(("alert", "name", "values"), WRONG)
def test_each_alert_is_raised_by_what_it_is_for_and_by_nothing_else(
    alert: str, name: str, values: str | None, tmp_path: Path
) -> None:
    series = {one: told for one, told in (WELL | {name: values or ""}).items() if told}
    done = tried(tmp_path, series, {alert})
    assert done.returncode == 0, done.stdout + done.stderr
