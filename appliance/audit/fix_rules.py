"""What must be true before a fix is safe here, and what fixes are made of that data cannot spell.

A rule returns the reason why a fix is not made by itself, or None. Each asks facts through ``get``: what was
not read proves nothing, so the fix is not made.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from appliance.audit.checks.accounts import FIRST_PERSON, LAST_PERSON, NO_LOGIN
from appliance.audit.checks.logins import WEAK_SSH
from appliance.audit.checks.network import TUNNELS, wanted_settings
from appliance.audit.checks.system import WANTED_PROTECTION
from appliance.remedies import FileWritten
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from appliance.audit.facts import AuditFacts
    from appliance.audit.facts_host import Account
    from appliance.remedies import Operation
    from appliance.text import Text

Rule = "Callable[[AuditFacts], Text | None]"
HOST_UNIT = "banip-host.service"
BANNER = """\
이 시스템은 허가된 사용자만 쓸 수 있습니다.
모든 접속과 사용은 기록되며, 허가 없는 사용은 법에 따라 처벌될 수 있습니다.
Authorised users only. All access and use is recorded; use without permission may be prosecuted.
"""
_DOTS_MOST = 4
#: Of several good values the one that a running system bears best, and that can be taken back.
_CHOSEN = {
    "kernel.unprivileged_bpf_disabled": "2",
    "net.ipv4.conf.all.rp_filter": "2",
    "kernel.kptr_restrict": "1",
}
#: Where one of these changes, the kernel sets others anew, redirects among them: they come first.
_LEADING = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")
_KINDS = {"ciphers": "Ciphers", "macs": "MACs", "kexalgorithms": "KexAlgorithms"}
_KEYS = {"hostkeyalgorithms": "HostKeyAlgorithms", "pubkeyacceptedalgorithms": "PubkeyAcceptedAlgorithms"}
_GATES = ("allowusers", "allowgroups", "denyusers", "denygroups")
#: Kinds of interfaces that join others: forwarding may be what they are for.
_JOINING = TUNNELS | {"bridge", "macvlan", "ipvlan", "openvswitch"}
_NETWORK_FILES = frozenset({"nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs"})


# --- Rules -------------------------------------------------------------------------------------------------


def another_administrator(facts: AuditFacts) -> Text | None:
    """Somebody but root can log in by SSH and become root; no list of names may stand in the way."""
    ssh, sudo = facts.ssh.get(), facts.sudo.get()
    if any(ssh.settings.get(name) for name in _GATES):
        return text(
            "sshd lets in only named accounts; whether another administrator is among them is not proved"
        )
    if sudo.installed and any(
        _may_come(one, facts) and _may_rule(one, facts) for one in facts.accounts.get()
    ):
        return None
    return text("no other account can log in by SSH and become root")


def _may_come(one: Account, facts: AuditFacts) -> bool:
    ssh = facts.ssh.get()
    by_password = (
        one.hash_kind not in {"locked", "empty"} and ssh.settings.get("passwordauthentication") == "yes"
    )
    by_key = any(key.path.startswith(f"{one.home}/") for key in ssh.authorized)
    is_person = FIRST_PERSON <= one.uid <= LAST_PERSON and one.login_shell not in NO_LOGIN
    return is_person and (by_password or by_key)


def _may_rule(one: Account, facts: AuditFacts) -> bool:
    """Tell whether sudo lets the account run everything; by a key alone it needs a password all the same."""
    if one.hash_kind in {"locked", "empty"}:
        return False
    names = {one.name, "ALL"}
    names |= {
        f"%{group.name}" for group in facts.groups.get() if one.name in group.members or one.gid == group.gid
    }
    rules = [
        rule
        for rule in facts.sudo.get().rules
        if names & set(rule.users) and f"!{one.name}" not in rule.users
    ]
    return any(
        "ALL" in rule.commands and (not rule.run_as or {"ALL", "root"} & set(rule.run_as)) for rule in rules
    )


def no_host_based_logins(facts: AuditFacts) -> Text | None:
    """Nobody comes in by the word of another machine now."""
    if facts.ssh.get().settings.get("hostbasedauthentication") == "no":
        return None
    return text("somebody may log in by the word of another machine, and could not any more")


def strong_algorithms(facts: AuditFacts) -> Text | None:
    """Of every kind something strong is offered now, so that who comes with that still comes."""
    settings = facts.ssh.get().settings
    for name in (*_KINDS, *_KEYS):
        offered = [one for one in settings.get(name, "").split(",") if one]
        if not [one for one in offered if not WEAK_SSH.search(one)]:
            return text("of {name} nothing strong is offered now", name=name)
    return None


def console_shows_last_login(facts: AuditFacts) -> Text | None:
    """Only what SSH shows is lacking; the console's part belongs to PAM."""
    rules = [line for line in facts.pam.get() if line.path == "/etc/pam.d/login"]
    if not rules or any("pam_lastlog" in line.text for line in rules):
        return None
    return text("the console's part stands in /etc/pam.d/login, which is not changed by itself")


def no_host_role(facts: AuditFacts) -> Text | None:
    """Leave it to the role that sets the same at every run: two would undo each other."""
    if HOST_UNIT not in facts.proven().units:
        return None
    return text(
        "the role host of the release sets this: put the value into /etc/banip/site.yaml (host_...) and run "
        "install again"
    )


def no_ageless_passwords(facts: AuditFacts) -> Text | None:
    """No account that has a password keeps it for ever: to change that may end its next login."""
    known = [one for one in facts.accounts.get() if one.hash_kind not in {"locked", "empty"}]
    found = [one.name for one in known if one.most_days is None or one.most_days <= 0]
    if not found:
        return None
    return text(
        "these accounts have passwords without an end; ask whose they are: {names}", names=", ".join(found)
    )


def no_weak_hashes(facts: AuditFacts) -> Text | None:
    """No stored password is weak; a new one only its owner can set."""
    found = [one.name for one in facts.accounts.get() if one.hash_kind in {"des", "md5"}]
    if not found:
        return None
    return text(
        "the stored passwords of these accounts are weak, and only set anew by hand: {names}",
        names=", ".join(found),
    )


def asks_for_quality(facts: AuditFacts) -> Text | None:
    """PAM asks pwquality already, whose file then decides, unless its main file decides otherwise."""
    for line in facts.quality.get():
        if line.path == "/etc/security/pwquality.conf" and re.match(r"min(?:len|class)\b", line.text):
            where = f"{line.path}:{line.number}"
            return text("{where} decides this, before any file beside it: a person put it there", where=where)
    if any("pam_pwquality.so" in line.text for line in facts.pam.get()):
        return None
    return text("no rule of PAM asks {name}", name="pam_pwquality")


def own_kernel(facts: AuditFacts) -> Text | None:
    """Let a kernel alone that is not this server's own."""
    if not facts.host.get().container:
        return None
    return text("a container: this is a matter of the machine around it")


def a_switch_is_proved(facts: AuditFacts) -> Text | None:
    """Something is wrong that may be set: not only what could cut this host off."""
    now, open_ = facts.kernel.get(), not_proved(facts)
    wrong = {name for name, good in wanted_settings(now).items() if name in now and now[name] not in good}
    if wrong - open_:
        return None
    return text(
        "that these do not carry this host's own packets is not proved: {names}",
        names=", ".join(sorted(wrong)),
    )


def no_usb_storage_in_use(facts: AuditFacts) -> Text | None:
    """No stick is plugged in that somebody reads now."""
    if "usb_storage" not in facts.devices.get().loaded:
        return None
    return text("a USB storage device may be in use: the driver is loaded")


def way_in_by_ssh(facts: AuditFacts) -> Text | None:
    """Whoever came by this service can come by SSH."""
    ssh = facts.ssh.get()
    if ssh.installed and ssh.running:
        return None
    return text("no SSH server runs: somebody may administer this server through it")


def no_network_mounts(facts: AuditFacts) -> Text | None:
    """Nothing is mounted that would hang without the service."""
    found = [one.target for one in facts.storage.get().mounts if one.kind in _NETWORK_FILES]
    if not found:
        return None
    return text("mounted over the network: {names}", names=", ".join(found))


RULES: dict[str, Callable[[AuditFacts], Text | None]] = {
    "another-administrator": another_administrator,
    "no-host-based-logins": no_host_based_logins,
    "strong-algorithms": strong_algorithms,
    "console-shows-last-login": console_shows_last_login,
    "no-host-role": no_host_role,
    "no-ageless-passwords": no_ageless_passwords,
    "no-weak-hashes": no_weak_hashes,
    "asks-for-quality": asks_for_quality,
    "own-kernel": own_kernel,
    "a-switch-is-proved": a_switch_is_proved,
    "no-usb-storage-in-use": no_usb_storage_in_use,
    "way-in-by-ssh": way_in_by_ssh,
    "no-network-mounts": no_network_mounts,
}


# --- What code works out -----------------------------------------------------------------------------------


def banner(_: AuditFacts) -> tuple[Operation, ...]:
    """Return the warning before a login."""
    return tuple(FileWritten(path, BANNER) for path in ("/etc/issue", "/etc/issue.net"))


def ssh_algorithms(facts: AuditFacts) -> tuple[Operation, ...]:
    """Return a drop-in that offers what is offered now, without what is weak.

    It names every kind, so that a later fix, which takes its place, forgets none.
    """
    offered = {
        word: facts.ssh.get().settings.get(name, "").split(",") for name, word in (_KINDS | _KEYS).items()
    }
    lines = [
        f"{word} {','.join(one for one in names if not WEAK_SSH.search(one))}\n"
        for word, names in offered.items()
    ]
    path = "/etc/ssh/sshd_config.d/00-banip-remedy-ssh-algorithms.conf"
    return (FileWritten(path, "".join(lines), "0600", "sshd"),)


def kernel_protection(facts: AuditFacts) -> tuple[Operation, ...]:
    """Return the switches of the kernel's own protection."""
    return _switches("kernel-protection", WANTED_PROTECTION, facts.kernel.get(), frozenset())


def kernel_network(facts: AuditFacts) -> tuple[Operation, ...]:
    """Return the switches of the network; those that could cut off only where that is ruled out."""
    now = facts.kernel.get()
    # In sysctl.d a name with a dot of its own, a VLAN's, would be another name.
    wanted = {name: good for name, good in wanted_settings(now).items() if name.count(".") <= _DOTS_MOST}
    return _switches("kernel-network", wanted, now, not_proved(facts))


def not_proved(facts: AuditFacts) -> frozenset[str]:
    """Return the switches that decide whether packets reach this host or pass through it.

    Nothing is lost by closing IPv4 forwarding where at most one interface has an address and none is a bridge
    or a tunnel, and by closing IPv6's where no interface has an address beyond its own link.
    """
    others = [one for one in facts.links.get().links if one.name != "lo"]
    reached = [one for one in others if one.addresses]
    found = set()
    if len(reached) > 1 or any(one.kind in _JOINING for one in others):
        found |= {"net.ipv4.ip_forward"}
    if any(":" in address for one in others for address in one.addresses):
        found |= {"net.ipv6.conf.all.forwarding", "net.ipv6.conf.all.accept_ra"}
        found |= {name for name in facts.kernel.get() if name.endswith(".accept_ra")}
    return frozenset(found)


def _switches(
    name: str, wanted: dict[str, set[str]], now: dict[str, str], not_these: frozenset[str]
) -> tuple[Operation, ...]:
    """Return one file with every switch that this kernel has, so that a later fix forgets none."""
    good = {
        switch: now[switch] if now[switch] in values else _CHOSEN.get(switch, min(values))
        for switch, values in wanted.items()
        if switch in now and (now[switch] in values or switch not in not_these)
    }
    if all(now[switch] == value for switch, value in good.items()):
        return ()
    lines = [f"{switch} = {good[switch]}\n" for switch in leading_first(good)]
    return (FileWritten(f"/etc/sysctl.d/zz-banip-remedy-{name}.conf", "".join(lines)),)


def leading_first(switches: Iterable[str]) -> list[str]:
    """Return the switches in the order in which they may be set one after another."""
    return sorted(switches, key=lambda name: (name not in _LEADING, name))


def switches_of(operations: tuple[Operation, ...]) -> tuple[str, ...]:
    """Return the kernel's switches that these operations set."""
    files = [
        one for one in operations if isinstance(one, FileWritten) and one.path.startswith("/etc/sysctl.d/")
    ]
    return tuple(line.partition(" = ")[0] for one in files for line in one.content.splitlines())


def allow_lists(facts: AuditFacts) -> tuple[Operation, ...]:
    """Return lists of who may leave work for the clock: root, and who has a table there now."""
    files = {one.path: one for one in facts.files.get() if one.kind != "absent"}
    tables = "/var/spool/cron/crontabs/"
    names = sorted({path.removeprefix(tables) for path in files if path.startswith(tables)} - {"root"})
    programs = {"/usr/bin/crontab": "/etc/cron.allow", "/usr/bin/at": "/etc/at.allow"}
    content = "".join(f"{name}\n" for name in ("root", *names))
    return tuple(
        FileWritten(path, content, "0640")
        for program, path in programs.items()
        if program in files and path not in files
    )


MADE: dict[str, Callable[[AuditFacts], tuple[Operation, ...]]] = {
    "banner": banner,
    "ssh-algorithms": ssh_algorithms,
    "kernel-protection": kernel_protection,
    "kernel-network": kernel_network,
    "allow-lists": allow_lists,
}
