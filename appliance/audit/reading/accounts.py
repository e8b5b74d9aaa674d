"""Accounts as the name service has them, their logins, and what a login gives them."""

from __future__ import annotations

import os
import re
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.audit.facts_host import Account, Failures, File, Group, Line, Login, Shell
from appliance.audit.reading.probe import Unreadable, lines, look, output, output_as_nobody, program
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Collection

NO_LOGIN = frozenset({"/usr/sbin/nologin", "/sbin/nologin", "/bin/false", "/usr/bin/false", "/bin/sync"})
_START_UP_FILES = (
    ".profile", ".bashrc", ".bash_profile", ".bash_login", ".bash_logout", ".cshrc", ".login", ".kshrc",
    ".zshenv", ".zprofile", ".zshrc", ".rhosts", ".shosts", ".pam_environment", ".ssh",
    ".ssh/authorized_keys", ".ssh/authorized_keys2", ".ssh/rc", ".ssh/environment",
)  # fmt: skip
QUALITY, QUALITY_DROP_INS = Path("/etc/security/pwquality.conf"), Path("/etc/security/pwquality.conf.d")
FAILURES_DAYS = 7
#: Stands for every name that was typed and is nobody's.
NO_ACCOUNT = "?"
_HASHES = {
    "y": "yescrypt", "gy": "gost-yescrypt", "7": "scrypt", "6": "sha512", "5": "sha256",
    "2a": "bcrypt", "2b": "bcrypt", "2y": "bcrypt", "1": "md5",
}  # fmt: skip
_SHADOW_FIELDS, _LASTLOG_TIME_WORDS = 9, 6


def accounts() -> tuple[Account, ...]:
    """Ask the name service for accounts, and for what kind of password each has; hashes stay behind."""
    shadows: dict[str, list[str]] = {}
    for row in _rows("shadow"):
        shadows.setdefault(row[0], row)  # of two lines the first one counts
    return tuple(_account(row, shadows.get(row[0], [])) for row in _rows("passwd"))


def _account(row: list[str], shadow: list[str]) -> Account:
    kind = hash_kind(shadow[1]) if len(shadow) > 1 else "unshadowed"
    days = [int(field) if field.strip().lstrip("-").isdigit() else None for field in shadow[2:]]
    days += [None] * (_SHADOW_FIELDS - 2 - len(days))
    changed, least, most, _, idle, expires, *_ = days
    return Account(
        name=row[0],
        uid=int(row[2]),
        gid=int(row[3]),
        home=row[5],
        login_shell=row[6],
        hash_kind=kind if row[1] == "x" else _outside_shadow(row[1]),
        changed=changed,
        least_days=least,
        most_days=most,
        idle_days=idle,
        expires=expires,
    )


def hash_kind(field: str) -> str:
    """Name the kind of hash in a shadow field (crypt(5)); ``locked`` where no password can match."""
    if not field:
        return "empty"
    if field[0] in "!*":
        return "locked"
    match = re.match(r"\$([0-9a-z]+)\$", field)
    return _HASHES.get(match[1], match[1]) if match else "des"


def _outside_shadow(field: str) -> str:
    if not field:
        return "empty"
    return "locked" if field in {"*", "!"} else "unshadowed"


def groups() -> tuple[Group, ...]:
    """Ask the name service for groups."""
    rows = _rows("group")
    return tuple(Group(row[0], int(row[2]), tuple(filter(None, row[3].split(",")))) for row in rows)


def _rows(database: str) -> list[list[str]]:
    rows = [line.split(":") for line in output("getent", database).splitlines()]
    if not any(row[0] == "root" for row in rows):
        raise Unreadable(
            text("getent {database} tells of no root: {count} lines", database=database, count=len(rows))
        )
    return rows


# --- Logins ------------------------------------------------------------------------------------------------


def logins() -> tuple[Login, ...]:
    """Ask lastlog when each account was last used."""
    return parse_lastlog(output("lastlog" if program("lastlog") else "lastlog2"))


def parse_lastlog(told: str) -> tuple[Login, ...]:
    """Return what lastlog says; its last six words are the time."""
    rows = [line.split() for line in told.splitlines()[1:] if line.split()]
    return tuple(Login(row[0], None if row[-1] == "in**" else _time(row)) for row in rows)


def _time(row: list[str]) -> datetime:
    return datetime.strptime(" ".join(row[-_LASTLOG_TIME_WORDS:]), "%a %b %d %H:%M:%S %z %Y")


def failures() -> Failures:
    """Ask lastb who failed to log in lately; a server that keeps no such record has nothing to say."""
    if not Path("/var/log/btmp").exists():
        raise Unreadable(text("/var/log/btmp is absent: logins that fail are not recorded"))
    told = output("lastb", "-w", "--time-format", "iso", "--since", f"-{FAILURES_DAYS}days")
    return Failures(days=FAILURES_DAYS, counts=parse_lastb(told, {row[0] for row in _rows("passwd")}))


def parse_lastb(told: str, known: Collection[str]) -> dict[str, int]:
    """Return how often each account failed; the last line tells since when the record is kept.

    What is no account's name is counted as one: people type their password where the name is asked for.
    """
    rows = [line for line in told.splitlines() if line.split() and not line[:1].isspace()]
    names = [row.split()[0] for row in rows if not re.match(r"btmp begins ", row)]
    return dict(sorted(Counter(name if name in known else NO_ACCOUNT for name in names).items()))


# --- Rules of a login --------------------------------------------------------------------------------------


def pam() -> tuple[Line, ...]:
    """Read the rules of PAM."""
    folder = Path("/etc/pam.d")
    return lines(*sorted(folder.iterdir())) if folder.is_dir() else ()


def password_quality() -> tuple[Line, ...]:
    """Read what pwquality asks of a new password, in the order in which it reads: the main file last."""
    return lines(*sorted(QUALITY_DROP_INS.glob("*.conf")), QUALITY)


def banner() -> tuple[Line, ...]:
    """Read what is shown before and after a login."""
    return lines("/etc/issue", "/etc/issue.net", "/etc/motd")


def shell() -> Shell:
    """Ask a login shell, started with nobody's rights, what the system's start-up files gave it."""
    asked = 'printf "%s\\n" "${TMOUT:-}" "$(umask)" "$PATH"'
    timeout, umask, path = output_as_nobody("bash", "--login", "-c", asked).splitlines()[-3:]
    more = [line.text.partition("PATH=")[2] for line in lines("/etc/login.defs") if "ENV_SUPATH" in line.text]
    parts = dict.fromkeys(part for one in (*more, path) for part in one.split(":"))
    return Shell(
        timeout_s=int(timeout) if timeout.strip().isdigit() else None,
        umask=umask,
        path=tuple(parts),
    )


def path_folders() -> tuple[File, ...]:
    """Look at root's home and at every folder in which root's shell looks for a command."""
    return tuple(look(path) for path in ("/root", *shell().path) if path.startswith("/"))


def homes() -> tuple[File, ...]:
    """Look at the homes of those who can log in, and at the start-up files in them."""
    found = []
    for account in accounts():
        if account.login_shell not in NO_LOGIN:
            found += [look(os.path.normpath(Path(account.home, name))) for name in ("", *_START_UP_FILES)]
    return tuple(found)
