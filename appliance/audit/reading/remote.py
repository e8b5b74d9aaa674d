"""Who may come in from elsewhere and become somebody else: SSH, sudo, consoles, the session manager."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.audit.facts_host import Key, Ssh, SshBlock, Sudo, SudoDefaults, SudoRule, Terminal
from appliance.audit.reading.accounts import NO_LOGIN, accounts
from appliance.audit.reading.probe import Unreadable, lines, output, plain_text, program, ran
from appliance.audit.reading.services import active_among, settings, shown
from appliance.audit.reading.sshd import blocks, started_with
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from appliance.audit.facts_host import Account

_SUDOERS = ("sudoers_policy", "sudoers_io", "sudoers_audit")
_SSH_UNITS = ("ssh.service", "sshd.service", "ssh.socket", "sshd.socket")
_GETTYS = ("getty@*", "serial-getty@*", "console-getty*", "container-getty@*", "autovt@*")


def ssh() -> Ssh:
    """Ask the SSH server for its effective settings, and ssh-keygen what the keys are."""
    if program("sshd") is None:
        return Ssh(installed=False)
    try:
        given = _told()
    except Unreadable:  # without the folder that its unit makes, sshd tells nothing
        if active_among(_SSH_UNITS):
            raise
        return Ssh(installed=True, running=False)
    people = [one for one in accounts() if one.login_shell not in NO_LOGIN]
    return Ssh(
        installed=True,
        settings=given,
        blocks=(*blocks(), *(_as_started(options) for options in started_with())),
        warns=given.get("banner", "none") != "none" and bool(plain_text(given["banner"]).strip()),
        host_keys=tuple(
            key for path in sorted(Path("/etc/ssh").glob("ssh_host_*_key.pub")) for key in _keys(path)
        ),
        authorized=tuple(
            key for path in _key_files(people, given.get("authorizedkeysfile", "")) for key in _keys(path)
        ),
    )


def _told(*options: str) -> dict[str, str]:
    """Return the settings; what is told several times (port) is one value of several words.

    Raises ``Unreadable`` where none is told.
    """
    found: dict[str, str] = {}
    for line in output("sshd", "-T", *options).splitlines():
        name, _, value = line.partition(" ")
        found[name.lower()] = f"{found.get(name.lower(), '')} {value}".strip()
    if not found:
        raise Unreadable(text("sshd -T tells nothing"))
    return found


def _as_started(options: tuple[str, ...]) -> SshBlock:
    """Ask for the settings of a server that has options. Raises ``Unreadable`` for a file of its own."""
    if any(one.startswith("-f") for one in options):
        raise Unreadable(
            text("an SSH server at work goes by another file: {options}", options=" ".join(options))
        )
    return SshBlock("/proc", f"sshd {' '.join(options)}", _told(*options))


def _key_files(people: list[Account], patterns: str) -> list[Path]:
    """Return the files of keys that open an account, by the names that sshd looks for (sshd_config(5))."""
    names = [name for name in patterns.split() if name != "none"]
    return sorted({Path(one.home, _spelled(name, one)) for one in people for name in names})


def _spelled(name: str, one: Account) -> str:
    tokens = {"%h": one.home, "%u": one.name, "%U": str(one.uid), "%%": "%"}
    return re.sub(r"%[huU%]", lambda found: tokens[found[0]], name)


def _keys(path: Path) -> tuple[Key, ...]:
    """Ask ssh-keygen what the public keys in a file are; a file without any is a code of its own."""
    if not path.is_file() or program("ssh-keygen") is None:
        return ()
    return parse_keys(str(path), ran("ssh-keygen", "-l", "-f", str(path), codes=(0, 255)).out)


def parse_keys(path: str, told: str) -> tuple[Key, ...]:
    """Return the keys that ssh-keygen tells of: bits, fingerprint, comment, (kind)."""
    rows = (re.fullmatch(r"(\d+) \S+ .*\(([A-Z0-9-]+)\)", line) for line in told.splitlines())
    return tuple(Key(path, row[2], int(row[1])) for row in rows if row)


# --- sudo --------------------------------------------------------------------------------------------------


def sudo() -> Sudo:
    """Ask cvtsudoers for the rules as sudo reads them, with every alias spelled out.

    Raises ``Unreadable`` where sudo is told to go by something else than /etc/sudoers (sudo.conf(5)).
    """
    if program("sudo") is None:
        return Sudo(installed=False)
    for line in lines("/etc/sudo.conf"):
        words = line.text.split()
        known = words[1:] in ([name, "sudoers.so"] for name in _SUDOERS)
        if words[0] == "Plugin" and not known:
            raise Unreadable(
                text(
                    "{place} names another policy: {line}", place=f"{line.path}:{line.number}", line=line.text
                )
            )
    told = output("cvtsudoers", "--expand-aliases", "--output-format", "json", "/etc/sudoers")
    return parse_sudoers(told)


def parse_sudoers(told: str) -> Sudo:
    """Return rules and settings out of cvtsudoers' JSON (cvtsudoers(1))."""
    about = json.loads(told)
    groups = about.get("Defaults", ())
    given = [option for one in groups if not one.get("Binding") for option in one.get("Options", ())]
    return Sudo(
        installed=True,
        rules=tuple(
            _rule(spec, command)
            for spec in about.get("User_Specs", ())
            for command in spec.get("Cmnd_Specs", ())
        ),
        settings=_settings(given),
        defaults=tuple(
            SudoDefaults(", ".join(_names(one["Binding"])), _settings(one.get("Options", ())))
            for one in groups
            if one.get("Binding")
        ),
    )


def _settings(options: Iterable[dict[str, Any]]) -> dict[str, str]:
    return {name: _word(value) for option in options for name, value in option.items()}


def _rule(spec: dict[str, Any], command: dict[str, Any]) -> SudoRule:
    options = {name: value for one in command.get("Options", ()) for name, value in one.items()}
    run_as = [*command.get("runasusers", ()), *command.get("runasgroups", ())]
    return SudoRule(
        users=_names(spec.get("User_List", ())),
        run_as=_names(run_as),
        commands=_names(command.get("Commands", ())),
        authenticate=options.get("authenticate", True) is not False,
    )


#: How sudoers(5) tells apart who is no account by name; cvtsudoers takes these marks off.
_MARKS = {
    "usergroup": "%",
    "usergid": "%#",
    "nonunixgroup": "%:",
    "nonunixgid": "%:#",
    "netgroup": "+",
    "userid": "#",
}


def _names(members: Any) -> tuple[str, ...]:  # noqa: ANN401 - cvtsudoers' own shapes
    """Spell members as sudoers does: %group, +netgroup, !negated; of a command its program alone.

    The words after a program may be secret.
    """
    found = []
    for member in members:
        for kind, value in member.items():
            if kind != "negated":
                prefix = ("!" if member.get("negated") else "") + _MARKS.get(kind, "")
                program_of, _, words = str(value).partition(" ") if kind == "command" else (value, "", "")
                found.append(f"{prefix}{program_of}{' ...' if words else ''}")
    return tuple(found)


def _word(value: Any) -> str:  # noqa: ANN401 - as above
    if isinstance(value, list):
        return " ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


# --- Consoles ----------------------------------------------------------------------------------------------


def terminals() -> tuple[Terminal, ...]:
    """Ask systemd for the units that offer a login, and how they do."""
    told = output("systemctl", "list-units", "--all", "--no-legend", "--no-pager", "--plain", *_GETTYS)
    names = [line.split()[0] for line in told.splitlines() if line.split()]
    return tuple(
        Terminal(
            name=one["Id"],
            active=one["ActiveState"] == "active",
            automatic=bool(re.search(r"--autologin|\s-a\s", one.get("ExecStart", ""))),
        )
        for one in shown("Id,ActiveState,ExecStart", names)
    )


def session() -> dict[str, str]:
    """Ask for the session manager's configuration with all its drop-ins."""
    return settings(output("systemd-analyze", "cat-config", "systemd/logind.conf", "--no-pager"), "Login")
