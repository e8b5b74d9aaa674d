"""Owners and modes of files."""

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
    too_open,
    unless,
    verdict,
)
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.audit.facts import AuditFacts, File
    from appliance.text import Text

OTHERS_WRITE = 0o002
GROUP_OR_OTHERS_WRITE = 0o022


def _named(facts: AuditFacts, *paths: str) -> list[File]:
    files = {file.path: file for file in facts.files.get()}
    return [files[path] for path in paths if path in files and files[path].kind != "absent"]


def _mode_check(name: str, *paths: str) -> Callable[[AuditFacts, Asked], Verdict]:
    """Make the check that these files are root's and open to no more than the threshold."""

    def judge(facts: AuditFacts, asked: Asked) -> Verdict:
        files = _named(facts, *paths)
        if not files:
            return not_applicable(text("{path} is absent", path=", ".join(paths)), facts.files.source)
        holds = not too_open(files, asked.bits)
        return verdict(listed([spelled(file) for file in files]), ", ".join(paths), holds=holds)

    return check(name)(judge)


passwd_permissions = _mode_check("host.passwd-permissions", "/etc/passwd", "/etc/group")
shadow_permissions = _mode_check("host.shadow-permissions", "/etc/shadow", "/etc/gshadow")
hosts_permissions = _mode_check("host.hosts-permissions", "/etc/hosts")
services_permissions = _mode_check("host.services-permissions", "/etc/services")
inetd_permissions = _mode_check("host.inetd-permissions", "/etc/inetd.conf", "/etc/xinetd.conf")
printer_permissions = _mode_check("host.hosts-lpd-permissions", "/etc/hosts.lpd")
log_configuration_permissions = _mode_check(
    "host.log-configuration-permissions",
    "/etc/rsyslog.conf",
    "/etc/syslog.conf",
)
login_files_permissions = _mode_check(
    "host.environment-files", "/etc/profile", "/etc/bash.bashrc", "/etc/environment", "/etc/login.defs"
)


@check("host.sudoers-permissions")
def sudoers_permissions(facts: AuditFacts, asked: Asked) -> Verdict:
    """Who may become root is root's to write. Distributions ship 0440, stricter than the 0640 asked for."""
    files = [file for file in facts.files.get() if file.path.startswith("/etc/sudoers")]
    files = [file for file in files if file.kind == "file"]
    if not files:
        return not_applicable(text("{path} is absent", path="/etc/sudoers"), "/etc/sudoers")
    words = listed([spelled(file) for file in files])
    return verdict(words, "/etc/sudoers, /etc/sudoers.d", holds=not too_open(files, asked.bits))


@check("host.cron-permissions")
def cron_permissions(facts: AuditFacts, asked: Asked) -> Verdict:
    """What runs by the clock is root's to write."""
    files = [file for file in facts.files.get() if file.path.startswith(("/etc/cron", "/etc/at."))]
    present = [file for file in files if file.kind != "absent"]
    if not present:
        return not_applicable(text("{path} is absent", path="/etc/crontab, /etc/cron.*"), facts.files.source)
    plain = [file for file in present if file.kind == "file"]
    folders = [file for file in present if file.kind == "folder"]
    found = too_open(plain, asked.bits) + too_open(folders, asked.bits | 0o111)
    return unless(
        found, "/etc/crontab, /etc/cron.*", text("{count} looked at, none found", count=len(present))
    )


@check("host.startup-permissions")
def startup_permissions(facts: AuditFacts, _: Asked) -> Verdict:
    """What starts with the system is root's to write."""
    files = facts.startup.get()
    found = too_open(files, 0o7777 & ~GROUP_OR_OTHERS_WRITE)
    return unless(found, facts.startup.source, text("{count} looked at, none found", count=len(files)))


@check("host.log-permissions")
def log_permissions(facts: AuditFacts, asked: Asked) -> Verdict:
    """Logs are root's, or their own service's, and nobody else writes them."""
    files = [file for file in facts.logs_files.get() if file.kind == "file"]
    owners = {"root", "syslog", "_chrony"} | {file.owner for file in files if file.owner.startswith("banip-")}
    found = too_open(files, asked.bits, owners)
    return unless(found, facts.logs_files.source, text("{count} looked at, none found", count=len(files)))


@check("host.homes")
def homes(facts: AuditFacts, _: Asked) -> Verdict:
    """The home of everyone who can log in is there, theirs, and not for others to write."""
    files = {file.path: file for file in facts.homes.get()}
    found = []
    for account in facts.accounts.get():
        home = files.get(account.home)
        if home is None:
            continue
        if home.kind != "folder":
            found.append(f"{account.name}: {account.home} {home.kind}")
        elif home.owner not in {account.name, "root"} or home.bits & OTHERS_WRITE:
            found.append(spelled(home))
    return unless(found, facts.homes.source, text("{count} looked at, none found", count=len(files)))


@check("host.start-up-files-of-users")
def start_up_files_of_users(facts: AuditFacts, _: Asked) -> Verdict:
    """What a person's shell runs at login, nobody else writes."""
    files = [file for file in facts.homes.get() if file.kind == "file"]
    found = [spelled(file) for file in files if file.bits & GROUP_OR_OTHERS_WRITE]
    return unless(found, facts.homes.source, text("{count} looked at, none found", count=len(files)))


@check("host.trust-files")
def trust_files(facts: AuditFacts, _: Asked) -> Verdict:
    """No file lets another machine's users in without a password."""
    return unless(facts.finds.get().trust_files, facts.finds.source, _seen(facts))


@check("host.world-writable-files")
def world_writable_files(facts: AuditFacts, _: Asked) -> Verdict:
    """No file is everybody's to write, and no folder without the sticky bit."""
    return unless(facts.finds.get().world_writable, facts.finds.source, _seen(facts))


@check("host.unowned-files")
def unowned_files(facts: AuditFacts, _: Asked) -> Verdict:
    """Every file belongs to an account that exists."""
    return unless(facts.finds.get().unowned, facts.finds.source, _seen(facts))


@check("host.privileged-files")
def privileged_files(facts: AuditFacts, _: Asked) -> Verdict:
    """Whatever runs with its owner's rights came with a package of the system."""
    found = facts.finds.get()
    if found.unpackaged:
        return failed(listed(found.unpackaged), facts.finds.source)
    words = text("{count} files, each from a package", count=len(found.privileged))
    return verdict(words, facts.finds.source, holds=True)


def _seen(facts: AuditFacts) -> Text:
    return text("{count} looked at, none found", count=facts.finds.get().seen)
