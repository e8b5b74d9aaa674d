"""Checks: pure functions from facts to a verdict, each under an id of our own.

Titles, numbers in other catalogues, thresholds by grade and remedies are data (``data/checks.json``); here is
only the judgement. A check touches nothing and asks facts through ``get``, so what was not read cannot pass.
"""

from appliance.audit.checks import accounts, files, logs, network, release, services
from appliance.audit.checks.verdict import CHECKS, Asked, Verdict, judge_one

__all__ = [
    "CHECKS",
    "Asked",
    "Verdict",
    "accounts",
    "files",
    "judge_one",
    "logs",
    "network",
    "release",
    "services",
]
