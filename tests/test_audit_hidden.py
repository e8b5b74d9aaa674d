"""What hides behind another spelling, another file or another name is no pass."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from click.testing import CliRunner

from appliance.audit.checks.audit import is_called
from appliance.audit.command import audit_command
from appliance.audit.facts_host import SshBlock
from appliance.audit.fixes import why_not
from appliance.audit.formats import FORMATS
from appliance.audit.reading import accounts, packages, remote, sshd, walk
from appliance.audit.reading.probe import Unreadable, look
from appliance.audit.result import audit
from tests.test_audit_checks import cases, facts_of

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.audit.outcome import Result


def judged(check: str, **changed: Any) -> Result:  # noqa: ANN401 - facts
    """Judge a check's passing case with other facts in it."""
    (case,) = (one for one in cases() if (one.check, one.status) == (check, "pass"))
    found = audit(facts_of(case.facts | changed), case.grade)
    (result,) = (one for one in found.results if one.id == check)
    return result


def fact_of(check: str, name: str) -> dict[str, Any]:
    (case,) = (one for one in cases() if (one.check, one.status) == (check, "pass"))
    found: dict[str, Any] = case.facts[name]
    return found


# --- SSH ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "name", "value"),
    [
        ("host.root-remote-login", "permitrootlogin", "yes"),
        ("host.ssh-empty-passwords", "permitemptypasswords", "yes"),
        ("host.ssh-forwarding", "x11forwarding", "yes"),
        ("host.ssh-attempts", "maxauthtries", "99"),
        ("host.ssh-two-factors", "authenticationmethods", "password"),
        ("host.ssh-algorithms", "pubkeyacceptedalgorithms", "+ssh-rsa"),
        ("host.ssh-log", "loglevel", "QUIET"),
        ("host.ssh-banner", "banner", "none"),
    ],
)
def test_what_ssh_gives_to_some_connections_only_counts(check: str, name: str, value: str) -> None:
    block = {"where": "/etc/ssh/sshd_config:9", "criteria": "Match User kim", "settings": {name: value}}
    found = judged(check, ssh={**fact_of(check, "ssh"), "blocks": [block]})
    assert (found.status, "sshd_config:9 Match User kim" in found.observed.en) == ("fail", True)


def test_a_block_that_takes_away_or_asks_more_is_no_fault() -> None:
    for check, name, value in (
        ("host.ssh-algorithms", "pubkeyacceptedalgorithms", "-ssh-rsa"),
        ("host.ssh-attempts", "maxauthtries", "1"),
        ("host.root-remote-login", "x11forwarding", "yes"),
    ):
        block = {"where": "x", "criteria": "Match all", "settings": {name: value}}
        assert judged(check, ssh={**fact_of(check, "ssh"), "blocks": [block]}).status == "pass"


def test_blocks_are_found_in_included_files_and_end_with_their_file(tmp_path: Path) -> None:
    main, more = tmp_path / "sshd_config", tmp_path / "more"
    more.mkdir()
    main.write_text(
        f"PermitRootLogin no\nInclude {more}/*.conf\nMaxAuthTries 4\n"
        'match=User "kim",lee\n  X11Forwarding=yes\n X11Forwarding no\nInclude more/deep\n'
    )
    (more / "a.conf").write_text("Match Address 10.0.0.0/8 # from inside\nPermitRootLogin yes\n")
    (more / "deep").write_text("ClientAliveInterval 1h30m\n")
    assert sshd.blocks(main) == (
        SshBlock(f"{more}/a.conf:1", "Match Address 10.0.0.0/8", {"permitrootlogin": "yes"}),
        SshBlock(f"{main}:4", "Match User kim,lee", {"x11forwarding": "yes", "clientaliveinterval": "5400"}),
    )
    (more / "deep").write_text(f"Include {more}/deep\n")
    with pytest.raises(Unreadable, match="16 deep"):
        sshd.blocks(main)


@pytest.mark.parametrize(
    ("told", "options"),
    [
        (" -D", ()),
        (" -D -e -4", ()),
        (" -D -oPermitRootLogin=yes", ("-oPermitRootLogin=yes",)),
        (" -D -f /root/other -o LogLevel=QUIET", ("-f", "/root/other", "-o", "LogLevel=QUIET")),
    ],
)
def test_options_of_an_ssh_server_at_work_are_asked_about(told: str, options: tuple[str, ...]) -> None:
    assert sshd.options_of(told) == options


# --- sudo --------------------------------------------------------------------------------------------------


def told_by_cvtsudoers(*defaults: dict[str, Any]) -> dict[str, Any]:
    told = msgspec.json.encode({"Defaults": defaults, "User_Specs": []}).decode()
    found: dict[str, Any] = msgspec.to_builtins(remote.parse_sudoers(told))
    return found


@pytest.mark.parametrize(
    ("check", "option", "repaired"),
    [
        ("host.sudo-rules", {"authenticate": False}, {"authenticate": True}),
        ("host.sudo-reuse", {"timestamp_timeout": "-1"}, {"timestamp_timeout": "5"}),
        ("host.sudo-log", {"syslog": False}, {"syslog": "authpriv"}),
        ("host.sudo-log", {"log_allowed": False}, {"log_allowed": True}),
    ],
)
def test_what_sudo_gives_to_some_only_counts_and_is_not_covered_by_what_comes_later(
    check: str, option: dict[str, Any], repaired: dict[str, Any]
) -> None:
    kim, root = ({"Binding": [{"username": name}]} for name in ("kim", "root"))
    sudo = told_by_cvtsudoers({**kim, "Options": [option]}, {**root, "Options": [repaired]})
    found = judged(check, sudo=sudo)
    assert (found.status, "kim" in found.observed.en) == ("fail", True)
    assert judged(check, sudo=told_by_cvtsudoers({**root, "Options": [option]})).status == "pass"


def test_words_after_a_command_of_sudo_are_no_fact() -> None:
    given = {
        "User_List": [{"username": "kim"}],
        "Cmnd_Specs": [{"Commands": [{"command": "/bin/mysql -pHunter2"}]}],
    }
    bound = {"Binding": [{"command": "/bin/mysql -pHunter2"}], "Options": [{"noexec": True}]}
    told = msgspec.json.encode({"Defaults": [bound], "User_Specs": [given]}).decode()
    found = remote.parse_sudoers(told)
    assert (found.rules[0].commands, found.defaults[0].bound) == (("/bin/mysql ...",), "/bin/mysql ...")


def test_who_is_no_account_by_name_cannot_pass_for_one() -> None:
    """As cvtsudoers tells +kim, %:kim, %#27, %:#27 and #0: each without the mark that sudoers(5) has."""
    members = [
        {"netgroup": "kim"},
        {"nonunixgroup": "kim"},
        {"usergid": 27},
        {"nonunixgid": 27},
        {"userid": 0},
    ]
    told = {"User_List": members, "Cmnd_Specs": [{"Commands": [{"command": "ALL"}]}]}
    (rule,) = remote.parse_sudoers(msgspec.json.encode({"User_Specs": [told]}).decode()).rules
    assert rule.users == ("+kim", "%:kim", "%#27", "%:#27", "#0")


def test_a_group_with_the_number_of_a_powerful_one_is_that_one() -> None:
    groups: Any = fact_of("host.administrators", "groups")
    powerful = next(one for one in groups if one["name"] == "sudo")
    again = {
        "name": "printers",
        "gid": powerful["gid"],
        "members": [f"mallory{number}" for number in range(9)],
    }
    found = judged("host.administrators", groups=[*groups, again])
    assert (found.status, "printers: mallory0" in found.observed.en) == ("fail", True)


def test_a_group_that_sudo_asks_for_no_password_is_seen() -> None:
    found = judged("host.sudo-rules", sudo=told_by_cvtsudoers({"Options": [{"exempt_group": "users"}]}))
    assert (found.status, found.observed.en) == ("fail", "Defaults exempt_group=users")


# --- The network -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "port", "status"),
    [
        ("ssh.service", 22, "pass"),
        ("ssh.service", 31337, "fail"),
        ("session-3.scope", 22, "fail"),
        ("", 22, "fail"),
    ],
)
def test_whoever_calls_itself_sshd_is_not_the_ssh_server(unit: str, port: int, status: str) -> None:
    one = {"protocol": "tcp", "address": "0.0.0.0", "port": port, "process": "sshd", "unit": unit}  # noqa: S104
    assert judged("network.listeners", listeners=[one]).status == status


@pytest.mark.parametrize(
    "peer", ["0.0.0.0/0", "128.0.0.0/1", "::/0", "0.0.0.0-255.0.0.0", "@guests", "02:00:00:00:00:01"]
)
def test_everybody_is_no_named_network(peer: str) -> None:
    firewall = fact_of("network.firewall-openings", "firewall")
    opening = {"chain": "input", "peers": ["10.0.0.0/8", peer], "ports": [443]}
    changed = {**firewall, "openings": [opening]}
    assert judged("network.firewall-openings", firewall=changed).status == "fail"
    opening["ports"] = [22]
    assert judged("network.ssh-from-named-networks", firewall=changed).status == "fail"


def test_another_table_that_drops_does_not_stand_in_for_the_products() -> None:
    firewall = fact_of("network.firewall-default-deny", "firewall")
    other = [{**one, "table": "other"} for one in firewall["chains"]]
    for policy in ("accept", "dormant"):
        ours = [{**one, "table": "banip", "policy": policy} for one in firewall["chains"]]
        found = judged("network.firewall-default-deny", firewall={**firewall, "chains": ours + other})
        assert found.status == "fail"
    assert judged("network.firewall-default-deny", firewall={**firewall, "chains": other}).status == "pass"


# --- PAM ---------------------------------------------------------------------------------------------------


def rules(**files: str) -> list[dict[str, Any]]:
    """Return the rules of files in /etc/pam.d, by name; underscores stand for dashes."""
    return [
        {"path": f"/etc/pam.d/{name.replace('_', '-')}", "number": number, "text": text}
        for name, content in files.items()
        for number, text in enumerate(content.splitlines(), start=1)
    ]


LOCK = "auth requisite pam_faillock.so preauth\nauth [default=die] pam_faillock.so authfail"
QUALITY = "password requisite pam_pwquality.so"
HISTORY = "password requisite pam_pwhistory.so remember=5"


@pytest.mark.parametrize(
    ("check", "pam", "status"),
    [
        ("host.password-quality", rules(passwd="@include common-password", common_password=QUALITY), "pass"),
        ("host.password-quality", rules(passwd="password include x", x=QUALITY), "pass"),
        ("host.password-quality", rules(passwd="@include common-password", old=QUALITY), "fail"),
        ("host.password-quality", rules(passwd="password optional pam_pwquality.so"), "fail"),
        ("host.password-history", rules(passwd="@include a", a=HISTORY), "pass"),
        ("host.password-history", rules(passwd="auth include a", a=HISTORY), "fail"),
        ("host.password-history", rules(passwd=HISTORY.replace("requisite", "optional")), "fail"),
        ("host.account-lockout", rules(login="@include a", sshd="auth substack a", a=LOCK), "pass"),
        ("host.account-lockout", rules(login="@include a", sshd="auth required pam_unix.so", a=LOCK), "fail"),
        ("host.account-lockout", rules(login=LOCK.partition("\n")[0]), "fail"),
        ("host.account-lockout", rules(login=LOCK + " deny=99"), "fail"),
        ("host.account-lockout", rules(login=LOCK.replace("preauth", "preauth deny=0")), "fail"),
        ("host.lockout-duration", rules(login=LOCK.replace("preauth", "preauth unlock_time=9")), "fail"),
        ("host.su-restricted", rules(su="auth required pam_wheel.so", su_l="auth include su"), "pass"),
        ("host.su-restricted", rules(su="auth required pam_wheel.so", su_l="auth required x"), "fail"),
        ("host.su-restricted", rules(su="auth required pam_wheel.so deny group=x"), "fail"),
        ("host.su-restricted", rules(su="auth sufficient pam_x.so\nauth required pam_wheel.so"), "fail"),
        ("host.su-restricted", rules(su="auth sufficient pam_wheel.so trust"), "fail"),
        ("host.no-empty-password", rules(login="auth required pam_permit.so"), "pass"),
        ("host.no-empty-password", rules(sshd="@include a", a="auth sufficient pam_permit.so"), "fail"),
        ("host.failed-logins-shown", rules(login="session optional pam_lastlog.so showfailed"), "pass"),
        (
            "host.failed-logins-shown",
            rules(login="auth required x", old="session optional pam_lastlog.so showfailed"),
            "fail",
        ),
    ],
)
def test_a_rule_of_pam_counts_where_it_is_used_and_can_refuse(
    check: str, pam: list[dict[str, Any]], status: str
) -> None:
    assert judged(check, pam=pam or [{"path": "/etc/pam.d/login", "number": 1, "text": "#"}]).status == status


def test_the_main_file_of_pwquality_goes_before_its_drop_ins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    main, drop_ins = tmp_path / "pwquality.conf", tmp_path / "pwquality.conf.d"
    drop_ins.mkdir()
    (drop_ins / "banip.conf").write_text("minlen = 10\n")
    main.write_text("minlen = 6\n")
    monkeypatch.setattr(accounts, "QUALITY", main)
    monkeypatch.setattr(accounts, "QUALITY_DROP_INS", drop_ins)
    found = judged("host.password-quality", quality=msgspec.to_builtins(accounts.password_quality()))
    assert (found.status, found.observed.en) == ("fail", "minlen = 6"), "as libpwquality 1.4 reads them"


def test_a_file_beside_the_one_that_decides_is_no_fix() -> None:
    pam = rules(passwd=QUALITY)
    decided = [{"path": "/etc/security/pwquality.conf", "number": 3, "text": "minlen = 6"}]
    beside = [{"path": "/etc/security/pwquality.conf.d/x.conf", "number": 3, "text": "minlen = 6"}]
    assert why_not("host.password-quality", facts_of({"pam": pam, "quality": beside}), "9") is None
    left = why_not("host.password-quality", facts_of({"pam": pam, "quality": decided}), "9")
    assert left is not None
    assert "pwquality.conf:3" in left.en


def test_the_help_names_every_format() -> None:
    told = CliRunner().invoke(audit_command, ["--help"]).output
    assert all(one.name in told for one in FORMATS)


# --- Accounts ----------------------------------------------------------------------------------------------


def account(**more: Any) -> dict[str, Any]:  # noqa: ANN401 - facts
    kim = {"name": "kim", "uid": 1000, "gid": 1000, "home": "/x", "login_shell": "/bin/bash"}
    return {**kim, "hash_kind": "yescrypt", **more}


def test_who_is_in_a_powerful_group_by_birth_counts_as_well() -> None:
    groups = [{"name": "sudo", "gid": 27, "members": ["lee"]}]
    born = [account(name=name, gid=27) for name in ("kim", "choi", "lee")]
    assert judged("host.administrators", groups=groups, accounts=born).status == "fail"
    assert judged("host.administrators", groups=groups, accounts=born[2:]).status == "pass"
    service = [account(name=name, gid=27, login_shell="/usr/sbin/nologin") for name in "abc"]
    assert judged("host.administrators", groups=groups, accounts=service).status == "pass"


@pytest.mark.parametrize("kind", ["3", "sha1", "md5", "des", "sm3"])
def test_a_hash_that_is_not_known_to_be_strong_is_weak(kind: str) -> None:
    assert judged("host.password-hash", accounts=[account(hash_kind=kind)]).status == "fail"


# --- Files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "fact", "path"),
    [
        ("host.startup-permissions", "startup", "/etc/systemd/system/x.service"),
        ("host.hosts-permissions", "files", "/etc/hosts"),
        ("host.cron-permissions", "files", "/etc/cron.daily/x"),
        ("host.sudoers-permissions", "files", "/etc/sudoers.d/x"),
        ("host.login-configuration", "files", "/etc/pam.d/login"),
        ("host.start-up-files-of-users", "homes", "/x/.bashrc"),
    ],
)
def test_a_link_is_as_open_as_what_it_leads_to(check: str, fact: str, path: str) -> None:
    link = {"path": path, "kind": "link", "mode": "0777", "owner": "root", "group": "root"}
    for leads, status in (("0644", "pass"), ("0666", "fail")):
        assert judged(check, **{fact: [{**link, "to_mode": leads, "to_owner": "root"}]}).status == status
    assert judged(check, **{fact: [link]}).status in {"pass", "not-applicable"}, "it leads nowhere"


def test_a_link_tells_whose_the_file_is_that_it_leads_to(tmp_path: Path) -> None:
    target, link, nowhere = tmp_path / "target", tmp_path / "link", tmp_path / "nowhere"
    target.touch()
    target.chmod(0o666)
    link.symlink_to(target)
    nowhere.symlink_to(tmp_path / "gone")
    assert (look(link).kind, look(link).to_mode, look(link).to_owner) == ("link", "0666", look(target).owner)
    assert (look(nowhere).kind, look(nowhere).to_owner) == ("link", "")
    assert look(target).to_owner == ""


def capable(path: Path, *bits: int) -> Path:
    """Make a program with capabilities, as `setcap` writes them (version 2, effective)."""
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    both = sum(1 << bit for bit in bits)
    words = (0x02000001, both & 0xFFFFFFFF, 0, both >> 32, 0)
    os.setxattr(path, "security.capability", struct.pack("<5I", *words))
    return path


def test_a_program_with_the_capabilities_of_root_is_found(tmp_path: Path) -> None:
    setuid, bpf, ping = capable(tmp_path / "a", 7), capable(tmp_path / "b", 39), capable(tmp_path / "c", 13)
    assert walk.finds(tmp_path / "none", tmp_path).empowered == (str(setuid), str(bpf))
    os.removexattr(setuid, "security.capability")
    assert str(ping) not in walk.finds(tmp_path / "none", tmp_path).empowered
    found = judged(
        "host.privileged-files", finds={**fact_of("host.privileged-files", "finds"), "empowered": ["/x"]}
    )
    assert found.status == "fail"


def test_a_tree_too_deep_for_a_path_is_told_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "open").touch()
    (tmp_path / "open").chmod(0o666)
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=here)
        here, above = os.open("d" * 250, os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.close(here)
    found = walk.finds(tmp_path / "none", tmp_path)
    assert found.world_writable == (str(tmp_path / "open"),)
    assert len(found.hidden) == 1


def test_a_key_with_a_list_of_access_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "_KEY_TREES", (str(tmp_path),))
    key = tmp_path / "a.key"
    key.write_text("-----BEGIN PRIVATE KEY-----")
    key.chmod(0o640)
    assert walk.finds(tmp_path / "none", tmp_path).open_keys == ()
    entries = (
        (1, 6, -1),
        (2, 4, 65534),
        (4, 4, -1),
        (16, 4, -1),
        (32, 0, -1),
    )  # acl(5), as the kernel has it
    os.setxattr(
        key,
        "system.posix_acl_access",
        struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *x) for x in entries),
    )
    assert walk.finds(tmp_path / "none", tmp_path).open_keys == (str(key),)
    key.unlink()
    os.mkfifo(key)
    assert walk.finds(tmp_path / "none", tmp_path).open_keys == ()


def test_what_somebody_diverted_is_no_packages_file() -> None:
    told = (
        "local diversion from: /usr/bin/passwd\nlocal diversion to: /usr/bin/passwd.distrib\n"
        "passwd: /usr/bin/passwd\n"
    )
    assert "/usr/bin/passwd" not in packages._known(told)
    assert packages._known("dash: /bin/sh\ndiversion by dash from: /bin/sh\n") == {"/bin/sh"}


# --- The kernel --------------------------------------------------------------------------------------------

AUDIT = "-a always,exit -F arch=b64 -S execve -F euid=0 -F auid>=1000 -F auid!=-1 -F key=root"


@pytest.mark.parametrize(
    ("rule", "records"),
    [
        (AUDIT, True),
        (AUDIT.replace("b64", "b32"), False),
        (AUDIT + " -F auid=4242", False),
        (AUDIT + " -F success=0", False),
        (AUDIT + " -F exit=-EACCES", False),
        (AUDIT + " -F exe=/usr/bin/id", False),
        (AUDIT.replace("always", "never"), False),
    ],
)
def test_a_rule_that_counts_for_few_records_nothing(rule: str, *, records: bool) -> None:
    assert is_called([rule], "execve", "euid=0") is records


@pytest.mark.parametrize(
    ("rule", "mutes"),
    [
        ("-a never,task", True),
        ("-a never,exit -F auid=1000", True),
        ("-a never,exit -F dir=/etc", True),
        ("-a always,exclude -F msgtype=SYSCALL", True),
        ("-a always,exclude -F msgtype>=1300", True),
        ("-a always,exclude -F msgtype=CRYPTO_KEY_USER", False),
        ("-a never,exit -F arch=b64 -S adjtimex -F auid=unset -F uid=105", False),
        ("-a never,exit -F exe=/usr/sbin/chronyd", False),
    ],
)
def test_a_rule_that_mutes_the_others_is_a_fault(rule: str, *, mutes: bool) -> None:
    audit_of = fact_of("log.audit-time", "kernel_audit")
    found = judged("log.audit-time", kernel_audit={**audit_of, "rules": [*audit_of["rules"], rule]})
    assert found.status == ("fail" if mutes else "pass")


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("net.ipv4.conf.eth0.accept_redirects", "fail"),
        ("net.ipv4.conf.bond0.10.send_redirects", "fail"),
        ("net.ipv6.conf.eth0.accept_ra", "fail"),
        ("net.ipv6.conf.default.accept_ra", "pass"),
    ],
)
def test_what_an_interface_decides_for_itself_counts(name: str, status: str) -> None:
    kernel = fact_of("network.kernel-settings", "kernel")
    assert judged("network.kernel-settings", kernel={**kernel, name: "1"}).status == status


def test_a_session_that_ends_for_some_only_does_not_end() -> None:
    given = {"KillUserProcesses": "yes", "KillOnlyUsers": "guest"}
    assert judged("host.session-ends", session=given).status == "fail"
