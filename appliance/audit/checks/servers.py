"""Mail, name, file and monitoring servers: whether one runs, and if so, whether it is closed as it should be.

Such a server has no place on an appliance; where a site has one all the same, each item is judged by its
effective settings. One that does not run harms nobody.
"""

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
    unknown,
    unless,
)
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.audit.facts import AuditFacts
    from appliance.audit.facts_host import Community, Server
    from appliance.text import Text

_RUNNING = frozenset({"active", "activating", "reloading"})
_STARTS = frozenset({"enabled", "enabled-runtime"})
MAIL = ("postfix", "exim4", "sendmail", "opensmtpd")
NAMES = ("named", "bind9", "unbound", "dnsmasq", "pdns")
FILES = ("vsftpd", "proftpd", "pure-ftpd", "ftpd")
SHARES = ("smbd", "nmbd", "samba", "samba-ad-dc")
MONITORING = ("snmpd", "snmptrapd")
NFS = ("nfs-server", "nfs-kernel-server", "nfs-mountd", "nfsdcld")
COMMUNITY_LEAST = 8


def running(facts: AuditFacts, services: tuple[str, ...]) -> list[str]:
    """Return which of these services (names without their suffix) run, or would at the next boot."""
    return [
        f"{one.name} {one.active} {one.enabled}"
        for one in facts.services.get()
        if one.name.rpartition(".")[0].partition("@")[0] in services
        and (one.active in _RUNNING or one.enabled in _STARTS)
    ]


def _absent(name: str, *services: str) -> Callable[[AuditFacts, Asked], Verdict]:
    """Make the check that none of these services runs, or would at boot."""

    def judge(facts: AuditFacts, _: Asked) -> Verdict:
        return unless(running(facts, services), facts.services.source, _none_of(services))

    return check(name)(judge)


def _none_of(services: tuple[str, ...]) -> Text:
    return text("none of these runs: {names}", names=", ".join(services))


finger = _absent("host.no-finger", "finger", "fingerd", "cfingerd")
shares = _absent("host.no-anonymous-share", *SHARES)
remote_shells = _absent(
    "host.no-r-services", "rsh", "rlogin", "rexec", "rshd", "rsh-server", "inetutils-inetd"
)
simple_services = _absent(
    "host.no-simple-services", "echo", "discard", "daytime", "chargen", "inetd", "xinetd"
)
nfs = _absent("host.no-nfs", *NFS)
automounter = _absent("host.no-automount", "autofs", "automount", "udisks2")
rpc = _absent("host.no-rpc", "rpcbind", "rpc-statd", "portmap")
nis = _absent("host.no-nis", "ypbind", "ypserv", "yppasswdd", "nis")
tftp = _absent("host.no-tftp-talk", "tftp", "tftpd", "tftpd-hpa", "atftpd", "talk", "talkd", "ntalk")
mail = _absent("host.no-mail-server", *MAIL)
dns = _absent("host.no-dns-server", *NAMES)
telnet = _absent("host.no-telnet", "telnet", "telnetd", "inetutils-telnetd")
ftp = _absent("host.no-ftp", *FILES)
snmp = _absent("host.no-snmp", *MONITORING)


def _settings_check(
    name: str,
    services: tuple[str, ...],
    which: str,
    judge: Callable[[Server], list[str] | None],
) -> None:
    """Make a check of a server's settings; ``judge`` returns what is wrong, None where it cannot tell."""

    def judged(facts: AuditFacts, _: Asked) -> Verdict:
        server: Server = getattr(facts.servers.get(), which)
        if not running(facts, services):
            return unless([], facts.services.source, _none_of(services))
        found = judge(server)
        if found is None:
            return unknown(
                text("its settings cannot be read: {name}", name=server.name or "?"), facts.servers.source
            )
        return unless(found, facts.servers.source, text("{names}", names=server.name))

    check(name)(judged)


# --- Mail --------------------------------------------------------------------------------------------------


def _relay(server: Server) -> list[str] | None:
    """Others' mail is not passed on: networks are this host's, or strangers are refused."""
    if server.name == "postfix":
        rules = ("smtpd_relay_restrictions", "smtpd_recipient_restrictions")
        refused = any("unauth_destination" in server.settings.get(one, "") for one in rules)
        alone = server.settings.get("inet_interfaces") in {"loopback-only", "localhost", "127.0.0.1"}
        open_to = [word for word in server.settings.get("mynetworks", "").split() if word.endswith("/0")]
        return [f"mynetworks {' '.join(open_to)}"] if open_to else [] if refused or alone else ["relay"]
    if server.name == "exim":
        return _exim(server, "relay_from_hosts", "hosts")
    return None


def _exim(server: Server, *_names: str) -> list[str] | None:
    """Exim's access lists are a language of their own: only what it listens to can be told."""
    interfaces = server.settings.get("local_interfaces", "")
    alone = bool(interfaces) and all(
        word.strip(" <;[]").startswith(("127.", "::1"))
        for word in re.split(r"[;\s]+", interfaces)
        if word.strip("<; ")
    )
    return [] if alone else None


def _commands(server: Server) -> list[str] | None:
    """A stranger cannot ask which accounts there are (VRFY, EXPN)."""
    if server.name == "postfix":
        value = server.settings.get("disable_vrfy_command", "no")
        return [] if value == "yes" else [f"disable_vrfy_command = {value}"]
    if server.name == "sendmail":
        flags = server.settings.get("privacyoptions", "").lower()
        wanted = ("noexpn", "novrfy")
        return [] if "goaway" in flags else [one for one in wanted if one not in flags]
    if server.name == "exim":
        return _exim(server, "acl_smtp_vrfy", "acl_smtp_expn")
    return None


def _submitters(server: Server) -> list[str] | None:
    """Not every account may run the mail service's queue."""
    if server.name == "postfix":
        value = server.settings.get("authorized_submit_users", "static:anyone")
        return [f"authorized_submit_users = {value}"] if value in {"static:anyone", "static:all"} else []
    if server.name == "sendmail":
        flags = server.settings.get("privacyoptions", "").lower()
        return [] if "restrictqrun" in flags or "goaway" in flags else ["restrictqrun"]
    return None


_settings_check("host.mail-relay", MAIL, "mail", _relay)
_settings_check("host.mail-commands", MAIL, "mail", _commands)
_settings_check("host.mail-users", MAIL, "mail", _submitters)


# --- Names -------------------------------------------------------------------------------------------------


def _zones(server: Server) -> list[str]:
    return sorted({name.partition("/")[0] for name in server.settings if name.startswith("zone ")})


def _transfers(server: Server) -> list[str] | None:
    """Zones go to named servers only."""
    if server.name in {"unbound", "dnsmasq"}:
        return []  # they hold no zones to transfer
    if server.name != "named":
        return None
    everywhere = server.settings.get("options/allow-transfer")
    found = ["options/allow-transfer -"] if everywhere is None else []
    found += [
        f"{name} {value}"
        for name, value in server.settings.items()
        if _is_open(name, value, "allow-transfer")
    ]
    closed = all(f"{zone}/allow-transfer" in server.settings for zone in _zones(server)) and bool(
        _zones(server)
    )
    return [one for one in found if not (closed and one.startswith("options/allow-transfer -"))]


def _updates(server: Server) -> list[str] | None:
    """Nobody may change a zone from outside unless named."""
    if server.name in {"unbound", "dnsmasq"}:
        return []
    if server.name != "named":
        return None
    return [
        f"{name} {value}" for name, value in server.settings.items() if _is_open(name, value, "allow-update")
    ]


def _is_open(name: str, value: str, setting: str) -> bool:
    return name.endswith(f"/{setting}") and bool(re.search(r'"?\bany\b"?', value))


_settings_check("host.dns-transfer", NAMES, "names", _transfers)
_settings_check("host.dns-updates", NAMES, "names", _updates)


# --- Files -------------------------------------------------------------------------------------------------


def _ftp_banner(server: Server) -> list[str] | None:
    """The greeting does not tell which program and version answers."""
    if server.name == "vsftpd":
        given = server.settings.get("ftpd_banner") or server.settings.get("banner_file")
        return [] if given else ["ftpd_banner -"]
    if server.name == "proftpd":
        value = server.settings.get("serverident", "on").lower()
        return [] if value.startswith("off") or '"' in value else [f"ServerIdent {value}"]
    return None


def _ftp_encrypted(server: Server) -> list[str] | None:
    """Files and passwords do not cross the network in the open."""
    names = {"vsftpd": ("ssl_enable", "yes"), "proftpd": ("tlsrequired", "on"), "pure-ftpd": ("tls", "2")}
    if server.name not in names:
        return None
    name, wanted = names[server.name]
    value = server.settings.get(name, "-")
    return [] if value.lower() == wanted else [f"{name} {value}"]


def _ftp_access(server: Server) -> list[str] | None:
    """Not everybody may come in: no anonymous ones, and a list decides."""
    if server.name != "vsftpd":
        return None
    anonymous = server.settings.get("anonymous_enable", "yes").lower()
    found = [f"anonymous_enable {anonymous}"] if anonymous != "no" else []
    is_listed = server.settings.get("userlist_enable", "no").lower() == "yes"
    wrapped = server.settings.get("tcp_wrappers", "no").lower() == "yes"
    return found + ([] if is_listed or wrapped else ["userlist_enable no"])


_settings_check("host.ftp-banner", FILES, "files", _ftp_banner)
_settings_check("host.ftp-encrypted", FILES, "files", _ftp_encrypted)
_settings_check("host.ftp-access", FILES, "files", _ftp_access)


@check("host.ftp-users")
def ftp_users(facts: AuditFacts, _: Asked) -> Verdict:
    """Root does not come in by FTP, and the list that says so is root's."""
    if not running(facts, FILES):
        return unless([], facts.services.source, _none_of(FILES))
    files = [one for one in facts.files.get() if one.path == "/etc/ftpusers" and one.kind == "file"]
    if not files:
        return failed(text("{path} is absent", path="/etc/ftpusers"), "/etc/ftpusers")
    names = facts.servers.get().ftp_refused
    found = [] if "root" in names else ["root"]
    found += [
        f"/etc/ftpusers {one.owner} {one.mode}" for one in files if one.owner != "root" or one.bits & 0o137
    ]
    return unless(found, "/etc/ftpusers", listed(names))


@check("host.ftp-account-shell")
def ftp_account_shell(facts: AuditFacts, _: Asked) -> Verdict:
    """The account of the FTP service is no person's, and has no shell."""
    accounts = [one for one in facts.accounts.get() if one.name in {"ftp", "vsftpd", "proftpd"}]
    found = [f"{one.name} {one.login_shell}" for one in accounts if not one.login_shell.endswith(_NO_SHELL)]
    return unless(found, "/etc/passwd", text("{count} looked at, none found", count=len(accounts)))


_NO_SHELL = ("/nologin", "/false")


@check("host.share-guests")
def share_guests(facts: AuditFacts, _: Asked) -> Verdict:
    """No share opens to somebody without a name: not SMB, not FTP, not NFS."""
    servers, found = facts.servers.get(), []
    if running(facts, SHARES):
        given = servers.shares.settings
        found += [f"{name} = {value}" for name, value in given.items() if _is_guest(name, value)]
    if running(facts, FILES):
        anonymous = servers.files.settings.get(
            "anonymous_enable", "yes" if servers.files.name == "vsftpd" else "no"
        )
        found += [f"anonymous_enable = {anonymous}"] if anonymous.lower() == "yes" else []
    if running(facts, NFS):
        found += [
            line.text for line in servers.exports if "all_squash" in line.text and _is_for_all(line.text)
        ]
    return unless(found, facts.servers.source, _none_of((*SHARES, *FILES, *NFS)))


def _is_guest(name: str, value: str) -> bool:
    setting = name.rpartition("/")[2]
    if setting in {"guest ok", "public", "guest only"}:
        return value.lower() == "yes"
    return setting == "map to guest" and value.lower() not in {"never", ""}


@check("host.nfs-exports")
def nfs_exports(facts: AuditFacts, _: Asked) -> Verdict:
    """What is exported goes to named hosts, and their root is not ours."""
    exports = facts.servers.get().exports
    files = [one for one in facts.files.get() if one.path == "/etc/exports" and one.kind == "file"]
    if not exports and not files:
        return not_applicable(text("{path} is absent", path="/etc/exports"), "/etc/exports")
    found = [line.text for line in exports if "no_root_squash" in line.text or _is_for_all(line.text)]
    found += [
        f"/etc/exports {one.owner} {one.mode}" for one in files if one.owner != "root" or one.bits & 0o133
    ]
    return unless(found, "/etc/exports", text("{count} looked at, none found", count=len(exports)))


def _is_for_all(line: str) -> bool:
    """Tell whether an export names no host: a folder alone, a star, or options without a name before them."""
    hosts = line.split()[1:]
    return not hosts or any(host.startswith(("*", "(", "0.0.0.0/0", "::/0")) for host in hosts)


# --- Monitoring --------------------------------------------------------------------------------------------


@check("host.snmp-version")
def snmp_version(facts: AuditFacts, _: Asked) -> Verdict:
    """Monitoring speaks SNMPv3, which encrypts and knows who asks."""
    if not running(facts, MONITORING):
        return unless([], facts.services.source, _none_of(MONITORING))
    old = [f"community ({one.source})" for one in facts.servers.get().communities]
    return unless(old, "/etc/snmp/snmpd.conf", text("{names}", names="SNMPv3"))


@check("host.snmp-community")
def snmp_community(facts: AuditFacts, _: Asked) -> Verdict:
    """A community is no word that everybody knows, and long enough."""
    if not running(facts, MONITORING):
        return unless([], facts.services.source, _none_of(MONITORING))
    found = [
        f"community ({one.source}): {one.length}"
        for one in facts.servers.get().communities
        if one.common or not _is_hard(one)
    ]
    return unless(found, "/etc/snmp/snmpd.conf", text("{names}", names="SNMPv3"))


def _is_hard(one: Community) -> bool:
    """Ten letters and digits, or eight with a sign among them."""
    return one.length >= COMMUNITY_LEAST + 2 or (one.length >= COMMUNITY_LEAST and one.signs)


@check("host.snmp-access")
def snmp_access(facts: AuditFacts, _: Asked) -> Verdict:
    """A community is open to a named network only."""
    if not running(facts, MONITORING):
        return unless([], facts.services.source, _none_of(MONITORING))
    sources = [one.source for one in facts.servers.get().communities]
    found = [f"community ({source})" for source in sources if source in {"default", "0.0.0.0/0"}]
    return unless(found, "/etc/snmp/snmpd.conf", text("{names}", names="SNMPv3"))
