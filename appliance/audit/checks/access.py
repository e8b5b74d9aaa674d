"""Who may ask the product, what it answers from, and whether that is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.audit.checks.verdict import (
    Asked,
    Verdict,
    check,
    failed,
    listed,
    not_applicable,
    spelled,
    unknown,
    unless,
    verdict,
)
from appliance.release import OPERATOR
from appliance.text import text

if TYPE_CHECKING:
    from appliance.audit.facts import AuditFacts
    from appliance.audit.facts_product import ApiUser

#: How high a grade is; also how strict the rules of a release of that grade are.
HEIGHT = {"O": 0, "S": 1, "C": 2}
OTHERS = 0o007
WANTED_IN_A_LINE = frozenset({"time", "request", "client", "user", "method", "path", "status"})


def _enabled(facts: AuditFacts) -> list[ApiUser]:
    return [one for one in facts.api_users.get() if not one.disabled]


@check("access.few-administrators")
def few_administrators(facts: AuditFacts, asked: Asked) -> Verdict:
    """Few keys may take documents in and out."""
    found = [one.name for one in _enabled(facts) if one.role == "admin"]
    words = listed(found) if found else text("none found")
    return verdict(words, facts.api_users.source, holds=len(found) <= asked.number)


@check("access.clearances")
def clearances(facts: AuditFacts, _: Asked) -> Verdict:
    """No key is cleared for more than the server itself.

    But for the command line's own, which root alone has: it goes along through upgrades to another grade, and
    the API holds it to the server's, as it does every key.
    """
    ceiling = facts.proven().grade or "O"
    users = [one for one in _enabled(facts) if one.name != OPERATOR]
    found = [f"{one.name}: {one.grade}" for one in users if HEIGHT[one.grade] > HEIGHT[ceiling]]
    return unless(found, facts.api_users.source, text("{count} looked at, none found", count=len(users)))


@check("access.key-age")
def key_age(facts: AuditFacts, asked: Asked) -> Verdict:
    """A key is made anew from time to time."""
    users = _enabled(facts)
    found = [
        f"{one.name}: {one.created:%Y-%m-%d}"
        for one in users
        if (facts.taken - one.created).days > asked.number
    ]
    return unless(found, facts.api_users.source, text("{count} looked at, none found", count=len(users)))


# --- Documents ---------------------------------------------------------------------------------------------


@check("data.graded")
def graded(facts: AuditFacts, _: Asked) -> Verdict:
    """Every document has a grade, and none is above the server's own."""
    ceiling = facts.proven().grade or "O"
    seen = facts.documents.get()
    found = [
        f"{grade}: {count}"
        for grade, count in seen.grades.items()
        if grade not in HEIGHT or HEIGHT[grade] > HEIGHT[ceiling]
    ]
    words = listed([f"{grade}: {count}" for grade, count in seen.grades.items()])
    return unless(found, facts.documents.source, words if seen.grades else text("no document"))


@check("data.described")
def described(facts: AuditFacts, _: Asked) -> Verdict:
    """Of every document it is known what it is, how large, of which grade, and since when it is here."""
    seen = facts.documents.get()
    return unless(seen.undescribed, facts.documents.source, text("{count} documents", count=seen.count))


@check("data.unchanged")
def unchanged(facts: AuditFacts, _: Asked) -> Verdict:
    """Documents are, byte by byte, what was taken in."""
    seen = facts.documents.get()
    if seen.unhashed and not seen.changed:
        words = text("{count} of {all} documents were not compared", count=seen.unhashed, all=seen.count)
        return unknown(words, facts.documents.source)
    return unless(seen.changed, facts.documents.source, text("{count} documents", count=seen.count))


@check("data.private")
def private(facts: AuditFacts, _: Asked) -> Verdict:
    """What people put in is closed to other accounts of this host."""
    files = [one for one in facts.data_files.get() if one.kind in {"file", "folder"}]
    # Who cannot come through a folder cannot come to what is in it.
    closed = [one.path for one in files if one.kind == "folder" and not one.bits & OTHERS]
    found = [
        spelled(one)
        for one in files
        if one.bits & OTHERS and not any(one.path.startswith(f"{folder}/") for folder in closed)
        if one.path.count("/") > _DATA_DEPTH
    ]
    return unless(found, facts.data_files.source, listed([spelled(one) for one in files]))


#: /var/lib/banip/data itself may be passed through: each service's own folder lies in it.
_DATA_DEPTH = 4


@check("log.requests")
def requests(facts: AuditFacts, _: Asked) -> Verdict:
    """Of every request it is recorded who asked when, from where, for what, and how it ended."""
    answers = facts.web.get().api
    if answers is None or answers["models"].status == _NOT_FOUND:
        return not_applicable(text("no API that answers questions listens"), facts.web.source)
    seen = facts.requests.get()
    if not seen.lines:
        return failed(text("no request is in the log"), facts.requests.source)
    lacking = sorted(WANTED_IN_A_LINE - set(seen.members))
    return unless(lacking, facts.requests.source, listed(seen.members))


_NOT_FOUND = 404
