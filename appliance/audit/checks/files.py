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

    from appliance.audit.facts import AuditFacts
    from appliance.audit.facts_host import File
    from appliance.text import Text

_CLOCKWORK = ("/etc/cron", "/etc/at.")
_TABLES = "/var/spool/cron/crontabs"
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
    files = [file for file in files if file.kind in {"file", "link"}]
    if not files:
        return not_applicable(text("{path} is absent", path="/etc/sudoers"), "/etc/sudoers")
    words = listed([spelled(file) for file in files])
    return verdict(words, "/etc/sudoers, /etc/sudoers.d", holds=not too_open(files, asked.bits))


@check("host.cron-permissions")
def cron_permissions(facts: AuditFacts, asked: Asked) -> Verdict:
    """What runs by the clock is root's to write."""
    files = [file for file in facts.files.get() if file.path.startswith(_CLOCKWORK)]
    present = [file for file in files if file.kind != "absent"]
    if not present:
        return not_applicable(text("{path} is absent", path="/etc/crontab, /etc/cron.*"), facts.files.source)
    plain = [file for file in present if file.kind in {"file", "link"}]
    folders = [file for file in present if file.kind == "folder"]
    found = too_open(plain, asked.bits) + too_open(folders, asked.bits | 0o111)
    tables = [file for file in facts.files.get() if file.path.startswith(f"{_TABLES}/")]
    found += [one for file in tables for one in too_open([file], asked.bits, ("root", _owner(file)))]
    return unless(
        found, "/etc/crontab, /etc/cron.*", text("{count} looked at, none found", count=len(present))
    )


def _owner(table: File) -> str:
    return table.path.rpartition("/")[2]


@check("host.cron-users")
def cron_users(facts: AuditFacts, _: Asked) -> Verdict:
    """Only named accounts may leave work for the clock."""
    files = {file.path: file for file in facts.files.get()}
    programs = {"/usr/bin/crontab": "/etc/cron.allow", "/usr/bin/at": "/etc/at.allow"}
    here = {path: allowed for path, allowed in programs.items() if _is_here(files, path)}
    if not here:
        return not_applicable(text("{path} is absent", path=", ".join(programs)), facts.files.source)
    found = [
        f"{path} {files[path].mode}: {allowed} -"
        for path, allowed in here.items()
        if files[path].bits & 0o001 and not _is_here(files, allowed)
    ]
    lists = [files[allowed] for allowed in here.values() if _is_here(files, allowed)]
    return unless(
        found + too_open(lists, 0o640), ", ".join(here.values()), listed([*here, *map(spelled, lists)])
    )


def _is_here(files: dict[str, File], path: str) -> bool:
    return path in files and files[path].kind != "absent"


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
    files = [file for file in facts.homes.get() if file.kind in {"file", "link"}]
    modes = {file.path: int(file.to_mode or "0", 8) if file.kind == "link" else file.bits for file in files}
    found = [spelled(file) for file in files if modes[file.path] & GROUP_OR_OTHERS_WRITE]
    return unless(found, facts.homes.source, text("{count} looked at, none found", count=len(files)))


@check("host.path-folders")
def path_folders(facts: AuditFacts, _: Asked) -> Verdict:
    """Root's home, and the folders from which root's commands come, are nobody else's to write."""
    files = [file for file in facts.path_folders.get() if file.kind != "absent"]
    found = too_open(files, 0o7777 & ~GROUP_OR_OTHERS_WRITE)
    return unless(found, facts.path_folders.source, listed([file.path for file in files]))


@check("host.login-configuration")
def login_configuration(facts: AuditFacts, _: Asked) -> Verdict:
    """How logins are decided, only root decides."""
    places = ("/etc/pam.d", "/etc/security", "/etc/nsswitch.conf", "/etc/login.defs", "/etc/ssh/sshd_config")
    files = [file for file in facts.files.get() if file.path.startswith(places) and file.kind != "absent"]
    found = too_open(files, 0o7777 & ~GROUP_OR_OTHERS_WRITE)
    return unless(found, ", ".join(places), text("{count} looked at, none found", count=len(files)))


@check("host.login-records")
def login_records(facts: AuditFacts, _: Asked) -> Verdict:
    """Logins, and those that failed, are recorded, and not everybody may change the record."""
    wanted = ("/var/log/wtmp", "/var/log/btmp", "/var/log/lastlog")
    files = {file.path: file for file in facts.files.get() if file.path in wanted}
    lacking = [path for path in wanted if not _is_here(files, path)]
    found = [f"{path} -" for path in lacking] + too_open(files.values(), 0o664)
    return unless(found, ", ".join(wanted), listed([spelled(file) for file in files.values()]))


@check("host.boot-loader")
def boot_loader(facts: AuditFacts, asked: Asked) -> Verdict:
    """What the machine starts with is root's to read, as it may hold a password."""
    files = _named(facts, "/boot/grub/grub.cfg")
    if not files:
        return not_applicable(text("{path} is absent", path="/boot/grub/grub.cfg"), facts.files.source)
    return verdict(
        listed([spelled(file) for file in files]), files[0].path, holds=not too_open(files, asked.bits)
    )


@check("host.no-preload")
def no_preload(facts: AuditFacts, _: Asked) -> Verdict:
    """No library is put into every program that starts."""
    found = [spelled(file) for file in _named(facts, "/etc/ld.so.preload")]
    return unless(found, "/etc/ld.so.preload", text("{path} is absent", path="/etc/ld.so.preload"))


@check("host.device-files")
def device_files(facts: AuditFacts, _: Asked) -> Verdict:
    """Below /dev there are devices, and no plain file hides among them."""
    return unless(facts.device_files.get(), facts.device_files.source)


@check("host.hidden-files")
def hidden_files(facts: AuditFacts, _: Asked) -> Verdict:
    """Nothing hides in the folders of the system."""
    return unless(facts.finds.get().hidden, facts.finds.source, _seen(facts))


@check("keys.private-keys-closed")
def private_keys_closed(facts: AuditFacts, _: Asked) -> Verdict:
    """No private key on this host can be read by others than its owner."""
    return unless(facts.finds.get().open_keys, facts.finds.source, _seen(facts))


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
    wrong = [*found.unpackaged, *(f"{path} (capabilities)" for path in found.empowered)]
    if wrong:
        return failed(listed(wrong), facts.finds.source)
    words = text("{count} files, each from a package", count=len(found.privileged))
    return verdict(words, facts.finds.source, holds=True)


def _seen(facts: AuditFacts) -> Text:
    return text("{count} looked at, none found", count=facts.finds.get().seen)
