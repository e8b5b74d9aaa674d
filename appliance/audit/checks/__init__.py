"""Checks: pure functions from facts to a verdict, each under an id of our own.

Titles, numbers in other catalogues, thresholds by grade and remedies are data (``data/checks.json``); here is
only the judgement. A check touches nothing and asks facts through ``get``, so what was not read cannot pass.
"""

from appliance.audit.checks import (
    access,
    accounts,
    approved,
    audit,
    files,
    gateway,
    logins,
    logs,
    network,
    release,
    servers,
    services,
    software,
    system,
)
from appliance.audit.checks.verdict import CHECKS, Asked, Verdict, judge_one

__all__ = [
    "CHECKS",
    "Asked",
    "Verdict",
    "access",
    "accounts",
    "approved",
    "audit",
    "files",
    "gateway",
    "judge_one",
    "logins",
    "logs",
    "network",
    "release",
    "servers",
    "services",
    "software",
    "system",
]
