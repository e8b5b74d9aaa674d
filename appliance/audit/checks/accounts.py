"""Accounts, passwords, sessions."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from appliance.audit.checks.pam import FOLDER, can_refuse, control, in_use, opens
from appliance.audit.checks.verdict import (
    Asked,
    Verdict,
    at,
    check,
    failed,
    listed,
    not_applicable,
    passed,
    setting,
    unless,
    verdict,
)
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from appliance.audit.facts import AuditFacts
    from appliance.audit.facts_host import Account, Group, Line
    from appliance.text import Text

FIRST_PERSON, LAST_PERSON = 1000, 60000
NO_LOGIN = frozenset({"/usr/sbin/nologin", "/sbin/nologin", "/bin/false", "/usr/bin/false", "/bin/sync"})
STRONG_HASHES = frozenset({"yescrypt", "gost-yescrypt", "scrypt", "sha512", "sha256", "bcrypt"})
DAY_S = 86400
#: Brought by systems for services that this server does not have, or made for somebody who is gone.
NEEDLESS = frozenset(
    {
        "lp",
        "uucp",
        "nuucp",
        "games",
        "gopher",
        "guest",
        "listen",
        "news",
        "noaccess",
        "nobody4",
        "temp",
        "test",
    }
)
SHARED_NAMES = frozenset(
    {
        "admin",
        "administrator",
        "common",
        "guest",
        "manager",
        "oper",
        "operator",
        "shared",
        "team",
        "temp",
        "test",
        "user",
    }
)
#: Groups whose members are root, or one step from it.
POWERFUL = frozenset(
    {"root", "wheel", "sudo", "admin", "adm", "shadow", "disk", "docker", "lxd", "incus-admin", "libvirt"}
)
_LOCKOUT = "pam_faillock.so"


@check("host.password-age")
def password_age(facts: AuditFacts, asked: Asked) -> Verdict:
    """Passwords of new accounts grow old, and no account with a password keeps it for ever."""
    line = setting(facts.login.get(), "PASS_MAX_DAYS")
    if line is None:
        return failed(text("{name} is not set", name="PASS_MAX_DAYS"), facts.login.source)
    days = int(line.text.split()[1])
    found = [] if 0 < days <= asked.number else [line.text]
    found += [
        f"{one.name}: {one.most_days if one.most_days is not None else '-'}"
        for one in _with_password(facts)
        if one.most_days is None or not 0 < one.most_days <= asked.number
    ]
    return unless(found, f"{at(line)}, /etc/shadow", text("{names}", names=line.text))


@check("host.password-minimum-age")
def password_minimum_age(facts: AuditFacts, asked: Asked) -> Verdict:
    """A password that was just changed cannot be changed back at once."""
    line = setting(facts.login.get(), "PASS_MIN_DAYS")
    if line is None:
        return failed(text("{name} is not set", name="PASS_MIN_DAYS"), facts.login.source)
    return verdict(
        text("{names}", names=line.text), at(line), holds=int(line.text.split()[1]) >= asked.number
    )


@check("host.password-quality")
def password_quality(facts: AuditFacts, asked: Asked) -> Verdict:
    """New passwords are long enough, and somebody checks that they are."""
    rules = _pwquality(facts)
    if not rules:
        return failed(text("no rule of PAM asks {name}", name="pam_pwquality"), facts.pam.source)
    least = _number(facts, rules, "minlen", 8)
    return verdict(text("{names}", names=f"minlen = {least}"), at(rules[-1]), holds=least >= asked.number)


@check("host.password-complexity")
def password_complexity(facts: AuditFacts, asked: Asked) -> Verdict:
    """New passwords are of several kinds of characters: by their count, or each kind asked for by itself."""
    rules = _pwquality(facts)
    if not rules:
        return failed(text("no rule of PAM asks {name}", name="pam_pwquality"), facts.pam.source)
    by_kind = {name: _number(facts, rules, name, 0) for name in ("lcredit", "ucredit", "dcredit", "ocredit")}
    asked_for = sum(value < 0 for value in by_kind.values())
    kinds = max(_number(facts, rules, "minclass", 0), asked_for)
    words = text("{names}", names=f"minclass = {kinds}")
    return verdict(words, at(rules[-1]), holds=kinds >= asked.number)


@check("host.password-history")
def password_history(facts: AuditFacts, asked: Asked) -> Verdict:
    """A password that was used before is not taken again."""
    rules = [line for line in in_use(facts.pam.get(), "password") if _remembers(line)]
    if not rules:
        return failed(text("no rule of PAM asks {name}", name="pam_pwhistory"), facts.pam.source)
    kept = [int(match[1]) for line in rules if (match := re.search(r"remember=(\d+)", line.text))]
    words = text("{names}", names=f"remember={max(kept)}")
    return verdict(words, at(rules[-1]), holds=max(kept) >= asked.number)


def _remembers(line: Line) -> bool:
    """Tell whether a rule refuses old passwords; pam_unix does so whatever else its control makes of it."""
    refuses = control(line)[2] == "pam_unix.so" or (
        control(line)[2] == "pam_pwhistory.so" and can_refuse(line)
    )
    return refuses and bool(re.search(r"\bremember=\d+", line.text))


def _pwquality(facts: AuditFacts) -> list[Line]:
    rules = in_use(facts.pam.get(), "password")
    return [line for line in rules if control(line)[2] == "pam_pwquality.so" and can_refuse(line)]


def _number(facts: AuditFacts, rules: Iterable[Line], name: str, otherwise: int) -> int:
    """Return a setting of pwquality: the rule's own word goes before the file's."""
    given = [re.search(rf"^{name}\s*=\s*(-?\d+)", line.text) for line in facts.quality.get()]
    given += [re.search(rf"\b{name}=(-?\d+)", line.text) for line in rules]
    return next((int(match[1]) for match in reversed(given) if match), otherwise)


def _with_password(facts: AuditFacts) -> list[Account]:
    """Return the accounts that a password opens."""
    return [one for one in facts.accounts.get() if one.hash_kind not in {"locked", "empty"}]


@check("host.account-lockout")
def account_lockout(facts: AuditFacts, asked: Asked) -> Verdict:
    """An account is locked after some failed attempts."""
    rules = _lockout(facts)
    if not rules:
        return failed(text("no rule of PAM asks {name}", name="pam_faillock"), facts.pam.source)
    given = _lockout_numbers(facts, rules, "deny", 3)  # faillock.conf(5)
    deny = max(given) if all(given) else 0
    return verdict(text("{names}", names=f"deny = {deny}"), at(rules[-1]), holds=0 < deny <= asked.number)


@check("host.lockout-duration")
def lockout_duration(facts: AuditFacts, asked: Asked) -> Verdict:
    """A locked account stays locked for a while, or until an administrator opens it (0)."""
    rules = _lockout(facts)
    if not rules:
        return failed(text("no rule of PAM asks {name}", name="pam_faillock"), facts.pam.source)
    given = _lockout_numbers(facts, rules, "unlock_time", 600)
    seconds = min(filter(None, given), default=0)
    words = text("{names}", names=f"unlock_time = {seconds}")
    return verdict(words, at(rules[-1]), holds=seconds == 0 or seconds >= asked.number)


def _lockout(facts: AuditFacts) -> list[Line]:
    """Return the rules that count and lock, none where one of the ways in does neither."""
    ways = [name for name in ("login", "sshd") if any(x.path == FOLDER + name for x in facts.pam.get())]
    found = [_locking(in_use(facts.pam.get(), "auth", [name])) for name in ways or [""]]
    return list(dict.fromkeys(line for rules in found for line in rules)) if all(found) else []


def _locking(rules: list[Line]) -> list[Line]:
    """Return faillock's rules of one way in; none where a failure is not counted, or a lock lets in."""
    found = [line for line in rules if control(line)[2] == _LOCKOUT]
    counts = any("authfail" in control(line)[3].split() for line in found)
    refuses = any(can_refuse(line) for line in found)
    return found if counts and refuses else []


def _lockout_numbers(facts: AuditFacts, rules: Iterable[Line], name: str, otherwise: int) -> list[int]:
    """Return a setting of faillock for each rule: its own word goes before the file's."""
    given = [re.search(rf"^{name}\s*=\s*(\d+)", line.text) for line in facts.faillock.get()]
    filed = next((int(match[1]) for match in reversed(given) if match), otherwise)
    own = [re.search(rf"\b{name}=(\d+)", line.text) for line in rules]
    return [int(match[1]) if match else filed for match in own]


@check("host.shadow-passwords")
def shadow_passwords(facts: AuditFacts, _: Asked) -> Verdict:
    """No password hash lies in the file that everybody reads."""
    found = [account.name for account in facts.accounts.get() if account.hash_kind == "unshadowed"]
    return unless(found, "/etc/passwd", _looked_at(facts.accounts.get()))


@check("host.no-empty-password")
def no_empty_password(facts: AuditFacts, _: Asked) -> Verdict:
    """No account opens without a password."""
    found = [account.name for account in facts.accounts.get() if account.hash_kind == "empty"]
    found += [f"{at(line)} {line.text}" for line in in_use(facts.pam.get(), "auth") if opens(line)]
    return unless(found, "/etc/shadow, /etc/pam.d", _looked_at(facts.accounts.get()))


@check("host.password-hash")
def password_hash(facts: AuditFacts, _: Asked) -> Verdict:
    """Stored passwords, and those that will be stored, are hashed with SHA-2 or better."""
    accounts = facts.accounts.get()
    kinds = {account.name: account.hash_kind for account in accounts}
    known = STRONG_HASHES | {"locked", "empty", "unshadowed"}  # the last two have a check of their own
    weak = [f"{name}: {kind}" for name, kind in kinds.items() if kind not in known]
    line = setting(facts.login.get(), "ENCRYPT_METHOD")
    method = line.text.split()[1] if line else "DES"
    if method.lower() not in STRONG_HASHES:
        weak.append(f"ENCRYPT_METHOD {method}")
    return unless(weak, "/etc/shadow, /etc/login.defs", text("{names}", names=f"ENCRYPT_METHOD {method}"))


@check("host.only-root-has-uid-0")
def only_root_has_uid_0(facts: AuditFacts, _: Asked) -> Verdict:
    """Nobody else is root under another name."""
    accounts = facts.accounts.get()
    found = [one.name for one in accounts if one.uid == 0 and one.name != "root"]
    return unless(found, "/etc/passwd", _looked_at(accounts))


@check("host.unique-uids")
def unique_uids(facts: AuditFacts, _: Asked) -> Verdict:
    """No two accounts share a number, so a log names one person."""
    accounts = facts.accounts.get()
    counts = Counter(account.uid for account in accounts)
    found = [f"{one.name} {one.uid}" for one in accounts if counts[one.uid] > 1]
    return unless(found, "/etc/passwd", _looked_at(accounts))


@check("host.groups-exist")
def groups_exist(facts: AuditFacts, _: Asked) -> Verdict:
    """Every account's group is a group."""
    known = {group.gid for group in facts.groups.get()}
    accounts = facts.accounts.get()
    found = [f"{one.name} {one.gid}" for one in accounts if one.gid not in known]
    return unless(found, "/etc/passwd, /etc/group", _looked_at(accounts))


@check("host.administrators")
def administrators(facts: AuditFacts, asked: Asked) -> Verdict:
    """Groups with an administrator's rights have few members."""
    people = [one for one in facts.accounts.get() if one.login_shell not in NO_LOGIN]
    members = members_of(POWERFUL, facts.groups.get(), people)
    found = [f"{group}: {member}" for group, member in members]
    return verdict(
        listed(found) if found else text("none found"),
        "/etc/group, /etc/passwd",
        holds=len(found) <= asked.number,
    )


def members_of(
    names: Collection[str], groups: Collection[Group], accounts: Collection[Account]
) -> list[tuple[str, str]]:
    """Return group and member, sorted, root left out; of ``accounts`` also those whose own group it is.

    Groups of one number are one to the kernel and to sudo, under whichever name it is entered again.
    """
    numbers = {group.gid for group in groups if group.name in names}
    members = {
        (group.name, member)
        for group in groups
        if group.gid in numbers
        for member in (*group.members, *(one.name for one in accounts if one.gid == group.gid))
    }
    return sorted(one for one in members if one[1] != "root")


@check("host.su-restricted")
def su_restricted(facts: AuditFacts, _: Asked) -> Verdict:
    """Only members of one group may become somebody else."""
    ways = [name for name in ("su", "su-l") if any(x.path == FOLDER + name for x in facts.pam.get())]
    rules = {name: _restricting(in_use(facts.pam.get(), "auth", [name])) for name in ways}
    if not ways:
        return not_applicable(text("{path} is absent", path="/etc/pam.d/su"), "/etc/pam.d/su")
    for name, rule in rules.items():
        if rule is None:
            return failed(text("no rule of PAM asks {name}", name="pam_wheel"), FOLDER + name)
    first = next(rule for rule in rules.values() if rule is not None)
    return passed(text("{names}", names=first.text), at(first))


def _restricting(rules: list[Line]) -> Line | None:
    """Return the rule that lets only members of a group on; None where another lets somebody by before it."""
    for line in rules:
        _, word, module, words = control(line)
        if module == "pam_wheel.so" and word in {"required", "requisite"} and "deny" not in words.split():
            return line
        if word == "sufficient" and module != "pam_rootok.so":
            return None
    return None


@check("host.service-accounts-cannot-log-in")
def service_accounts_cannot_log_in(facts: AuditFacts, _: Asked) -> Verdict:
    """Accounts that are no person's have no shell."""
    accounts = [one for one in facts.accounts.get() if 0 < one.uid < FIRST_PERSON or one.uid > LAST_PERSON]
    found = [
        f"{one.name} {one.login_shell or '/bin/sh'}" for one in accounts if one.login_shell not in NO_LOGIN
    ]
    return unless(found, "/etc/passwd", _looked_at(accounts))


@check("host.unused-accounts")
def unused_accounts(facts: AuditFacts, asked: Asked) -> Verdict:
    """No account waits that nobody uses: none of those that systems bring for nobody, none left behind."""
    last = {one.account: one.last for one in facts.logins.get()}
    today = facts.taken.timestamp() / DAY_S
    found = [
        f"{one.name} {one.login_shell or '/bin/sh'}"
        for one in facts.accounts.get()
        if one.name in NEEDLESS and one.login_shell not in NO_LOGIN
    ]
    for one in _with_password(facts):
        when = last.get(one.name)
        since = when.timestamp() / DAY_S if when else one.changed
        if since is None or today - since > asked.number:
            found.append(f"{one.name}: {f'{when:%Y-%m-%d}' if when else '-'}")
    return unless(found, f"{facts.logins.source}, /etc/shadow", _looked_at(facts.accounts.get()))


@check("host.idle-accounts-lock")
def idle_accounts_lock(facts: AuditFacts, asked: Asked) -> Verdict:
    """An account whose password has grown old closes by itself after some days."""
    found = [
        f"{one.name}: {one.idle_days if one.idle_days is not None else '-'}"
        for one in _with_password(facts)
        if one.idle_days is None or not 0 <= one.idle_days <= asked.number
    ]
    return unless(found, "/etc/shadow", _looked_at(_with_password(facts)))


@check("host.personal-accounts")
def personal_accounts(facts: AuditFacts, _: Asked) -> Verdict:
    """Who can log in is somebody: no account bears the name of a function that several share."""
    people = [one for one in facts.accounts.get() if one.login_shell not in NO_LOGIN and one.uid]
    found = [one.name for one in people if one.name.lower().rstrip("0123456789") in SHARED_NAMES]
    return unless(found, "/etc/passwd", _looked_at(people))


@check("host.failed-logins")
def failed_logins(facts: AuditFacts, asked: Asked) -> Verdict:
    """Nobody was guessing passwords here lately."""
    lately = facts.failures.get()
    found = [f"{name}: {count}" for name, count in lately.counts.items() if count > asked.number]
    every = text("{count} failures in {days} days", count=sum(lately.counts.values()), days=lately.days)
    return unless(found, facts.failures.source, every)


def _looked_at(accounts: Iterable[Account]) -> Text:
    return text("{count} looked at, none found", count=len(tuple(accounts)))
