"""What a scheduled audit tells whom: what became worse since the audit before, and numbers for Prometheus.

Metrics are a text file for node_exporter's textfile collector. It may be read by anybody on the server, so
it holds counts, times and grades, and no name of a host, an account, a file or a fault.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.audit.outcome import STATUSES, AuditResult
from appliance.durable import make_folder, write_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from appliance.audit.edition import Change
    from appliance.audit.facts import AuditFacts
    from appliance.audit.integrity import IntegrityRun
    from appliance.audit.outcome import Status

METRICS_MODE = 0o644
_OPEN_FOLDER = 0o755
AUDIT_METRICS, INTEGRITY_METRICS = "banip-audit.prom", "banip-integrity.prom"
_BAD: tuple[Status, ...] = ("fail", "unknown")


# --- What became worse -------------------------------------------------------------------------------------


def worse(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Return the checks that fail or cannot be told any more, and did better before or were not asked."""
    return tuple(
        one
        for one in changes
        if "/" not in one.id  # a control follows its checks
        and one.after in _BAD
        and (one.before is None or STATUSES.index(one.after) < STATUSES.index(one.before))
    )


# --- Prometheus --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Metric:
    """A gauge: its name, what it says, and its value by labels."""

    name: str
    about: str
    values: Mapping[str, float]

    def lines(self) -> Iterator[str]:
        """Yield it in Prometheus' text format, version 0.0.4."""
        yield f"# HELP {self.name} {self.about}"
        yield f"# TYPE {self.name} gauge"
        for labels, value in self.values.items():
            shown = "NaN" if math.isnan(value) else f"{value:.3f}".rstrip("0").rstrip(".")
            yield f"{self.name}{labels} {shown}"


def _text(metrics: Iterable[_Metric]) -> bytes:
    return "".join(f"{line}\n" for one in metrics for line in one.lines()).encode("ascii")


def _plain(value: float | None) -> dict[str, float]:
    """Return a value without labels; what is not known has no line, so that an alert on it stays silent."""
    return {} if value is None else {"": value}


def _at(moment: datetime | None) -> dict[str, float]:
    return _plain(None if moment is None else moment.timestamp())


def audit_metrics(facts: AuditFacts, result: AuditResult, found_worse: int | None) -> bytes:
    """Return an audit in numbers; ``found_worse``: None where there was none to compare with."""
    counts = {f'{{status="{status}"}}': float(result.counts[status]) for status in STATUSES}
    grade = {f'{{grade="{result.grade}"}}': 1.0}
    return _text(
        (
            _Metric("banip_audit_timestamp_seconds", "When the last audit was.", _at(result.taken)),
            _Metric("banip_audit_grade_info", "Grade that was audited for.", grade),
            _Metric("banip_audit_checks", "Checks by status.", counts),
            _Metric("banip_audit_score", "Score of the audit, 0 to 100.", _plain(result.score)),
            _Metric(
                "banip_audit_worse",
                "Checks that fail or cannot be told and did better in the audit before.",
                _plain(found_worse),
            ),
            *_conditions(facts, result),
        )
    )


def _conditions(facts: AuditFacts, result: AuditResult) -> Iterator[_Metric]:
    """Yield what goes wrong by itself, between one audit and the next."""
    firewall, state, tls = facts.firewall.value, facts.state.value, facts.tls.value
    attempts = len(firewall.attempts) if firewall and firewall.counts_egress else None
    about = "Distinct attempts to leave this server that the firewall refused."
    yield _Metric("banip_egress_attempts", about, _plain(attempts))
    last = state.last_backup if state else None
    yield _Metric("banip_backup_timestamp_seconds", "When the last backup was.", _at(last))
    overdue = any(one.status == "fail" for one in result.results if one.id == "backup.age")
    about = "Whether the backup is older than the grade allows."
    yield _Metric("banip_backup_overdue", about, _plain(overdue))
    end = tls.certificate.not_after if tls and tls.certificate else None
    yield _Metric("banip_certificate_end_timestamp_seconds", "When the gateway's certificate ends.", _at(end))


def integrity_metrics(run: IntegrityRun) -> bytes:
    """Return an integrity run in numbers."""
    return _text(
        (
            _Metric("banip_integrity_timestamp_seconds", "When the last full hash began.", _at(run.started)),
            _Metric(
                "banip_integrity_seconds",
                "How long it took.",
                _plain((run.finished - run.started).total_seconds()),
            ),
            _Metric("banip_integrity_bytes", "How much it hashed.", _plain(run.bytes_hashed)),
            _Metric("banip_integrity_drift", "Files that are not as signed.", _plain(len(run.drifted()))),
            _Metric("banip_integrity_unread", "Parts that could not be hashed.", _plain(len(run.unread()))),
        )
    )


def write_metrics(folder: Path, name: str, content: bytes) -> None:
    """Replace a file of metrics as a whole: a collector sees the old or the new one."""
    make_folder(folder, _OPEN_FOLDER)
    write_file(folder / name, content, mode=METRICS_MODE)
