"""The kernel's audit: that it records, what it records, and that nobody can quietly change either."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from appliance.audit.checks.verdict import (
    Asked,
    Verdict,
    check,
    failed,
    listed,
    not_applicable,
    too_open,
    unless,
    verdict,
)
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from appliance.audit.facts import AuditFacts
    from appliance.audit.facts_host import KernelAudit
    from appliance.text import Text

ON, IMMUTABLE = 1, 2
#: Filters that leave out nobody who logged in, and no call of this machine's own word length that succeeds.
_HARMLESS = re.compile(
    r"arch=(?:b64|aarch64)|key=.*|auid>=1000|auid!=(?:-1|unset|4294967295)|e?uid=0|success=1"
    r"|path=.*|dir=.*|perm=.*"
)
_MUTING = re.compile(
    r"-a never,(?:task|exit)\b"
    r"|-a (?:always|never),exclude .*msgtype(?:!=|[<>]=?|=(?:SYSCALL|PATH|EXECVE|CWD)\b)"
)
#: What one program does all day, or what nobody who logged in does, may be left out.
_OF_ONE_PROGRAM = re.compile(r"-F (?:(?:exe|subj_type)=|auid=(?:-1|unset|4294967295)\b)")
MIB = 1024 * 1024


def _no_audit(seen: KernelAudit) -> Text | None:
    """Say why nothing can be recorded at all, or None."""
    if not seen.installed:
        return text("{name} is not installed", name="auditd")
    if seen.refused:
        return text("the kernel gives no audit here: {reason}", reason=seen.refused)
    return None


def _rule_check(name: str, lacking: Callable[[tuple[str, ...]], Iterable[str]]) -> None:
    """Make the check that what must be recorded is: ``lacking`` returns what no loaded rule records."""

    def judge(facts: AuditFacts, _: Asked) -> Verdict:
        seen = facts.kernel_audit.get()
        reason = _no_audit(seen)
        if reason is not None:
            return failed(reason, facts.kernel_audit.source)
        found = [f"{one} -" for one in lacking(seen.rules)] + muting(seen.rules)
        return unless(found, facts.kernel_audit.source, text("{count} rules", count=len(seen.rules)))

    check(name)(judge)


def muting(rules: Iterable[str]) -> list[str]:
    """Return the rules by which the kernel records less than the others ask for (auditctl(8))."""
    return [rule for rule in rules if _MUTING.match(rule) and not _OF_ONE_PROGRAM.search(rule)]


def _is_for_all(rule: str) -> bool:
    """Tell whether a rule counts for whoever logged in: no filter makes it count for fewer."""
    filters = re.findall(r"-F (\S+)", rule)
    return all(_HARMLESS.fullmatch(one) for one in filters)


def is_watched(rules: Iterable[str], path: str, access: str = "w") -> bool:
    """Tell whether a rule watches a path, or a folder above it, for that kind of access."""
    for rule in rules:
        found = re.search(r"(?:^-w |-F path=|-F dir=)(\S+)", rule)
        given = re.search(r"(?:-p |-F perm=)(\w+)", rule)
        is_there = found and (path == found[1] or path.startswith(found[1].rstrip("/") + "/"))
        records = rule.startswith(("-w ", "-a always,exit")) and _is_for_all(rule)
        if records and is_there and (not given or set(access) <= set(given[1])):
            return True
    return False


def is_called(rules: Iterable[str], call: str, *words: str) -> bool:
    """Tell whether a rule records a system call, on success, and has these words in it."""
    for rule in rules:
        calls = [one for several in re.findall(r"-S (\S+)", rule) for one in several.split(",")]
        records = rule.startswith("-a always,exit") and _is_for_all(rule)
        if call in calls and records and all(word in rule for word in words):
            return True
    return False


def _unwatched(*paths: str, access: str = "w") -> Callable[[tuple[str, ...]], list[str]]:
    return lambda rules: [path for path in paths if not is_watched(rules, path, access)]


def _uncalled(*calls: str, words: tuple[str, ...] = ()) -> Callable[[tuple[str, ...]], list[str]]:
    return lambda rules: [call for call in calls if not is_called(rules, call, *words)]


_rule_check("log.audit-accounts", _unwatched("/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow"))
_rule_check("log.audit-privileges", _unwatched("/etc/sudoers", "/etc/sudoers.d", "/etc/pam.d"))
_rule_check("log.audit-root-commands", _uncalled("execve", words=("euid=0",)))
_rule_check("log.audit-time", _uncalled("adjtimex", "settimeofday", "clock_settime"))
_rule_check("log.audit-modules", _uncalled("init_module", "finit_module", "delete_module"))
_rule_check("log.audit-media", _uncalled("mount"))
_rule_check("log.audit-configuration", _unwatched("/etc/ssh", "/etc/systemd/system", "/etc/banip"))
_rule_check(
    "log.audit-product", _unwatched("/var/lib/banip/state", "/var/lib/banip/releases", "/var/log/audit")
)
_rule_check("log.audit-keys", _unwatched("/var/lib/banip/secrets", access="r"))


@check("log.audit-running")
def running(facts: AuditFacts, _: Asked) -> Verdict:
    """The kernel records, a daemon writes it down, and nothing was lost."""
    seen = facts.kernel_audit.get()
    reason = _no_audit(seen)
    if reason is not None:
        return failed(reason, facts.kernel_audit.source)
    words = [f"enabled {seen.enabled}", f"auditd {seen.daemon or '-'}", f"lost {seen.lost}"]
    holds = seen.enabled >= ON and seen.daemon == "active" and seen.lost == 0
    return verdict(listed(words), facts.kernel_audit.source, holds=holds)


@check("log.audit-immutable")
def immutable(facts: AuditFacts, _: Asked) -> Verdict:
    """Nobody changes what is recorded until the next start."""
    seen = facts.kernel_audit.get()
    reason = _no_audit(seen)
    if reason is not None:
        return failed(reason, facts.kernel_audit.source)
    words = text("{names}", names=f"enabled {seen.enabled}")
    return verdict(words, facts.kernel_audit.source, holds=seen.enabled == IMMUTABLE)


@check("log.audit-kept")
def kept(facts: AuditFacts, asked: Asked) -> Verdict:
    """Audit logs are kept up to a size that lasts, and old ones go only to make room for new ones."""
    seen = facts.kernel_audit.get()
    if not seen.installed:
        return failed(text("{name} is not installed", name="auditd"), facts.kernel_audit.source)
    action = seen.settings.get("max_log_file_action", "?").lower()
    each, count = (int(seen.settings.get(name, "0")) for name in ("max_log_file", "num_logs"))
    words = text("{names}", names=f"{action}: {count} x {each} MiB")
    holds = action == "keep_logs" or (action == "rotate" and each * count >= asked.number)
    return verdict(words, "/etc/audit/auditd.conf", holds=holds)


@check("log.audit-private")
def private(facts: AuditFacts, _: Asked) -> Verdict:
    """What is recorded, and the record, is root's to change and nobody else's to read."""
    places = ("/etc/audit", "/var/log/audit")
    files = [one for one in facts.files.get() if one.path.startswith(places) and one.kind != "absent"]
    files += [one for one in facts.logs_files.get() if one.path.startswith("/var/log/audit/")]
    if not files:
        return not_applicable(text("{path} is absent", path=", ".join(places)), facts.files.source)
    found = too_open([one for one in files if one.kind == "file"], 0o640)
    found += too_open([one for one in files if one.kind == "folder"], 0o750)
    return unless(found, ", ".join(places), text("{count} looked at, none found", count=len(files)))
