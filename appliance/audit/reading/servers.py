"""Servers that the guides have items about, where somebody installed one: their effective settings.

The program is asked where it can tell (postconf, exim -bP, named-checkconf, testparm); FTP and SNMP servers
cannot, so their files are read.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.audit.facts_host import Community, Server, Servers
from appliance.audit.reading.probe import lines, output, program

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_NAME_SETTINGS = frozenset({"allow-transfer", "allow-update", "type", "version"})
_SHARE_SETTINGS = frozenset({"guest ok", "public", "guest only", "map to guest"})
_FTP_SETTINGS = frozenset(
    {
        "anonymous_enable", "banner_file", "ftpd_banner", "ssl_enable", "tcp_wrappers", "userlist_enable",
        "serverident", "tlsrequired", "tls",
    }
)  # fmt: skip
_COMMUNITY = re.compile(r"(ro|rw)community6?\s+(\S+)(?:\s+(\S+))?|com2sec6?\s+\S+\s+(\S+)\s+(\S+)")
_POSTFIX = (
    "inet_interfaces", "mynetworks", "smtpd_relay_restrictions", "smtpd_recipient_restrictions",
    "disable_vrfy_command", "authorized_submit_users", "mail_version",
)  # fmt: skip


def servers() -> Servers:
    """Ask every such server that is here."""
    return Servers(
        mail=_mail(),
        names=_names(),
        files=_files(),
        shares=_shares(),
        ftp_refused=tuple(line.text.split()[0] for line in lines("/etc/ftpusers")),
        communities=parse_communities(
            line.text
            for line in lines("/etc/snmp/snmpd.conf", *sorted(Path("/etc/snmp/snmpd.conf.d").glob("*.conf")))
        ),
        exports=lines("/etc/exports", *sorted(Path("/etc/exports.d").glob("*.exports"))),
    )


def _mail() -> Server:
    if program("postconf"):
        return Server("postfix", parse_assignments(output("postconf", *_POSTFIX)))
    if program("exim4"):
        return Server("exim", parse_assignments(output("exim4", "-bP", "local_interfaces")))
    if Path("/etc/mail/sendmail.cf").exists():
        found = (re.match(r"O (\w+)=(.*)", line.text) for line in lines("/etc/mail/sendmail.cf"))
        kept = {one[1].lower(): one[2].strip() for one in found if one}
        return Server("sendmail", {name: kept[name] for name in ("privacyoptions",) if name in kept})
    return Server()


def parse_assignments(told: str) -> dict[str, str]:
    """Return ``name = value`` lines; a switch without a value (exim) is "true", or with ``no_`` "false"."""
    found: dict[str, str] = {}
    for line in told.splitlines():
        name, is_given, value = (part.strip() for part in line.partition("="))
        if not name or name.startswith(("#", ";", "[")):
            continue
        if is_given:
            found[name.lower()] = value
        else:
            found[name.removeprefix("no_").lower()] = "false" if name.startswith("no_") else "true"
    return found


def _names() -> Server:
    if program("named-checkconf"):  # -x: without the secrets of keys
        return Server("named", parse_named(output("named-checkconf", "-p", "-x")))
    for name in ("unbound", "dnsmasq", "pdns_server"):
        if program(name):
            return Server(name)
    return Server()


def parse_named(told: str) -> dict[str, str]:
    """Return what named-checkconf prints, by block: ``options/allow-transfer`` -> ``"none";``.

    A zone's block is named with it: ``zone example/allow-update``.
    """
    found: dict[str, str] = {}
    blocks: list[str] = []
    for line in (words.strip() for words in told.splitlines()):
        if line.endswith("{"):
            blocks.append(_block_name(line, top=not blocks))
        elif line.startswith("}"):
            if blocks:
                blocks.pop()
        elif line and blocks:
            _note(found, blocks, line)
    return found


def _block_name(line: str, *, top: bool) -> str:
    words = line.removesuffix("{").replace('"', "").split()
    return " ".join(words[:2]) if top and words[:1] == ["zone"] else (words or ["?"])[0]


def _note(found: dict[str, str], blocks: list[str], line: str) -> None:
    if len(blocks) > 1:  # an element of a list: it belongs to the list's name
        name = "/".join(blocks[:2])
        if blocks[1] not in _NAME_SETTINGS:
            return
        found[name] = f"{found.get(name, '')} {line}".strip()
    else:
        name, _, value = line.removesuffix(";").partition(" ")
        if name in _NAME_SETTINGS or blocks[0].startswith("zone "):
            found[f"{blocks[0]}/{name}"] = value.strip()


def _files() -> Server:
    for name, paths in (
        ("vsftpd", ("/etc/vsftpd.conf", "/etc/vsftpd/vsftpd.conf")),
        ("proftpd", ("/etc/proftpd/proftpd.conf",)),
        ("pure-ftpd", ("/etc/pure-ftpd/pure-ftpd.conf",)),
    ):
        if program(name) or any(Path(path).exists() for path in paths):
            return Server(name, dict(_words(*paths)))
    return Server()


def _words(*paths: str) -> Iterator[tuple[str, str]]:
    """Yield settings of a file: ``name=value`` (vsftpd) or ``Name value`` (the others)."""
    for line in lines(*paths):
        name, is_given, value = line.text.partition("=" if "=" in line.text.split()[0] else " ")
        if name.strip().lower() in _FTP_SETTINGS:
            yield name.strip().lower(), value.strip() if is_given else ""


def _shares() -> Server:
    if not program("testparm"):
        return Server()
    return Server("samba", parse_samba(output("testparm", "--suppress-prompt")))


def parse_samba(told: str) -> dict[str, str]:
    """Return testparm's settings by section: ``global/map to guest`` -> ``Bad User``."""
    found: dict[str, str] = {}
    section = ""
    for line in (words.strip() for words in told.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].lower()
        elif "=" in line and not line.startswith(("#", ";")):
            name, _, value = (part.strip() for part in line.partition("="))
            if name.lower() in _SHARE_SETTINGS:
                found[f"{section}/{name.lower()}"] = value
    return found


def parse_communities(rows: Iterable[str]) -> tuple[Community, ...]:
    """Return what snmpd.conf says of communities, without their words."""
    found = (_COMMUNITY.match(row) for row in rows)
    pairs = [(one[2], one[3] or "default") if one[1] else (one[5], one[4]) for one in found if one]
    return tuple(
        Community(source, len(word), common=word.lower() in {"public", "private"}, signs=not word.isalnum())
        for word, source in pairs
    )
