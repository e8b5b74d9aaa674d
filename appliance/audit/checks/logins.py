"""Who comes in and how: SSH, sudo, consoles, and what a session is given."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import structs

from appliance.audit.checks.pam import in_use
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
    too_open,
    unless,
    verdict,
)
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.audit.facts import AuditFacts
    from appliance.audit.facts_host import Ssh, SshBlock, Sudo

#: Algorithms of SSH that rest on SHA-1, MD5, DSA, CBC, short tags or short groups.
WEAK_SSH = re.compile(
    r"3des|arcfour|blowfish|cast128|-cbc|md5|sha1\b|hmac-sha1|umac-64|-96\b|ssh-dss|group1-|group14-sha1"
    r"|group-exchange-sha1|ssh-rsa$|ssh-rsa-cert-v01"
)
_ALGORITHMS = ("ciphers", "macs", "kexalgorithms", "hostkeyalgorithms", "pubkeyacceptedalgorithms")
RSA_LEAST_BITS = 2048
_LOGGING = frozenset({"INFO", "VERBOSE", "DEBUG", "DEBUG1", "DEBUG2", "DEBUG3"})
_TELLING = re.compile(r"\\[nrsvm]|Debian|Ubuntu|GNU/Linux")


def _ssh_check(name: str, judge: Callable[[Ssh, Asked], tuple[list[str], list[str]]]) -> None:
    """Make a check of the SSH server: ``judge`` returns what is wrong, and what to show where nothing is."""

    def asked_of_ssh(facts: AuditFacts, asked: Asked) -> Verdict:
        ssh = facts.ssh.get()
        if not (ssh.installed and ssh.running):
            return not_applicable(text("no SSH server runs"), facts.ssh.source)
        found, shown = judge(ssh, asked)
        for block in ssh.blocks:  # whom it is for, its words decide
            wrong, _ = judge(_within(ssh, block), asked)
            found += [f"{block.where} {block.criteria}: {one}" for one in wrong if one not in found]
        return unless(found, facts.ssh.source, listed(shown))

    check(name)(asked_of_ssh)


def _within(ssh: Ssh, block: SshBlock) -> Ssh:
    """Return what holds for the connections of a block; what it takes out of a list takes nothing in."""
    own = {name: value.lstrip("+^") for name, value in block.settings.items() if not value.startswith("-")}
    return structs.replace(ssh, settings={**ssh.settings, **own})


def _wanted(ssh: Ssh, wanted: dict[str, frozenset[str]]) -> tuple[list[str], list[str]]:
    """Compare settings with what they may be; one that sshd does not tell of is wrong."""
    shown = [f"{name} {ssh.settings.get(name, '-')}" for name in wanted]
    wrong = [
        f"{name} {ssh.settings.get(name, '-')}"
        for name in wanted
        if ssh.settings.get(name) not in wanted[name]
    ]
    return wrong, shown


_NO, _YES = frozenset({"no"}), frozenset({"yes"})


def _root(ssh: Ssh, _: Asked) -> tuple[list[str], list[str]]:
    return _wanted(ssh, {"permitrootlogin": _NO})


def _idle(ssh: Ssh, asked: Asked) -> tuple[list[str], list[str]]:
    interval = int(ssh.settings.get("clientaliveinterval", "0"))
    count = int(ssh.settings.get("clientalivecountmax", "3"))
    words = [f"ClientAliveInterval {interval}, ClientAliveCountMax {count}"]
    return ([] if 0 < interval * count <= asked.number else words), words


def _empty(ssh: Ssh, _: Asked) -> tuple[list[str], list[str]]:
    return _wanted(ssh, {"permitemptypasswords": _NO})


def _attempts(ssh: Ssh, asked: Asked) -> tuple[list[str], list[str]]:
    tries, grace = int(ssh.settings.get("maxauthtries", "0")), int(ssh.settings.get("logingracetime", "0"))
    words = [f"MaxAuthTries {tries}", f"LoginGraceTime {grace}"]
    wrong = [words[0]] if not 0 < tries <= asked.number else []
    return wrong + ([words[1]] if not 0 < grace <= GRACE_MOST_S else []), words


GRACE_MOST_S = 120


def _forwarding(ssh: Ssh, _: Asked) -> tuple[list[str], list[str]]:
    names = ("allowtcpforwarding", "allowagentforwarding", "x11forwarding", "gatewayports", "permittunnel")
    return _wanted(ssh, dict.fromkeys(names, _NO))


def _trust(ssh: Ssh, _: Asked) -> tuple[list[str], list[str]]:
    return _wanted(ssh, {"hostbasedauthentication": _NO, "ignorerhosts": _YES, "permituserenvironment": _NO})


def _algorithms(ssh: Ssh, _: Asked) -> tuple[list[str], list[str]]:
    given = [(name, one) for name in _ALGORITHMS for one in ssh.settings.get(name, "").split(",") if one]
    weak = [f"{name} {one}" for name, one in given if WEAK_SSH.search(one)]
    lacking = [f"{name} -" for name in _ALGORITHMS[:3] if not ssh.settings.get(name)]
    return weak + lacking, [one for _, one in given]


def _log_level(ssh: Ssh, _: Asked) -> tuple[list[str], list[str]]:
    return _wanted(ssh, {"loglevel": _LOGGING})


def _two_factors(ssh: Ssh, _: Asked) -> tuple[list[str], list[str]]:
    """Every way in asks for two things; a list without a comma asks for one."""
    ways = ssh.settings.get("authenticationmethods", "any").split()
    return [f"AuthenticationMethods {way}" for way in ways if "," not in way], ways


_ssh_check("host.root-remote-login", _root)
_ssh_check("host.ssh-session", _idle)
_ssh_check("host.ssh-empty-passwords", _empty)
_ssh_check("host.ssh-attempts", _attempts)
_ssh_check("host.ssh-forwarding", _forwarding)
_ssh_check("host.ssh-trust", _trust)
_ssh_check("host.ssh-algorithms", _algorithms)
_ssh_check("host.ssh-log", _log_level)
_ssh_check("host.ssh-two-factors", _two_factors)


@check("host.ssh-banner")
def ssh_banner(facts: AuditFacts, _: Asked) -> Verdict:
    """Whoever comes by SSH is warned before the login."""
    ssh = facts.ssh.get()
    if not (ssh.installed and ssh.running):
        return not_applicable(text("no SSH server runs"), facts.ssh.source)
    path = ssh.settings.get("banner", "none")
    silent = [
        f"{one.where} {one.criteria}: Banner" for one in ssh.blocks if one.settings.get("banner") == "none"
    ]
    found = silent if ssh.warns else [f"Banner {path}"]
    return unless(found, facts.ssh.source, text("{names}", names=f"Banner {path}"))


@check("host.ssh-host-keys")
def ssh_host_keys(facts: AuditFacts, _: Asked) -> Verdict:
    """The server's own keys are strong, and root's alone."""
    ssh = facts.ssh.get()
    if not (ssh.installed and ssh.running):
        return not_applicable(text("no SSH server runs"), facts.ssh.source)
    secret = [one for one in facts.files.get() if re.fullmatch(r"/etc/ssh/ssh_host_\w+_key", one.path)]
    weak = [f"{one.path} {one.kind} {one.bits}" for one in ssh.host_keys if _is_weak(one.kind, one.bits)]
    if not ssh.host_keys:
        return failed(text("none found"), facts.ssh.source)
    shown = listed([f"{one.kind} {one.bits}" for one in ssh.host_keys])
    return unless(weak + too_open(secret, 0o600), f"{facts.ssh.source}, /etc/ssh", shown)


@check("host.ssh-authorized-keys")
def ssh_authorized_keys(facts: AuditFacts, _: Asked) -> Verdict:
    """Keys that open an account are strong ones."""
    ssh = facts.ssh.get()
    if not (ssh.installed and ssh.running):
        return not_applicable(text("no SSH server runs"), facts.ssh.source)
    weak = [f"{one.path} {one.kind} {one.bits}" for one in ssh.authorized if _is_weak(one.kind, one.bits)]
    return unless(weak, facts.ssh.source, text("{count} looked at, none found", count=len(ssh.authorized)))


def _is_weak(kind: str, bits: int) -> bool:
    return kind in {"DSA", "RSA1"} or (kind == "RSA" and bits < RSA_LEAST_BITS)


# --- sudo --------------------------------------------------------------------------------------------------


@check("host.sudo-rules")
def sudo_rules(facts: AuditFacts, _: Asked) -> Verdict:
    """Nobody becomes root without a password, and not everybody may."""
    sudo = facts.sudo.get()
    if not sudo.installed:
        return not_applicable(text("{name} is not installed", name="sudo"), facts.sudo.source)
    found = [
        f"{', '.join(rule.users)}: {fault}"
        for rule in sudo.rules
        for fault, holds in (("NOPASSWD", not rule.authenticate), ("ALL users", "ALL" in rule.users))
        if holds
    ]
    for bound, given in _defaults(sudo):
        name = f"Defaults{bound} {{}}".format
        found += [name("!authenticate")] if given.get("authenticate") == "false" else []
        found += [name("targetpw")] if given.get("targetpw") == "true" else []
        group = given.get("exempt_group", "false")
        found += [name(f"exempt_group={group}")] if group not in {"false", "root"} else []
    return unless(found, facts.sudo.source, listed([", ".join(rule.users) for rule in sudo.rules]))


@check("host.sudo-reuse")
def sudo_reuse(facts: AuditFacts, asked: Asked) -> Verdict:
    """A password given to sudo counts for some minutes only, and on its own terminal."""
    sudo = facts.sudo.get()
    if not sudo.installed:
        return not_applicable(text("{name} is not installed", name="sudo"), facts.sudo.source)
    found, shown = list[str](), list[str]()
    for bound, given in _defaults(sudo):
        minutes = float(given.get("timestamp_timeout", "15"))  # sudoers(5)
        kind = given.get("timestamp_type", "tty")
        shown.append(f"timestamp_timeout={minutes:g}, timestamp_type={kind}{bound and f' ({bound})'}")
        if not (0 <= minutes <= asked.number and kind in {"tty", "ppid"}):
            found.append(shown[-1])
    return unless(found, facts.sudo.source, listed(shown[:1]))


def _defaults(sudo: Sudo) -> list[tuple[str, dict[str, str]]]:
    """Return the settings for all, and with them those of each group of users, hosts or commands."""
    bound = [
        (f":{one.bound}", {**sudo.settings, **one.settings}) for one in sudo.defaults if one.bound != "root"
    ]
    return [("", sudo.settings), *bound]


@check("host.sudo-log")
def sudo_log(facts: AuditFacts, _: Asked) -> Verdict:
    """What is done through sudo is recorded."""
    sudo = facts.sudo.get()
    if not sudo.installed:
        return not_applicable(text("{name} is not installed", name="sudo"), facts.sudo.source)
    found, shown = list[str](), list[str]()
    for bound, given in _defaults(sudo):
        where = {name: given.get(name, "") for name in ("syslog", "logfile")}
        shown.append(f"syslog={where['syslog'] or 'authpriv'} logfile={where['logfile'] or '-'}{bound}")
        unlogged = where["syslog"] == "false" and where["logfile"] in {"", "false"}
        if unlogged or given.get("log_allowed") == "false":
            found.append(shown[-1])
    return unless(found, facts.sudo.source, listed(shown[:1]))


# --- Consoles and sessions ---------------------------------------------------------------------------------


@check("host.console-login")
def console_login(facts: AuditFacts, _: Asked) -> Verdict:
    """A console asks who is there."""
    terminals = facts.terminals.get()
    found = [one.name for one in terminals if one.automatic]
    return unless(found, facts.terminals.source, listed([one.name for one in terminals]))


@check("host.serial-consoles")
def serial_consoles(facts: AuditFacts, _: Asked) -> Verdict:
    """No login is offered on a serial line, where a device of maintenance could be left plugged in."""
    terminals = facts.terminals.get()
    found = [one.name for one in terminals if one.active and one.name.startswith("serial-getty@")]
    return unless(found, facts.terminals.source, listed([one.name for one in terminals]))


@check("host.session-ends")
def session_ends(facts: AuditFacts, _: Asked) -> Verdict:
    """When somebody logs out, what they left running ends as well."""
    given = facts.session.get()
    value, only = given.get("KillUserProcesses", "no"), given.get("KillOnlyUsers", "")
    shown = [f"KillUserProcesses={value}", *([f"KillOnlyUsers={only}"] if only else [])]
    holds = value.lower() in {"yes", "true", "1", "on"} and not only
    return verdict(listed(shown), facts.session.source, holds=holds)


@check("host.last-login-shown")
def last_login_shown(facts: AuditFacts, _: Asked) -> Verdict:
    """Whoever logs in sees when that account was last used."""
    ssh = facts.ssh.get()
    rules = [line for line in facts.pam.get() if line.path == "/etc/pam.d/login"]
    console = any("pam_lastlog" in line.text for line in rules)
    remote = not (ssh.installed and ssh.running) or ssh.settings.get("printlastlog") == "yes"
    words = [f"console: {'pam_lastlog' if console else '-'}"]
    words += [f"SSH: PrintLastLog {ssh.settings.get('printlastlog', '-')}"] if ssh.installed else []
    where = f"/etc/pam.d/login, {facts.ssh.source}"
    return verdict(listed(words), where, holds=remote and (console or not rules))


@check("host.failed-logins-shown")
def failed_logins_shown(facts: AuditFacts, _: Asked) -> Verdict:
    """Whoever logs in sees how often somebody failed to."""
    rules = [line for line in in_use(facts.pam.get(), "session") if "pam_lastlog" in line.text]
    rules = [line for line in rules if "showfailed" in line.text]
    if not rules:
        return failed(text("no rule of PAM asks {name}", name="pam_lastlog showfailed"), facts.pam.source)
    return passed(text("{names}", names=rules[0].text), at(rules[0]))


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
    line = setting(facts.login.get(), "UMASK")
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
        return failed(text("{names}", names=telling[0].text), at(telling[0]))
    if not lines:
        return failed(text("no words are shown"), facts.banner.source)
    return passed(text("{names}", names=lines[0].text), at(lines[0]))
