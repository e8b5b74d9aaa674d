"""The chain of earlier audits, as `appliance audit verify` looks at it; of old folders the newest only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.audit.chain import Ledger
from appliance.audit.facts_product import AuditChain, AuditHead
from appliance.audit.survey import survey

if TYPE_CHECKING:
    from datetime import datetime

    from appliance.release import Server

#: An audit has seconds: `appliance audit verify` reads every folder that is here.
NEWEST_READ = 12
FAULTS_NAMED = 50
#: A review of the logs names one of these.
RECENT_NAMED = 400


def earlier_audits(server: Server) -> tuple[datetime, ...]:
    """Return when the sealed audits were, as the ledger has it: a folder's name anybody can choose."""
    return tuple(link.record.taken for link in Ledger(server.state.folder).read().links)


def audit_chain(server: Server) -> AuditChain:
    """Follow the ledger from its first record, and read the newest folders."""
    found = survey(server, NEWEST_READ)
    faults = [f"{one.where}: {one.said}" for one in found.problems]
    return AuditChain(
        records=len(found.links),
        first=found.links[0].record.number if found.links else 0,
        head=found.links[-1].head if found.links else "",
        key=found.key or "",
        sealed=len(found.whole),
        recent=tuple(AuditHead(one.record.number, one.head) for one in found.links[-RECENT_NAMED:]),
        faults=tuple(faults[:FAULTS_NAMED]),
    )
