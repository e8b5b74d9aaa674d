"""Accounts, passwords, sessions."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from appliance.audit.checks.verdict import (
    Asked,
    Verdict,
    check,
    failed,
    listed,
    not_applicable,
    passed,
    unless,
    verdict,
)
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from appliance.audit.facts import Account, AuditFacts, Line
    from appliance.text import Text

FIRST_PERSON, LAST_PERSON = 1000, 60000
NO_LOGIN = frozenset({"/usr/sbin/nologin", "/sbin/nologin", "/bin/false", "/usr/bin/false", "/bin/sync"})
STRONG_HASHES = frozenset({"yescrypt", "gost-yescrypt", "scrypt", "sha512", "sha256", "bcrypt"})
_LOCKOUT = "pam_faillock.so"


@check("host.root-remote-login")
def root_remote_login(facts: AuditFacts, _: Asked) -> Verdict:
    """No login as root from outside, by password or key."""
    ssh = facts.ssh.get()
    if not ssh.installed:
        return not_applicable(text("no SSH server is installed"), facts.ssh.source)
    value = ssh.settings.get("permitrootlogin", "?")
    return verdict(text("{names}", names=f"PermitRootLogin {value}"), facts.ssh.source, holds=value == "no")


@check("host.ssh-session")
def ssh_session(facts: AuditFacts, asked: Asked) -> Verdict:
    """An idle SSH session ends by itself."""
    ssh = facts.ssh.get()
    if not ssh.installed:
        return not_applicable(text("no SSH server is installed"), facts.ssh.source)
    interval = int(ssh.settings.get("clientaliveinterval", "0"))
    count = int(ssh.settings.get("clientalivecountmax", "3"))
    words = text("{names}", names=f"ClientAliveInterval {interval}, ClientAliveCountMax {count}")
    return verdict(words, facts.ssh.source, holds=0 < interval * count <= asked.number)


@check("host.password-age")
def password_age(facts: AuditFacts, asked: Asked) -> Verdict:
    """Passwords of new accounts grow old, and no account with a password keeps it for ever."""
    line = _setting(facts.login.get(), "PASS_MAX_DAYS")
    if line is None:
        return failed(text("{name} is not set", name="PASS_MAX_DAYS"), facts.login.source)
    days = int(line.text.split()[1])
    return verdict(text("{names}", names=line.text), _at(line), holds=0 < days <= asked.number)


@check("host.password-quality")
def password_quality(facts: AuditFacts, asked: Asked) -> Verdict:
    """New passwords are long enough, and somebody checks that they are."""
    rules = [line for line in facts.pam.get() if "pam_pwquality.so" in line.text]
    if not rules:
        return failed(text("no rule of PAM asks {name}", name="pam_pwquality"), facts.pam.source)
    given = [re.search(r"^minlen\s*=\s*(\d+)", line.text) for line in facts.quality.get()]
    given += [re.search(r"minlen=(\d+)", line.text) for line in rules]
    least = [int(match[1]) for match in given if match]
    words = text("{names}", names=f"minlen = {least[-1] if least else 8}")
    return verdict(words, _at(rules[-1]), holds=(least[-1] if least else 8) >= asked.number)


@check("host.account-lockout")
def account_lockout(facts: AuditFacts, asked: Asked) -> Verdict:
    """An account is locked after some failed attempts."""
    rules = [line for line in facts.pam.get() if _LOCKOUT in line.text and line.text.startswith("auth")]
    if not rules:
        return failed(text("no rule of PAM asks {name}", name="pam_faillock"), facts.pam.source)
    given = [re.search(r"^deny\s*=\s*(\d+)", line.text) for line in facts.faillock.get()]
    given += [re.search(r"\bdeny=(\d+)", line.text) for line in rules]
    deny = next((int(match[1]) for match in reversed(given) if match), 3)  # faillock.conf(5)
    return verdict(text("{names}", names=f"deny = {deny}"), _at(rules[-1]), holds=0 < deny <= asked.number)


@check("host.shadow-passwords")
def shadow_passwords(facts: AuditFacts, _: Asked) -> Verdict:
    """No password hash lies in the file that everybody reads."""
    found = [account.name for account in facts.accounts.get() if account.hash_kind == "unshadowed"]
    return unless(found, "/etc/passwd", _looked_at(facts.accounts.get()))


@check("host.no-empty-password")
def no_empty_password(facts: AuditFacts, _: Asked) -> Verdict:
    """No account opens without a password."""
    found = [account.name for account in facts.accounts.get() if account.hash_kind == "empty"]
    return unless(found, "/etc/shadow", _looked_at(facts.accounts.get()))


@check("host.password-hash")
def password_hash(facts: AuditFacts, _: Asked) -> Verdict:
    """Stored passwords, and those that will be stored, are hashed with SHA-2 or better."""
    accounts = facts.accounts.get()
    kinds = {account.name: account.hash_kind for account in accounts}
    weak = [f"{name}: {kind}" for name, kind in kinds.items() if kind in {"des", "md5"}]
    line = _setting(facts.login.get(), "ENCRYPT_METHOD")
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
    powerful = {"root", "wheel", "sudo", "adm", "shadow", "disk", "docker"}
    found = [
        f"{group.name}: {member}"
        for group in facts.groups.get()
        if group.name in powerful
        for member in group.members
        if member != "root"
    ]
    return verdict(
        listed(found) if found else text("none found"), "/etc/group", holds=len(found) <= asked.number
    )


@check("host.su-restricted")
def su_restricted(facts: AuditFacts, _: Asked) -> Verdict:
    """Only members of one group may become somebody else."""
    lines = [line for line in facts.pam.get() if line.path == "/etc/pam.d/su"]
    rules = [line for line in lines if re.match(r"auth\s+(required|requisite)\s+pam_wheel\.so", line.text)]
    if not lines:
        return not_applicable(text("{path} is absent", path="/etc/pam.d/su"), "/etc/pam.d/su")
    if not rules:
        return failed(text("no rule of PAM asks {name}", name="pam_wheel"), "/etc/pam.d/su")
    return passed(text("{names}", names=rules[0].text), _at(rules[0]))


@check("host.service-accounts-cannot-log-in")
def service_accounts_cannot_log_in(facts: AuditFacts, _: Asked) -> Verdict:
    """Accounts that are no person's have no shell."""
    accounts = [one for one in facts.accounts.get() if 0 < one.uid < FIRST_PERSON or one.uid > LAST_PERSON]
    found = [
        f"{one.name} {one.login_shell or '/bin/sh'}" for one in accounts if one.login_shell not in NO_LOGIN
    ]
    return unless(found, "/etc/passwd", _looked_at(accounts))


@check("host.session-timeout")
def session_timeout(facts: AuditFacts, asked: Asked) -> Verdict:
    """A login shell that nobody uses ends."""
    seconds = facts.shell.get().timeout_s
    if seconds is None:
        return failed(text("{name} is not set", name="TMOUT"), facts.shell.source)
    words = text("{names}", names=f"TMOUT={seconds}")
    return verdict(words, facts.shell.source, holds=0 < seconds <= asked.number)


@check("host.umask")
def umask(facts: AuditFacts, asked: Asked) -> Verdict:
    """New files are not for others to write."""
    seen = facts.shell.get().umask
    line = _setting(facts.login.get(), "UMASK")
    given = [seen, *([line.text.split()[1]] if line else [])]
    holds = all(int(one, 8) & asked.bits == asked.bits for one in given)
    words = text("{names}", names=f"umask {seen}; login.defs {line.text if line else '-'}")
    return verdict(words, f"{facts.shell.source}, /etc/login.defs", holds=holds)


@check("host.root-path")
def root_path(facts: AuditFacts, _: Asked) -> Verdict:
    """No command is looked for in the folder where one happens to be."""
    path = facts.shell.get().path
    found = [part or "(empty)" for part in path if not part.startswith("/")]
    return unless(found, f"{facts.shell.source}, /etc/login.defs", text("{names}", names=":".join(path)))


@check("host.login-banner")
def login_banner(facts: AuditFacts, _: Asked) -> Verdict:
    """Whoever logs in is warned, and not told which system this is."""
    lines = facts.banner.get()
    before = [line for line in lines if line.path != "/etc/motd"]  # which is read after the login
    telling = [line for line in before if re.search(r"\\[nrsvm]|Debian|Ubuntu|GNU/Linux", line.text)]
    if telling:
        return failed(text("{names}", names=telling[0].text), _at(telling[0]))
    if not lines:
        return failed(text("no words are shown"), facts.banner.source)
    return passed(text("{names}", names=lines[0].text), _at(lines[0]))


def _setting(lines: Iterable[Line], name: str) -> Line | None:
    """Return the line of login.defs that counts: the last one of that name."""
    found = [line for line in lines if line.text.split()[0] == name and len(line.text.split()) > 1]
    return found[-1] if found else None


def _at(line: Line) -> str:
    return f"{line.path}:{line.number}"


def _looked_at(accounts: Iterable[Account]) -> Text:
    return text("{count} looked at, none found", count=len(tuple(accounts)))
