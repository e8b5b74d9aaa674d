"""The words of reports, in both languages: statuses, who answers, how decisions stand, labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.text import text

if TYPE_CHECKING:
    from appliance.text import Text

STATUS_WORDS: dict[str, Text] = {
    "pass": text("pass"),
    "fail": text("fail"),
    "manual": text("to be confirmed"),
    "not-applicable": text("not applicable"),
    "unknown": text("not established"),
    "exception": text("exception"),
}
#: How a control is answered.
ANSWERED_WORDS: dict[str, Text] = {
    "automated": text("by machine"),
    "partial": text("in part"),
    "manual": text("by a person"),
    "institution": text("by the institution"),
    "not-applicable": text("not applicable"),
}
IMPORTANCE_WORDS: dict[str, Text] = {"high": text("high"), "medium": text("medium"), "low": text("low")}
GRADE_WORDS: dict[str, Text] = {"C": text("secret"), "S": text("sensitive"), "O": text("open")}
#: How a decision of the institution stands on the day of the audit.
STANDING_WORDS: dict[str, Text] = {
    "in-force": text("in force"),
    "lapsed": text("lapsed"),
    "not-yet": text("not yet in force"),
    "void": text("does not count"),
}
ANSWER_WORDS: dict[str, Text] = {
    "holds": text("it holds"),
    "does-not-hold": text("it does not hold"),
    "not-applicable": text("not applicable"),
}
DIRECTION_WORDS: dict[str, Text] = {
    "looser": text("looser"),
    "stricter": text("stricter"),
    "same": text("the same"),
}
DECISION_WORDS: dict[str, Text] = {
    "threshold": text("own threshold"),
    "exception": text("exception"),
    "attestation": text("attestation"),
    "register": text("register"),
}

LABELS: dict[str, Text] = {
    "title": text("Security audit report"),
    "subtitle": text("Evidence and readiness of one server; the judgement is the institution's"),
    "host": text("Server"),
    "system": text("Operating system"),
    "release": text("Installed release"),
    "taken": text("Taken at"),
    "appliance": text("Auditing program"),
    "grade": text("Audited grade"),
    "report_grade": text("Grade of this document"),
    "score": text("Score"),
    "score_note": text("weighted by importance; what was not established counts as not passed"),
    "number": text("Number of the audit"),
    "head": text("Head of the chain of audits (SHA-256)"),
    "previous": text("Head before it"),
    "key_digest": text("Server's key (SHA-256)"),
    "proof": text("Place in the chain of audits"),
    "proof_note": text(
        "Keep this page on paper: whoever changes this audit or an earlier one later cannot keep this head."
    ),
    "no_chain": text("in no chain: judged elsewhere than on the server"),
    "judged_from": text("Judged again from the facts of audit no."),
    "unverified": text("Nobody vouches for these facts: they come from a file without a seal."),
    "redacted": text("redacted edition, for taking out"),
    "redacted_note": text(
        "Left out: names of server, system, release and people, addresses, paths, versions, files, evidence, "
        "what was observed and where, remedies, reasons, the institution's decisions and own checklists."
    ),
    "redacted_grade": text(
        "Its grade is that of the full report: it names no server, but it says where one is weak. Whether it "
        "is open (O) and may leave is decided by the institution alone."
    ),
    "by_grade": text("By grade"),
    "this_audit": text("this audit"),
    "audited_apart": text("audited apart"),
    "audit": text("Audit no."),
    "difference": text("Since the last audit"),
    "newly_failing": text("Newly failing"),
    "newly_unknown": text("Newly not established"),
    "mended": text("Mended"),
    "otherwise": text("Otherwise changed"),
    "with_checks": text("Items of the guides that changed with them"),
    "no_earlier": text("There is no earlier audit for this grade."),
    "all_turns": text("All that changed since the last audit"),
    "before": text("Before"),
    "after": text("Now"),
    "more": text("and more:"),
    "trend": text("Scores over time"),
    "areas": text("By area"),
    "area": text("Area"),
    "urgent": text("To be mended first"),
    "nothing_urgent": text("Nothing failed."),
    "all": text("All checks"),
    "everything": text("all"),
    "search": text("Search id, title, observed value"),
    "check": text("Check"),
    "item": text("Item"),
    "status": text("Status"),
    "importance": text("Importance"),
    "observed": text("Observed"),
    "expected": text("Expected"),
    "where": text("Where"),
    "when": text("When"),
    "items": text("Items of the guides"),
    "guides": text("By guide"),
    "guide": text("Guide"),
    "guide_score": text("Evidence"),
    "guide_score_note": text(
        "Evidence: of the controls of which this server shows something, how many are right in what it "
        "shows; not how much of a guide is met."
    ),
    "guide_counts": text("By guide, counted"),
    "controls": text("Items of the guides, one by one"),
    "control_search": text("Search number, name, words"),
    "not_asked": text("not asked at this grade"),
    "own_guide": text("the institution's own"),
    "answered": text("Answered"),
    "attested": text("answered by attestation"),
    "evidence": text("Shown by"),
    "why": text("Why a person"),
    "ask": text("Ask"),
    "look": text("Look at"),
    "registers": text("Registers that answer"),
    "by_register": text("by the institution's register"),
    "clause": text("Text of the clause"),
    "uncertain": text("Uncertain in the sources"),
    "found": text("Found by the check"),
    "tailored": text("Own threshold"),
    "instead": text("instead of"),
    "exception": text("Exception"),
    "attestation": text("Attestation"),
    "until": text("until"),
    "certificate": text("certificate"),
    "digest_checked": text("compared with the file"),
    "key": text("key measure"),
    "decisions": text("What the institution decided"),
    "decision": text("Kind"),
    "applies_to": text("Applies to"),
    "by": text("By"),
    "reason": text("Reason"),
    "ticket": text("Ticket"),
    "standing": text("Standing"),
    "used_for": text("Changed"),
    "site_files": text("From these files"),
    "remedy": text("Remedy"),
    "automatic": text("mended by appliance audit --fix"),
    "by_hand": text("mended by a person"),
    "shown": text("shown"),
    "limits": text("What this report does not say"),
    "limit_judgement": text(
        "It shows evidence from this server for items of the guides. Whether an item is met is decided by "
        "the institution and reviewed by the NIS; no line here is such a decision."
    ),
    "limit_partial": text(
        "A check is evidence for a part of an item. Items without a technical trace on this server "
        "(procedures, people, rooms, the network outside) are not in it."
    ),
    "limit_root": text(
        "Whoever is root on this server could forge it. Compare the head of the chain with the one on an "
        "earlier paper copy."
    ),
    "limit_crypto": text(
        "Banip brings no validated cryptographic module. Only the institution can name the one it uses."
    ),
    "limit_decisions": text(
        "An exception is shown as an exception and an attestation as an answer; neither counts as passed."
    ),
    "limit_registers": text(
        "Where a check goes by a register, it says that this server is as the institution entered it, and "
        "not that what was entered is right."
    ),
    "limit_size": text(
        "What is large was hashed by the last integrity run and is compared by what the disk notes of a "
        "change since; packages and the journal likewise. Byte code that Python writes is not compared."
    ),
    "limit_guides": text(
        "Guides: KISA 2026 (Unix servers, and of web, databases and virtualization what applies), N2SF 1.0, "
        "NIS AI security guidebook 2025; numbers and titles only."
    ),
    "signature": text("Confirmation"),
    "officer": text("Security officer"),
    "operator": text("Operator"),
    "approver": text("Approver"),
    "name": text("Name"),
    "date": text("Date"),
    "sign": text("Signature"),
    "opinion": text("Opinion and exceptions"),
}
