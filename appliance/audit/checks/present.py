"""What is here of that which an institution's registers list: checks compare it, a draft lists it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.audit.checks.accounts import NO_LOGIN, POWERFUL, members_of
from appliance.audit.facts import NotRead
from appliance.release import OPERATOR
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.audit.facts import AuditFacts
    from appliance.audit.facts_product import ApiUser, GradedDocument


def people_here(facts: AuditFacts) -> list[str]:
    """Return who can log in, but for root. Raises ``NotRead``."""
    accounts = facts.accounts.get()
    return [one.name for one in accounts if one.login_shell not in NO_LOGIN and one.name != "root"]


def administrators_here(facts: AuditFacts) -> Iterator[tuple[str, str]]:
    """Yield each with the way by which it has an administrator's rights: a group, a rule, UID 0.

    Raises ``NotRead``.
    """
    accounts = facts.accounts.get()
    groups = facts.groups.get()
    named = {word for rule in facts.sudo.get().rules for word in rule.users}
    by_sudo = {group.name for group in groups if named & {f"%{group.name}", f"%#{group.gid}"}}
    members = members_of(POWERFUL | by_sudo, groups, accounts)
    yield from ((member, group) for group, member in members)
    yield from ((one, "sudoers") for one in named if not _is_group(one) and one != "root")
    yield from ((one.name, "UID 0") for one in accounts if one.uid == 0 and one.name != "root")


def _is_group(named: str) -> bool:
    """Tell whether the name service says who is meant; of other kinds of groups nobody here can."""
    return named.startswith("%") and not named.startswith("%:")


def keys_here(facts: AuditFacts) -> list[ApiUser]:
    """Return whose keys the API takes, but for the one that Banip itself asks with. Raises ``NotRead``."""
    return [one for one in facts.api_users.get() if not one.disabled and one.name != OPERATOR]


def addresses_here(facts: AuditFacts) -> list[tuple[str, str]]:
    """Return the addresses of interfaces that are up, each after the interface's name. Raises ``NotRead``."""
    return [(one.name, each) for one in facts.links.get().links if one.up for each in one.addresses]


def graded_here(facts: AuditFacts) -> tuple[GradedDocument, ...]:
    """Return every document with its grade. Raises ``NotRead`` where one of them has none."""
    found = facts.documents.get()
    if found.graded is None or len(found.graded) != found.count:
        raise NotRead(facts.documents.source, text("these facts have no grades document by document"))
    return found.graded
